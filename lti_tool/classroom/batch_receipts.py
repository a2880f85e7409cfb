"""Reading batches that somebody said yes to, and taking back what they changed."""

from collections.abc import Sequence

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import joinedload

from lti_tool.classroom import batches
from lti_tool.classroom.accounts import User
from lti_tool.classroom.batches import Batch, BatchRow, BatchState, Deed
from lti_tool.database import db, is_id

# Batches on one page of the list.
PAGE = 25
# What takes a deed back; changing a role is its own opposite.
OPPOSITE = {
    Deed.ADD_TO_COURSE: Deed.REMOVE_FROM_COURSE,
    Deed.REMOVE_FROM_COURSE: Deed.ADD_TO_COURSE,
    Deed.CHANGE_ROLE: Deed.CHANGE_ROLE,
}


def undo(batch: Batch, *, by: User) -> Batch | None:
    """A new batch that takes back what `batch` changed; None when nothing is left to take back."""
    if not can_be_undone(batch):
        return None
    undone = batches.add(batch.account, OPPOSITE.get(batch.deed, batch.deed), batch.terms, by=by)
    undone.undoes_id = batch.id
    rows = select(literal(undone.id), BatchRow.number, BatchRow.user_id, BatchRow.changed, literal("")).where(
        BatchRow.batch_id == batch.id, BatchRow.changed.is_not(None), BatchRow.user_id.is_not(None)
    )
    columns = ["batch_id", "number", "user_id", "words", "outcome"]
    db.session.execute(insert(BatchRow).from_select(columns, rows))
    batches.count_rows(undone)
    if not undone.total:
        return None
    batches.record(undone, "batch.undone", by=by)
    return undone


def can_be_undone(batch: Batch) -> bool:
    """Is the deed one that can be taken back, and still remembered?"""
    return batch.ended and batch.deed in OPPOSITE and batch.forgotten_at is None


def undone_by(batch: Batch) -> Batch | None:
    """The newest batch that takes this one back."""
    return db.session.scalar(
        select(Batch)
        .where(Batch.account_id == batch.account_id, Batch.undoes_id == batch.id)
        .order_by(Batch.id.desc())
        .limit(1)
    )


def list_batches(account_id: int, *, before: int | None = None, limit: int = PAGE) -> Sequence[Batch]:
    """The account's batches that somebody said yes to, newest first."""
    query = (
        select(Batch)
        .options(joinedload(Batch.by))
        .where(Batch.account_id == account_id, Batch.state != BatchState.DRAFT)
        .order_by(Batch.id.desc())
        .limit(limit)
    )
    return db.session.scalars(query.where(Batch.id < before) if before and is_id(before) else query).all()


def list_rows(
    batch: Batch, *, outcomes: Sequence[str] | None = None, after: int = 0, limit: int = 50
) -> Sequence[BatchRow]:
    """Rows in order, after one of them; of certain outcomes only, if any are named."""
    query = (
        select(BatchRow)
        .options(joinedload(BatchRow.user))
        .where(BatchRow.batch_id == batch.id, BatchRow.number > after)
        .order_by(BatchRow.number)
        .limit(limit)
    )
    return db.session.scalars(
        query if outcomes is None else query.where(BatchRow.outcome.in_(outcomes))
    ).all()
