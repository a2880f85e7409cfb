"""Long work on many people: what was asked, what became of each row, and how far it has come.

A page writes the rows, a job works through them a part at a time. A row's outcome is written in the
transaction that does its deed, so a worker that dies leaves a row done or not done, never half.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    Select,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Account, User, stored
from lti_tool.database import Base, db, now, ring

# A batch that said nothing for this long has lost its worker.
SILENT_AFTER = timedelta(minutes=3)
# After so many workers that got nothing done in a row, what waits is given up.
MOST_STALLS = 5
# People of one batch. Writing more rows at once would keep SQLite's other writers waiting too long.
MOST_PEOPLE = 50_000
# A draft that nobody says yes to is forgotten.
DRAFT_KEPT = timedelta(days=7)
# What lists said, and what a batch changed, is remembered so long after its end; until then it can be undone.
WORDS_KEPT = timedelta(days=30)
BATCH_KEPT = timedelta(days=180)
# Finished batches that one sweep forgets; the next comes in a minute.
_SWEPT_AT_ONCE = 5


class Deed(StrEnum):
    """What is done to each row's person."""

    INVITE = "invite"
    INVITE_AGAIN = "invite_again"
    ADD_TO_COURSE = "add_to_course"
    REMOVE_FROM_COURSE = "remove_from_course"
    CHANGE_ROLE = "change_role"
    DELETE = "delete"


class BatchState(StrEnum):
    """`draft`: shown, and waits for a person's yes. `stopped`: what was not done stays undone."""

    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class Batch(Base):
    """One deed that somebody wants done to many people."""

    __tablename__ = "batch"
    __table_args__ = (
        Index("ix_batch_list", "account_id", "id"),
        Index("ix_batch_state", "state"),
        Index("ix_batch_ended_at", "ended_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    deed: Mapped[Deed] = mapped_column(stored(Deed))
    state: Mapped[BatchState] = mapped_column(stored(BatchState))
    # What holds for every row, as {"role": "student", "courses": [3]}.
    terms: Mapped[Any] = mapped_column(JSON, default=dict)
    total: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    # Written with every part; silence means that the worker died.
    seen_at: Mapped[datetime | None]
    # How often a worker took it: whoever took it last may write.
    attempts: Mapped[int] = mapped_column(default=0)
    # How often since a part was last done.
    stalls: Mapped[int] = mapped_column(default=0)
    # The batch whose changes this one takes back.
    undoes_id: Mapped[int | None] = mapped_column(ForeignKey("batch.id", ondelete="SET NULL"), index=True)
    # Outcome → rows, once it is over.
    outcomes: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    # When the words of its rows were forgotten.
    forgotten_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship()
    by: Mapped[User | None] = relationship()

    @property
    def busy(self) -> bool:
        """Still to be worked through, or just now?"""
        return self.state in (BatchState.QUEUED, BatchState.RUNNING)

    @property
    def ended(self) -> bool:
        """Worked through, or stopped after it began?"""
        return self.state in (BatchState.DONE, BatchState.STOPPED)

    def terms_of(self, row: "BatchRow") -> dict[str, Any]:
        """What holds for one row: its own words over those of all."""
        return {**self.terms, **(row.words or {})}


class BatchRow(Base):
    """One person of a batch."""

    __tablename__ = "batch_row"
    __table_args__ = (Index("ix_batch_row_outcome", "batch_id", "outcome", "number"),)

    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id", ondelete="CASCADE"), primary_key=True)
    # As people count: of a list that was uploaded, its line.
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    # What an uploaded list says, as {"name": …, "email": …}, or what an undo brings back; forgotten with
    # the batch.
    words: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    # A code; empty while it waits.
    outcome: Mapped[str] = mapped_column(default="")
    # Of an uploaded list: what would become of the row, as a draft shows it.
    verdict: Mapped[str] = mapped_column(default="")
    # What the deed changed, so that it can be taken back.
    changed: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))

    user: Mapped[User | None] = relationship()


def add(account: Account, deed: Deed, terms: dict[str, Any], *, by: User, draft: bool = False) -> Batch:
    """A new batch without rows."""
    batch = Batch(
        account_id=account.id,
        by_id=by.id,
        deed=deed,
        state=BatchState.DRAFT if draft else BatchState.QUEUED,
        terms=terms,
    )
    db.session.add(batch)
    db.session.flush()
    if not draft:
        ring("batches")
    return batch


def fill(batch: Batch, people: Select[Any]) -> None:
    """Give a new batch its rows: the users of `people`, a selection of ids, by name; at most MOST_PEOPLE.

    Another account's people are left out. `people` selects from the users.
    """
    among = people.where(User.account_id == batch.account_id).order_by(None).subquery()
    place = func.row_number().over(order_by=(User.name_key, User.id))
    rows = (
        select(literal(batch.id), place, User.id, literal(""))
        .where(User.id.in_(select(among.c[0])))
        .order_by(User.name_key, User.id)
        .limit(MOST_PEOPLE)
    )
    columns = ["batch_id", "number", "user_id", "outcome"]
    db.session.execute(insert(BatchRow).from_select(columns, rows))
    count_rows(batch)


def count_rows(batch: Batch) -> None:
    """Note how many rows there are, once all are written."""
    batch.total = (
        db.session.scalar(select(func.count()).select_from(BatchRow).where(BatchRow.batch_id == batch.id))
        or 0
    )


def find(account_id: int, batch_id: int) -> Batch | None:
    """A batch of this account; another account's is None."""
    return db.session.scalar(
        select(Batch)
        .options(joinedload(Batch.by))
        .where(Batch.account_id == account_id, Batch.id == batch_id)
    )


def confirm(batch: Batch, *, by: User | None = None, terms: dict[str, Any] | None = None) -> bool:
    """A person's yes to a draft; False if it was given, or the batch stopped, already.

    Who says yes is whose rights count. `terms`, if given, take the place of the draft's.
    """
    values: dict[str, Any] = {"state": BatchState.QUEUED}
    if terms is not None:
        values["terms"] = terms
    if by is not None:
        values["by_id"] = by.id
    confirmed = db.session.execute(
        update(Batch)
        .where(Batch.id == batch.id, Batch.state == BatchState.DRAFT)
        .values(values)
        .returning(Batch.id)
        .execution_options(synchronize_session=False)
    ).first()
    if confirmed is None:
        return False
    db.session.refresh(batch)
    record(batch, "batch.started", by=batch.by)
    ring("batches")
    return True


def record(batch: Batch, action: str, *, by: User | None) -> None:
    """Note in the audit log what was asked for many; what became of each person is noted there as well."""
    audit.record(
        batch.account_id,
        action,
        f"batch:{batch.id}",
        by=by,
        after={"deed": batch.deed, "people": batch.total, **_plain(batch.terms)},
    )


def _plain(terms: dict[str, Any]) -> dict[str, Any]:
    """Terms as the log keeps them: codes and ids, no words that somebody wrote."""
    return {key: terms[key] for key in ("role", "courses") if key in terms}


def stop(batch: Batch, *, by: User) -> bool:
    """What is not done yet stays undone; False if nothing was left to stop."""
    stopped = db.session.execute(
        update(Batch)
        .where(Batch.id == batch.id, Batch.state.in_([BatchState.QUEUED, BatchState.RUNNING]))
        .values(state=BatchState.STOPPED, ended_at=now())
        .returning(Batch.id)
        .execution_options(synchronize_session=False)
    ).first()
    db.session.refresh(batch)
    if stopped is None:
        return False
    batch.outcomes = count_outcomes(batch)
    record(batch, "batch.stopped", by=by)
    return True


def claim_next() -> Batch | None:
    """Take the next batch for this worker; the caller commits before it works."""
    due = or_(
        Batch.state == BatchState.QUEUED,
        (Batch.state == BatchState.RUNNING) & (Batch.seen_at < now() - SILENT_AFTER),
    )
    chosen = (
        select(Batch.id)
        .where(due)
        .order_by(Batch.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return db.session.scalar(
        update(Batch)
        .where(Batch.id == chosen, due)
        .values(
            state=BatchState.RUNNING,
            attempts=Batch.attempts + 1,
            stalls=Batch.stalls + 1,
            seen_at=now(),
            started_at=func.coalesce(Batch.started_at, now()),
        )
        .returning(Batch)
        .execution_options(populate_existing=True, synchronize_session=False)
    )


def still_mine(batch_id: int, attempt: int) -> Batch | None:
    """The batch, locked, unless it was stopped or taken for dead and given to another worker."""
    return db.session.scalar(
        select(Batch)
        .filter_by(id=batch_id, attempts=attempt, state=BatchState.RUNNING)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def waiting_rows(batch: Batch, limit: int) -> Sequence[BatchRow]:
    """The next rows without an outcome, in order."""
    return db.session.scalars(
        select(BatchRow)
        .where(BatchRow.batch_id == batch.id, BatchRow.outcome == "")
        .order_by(BatchRow.number)
        .limit(limit)
    ).all()


def refuse_rest(batch: Batch, outcome: str) -> None:
    """Whatever waits gets this outcome."""
    db.session.execute(
        update(BatchRow)
        .where(BatchRow.batch_id == batch.id, BatchRow.outcome == "")
        .values(outcome=outcome)
        .execution_options(synchronize_session=False)
    )


def note_part(batch: Batch) -> bool:
    """A part is worked through; was it the last one?"""
    db.session.flush()
    batch.seen_at, batch.stalls = now(), 0
    left = select(BatchRow.number).where(BatchRow.batch_id == batch.id, BatchRow.outcome == "").limit(1)
    if db.session.scalar(left) is not None:
        return False
    batch.state, batch.ended_at, batch.outcomes = BatchState.DONE, now(), count_outcomes(batch)
    return True


def recover() -> None:
    """What a dead worker had claimed is due again at once; only for a worker that is alone."""
    db.session.execute(
        update(Batch)
        .where(Batch.state == BatchState.RUNNING)
        .values(state=BatchState.QUEUED)
        .execution_options(synchronize_session=False)
    )


def sweep() -> None:
    """Forget drafts that nobody wanted, words that are old, and batches that are older still."""
    stale = select(Batch.id).where(Batch.state == BatchState.DRAFT, Batch.created_at < now() - DRAFT_KEPT)
    old = select(Batch.id).where(Batch.ended_at < now() - BATCH_KEPT)
    wordy = select(Batch.id).where(Batch.ended_at < now() - WORDS_KEPT, Batch.forgotten_at.is_(None))
    for over in (stale, old):
        db.session.execute(
            delete(Batch)
            .where(Batch.id.in_(db.session.scalars(over.limit(_SWEPT_AT_ONCE)).all()))
            .execution_options(synchronize_session=False)
        )
    for batch_id in db.session.scalars(wordy.limit(_SWEPT_AT_ONCE)).all():
        db.session.execute(
            update(BatchRow)
            .where(BatchRow.batch_id == batch_id)
            .values(words=null(), changed=null())
            .execution_options(synchronize_session=False)
        )
        db.session.execute(
            update(Batch)
            .where(Batch.id == batch_id)
            .values(forgotten_at=now())
            .execution_options(synchronize_session=False)
        )


def release(batch_id: int, attempt: int) -> None:
    """A part could not be written; whoever comes next tries it again."""
    db.session.execute(
        update(Batch)
        .where(Batch.id == batch_id, Batch.attempts == attempt, Batch.state == BatchState.RUNNING)
        .values(state=BatchState.QUEUED)
        .execution_options(synchronize_session=False)
    )


def count_outcomes(batch: Batch) -> dict[str, int]:
    """Outcome → number of rows; "" are those that wait."""
    rows = db.session.execute(
        select(BatchRow.outcome, func.count().label("rows"))
        .where(BatchRow.batch_id == batch.id)
        .group_by(BatchRow.outcome)
    )
    return {row.outcome: row.rows for row in rows}
