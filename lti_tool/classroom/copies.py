"""What a course that arrived as a copy can take over from its original. Never people, never a plan."""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from lti_tool.classroom import audit, courses
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Context, Course
from lti_tool.database import db


class Thing(NamedTuple):
    """One thing that can be taken over."""

    key: str
    # What the course has of it, in words.
    says: Callable[[Course], str]
    # From the second course into the first.
    take: Callable[[Course, Course, User], None]


def _described(part: str) -> Thing:
    def take(course: Course, origin: Course, by: User) -> None:
        said = {name: getattr(course, name) for name in ("name", "summary", "description")}
        courses.describe(course, **{**said, part: getattr(origin, part)}, by=by)

    return Thing(part, lambda course: str(getattr(course, part)), take)


THINGS = (_described("name"), _described("summary"), _described("description"))


class Offer(NamedTuple):
    """A course is a copy of `origin`, and nobody has said yet what it takes over of these."""

    origin: Course
    things: tuple[Thing, ...]


def find_offer(course: Course) -> Offer | None:
    """What the course can take over, if its LMS says that it is a copy and there is anything to take."""
    tie = _offering(course)
    if tie is None or tie.copied_from is None:
        return None
    origin = tie.copied_from
    things = tuple(t for t in THINGS if t.says(origin) and t.says(origin) != t.says(course))
    return Offer(origin, things) if things else None


def _offering(course: Course) -> Context | None:
    return db.session.scalar(
        select(Context)
        .options(joinedload(Context.copied_from))
        .where(Context.account_id == course.account_id, Context.course_id == course.id, Context.offers_copy)
        .order_by(Context.id)
        .limit(1)
    )


def take_over(course: Course, offer: Offer, keys: set[str], *, by: User) -> None:
    """Take these things over; with none of them the course stays as it is. The offer is answered by it."""
    for thing in offer.things:
        if thing.key in keys:
            thing.take(course, offer.origin, by)
    tie = _offering(course)
    if tie is not None:
        tie.offers_copy = False
    audit.record(
        course.account_id,
        "copy.answered",
        f"course:{course.id}",
        by=by,
        after={"origin": offer.origin.id, "taken": sorted(keys)},
    )
