"""Who was invited and what became of it: the list of invitations, and the history of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, literal, or_, select
from sqlalchemy.orm import contains_eager, joinedload

from lti_tool import mail
from lti_tool.classroom import batches, invitations
from lti_tool.classroom.accounts import Account, Role, Status, User
from lti_tool.classroom.batches import Batch, BatchRow, Deed
from lti_tool.classroom.invitations import Answer, Invitation, InvitationLink, State, courses_of
from lti_tool.database import db, fold, is_id, now
from lti_tool.mail import OutboxMail

PAGE = 25
# Inviters to choose from.
INVITERS = 200


class NoLongerWaiting(Exception):
    """The invitation was answered or withdrawn meanwhile."""


class Shown(StrEnum):
    """What the list can be narrowed to."""

    WAITING = "waiting"
    TROUBLE = "trouble"
    EXPIRED = "expired"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Wish:
    """Which invitations somebody wants to see, and from where on; at most one cursor is used."""

    shown: Shown | None = None
    inviter_id: int | None = None
    search: str = ""
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True)
class Listed:
    """One invitation with where it leads and the newest mail about it, if that is still remembered."""

    invitation: Invitation
    courses: Sequence[str]
    letter: OutboxMail | None


@dataclass(frozen=True)
class ListPage:
    """One page of the list, newest first; `next` and `previous` are ids, as cursors."""

    rows: Sequence[Listed]
    next: int | None
    previous: int | None


class Happened(StrEnum):
    """What an invitation's history is made of."""

    INVITED = "invited"
    SENT_AGAIN = "sent_again"
    ASKED_AGAIN = "asked_again"
    REMINDED = "reminded"
    MAIL_TAKEN = "mail_taken"
    MAIL_REFUSED = "mail_refused"
    MAIL_RETURNED = "mail_returned"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Event:
    """One thing that happened; `by` did it, `code` is a mail server's."""

    at: datetime
    what: Happened
    by: User | None = None
    code: str = ""


def find(account_id: int, invitation_id: int) -> Invitation | None:
    """An invitation of this account; another account's is None."""
    if not is_id(invitation_id):
        return None
    return db.session.scalar(
        select(Invitation)
        .options(
            joinedload(Invitation.user),
            joinedload(Invitation.invited_by),
            joinedload(Invitation.withdrawn_by),
        )
        .filter_by(account_id=account_id, id=invitation_id)
    )


def find_page(account_id: int, wish: Wish) -> ListPage:
    """One page of the account's invitations, by keyset; three statements, however many rows."""
    query = _matching(account_id, wish)
    backwards = wish.after is None and wish.before is not None
    cursor = wish.before if backwards else wish.after
    if cursor is not None and is_id(cursor):
        query = query.where(Invitation.id > cursor if backwards else Invitation.id < cursor)
    else:
        backwards, cursor = False, None
    query = query.order_by(Invitation.id.asc() if backwards else Invitation.id.desc()).limit(PAGE + 1)
    found = list(db.session.scalars(query))
    more, found = len(found) > PAGE, found[:PAGE]
    if backwards:
        found.reverse()
    has_next = bool(found) and (more or backwards)
    has_previous = bool(found) and (more if backwards else cursor is not None)
    return ListPage(
        describe(found),
        next=found[-1].id if has_next else None,
        previous=found[0].id if has_previous else None,
    )


def describe(found: Sequence[Invitation]) -> list[Listed]:
    """These invitations with their courses and mails, in two statements."""
    letters = mail.latest_about([one.topic for one in found])
    offered = courses_of([one.user_id for one in found if one.answer is None and one.user_id is not None])
    return [
        Listed(
            one,
            [course.name for course in offered.get(one.user_id or 0, [])]
            if one.answer is None
            else list(one.course_names or ()),
            letters.get(one.topic),
        )
        for one in found
    ]


def _matching(account_id: int, wish: Wish) -> Select[Invitation]:
    query = (
        select(Invitation)
        .outerjoin(User, User.id == Invitation.user_id)
        .options(contains_eager(Invitation.user), joinedload(Invitation.invited_by))
        .where(Invitation.account_id == account_id)
    )
    waits = Invitation.answer.is_(None) & Invitation.user_id.is_not(None)
    if wish.shown is Shown.WAITING:
        query = query.where(waits, Invitation.expires_at > now())
    elif wish.shown is Shown.EXPIRED:
        query = query.where(waits, Invitation.expires_at <= now())
    elif wish.shown is Shown.TROUBLE:
        query = query.where(waits, _in_trouble(account_id))
    elif wish.shown is not None:
        query = query.where(Invitation.answer == Answer(wish.shown.value))
    if wish.inviter_id is not None:
        query = query.where(Invitation.invited_by_id == wish.inviter_id)
    for word in fold(wish.search).split():
        query = query.where(
            or_(User.name_key.contains(word, autoescape=True), User.email_key.contains(word, autoescape=True))
        )
    return query


def _in_trouble(account_id: int) -> ColumnElement[bool]:
    """Is the newest mail about it refused, returned, or still being tried after a no?"""
    newest = invitations.newest_mail()
    return select(OutboxMail.id).where(OutboxMail.id == newest, OutboxMail.last_error != "").exists()


def inviters(account_id: int, *, among: int | None = None) -> list[User]:
    """Those who invited somebody, to narrow the list by; the one chosen now is always there."""
    invited = (
        select(Invitation.id)
        .where(Invitation.account_id == account_id, Invitation.invited_by_id == User.id)
        .exists()
    )
    return list(
        db.session.scalars(
            select(User)
            .where(
                User.account_id == account_id,
                or_(User.id == (among or 0), (User.role != Role.STUDENT) & invited),
            )
            .order_by(User.name_key, User.id)
            .limit(INVITERS)
        )
    )


def history(invitation: Invitation) -> list[Event]:
    """Everything that happened to an invitation, oldest first, in two statements."""
    events = [Event(invitation.created_at, Happened.INVITED, invitation.invited_by)]
    links = db.session.scalars(
        select(InvitationLink)
        .options(joinedload(InvitationLink.by))
        .where(InvitationLink.invitation_id == invitation.id)
        .order_by(InvitationLink.id)
    ).all()
    for link in links[1:]:
        again = Happened.SENT_AGAIN if link.by else Happened.ASKED_AGAIN
        events.append(Event(link.created_at, Happened.REMINDED if link.reminder else again, link.by))
    for letter in db.session.scalars(select(OutboxMail).filter_by(about=invitation.topic)):
        if letter.sent_at is not None:
            events.append(Event(letter.sent_at, Happened.MAIL_TAKEN))
        if letter.failed_at is not None:
            events.append(Event(letter.failed_at, Happened.MAIL_REFUSED, code=letter.last_error))
        if letter.bounced_at is not None:
            events.append(Event(letter.bounced_at, Happened.MAIL_RETURNED, code=letter.last_error))
    if invitation.answer is not None and invitation.answered_at is not None:
        what = Happened(invitation.answer.value)
        by = invitation.withdrawn_by if invitation.answer is Answer.WITHDRAWN else None
        events.append(Event(invitation.answered_at, what, by))
    elif invitation.state is State.EXPIRED:
        events.append(Event(invitation.expires_at, Happened.EXPIRED))
    return sorted(events, key=lambda event: event.at)


def count_expired(account_id: int) -> int:
    """How many wait no longer because their time is over, up to a thousand."""
    some = _matching(account_id, Wish(shown=Shown.EXPIRED)).with_only_columns(Invitation.id).limit(1000)
    return db.session.scalar(select(func.count()).select_from(some.subquery())) or 0


def draft_again(account: Account, *, by: User) -> Batch:
    """A bulk change that sends every expired invitation again, once somebody says yes to it."""
    batch = batches.add(account, Deed.INVITE_AGAIN, {}, by=by, draft=True)
    rows: Any = (
        _matching(account.id, Wish(shown=Shown.EXPIRED))
        .with_only_columns(
            literal(batch.id),
            func.row_number().over(order_by=Invitation.id),
            Invitation.user_id,
            literal(""),
            literal(""),
        )
        .where(User.status == Status.PENDING)
    )
    db.session.execute(
        insert(BatchRow).from_select(["batch_id", "number", "user_id", "outcome", "verdict"], rows)
    )
    batch.total = (
        db.session.scalar(select(func.count()).select_from(BatchRow).where(BatchRow.batch_id == batch.id))
        or 0
    )
    return batch
