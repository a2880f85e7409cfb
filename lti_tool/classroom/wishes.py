"""Whom somebody wants to see of the account's people, in which order, and from where on."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, literal, or_, select, true, tuple_

from lti_tool.classroom.accounts import Identity, Role, Status, User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.search import Word, holds, words_of


class Order(StrEnum):
    """What the list can be sorted by."""

    NAME = "name"
    EMAIL = "email"
    ROLE = "role"
    STATUS = "status"
    SEEN = "seen"


class Standing(StrEnum):
    """How somebody stands with the account: a `Status`, unless an admin shut them out."""

    PENDING = "pending"
    REGISTERED = "registered"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Wish:
    """Whom somebody wants to see, in which order, and from where on."""

    search: str = ""
    role: Role | None = None
    status: Standing | None = None
    course_id: int | None = None
    # Where the account knows them from: an LMS that sent or listed them (its registration's id), an
    # invitation, or a course they were put on by hand. Somebody may be known from several.
    source: Source | int | None = None
    order: Order = Order.NAME
    descending: bool = False
    # Cursors of a page; at most one of them is used.
    after: str = ""
    before: str = ""

    @cached_property
    def words(self) -> list[Word]:
        """What is searched for."""
        return words_of(self.search)

    @property
    def narrows(self) -> bool:
        """Is this not simply everybody?"""
        return bool(self.words or self.role or self.status or self.course_id or self.source)


# --- who matches -------------------------------------------------------------------------


def everybody(account_id: int) -> ColumnElement[bool]:
    """Those whom the list shows at all."""
    return and_(User.account_id == account_id, User.listed)


def has_role(row: Any, role: Role | None) -> ColumnElement[bool]:
    """Whose role is asked for; owners are admins too."""
    if role is None:
        return true()
    if role is Role.ADMIN:
        return cast(ColumnElement[bool], row.role.in_([Role.ADMIN, Role.OWNER]))
    return cast(ColumnElement[bool], row.role == role)


def stands(row: Any, standing: Standing | None) -> ColumnElement[bool]:
    """Who stands so with the account."""
    if standing is None:
        return true()
    if standing is Standing.BLOCKED:
        return cast(ColumnElement[bool], row.blocked_at.is_not(None))
    return and_(row.status == Status(standing.value), row.blocked_at.is_(None))


def in_course(course_id: int) -> Select[Any]:
    """User ids of those who are in the course now; some twice."""
    return select(Enrollment.user_id).where(Enrollment.course_id == course_id, Enrollment.ended_at.is_(None))


def known_from(account_id: int, source: Source | int) -> list[Select[Any]]:
    """User ids of those who are known from there, in parts; some twice."""
    known = select(Identity.user_id).where(Identity.account_id == account_id)
    if source is Source.LMS:
        return [known]
    if not isinstance(source, Source):
        return [known.where(Identity.registration_id == source)]
    enrolled = select(Enrollment.user_id).where(
        Enrollment.account_id == account_id,
        Enrollment.source == source,
        Enrollment.ended_at.is_(None),
        # What the index of these is made of: it leaves out the many that LMSs say.
        Enrollment.context_id.is_(None),
    )
    if source is Source.MANUAL:
        return [enrolled]
    # An admin is invited to no course.
    invited = select(Invitation.user_id).where(
        Invitation.account_id == account_id, Invitation.user_id.is_not(None)
    )
    return [enrolled, invited]


def matches(account_id: int, wish: Wish, row: Any) -> list[ColumnElement[bool]]:
    """Everything but the account that makes somebody match, asked of a row with the columns of User."""
    conditions = [holds(row, word) for word in wish.words]
    if wish.role is not None:
        conditions.append(has_role(row, wish.role))
    if wish.status is not None:
        conditions.append(stands(row, wish.status))
    if wish.course_id is not None:
        conditions.append(_is_among(row, in_course(wish.course_id)))
    if wish.source is not None:
        conditions.append(or_(*(_is_among(row, part) for part in known_from(account_id, wish.source))))
    return conditions


def _is_among(row: Any, ids: Select[Any]) -> ColumnElement[bool]:
    (user_id,) = ids.selected_columns
    return ids.where(user_id == row.id).exists()


# --- in which order ----------------------------------------------------------------------


def segments(order: Order) -> list[ColumnElement[bool]]:
    """The order's parts, one after the other; each lies in one index by `keys`."""
    if order is Order.ROLE:
        return [User.role == role for role in Role]
    if order is Order.STATUS:
        return [stands(User, standing) for standing in Standing]
    if order is Order.SEEN:
        return [User.last_seen_at.is_(None), User.last_seen_at.is_not(None)]
    return [true()]


def segment_of(user: User, order: Order) -> int:
    """Which of `segments` somebody is in."""
    if order is Order.ROLE:
        return user.role.rank
    if order is Order.STATUS:
        standing = Standing(user.status.value) if user.blocked_at is None else Standing.BLOCKED
        return list(Standing).index(standing)
    return int(order is Order.SEEN and user.last_seen_at is not None)


def segment_rank(order: Order) -> ColumnElement[int]:
    """The number of the segment, in SQL."""
    parts = segments(order)
    if len(parts) == 1:
        return literal(0)
    return case(*((part, literal(i)) for i, part in enumerate(parts[:-1])), else_=literal(len(parts) - 1))


def keys(order: Order) -> list[Any]:
    """The columns that decide the order within a segment, ending with one that is unique."""
    first = {Order.EMAIL: User.email_key, Order.SEEN: User.last_seen_at}.get(order, User.name_key)
    return [first, User.id]


@dataclass(frozen=True)
class Place:
    """A place in the order: after, or before, somebody."""

    segment: int
    # The values of `keys`.
    values: tuple[Any, int]
    # Which number the one who is there has.
    start: int

    def beyond(self, columns: Sequence[Any], upwards: bool) -> ColumnElement[bool]:
        """Who comes after it within its segment, by the columns of `keys`."""
        first, last = columns
        here: Any = tuple_(first, last)
        there: Any = tuple_(literal(self.values[0], first.type), literal(self.values[1], last.type))
        if self.values[0] is None:
            here, there = last, literal(self.values[1], last.type)
        return cast(ColumnElement[bool], here > there if upwards else here < there)


def cursor(user: User, order: Order, start: int) -> str:
    """How an address names the place of somebody who has the number `start`."""
    first = {Order.EMAIL: user.email_key, Order.SEEN: user.last_seen_at}.get(order, user.name_key)
    value = first.isoformat() if isinstance(first, datetime) else first
    told = msgspec.json.encode([segment_of(user, order), value, user.id, start])
    return base64.urlsafe_b64encode(told).decode().rstrip("=")


def read_cursor(text: str, order: Order) -> Place | None:
    """The place a cursor names; None for one that is empty, or that no page of this order gave out."""
    if not text:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        told = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=tuple[int, str | None, int, int])
        segment, first, user_id, start = told
        value: Any = first
        if order is Order.SEEN and first is not None:
            value = datetime.fromisoformat(first)
            if value.tzinfo is None:
                return None
    except (ValueError, msgspec.DecodeError):
        return None
    sane = 0 <= segment < len(segments(order)) and 0 < user_id < 2**31 and 0 < start < 2**31
    # Only who was never seen has nothing to be sorted by.
    fits = (first is None) == (order is Order.SEEN and segment == 0)
    return Place(segment, (value, user_id), start) if sane and fits and "\0" not in (first or "") else None
