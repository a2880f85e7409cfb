"""A list of guests that waits for its yes: kept as the draft of a batch, its rows judged by verdicts.py."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ForeignKey, delete, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.classroom import batches
from lti_tool.classroom.accounts import Account, User
from lti_tool.classroom.batches import Batch, BatchRow, BatchState, Deed
from lti_tool.classroom.verdicts import REFUSED, Guest, Verdict
from lti_tool.database import Base, db, insert_many
from lti_tool.sealing import seal, unseal


class UploadedList(Base):
    """The text of a list until its yes or no; sealed, since it names people who may never be invited."""

    __tablename__ = "uploaded_list"

    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id", ondelete="CASCADE"), primary_key=True)
    sealed: Mapped[str]


# --- the draft ---------------------------------------------------------------------------


def begin(account: Account, text: str, terms: dict[str, Any], *, by: User) -> Batch:
    """A list that was read and waits to be judged."""
    batch = batches.add(account, Deed.INVITE, terms, by=by, draft=True)
    db.session.add(UploadedList(batch_id=batch.id, sealed=seal("list", text)))
    return batch


def waiting(account: Account, *, by: User) -> Sequence[Batch]:
    """Lists that `by` read in and that still wait for a yes, newest first."""
    return db.session.scalars(
        select(Batch)
        .join(UploadedList, UploadedList.batch_id == Batch.id)
        .where(Batch.account_id == account.id, Batch.by_id == by.id, Batch.state == BatchState.DRAFT)
        .order_by(Batch.id.desc())
        .limit(5)
    ).all()


def text_of(batch: Batch) -> str | None:
    """The draft's list as it was sent; None when it is forgotten."""
    sealed = db.session.scalar(select(UploadedList.sealed).filter_by(batch_id=batch.id))
    return unseal("list", sealed) if sealed is not None else None


def keep_judged(batch: Batch, guests: Sequence[Guest], terms: dict[str, Any]) -> bool:
    """Write down what becomes of each row; what an earlier choice of columns said is forgotten.

    False, and nothing is written, if the yes came meanwhile: rows that were refused would wait again.
    """
    still = select(Batch.id).where(Batch.id == batch.id, Batch.state == BatchState.DRAFT)
    if db.session.scalar(still.with_for_update()) is None:
        return False
    db.session.execute(
        delete(BatchRow).where(BatchRow.batch_id == batch.id).execution_options(synchronize_session=False)
    )
    insert_many(
        BatchRow.__table__,
        {
            "number": [guest.number for guest in guests],
            "verdict": [guest.verdict.value for guest in guests],
            "words": [_words(guest) for guest in guests],
            "user_id": [guest.known.id if guest.known else None for guest in guests],
        },
        {"batch_id": batch.id},
    )
    batch.terms, batch.total = terms, len(guests)
    return True


def _words(guest: Guest) -> dict[str, Any]:
    words: dict[str, Any] = {
        "name": guest.name,
        "email": guest.email,
        "role": guest.role_said or guest.role.value,
        "courses": list(guest.courses),
    }
    if guest.facts:
        words["facts"] = guest.facts
    if guest.course_said and guest.verdict in (*REFUSED, Verdict.FORMULA):
        words["course_said"] = guest.course_said
    return words


def tally(batch: Batch) -> dict[Verdict, int]:
    """Verdict → how many rows."""
    rows = db.session.execute(
        select(BatchRow.verdict, func.count().label("rows"))
        .where(BatchRow.batch_id == batch.id)
        .group_by(BatchRow.verdict)
    )
    return {Verdict(row.verdict): row.rows for row in rows if row.verdict}


def rows_of(batch: Batch, among: Collection[Verdict], *, after: int = 0, limit: int) -> Sequence[BatchRow]:
    """A page of the draft's rows in order, those with one of these verdicts (all, if none is named)."""
    query = select(BatchRow).where(BatchRow.batch_id == batch.id, BatchRow.number > after)
    if among:
        query = query.where(BatchRow.verdict.in_(among))
    return db.session.scalars(query.order_by(BatchRow.number).limit(limit)).all()


def confirm(batch: Batch, *, by: User, again: bool, formulas: bool) -> bool:
    """The yes, `by` somebody: rows that are not taken keep their reason as outcome; False if it was given.

    `again`: who is pending gets a fresh invitation; `formulas`: names that look like formulas were looked at.
    """
    if not batches.confirm(batch, by=by):
        return False
    batch.terms = {**batch.terms, "again": again, "formulas": formulas}
    left_out = [*REFUSED, Verdict.NOTHING, *([] if formulas else [Verdict.FORMULA])]
    db.session.execute(
        update(BatchRow)
        .where(BatchRow.batch_id == batch.id, BatchRow.verdict.in_(left_out))
        .values(outcome=BatchRow.verdict)
        .execution_options(synchronize_session=False)
    )
    db.session.execute(delete(UploadedList).where(UploadedList.batch_id == batch.id))
    return True
