"""A person's panel: where facts come from, who may change whom, and deleting."""

from collections.abc import Callable

from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select
from test_users_page import names

from lti_tool.classroom import accounts, courses
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.rooms import Attendance, Meeting
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


def test_the_last_owner_can_be_neither_demoted_nor_deleted(app: Flask, cast: Cast, browse: Browse) -> None:
    browser = browse(cast.ada)
    refused = browser.post(f"/users/{cast.ada}", {"name": "Ada", "role": "admin"})
    assert refused.status_code == 422
    assert "This is the last owner." in refused.text
    refused = browser.post(f"/users/{cast.ada}/delete", {"confirm": "Ada Okonkwo"})
    assert refused.status_code == 409
    assert 'data-error="last_owner"' in refused.text
    assert role_of(app, cast.ada) is Role.OWNER
    make(app, cast, "Thordis", Role.OWNER)
    assert browser.post(f"/users/{cast.ada}", {"role": "admin"}).status_code == 303


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
