"""Plans: bought slots, each of which makes one course active while it is in force."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Account, User
from lti_tool.database import Base, db, is_id, now


class Plan(Base):
    """One slot: seats (people in the room at once) from a moment until another."""

    __tablename__ = "plan"
    __table_args__ = (
        UniqueConstraint("account_id", "id"),
        CheckConstraint("seats > 0", name="seats"),
        Index("ix_plan_list", "account_id", "ends_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    name: Mapped[str]
    seats: Mapped[int]
    starts_at: Mapped[datetime]
    # None: without end.
    ends_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)

    def in_force(self, at: datetime | None = None) -> bool:
        """Does the plan hold now, or at a moment?"""
        at = at or now()
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)


def grant(
    account: Account,
    *,
    seats: int,
    starts_at: datetime | None = None,
    until: datetime | None = None,
    name: str = "",
    by: User | None = None,
) -> Plan:
    """A new plan for `account`, free until a course gets it."""
    plan = Plan(
        account_id=account.id,
        name=name or f"{seats} seats",
        seats=seats,
        starts_at=starts_at or now(),
        ends_at=until,
    )
    db.session.add(plan)
    db.session.flush()
    audit.record(account.id, "plan.granted", f"plan:{plan.id}", by=by, after={"seats": seats})
    return plan


def find_plan(account_id: int, plan_id: int) -> Plan | None:
    """A plan of this account; another account's is None."""
    if not is_id(plan_id):
        return None
    return db.session.scalar(select(Plan).filter_by(account_id=account_id, id=plan_id))


def list_plans(account_id: int) -> list[Plan]:
    """Every plan of the account, those that end first in front."""
    return list(
        db.session.scalars(
            select(Plan)
            .filter_by(account_id=account_id)
            .order_by(Plan.ends_at.is_(None), Plan.ends_at, Plan.id)
        )
    )
