"""The people of one course, page by page, as its roster shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Case, Select, case, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.courses import Course, Enrollment, Source, count_people
from lti_tool.database import db, fold, is_id

PAGE = 25


@dataclass(frozen=True)
class Listed:
    """One person of a course with every enrollment of theirs, those that hold in front."""

    user: User
    enrollments: tuple[Enrollment, ...]

    @property
    def subject(self) -> str:
        """What an LMS calls the person, for those who have no name; empty if none does."""
        return next((e.subject for e in self.enrollments if e.subject), "")

    @property
    def here(self) -> bool:
        """Is the person in the course now?"""
        return self.enrollments[0].ended_at is None

    @property
    def role(self) -> Role:
        """The highest role that holds; of those who left, the last they had."""
        counted = [e for e in self.enrollments if e.ended_at is None] or self.enrollments[:1]
        return max((e.role for e in counted), key=lambda role: role.rank)

    @property
    def disagreeing(self) -> Enrollment | None:
        """The enrollment for which launch and roster say different roles, if one does."""
        return next((e for e in self.enrollments if e.ended_at is None and e.roles_disagree), None)

    @property
    def invitation(self) -> Enrollment | None:
        """The enrollment by invitation that holds, if one does."""
        return next(
            (e for e in self.enrollments if e.ended_at is None and e.source is Source.INVITATION), None
        )

    @property
    def unsaid(self) -> bool:
        """Did the LMS name no course role that we know?"""
        return any(e.ended_at is None and e.role_unsaid for e in self.enrollments)


@dataclass(frozen=True)
class ListPage:
    """One page of a course's people: those in the course by name, then those who left."""

    people: Sequence[Listed]
    # How many are in the course now, whatever was searched for.
    total: int
    # Ids of users, as cursors; None: there is no such page.
    previous: int | None
    next: int | None


def list_people(
    course: Course, *, search: str = "", after: int | None = None, before: int | None = None
) -> ListPage:
    """The page after or before a person, or the first one. Two statements, however many people."""
    backward = after is None and before is not None
    cursor = before if backward else after
    if cursor is not None and not is_id(cursor):
        backward, cursor = False, None
    query = _found(course, search, cursor, backward=backward).limit(PAGE + 1)
    rows = db.session.execute(query).all()
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    if backward:
        rows = rows[::-1]
    users: list[User] = [row.User for row in rows]
    if not users:
        return ListPage((), count_people(course), None, None)
    return ListPage(
        _with_enrollments(course, users),
        rows[0].total,
        previous=users[0].id if (more if backward else cursor is not None) else None,
        next=users[-1].id if (backward or more) else None,
    )


def _found(course: Course, search: str, cursor: int | None, *, backward: bool) -> Select[tuple[User, int]]:
    left = func.min(case((Enrollment.ended_at.is_(None), 0), else_=1))
    held = (
        select(Enrollment.user_id, left.label("left"))
        .where(Enrollment.course_id == course.id)
        .group_by(Enrollment.user_id)
        .cte("held")
    )
    # A preview account is listed and never counted.
    counted = aliased(User)
    total = (
        select(func.count())
        .select_from(held.join(counted, counted.id == held.c.user_id))
        .where(held.c.left == 0, counted.is_test.is_(False))
        .correlate(None)
        .scalar_subquery()
    )
    query = (
        select(User, total.label("total"))
        .join(held, held.c.user_id == User.id)
        # Whoever was merged into somebody else is listed as that person.
        .where(User.merged_into_id.is_(None))
    )
    wish = fold(search)
    if wish:
        query = query.where(
            or_(
                User.name_key.contains(wish, autoescape=True),
                User.email_key.contains(wish, autoescape=True),
            )
        )
    # Those without a name come after those with one.
    place = (held.c.left, _nameless(User), User.name_key, User.id)
    if cursor is not None:
        other, theirs = aliased(User), held.alias("theirs")
        there = (
            select(theirs.c.left, _nameless(other).label("nameless"), other.name_key, other.id)
            .join(other, other.id == theirs.c.user_id)
            .where(theirs.c.user_id == cursor)
            .subquery()
        )
        bound = tuple_(there.c.left, there.c.nameless, there.c.name_key, there.c.id)
        query = query.join(there, tuple_(*place) < bound if backward else tuple_(*place) > bound)
    return query.order_by(*(column.desc() if backward else column.asc() for column in place))


def _nameless(user: type[User]) -> Case[int]:
    return case((user.name_key == "", 1), else_=0)


def _with_enrollments(course: Course, users: Sequence[User]) -> list[Listed]:
    enrollments: dict[int, list[Enrollment]] = {}
    for one in db.session.scalars(
        select(Enrollment)
        .where(Enrollment.course_id == course.id, Enrollment.user_id.in_([user.id for user in users]))
        .order_by(Enrollment.ended_at.is_not(None), Enrollment.ended_at.desc(), Enrollment.id)
    ):
        enrollments.setdefault(one.user_id, []).append(one)
    return [Listed(user, tuple(enrollments[user.id])) for user in users if user.id in enrollments]
