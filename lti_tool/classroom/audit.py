"""The audit log: who did what to whom, before and after. Never tokens, addresses or message bodies."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.classroom.accounts import User
from lti_tool.database import Base, db, now


class AuditEvent(Base):
    """One thing that happened in an account."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_list", "account_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    # None: the system or an LMS did it; `source` says which.
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    source: Mapped[str] = mapped_column(default="")
    # For example "plan.given", "user.invited", "role.changed".
    action: Mapped[str]
    # What it was done to, as "user:12" or "course:3".
    target: Mapped[str] = mapped_column(index=True)
    before: Mapped[Any | None] = mapped_column(JSON)
    after: Mapped[Any | None] = mapped_column(JSON)


def record(
    account_id: int,
    action: str,
    target: str,
    *,
    by: User | None = None,
    source: str = "",
    before: Any = None,
    after: Any = None,
) -> None:
    """Add one event to this transaction."""
    db.session.add(
        AuditEvent(
            account_id=account_id,
            actor_id=by.id if by else None,
            source=source,
            action=action,
            target=target,
            before=before,
            after=after,
        )
    )
