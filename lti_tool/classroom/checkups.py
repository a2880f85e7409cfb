"""Checks of an account's LMSs: asked for, run by a job, and kept until the next one.

What a check does is doctor.py's; here is its row, so that a page can ask for one and wait without asking
the network itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, Text, and_, cast, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lti_tool.classroom.accounts import Connection, stored
from lti_tool.database import Base, db, insert, now, ring
from lti_tool.lti.registrations import Registration

# A check that said nothing for this long has lost its worker: one answer may take a minute.
SILENT_AFTER = timedelta(minutes=3)
MAX_ATTEMPTS = 3
# Asked for by the clock: how old a check may get, and how many begin in one sweep.
EVERY = timedelta(days=1)
AT_ONCE = 5


class CheckState(StrEnum):
    """Where a check stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Kind(StrEnum):
    """How much a finding matters."""

    GOOD = "good"
    LOOK = "look"
    MEND = "mend"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: a code, how much it matters, and the facts for its sentence."""

    code: str
    kind: Kind
    facts: dict[str, Any] = field(default_factory=dict)


class Checkup(Base):
    """The newest check of an account's LMS."""

    __tablename__ = "checkup"

    connection_id: Mapped[int] = mapped_column(
        ForeignKey("connection.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    state: Mapped[CheckState] = mapped_column(stored(CheckState), default=CheckState.QUEUED)
    asked_at: Mapped[datetime] = mapped_column(default=now)
    # Written with every step; silence means that the worker died.
    seen_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    # What is asked just now: "keys", "token", "grades", "rosters".
    step: Mapped[str] = mapped_column(default="")
    # Of the last check that ended; they stay while another one runs.
    found: Mapped[Any | None] = mapped_column(JSON)

    connection: Mapped[Connection] = relationship()

    @property
    def busy(self) -> bool:
        """Still to be run, or running?"""
        return self.state is not CheckState.DONE

    @property
    def findings(self) -> list[Finding]:
        """What was found, what matters most in front."""
        read = [Finding(one["code"], Kind(one["kind"]), one["facts"]) for one in self.found or ()]
        return sorted(read, key=lambda one: (Kind.MEND, Kind.LOOK, Kind.GOOD).index(one.kind))


# --- asking ------------------------------------------------------------------------------


def ask(connection: Connection) -> None:
    """Queue a check, unless one is under way."""
    table = Checkup.__table__
    again = {
        "state": CheckState.QUEUED,
        "asked_at": now(),
        "attempts": 0,
        "step": "",
        "seen_at": None,
    }
    db.session.execute(
        insert(table)
        .values(connection_id=connection.id, **again)
        .on_conflict_do_update(
            index_elements=["connection_id"], set_=again, where=table.c.state == CheckState.DONE
        )
    )
    ring("checks")


def ask_due() -> None:
    """Queue a check of every LMS that launches and was not checked for a day, a few at a time.

    One that was checked before anybody launched is due with its first launch: that shows more than a check.
    """
    due = (
        select(Connection)
        .join(Registration, Registration.id == Connection.registration_id)
        .outerjoin(Checkup, Checkup.connection_id == Connection.id)
        .where(
            Registration.last_launch_at.is_not(None),
            or_(
                Checkup.connection_id.is_(None),
                and_(
                    Checkup.state == CheckState.DONE,
                    or_(
                        Checkup.finished_at < now() - EVERY,
                        and_(
                            cast(Checkup.found, Text).contains("nobody_launched"),
                            Registration.clock_offset.is_not(None),
                        ),
                    ),
                ),
            ),
        )
        .order_by(Checkup.finished_at, Connection.id)
        .limit(AT_ONCE)
    )
    for connection in db.session.scalars(due).all():
        ask(connection)


def checkups(connections: Sequence[Connection]) -> dict[int, Checkup]:
    """Connection id → its newest check, in one statement."""
    ids = [connection.id for connection in connections]
    rows = db.session.scalars(select(Checkup).where(Checkup.connection_id.in_(ids)))
    return {row.connection_id: row for row in rows}


def find_checkup(connection: Connection) -> Checkup | None:
    """The newest check of this LMS, or None if there was none."""
    return db.session.get(Checkup, connection.id)


# --- running -----------------------------------------------------------------------------


def claim_next() -> Checkup | None:
    """Take the oldest queued check, or one whose worker died; the caller commits before it asks anybody."""
    open_ = or_(
        Checkup.state == CheckState.QUEUED,
        and_(Checkup.state == CheckState.RUNNING, Checkup.seen_at < now() - SILENT_AFTER),
    )
    chosen = (
        select(Checkup.connection_id)
        .where(open_)
        .order_by(Checkup.asked_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return db.session.scalar(
        update(Checkup)
        .where(Checkup.connection_id == chosen, open_)
        .values(state=CheckState.RUNNING, seen_at=now(), attempts=Checkup.attempts + 1, step="keys")
        .returning(Checkup)
        .execution_options(populate_existing=True, synchronize_session=False)
    )


def recover() -> None:
    """At the start of the only worker there is: what runs is a leftover."""
    db.session.execute(
        update(Checkup)
        .where(Checkup.state == CheckState.RUNNING)
        .values(state=CheckState.QUEUED)
        .execution_options(synchronize_session=False)
    )


def note_step(connection_id: int, attempt: int, step: str) -> None:
    """How far a check has come; also the sign that its worker lives."""
    db.session.execute(
        update(Checkup)
        .where(
            Checkup.connection_id == connection_id,
            Checkup.state == CheckState.RUNNING,
            Checkup.attempts == attempt,
        )
        .values(step=step, seen_at=now())
        .execution_options(synchronize_session=False)
    )


def is_lost(checkup: Checkup) -> bool:
    """Did its workers die again and again?"""
    return checkup.attempts > MAX_ATTEMPTS


def keep(connection_id: int, findings: Sequence[Finding]) -> None:
    """Keep what somebody found who did not wait for the queue."""
    done = {
        "state": CheckState.DONE,
        "finished_at": now(),
        "attempts": 0,
        "step": "",
        "found": [asdict(one) for one in findings],
    }
    db.session.execute(
        insert(Checkup.__table__)
        .values(connection_id=connection_id, asked_at=now(), **done)
        .on_conflict_do_update(index_elements=["connection_id"], set_=done)
    )


def finish(connection_id: int, attempt: int, findings: Sequence[Finding]) -> bool:
    """Keep what was found, if the check is still this worker's."""
    checkup = db.session.get(Checkup, connection_id, with_for_update=True, populate_existing=True)
    if checkup is None or checkup.state is not CheckState.RUNNING or checkup.attempts != attempt:
        return False
    checkup.state, checkup.finished_at, checkup.step = CheckState.DONE, now(), ""
    checkup.found = [asdict(one) for one in findings]
    return True
