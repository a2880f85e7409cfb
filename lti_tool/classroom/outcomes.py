"""Refused launches, for whoever looks after an LMS: a row for each reason, with how often and when.

Forgeries are free, so they must not fill anything: the same reason again only counts, few are written a
minute, and nothing that came with the request is kept, only our own codes.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import ForeignKey, UniqueConstraint, and_, delete, func, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.classroom.accounts import Account, Connection, Tenancy
from lti_tool.database import Base, db, insert, now
from lti_tool.lti.refusal import LaunchRefused, Refusal
from lti_tool.lti.registrations import Deployment, Registration

# Rows kept of one registration.
KEPT = 50
# Writes a minute, in each process: of one registration and reason, and of one registration.
MOST_OF_ONE, MOST = 5, 30
# What a platform's own error may be called (OpenID Connect core 3.1.2.6, RFC 6749 4.1.2.1). Other words
# in its place are whatever somebody posted.
_KNOWN_ERRORS = {
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "launch_no_longer_valid",
    "login_required",
    "request_not_supported",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_response_type",
}
_PLATFORMS_OWN = {
    Refusal.PLATFORM_LOGIN_REQUIRED,
    Refusal.PLATFORM_DENIED,
    Refusal.PLATFORM_LAUNCH_EXPIRED,
    Refusal.PLATFORM_ERROR,
}


class LaunchOutcome(Base):
    """Why launches of a registration were refused, how often, and when last."""

    __tablename__ = "launch_outcome"
    __table_args__ = (UniqueConstraint("registration_id", "deployment_id", "code", "detail"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    registration_id: Mapped[int] = mapped_column(ForeignKey("registration.id", ondelete="CASCADE"))
    # The platform's id of a deployment that we know; empty where none was said that we do.
    deployment_id: Mapped[str] = mapped_column(default="")
    code: Mapped[str]
    # The name of a claim, or a reason; never a value.
    detail: Mapped[str] = mapped_column(default="")
    times: Mapped[int] = mapped_column(default=1)
    first_at: Mapped[datetime] = mapped_column(default=now)
    at: Mapped[datetime] = mapped_column(default=now)
    # Seconds by which the platform's clock was ahead of ours, where a signed message showed it.
    clock_offset: Mapped[float | None]


def note_refusal(refused: LaunchRefused) -> bool:
    """Remember a refused launch of a registration that we know; whether anything was written."""
    registration_id, deployment_id = refused.known
    if registration_id is None:
        return False
    detail = refused.detail
    if refused.code in _PLATFORMS_OWN and detail not in _KNOWN_ERRORS:
        detail = ""
    return note(registration_id, deployment_id, refused.code.value, detail, refused.clock_offset)


def note(
    registration_id: int,
    deployment_id: str,
    code: str,
    detail: str = "",
    clock_offset: float | None = None,
) -> bool:
    """Remember why a launch was refused, unless too many were just now; whether anything was written."""
    if not _may_write(registration_id, code):
        return False
    row = {
        "registration_id": registration_id,
        "deployment_id": deployment_id,
        "code": code,
        "detail": detail[:200],
        "times": 1,
        "first_at": now(),
        "at": now(),
        "clock_offset": clock_offset,
    }
    known = select(Registration.id).filter_by(id=registration_id)
    if db.session.scalar(known) is None:
        # Removed since the login.
        return False
    table = LaunchOutcome.__table__
    said = insert(table).values(row)
    db.session.execute(
        said.on_conflict_do_update(
            index_elements=["registration_id", "deployment_id", "code", "detail"],
            set_={"times": table.c.times + 1, "at": row["at"], "clock_offset": clock_offset},
        )
    )
    kept = (
        select(LaunchOutcome.id)
        .filter_by(registration_id=registration_id)
        .order_by(LaunchOutcome.at.desc(), LaunchOutcome.id.desc())
        .limit(KEPT)
    )
    db.session.execute(
        delete(LaunchOutcome)
        .where(LaunchOutcome.registration_id == registration_id, LaunchOutcome.id.not_in(kept))
        .execution_options(synchronize_session=False)
    )
    if clock_offset is not None:
        db.session.execute(
            update(Registration)
            .where(Registration.id == registration_id)
            .values(clock_offset=clock_offset, clock_seen_at=now())
            .execution_options(synchronize_session=False)
        )
    return True


@dataclass(slots=True)
class _Minute:
    """What was written since a minute began."""

    began: float = 0.0
    written: dict[tuple[int, str], int] = field(default_factory=dict)


def _may_write(registration_id: int, code: str) -> bool:
    minute: _Minute = current_app.extensions.setdefault("launch_outcomes", _Minute())
    at = time.monotonic()
    if at - minute.began >= 60 or not minute.began:
        minute.began, minute.written = at, {}
    for name, most in (((registration_id, code), MOST_OF_ONE), ((registration_id, ""), MOST)):
        if minute.written.get(name, 0) >= most:
            return False
    for name in ((registration_id, code), (registration_id, "")):
        minute.written[name] = minute.written.get(name, 0) + 1
    return True


def latest(
    account: Account, registration_ids: Iterable[int], *, since: datetime | None = None, limit: int = KEPT
) -> list[LaunchOutcome]:
    """Refusals of the account's own launches, newest first.

    Where several accounts share a registration, each sees those of its own deployments alone.
    """
    shared = (
        select(Connection.registration_id)
        .group_by(Connection.registration_id)
        .having(func.count(Connection.id) > 1)
    )
    own = (
        select(Deployment.registration_id, Deployment.deployment_id)
        .join(Tenancy, Tenancy.deployment_id == Deployment.id)
        .join(Connection, Connection.id == Tenancy.connection_id)
        .where(Connection.account_id == account.id)
    ).subquery()
    query: Any = (
        select(LaunchOutcome)
        .outerjoin(
            own,
            and_(
                own.c.registration_id == LaunchOutcome.registration_id,
                own.c.deployment_id == LaunchOutcome.deployment_id,
            ),
        )
        .where(
            LaunchOutcome.registration_id.in_(list(registration_ids)),
            or_(LaunchOutcome.registration_id.not_in(shared), own.c.deployment_id.is_not(None)),
        )
        .order_by(LaunchOutcome.at.desc(), LaunchOutcome.id.desc())
        .limit(limit)
    )
    return list(db.session.scalars(query.where(LaunchOutcome.at >= since) if since else query))
