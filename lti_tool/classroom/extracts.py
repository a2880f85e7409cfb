"""People as rows of a file, in parts by name, each found where the one before ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, tuple_

from lti_tool.classroom.accounts import Identity, Role, User
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.classroom.roster import lms_name
from lti_tool.database import db
from lti_tool.lti.registrations import Registration

# People read together.
PART = 500


@dataclass(frozen=True)
class Extract:
    """What the file says of one person."""

    id: int
    name: str
    name_key: str
    email: str
    role: Role
    # "blocked", "pending" or "registered".
    state: str
    last_seen_at: datetime | None
    # Names of the courses they are in, what else than an LMS put them there, and the LMSs that know them.
    courses: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    platforms: list[str] = field(default_factory=list)


def count(account_id: int, chosen: Select[Any]) -> int:
    """How many there are."""
    among = chosen.where(User.account_id == account_id).order_by(None).subquery()
    return db.session.scalar(select(func.count()).select_from(among)) or 0


def people_after(account_id: int, chosen: Select[Any], after: Extract | None) -> list[Extract]:
    """The next of those whose ids `chosen` selects from the users, in three statements."""
    query = (
        chosen.where(User.account_id == account_id)
        .with_only_columns(
            User.id,
            User.name,
            User.name_key,
            User.email,
            User.role,
            User.status,
            User.blocked_at,
            User.last_seen_at,
        )
        .order_by(None)
        .order_by(User.name_key, User.id)
        .limit(PART)
    )
    if after is not None:
        query = query.where(tuple_(User.name_key, User.id) > (after.name_key, after.id))
    people = {
        row.id: Extract(
            row.id,
            row.name,
            row.name_key,
            row.email,
            row.role,
            "blocked" if row.blocked_at is not None else row.status.value,
            row.last_seen_at,
        )
        for row in db.session.execute(query)
    }
    _add_courses(account_id, people)
    _add_platforms(account_id, people)
    return list(people.values())


def _add_courses(account_id: int, people: Mapping[int, Extract]) -> None:
    rows = db.session.execute(
        select(Enrollment.user_id, Enrollment.source, Course.id, Course.name)
        .join(Course, Course.id == Enrollment.course_id)
        .where(
            Enrollment.account_id == account_id,
            Enrollment.user_id.in_(list(people)),
            Enrollment.ended_at.is_(None),
        )
        .order_by(Enrollment.user_id, Course.name_key, Course.id)
    )
    told: set[tuple[int, int]] = set()
    for user_id, source, course_id, course in rows:
        person = people[user_id]
        if (user_id, course_id) not in told:
            told.add((user_id, course_id))
            person.courses.append(course)
        if source is not Source.LMS and source not in person.sources:
            person.sources.append(source)


def _add_platforms(account_id: int, people: Mapping[int, Extract]) -> None:
    rows: Sequence[Any] = db.session.execute(
        select(Identity.user_id, Registration)
        .join(Registration, Registration.id == Identity.registration_id)
        .where(Identity.account_id == account_id, Identity.user_id.in_(list(people)))
        .order_by(Identity.id)
    ).all()
    for user_id, registration in rows:
        name = lms_name(registration)
        if name not in people[user_id].platforms:
            people[user_id].platforms.append(name)
