"""What merging two people would do, before it is done: both as they are, and what would be true after."""

from dataclasses import dataclass

from sqlalchemy import func, select

from lti_tool.classroom.accounts import Identity, Role, Status, User
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.merging import higher_of
from lti_tool.classroom.rooms import Attendance
from lti_tool.classroom.roster import lms_name
from lti_tool.database import db
from lti_tool.lti.registrations import Registration


@dataclass(frozen=True)
class Prospect:
    """What would be true after a merge, and what moves."""

    name: str
    email: str
    role: Role
    status: Status
    identities: int
    enrollments: int
    attendances: int
    # This address no longer signs anybody in.
    lost_mailbox: str
    # This invitation's link no longer works.
    ends_invitation: bool


def foresee(into: User, other: User) -> Prospect:
    """What merging by an admin does, before it is done."""
    numbers = db.session.execute(
        select(
            select(func.count(Identity.id)).where(Identity.user_id == other.id).scalar_subquery(),
            select(func.count(Enrollment.course_id.distinct()))
            .where(Enrollment.user_id == other.id, Enrollment.ended_at.is_(None))
            .scalar_subquery(),
            select(func.count(Attendance.id)).where(Attendance.user_id == other.id).scalar_subquery(),
        )
    ).one()
    registered = Status.REGISTERED in (into.status, other.status)
    return Prospect(
        name=into.name or other.name,
        email=into.email or other.email,
        role=higher_of(into, other).role,
        status=Status.REGISTERED if registered else Status.PENDING,
        identities=numbers[0],
        enrollments=numbers[1],
        attendances=numbers[2],
        lost_mailbox=other.email if other.mailbox_proven else "",
        ends_invitation=registered and Status.PENDING in (into.status, other.status),
    )


@dataclass(frozen=True)
class Side:
    """One of the two as they are now."""

    user: User
    # The LMSs that know them, and the courses they are in.
    platforms: tuple[str, ...]
    courses: tuple[str, ...]


def sides(*users: User) -> list[Side]:
    """Each as they are now, in two statements."""
    ids = [user.id for user in users]
    platforms: dict[int, list[str]] = {}
    for user_id, registration in db.session.execute(
        select(Identity.user_id, Registration)
        .join(Registration, Registration.id == Identity.registration_id)
        .where(Identity.user_id.in_(ids))
        .order_by(Identity.id)
    ):
        platforms.setdefault(user_id, []).append(lms_name(registration))
    courses: dict[int, list[str]] = {}
    for user_id, name in db.session.execute(
        select(Enrollment.user_id, Course.name)
        .join(Course, Course.id == Enrollment.course_id)
        .where(Enrollment.user_id.in_(ids), Enrollment.ended_at.is_(None))
        .group_by(Enrollment.user_id, Course.id)
        .order_by(Course.name_key, Course.id)
    ):
        courses.setdefault(user_id, []).append(name)
    return [Side(user, tuple(platforms.get(user.id, ())), tuple(courses.get(user.id, ()))) for user in users]
