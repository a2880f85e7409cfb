"""Courses, the LMS courses they stand for (Context), who is in them (Enrollment), and their plan."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Account, Role, User, stored
from lti_tool.classroom.plans import Plan
from lti_tool.database import Base, db, fold, is_id, now, once
from lti_tool.lti.registrations import Deployment


class PlanTaken(Exception):
    """The plan is on another course already."""


class PlanNotInForce(Exception):
    """The plan is over."""


class Source(StrEnum):
    """Where an enrollment comes from."""

    LMS = "lms"
    INVITATION = "invitation"
    MANUAL = "manual"


class Course(Base):
    """A course with a live room. Active while it holds a plan that is in force."""

    __tablename__ = "course"
    __table_args__ = (
        UniqueConstraint("account_id", "id"),
        UniqueConstraint("plan_id"),
        ForeignKeyConstraint(["account_id", "plan_id"], ["plan.account_id", "plan.id"]),
        Index("ix_course_list", "account_id", "name_key", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    name: Mapped[str]
    name_key: Mapped[str]
    # At most 150 and 500 characters.
    summary: Mapped[str] = mapped_column(default="")
    description: Mapped[str] = mapped_column(default="")
    plan_id: Mapped[int | None]
    # When an instructor last asked for a plan, and who.
    asked_at: Mapped[datetime | None]
    asked_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)

    account: Mapped[Account] = relationship()
    plan: Mapped[Plan | None] = relationship(
        foreign_keys="Course.plan_id", primaryjoin="Course.plan_id == Plan.id", overlaps="account"
    )
    asked_by: Mapped[User | None] = relationship(foreign_keys="Course.asked_by_id")

    @property
    def active(self) -> bool:
        """Does the course hold a plan that is in force?"""
        return self.plan is not None and self.plan.in_force()


class Context(Base):
    """The tie between an LMS course and a course of ours, and where its roster is asked for.

    An LMS course has one main tie, and one more for each other room that was placed in it.
    """

    __tablename__ = "context"
    __table_args__ = (
        UniqueConstraint("deployment_id", "context_id", "room"),
        UniqueConstraint("deployment_id", "context_id", "course_id"),
        # What hangs on a tie names its course too, so that it follows when the tie moves.
        UniqueConstraint("id", "course_id"),
        Index(
            "uq_context_main",
            "deployment_id",
            "context_id",
            unique=True,
            sqlite_where=text("main"),
            postgresql_where=text("main"),
        ),
        ForeignKeyConstraint(
            ["account_id", "course_id"], ["course.account_id", "course.id"], ondelete="CASCADE"
        ),
        Index("ix_context_course", "course_id"),
        Index("ix_context_room", "account_id", "room"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    course_id: Mapped[int]
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id", ondelete="CASCADE"))
    # The platform's `context.id`; unique only within its deployment.
    context_id: Mapped[str]
    title: Mapped[str] = mapped_column(default="")
    label: Mapped[str] = mapped_column(default="")
    # From the last launch; a roster can be fetched without one.
    memberships_url: Mapped[str] = mapped_column(default="")
    resource_link_id: Mapped[str] = mapped_column(default="")
    # The gradebook: its line items, the last launched link's one, and what we may do there.
    lineitems_url: Mapped[str] = mapped_column(default="")
    lineitem_url: Mapped[str] = mapped_column(default="")
    service_scopes: Mapped[Any | None] = mapped_column(JSON)
    last_launch_at: Mapped[datetime | None]
    # Launches that name no room come here.
    main: Mapped[bool] = mapped_column(default=True)
    # The course that links name which lead here. It stays when the tie moves and when links are copied.
    room: Mapped[int] = mapped_column(default=lambda row: row.get_current_parameters()["course_id"])
    # The deep linking form that made the room, so that sending it twice makes one.
    placed_in: Mapped[str] = mapped_column(default="")
    # Where the tie led before an admin moved it.
    moved_from_id: Mapped[int | None] = mapped_column(ForeignKey("course.id", ondelete="SET NULL"))
    # The course whose LMS course or link this is a copy of. While `offers_copy`, its staff may take over
    # what it says: the LMS itself says that it is a copy, and nobody has answered yet.
    copied_from_id: Mapped[int | None] = mapped_column(ForeignKey("course.id", ondelete="SET NULL"))
    offers_copy: Mapped[bool] = mapped_column(default=False)

    course: Mapped[Course] = relationship(
        foreign_keys="Context.course_id", primaryjoin="Context.course_id == Course.id"
    )
    deployment: Mapped[Deployment] = relationship()
    moved_from: Mapped[Course | None] = relationship(foreign_keys="Context.moved_from_id")
    copied_from: Mapped[Course | None] = relationship(foreign_keys="Context.copied_from_id")


class Enrollment(Base):
    """A user in a course, once per source; ended, never deleted.

    What a person may do follows from the highest role among their enrollments that have not ended.
    """

    __tablename__ = "enrollment"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "course_id"], ["course.account_id", "course.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["account_id", "user_id"], ["user.account_id", "user.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["context_id", "course_id"],
            ["context.id", "context.course_id"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
        CheckConstraint("(source = 'lms') = (context_id IS NOT NULL)", name="lms_has_context"),
        Index(
            "uq_enrollment_lms",
            "context_id",
            "user_id",
            unique=True,
            sqlite_where=text("context_id IS NOT NULL"),
            postgresql_where=text("context_id IS NOT NULL"),
        ),
        Index(
            "uq_enrollment_other",
            "course_id",
            "user_id",
            "source",
            unique=True,
            sqlite_where=text("context_id IS NULL"),
            postgresql_where=text("context_id IS NULL"),
        ),
        Index("ix_enrollment_course", "course_id", "user_id", "ended_at"),
        # Who was not put there by an LMS: few beside the others.
        Index(
            "ix_enrollment_source",
            *("account_id", "source", "user_id", "ended_at"),
            sqlite_where=text("context_id IS NULL"),
            postgresql_where=text("context_id IS NULL"),
        ),
        Index("ix_enrollment_user", "user_id", "ended_at"),
        # For deleting whoever added people; those from an LMS were added by nobody.
        Index(
            "ix_enrollment_added_by",
            "added_by_id",
            sqlite_where=text("added_by_id IS NOT NULL"),
            postgresql_where=text("added_by_id IS NOT NULL"),
        ),
        Index(
            "ix_enrollment_over",
            "account_id",
            "ended_at",
            sqlite_where=text("ended_at IS NOT NULL"),
            postgresql_where=text("ended_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    course_id: Mapped[int]
    user_id: Mapped[int]
    role: Mapped[Role] = mapped_column(stored(Role))
    source: Mapped[Source] = mapped_column(stored(Source))
    since: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]
    added_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))

    # Only for source `lms`: who the platform says it is, and as what. The higher of the two roles
    # holds; the raw role URIs stay beside our reading of them.
    context_id: Mapped[int | None]
    subject: Mapped[str | None]
    launch_role: Mapped[Role | None] = mapped_column(stored(Role))
    launch_roles: Mapped[Any | None] = mapped_column(JSON)
    roster_role: Mapped[Role | None] = mapped_column(stored(Role))
    roster_roles: Mapped[Any | None] = mapped_column(JSON)
    # The platform said no role that we know: enrolled as student, and staff are told.
    role_unsaid: Mapped[bool] = mapped_column(default=False)
    # SHA-256 of the member row last applied: the same row again writes nothing.
    digest: Mapped[str | None]

    user: Mapped[User] = relationship(
        foreign_keys="Enrollment.user_id", primaryjoin="Enrollment.user_id == User.id", viewonly=True
    )
    course: Mapped[Course] = relationship(
        foreign_keys="Enrollment.course_id", primaryjoin="Enrollment.course_id == Course.id", viewonly=True
    )

    @property
    def roles_disagree(self) -> bool:
        """Do launch and roster say different roles?"""
        return None not in (self.launch_role, self.roster_role) and self.launch_role != self.roster_role


def add_course(
    account_id: int, name: str, *, summary: str = "", description: str = "", by: User | None = None
) -> Course:
    """A new, inactive course."""
    course = Course(
        account_id=account_id, name=name, name_key=fold(name), summary=summary, description=description
    )
    db.session.add(course)
    db.session.flush()
    if by is not None:
        audit.record(account_id, "course.added", f"course:{course.id}", by=by, after={"name": name})
    return course


def describe(course: Course, *, name: str, summary: str, description: str, by: User) -> None:
    """Change what the directory says of a course."""
    before = {"name": course.name, "summary": course.summary, "description": course.description}
    after = {"name": name, "summary": summary, "description": description}
    if before == after:
        return
    course.name, course.name_key = name, fold(name)
    course.summary, course.description = summary, description
    audit.record(
        course.account_id, "course.described", f"course:{course.id}", by=by, before=before, after=after
    )


def find_course(account_id: int, course_id: int) -> Course | None:
    """A course of this account; another account's is None."""
    if not is_id(course_id):
        return None
    return db.session.scalar(_FIND_COURSE, {"account": account_id, "course": course_id})


_FIND_COURSE = select(Course).where(
    Course.account_id == bindparam("account"), Course.id == bindparam("course")
)


def find_by_plan(account_id: int, plan_id: int) -> Course | None:
    """The course that holds a plan."""
    return db.session.scalar(select(Course).filter_by(account_id=account_id, plan_id=plan_id))


def activate(course: Course, plan: Plan, *, by: User | None = None) -> None:
    """Give `course` a plan, atomically. Raises PlanTaken, PlanNotInForce (over; one to come is fine)."""
    if plan.ends_at is not None and plan.ends_at <= now():
        raise PlanNotInForce(plan.id)
    before = course.plan_id
    if before == plan.id:
        return
    taken = select(Course.id).where(Course.plan_id == plan.id)
    try:
        with db.session.begin_nested():
            # One statement decides: whoever comes second finds the plan taken.
            changed = db.session.execute(
                update(Course)
                .where(Course.id == course.id, ~taken.exists())
                .values(plan_id=plan.id, asked_at=None, asked_by_id=None)
                .returning(Course.id)
                .execution_options(synchronize_session=False)
            ).first()
    except IntegrityError:
        raise PlanTaken(plan.id) from None
    if changed is None:
        raise PlanTaken(plan.id)
    db.session.refresh(course)
    audit.record(
        course.account_id,
        "plan.given",
        f"course:{course.id}",
        by=by,
        before={"plan": before},
        after={"plan": plan.id},
    )


def deactivate(course: Course, *, by: User | None = None) -> None:
    """Free the course's plan; students find a closed door from now on."""
    if course.plan_id is None:
        return
    before = course.plan_id
    course.plan_id = None
    db.session.flush()
    audit.record(course.account_id, "plan.freed", f"course:{course.id}", by=by, before={"plan": before})


def ask_for_activation(course: Course, *, by: User) -> None:
    """An instructor asks the admins for a plan; asking twice is the same as once."""
    if course.asked_at is None:
        course.asked_at, course.asked_by_id = now(), by.id
        audit.record(course.account_id, "plan.asked", f"course:{course.id}", by=by)


def role_in(course: Course, user: User) -> Role | None:
    """The highest role among the user's enrollments that have not ended, or None."""

    def find() -> Role | None:
        asked = {"course": course.id, "user": user.id}
        return max(db.session.scalars(_ROLES_IN, asked), key=lambda role: role.rank, default=None)

    # A page asks at every button.
    return cast(Role | None, once(("role in", course.id, user.id), find))


_ROLES_IN = select(Enrollment.__table__.c.role).where(
    Enrollment.course_id == bindparam("course"),
    Enrollment.user_id == bindparam("user"),
    Enrollment.ended_at.is_(None),
)


def count_people(course: Course) -> int:
    """How many people are on the course's list now; a preview account is never counted."""
    return (
        db.session.scalar(
            select(func.count(func.distinct(Enrollment.user_id)))
            .join(User, User.id == Enrollment.user_id)
            .where(Enrollment.course_id == course.id, Enrollment.ended_at.is_(None), User.is_test.is_(False))
        )
        or 0
    )


def courses_of(user: User) -> list[tuple[Course, Role]]:
    """The user's courses with their role, by name."""
    rows = db.session.execute(
        select(Course, Enrollment.role)
        .options(joinedload(Course.plan))
        .join(Enrollment, Enrollment.course_id == Course.id)
        .where(Enrollment.user_id == user.id, Enrollment.ended_at.is_(None))
        .order_by(Course.name_key, Course.id)
    ).all()
    best: dict[int, tuple[Course, Role]] = {}
    for course, role in rows:
        held = best.get(course.id)
        if held is None or role.rank > held[1].rank:
            best[course.id] = (course, role)
    return list(best.values())


def list_courses(account_id: int, *, search: str = "", limit: int | None = None) -> Sequence[Course]:
    """The account's courses by name; `search` is looked for anywhere in the name."""
    query = (
        select(Course)
        .options(joinedload(Course.plan), joinedload(Course.asked_by))
        .where(Course.account_id == account_id)
        .order_by(Course.name_key, Course.id)
    )
    if search.strip():
        query = query.where(Course.name_key.contains(fold(search), autoescape=True))
    return db.session.scalars(query.limit(limit)).all()


def instructors_of(course_ids: Sequence[int]) -> dict[int, list[str]]:
    """Course id → names of its instructors, in one statement."""
    rows = db.session.execute(
        select(Enrollment.course_id, User.name, User.email)
        .join(User, User.id == Enrollment.user_id)
        .where(
            Enrollment.course_id.in_(course_ids),
            Enrollment.role == Role.INSTRUCTOR,
            Enrollment.ended_at.is_(None),
        )
        .distinct()
        .order_by(Enrollment.course_id, User.name, User.email)
    )
    names: dict[int, list[str]] = {}
    for course_id, name, email in rows:
        names.setdefault(course_id, []).append(name or email)
    return names
