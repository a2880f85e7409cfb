"""Finding people: the users list with its search, filters, order and pages; courses to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import (
    Select,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.orm import joinedload

from lti_tool.classroom import finding, search, wishes
from lti_tool.classroom.accounts import Account, Connection, User
from lti_tool.classroom.courses import Course, Enrollment, instructors_of
from lti_tool.classroom.wishes import Wish as Wish
from lti_tool.database import among, db, fold
from lti_tool.lti.registrations import Registration


@dataclass(frozen=True)
class People:
    """One page of the list."""

    users: Sequence[User]
    # User id → (name of the first course, how many courses).
    courses: dict[int, tuple[str, int]]
    # How many there are in all; `or_more` when counting stopped at finding.COUNT_LIMIT.
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


def find_people(account_id: int, wish: Wish) -> People:
    """One page of the account's people, by keyset: it costs the same however far one has gone."""
    place = wishes.read_cursor(wish.after or wish.before, wish.order)
    backwards = place is not None and not wish.after
    way = finding.Way(account_id, wish, place, upwards=wish.descending == backwards)
    found = finding.find(way)
    more, users = len(found.users) > finding.PAGE, found.users[: finding.PAGE]
    start = place.start if place is not None else 1
    if backwards:
        users.reverse()
        start = max(1, start - len(users)) if more else 1
    has_next = bool(users) and (more or backwards)
    has_previous = bool(users) and (more if backwards else place is not None)
    people = People(
        users=users,
        courses=_courses_in_short([user.id for user in users]),
        total=min(found.total, finding.COUNT_LIMIT),
        or_more=found.or_more or found.total > finding.COUNT_LIMIT,
        start=start if users else 0,
        next=wishes.cursor(users[-1], wish.order, start + len(users)) if has_next else "",
        previous=wishes.cursor(users[0], wish.order, start) if has_previous else "",
    )
    return replace(people, total=max(people.total, people.end))


def matching_ids(account_id: int, wish: Wish) -> Select[int]:
    """The ids of everybody who matches, for work on all of them."""
    matching = select(User.id).where(wishes.everybody(account_id), *wishes.matches(account_id, wish, User))
    candidates = search.indexed(account_id, wish.words)
    return matching if candidates is None else matching.where(candidates)


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


def _courses_to_filter_by(account: Account, among: int | None) -> Select[int, str, str]:
    mine = select(Course.id).where(Course.account_id == account.id)
    first = mine.order_by(Course.name_key, Course.id).limit(300).subquery()
    chosen = Course.id.in_(select(first.c.id)) | (Course.id == (among or 0))
    return select(Course.id, Course.name, Course.name_key).where(Course.account_id == account.id, chosen)


def course_names(account: Account, *, among: int | None = None) -> list[tuple[int, str]]:
    """(id, name) of the account's courses to filter by; the one chosen now is always there."""
    courses = _courses_to_filter_by(account, among)
    return [(row.id, row.name) for row in db.session.execute(courses.order_by(Course.name_key, Course.id))]


def courses_and_platforms(account: Account, *, among: int | None) -> tuple[dict[int, str], dict[int, str]]:
    """`course_names`, and the same of the account's LMSs by the id of their registration."""
    courses = _courses_to_filter_by(account, among).add_columns(literal(0))
    platforms = (
        select(Registration.id, Registration.name, Registration.name, literal(1))
        .join(Connection, Connection.registration_id == Registration.id)
        .where(Connection.account_id == account.id)
    )
    found: tuple[dict[int, str], dict[int, str]] = ({}, {})
    rows = db.session.execute(union_all(courses, platforms)).all()
    for one, name, _, kind in sorted(rows, key=lambda row: (row[2], row[0])):
        found[kind][one] = name
    return found


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
            .where(Course.account_id == account_id, among(Course.id, absent))
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
            .where(Course.account_id == account_id, among(Course.id, ids))
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
