"""Who may do what: the table of the product's rules, to be read beside them."""

from datetime import timedelta

import pytest
from conftest import Cast
from flask import Flask

from lti_tool.classroom import access, accounts, courses, plans, rooms
from lti_tool.classroom.access import GateName
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.database import db, now

# account role, role in the course, plan, meeting → what they find at the door
#   plan: none, past, future, now, full (one seat, taken); meeting: is a moderator inside?
DOOR = [
    ("owner", None, "none", False, "open"),
    ("owner", None, "now", True, "open"),
    ("admin", None, "none", False, "open"),
    ("admin", None, "past", False, "open"),
    ("admin", "student", "none", False, "open"),
    ("instructor", "instructor", "none", False, "open"),
    ("instructor", "instructor", "past", False, "open"),
    ("instructor", "instructor", "future", False, "open"),
    ("instructor", "instructor", "now", False, "open"),
    ("instructor", "instructor", "full", True, "open"),
    ("instructor", "student", "none", False, "course_inactive"),
    ("instructor", "student", "now", True, "open"),
    ("instructor", None, "now", True, "not_enrolled"),
    ("student", "instructor", "none", False, "open"),
    ("student", "student", "none", False, "course_inactive"),
    ("student", "student", "none", True, "course_inactive"),
    ("student", "student", "past", True, "course_inactive"),
    ("student", "student", "future", True, "course_inactive"),
    ("student", "student", "now", False, "no_meeting"),
    ("student", "student", "now", True, "open"),
    ("student", "student", "full", True, "full"),
    ("student", "ended", "now", True, "not_enrolled"),
    ("student", None, "none", False, "not_enrolled"),
    ("student", None, "now", True, "not_enrolled"),
]


def give_plan(course: Course, kind: str, account: accounts.Account) -> None:
    if kind == "none":
        return
    starts, ends = {
        "past": (now() - timedelta(days=9), now() + timedelta(seconds=1)),
        "future": (now() + timedelta(days=9), now() + timedelta(days=99)),
        "now": (now() - timedelta(days=9), now() + timedelta(days=9)),
        "full": (now() - timedelta(days=9), None),
    }[kind]
    plan = plans.grant(account, seats=1 if kind == "full" else 40, starts_at=starts, until=ends)
    courses.activate(course, plan)
    if kind == "past":
        plan.ends_at = now() - timedelta(days=1)


@pytest.mark.parametrize(("role", "enrolled", "plan", "meeting", "gate"), DOOR)
def test_the_door(
    app: Flask, cast: Cast, role: str, enrolled: str | None, plan: str, meeting: bool, gate: str
) -> None:
    with app.app_context():
        account = db.session.get_one(accounts.Account, cast.account)
        course = courses.add_course(account.id, "Cartography")
        person = accounts.add_user(account.id, name="Somebody", role=Role(role))
        if enrolled:
            db.session.add(
                Enrollment(
                    account_id=account.id,
                    course_id=course.id,
                    user_id=person.id,
                    role=Role.STUDENT if enrolled == "ended" else Role(enrolled),
                    source=Source.MANUAL,
                    ended_at=now() if enrolled == "ended" else None,
                )
            )
        give_plan(course, plan, account)
        if meeting:
            teacher = db.session.get_one(User, cast.ivan)
            room = rooms.open_meeting(course, by=teacher)
            rooms.take_seat(room, teacher, Role.INSTRUCTOR, moderates=True, window="ivan")
        db.session.flush()
        answer = access.room_gate(person, course)
        assert answer.name is GateName(gate)
        assert answer.because, "the door never answers a bare no"
        assert answer.moderates == (role in ("admin", "owner") or enrolled == "instructor")
        assert answer.preparing == (answer.open and plan in ("none", "past", "future"))


def test_the_door_takes_one_statement(app: Flask, cast: Cast, statements: list[str]) -> None:
    with app.app_context():
        sam, geology = db.session.get_one(User, cast.sam), db.session.get_one(Course, cast.geology)
        statements.clear()
        access.room_gate(sam, geology)
        assert len(statements) == 1


@pytest.mark.parametrize(
    ("rule", "ada", "ivan", "sam"),
    [
        (access.can_create_courses, True, False, False),
        (access.can_give_plans, True, False, False),
        (access.can_manage_users, True, False, False),
        (access.can_manage_platforms, True, False, False),
    ],
)
def test_what_admins_alone_may_do(app: Flask, cast: Cast, rule, ada: bool, ivan: bool, sam: bool) -> None:
    with app.app_context():
        assert rule(db.session.get_one(User, cast.ada)) is ada
        assert rule(db.session.get_one(User, cast.ivan)) is ivan
        assert rule(db.session.get_one(User, cast.sam)) is sam


@pytest.mark.parametrize(
    ("rule", "ada", "ivan", "sam", "eve"),
    [
        (access.can_see_course, True, True, True, False),
        (access.can_moderate, True, True, False, False),
        (access.can_see_roster, True, True, False, False),
        (access.can_ask_for_activation, False, True, False, False),
        (access.can_invite_to, True, False, False, False),
    ],
)
def test_what_people_may_do_in_a_course(
    app: Flask, cast: Cast, rule, ada: bool, ivan: bool, sam: bool, eve: bool
) -> None:
    with app.app_context():
        geology = db.session.get_one(Course, cast.geology)
        for person, may in ((cast.ada, ada), (cast.ivan, ivan), (cast.sam, sam), (cast.eve, eve)):
            assert rule(db.session.get_one(User, person), geology) is may, person


def test_a_query_finds_the_courses_that_may_be_placed_as_the_rule_says(app: Flask, cast: Cast) -> None:
    with app.app_context():
        courses.add_course(cast.other_account, "Of another account")
        everybody = db.session.scalars(db.select(User)).all()
        every_course = db.session.scalars(db.select(Course)).all()
        ended = db.session.scalar(db.select(Enrollment).filter_by(user_id=cast.ivan, course_id=cast.statics))
        assert ended is not None
        ended.ended_at = now()
        for blocked in (False, True):
            for user in everybody:
                user.blocked_at = now() if blocked else None
                db.session.flush()
                found = db.session.scalars(db.select(Course).where(access.placeable_by(user))).all()
                assert set(found) == {one for one in every_course if access.can_place_course(user, one)}
                assert not (blocked and found)


def test_instructors_invite_to_their_own_courses_where_the_account_allows_it(app: Flask, cast: Cast) -> None:
    with app.app_context():
        db.session.get_one(accounts.Account, cast.account).instructors_invite = True
        geology = db.session.get_one(Course, cast.geology)
        assert access.can_invite_to(db.session.get_one(User, cast.ivan), geology)
        assert not access.can_invite_to(db.session.get_one(User, cast.sam), geology)


def test_nobody_gives_a_role_above_his_own(app: Flask, cast: Cast) -> None:
    with app.app_context():
        admin = accounts.add_user(cast.account, name="Admin", role=Role.ADMIN)
        ada, sam = db.session.get_one(User, cast.ada), db.session.get_one(User, cast.sam)
        assert access.can_give_role(ada, Role.OWNER)
        assert access.can_give_role(admin, Role.ADMIN)
        assert not access.can_give_role(admin, Role.OWNER)
        assert not access.can_give_role(sam, Role.STUDENT)
        assert not access.can_change(admin, ada)
        assert access.can_change(ada, admin)
        assert not access.can_change(db.session.get_one(User, cast.eve), sam)
