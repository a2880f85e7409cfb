"""Deeds done to many people: looked at before the yes, done in parts, with a receipt, and taken back."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from lti_tool import jobs
from lti_tool.classroom import accounts, batches, bulk
from lti_tool.classroom.accounts import Role, Status, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.batches import Batch, BatchRow, BatchState
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.database import db, now

Browse = Callable[[int | None], Browser]


def begin(browser: Browser, deed: str, people: Any, **fields: Any) -> str:
    """Select people in the list and choose a deed; the draft's address."""
    answer = browser.post(f"/users/batches/new/{deed}", {"user": people, **fields})
    assert answer.status_code == 303, answer.text
    assert re.fullmatch(r"/users/batches/\d+", answer.location), answer.location
    return str(answer.location)


def say_yes(browser: Browser, url: str, **terms: Any) -> TestResponse:
    answer = browser.post(f"{url}/confirm", {"chosen": "1", **terms})
    assert answer.status_code == 303, answer.text
    return answer


def tally(page: TestResponse) -> dict[str, int]:
    """What a page says in numbers: outcome → how many."""
    found = re.findall(r"<dt>(.*?)</dt><dd[^>]*>([\d,]+)</dd>", page.text)
    return {name: int(number.replace(",", "")) for name, number in found}


def add_people(app: Flask, cast: Cast, number: int, **facts: Any) -> list[int]:
    with app.app_context():
        made = [
            accounts.add_user(cast.account, name=f"Person {n:04}", email=f"p{n:04}@example.net", **facts).id
            for n in range(number)
        ]
        db.session.commit()
        return made


def roles(app: Flask, course: int) -> dict[str, str]:
    """Who is in a course now, as what."""
    with app.app_context():
        return {
            name: role.value
            for name, role in db.session.execute(
                select(User.name, Enrollment.role)
                .join(User, User.id == Enrollment.user_id)
                .where(Enrollment.course_id == course, Enrollment.ended_at.is_(None))
            )
        }


def test_people_are_added_to_a_course_after_a_look_and_taken_out_again(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None]
) -> None:
    ada = browse(cast.ada)
    everybody = [cast.ada, cast.ivan, cast.sam, cast.tess]
    url = begin(ada, "add_to_course", everybody)
    draft = ada.get(url)
    assert "Add 4 people to a course" in draft.text
    assert "Pick a course" in draft.text
    assert "Sam Whitfield" in draft.text

    looked = ada.get(f"{url}?chosen=1&courses={cast.statics}&role=student", headers={"HX-Request": "true"})
    assert "<h1" not in looked.text
    assert tally(looked) == {"added": 2, "nothing to do": 1, "admin": 1}
    assert "Yes, add 2 people" in looked.text
    assert roles(app, cast.statics) == {"Ivan Petrović": "instructor"}, "looking changes nothing"

    say_yes(ada, url, courses=cast.statics, role="student")
    busy = ada.get(url)
    assert "<progress" in busy.text
    assert 'hx-trigger="every 1s"' in busy.text
    assert ada.get(url, headers={"HX-Request": "true"}).status_code == 200
    work()
    ended = ada.get(url, headers={"HX-Request": "true"})
    assert ended.status_code == 286, "htmx stops asking"
    receipt = ada.get(url)
    assert tally(receipt) == {"added": 2, "nothing to do": 1, "admin": 1}
    assert "Ivan Petrović" in receipt.text
    assert "Sam Whitfield" not in receipt.text, "those not done come first"
    done = ada.get(f"{url}?show=added")
    assert "Sam Whitfield" in done.text
    assert "Tess van der Meulen" in done.text
    before = {"Ivan Petrović": "instructor", "Sam Whitfield": "student", "Tess van der Meulen": "student"}
    assert roles(app, cast.statics) == before

    undone = ada.post(f"{url}/undo")
    work()
    assert roles(app, cast.statics) == {"Ivan Petrović": "instructor"}
    assert tally(ada.get(undone.location)) == {"brought back to what it was": 2}
    assert "This was taken back" in ada.get(url).text
    # An undo is a change like another.
    ada.post(f"{undone.location}/undo")
    work()
    assert roles(app, cast.statics) == before


def test_removing_says_whom_the_lms_brings_back_and_an_undo_leaves_alone_what_moved_on(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, work: Callable[[], None]
) -> None:
    arrived = lms.launch(browse(None), "sam", "geology")
    course = int(arrived.location.rpartition("/")[2])
    with app.app_context():
        from_lms = db.session.scalars(select(Enrollment.user_id).filter_by(course_id=course)).one()
    ada = browse(cast.ada)
    # The list was filtered by this course: it is chosen already.
    url = begin(ada, "remove_from_course", [from_lms, cast.sam, cast.tess], course=str(cast.geology))
    draft = ada.get(url)
    assert f'<option value="{cast.geology}"' in draft.text
    assert tally(draft) == {"removed": 2, "not in the course": 1}
    both = ada.get(f"{url}?chosen=1&courses={cast.geology}&courses={course}")
    assert tally(both) == {"removed": 2, "removed, the LMS still lists them": 1}
    assert "1 person comes back with the next sync" in both.text
    say_yes(ada, url, courses=[cast.geology, course])
    work()
    assert tally(ada.get(url)) == {"removed": 2, "removed, the LMS still lists them": 1}
    assert roles(app, cast.geology) == {"Ivan Petrović": "instructor"}
    assert roles(app, course) == {}

    # Sam came back by hand, as an instructor.
    again = begin(ada, "add_to_course", cast.sam)
    say_yes(ada, again, courses=cast.geology, role="instructor")
    work()
    with app.app_context():
        assert db.session.get_one(User, cast.sam).role is Role.INSTRUCTOR, "as by an invitation"
        held = db.session.scalars(select(Enrollment).filter_by(user_id=cast.sam)).one()
        assert held.source is Source.MANUAL, "nobody was invited"
        ended = db.session.scalars(select(Enrollment).filter_by(user_id=cast.tess)).one()
        ended.ended_at, ended.role = None, Role.INSTRUCTOR
        db.session.commit()
    undone = ada.post(f"{url}/undo").location
    work()
    assert tally(ada.get(undone)) == {"brought back to what it was": 1, "changed since": 2}
    assert roles(app, cast.geology)["Tess van der Meulen"] == "instructor", "what moved on is left alone"
    assert list(roles(app, course).values()) == ["student"]
    # Taking back the second change lowers the account's role again.
    ada.post(f"{again}/undo")
    work()
    with app.app_context():
        assert db.session.get_one(User, cast.sam).role is Role.STUDENT


def test_roles_change_within_the_askers_own_and_change_back(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None]
) -> None:
    with app.app_context():
        for person, role in ((cast.tess, Role.ADMIN), (cast.ivan, Role.INSTRUCTOR)):
            db.session.get_one(User, person).role = role
        db.session.commit()
    tess, ada = browse(cast.tess), browse(cast.ada)
    sams_session = browse(cast.ivan)
    url = begin(tess, "change_role", [cast.ada, cast.ivan, cast.sam, cast.tess])
    offered = tess.get(url)
    assert '<option value="owner"' not in offered.text, "nobody gives more than they have"
    assert "Pick a role." in offered.text
    assert "Yes, change" not in offered.text
    looked = tally(tess.get(f"{url}?role=student"))
    assert looked == {"role changed": 1, "nothing to do": 1, "yourself": 1, "above you": 1}
    # A role that was not offered is no role.
    for role in ("owner", "", "x"):
        assert tess.post(f"{url}/confirm", {"role": role}).status_code == 422
    say_yes(tess, url, role="student")
    work()
    assert tally(tess.get(url)) == {"role changed": 1, "nothing to do": 1, "yourself": 1, "above you": 1}
    assert "Ada Okonkwo" in tess.get(f"{url}?show=above").text
    with app.app_context():
        assert db.session.get_one(User, cast.ivan).role is Role.STUDENT
        assert db.session.get_one(User, cast.ada).role is Role.OWNER
    assert sams_session.get("/courses").status_code == 303, "who loses rights is signed out"
    with app.app_context():
        actions = db.session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
        assert actions[-2:] == ["batch.started", "role.changed"]
    ada.post(f"{url}/undo")
    work()
    with app.app_context():
        assert db.session.get_one(User, cast.ivan).role is Role.INSTRUCTOR


def test_deleting_many_asks_for_their_number_and_keeps_no_names(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None]
) -> None:
    ada = browse(cast.ada)
    url = begin(ada, "delete", [], all="1", q="example.org")
    draft = ada.get(url)
    assert tally(draft) == {"deleted": 3, "yourself": 1}
    assert "cannot be undone" in draft.text
    for wrong in ("", "4", "x"):
        refused = ada.post(f"{url}/confirm", {"number": wrong})
        assert refused.status_code == 422
        assert 'aria-invalid="true" aria-describedby="number-error"' in refused.text
    say_yes(ada, url, number="3")
    # Somebody else was faster.
    ada.post(f"/users/{cast.tess}/delete", {"confirm": "Tess van der Meulen"})
    assert "Tess van der Meulen is deleted" in ada.get("/users").text
    work()
    receipt = ada.get(url)
    assert tally(receipt) == {"deleted": 2, "gone": 1, "yourself": 1}
    assert "Deleting cannot be undone" in receipt.text
    assert "/undo" not in receipt.text
    everything = receipt.text + ada.get(f"{url}?show=deleted").text + ada.get(f"{url}/receipt.csv").text
    for name in ("Sam Whitfield", "Ivan Petrović", "Tess"):
        assert name not in everything
    with app.app_context():
        names = db.session.scalars(select(User.name).filter_by(account_id=cast.account)).all()
        assert names == ["Ada Okonkwo"]
    before = ada.get("/users").text
    ada.post(f"{url}/undo")
    work()
    assert ada.get("/users").text.count("rowlink") == before.count("rowlink")


def test_invitations_go_out_again_to_those_who_have_not_answered(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None], mailbox: Any
) -> None:
    ada = browse(cast.ada)
    for n in range(3):
        ada.post("/users/invite", {"name": f"Guest {n}", "email": f"guest{n}@example.org", "role": "student"})
    work()
    with app.app_context():
        guests = db.session.scalars(select(User).filter_by(status=Status.PENDING).order_by(User.id)).all()
        guests[0].blocked_at = now()
        ids = [guest.id for guest in guests]
        db.session.commit()
    url = begin(ada, "invite_again", [*ids, cast.sam])
    assert tally(ada.get(url)) == {"invited again": 2, "registered already": 1, "blocked": 1}
    say_yes(ada, url)
    work()
    receipt = ada.get(url)
    assert tally(receipt) == {"invited again": 2, "registered already": 1, "blocked": 1}
    assert "Mails that were sent cannot be taken back" in receipt.text
    assert [len(mailbox.sent_to(f"guest{n}@example.org")) for n in range(3)] == [1, 2, 2]


def test_a_change_is_judged_again_at_each_persons_turn_and_stops_when_the_asker_may_no_longer(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART", 2)
    with app.app_context():
        db.session.get_one(User, cast.tess).role = Role.ADMIN
        db.session.commit()
    people = add_people(app, cast, 6)
    tess = browse(cast.tess)
    url = begin(tess, "add_to_course", people)
    say_yes(tess, url, courses=cast.statics, role="student")
    batch_id = int(url.rpartition("/")[2])
    with app.app_context():
        # Since the yes one of them became an owner.
        db.session.get_one(User, people[0]).role = Role.OWNER
        db.session.commit()
        claimed = batches.claim_next()
        assert claimed is not None
        attempt = claimed.attempts
        db.session.commit()
        assert jobs._run_part(batch_id, attempt) is True
        db.session.get_one(User, cast.tess).role = Role.STUDENT
        db.session.commit()
        assert jobs._run_part(batch_id, attempt) is False
        batch = db.session.get_one(Batch, batch_id)
        assert batch.state is BatchState.DONE
        assert batch.outcomes == {"above": 1, "added": 1, "asker": 4}
    assert tess.get(url).status_code == 403
    assert "no longer allowed" in browse(cast.ada).get(url).text
    assert len(roles(app, cast.statics)) == 2


def test_a_running_change_can_be_stopped_and_one_that_two_workers_take_is_done_once(
    app: Flask,
    cast: Cast,
    browse: Browse,
    move_clock: Callable[[timedelta], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "PART", 2)
    people = add_people(app, cast, 5)
    ada = browse(cast.ada)
    url = begin(ada, "add_to_course", people)
    say_yes(ada, url, courses=cast.statics, role="student")
    batch_id = int(url.rpartition("/")[2])
    with app.app_context():
        first = batches.claim_next()
        assert first is not None
        one = first.attempts
        db.session.commit()
        assert jobs._run_part(batch_id, one)
        assert batches.claim_next() is None, "it is being worked on"
        db.session.rollback()
        move_clock(batches.SILENT_AFTER + timedelta(seconds=1))
        second = batches.claim_next()
        assert second is not None
        two = second.attempts
        db.session.commit()
        assert jobs._run_part(batch_id, one) is False, "taken for dead, it may no longer write"
        assert jobs._run_part(batch_id, two)
    half = ada.get(url)
    assert "4 of 5" in half.text
    assert ada.post(f"{url}/stop").status_code == 303
    with app.app_context():
        assert jobs._run_part(batch_id, two) is False
    stopped = ada.get(url)
    assert "Stopped" in stopped.text
    assert tally(stopped) == {"added": 4, "not done": 1}
    assert "Person 0004" in stopped.text
    rows = ada.get(f"{url}/receipt.csv").text.splitlines()
    assert rows[1] == '1,"Person 0000","p0000@example.net","added",""'
    assert rows[5].startswith('5,"Person 0004","p0004@example.net","not done"')
    assert len(rows) == 6


def test_nobody_but_the_accounts_admins_comes_near_a_bulk_change(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    ada, eve, ivan = browse(cast.ada), browse(cast.eve), browse(cast.ivan)
    url = begin(ada, "delete", [cast.sam])
    for visitor, status in ((eve, 404), (ivan, 403)):
        assert visitor.get(url).status_code == status
        for deed in ("confirm", "stop", "undo"):
            assert visitor.post(f"{url}/{deed}", {"number": "1"}).status_code == status
        assert visitor.get(f"{url}/receipt.csv").status_code == status
    assert ivan.get("/users/batches").status_code == 403
    assert ivan.post("/users/batches/new/delete", {"user": cast.sam}).status_code == 403
    # People of another account are nobody.
    strange = eve.post("/users/batches/new/delete", {"user": [cast.sam, cast.tess]})
    assert strange.location.endswith("/users")
    assert "Nobody is selected" in eve.get("/users").text
    mixed = begin(eve, "add_to_course", [cast.sam, cast.eve])
    assert "Add 1 person to a course" in eve.get(mixed).text
    foreign = eve.post(f"{mixed}/confirm", {"chosen": "1", "courses": cast.geology, "role": "student"})
    assert foreign.status_code == 422, "nor are its courses any"
    assert ada.post("/users/batches/new/invite", {"user": cast.sam}).status_code == 404
    for bad in ("x", "-1", "0", "99999999999999", "²"):
        answer = ada.post("/users/batches/new/delete", {"user": bad})
        assert answer.location.endswith("/users"), bad
    with app.app_context():
        assert db.session.get(User, cast.sam) is not None


def test_the_list_of_changes_and_every_page_of_one_cost_few_statements(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None], statements: list[str]
) -> None:
    ada = browse(cast.ada)
    assert "No bulk changes yet" in ada.get("/users/batches").text
    add_people(app, cast, 60)
    url = begin(ada, "add_to_course", [], all="1", q="person")
    assert "Bulk changes" in ada.get("/users/batches").text
    assert "Add 60" not in ada.get("/users/batches").text, "a draft is nobody's change yet"
    pages = [url, f"{url}?chosen=1&courses={cast.statics}&courses={cast.geology}&role=student"]

    def look(*addresses: str) -> None:
        for address in addresses:
            statements.clear()
            assert ada.get(address).status_code == 200
            asked = [one for one in statements if one.startswith(("SELECT", "INSERT", "UPDATE", "WITH"))]
            assert len(asked) <= 10, asked

    look(*pages)
    say_yes(ada, url, courses=[cast.statics, cast.geology], role="student")
    look(url)
    work()
    look(url, f"{url}?show=added&after=50", "/users/batches", f"{url}/receipt.csv")
    first = ada.get(url)
    assert "Person 0049" in first.text
    assert "Person 0050" not in first.text
    assert "after=50" in first.text
    assert "Person 0050" in ada.get(f"{url}?show=added&after=50").text
    listed = ada.get("/users/batches").text
    assert "Add 60 people to a course" in listed
    assert "60 added" in listed


def test_old_changes_are_forgotten(
    app: Flask, cast: Cast, browse: Browse, work: Callable[[], None], move_clock: Callable[[timedelta], None]
) -> None:
    ada = browse(cast.ada)
    draft = begin(ada, "delete", [cast.sam])
    url = begin(ada, "add_to_course", [cast.sam])
    say_yes(ada, url, courses=cast.statics, role="student")
    work()

    def sweep() -> None:
        with app.app_context():
            batches.sweep()
            db.session.commit()

    sweep()
    ada.get(draft)
    move_clock(timedelta(days=8))
    sweep()
    ada = browse(cast.ada)
    assert ada.get(draft).status_code == 404
    assert "/undo" in ada.get(url).text
    move_clock(timedelta(days=23))
    sweep()
    ada = browse(cast.ada)
    assert "can no longer be undone" in ada.get(url).text
    ada.post(f"{url}/undo")
    work()
    assert "Sam Whitfield" in roles(app, cast.statics)
    with app.app_context():
        assert db.session.scalar(select(func.count()).where(BatchRow.changed.is_not(None))) == 0
    move_clock(timedelta(days=150))
    sweep()
    assert browse(cast.ada).get(url).status_code == 404
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(BatchRow)) == 0
