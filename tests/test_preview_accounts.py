"""An LMS’s preview account (Student View of Canvas): marked where it is shown, never mailed or counted."""

from collections.abc import Callable

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select, update
from test_roles import TEST_USER
from test_roster_page import text_of

from lti_tool.classroom import accounts, courses, plans, rooms
from lti_tool.classroom.accounts import Connection, Role, User
from lti_tool.classroom.courses import Course
from lti_tool.database import db
from lti_tool.pages import signalling
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]

LEARNER = "http://purl.imsglobal.org/vocab/lis/v2/membership#Learner"


@pytest.fixture
def moodle(cast: Cast, lms: Lms) -> Lms:
    """The practice LMS, after the cast made its account."""
    return lms


def test_a_preview_account_is_marked_and_takes_nobodys_place(
    app: Flask, cast: Cast, moodle: Lms, browse: Browse
) -> None:
    ada = browse(cast.ada)
    preview, ivan, sam = browse(None), browse(None), browse(None)
    sent = [LEARNER, TEST_USER]
    moodle.enroll("geology", "test-student", sent)
    path = moodle.launch(preview, "test-student", "geology").location
    moodle.launch(ivan, "ivan", "geology")
    moodle.launch(sam, "sam", "geology")
    assert "2 people" in text_of(ada.get("/lms"))
    roster = text_of(ivan.get(f"{path}/roster"))
    assert "Test Student Preview account" in roster
    assert "People2" in roster
    assert "Test Student" not in text_of(ada.get("/users"))
    assert "Learner" in text_of(ada.get(f"/lms/{moodle.registration_id}/roles"))
    assert "TestUser" not in text_of(ada.get(f"/lms/{moodle.registration_id}/roles"))
    with app.app_context():
        test = db.session.scalars(select(User).filter_by(is_test=True)).one()
        course = db.session.get_one(Course, int(path.rsplit("/", 1)[1]))
        courses.activate(course, plans.grant(course.account, seats=1))
        meeting = rooms.open_meeting(course, by=db.session.get_one(User, cast.ada))
        rooms.take_seat(meeting, test, Role.STUDENT, moderates=False, window="w1")
        db.session.commit()
        test_id = test.id
        with app.test_request_context():
            assert signalling.called(test) == "Test Student (preview account)"
    panel = text_of(ada.get(f"/users/{test_id}"))
    assert "Preview account" in panel
    # One seat, and the preview account sits on none.
    assert 'data-gate="open"' in sam.get(f"{path}/room").text
    with app.app_context():
        course = db.session.get_one(Course, int(path.rsplit("/", 1)[1]))
        someone = db.session.scalars(select(User).filter_by(name="Sam Rivera")).one()
        meeting = rooms.open_meeting(course, by=someone)
        rooms.take_seat(meeting, someone, Role.STUDENT, moderates=False, window="w2")
        assert rooms.count_present([course.id]) == {course.id: 1}
        rooms.leave_seat(meeting.id, "w1")
        db.session.commit()
    assert 'data-gate="open"' in preview.get(f"{path}/room").text


def test_a_preview_account_is_never_mailed(
    app: Flask, cast: Cast, moodle: Lms, browse: Browse, mailbox: Mailbox, work: Callable[[], None]
) -> None:
    with app.app_context():
        db.session.execute(update(Connection).values(trusts_addresses=True))
        db.session.commit()
    claims = {"roles": [LEARNER, TEST_USER], "email": "preview@example.test"}
    moodle.launch(browse(None), "test-student", "geology", claims=claims)
    with app.app_context():
        assert accounts.find_known(cast.account, "preview@example.test") is None
        test = db.session.scalars(select(User).filter_by(is_test=True)).one()
        assert test.email == "preview@example.test"
        # Even with a mailbox it is nobody's to sign in with.
        test.mailbox_proven = True
        db.session.commit()
    browse(None).post("/sign-in", {"email": "preview@example.test"})
    work()
    assert mailbox.mails == []


def test_somebody_known_becomes_a_preview_account_when_the_lms_says_so_but_no_teacher_does(
    app: Flask, moodle: Lms, browse: Browse
) -> None:
    for person in ("sam", "ivan"):
        moodle.launch(browse(None), person, "geology")
        moodle.launch(browse(None), person, "geology", claims={"roles": [LEARNER, TEST_USER]})
    with app.app_context():
        marked = db.session.scalars(select(User.name).filter_by(is_test=True)).all()
        assert marked == ["Sam Rivera"]
