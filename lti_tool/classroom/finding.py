"""How a page of very many people is found: the cheapest way that is complete."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)

from lti_tool.classroom import search, wishes
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.wishes import Order, Place, Standing, Wish
from lti_tool.database import db

PAGE = 25
# Counting on would cost more than the number is worth.
COUNT_LIMIT = 5_000
# So many are sorted sooner than others are read past.
FEW = 2_000
# Rows of an index that are read, at most, to fill a page.
WALK = 10_000
# One in so many of them tells whether the others are worth it: fewer than so many matches say no.
STEPS, HARDLY = 8, 7


@dataclass(frozen=True)
class Way:
    """What is looked for, from which place on and in which direction."""

    account_id: int
    wish: Wish
    place: Place | None
    upwards: bool

    def sorted(self, columns: Sequence[Any]) -> list[Any]:
        """`columns` as an order in this direction."""
        return [column.asc() if self.upwards else column.desc() for column in columns]


@dataclass(frozen=True)
class Found:
    users: list[User]
    total: int
    # Counting stopped before the end.
    or_more: bool = False


def find(way: Way) -> Found:
    """A page and one more, the cheapest way that is complete.

    Few in a course or from a source are sorted. Else the order's index is walked, and left after a page; it
    takes long only where hardly anybody matches, and these the search index names. A few steps tell which
    of the two it will be.
    """
    narrow = _narrow(way)
    if narrow is not None and _count_up_to(narrow, FEW + 1) <= FEW:
        return _sort(replace(way, wish=_beyond_narrow(way.wish)), User.id.in_(narrow))
    words = way.wish.words
    users, met = _walk(way, WALK // STEPS if words else WALK)
    if users is None and words:
        alone = _only_words(way)
        rare = search.rarely(way.account_id, words, WALK, alone=alone) if met < HARDLY else None
        if rare is not None:
            with search.by_index():
                return _sort(way, rare)
        users, met = _walk(way, WALK)
    if users is not None:
        return Found(users, *_count(way, narrow, len(users)))
    candidates = search.indexed(way.account_id, words)
    if candidates is not None:
        with search.by_index():
            return _sort(way, candidates)
    return _sort(way, User.id.in_(narrow) if narrow is not None else true())


def _only_words(way: Way) -> bool:
    """Is nothing but words asked of the rows that are walked along?"""
    rest = _base(way)[1]
    return rest is not None and not replace(rest, search="").narrows


def _narrow(way: Way) -> CompoundSelect[Any] | Select[Any] | None:
    """Ids among which everybody is who matches, if something but the words narrows and no index sorts it."""
    wish, mine = way.wish, wishes.everybody(way.account_id)
    if wish.course_id is not None:
        return wishes.in_course(wish.course_id)
    if wish.source is not None:
        parts = wishes.known_from(way.account_id, wish.source)
        return parts[0] if len(parts) == 1 else union_all(*parts)
    unsorted = wish.order in (Order.EMAIL, Order.SEEN)
    if wish.status is Standing.BLOCKED or (wish.status is not None and unsorted):
        return select(User.id).where(mine, wishes.stands(User, wish.status))
    if wish.role is Role.ADMIN or (wish.role is not None and unsorted):
        return select(User.id).where(mine, wishes.has_role(User, wish.role))
    return None


def _beyond_narrow(wish: Wish) -> Wish:
    """What is left to be asked of those in the course or from the source that `_narrow` names."""
    return replace(wish, course_id=None) if wish.course_id is not None else replace(wish, source=None)


def _count_up_to(ids: Select[Any] | CompoundSelect[Any], limit: int) -> int:
    return db.session.scalar(select(func.count()).select_from(ids.limit(limit).subquery())) or 0


def _sort(way: Way, among: ColumnElement[bool]) -> Found:
    """A page of all who match, after finding them all."""
    wish = way.wish
    # The + 0 keeps databases from walking the account's own indexes.
    mine = User.account_id + 0
    rank = wishes.segment_rank(wish.order)
    keys = wishes.keys(wish.order)
    everyone = (
        select(rank.label("segment"), *(key.label(name) for key, name in zip(keys, _KEYS, strict=True)))
        .where(mine == way.account_id, User.listed, among, *wishes.matches(way.account_id, wish, User))
        .cte("everyone")
    )
    segment, first, last = (everyone.c[name] for name in ("segment", *_KEYS))
    total = select(func.count()).select_from(everyone).scalar_subquery()
    page = select(segment, first, last, total.label("total"))
    if way.place is not None:
        here = way.place.segment
        further = segment > here if way.upwards else segment < here
        page = page.where(or_(further, and_(segment == here, way.place.beyond([first, last], way.upwards))))
    held = page.order_by(*way.sorted([segment, first, last])).limit(PAGE + 1).subquery()
    order = way.sorted([held.c[name] for name in ("segment", *_KEYS)])
    rows = db.session.execute(
        select(User, held.c.total).join(held, User.id == held.c[_KEYS[1]]).order_by(*order)
    ).all()
    return Found([row[0] for row in rows], rows[0][1] if rows else 0)


_KEYS = ("first", "last")


def _load(ids: Sequence[int]) -> list[User]:
    """These people, in this order."""
    by_id = {user.id: user for user in db.session.scalars(select(User).where(User.id.in_(ids)))}
    return [by_id[one] for one in ids if one in by_id]


def _walk(way: Way, steps: int) -> tuple[list[User] | None, int]:
    """A page, read along the index of the order; None when it was not full after so many rows. How many."""
    wish, place = way.wish, way.place
    columns = wishes.keys(wish.order)
    base, rest = _base(way)
    rows = [base.where(part) for part in wishes.segments(wish.order)]
    if place is not None:
        rows[place.segment] = rows[place.segment].where(place.beyond(columns, way.upwards))
    numbers = [number for number in range(len(rows)) if _can_be_in(way, number)]
    if not way.upwards:
        numbers.reverse()
    if not rest and len(numbers) == 1:
        page = rows[numbers[0]].with_only_columns(User).order_by(*way.sorted(columns)).limit(PAGE + 1)
        users = list(db.session.scalars(page))
        return users, len(users)
    parts, most = [], steps // max(len(numbers), 1) if rest else PAGE + 1
    # Counting few rows costs less than one more statement.
    at_once = rest is not None and (len(numbers) > 1 or bool(wish.words))

    def read_ids(number: int) -> Select[int]:
        # Sorted, so that PostgreSQL stays in the index: it would look for them all over the table.
        return rows[number].with_only_columns(User.id).order_by(*columns).limit(most)

    for number in numbers:
        read = rows[number].order_by(*way.sorted(columns)).limit(most).subquery()
        asked = wishes.matches(way.account_id, rest, read.c) if rest else []
        # They come as they are read: sorted once more, all of them would have to be read.
        held = select(literal(number).label("number"), read.c.id).where(*asked).limit(PAGE + 1).subquery()
        parts.append(select(held))
        if at_once:
            counted = read_ids(number).subquery()
            parts.append(select(literal(number), -func.count()).select_from(counted))
    if not parts:
        return [], 0
    found = [(row[0], row[1]) for row in db.session.execute(union_all(*parts) if parts[1:] else parts[0])]
    if rest and not at_once and len(found) <= PAGE:
        found.append((numbers[0], -_count_up_to(read_ids(numbers[0]), most)))
    ids: list[int] = []
    for number in numbers:
        ids += [one for place_of, one in found if place_of == number and one > 0]
        if len(ids) > PAGE:
            break
        if (number, -most) in found:
            return None, len(ids)
    users = _load(ids[: PAGE + 1])
    return users, len(users)


def _base(way: Way) -> tuple[Select[Any], Wish | None]:
    """What an index sorts, and what of the wish is left to be asked of each row."""
    wish = way.wish
    by_name = wish.order not in (Order.EMAIL, Order.SEEN)
    rest = replace(wish, after="", before="")
    base = select(*wishes.keys(wish.order)).where(wishes.everybody(way.account_id))
    # Where every second one matches, the list's own index, which has names and addresses, is read faster.
    if by_name and wish.role not in (None, Role.ADMIN) and not (wish.words and wish.role is Role.STUDENT):
        base, rest = base.where(wishes.has_role(User, wish.role)), replace(rest, role=None)
    elif by_name and wish.status is not None and (not wish.words or wish.status is not Standing.REGISTERED):
        base, rest = base.where(wishes.stands(User, wish.status)), replace(rest, status=None)
    if not rest.narrows:
        return base, None
    asked = [*(_OF_WORDS if rest.words else ()), *(_OF_FILTERS if rest.role or rest.status else ())]
    return base.add_columns(*(column for column in asked if column is not wishes.keys(wish.order)[0])), rest


_OF_WORDS = (User.name_key, User.email_key)
_OF_FILTERS = (User.role, User.status, User.blocked_at)


def _can_be_in(way: Way, segment: int) -> bool:
    """May this segment of the order have somebody who matches, from the place on?"""
    wish = way.wish
    if (
        way.place is not None
        and segment != way.place.segment
        and (segment > way.place.segment) != way.upwards
    ):
        return False
    if wish.order is Order.ROLE and wish.role is not None:
        role = list(Role)[segment]
        return role is wish.role or (wish.role is Role.ADMIN and role is Role.OWNER)
    if wish.order is Order.STATUS and wish.status is not None:
        return list(Standing)[segment] is wish.status
    return True


def _count(way: Way, narrow: Select[Any] | CompoundSelect[Any] | None, found: int) -> tuple[int, bool]:
    """How many match, and whether there are more: counting stops where it would take longer than the page."""
    if way.place is None and found <= PAGE:
        return found, False
    wish = replace(way.wish, order=Order.NAME)
    limit = min(WALK, COUNT_LIMIT + 1)
    fits: ColumnElement[Any]
    if narrow is not None and (wish.course_id or wish.source) and not wish.words:
        others = _beyond_narrow(wish)
        read = narrow.limit(limit).subquery()
        user_id = read.c[0]
        # One by one: for a join PostgreSQL would read the whole table.
        fits = (
            select(User.id)
            .where(User.id == user_id, wishes.everybody(way.account_id))
            .where(*wishes.matches(way.account_id, others, User))
            .scalar_subquery()
        )
        counted = select(func.count(), func.count(fits.distinct())).select_from(read)
    else:
        base, rest = _base(replace(way, wish=wish))
        if not rest:
            return _count_up_to(base.order_by(*wishes.keys(Order.NAME)), COUNT_LIMIT + 1), False
        read = base.order_by(*wishes.keys(Order.NAME)).limit(limit).subquery()
        fits = case((and_(*wishes.matches(way.account_id, rest, read.c)), 1))
        counted = select(func.count(), func.count(fits)).select_from(read)
    rows, total = db.session.execute(counted).one()
    return total, rows == limit
