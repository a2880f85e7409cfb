"""Plans on courses: which holds which, what lapses when, and moving a plan from one to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, select
from sqlalchemy.orm import joinedload

from lti_tool.classroom import courses
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Course
from lti_tool.classroom.plans import Plan
from lti_tool.database import db, fold, now

# A plan that ends within this time is pointed out.
SOON = timedelta(days=14)


@dataclass(frozen=True)
class Allotted:
    """A plan and the course that holds it, if one does."""

    plan: Plan
    course: Course | None

    @property
    def over(self) -> bool:
        """Has the plan ended?"""
        return self.plan.ends_at is not None and self.plan.ends_at <= now()

    @property
    def ends_soon(self) -> bool:
        """Does it hold now, and not much longer?"""
        return self.plan.in_force() and self.plan.ends_at is not None and self.plan.ends_at <= now() + SOON


def list_allotted(account_id: int) -> list[Allotted]:
    """Every plan of the account with its course, those that end first in front."""
    rows = db.session.execute(
        select(Plan, Course)
        .outerjoin(Course, Course.plan_id == Plan.id)
        .where(Plan.account_id == account_id)
        .order_by(Plan.ends_at.is_(None), Plan.ends_at, Plan.id)
    )
    return [Allotted(plan, course) for plan, course in rows]


def free_plans(account_id: int) -> list[Plan]:
    """Plans on no course that are in force or still to come."""
    return list(
        db.session.scalars(
            select(Plan)
            .outerjoin(Course, Course.plan_id == Plan.id)
            .where(
                Plan.account_id == account_id,
                Course.id.is_(None),
                (Plan.ends_at.is_(None)) | (Plan.ends_at > now()),
            )
            .order_by(Plan.ends_at.is_(None), Plan.ends_at, Plan.id)
        )
    )


def successor(expiring: Allotted, everything: Sequence[Allotted]) -> Plan | None:
    """The free plan that could take over when `expiring` ends: seats enough, and the fewest of those."""
    ends = expiring.plan.ends_at
    fitting = [
        one.plan
        for one in everything
        if one.course is None
        and one.plan.seats >= expiring.plan.seats
        and one.plan.in_force()
        and ends is not None
        and (one.plan.ends_at is None or one.plan.ends_at > ends)
    ]
    return min(fitting, key=lambda plan: (plan.seats, plan.id), default=None)


def courses_for(account_id: int, *, search: str = "", limit: int = 30) -> Sequence[Course]:
    """Courses a plan could go to: those that asked first, then those without a plan, by name."""
    query = (
        select(Course)
        .options(joinedload(Course.plan), joinedload(Course.asked_by))
        .where(Course.account_id == account_id)
        .order_by(
            case((Course.asked_at.is_not(None), 0), (Course.plan_id.is_(None), 1), else_=2),
            Course.name_key,
            Course.id,
        )
        .limit(limit)
    )
    if search.strip():
        query = query.where(Course.name_key.contains(fold(search), autoescape=True))
    return db.session.scalars(query).all()


def move(plan: Plan, course: Course, *, by: User) -> Course | None:
    """Give `plan` to `course`, taking it from the course that holds it; that course, if there was one.

    Raises PlanNotInForce, PlanTaken; nothing of it happens then, if the caller rolls back.
    """
    holder = db.session.scalar(
        select(Course)
        .filter_by(account_id=plan.account_id, plan_id=plan.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if holder is not None and holder.id == course.id:
        return None
    if holder is not None:
        courses.deactivate(holder, by=by)
    courses.activate(course, plan, by=by)
    return holder
