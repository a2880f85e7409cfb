"""Rooms in an LMS course: which course a link opens, which can be placed, and what a copied link opens.

A link says `room`: the course it was placed for. The tie (courses.Context) with that room leads on, so that
a tie which an admin moves keeps its links, and a copied link gets a course of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, case, or_, select
from sqlalchemy.orm import joinedload

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import ArrivalRefused, User
from lti_tool.classroom.courses import Context, Course, Enrollment, Source, add_course
from lti_tool.database import db, fold, is_id
from lti_tool.lti.launch import Launch

# Courses offered at once; a search finds the others.
OFFERED = 20


class PickingRefused(ArrivalRefused):
    """Only teachers of a course, and admins, place rooms in it. `answer` takes the person back to the LMS."""

    def __init__(self, return_url: str, answer: str) -> None:
        super().__init__()
        self.return_url, self.answer = return_url, answer


class PickingStale(Exception):
    """The page on which rooms are chosen is too old, was changed, or its LMS was let go meanwhile."""


class Placed(NamedTuple):
    """A room in an LMS course: the tie, and the course it leads to."""

    tie: Context
    course: Course


# --- where a link leads ------------------------------------------------------------------


def follow(main: Context, room: int, launch: Launch) -> Context:
    """Where a link leads whose room this LMS course has no tie for: it was copied here, or typed in.

    Never into the room it names, whose people are those of another LMS course. A copy of a link to that
    course's main room opens this one's; a copy of another link opens a course of its own, always the same.
    What is no room of the account's is ignored.
    """
    if not is_id(room):
        return main
    said = _is_said(main, launch)
    found = db.session.execute(
        select(Context, said)
        .where(Context.account_id == main.account_id, Context.room == room, Context.id != main.id)
        .order_by(case((said, 0), else_=1), Context.main.desc(), Context.id)
        .limit(1)
    ).first()
    if found is None:
        return main
    origin, is_said = found
    if origin.main:
        if main.copied_from_id is None:
            main.copied_from_id, main.offers_copy = origin.course_id, bool(is_said)
        return main
    course = add_course(main.account_id, launch.resource_link_title or main.title)
    tie = _tie(main, course, room=room)
    tie.copied_from_id, tie.offers_copy = origin.course_id, bool(is_said)
    db.session.flush()
    _record(tie, "course.copied", source="lms")
    return tie


def recognise(main: Context, launch: Launch) -> None:
    """Note of an LMS course seen for the first time what it is a copy of, if the LMS says."""
    if not launch.context_history and not launch.link_history:
        return
    origins = db.session.scalars(
        select(Context).where(
            Context.account_id == main.account_id, Context.main, Context.id != main.id, _is_said(main, launch)
        )
    ).all()
    # The newest copy's origin comes first; links are asked only where the course says nothing.
    ranks = {context_id: rank for rank, context_id in enumerate(launch.context_history)}
    origin = min(origins, key=lambda tie: (ranks.get(tie.context_id, len(ranks)), tie.id), default=None)
    if origin is not None:
        main.copied_from_id, main.offers_copy = origin.course_id, True


def _is_said(main: Context, launch: Launch) -> ColumnElement[bool]:
    """Does the LMS itself say that the launch's course or link is a copy of this tie's?"""
    return and_(
        Context.deployment_id == main.deployment_id,
        or_(
            Context.context_id.in_(launch.context_history),
            Context.resource_link_id.in_(launch.link_history),
        ),
    )


# --- placing -----------------------------------------------------------------------------


def find_main(account_id: int, tie_id: int) -> Context | None:
    """The main tie of an LMS course, locked: of two who place at once, one comes after the other."""
    return db.session.scalar(
        select(Context)
        .where(Context.id == tie_id, Context.account_id == account_id, Context.main)
        .with_for_update()
    )


def rooms_of(main: Context) -> list[Placed]:
    """The rooms that an LMS course has already, its main one in front."""
    rows = db.session.execute(
        select(Context, Course)
        .join(Course, Course.id == Context.course_id)
        .where(*_of_same(main))
        .order_by(Context.main.desc(), Course.name_key, Context.id)
    )
    return [Placed(*row) for row in rows]


def courses_to_place(
    main: Context, allowed: ColumnElement[bool], *, search: str = "", among: Sequence[int] | None = None
) -> Sequence[Course]:
    """Courses of the account whose rooms the LMS course has not, among those `allowed` (see access.py).

    One more than OFFERED, if there are more; `among` asks for these alone.
    """
    there = select(Context.id).where(
        *_of_same(main), or_(Context.course_id == Course.id, Context.room == Course.id)
    )
    query = (
        select(Course)
        .options(joinedload(Course.plan))
        .where(Course.account_id == main.account_id, allowed, ~there.exists())
        .order_by(Course.name_key, Course.id)
        .limit(OFFERED + 1)
    )
    if among is not None:
        query = query.where(Course.id.in_(among))
    if search.strip():
        query = query.where(Course.name_key.contains(fold(search), autoescape=True))
    return db.session.scalars(query).all()


def place(main: Context, course: Course, *, by: User) -> Context:
    """Tie a course's room to an LMS course too: its people come on the course's roster."""
    tie = _tie(main, course, room=course.id)
    db.session.flush()
    _join(main, tie, by)
    _record(tie, "room.placed", by=by)
    return tie


def open_room(main: Context, name: str, *, form: str, by: User) -> Placed:
    """A new room in an LMS course; `form`, sent again, finds the one it made."""
    made = db.session.execute(
        select(Context, Course)
        .join(Course, Course.id == Context.course_id)
        .where(*_of_same(main), Context.placed_in == form)
    ).first()
    if made is not None:
        return Placed(*made)
    course = add_course(main.account_id, name, by=by)
    tie = _tie(main, course, room=course.id)
    tie.placed_in = form
    db.session.flush()
    _join(main, tie, by)
    _record(tie, "room.placed", by=by)
    return Placed(tie, course)


def _of_same(main: Context) -> tuple[ColumnElement[bool], ...]:
    """Ties of the same LMS course."""
    return Context.deployment_id == main.deployment_id, Context.context_id == main.context_id


def _tie(main: Context, course: Course, *, room: int) -> Context:
    tie = Context(
        account_id=main.account_id,
        course_id=course.id,
        deployment_id=main.deployment_id,
        context_id=main.context_id,
        title=main.title,
        label=main.label,
        memberships_url=main.memberships_url,
        main=False,
        room=room,
    )
    db.session.add(tie)
    return tie


def _join(main: Context, tie: Context, user: User) -> None:
    """Who places a room is in it at once, as what the LMS course's last word says."""
    own = db.session.scalar(
        select(Enrollment).where(
            Enrollment.context_id == main.id, Enrollment.user_id == user.id, Enrollment.ended_at.is_(None)
        )
    )
    if own is None:
        return
    db.session.add(
        Enrollment(
            account_id=tie.account_id,
            course_id=tie.course_id,
            user_id=user.id,
            context_id=tie.id,
            source=Source.LMS,
            subject=own.subject,
            role=own.role,
            launch_role=own.launch_role,
            launch_roles=own.launch_roles,
            role_unsaid=own.role_unsaid,
        )
    )


def _record(tie: Context, action: str, *, by: User | None = None, source: str = "") -> None:
    audit.record(
        tie.account_id,
        action,
        f"course:{tie.course_id}",
        by=by,
        source=source,
        after={"lms_course": tie.title, "room": tie.room, "copied_from": tie.copied_from_id},
    )
