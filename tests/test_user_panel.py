"""A person's panel: where facts come from, who may change whom, and deleting."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any

from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from test_users_page import names

from lti_tool.classroom import accounts, audit, batches, courses, people
from lti_tool.classroom.accounts import Identity, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Context, Enrollment, Source
from lti_tool.classroom.people import LastOwner
from lti_tool.classroom.rooms import Attendance, Meeting
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db

Browse = Callable[[int | None], Browser]


def role_of(app: Flask, user_id: int) -> Role:
    with app.app_context():
        return db.session.get_one(User, user_id).role


def actions(app: Flask, user_id: int) -> list[str]:
    with app.app_context():
        return list(
            db.session.scalars(
                select(AuditEvent.action).filter_by(target=f"user:{user_id}").order_by(AuditEvent.id)
            )
        )


def test_the_panel_says_where_each_fact_comes_from(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        arrived = db.session.scalars(
            select(User).where(User.account_id == cast.account).order_by(User.id.desc())
        ).first()
        user_id = arrived.id
    page = browse(cast.ada).get(f"/users/{user_id}")
    assert "Comes back at the next sync if you remove it here." in page.text
    assert "<b>Name, e-mail</b> from Moodle" in page.text
    assert "<b>Signs in</b> from Moodle as subject" in page.text


def test_removing_an_lms_enrollment_says_that_it_comes_back(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        held = db.session.scalars(select(Enrollment).filter_by(source=Source.LMS)).one()
        user_id, course_id = held.user_id, held.course_id
    browser = browse(cast.ada)
    done = browser.post(f"/users/{user_id}/courses/{course_id}/remove")
    assert done.status_code == 303
    assert "the next sync brings them back" in browser.get(done.location).text
    with app.app_context():
        held = db.session.scalars(select(Enrollment).filter_by(source=Source.LMS)).one()
        assert held.ended_at is not None
        assert held.digest is None


def test_removing_somebody_from_a_course_ends_the_enrollment_and_is_noted(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    browser = browse(cast.ada)
    part = browser.post(f"/users/{cast.sam}/courses/{cast.geology}/remove", headers={"HX-Request": "true"})
    assert "Removed from Introduction to Structural Geology." in part.text
    assert part.headers["HX-Trigger"] == "users-changed"
    assert browse(cast.sam).get(f"/courses/{cast.geology}").status_code == 404
    with app.app_context():
        held = db.session.scalars(select(Enrollment).filter_by(user_id=cast.sam)).one()
        assert held.ended_at is not None
    assert actions(app, cast.sam) == ["enrollment.ended"]


def test_saving_name_and_role_shows_in_the_list_and_in_the_log(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    browser = browse(cast.ada)
    saved = browser.post(f"/users/{cast.sam}?q=sam", {"name": "Samuel\r\n  Whitfield", "role": "instructor"})
    assert saved.status_code == 303
    assert saved.location == f"/users/{cast.sam}?q=sam"
    page = browser.get(saved.location)
    assert names(page) == ["Samuel Whitfield"]
    assert "set by hand here" in page.text
    assert role_of(app, cast.sam) is Role.INSTRUCTOR
    assert actions(app, cast.sam) == ["role.changed", "user.renamed"]


def test_a_role_of_no_such_name_comes_back_beside_the_field(app: Flask, cast: Cast, browse: Browse) -> None:
    answer = browse(cast.ada).post(f"/users/{cast.sam}", {"name": "Sam", "role": "king"})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert role_of(app, cast.sam) is Role.STUDENT


def make(app: Flask, cast: Cast, name: str, role: Role) -> int:
    with app.app_context():
        user = accounts.add_user(
            cast.account, name=name, email=f"{name}@example.org", role=role, mailbox_proven=True
        )
        db.session.commit()
        return user.id


def test_nobody_raises_himself_or_touches_someone_above(app: Flask, cast: Cast, browse: Browse) -> None:
    admin = make(app, cast, "Thordis", Role.ADMIN)
    browser = browse(admin)
    assert browser.post(f"/users/{admin}", {"role": "owner"}).status_code == 422
    assert browser.post(f"/users/{cast.sam}", {"role": "owner"}).status_code == 422
    assert browser.post(f"/users/{cast.ada}", {"role": "student"}).status_code == 403
    assert browser.post(f"/users/{cast.ada}/delete", {"confirm": "Ada Okonkwo"}).status_code == 403
    assert browser.get(f"/users/{cast.ada}/delete").status_code == 403
    page = browser.get(f"/users/{cast.ada}")
    assert page.status_code == 200
    assert "Save" not in page.text
    assert 'value="owner"' not in browser.get(f"/users/{cast.sam}").text
    assert browser.post(f"/users/{cast.sam}", {"role": "admin"}).status_code == 303
    assert role_of(app, cast.sam) is Role.ADMIN
    assert (role_of(app, admin), role_of(app, cast.ada)) == (Role.ADMIN, Role.OWNER)


def test_nobody_demotes_or_deletes_himself_and_so_an_owner_stays(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    ada = browse(cast.ada)
    other = make(app, cast, "Thordis", Role.OWNER)
    refused = ada.post(f"/users/{cast.ada}", {"name": "Ada", "role": "admin"})
    assert refused.status_code == 422
    assert "Nobody changes their own role. Ask another admin." in refused.text
    assert ada.get(f"/users/{cast.ada}/delete").status_code == 403
    assert ada.post(f"/users/{cast.ada}/delete", {"confirm": "Ada Okonkwo"}).status_code == 403
    panel = ada.get(f"/users/{cast.ada}").text
    assert "This is you. Another admin can change your role, block or delete you." in panel
    assert f"/users/{cast.ada}/delete" not in panel
    assert f"/users/{cast.ada}/block" not in panel
    assert role_of(app, cast.ada) is Role.OWNER
    # The own name is one's own to change; an owner may go when another one lets them.
    assert ada.post(f"/users/{cast.ada}", {"name": "Ada O.", "role": "owner"}).status_code == 303
    assert browse(other).post(f"/users/{cast.ada}", {"name": "", "role": "admin"}).status_code == 303
    assert role_of(app, cast.ada) is Role.ADMIN


def test_who_loses_a_role_is_signed_out_at_once(app: Flask, cast: Cast, browse: Browse) -> None:
    admin = make(app, cast, "Thordis", Role.ADMIN)
    hers = browse(admin)
    assert hers.get("/users").status_code == 200
    assert browse(cast.ada).post(f"/users/{admin}", {"role": "student"}).status_code == 303
    assert hers.get("/users").status_code == 303


def test_deleting_needs_the_name_and_keeps_attendance_without_it(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    with app.app_context():
        meeting = Meeting(account_id=cast.account, course_id=cast.geology)
        db.session.add(meeting)
        db.session.flush()
        db.session.add(
            Attendance(meeting_id=meeting.id, user_id=cast.sam, role=Role.STUDENT, window="window")
        )
        db.session.commit()
    sam, browser = browse(cast.sam), browse(cast.ada)
    asked = browser.get(f"/users/{cast.sam}/delete")
    assert "Leaves 1 course now" in asked.text
    wrong = browser.post(f"/users/{cast.sam}/delete", {"confirm": "Sam"})
    assert wrong.status_code == 422
    assert "This is not the name." in wrong.text
    assert browser.post(f"/users/{cast.sam}/delete", {"confirm": " sam  whitfield "}).status_code == 303
    assert "Sam" not in "".join(names(browser.get("/users")))
    assert sam.get("/courses").status_code == 303
    with app.app_context():
        assert db.session.get(User, cast.sam) is None
        assert db.session.scalars(select(Enrollment).filter_by(user_id=cast.sam)).all() == []
        seat = db.session.scalars(select(Attendance)).one()
        assert seat.user_id is None
        assert seat.left_at is not None
    assert actions(app, cast.sam) == ["user.erased"]


def test_without_its_csrf_token_nothing_is_changed(app: Flask, cast: Cast, browse: Browse) -> None:
    client = browse(cast.ada).client
    for address in (f"/users/{cast.sam}", f"/users/{cast.sam}/delete", "/users/invite"):
        answer = client.post(address, data={"role": "admin", "confirm": "Sam Whitfield"})
        assert answer.status_code == 400
        assert 'data-error="form_stale"' in answer.text
    assert role_of(app, cast.sam) is Role.STUDENT


def test_names_with_markup_are_shown_as_text(app: Flask, cast: Cast, browse: Browse) -> None:
    user = make(app, cast, "<img src=x onerror=alert(1)>", Role.STUDENT)
    with app.app_context():
        courses.add_course(cast.account, "<script>alert(2)</script>")
        db.session.commit()
    for address in ("/users", f"/users/{user}", f"/users/{user}/delete", "/users/invite"):
        page = browse(cast.ada).get(address).text
        assert "<img src=x" not in page
        assert "<script>alert" not in page


# --- what the panel knows more -----------------------------------------------------------


def test_two_who_change_the_same_person_do_not_undo_each_other_unseen(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    ada, thordis = browse(cast.ada), browse(make(app, cast, "Thordis", Role.ADMIN))
    opened = ada.get(f"/users/{cast.sam}").text
    found = re.search(r'name="version" value="([^"]+)"', opened)
    assert found
    mine = {"name": "Samuel Whitfield", "role": "student", "version": found[1]}
    assert thordis.post(f"/users/{cast.sam}", {"name": "Sam W.", "role": "instructor"}).status_code == 303
    refused = ada.post(f"/users/{cast.sam}", mine)
    assert refused.status_code == 409
    assert "Somebody else changed this person meanwhile." in refused.text
    assert "Now it is: Sam W., Instructor." in refused.text
    assert 'value="Samuel Whitfield"' in refused.text, "what was typed is kept"
    assert role_of(app, cast.sam) is Role.INSTRUCTOR
    # Whoever has read that saves again, and it holds.
    found = re.search(r'name="version" value="([^"]+)"', refused.text)
    assert found
    assert ada.post(f"/users/{cast.sam}", {**mine, "version": found[1]}).status_code == 303
    assert role_of(app, cast.sam) is Role.STUDENT


def test_somebody_is_put_in_courses_by_hand_from_the_panel(app: Flask, cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    fragment = {"HX-Request": "true"}
    dialog = ada.get(f"/users/{cast.sam}/courses/add", headers=fragment)
    assert "<dialog" in dialog.text
    assert "<html" in ada.get(f"/users/{cast.sam}/courses/add").text, "without JavaScript it is a page"
    empty = ada.post(f"/users/{cast.sam}/courses", {"role": "student"})
    assert empty.status_code == 422
    assert "Pick a course." in empty.text
    there = ada.post(f"/users/{cast.sam}/courses", {"role": "student", "courses": [cast.geology]})
    assert there.status_code == 422
    assert "Sam Whitfield is in this course already" in there.text
    done = ada.post(
        f"/users/{cast.sam}/courses",
        {"role": "instructor", "courses": [cast.geology, cast.statics]},
        headers=fragment,
    )
    assert "Added to Introduction to Structural Geology, Statics." in done.text
    assert 'hx-swap-oob="innerHTML"' in done.text
    assert done.headers["HX-Trigger"] == "users-changed"
    assert "added by hand by Ada Okonkwo" in done.text
    assert role_of(app, cast.sam) is Role.INSTRUCTOR
    assert actions(app, cast.sam) == ["enrollment.added", "role.changed", "enrollment.added"]
    # Taken off the list and put there again, it is one row that holds again.
    ada.post(f"/users/{cast.sam}/courses/{cast.statics}/remove")
    assert browse(cast.sam).get(f"/courses/{cast.statics}").status_code == 404
    ada.post(f"/users/{cast.sam}/courses", {"role": "student", "courses": [cast.statics]})
    assert browse(cast.sam).get(f"/courses/{cast.statics}").status_code == 200
    with app.app_context():
        held = db.session.scalars(
            select(Enrollment).filter_by(user_id=cast.sam, course_id=cast.statics)
        ).one()
        assert (held.source, held.role, held.ended_at) == (Source.MANUAL, Role.STUDENT, None)
        elsewhere = courses.add_course(cast.other_account, "Botany").id
        db.session.commit()
    assert (
        ada.post(f"/users/{cast.sam}/courses", {"role": "student", "courses": [elsewhere]}).status_code == 404
    )


def test_the_panel_shows_where_somebody_is_signed_in_and_ends_it(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    frame = browse(None)
    lms.launch(frame, "sam", "geology")
    with app.app_context():
        sam = db.session.scalars(select(Identity)).one().user_id
    browse(sam)
    ada = browse(cast.ada)
    panel = ada.get(f"/users/{sam}").text
    assert "<b>From Moodle</b>" in panel
    assert "<b>By mailed link</b>" in panel
    done = ada.post(f"/users/{sam}/sign-out")
    assert "is signed out everywhere." in ada.get(done.location).text
    assert frame.get("/courses").status_code == 303
    assert "In no browser at the moment." in ada.get(f"/users/{sam}").text
    assert actions(app, sam)[-1] == "user.signed_out"


def test_the_panels_page_asks_the_database_little(
    cast: Cast, browse: Browse, lms: Lms, statements: list[str], app: Flask
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        sam = db.session.scalars(select(Identity)).one().user_id
    ada = browse(cast.ada)
    addresses = [f"/users/{one}{part}" for one in (sam, cast.sam) for part in ("", "/block", "/delete")]
    for address in (*addresses, f"/users/{sam}/courses/add", f"/users/{sam}/history"):
        statements.clear()
        assert ada.get(address).status_code in (200, 302)
        asked = [one for one in statements if one.lstrip().upper().startswith(("SELECT", "WITH"))]
        assert len(asked) <= 10, "\n".join([f"{address}: {len(asked)}", *asked])


def test_another_accounts_admin_finds_nobody_here(cast: Cast, browse: Browse, app: Flask) -> None:
    eve = browse(cast.eve)
    for part in ("", "/history", "/courses/add", "/block", "/delete"):
        assert eve.get(f"/users/{cast.sam}{part}").status_code == 404, part
    deeds: dict[str, dict[str, Any]] = {
        "": {"name": "Mallory", "role": "student"},
        "/courses": {"courses": [cast.statics], "role": "student"},
        f"/courses/{cast.geology}/remove": {},
        "/sign-out": {},
        "/block": {},
        "/unblock": {},
        "/delete": {"confirm": "Sam Whitfield"},
        "/invitation/resend": {},
        "/invitation/withdraw": {},
    }
    for part, form in deeds.items():
        assert eve.post(f"/users/{cast.sam}{part}", form).status_code == 404, part
    for part in ("", "/courses", "/sign-out"):
        answer = browse(cast.ivan).post(f"/users/{cast.sam}{part}", deeds[part])
        assert answer.status_code == 403, part
    assert actions(app, cast.sam) == []


def test_two_owners_who_remove_each_other_at_once_leave_one(app: Flask, cast: Cast) -> None:
    other = make(app, cast, "Thordis", Role.OWNER)
    met = threading.Barrier(2)
    refused: list[type[Exception]] = []

    def remove(by: int, whom: int, deed: Callable[..., None]) -> None:
        with app.app_context():
            met.wait()
            try:
                deed(db.session.get_one(User, whom), by=db.session.get_one(User, by))
                db.session.commit()
            except (LastOwner, NoResultFound) as refusal:
                db.session.rollback()
                refused.append(type(refusal))

    deeds = (people.erase, people.block)
    threads = [
        threading.Thread(target=remove, args=(by, whom, deed))
        for (by, whom), deed in zip(((cast.ada, other), (other, cast.ada)), deeds, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    with app.app_context():
        left = accounts.owners(cast.account)
        assert [owner.blocked_at for owner in left].count(None) == 1


# --- erasing -----------------------------------------------------------------------------


def everything(app: Flask) -> dict[str, str]:
    """Table → all its rows, as text."""
    with app.app_context():
        return {
            table.name: "\n".join(
                json.dumps([str(value) for value in row], ensure_ascii=False)
                for row in db.session.execute(select(table))
            )
            for table in db.metadata.sorted_tables
        }


def test_after_deleting_somebody_no_table_knows_name_or_address(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, work: Callable[[], None]
) -> None:
    name, address = "Zebulon Quartermaine", "zebulon@students.example"
    ada = browse(cast.ada)
    # From the LMS: in receipts as added, renamed, ended and skipped.
    lms.launch(browse(None), "ivan", "geology")
    with app.app_context():
        context = db.session.scalars(select(Context)).one()
        user = accounts.add_user(cast.account, name=name, email=address)
        db.session.add_all(
            [
                Identity(
                    account_id=cast.account,
                    registration_id=lms.registration_id,
                    subject="zéb-7",
                    user_id=user.id,
                ),
                Enrollment(
                    account_id=cast.account,
                    course_id=cast.geology,
                    user_id=user.id,
                    role=Role.STUDENT,
                    source=Source.MANUAL,
                ),
            ]
        )
        said = ["zéb-7", name, "not_active", []]
        receipt = {
            "added": [["zéb-7", name, "student", False], ["other", "Somebody Else", "student", False]],
            "changed": [["zéb-7", name, "student", "instructor", [], False]],
            "ended": [["zéb-7", name]],
            "skipped": [said],
            "renamed": [["zéb-7", "Zeb", name]],
            "kept": 1,
            "kept_name": name,
        }
        for course_id in (context.course_id, cast.geology):
            db.session.add(
                SyncRun(
                    account_id=cast.account,
                    course_id=context.course_id,
                    context_id=context.id,
                    state=SyncState.APPLIED,
                    receipt={**receipt, "kept_name": "" if course_id == context.course_id else "Tess"},
                    before={"added": [1], "changed": [], "ended": [], "renamed": receipt["renamed"]},
                    footprint={"pages": [], "standing": {}, "skipped": [said]},
                )
            )
        batch = batches.add(
            db.session.get_one(accounts.Account, cast.account),
            batches.Deed.INVITE,
            {"role": "student"},
            by=db.session.get_one(User, cast.ada),
            draft=True,
        )
        for number, words in enumerate(
            ({"name": name, "email": address.upper()}, {"name": "Other", "email": "o@example.org"}), 1
        ):
            db.session.add(batches.BatchRow(batch_id=batch.id, number=number, words=words))
        audit.record(cast.account, "user.renamed", f"user:{user.id}", before={"name": name}, after={"x": 1})
        db.session.commit()
        user_id = user.id
    # By mail: a sign-in mail that waits; by invitation; in a browser; by an admin's hand.
    browse(user_id)
    ada.post(f"/users/{user_id}", {"name": name, "role": "instructor"})
    ada.post(f"/users/{user_id}/courses", {"role": "student", "courses": [cast.statics]})
    before = everything(app)
    assert sorted(table for table, text in before.items() if name in text or address in text.lower()) == [
        "audit_event",
        "batch_row",
        "sync_run",
        "user",
    ]
    assert ada.post(f"/users/{user_id}/delete", {"confirm": name}).status_code == 303
    for table, text in everything(app).items():
        for trace in (name, address, "zéb-7", "z\\u00e9b-7", "Quartermaine"):
            assert trace.lower() not in text.lower(), f"{table}: {trace}"
    with app.app_context():
        run = db.session.scalars(select(SyncRun).order_by(SyncRun.id)).first()
        assert run is not None
        assert run.receipt["added"] == [
            ["", "", "student", False],
            ["other", "Somebody Else", "student", False],
        ]
        rows = db.session.scalars(select(batches.BatchRow).order_by(batches.BatchRow.number)).all()
        assert [row.words["name"] for row in rows] == ["", "Other"]
