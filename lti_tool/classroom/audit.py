"""The audit log: who did what to whom, before and after. Never tokens, addresses or message bodies."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, update
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.classroom.accounts import User
from lti_tool.database import Base, db, now

# The source of what was done by somebody who has been deleted since.
BY_DELETED = "deleted"


class AuditEvent(Base):
    """One thing that happened in an account."""

    __tablename__ = "audit_event"
    # The log is read newest first, whole or by one of these; history.py asks so that an index answers.
    __table_args__ = (
        Index("ix_audit_event_list", "account_id", "at", "id"),
        Index("ix_audit_event_action", "account_id", "action", "at", "id"),
        Index("ix_audit_event_target", "target", "at", "id"),
        Index("ix_audit_event_actor", "actor_id", "at", "id"),
        Index("ix_audit_event_course", "course_id", "at", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    # None: the system or an LMS did it, or somebody deleted since; `source` says which.
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    source: Mapped[str] = mapped_column(default="")
    # For example "plan.given", "user.invited", "role.changed".
    action: Mapped[str]
    # What it was done to, as "user:12" or "course:3".
    target: Mapped[str]
    # The course it is about, if any. No foreign key: the log outlives courses.
    course_id: Mapped[int | None]
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
    """Add one event to this transaction. pages/audit_words.py has a sentence for each action."""
    db.session.add(
        AuditEvent(
            account_id=account_id,
            actor_id=by.id if by else None,
            source=source,
            action=action,
            target=target,
            course_id=course_of(target, before, after),
            before=before,
            after=after,
        )
    )


def course_of(target: str, before: Any, after: Any) -> int | None:
    """The course that an event is about, if any; for whoever writes many of them at once."""
    kind, _, number = target.partition(":")
    if kind == "course":
        return int(number)
    for said in (after, before):
        if isinstance(said, dict) and isinstance(said.get("course"), int):
            return int(said["course"])
    return None


def forget_actor(user: User) -> None:
    """Whoever is about to be deleted leaves no name, but "the system did it" would be wrong."""
    db.session.execute(
        update(AuditEvent)
        .where(AuditEvent.actor_id == user.id, AuditEvent.source == "")
        .values(source=BY_DELETED)
        .execution_options(synchronize_session=False)
    )
