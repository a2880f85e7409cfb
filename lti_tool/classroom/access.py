"""Every "may they?" of the product, one function each. `room_gate` answers with a reason.

Pages, launches, commands and jobs ask here and nowhere else; tests/test_access.py is the same as a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from flask import current_app
from flask_babel import lazy_gettext as _
from sqlalchemy import ColumnElement, Select, and_, bindparam, case, false, func, select

from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.courses import Course, Enrollment, role_in
from lti_tool.classroom.plans import Plan
from lti_tool.classroom.rooms import Attendance, Meeting
from lti_tool.database import db, now


def is_admin(user: User) -> bool:
    """Admin or owner of the account, and not shut out of it."""
    return user.role in (Role.ADMIN, Role.OWNER) and user.blocked_at is None


def can_create_courses(user: User) -> bool:
    """Create, rename, describe courses."""
    return is_admin(user)


def can_give_plans(user: User) -> bool:
    """Give a plan to a course and free it; see plans and purchases."""
    return is_admin(user)


def can_manage_users(user: User) -> bool:
    """The users page: invite, change roles, delete."""
    return is_admin(user)


def can_manage_platforms(user: User) -> bool:
    """LMS registrations, deployments, role maps, keys."""
    return is_admin(user)


def can_connect_by_hand(user: User) -> bool:
    """Type in an LMS's values: nothing proves whose they are, so an operator may keep that to himself."""
    return can_manage_platforms(user) and bool(current_app.config["ADMINS_CONNECT_BY_HAND"])


def can_see_course(user: User, course: Course) -> bool:
    """Admins any course of the account; others those they are enrolled in. Who is blocked sees none."""
    if course.account_id != user.account_id or user.blocked_at is not None:
        return False
    return is_admin(user) or role_in(course, user) is not None


def can_moderate(user: User, course: Course) -> bool:
    """Prepare the room, start meetings, moderate: admins, and the course's instructors."""
    if course.account_id != user.account_id or user.blocked_at is not None:
        return False
    return is_admin(user) or role_in(course, user) is Role.INSTRUCTOR


def can_place_course(user: User, course: Course) -> bool:
    """Place a course's room in LMS courses, and rooms in its own: its instructors and admins."""
    return can_moderate(user, course)


def placeable_by(user: User) -> ColumnElement[bool]:
    """`can_place_course`, as a query asks it of every Course."""
    ours = Course.account_id == user.account_id
    if user.blocked_at is not None:
        return false()
    if is_admin(user):
        return ours
    teaches = select(Enrollment.id).where(
        Enrollment.course_id == Course.id,
        Enrollment.user_id == user.id,
        Enrollment.role == Role.INSTRUCTOR,
        Enrollment.ended_at.is_(None),
    )
    return and_(ours, teaches.exists())


def can_take_over_from(user: User, origin: Course) -> bool:
    """Take what a course says into its copy. That it is one may have been typed into a link by hand."""
    return can_moderate(user, origin)


def can_move_lms_courses(user: User) -> bool:
    """Lead an LMS course to another course."""
    return is_admin(user)


def can_see_roster(user: User, course: Course) -> bool:
    """See a course's roster and sync it."""
    return can_moderate(user, course)


def can_ask_for_activation(user: User, course: Course) -> bool:
    """Ask the admins for a plan; admins need not ask."""
    return not is_admin(user) and can_moderate(user, course)


def can_invite_to(user: User, course: Course) -> bool:
    """Add people to a course by invitation: admins; its instructors if the account allows it."""
    if is_admin(user):
        return course.account_id == user.account_id
    return can_moderate(user, course) and db.session.get_one(Account, user.account_id).instructors_invite


def can_take_back_invitation(user: User, course: Course, held: Enrollment) -> bool:
    """Send again or take back how somebody was invited to a course: admins; instructors what was theirs."""
    return can_invite_to(user, course) and (is_admin(user) or held.added_by_id == user.id)


def can_withdraw_own(user: User, invited: User) -> bool:
    """Withdraw the invitation one has sent, as a whole: an admin may, an instructor only a student's."""
    return invited.role is Role.STUDENT or can_change(user, invited)


def can_give_role(user: User, role: Role) -> bool:
    """Nobody raises anyone, himself included, above himself."""
    return is_admin(user) and role.rank <= user.role.rank


def can_invite_as(user: User, role: Role) -> bool:
    """Invite somebody as this: nobody becomes an owner by mail."""
    return role is not Role.OWNER and can_give_role(user, role)


def roles_to_choose(user: User, other: User) -> list[Role]:
    """The roles `user` may give `other`, and the one they have. Nobody changes their own."""
    if other.id == user.id:
        return [user.role]
    return [role for role in Role if role is other.role or can_give_role(user, role)]


def can_change(user: User, other: User) -> bool:
    """Change or remove somebody: not another account's, not those above oneself."""
    return is_admin(user) and other.account_id == user.account_id and other.role.rank <= user.role.rank


def can_remove(user: User, other: User) -> bool:
    """Delete somebody. Not oneself: a slip would be final, so another admin does it."""
    return can_change(user, other) and other.id != user.id


def can_block(user: User, other: User) -> bool:
    """Shut somebody out, and let them in again: whom one may change, but not oneself."""
    return can_change(user, other) and other.id != user.id


def can_export(user: User, other: User) -> bool:
    """Take away all that is held about somebody: they themselves, and admins who may change them."""
    return user.id == other.id or can_change(user, other)


def can_change_settings(user: User) -> bool:
    """The account's settings: its name, contact, languages, and how long things are kept."""
    return is_admin(user)


def is_told_of_sign_ins(user: User) -> bool:
    """Is somebody mailed when they sign in with a new browser? Admins, unless the account wants none."""
    return is_admin(user) and bool(user.email) and user.account.tells_new_sign_ins


def can_merge(user: User, into: User, other: User) -> bool:
    """Make one person of two: both whom one may change, and not oneself into somebody else."""
    return can_change(user, into) and can_change(user, other) and user.id != other.id


def can_unmerge(user: User, into: User, other_role: Role) -> bool:
    """Take a merge back; the person who comes back has the role they had."""
    return can_change(user, into) and can_give_role(user, other_role)


def can_see_audit_log(user: User) -> bool:
    """What was done in the account, by whom and to whom."""
    return is_admin(user)


def can_change_many(user: User) -> bool:
    """Have one deed done to many people, and see what became of it, whoever of the account asked for it."""
    return can_manage_users(user)


def can_export_users(user: User) -> bool:
    """Take the users list away as a file."""
    return can_manage_users(user)


class GateName(StrEnum):
    """What a person finds at a room's door."""

    OPEN = "open"
    NOT_ENROLLED = "not_enrolled"
    COURSE_INACTIVE = "course_inactive"
    NO_MEETING = "no_meeting"
    WAITING = "waiting"
    FULL = "full"
    REMOVED = "removed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Gate:
    """The door's answer: never a bare no."""

    name: GateName
    # The chain of facts that led here, in sentences for whoever reads them (lazy strings).
    because: tuple[Any, ...]
    # As what the person would be inside; None for those who are not on the list.
    role: Role | None = None
    moderates: bool = False
    # The course has no plan in force: staff are inside to prepare.
    preparing: bool = False
    # When the course's plan starts, if it is still to come.
    opens_at: datetime | None = None
    # Seats of the plan, people inside, and since when the room is open.
    seats: int | None = None
    inside: int = 0
    open_since: datetime | None = None

    @property
    def open(self) -> bool:
        """May the person enter?"""
        return self.name is GateName.OPEN


def room_gate(user: User, course: Course) -> Gate:
    """What `user` finds at the door of `course`'s room, in one statement."""
    return room_gates(user, [course])[course.id]


def room_gates(user: User, courses: Sequence[Course]) -> dict[int, Gate]:
    """Course id → what `user` finds at its door, in one statement for all of them."""
    asked = {"user": user.id, "courses": [course.id for course in courses]}
    facts = {row.id: row for row in db.session.execute(_GATE_FACTS, asked)}
    return {course.id: _judge(user, course, facts[course.id]) for course in courses}


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A room somebody has opened, with or without a plan in force; everything else is out of the way."""

    starts_at: datetime | None
    open_since: datetime
    ends_at: datetime | None = None
    seats: int | None = None
    inside: int = 0
    seated: int = 0


def rehearse_gate(enrolled: Role | None, *, admin: bool, active: bool) -> Gate:
    """What somebody with these roles would find at the door of an open room, asked of nobody real."""
    at = now()
    return _decide(enrolled, _Rehearsal(at if active else None, at), admin=admin, counted=True)


def _judge(user: User, course: Course, facts: Any) -> Gate:
    if user.blocked_at is not None:
        return Gate(GateName.NOT_ENROLLED, (_("Blocked by an admin of the account."),))
    ours = user.account_id == course.account_id
    enrolled = _ROLE_BY_RANK.get(facts.rank) if ours else None
    return _decide(enrolled, facts, admin=ours and is_admin(user), counted=not user.is_test)


def _decide(enrolled: Role | None, facts: Any, *, admin: bool, counted: bool) -> Gate:
    """On the list? → plan in force? → somebody there to let them in? → a seat free?"""
    role = Role.INSTRUCTOR if admin else enrolled
    because: list[Any] = []
    if admin:
        because.append(_("An admin of the account enters every room."))
    elif enrolled is None:
        because.append(_("Not on the course’s list."))
        return Gate(GateName.NOT_ENROLLED, tuple(because))
    elif enrolled is Role.INSTRUCTOR:
        because.append(_("On the course’s list as instructor."))
    else:
        because.append(_("On the course’s list as student."))

    at = now()
    active = (
        facts.starts_at is not None
        and facts.starts_at <= at
        and (facts.ends_at is None or at < facts.ends_at)
    )
    opens_at = facts.starts_at if facts.starts_at is not None and facts.starts_at > at else None
    if active:
        because.append(_("The course has a plan that is in force."))
    elif opens_at:
        because.append(_("The course’s plan has not started yet."))
    elif facts.starts_at is not None:
        because.append(_("The course’s plan is over."))
    else:
        because.append(_("The course has no plan."))

    staff = role is Role.INSTRUCTOR

    def answer(name: GateName) -> Gate:
        return Gate(
            name,
            tuple(because),
            role=role,
            moderates=staff,
            preparing=staff and not active,
            opens_at=opens_at,
            seats=facts.seats if active else None,
            inside=facts.inside,
            open_since=facts.open_since,
        )

    if staff:
        if not active:
            because.append(_("Staff may enter to prepare."))
        return answer(GateName.OPEN)
    if not active:
        return answer(GateName.COURSE_INACTIVE)
    if facts.open_since is None:
        because.append(_("Nobody who moderates has opened the room yet."))
        return answer(GateName.NO_MEETING)
    # A preview account takes no seat.
    if counted and facts.seats is not None and facts.inside >= facts.seats and not facts.seated:
        because.append(_("All seats of the plan are taken."))
        return answer(GateName.FULL)
    because.append(_("The room is open."))
    return answer(GateName.OPEN)


_RANK = case({Role.INSTRUCTOR: 2, Role.STUDENT: 1}, value=Enrollment.role, else_=0)
_ROLE_BY_RANK = {2: Role.INSTRUCTOR, 1: Role.STUDENT}


def _gate_facts() -> Select[Any]:
    """Plan, meeting, people inside, the user's highest role and seat, a row for each course."""
    inside = (
        select(func.count(Attendance.id))
        .where(Attendance.meeting_id == Meeting.id, Attendance.left_at.is_(None), Attendance.counted)
        .correlate(Meeting)
        .scalar_subquery()
    )
    seated = (
        select(func.count(Attendance.id))
        .where(
            Attendance.meeting_id == Meeting.id,
            Attendance.left_at.is_(None),
            Attendance.user_id == bindparam("user"),
        )
        .correlate(Meeting)
        .scalar_subquery()
    )
    rank = (
        select(func.max(_RANK))
        .where(
            Enrollment.course_id == Course.id,
            Enrollment.user_id == bindparam("user"),
            Enrollment.ended_at.is_(None),
        )
        .correlate(Course)
        .scalar_subquery()
    )
    return (
        select(
            Course.id,
            Plan.starts_at,
            Plan.ends_at,
            Plan.seats,
            Meeting.started_at.label("open_since"),
            func.coalesce(inside, 0).label("inside"),
            func.coalesce(seated, 0).label("seated"),
            rank.label("rank"),
        )
        .select_from(Course)
        .outerjoin(Plan, Plan.id == Course.plan_id)
        .outerjoin(Meeting, (Meeting.course_id == Course.id) & Meeting.ended_at.is_(None))
        .where(Course.id.in_(bindparam("courses", expanding=True)))
    )


# Made once: putting it together costs more than asking.
_GATE_FACTS = _gate_facts()
