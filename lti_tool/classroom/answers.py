"""What a mailed link leads to, and how an invitation ends: "It's me", "It's not me", withdrawn.

A link that is opened changes nothing, since mail scanners open links; only the button's POST does.
"""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from lti_tool import mail
from lti_tool.classroom import audit, invitations
from lti_tool.classroom.accounts import PersonBlocked, Status, User
from lti_tool.classroom.invitations import (
    Answer,
    Invitation,
    InvitationExpired,
    InvitationLink,
    InvitationSpent,
    InvitationUnknown,
    LinkReplaced,
)
from lti_tool.database import db, now
from lti_tool.sealing import fingerprint

# Whoever holds an old link may ask for a new mail; a mailbox is not filled by that.
ASK_EVERY = timedelta(minutes=10)
# So often within a day, by whatever links.
ASKED_A_DAY, A_DAY = 5, timedelta(days=1)


def find(token: str) -> Invitation:
    """The invitation a link was mailed for, whatever became of either. Raises InvitationUnknown."""
    return _find(token)[0]


def _find(token: str) -> tuple[Invitation, InvitationLink]:
    found = db.session.execute(
        select(Invitation, InvitationLink)
        .join(InvitationLink, InvitationLink.invitation_id == Invitation.id)
        .options(
            joinedload(Invitation.user),
            joinedload(Invitation.account),
            joinedload(Invitation.invited_by),
        )
        .where(InvitationLink.token_hash == fingerprint(token))
    ).first()
    if found is None:
        raise InvitationUnknown
    return found.Invitation, found.InvitationLink


def read(token: str) -> Invitation:
    """The invitation that a link can answer.

    Raises InvitationUnknown, InvitationSpent, PersonBlocked, InvitationExpired, LinkReplaced.
    """
    invitation, link = _find(token)
    user = invitation.user
    if invitation.answer is not None or user is None or user.merged_into_id is not None:
        raise InvitationSpent(invitation)
    if user.blocked_at is not None:
        raise PersonBlocked(user)
    if invitation.expires_at <= now():
        raise InvitationExpired(invitation)
    if link.replaced_at is not None:
        raise LinkReplaced(invitation)
    return invitation


def invited_person(invitation: Invitation) -> User:
    """Whom an invitation that `read` gave out is for."""
    if invitation.user is None:
        raise InvitationSpent(invitation)
    return invitation.user


def accept(token: str) -> User:
    """ "It's me": the user is registered, the token spent; of two at once, one wins.

    Raises what `read` raises.
    """
    invitation = read(token)
    user = invited_person(invitation)
    settle(invitation, Answer.ACCEPTED)
    if user.status is Status.PENDING:
        user.status, user.registered_at = Status.REGISTERED, now()
    audit.record(user.account_id, "invitation.accepted", f"user:{user.id}", by=user)
    return user


def decline(token: str) -> Invitation:
    """ "It's not me": withdraw, tell the inviter, keep nothing about the invited person.

    Raises what `read` raises.
    """
    invitation = read(token)
    user = invited_person(invitation)
    label = user.label
    settle(invitation, Answer.DECLINED)
    account, inviter = invitation.account, invitation.invited_by
    audit.record(account.id, "invitation.declined", f"user:{user.id}", source="mail")
    if inviter is not None and inviter.email and inviter.blocked_at is None:
        mail.queue_declined(
            to=inviter.email,
            name=inviter.name,
            account=account.name,
            invited=label,
            about=f"user:{inviter.id}",
            locale=inviter.locale or account.locale,
        )
    forget_invited(invitation)
    return invitation


def renew(token: str, *, lifetime: timedelta, public_url: str) -> None:
    """The person whose link is too old or replaced asks for a new one; it goes to the same address.

    Raises InvitationUnknown, InvitationSpent, PersonBlocked. A link that still works stays as it is, and so
    does everything while the newest mail is only minutes old, or was asked for too often today.
    """
    try:
        read(token)
    except (InvitationExpired, LinkReplaced) as too_old:
        invitation = too_old.invitation
        newest, asked = db.session.execute(
            select(
                func.max(InvitationLink.created_at),
                func.count().filter(
                    InvitationLink.by_id.is_(None),
                    InvitationLink.reminder.is_(False),
                    InvitationLink.created_at > now() - A_DAY,
                ),
            ).where(InvitationLink.invitation_id == invitation.id)
        ).one()
        if asked >= ASKED_A_DAY:
            return
        if newest is None or newest <= now() - ASK_EVERY or invitation.expires_at <= now():
            user = invited_person(invitation)
            invitations.resend(user, by=None, lifetime=lifetime, public_url=public_url)


def withdraw(user: User, *, by: User | None) -> None:
    """Take back a pending invitation; the person disappears unless they are known otherwise."""
    invitation = close(user, by=by)
    if invitation is not None:
        forget_invited(invitation)


def close(user: User, *, by: User | None) -> Invitation | None:
    """Take back a pending invitation of somebody who stays for now; None if there is none."""
    invitation = invitations.find_pending(user)
    if invitation is None:
        return None
    try:
        settle(invitation, Answer.WITHDRAWN)
    except InvitationSpent:
        # The person answered it in this very moment.
        return None
    invitation.withdrawn_by_id = by.id if by else None
    audit.record(user.account_id, "invitation.withdrawn", f"user:{user.id}", by=by)
    return invitation


def settle(invitation: Invitation, answer: Answer) -> None:
    """Note the answer, once; raises InvitationSpent or InvitationUnknown when somebody was faster."""
    held = db.session.scalar(
        select(Invitation)
        .filter_by(id=invitation.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if held is None:
        raise InvitationUnknown
    if held.answer is not None or held.user is None:
        raise InvitationSpent(held)
    held.answer, held.answered_at = answer, now()
    held.course_names = [course.name for course in invitations.courses_offered(held.user)]
    db.session.flush()
    # Mail that waits about it has nothing more to ask.
    mail.cancel(held.topic)


def forget_invited(invitation: Invitation) -> None:
    """Keep nothing of who was invited and never came; who is known otherwise stays."""
    user, invitation.user = invitation.user, None
    db.session.flush()
    if user is not None and user.status is Status.PENDING:
        db.session.delete(user)
        db.session.flush()
