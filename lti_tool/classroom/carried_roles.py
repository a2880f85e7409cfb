"""Who on an LMS's rosters was sent which roles, as they were sent."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, String, case, cast, func, literal_column, select, true
from sqlalchemy.orm import joinedload

from lti_tool.classroom.accounts import Connection, User
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.database import db, fold, is_id
from lti_tool.lti.registrations import Deployment

# Roles that people carry, as many as a page shows.
MOST_CARRIED = 100


class Carried(NamedTuple):
    """A role as the LMS sends it, and how many people of its courses carry it now."""

    sent: str
    people: int


def carried_roles(connection: Connection) -> list[Carried]:
    """The roles that the LMS's people carry, the most frequent first, in one statement."""
    # UNION makes each person once of each role, which costs less than counting them distinctly.
    each = (
        _each_role(connection, Enrollment.launch_roles)
        .union(_each_role(connection, Enrollment.roster_roles))
        .subquery()
    )
    people = func.count()
    rows = db.session.execute(
        select(each.c.value, people)
        .group_by(each.c.value)
        .order_by(people.desc(), each.c.value)
        .limit(MOST_CARRIED)
    )
    return [Carried(sent, number) for sent, number in rows]


def _each_role(connection: Connection, roles: Any) -> Any:
    """(user, role) for each role of a column; a preview account is never counted."""
    if db.session.get_bind().dialect.name == "postgresql":
        listed = case((func.json_typeof(roles) == "array", roles), else_=literal_column("'[]'::json"))
        each = func.json_array_elements_text(listed).table_valued("value")
    else:
        each = func.json_each(roles).table_valued("value")
    return (
        select(Enrollment.user_id, cast(each.c.value, String).label("value"))
        .select_from(Enrollment)
        .join(User, User.id == Enrollment.user_id)
        .join(each, true())
        .where(*in_force(connection), User.is_test.is_(False), each.c.value.is_not(None))
    )


def in_force(connection: Connection) -> tuple[ColumnElement[bool], ...]:
    """Enrollments of the LMS's courses that have not ended."""
    contexts = (
        select(Context.id)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .where(
            Context.account_id == connection.account_id,
            Deployment.registration_id == connection.registration_id,
        )
    )
    return (
        Enrollment.account_id == connection.account_id,
        Enrollment.context_id.in_(contexts),
        Enrollment.ended_at.is_(None),
    )


class Told(NamedTuple):
    """One person in one of the LMS's courses, as launch and list last told their roles."""

    enrollment: Enrollment
    course: Course


def find_told(connection: Connection, search: str, *, limit: int = 8) -> list[Told]:
    """People of the LMS by name or address, with their courses."""
    query = _told(connection)
    for word in fold(search).split():
        query = query.where(
            User.name_key.contains(word, autoescape=True) | User.email_key.contains(word, autoescape=True)
        )
    rows = db.session.execute(query.order_by(User.name_key, User.id, Course.name_key).limit(limit))
    return [Told(*row) for row in rows]


def told_by(connection: Connection, enrollment_id: int) -> Told | None:
    """One person in one course of this LMS; anybody else's is None."""
    if not is_id(enrollment_id):
        return None
    row = db.session.execute(_told(connection).where(Enrollment.id == enrollment_id)).first()
    return Told(*row) if row else None


def _told(connection: Connection) -> Any:
    return (
        select(Enrollment, Course)
        .join(User, User.id == Enrollment.user_id)
        .join(Course, Course.id == Enrollment.course_id)
        .options(joinedload(Enrollment.user))
        .where(*in_force(connection))
    )
