"""The LMS courses behind a course, and moving one of them to another course. Moving back is the same deed."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import joinedload

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.classroom.syncs import BUSY, SyncRun
from lti_tool.database import db, fold, is_id
from lti_tool.lti.registrations import Deployment, Registration

# Courses offered at once; a search finds the others.
OFFERED = 30


class AlreadyThere(Exception):
    """The LMS course has a room in that course already."""


class Behind(NamedTuple):
    """One LMS course behind a course, and how many people are in the course through it."""

    tie: Context
    registration: Registration
    people: int


def list_behind(course: Course) -> list[Behind]:
    """The LMS courses that stand behind a course, in one statement."""
    people = (
        select(func.count())
        .where(Enrollment.context_id == Context.id, Enrollment.ended_at.is_(None))
        .correlate(Context)
        .scalar_subquery()
    )
    rows = db.session.execute(
        select(Context, Registration, people)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .join(Registration, Registration.id == Deployment.registration_id)
        .options(joinedload(Context.moved_from))
        .where(Context.account_id == course.account_id, Context.course_id == course.id)
        .order_by(Context.id)
    )
    return [Behind(*row) for row in rows]


def find_behind(course: Course, tie_id: int) -> Behind | None:
    """One of them; another course's is None."""
    found = list_behind(course) if is_id(tie_id) else []
    return next((one for one in found if one.tie.id == tie_id), None)


def list_targets(tie: Context, *, search: str = "") -> Sequence[Course]:
    """Courses to which an LMS course can be moved, by name: those where it has no room yet.

    One more than OFFERED, if there are more.
    """
    there = select(Context.id).where(*_of_same(tie), Context.course_id == Course.id)
    query = (
        select(Course)
        .options(joinedload(Course.plan))
        .where(Course.account_id == tie.account_id, ~there.exists())
        .order_by(Course.name_key, Course.id)
        .limit(OFFERED + 1)
    )
    if search.strip():
        query = query.where(Course.name_key.contains(fold(search), autoescape=True))
    return db.session.scalars(query).all()


def _of_same(tie: Context) -> tuple[ColumnElement[bool], ...]:
    """Ties of the same LMS course."""
    return Context.deployment_id == tie.deployment_id, Context.context_id == tie.context_id


def move(tie: Context, course: Course, *, by: User) -> None:
    """Lead an LMS course to another course: its people and syncs go along, sessions stay where they were.

    Raises AlreadyThere.
    """
    # In the order in which a sync takes them; it finds its course changed and reads the list again.
    db.session.execute(
        select(SyncRun.id)
        .where(SyncRun.context_id == tie.id, SyncRun.state.in_(BUSY))
        .order_by(SyncRun.id)
        .with_for_update()
    )
    left, before = db.session.execute(
        select(Context.course_id, Context.moved_from_id).where(Context.id == tie.id).with_for_update()
    ).one()
    if left == course.id:
        return
    there = select(Context.id).where(*_of_same(tie), Context.course_id == course.id)
    if db.session.scalar(there) is not None:
        raise AlreadyThere
    # Enrollments and syncs name the tie and its course together, and follow (ON UPDATE CASCADE).
    db.session.execute(
        update(Context)
        .where(Context.id == tie.id)
        # Moved back, it stands where it stood, and there is no way back to offer.
        .values(course_id=course.id, moved_from_id=None if before == course.id else left, offers_copy=False)
        .execution_options(synchronize_session=False)
    )
    db.session.expire_all()
    audit.record(
        tie.account_id,
        "lms_course.moved",
        f"course:{course.id}",
        by=by,
        before={"lms_course": tie.title, "course": left},
        after={"lms_course": tie.title, "course": course.id},
    )
