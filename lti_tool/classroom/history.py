"""Reading the audit log: newest first, filtered, a page at a time, with the names of what it is about.

A log of millions of events must not be read whole for one page. Each way to ask has its index; where
several hold (a person did it, or it was done to them) each answers for itself and the newest are merged.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, false, or_, select, true, tuple_, union_all

from lti_tool.classroom import directory
from lti_tool.classroom.accounts import User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course
from lti_tool.classroom.plans import Plan
from lti_tool.classroom.roster import lms_name
from lti_tool.database import db, is_id
from lti_tool.lti.registrations import Deployment, Registration

PAGE = 50
# How many people of one name are asked about together.
MOST_PEOPLE = 10
_CURSOR = re.compile(r"(\d{1,18})-(\d{1,10})\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wish:
    """Which events somebody wants to see."""

    # Done by or to any of them; None: whoever.
    people: tuple[int, ...] | None = None
    course_id: int | None = None
    # None: whatever was done.
    actions: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    # Cursors of a page; at most one of them is used.
    older: str = ""
    newer: str = ""


@dataclass(frozen=True)
class Names:
    """What the events of a page are about, by id; who or what is gone is not among them."""

    users: dict[int, User] = field(default_factory=dict)
    courses: dict[int, str] = field(default_factory=dict)
    plans: dict[int, str] = field(default_factory=dict)
    platforms: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Events:
    """One page of the log, newest first."""

    events: Sequence[AuditEvent]
    # Cursors of the neighbours; empty: there is none.
    older: str
    newer: str


def list_events(account_id: int, wish: Wish, *, limit: int = PAGE) -> Events:
    """One page of the account's log, in one statement."""
    cursor = _read_cursor(wish.older) or _read_cursor(wish.newer)
    upwards = cursor is not None and not _read_cursor(wish.older)
    found: list[AuditEvent] = list(
        db.session.scalars(_query(account_id, wish, cursor, upwards=upwards, limit=limit + 1))
    )
    more, found = len(found) > limit, found[:limit]
    if upwards:
        found.reverse()
    return Events(
        found,
        older=_cursor(found[-1]) if found and (more or upwards) else "",
        newer=_cursor(found[0]) if found and (more if upwards else cursor is not None) else "",
    )


def all_events(account_id: int, wish: Wish, *, step: int = 500) -> Iterator[Sequence[AuditEvent]]:
    """The whole filtered log in parts, newest first, none of it kept in memory."""
    page = list_events(account_id, replace(wish, older="", newer=""), limit=step)
    while page.events:
        yield page.events
        if not page.older:
            return
        page = list_events(account_id, replace(wish, older=page.older, newer=""), limit=step)


def _query(
    account_id: int, wish: Wish, cursor: tuple[datetime, int] | None, *, upwards: bool, limit: int
) -> Select[AuditEvent]:
    """The newest of each way, a page of each at most, by an index each; of those the newest."""
    by_time = (AuditEvent.at, AuditEvent.id)
    order = by_time if upwards else [column.desc() for column in by_time]
    everywhere = list(_everywhere(account_id, wish, cursor, upwards=upwards))
    ways = list(_ways(wish))
    if not ways:
        return select(AuditEvent).where(false())
    if len(ways) == 1:
        return select(AuditEvent).where(*ways, *everywhere).order_by(*order).limit(limit)
    parts = [
        select(AuditEvent.id).where(way, *everywhere).order_by(*order).limit(limit).subquery() for way in ways
    ]
    ids = union_all(*(select(part.c.id) for part in parts)).subquery()
    return select(AuditEvent).where(AuditEvent.id.in_(select(ids.c.id))).order_by(*order).limit(limit)


def _ways(wish: Wish) -> Iterator[ColumnElement[bool]]:
    """The ways by which an event may be one of those wished for; none finds what another finds."""
    if wish.people is not None:
        for one in wish.people:
            yield AuditEvent.actor_id == one
            # What somebody did to themselves would be found twice.
            yield and_(AuditEvent.target == f"user:{one}", AuditEvent.actor_id.is_distinct_from(one))
    elif wish.course_id is None and wish.actions is not None:
        for action in wish.actions:
            yield AuditEvent.action == action
    else:
        yield true()


def _everywhere(
    account_id: int, wish: Wish, cursor: tuple[datetime, int] | None, *, upwards: bool
) -> Iterator[ColumnElement[bool]]:
    """What holds for all that is found, by whichever way."""
    yield AuditEvent.account_id == account_id
    if cursor is not None:
        here, there = tuple_(AuditEvent.at, AuditEvent.id), tuple_(*cursor)
        yield here > there if upwards else here < there
    if wish.since is not None:
        yield AuditEvent.at >= wish.since
    if wish.until is not None:
        yield AuditEvent.at < wish.until
    if wish.course_id is not None:
        yield AuditEvent.course_id == wish.course_id
    if wish.actions is not None:
        yield AuditEvent.action.in_(wish.actions)


def _cursor(event: AuditEvent) -> str:
    return f"{(event.at - _EPOCH) // timedelta(microseconds=1)}-{event.id}"


def _read_cursor(text: str) -> tuple[datetime, int] | None:
    """The place a cursor names; None for an empty or mangled one."""
    found = _CURSOR.match(text)
    if found is None or not is_id(int(found[2])):
        return None
    try:
        return _EPOCH + timedelta(microseconds=int(found[1])), int(found[2])
    except OverflowError:
        return None


# --- names -------------------------------------------------------------------------------


def find_by_name(account_id: int, search: str) -> list[User]:
    """A few of those whose name or address holds what is searched for."""
    found = directory.matching_ids(account_id, directory.Wish(search=search)).limit(MOST_PEOPLE)
    return list(
        db.session.scalars(
            select(User)
            .where(User.account_id == account_id, User.id.in_(found.subquery().select()))
            .order_by(User.name_key, User.id)
        )
    )


def names_of(account_id: int, events: Iterable[AuditEvent]) -> Names:
    """Whom and what the events name, in one statement for each kind there is."""
    wanted: dict[str, set[int]] = {}
    for event in events:
        for kind, number in _mentions(event):
            wanted.setdefault(kind, set()).add(number)
    users, courses = wanted.get("user"), wanted.get("course")
    plans, registrations, deployments = (wanted.get(kind) for kind in ("plan", "registration", "deployment"))
    return Names(
        users=_users(account_id, users) if users else {},
        courses=_course_names(account_id, courses) if courses else {},
        plans=_plan_names(account_id, plans) if plans else {},
        platforms=_platform_names(registrations or set(), deployments or set())
        if registrations or deployments
        else {},
    )


def _mentions(event: AuditEvent) -> Iterator[tuple[str, int]]:
    kind, _, number = event.target.partition(":")
    if number.isdigit():
        yield kind, int(number)
    if event.actor_id is not None:
        yield "user", event.actor_id
    if event.course_id is not None:
        yield "course", event.course_id
    for said in (event.before, event.after):
        for key, value in said.items() if isinstance(said, dict) else ():
            if type(value) is int and key in _KINDS:
                yield _KINDS[key], value


# What a number beside such a word in before and after is the id of.
_KINDS = {
    "course": "course",
    "origin": "course",
    "copied_from": "course",
    "plan": "plan",
    "user": "user",
    "merged": "user",
    "into": "user",
    "registration": "registration",
}


def _users(account_id: int, ids: set[int]) -> dict[int, User]:
    return {
        user.id: user
        for user in db.session.scalars(select(User).where(User.account_id == account_id, User.id.in_(ids)))
    }


def _course_names(account_id: int, ids: set[int]) -> dict[int, str]:
    rows = db.session.execute(
        select(Course.id, Course.name).where(Course.account_id == account_id, Course.id.in_(ids))
    )
    return {row.id: row.name for row in rows}


def _plan_names(account_id: int, ids: set[int]) -> dict[int, str]:
    rows = db.session.execute(
        select(Plan.id, Plan.name).where(Plan.account_id == account_id, Plan.id.in_(ids))
    )
    return {row.id: row.name for row in rows}


def _platform_names(registrations: set[int], deployments: set[int]) -> dict[int, str]:
    """Registration id → name; a deployment's is kept under its own id, negative."""
    rows = db.session.execute(
        select(Registration, Deployment.id)
        .outerjoin(
            Deployment, and_(Deployment.registration_id == Registration.id, Deployment.id.in_(deployments))
        )
        .where(or_(Registration.id.in_(registrations), Deployment.id.is_not(None)))
    )
    named: dict[int, str] = {}
    for registration, deployment_id in rows:
        named[registration.id] = lms_name(registration)
        if deployment_id is not None:
            named[-deployment_id] = lms_name(registration)
    return named
