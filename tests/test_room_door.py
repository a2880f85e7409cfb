"""The room's door over HTTP: who finds it open, who closed, and what is said to them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask

from lti_tool.classroom import accounts, courses, plans, rooms
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.courses import Enrollment
from lti_tool.database import db, now
from tests.conftest import Browser, Cast

Browse = Callable[[int | None], Browser]


def give_plan(app: Flask, cast: Cast, course: int) -> None:
    with app.app_context():
        found, plan = courses.find_course(cast.account, course), plans.find_plan(cast.account, cast.plan)
        assert found is not None
        assert plan is not None
        courses.activate(found, plan)
        db.session.commit()


def open_room(app: Flask, cast: Cast, course: int, *, inside: tuple[int, ...] = ()) -> int:
    """Ivan opens the course's room; `inside` sit there too."""
    with app.app_context():
        found = courses.find_course(cast.account, course)
        ivan = accounts.find_user(cast.account, cast.ivan)
        assert found is not None
        assert ivan is not None
        meeting = rooms.open_meeting(found, by=ivan)
        rooms.take_seat(meeting, ivan, Role.INSTRUCTOR, moderates=True, window="ivan")
        for user_id in inside:
            user = accounts.find_user(cast.account, user_id)
            assert user is not None
            rooms.take_seat(meeting, user, Role.STUDENT, moderates=False, window=str(user_id))
        db.session.commit()
        return meeting.id


@pytest.mark.parametrize(
    ("who", "active", "opened", "status", "gate"),
    [
        ("ada", False, False, 200, "open"),
        ("ivan", False, False, 200, "open"),
        ("sam", False, False, 403, "course_inactive"),
        ("sam", True, False, 403, "no_meeting"),
        ("sam", True, True, 200, "open"),
        ("ada", True, True, 200, "open"),
        ("ivan", True, False, 200, "open"),
    ],
)
def test_the_door_answers_everyone_with_a_gate_and_its_status(
    app: Flask, cast: Cast, browse: Browse, who: str, active: bool, opened: bool, status: int, gate: str
) -> None:
    if active:
        give_plan(app, cast, cast.geology)
    if opened:
        open_room(app, cast, cast.geology)
    page = browse(getattr(cast, who)).get(f"/courses/{cast.geology}/room")
    assert page.status_code == status
    assert f'data-gate="{gate}"' in page.text.split("<main", 1)[1].split(">", 1)[0]


def test_who_is_not_on_the_list_is_told_so_and_not_sent_away(cast: Cast, browse: Browse) -> None:
    page = browse(cast.sam).get(f"/courses/{cast.statics}/room")
    assert page.status_code == 403
    assert 'data-gate="not_enrolled"' in page.text.split("<main", 1)[1].split(">", 1)[0]
    assert "You are not on this list" in page.text
    assert "Statics" not in page.text


def test_the_room_of_another_account_does_not_exist(cast: Cast, browse: Browse) -> None:
    eve = browse(cast.eve)
    assert eve.get(f"/courses/{cast.geology}/room").status_code == 404
    assert eve.get(f"/courses/{cast.geology}/room/door").status_code == 404
    assert eve.post(f"/courses/{cast.geology}/room/end").status_code == 404


def test_nobody_we_know_is_asked_to_sign_in_and_comes_back(cast: Cast, browse: Browse) -> None:
    answer = browse(None).get(f"/courses/{cast.geology}/room")
    assert answer.status_code == 303
    assert f"next=/courses/{cast.geology}/room" in answer.location.replace("%2F", "/")


def test_a_full_room_keeps_its_door_closed_but_not_for_those_inside(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    with app.app_context():
        account = accounts.find_account("default")
        course = courses.find_course(cast.account, cast.geology)
        assert account is not None
        assert course is not None
        courses.activate(course, plans.grant(account, seats=2))
        db.session.commit()
    open_room(app, cast, cast.geology, inside=(cast.sam,))
    page = browse(cast.tess).get(f"/courses/{cast.geology}/room")
    assert page.status_code == 403
    assert 'data-gate="full"' in page.text
    assert "All 2 seats are taken" in page.text
    assert browse(cast.sam).get(f"/courses/{cast.geology}/room").status_code == 200


def test_the_closed_door_asks_again_and_moves_on_when_it_opens(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    give_plan(app, cast, cast.geology)
    sam = browse(cast.sam)
    page = sam.get(f"/courses/{cast.geology}/room")
    assert f'hx-get="/courses/{cast.geology}/room/door"' in page.text
    asked = sam.get(f"/courses/{cast.geology}/room/door", headers={"HX-Request": "true"})
    assert 'data-gate="no_meeting"' in asked.text
    assert "HX-Refresh" not in asked.headers
    open_room(app, cast, cast.geology)
    asked = sam.get(f"/courses/{cast.geology}/room/door", headers={"HX-Request": "true"})
    assert asked.headers["HX-Refresh"] == "true"


def test_the_door_asks_again_for_those_who_are_not_on_the_list_yet(cast: Cast, browse: Browse) -> None:
    asked = browse(cast.sam).get(f"/courses/{cast.statics}/room/door", headers={"HX-Request": "true"})
    assert asked.status_code == 200
    assert 'data-gate="not_enrolled"' in asked.text


def test_in_a_frame_the_room_opens_a_window_of_its_own_by_ticket(cast: Cast, browse: Browse) -> None:
    page = browse(cast.ivan).get(
        f"/courses/{cast.geology}/room", headers={"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"}
    )
    assert page.status_code == 200
    assert 'data-gate="open"' in page.text
    assert "data-own-window" in page.text
    assert "room.js" not in page.text


def test_the_room_says_as_whom_one_enters_and_that_students_cannot_come_yet(
    cast: Cast, browse: Browse
) -> None:
    page = browse(cast.ivan).get(f"/courses/{cast.geology}/room").text
    assert "Ivan Petrović</bdi>, moderator" in page
    assert "students cannot come in" in page
    assert "Enter to prepare" in page


def test_only_moderators_are_given_the_buttons_that_are_theirs(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    give_plan(app, cast, cast.geology)
    open_room(app, cast, cast.geology)
    teacher = browse(cast.ivan).get(f"/courses/{cast.geology}/room").text
    student = browse(cast.sam).get(f"/courses/{cast.geology}/room").text
    for button in ("End for everyone", 'data-do="screen"'):
        assert button in teacher
        assert button not in student


def test_looking_at_the_door_opens_no_meeting(app: Flask, cast: Cast, browse: Browse) -> None:
    give_plan(app, cast, cast.geology)
    browse(cast.ivan).get(f"/courses/{cast.geology}/room")
    with app.app_context():
        course = courses.find_course(cast.account, cast.geology)
        assert course is not None
        assert rooms.find_open(course) is None


def test_a_moderator_ends_the_session_for_everyone(app: Flask, cast: Cast, browse: Browse) -> None:
    give_plan(app, cast, cast.geology)
    meeting = open_room(app, cast, cast.geology, inside=(cast.sam,))
    assert browse(cast.sam).post(f"/courses/{cast.geology}/room/end").status_code == 403
    answer = browse(cast.ivan).post(f"/courses/{cast.geology}/room/end")
    assert answer.status_code == 303
    with app.app_context():
        over = db.session.get_one(rooms.Meeting, meeting)
        assert over.ended_at is not None
        assert rooms.present(over) == []
    # A second time there is nothing to end, and nothing goes wrong.
    assert browse(cast.ivan).post(f"/courses/{cast.geology}/room/end").status_code == 303
    assert 'data-gate="no_meeting"' in browse(cast.sam).get(f"/courses/{cast.geology}/room").text


def test_who_was_taken_off_the_list_finds_the_door_closed(app: Flask, cast: Cast, browse: Browse) -> None:
    give_plan(app, cast, cast.geology)
    open_room(app, cast, cast.geology)
    with app.app_context():
        enrollment = db.session.scalar(
            db.select(Enrollment).filter_by(user_id=cast.sam, course_id=cast.geology)
        )
        assert enrollment is not None
        enrollment.ended_at = now()
        db.session.commit()
    page = browse(cast.sam).get(f"/courses/{cast.geology}/room")
    assert page.status_code == 403
    assert 'data-gate="not_enrolled"' in page.text


def test_a_plan_to_come_says_when_the_door_opens(app: Flask, cast: Cast, browse: Browse) -> None:
    with app.app_context():
        account = accounts.find_account("default")
        course = courses.find_course(cast.account, cast.geology)
        assert account is not None
        assert course is not None
        courses.activate(course, plans.grant(account, seats=5, starts_at=now() + timedelta(days=30)))
        db.session.commit()
    page = browse(cast.sam).get(f"/courses/{cast.geology}/room").text
    assert "This room opens on" in page


def test_seats_whose_server_died_are_freed_when_they_were_last_seen(
    app: Flask, cast: Cast, move_clock: Callable[[timedelta], None]
) -> None:
    meeting = open_room(app, cast, cast.geology, inside=(cast.sam,))
    move_clock(timedelta(seconds=30))
    with app.app_context():
        rooms.keep_seats(["ivan"])
        db.session.commit()
    move_clock(timedelta(seconds=30))
    with app.app_context():
        assert rooms.close_silent(timedelta(seconds=40)) == 1
        db.session.commit()
        still = rooms.present(db.session.get_one(rooms.Meeting, meeting))
        assert [seat.user_id for seat in still] == [cast.ivan]
        sam = db.session.scalar(db.select(rooms.Attendance).filter_by(user_id=cast.sam))
        assert sam is not None
        assert sam.left_at == sam.seen_at
    move_clock(timedelta(seconds=120))
    with app.app_context():
        rooms.close_silent(timedelta(seconds=40))
        db.session.commit()
    move_clock(timedelta(seconds=60))
    with app.app_context():
        rooms.close_silent(timedelta(seconds=40))
        db.session.commit()
        assert db.session.get_one(rooms.Meeting, meeting).ended_at is not None


def test_looking_at_the_room_asks_the_database_few_questions(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    give_plan(app, cast, cast.geology)
    open_room(app, cast, cast.geology, inside=(cast.sam, cast.tess))
    sam = browse(cast.sam)
    for path in ("room", "room/door"):
        statements.clear()
        sam.get(f"/courses/{cast.geology}/{path}", headers={"HX-Request": "true"})
        assert len([s for s in statements if not s.startswith("BEGIN")]) <= 10, statements
