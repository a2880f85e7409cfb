"""How long an account keeps what it knows about people, and forgetting what is older.

A job forgets once a day, a part in each transaction. How far a run has come is written with each part, so
one that dies goes on where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from lti_tool.classroom import audit, people
from lti_tool.classroom.accounts import Account, Connection, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.outcomes import LaunchOutcome
from lti_tool.classroom.rooms import Attendance, ChatMessage, Meeting
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db, now
from lti_tool.mail import OutboxMail

# Rows that one transaction forgets, and people, each of whom is many rows.
PART, PEOPLE_PART = 500, 20
# How often an account's turn comes.
EVERY = timedelta(days=1)
# Above this a preview says "or more".
COUNTED = 10_000


class Kind(StrEnum):
    """What is forgotten when it is old; each has its setting on Account, `keep_…_days`."""

    # The audit log, and the receipts of syncs that newer ones took the place of.
    AUDIT = "audit"
    # Who attended and wrote what; the rows stay, so that sums stay right.
    NAMES = "names"
    # Ended enrollments of people who are in no course.
    ENDED = "ended"
    # Students who were not seen and are in no course.
    UNSEEN = "unseen"
    # That a mail was sent; its words are gone when it is delivered.
    MAIL = "mail"
    # Refused launches.
    REFUSED = "refused"


@dataclass(frozen=True)
class _Due:
    """Rows of a table that are due: they go, or only the `column` does."""

    ids: Select[Any]
    table: Any
    column: str = ""


def terms(account: Account) -> dict[Kind, int]:
    """After how many days the account forgets what; 0 keeps it."""
    return {kind: getattr(account, f"keep_{kind}_days") for kind in Kind}


def foresee(account: Account, wished: Mapping[Kind, int]) -> dict[Kind, int]:
    """How much of each kind would be forgotten today under these terms, counted to COUNTED."""
    counts = []
    for kind, days in wished.items():
        for due in _due(account, kind, days) if days else ():
            rows = due.ids.limit(COUNTED).subquery()
            counts.append((kind, select(func.count()).select_from(rows).scalar_subquery()))
    found = dict.fromkeys(Kind, 0)
    if counts:
        numbers = db.session.execute(select(*(count for _, count in counts))).one()
        for (kind, _), number in zip(counts, numbers, strict=True):
            found[kind] += number
    return found


def forget_next() -> bool:
    """Forget one part for the next account whose turn it is; False: it is nobody's turn.

    The caller commits after each.
    """
    account = db.session.scalar(
        select(Account)
        .where(or_(Account.forgot_at.is_(None), Account.forgot_at <= now() - EVERY))
        .order_by(Account.id)
        .limit(1)
        # One worker at a time; people may come in meanwhile.
        .with_for_update(key_share=True, skip_locked=True)
    )
    if account is None:
        return False
    run = {"kind": 0, "after": 0, "counts": {}} | (account.forgetting or {})
    wished = terms(account)
    while run["kind"] < len(Kind):
        kind = list(Kind)[run["kind"]]
        if kind is Kind.UNSEEN:
            count, run["after"] = _erase_part(account, wished[kind], run["after"])
        else:
            count = _forget_part(account, kind, wished[kind])
        if count:
            run["counts"] = {**run["counts"], kind.value: run["counts"].get(kind.value, 0) + count}
            account.forgetting = run
            return True
        run["kind"] += 1
    _finish(account, run["counts"])
    return True


def _finish(account: Account, counts: dict[str, int]) -> None:
    account.forgot_at, account.forgot, account.forgetting = now(), counts, None
    if counts:
        audit.record(
            account.id, "retention.applied", f"account:{account.id}", source="retention", after=counts
        )


def _forget_part(account: Account, kind: Kind, days: int) -> int:
    """Forget some rows of a kind; how many they were."""
    if not days:
        return 0
    count = 0
    for due in _due(account, kind, days):
        # What somebody is changing just now, as by coming in again, is not old any more.
        ids = due.ids.limit(PART - count).with_for_update(of=due.table, skip_locked=True)
        chosen = due.table.id.in_(ids.scalar_subquery())
        change = update(due.table).values({due.column: None}) if due.column else delete(due.table)
        done: Any = db.session.execute(change.where(chosen).execution_options(synchronize_session=False))
        count += done.rowcount
        if count >= PART:
            break
    return count


def _erase_part(account: Account, days: int, after: int) -> tuple[int, int]:
    """Erase some people who are due, by the rules of erasing; how many, and up to whose id."""
    if not days:
        return 0, after
    [due] = _due(account, Kind.UNSEEN, days)
    some = due.ids.where(User.id > after).order_by(User.id).limit(PEOPLE_PART)
    # Whoever comes in meanwhile is not due any more, or begins anew.
    ids = db.session.scalars(some.with_for_update(of=User, skip_locked=True)).all()
    for user in db.session.scalars(select(User).where(User.id.in_(ids)).order_by(User.id)).all():
        people.erase(user, by=None)
    return len(ids), ids[-1] if ids else after


def _due(account: Account, kind: Kind, days: int) -> list[_Due]:
    """What of a kind is older than `days`."""
    before = now() - timedelta(days=days)
    if kind is Kind.AUDIT:
        return [
            _Due(
                select(AuditEvent.id).where(AuditEvent.account_id == account.id, AuditEvent.at < before),
                AuditEvent,
            ),
            _Due(
                select(SyncRun.id).where(
                    SyncRun.account_id == account.id, SyncRun.created_at < before, _is_outdated()
                ),
                SyncRun,
            ),
        ]
    if kind is Kind.NAMES:
        ours = select(Meeting.id).where(Meeting.account_id == account.id)
        return [
            _Due(
                select(Attendance.id).where(
                    Attendance.joined_at < before,
                    Attendance.user_id.is_not(None),
                    Attendance.left_at.is_not(None),
                    Attendance.meeting_id.in_(ours),
                ),
                Attendance,
                "user_id",
            ),
            _Due(
                select(ChatMessage.id).where(
                    ChatMessage.at < before,
                    ChatMessage.user_id.is_not(None),
                    ChatMessage.meeting_id.in_(ours),
                ),
                ChatMessage,
                "user_id",
            ),
        ]
    if kind is Kind.ENDED:
        return [
            _Due(
                select(Enrollment.id).where(
                    Enrollment.account_id == account.id,
                    Enrollment.ended_at < before,
                    ~_enrolled(Enrollment.user_id),
                ),
                Enrollment,
            )
        ]
    if kind is Kind.UNSEEN:
        return [_Due(_unseen(account, before), User)]
    if kind is Kind.MAIL:
        return [_Due(_old_mail(account, before), OutboxMail)]
    return [_Due(_old_refusals(account, days, before), LaunchOutcome)]


def _enrolled(user_id: Any, since: Any = None) -> ColumnElement[bool]:
    """Is the person in a course now, or were they after `since`?"""
    held = aliased(Enrollment)
    lasts = held.ended_at.is_(None)
    return exists().where(
        held.user_id == user_id, lasts if since is None else lasts | (held.ended_at >= since)
    )


def _is_outdated() -> ColumnElement[bool]:
    """Did a newer sync of the same LMS course take this one's place?"""
    newer = aliased(SyncRun)
    return exists().where(
        newer.context_id == SyncRun.context_id,
        newer.id > SyncRun.id,
        newer.state.in_([SyncState.APPLIED, SyncState.UNCHANGED]),
    )


def _unseen(account: Account, before: Any) -> Select[Any]:
    """Students who neither came, nor were in a course, nor have an invitation to answer, since `before`."""
    asked = exists().where(
        Invitation.user_id == User.id, Invitation.answer.is_(None), Invitation.expires_at > now()
    )
    return select(User.id).where(
        User.account_id == account.id,
        User.role == Role.STUDENT,
        func.coalesce(User.last_seen_at, User.created_at) < before,
        # Who was merged into somebody is kept or forgotten with them.
        User.merged_into_id.is_(None),
        ~_enrolled(User.id, before),
        ~asked,
    )


def _old_mail(account: Account, before: Any) -> Select[Any]:
    """Mails delivered or given up about people of the account."""

    def number(kind: str) -> ColumnElement[Any]:
        # The cast is made only where it can be: other mails are about other things.
        digits = func.substr(OutboxMail.about, len(kind) + 2)
        return case((OutboxMail.about.like(f"{kind}:%"), cast(digits, Integer)))

    return (
        select(OutboxMail.id)
        .outerjoin(Invitation, Invitation.id == number("invitation"))
        .outerjoin(User, User.id == number("user"))
        .where(
            OutboxMail.due_at.is_(None),
            OutboxMail.created_at < before,
            or_(Invitation.account_id == account.id, User.account_id == account.id),
        )
    )


def _old_refusals(account: Account, days: int, before: Any) -> Select[Any]:
    """Refused launches of the account's platforms; where accounts share one, who keeps longest says."""
    mine, other, theirs = aliased(Connection), aliased(Connection), aliased(Account)
    kept_longer = exists().where(
        and_(
            other.registration_id == LaunchOutcome.registration_id,
            theirs.id == other.account_id,
            theirs.id != account.id,
            or_(theirs.keep_refused_days == 0, theirs.keep_refused_days > days),
        )
    )
    return select(LaunchOutcome.id).where(
        LaunchOutcome.registration_id.in_(select(mine.registration_id).where(mine.account_id == account.id)),
        LaunchOutcome.at < before,
        ~kept_longer,
    )
