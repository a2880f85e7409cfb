"""Taking a merge back, and what follows when that is over. merging.py says what can be."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Enum, Select, Table, null, select, update
from sqlalchemy.orm import joinedload

from lti_tool.classroom import audit, sessions
from lti_tool.classroom.accounts import Identity, Role, User, find_by_mailbox, rename
from lti_tool.classroom.courses import Context, Enrollment
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.merging import FOLLOWING, UNDO_FOR, Merge, hand_over, hold, plain
from lti_tool.classroom.rooms import Attendance
from lti_tool.database import UTCDateTime, db, now
from lti_tool.lti.registrations import Deployment


class Stuck(StrEnum):
    """Why a merge cannot be undone, or not yet."""

    OVER = "over"
    NEWER = "newer"
    MAILBOX = "mailbox"


class MergeStuck(Exception):
    """This merge cannot be undone; `.because` says why."""

    def __init__(self, because: Stuck) -> None:
        super().__init__(because)
        self.because = because


def find(account_id: int, merge_id: int) -> Merge | None:
    """A merge of this account; another account's is None."""
    return db.session.scalar(_merges().where(Merge.account_id == account_id, Merge.id == merge_id))


def merged_into(user: User) -> list[Merge]:
    """Who was merged into this person and can still be brought back, the newest first."""
    since = now() - UNDO_FOR
    return list(
        db.session.scalars(
            _merges()
            .where(
                Merge.account_id == user.account_id,
                Merge.into_id == user.id,
                Merge.undone_at.is_(None),
                Merge.at > since,
            )
            .order_by(Merge.id.desc())
        )
    )


def _merges() -> Select[Merge]:
    return select(Merge).options(joinedload(Merge.into), joinedload(Merge.other), joinedload(Merge.by))


def undo(done: Merge, *, by: User) -> None:
    """Bring both people back as they were. Raises MergeStuck."""
    into, other = done.into, done.other
    hold(into, other)
    db.session.refresh(done, ["undone_at", "moved"], with_for_update=True)
    if done.undone_at is not None or done.undo_until <= now() or done.moved is None:
        raise MergeStuck(Stuck.OVER)
    newer = select(Merge.id).where(Merge.into_id == into.id, Merge.undone_at.is_(None), Merge.id > done.id)
    if into.merged_into_id is not None or db.session.scalar(newer.limit(1)) is not None:
        raise MergeStuck(Stuck.NEWER)
    moved = done.moved
    if moved["other"]["mailbox_proven"] and find_by_mailbox(into.account_id, other.email) is not None:
        raise MergeStuck(Stuck.MAILBOX)
    for table in (Identity, Attendance, Invitation):
        hand_over(table, moved[str(table.__tablename__)], into, other)
    hand_over(Enrollment, moved["enrollment"], into, other)
    _part_enrollments(moved["absorbed"])
    _follow_subjects(moved["identity"], into, other)
    for invitation in db.session.scalars(select(Invitation).where(Invitation.id.in_(moved["answered"]))):
        invitation.answer = invitation.answered_at = invitation.withdrawn_by_id = None
        invitation.course_names = null()
    _restore(into, moved["into"], moved["after"])
    _unlearn(into, moved["into"])
    # Whoever was shut out meanwhile does not come back in as the other.
    other.blocked_at = other.blocked_at or into.blocked_at
    for name, value in moved["other"].items():
        setattr(other, name, _real(other, name, value))
    for user in (into, other):
        sessions.end_all(user)
    done.undone_at, done.moved = now(), None
    audit.record(
        into.account_id,
        "user.unmerged",
        f"user:{into.id}",
        by=by,
        before={"merge": done.id},
        after={"role": into.role, "user": other.id},
    )
    db.session.flush()
    db.session.expire_all()


def _unlearn(into: User, before: Mapping[str, Any]) -> None:
    """What LMSs said of `other` meanwhile is not said of `into` any more: name, address, admin."""
    rename(
        into,
        name=into.name if into.name_by_hand else before["name"],
        email=into.email if into.mailbox_proven else before["email"],
    )
    maker = into.made_admin_by_id
    theirs = select(Identity.id).where(Identity.user_id == into.id, Identity.registration_id == maker)
    if maker is not None and db.session.scalar(theirs.limit(1)) is None:
        into.role, into.made_admin_by_id = Role(before["role"]), before["made_admin_by_id"]


def _part_enrollments(absorbed: Sequence[Mapping[str, Any]]) -> None:
    for one in absorbed:
        rows = [db.session.get(Enrollment, row_id) for row_id in one["ids"]]
        for row, before, after in zip(rows, one["before"], one["after"], strict=True):
            if row is not None and not _restore(row, before, after):
                # Changed since: the LMS's next word sets it right.
                row.digest = None
    db.session.flush()


def _follow_subjects(identity_ids: Sequence[int], into: User, other: User) -> None:
    """What an LMS enrolled meanwhile under a subject that goes back goes with it."""
    there = select(Enrollment.context_id).where(
        Enrollment.user_id == other.id, Enrollment.context_id.is_not(None)
    )
    returned = (
        select(Enrollment.id)
        .join(Context, Context.id == Enrollment.context_id)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .join(
            Identity,
            (Identity.registration_id == Deployment.registration_id)
            & (Identity.subject == Enrollment.subject),
        )
        .where(
            Enrollment.user_id == into.id,
            Identity.id.in_(identity_ids),
            Identity.user_id == other.id,
            Enrollment.context_id.not_in(there),
        )
    )
    hand_over(Enrollment, list(db.session.scalars(returned)), into, other)


def _restore(row: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """What nobody changed since is as before again; was that all of it?"""
    whole = True
    for name, value in before.items():
        if after[name] == value:
            continue
        if plain(getattr(row, name)) != after[name]:
            whole = False
            continue
        setattr(row, name, _real(row, name, value))
    return whole


def _real(row: Any, name: str, value: Any) -> Any:
    """A remembered value as the column takes it."""
    kind = row.__table__.c[name].type
    if value is None:
        return null() if isinstance(kind, JSON) else None
    if isinstance(kind, Enum) and kind.enum_class is not None:
        return kind.enum_class(value)
    return datetime.fromisoformat(value) if isinstance(kind, UTCDateTime) else value


# --- when undoing is over ----------------------------------------------------------------


def over(limit: int = 100) -> list[Merge]:
    """Merges that can no longer be undone, the oldest first; whoever asks forgets `other` for good."""
    return list(
        db.session.scalars(
            _merges()
            .where(Merge.undone_at.is_(None), Merge.at <= now() - UNDO_FOR)
            .order_by(Merge.id)
            .limit(limit)
        )
    )


def settle(done: Merge) -> User:
    """What `other` did was done by `into`; the ghost, for the caller to erase."""
    for named in sorted(FOLLOWING):
        name, column = named.split(".")
        table: Table = db.metadata.tables[name]
        db.session.execute(
            update(table).where(table.c[column] == done.other_id).values({column: done.into_id})
        )
    return done.other
