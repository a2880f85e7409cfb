"""Finding people: the users list with its search, filters, order and pages; courses to choose from."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Select, case, func, literal, select, tuple_
from sqlalchemy.orm import joinedload

from lti_tool.classroom.accounts import Account, Role, Status, User
from lti_tool.classroom.courses import Course, Enrollment, instructors_of
from lti_tool.database import db, fold

PAGE = 25
# Counting on would cost more than the number is worth.
COUNT_LIMIT = 10_000


class Order(StrEnum):
    """What the list can be sorted by."""

    NAME = "name"
    EMAIL = "email"
    ROLE = "role"
    STATUS = "status"


@dataclass(frozen=True)
class Wish:
    """Whom somebody wants to see, in which order, and from where on."""

    search: str = ""
    role: Role | None = None
    status: Status | None = None
    course_id: int | None = None
    order: Order = Order.NAME
    descending: bool = False
    # Cursors of a page; at most one of them is used.
    after: str = ""
    before: str = ""


@dataclass(frozen=True)
class People:
    """One page of the list."""

    users: Sequence[User]
    # User id → (name of the first course, how many courses).
    courses: dict[int, tuple[str, int]]
    # How many there are in all; `or_more` when counting stopped at COUNT_LIMIT.
    total: int
    or_more: bool
    # Which number the first one has; 0 when there is none.
    start: int
    next: str
    previous: str

    @property
    def end(self) -> int:
        """Which number the last one has."""
        return self.start + len(self.users) - 1 if self.users else 0


_RANKS = case({role.value: role.rank for role in Role}, value=User.role)


def _keys(order: Order) -> list[tuple[ColumnElement[Any], type]]:
    """The columns that decide the order, with their types, ending with one that is unique."""
    ends: list[tuple[Any, type]] = [(User.name_key, str), (User.id, int)]
    if order is Order.EMAIL:
        return [(cast(Any, User.email_key), str), ends[1]]
    if order is Order.ROLE:
        return [(_RANKS, int), *ends]
    if order is Order.STATUS:
        return [(cast(Any, User.status), str), *ends]
    return ends


def _key_of(user: User, order: Order) -> list[str | int]:
    """Where `user` stands in the order: the values of `_keys`."""
    if order is Order.EMAIL:
        return [user.email_key, user.id]
    if order is Order.ROLE:
        return [user.role.rank, user.name_key, user.id]
    if order is Order.STATUS:
        return [user.status.value, user.name_key, user.id]
    return [user.name_key, user.id]


def find_people(account_id: int, wish: Wish) -> People:
    """One page of the account's people, by keyset: it costs the same however far one has gone."""
    query = _matching(account_id, wish)
    counted = select(literal(1)).select_from(query.limit(COUNT_LIMIT + 1).subquery())
    total = db.session.scalar(select(func.count()).select_from(counted.subquery())) or 0
    keys = [column for column, _ in _keys(wish.order)]
    backwards = False
    start = 1
    cursor = _read_cursor(wish.after or wish.before, wish.order)
    if cursor is not None:
        values, start = cursor
        backwards = not wish.after
        upwards = wish.descending == backwards
        here, there = tuple_(*keys), tuple_(*(literal(value) for value in values))
        query = query.where(here > there if upwards else here < there)
    upwards = wish.descending == backwards
    query = query.order_by(*(key.asc() if upwards else key.desc() for key in keys)).limit(PAGE + 1)
    users = list(db.session.scalars(query))
    more, users = len(users) > PAGE, users[:PAGE]
    if backwards:
        users.reverse()
        start = max(1, start - len(users)) if more else 1
    has_next = bool(users) and (more or backwards)
    has_previous = bool(users) and (more if backwards else cursor is not None)
    return People(
        users=users,
        courses=_courses_in_short([user.id for user in users]),
        total=min(total, COUNT_LIMIT),
        or_more=total > COUNT_LIMIT,
        start=start if users else 0,
        next=_cursor(_key_of(users[-1], wish.order), start + len(users)) if has_next else "",
        previous=_cursor(_key_of(users[0], wish.order), start) if has_previous else "",
    )


def _matching(account_id: int, wish: Wish) -> Select[User]:
    query = select(User).where(User.account_id == account_id, User.is_test.is_(False))
    for word in fold(wish.search).split():
        query = query.where(
            User.name_key.contains(word, autoescape=True) | User.email_key.contains(word, autoescape=True)
        )
    if wish.role is Role.ADMIN:
        query = query.where(User.role.in_([Role.ADMIN, Role.OWNER]))
    elif wish.role is not None:
        query = query.where(User.role == wish.role)
    if wish.status is not None:
        query = query.where(User.status == wish.status)
    if wish.course_id is not None:
        query = query.where(
            select(Enrollment.id)
            .where(
                Enrollment.account_id == account_id,
                Enrollment.user_id == User.id,
                Enrollment.course_id == wish.course_id,
                Enrollment.ended_at.is_(None),
            )
            .exists()
        )
    return query


def _cursor(key: list[str | int], start: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([*key, start])).decode().rstrip("=")


def _read_cursor(text: str, order: Order) -> tuple[list[str | int], int] | None:
    """The place a cursor names; None for one that is empty, or that no page of this order gave out."""
    if not text:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        *values, start = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=list[str | int])
    except (ValueError, msgspec.DecodeError):
        return None
    if [type(value) for value in values] != [kind for _, kind in _keys(order)] or not isinstance(start, int):
        return None
    sane = all(abs(value) < 2**31 if isinstance(value, int) else "\x00" not in value for value in values)
    return (values, start) if sane and 0 < start < 2**31 else None


def _courses_in_short(user_ids: Sequence[int]) -> dict[int, tuple[str, int]]:
    """User id → (name of their first course, how many), in one statement."""
    enrolled = (
        select(Enrollment.user_id, Enrollment.course_id)
        .where(Enrollment.user_id.in_(user_ids), Enrollment.ended_at.is_(None))
        .distinct()
        .subquery()
    )
    ranked = (
        select(
            enrolled.c.user_id,
            Course.name,
            func.count().over(partition_by=enrolled.c.user_id).label("number"),
            func.row_number()
            .over(partition_by=enrolled.c.user_id, order_by=(Course.name_key, Course.id))
            .label("place"),
        )
        .join(Course, Course.id == enrolled.c.course_id)
        .subquery()
    )
    rows = db.session.execute(
        select(ranked.c.user_id, ranked.c.name, ranked.c.number).where(ranked.c.place == 1)
    )
    return {user_id: (name, number) for user_id, name, number in rows}


def course_names(account: Account, *, among: int | None = None, limit: int = 300) -> list[tuple[int, str]]:
    """(id, name) of the account's courses to filter by; the one chosen now is always there."""
    first = (
        select(Course.id)
        .where(Course.account_id == account.id)
        .order_by(Course.name_key, Course.id)
        .limit(limit)
        .subquery()
    )
    rows = db.session.execute(
        select(Course.id, Course.name)
        .where(
            Course.account_id == account.id,
            Course.id.in_(select(first.c.id)) | (Course.id == (among or 0)),
        )
        .order_by(Course.name_key, Course.id)
    )
    return [(row.id, row.name) for row in rows]


@dataclass(frozen=True)
class Choice:
    """A course as one chooses it: told apart by who teaches it."""

    id: int
    name: str
    active: bool
    instructors: str


def course_choices(
    account_id: int, *, search: str = "", chosen: Sequence[int] = (), limit: int = 200
) -> list[Choice]:
    """Courses to choose from by name, those chosen already among them."""
    query = select(Course).options(joinedload(Course.plan)).where(Course.account_id == account_id)
    for word in fold(search).split():
        query = query.where(Course.name_key.contains(word, autoescape=True))
    held = list(db.session.scalars(query.order_by(Course.name_key, Course.id).limit(limit)))
    absent = set(chosen) - {course.id for course in held}
    if absent:
        held += db.session.scalars(
            select(Course)
            .options(joinedload(Course.plan))
            .where(Course.account_id == account_id, Course.id.in_(absent))
        )
    teachers = instructors_of([course.id for course in held])
    return [
        Choice(course.id, course.name, course.active, ", ".join(teachers.get(course.id, [])))
        for course in held
    ]


def find_courses(account_id: int, ids: Sequence[int]) -> list[Course]:
    """Those courses of the account, by name; other ids are left out."""
    if not ids:
        return []
    return list(
        db.session.scalars(
            select(Course)
            .where(Course.account_id == account_id, Course.id.in_(ids))
            .order_by(Course.name_key, Course.id)
        )
    )


def count_courses(user: User) -> int:
    """How many courses somebody is in now."""
    return (
        db.session.scalar(
            select(func.count(func.distinct(Enrollment.course_id))).where(
                Enrollment.user_id == user.id, Enrollment.ended_at.is_(None)
            )
        )
        or 0
    )
