"""How a stay in the room ends or goes on: off the list, signed out, over the plan, a word that was lost."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import test_signalling
from conftest import Cast, LiveServer, sign_in_token
from sqlalchemy import select
from test_signalling import Enter, eventually, everybody_left, knock

from lti_tool import jobs
from lti_tool.classroom import accounts, courses, rooms
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.rooms import Attendance, Meeting
from lti_tool.classroom.sessions import Session
from lti_tool.database import db, now
from lti_tool.pages import signalling, visitor

# Fixtures are found by their names here.
enter = test_signalling.enter


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signalling, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(signalling, "PATIENCE_SECONDS", 0.1)


def test_who_is_taken_off_the_list_is_taken_out_at_the_next_beat(
    server: LiveServer, cast: Cast, quick_beats: None, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    sam = enter(cast.sam)
    sam.wait("welcome")
    with server.app.app_context():
        for enrollment in db.session.scalars(select(Enrollment).filter_by(user_id=cast.sam)):
            enrollment.ended_at = now()
        db.session.commit()
    assert sam.wait("removed")["reason"] == "not_enrolled"
    assert sam.hung_up()
    assert ivan.wait("left")


def test_who_moderates_no_more_comes_back_as_what_they_are_now(
    server: LiveServer, cast: Cast, quick_beats: None, enter: Enter
) -> None:
    enter(cast.ada).wait("welcome")
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    with server.app.app_context():
        for enrollment in db.session.scalars(select(Enrollment).filter_by(user_id=cast.ivan)):
            enrollment.role = accounts.Role.STUDENT
        db.session.commit()
    assert ivan.wait("closed")
    assert ivan.hung_up()
    assert enter(cast.ivan).wait("welcome")["you"]["moderates"] is False


def test_entering_over_and_over_is_refused(server: LiveServer, cast: Cast) -> None:
    cookie = f"{visitor.OWN_COOKIE}={sign_in_token(server.app, cast.sam)}"
    answers = [knock(server, cast.geology, Origin=server.url, Cookie=cookie) for _ in range(61)]
    assert answers == [101] * 60 + [429]
    everybody_left()


def test_signing_out_ends_the_stay(server: LiveServer, cast: Cast, quick_beats: None, enter: Enter) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    with server.app.app_context():
        for session in db.session.scalars(select(Session)):
            db.session.delete(session)
        db.session.commit()
    assert ivan.wait("removed")["reason"] == "signed_out"
    assert ivan.hung_up()


def test_a_plan_that_is_freed_does_not_cut_the_meeting(
    server: LiveServer, cast: Cast, quick_beats: None, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    sam = enter(cast.sam)
    sam.wait("welcome")
    with server.app.app_context():
        course = courses.find_course(cast.account, cast.geology)
        assert course is not None
        courses.deactivate(course)
        db.session.commit()
    freed_at = now()

    def asked_again() -> bool:
        with server.app.app_context():
            return min(db.session.scalars(select(Attendance.seen_at))) > freed_at

    assert eventually(asked_again)
    sam.send(kind="say", words="We go on")
    assert ivan.wait("said")["message"]["words"] == "We go on"
    # But nobody else comes in by now.
    assert enter(cast.tess).next() == {"kind": "closed"}


def test_the_session_lasts_while_one_sits_in_the_room(
    server: LiveServer, cast: Cast, quick_beats: None, enter: Enter, move_clock: Callable[[timedelta], None]
) -> None:
    # The sweep does not take the clock's jumps for silence, should its minute begin now.
    server.app.config["PRESENCE_SECONDS"] = 24 * 3600
    ivan = enter(cast.ivan)
    ivan.wait("welcome")

    def seen_lately() -> bool:
        with server.app.app_context():
            return db.session.scalars(select(Session)).one().seen_at > now() - timedelta(minutes=10)

    for _ in range(4):
        move_clock(timedelta(minutes=20))
        # Each time before the hour is over, within which an idle session ends.
        assert eventually(seen_lately)


def test_a_word_that_was_lost_is_made_up_for_at_the_next_beat(
    server: LiveServer, cast: Cast, quick_beats: None, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    # Somebody's server died without a word; the sweep frees the seat in another process.
    with server.app.app_context():
        meeting = db.session.scalars(select(Meeting)).one()
        sam = accounts.find_user(cast.account, cast.sam)
        assert sam is not None
        rooms.take_seat(meeting, sam, accounts.Role.STUDENT, moderates=False, window="gone", peer="gone")
        db.session.commit()
    assert [p["name"] for p in ivan.wait("people")["people"]] == ["Ivan Petrović", "Sam Whitfield"]
    with server.app.app_context():
        seat = rooms.find_seat("gone")
        assert seat is not None
        seat.seen_at = now() - timedelta(minutes=5)
        db.session.commit()
        jobs.sweep()
    assert [p["name"] for p in ivan.wait("people")["people"]] == ["Ivan Petrović"]


def test_when_the_last_moderator_leaves_the_others_stay(server: LiveServer, cast: Cast, enter: Enter) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    sam = enter(cast.sam)
    sam.wait("welcome")
    ivan.send(kind="leave")
    sam.wait("left")
    sam.send(kind="say", words="Still here")
    assert sam.wait("said")
    assert enter(cast.tess).wait("welcome")


def test_nobody_holds_the_database_while_waiting(server: LiveServer, cast: Cast, enter: Enter) -> None:
    for user in (cast.ivan, cast.sam, cast.tess):
        enter(user).wait("welcome")
    with server.app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
