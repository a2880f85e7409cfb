"""One reminder for each invitation, some days before it expires, if its mail arrived and nobody answered."""

from datetime import timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import joinedload

from lti_tool import mail
from lti_tool.classroom import audit, invitations
from lti_tool.classroom.accounts import Status, User
from lti_tool.classroom.invitations import Invitation, courses_of, new_links
from lti_tool.database import db, now
from lti_tool.mail import OutboxMail

# Sent by one sweep; more wait for the next.
PART = 200
# Nobody is reminded of a mail that is younger.
LET_REST = timedelta(days=1)


def remind(days: int, *, public_url: str) -> int:
    """Mail a reminder to those whose invitation expires within `days`; how many. 0 days: none at all.

    The note that it was sent stands in the row, in the transaction that queues the mail: it is sent once,
    whatever dies. The first link goes on working beside the reminder's.
    """
    if days <= 0:
        return 0
    due = db.session.scalars(
        select(Invitation)
        .join(User, User.id == Invitation.user_id)
        .options(
            joinedload(Invitation.user),
            joinedload(Invitation.account),
            joinedload(Invitation.invited_by),
        )
        .where(
            Invitation.answer.is_(None),
            Invitation.reminded_at.is_(None),
            Invitation.expires_at > now(),
            Invitation.expires_at <= now() + timedelta(days=days),
            Invitation.sent_at <= now() - LET_REST,
            User.status == Status.PENDING,
            User.blocked_at.is_(None),
            User.merged_into_id.is_(None),
            _arrived(),
        )
        .order_by(Invitation.expires_at, Invitation.id)
        .limit(PART)
        .with_for_update(of=Invitation, skip_locked=True)
    ).all()
    tokens = new_links([one.id for one in due], reminder=True, replace=False) if due else []
    offered = courses_of([one.user_id for one in due if one.user_id is not None])
    for one, token in zip(due, tokens, strict=True):
        user = one.user
        if user is None:
            continue
        one.reminded_at = now()
        mail.queue_invitation(
            to=user.email,
            name=user.name,
            sender=one.invited_by.label if one.invited_by else one.account.name,
            account=one.account.name,
            courses=[(course.name, course.summary) for course in offered.get(user.id, [])],
            role=user.role,
            link=f"{public_url}/invitations/{token}",
            expires=one.expires_at,
            about=one.topic,
            locale=user.locale or one.account.locale,
            again=True,
        )
        audit.record(one.account_id, "invitation.reminded", f"user:{user.id}", source="reminder")
    return len(due)


def _arrived() -> ColumnElement[bool]:
    """Was the invitation's newest mail delivered, as far as we know, and did it not come back?"""
    newest = invitations.newest_mail()
    return (
        select(OutboxMail.id)
        .where(OutboxMail.id == newest, OutboxMail.sent_at.is_not(None), OutboxMail.last_error == "")
        .exists()
    )
