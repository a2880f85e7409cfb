"""Invitations: a mailed one-use token. "It's me" accepts, "It's not me" declines.

A link that is opened changes nothing, since mail scanners open links; only the button's POST does.
Tokens are 256 random bits of which the database holds the SHA-256.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from lti_tool import mail
from lti_tool.classroom import audit
from lti_tool.classroom.accounts import (
    Account,
    Role,
    Status,
    User,
    add_user,
    email_key,
    find_by_mailbox,
    find_known,
    rename,
    stored,
)
from lti_tool.classroom.courses import Course, Enrollment, Source, role_in
from lti_tool.database import Base, db, insert, now
from lti_tool.sealing import fingerprint


class Answer(StrEnum):
    """What became of an invitation; no answer yet is None."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


class AddressWrong(Exception):
    """Not an address that mail can be sent to; `.reason` says why, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NothingNew(Exception):
    """The person is registered and has all that was asked for already; `.user` is who it is."""

    def __init__(self, user: User) -> None:
        super().__init__(user.id)
        self.user = user


class InvitationUnknown(Exception):
    """No invitation has this token: it was mistyped, cut off, or replaced by a newer one."""


class InvitationSpent(Exception):
    """The invitation was answered or withdrawn already; `.invitation` is the one."""

    def __init__(self, invitation: "Invitation") -> None:
        super().__init__(invitation.id)
        self.invitation = invitation


class InvitationExpired(Exception):
    """Its time is over; `.invitation` is the one."""

    def __init__(self, invitation: "Invitation") -> None:
        super().__init__(invitation.id)
        self.invitation = invitation


class Invitation(Base):
    """One question "Is this you?" to one mailbox."""

    __tablename__ = "invitation"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "user_id"], ["user.account_id", "user.id"], ondelete="CASCADE"),
        Index("ix_invitation_user", "user_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    user_id: Mapped[int]
    invited_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    sent_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    answer: Mapped[Answer | None] = mapped_column(stored(Answer))

    account: Mapped[Account] = relationship(foreign_keys="Invitation.account_id")
    user: Mapped[User] = relationship(
        foreign_keys="Invitation.user_id", primaryjoin="Invitation.user_id == User.id", overlaps="account"
    )
    invited_by: Mapped[User | None] = relationship(foreign_keys="Invitation.invited_by_id")

    @property
    def topic(self) -> str:
        """How the outbox names this invitation."""
        return f"invitation:{self.id}"


def check_address(email: str) -> str:
    """The address as it is written to. Raises AddressWrong."""
    try:
        return validate_email(
            email.strip(),
            check_deliverability=False,
            # Not every mail server on the way takes letters beyond ASCII before the @.
            allow_smtputf8=False,
            # The demo's people live at .test.
            test_environment=True,
        ).normalized
    except EmailNotValidError as wrong:
        raise AddressWrong(str(wrong)) from None


def invite(
    account: Account,
    *,
    name: str,
    email: str,
    role: Role,
    courses: Sequence[Course],
    by: User,
    lifetime: timedelta,
    public_url: str,
) -> User:
    """Put somebody on the lists of `courses` and mail them; the user is pending until they answer.

    Who is registered already is added at once and told so. Who is pending gets the courses and a fresh
    invitation. Admins are in every course, so none is asked for. Raises AddressWrong, NothingNew.
    """
    email = check_address(email)
    if role.rank >= Role.ADMIN.rank:
        # An LMS's word about an address, trusted or not, makes nobody an admin.
        user, courses = find_by_mailbox(account.id, email), ()
    else:
        user = find_known(account.id, email)
    if user is None:
        user = _add_pending(account, name=name.strip(), email=email, role=role, by=by)
    elif user.status is Status.PENDING:
        rename(user, name=user.name or name.strip(), email=user.email)
    raised = role.rank > user.role.rank
    if raised:
        audit.record(
            account.id,
            "role.changed",
            f"user:{user.id}",
            by=by,
            before={"role": user.role},
            after={"role": role},
        )
        user.role, user.made_admin_by_id = role, None
    course_role = Role.INSTRUCTOR if role is Role.INSTRUCTOR else Role.STUDENT
    added = [course for course in courses if enroll_invited(course, user, course_role, by=by)]
    if user.status is Status.PENDING:
        _send_invitation(account, user, by=by, lifetime=lifetime, public_url=public_url)
    elif added or raised:
        mail.queue_added(
            to=user.email,
            name=user.name,
            sender=by.label,
            account=account.name,
            courses=[(course.name, course.summary) for course in added],
            role=role,
            link=f"{public_url}/courses",
            about=f"user:{user.id}",
            locale=user.locale or account.locale,
        )
    else:
        raise NothingNew(user)
    return user


def _add_pending(account: Account, *, name: str, email: str, role: Role, by: User) -> User:
    try:
        with db.session.begin_nested():
            user = add_user(
                account.id, name=name, email=email, role=role, status=Status.PENDING, mailbox_proven=True
            )
    except IntegrityError:
        # Somebody else invited the same address in this very moment.
        user = db.session.scalars(
            select(User).filter_by(account_id=account.id, email_key=email_key(email), mailbox_proven=True)
        ).one()
    else:
        audit.record(account.id, "user.invited", f"user:{user.id}", by=by, after={"role": role})
    return user


def enroll_invited(course: Course, user: User, role: Role, *, by: User) -> bool:
    """Enroll by invitation; False if that changed nothing. A higher role, wherever from, stays."""
    there = role_in(course, user)
    if there is not None and there.rank >= role.rank:
        return False
    held = db.session.scalar(
        select(Enrollment).filter_by(course_id=course.id, user_id=user.id, source=Source.INVITATION)
    )
    if held is None:
        db.session.execute(
            insert(Enrollment)
            .values(
                account_id=course.account_id,
                course_id=course.id,
                user_id=user.id,
                role=role,
                source=Source.INVITATION,
                added_by_id=by.id,
                since=now(),
                role_unsaid=False,
            )
            .on_conflict_do_nothing()
        )
    elif held.ended_at is not None:
        held.ended_at, held.role, held.since, held.added_by_id = None, role, now(), by.id
    else:
        held.role = role
    audit.record(
        course.account_id,
        "enrollment.added",
        f"user:{user.id}",
        by=by,
        after={"course": course.id, "role": role},
    )
    return True


def _send_invitation(
    account: Account, user: User, *, by: User | None, lifetime: timedelta, public_url: str
) -> Invitation:
    """Mail `user` a fresh token; those mailed before stop working."""
    token = secrets.token_urlsafe(32)
    invitation = find_pending(user)
    if invitation is None:
        invitation = Invitation(
            account_id=account.id,
            user_id=user.id,
            invited_by_id=by.id if by else None,
            token_hash=fingerprint(token),
            expires_at=now() + lifetime,
        )
        db.session.add(invitation)
    else:
        invitation.token_hash, invitation.expires_at = fingerprint(token), now() + lifetime
        invitation.sent_at = now()
        invitation.invited_by_id = by.id if by else invitation.invited_by_id
    db.session.flush()
    # One that still waits to be sent carries a link that no longer works.
    mail.cancel(invitation.topic)
    inviter = by or invitation.invited_by
    mail.queue_invitation(
        to=user.email,
        name=user.name,
        sender=inviter.label if inviter else account.name,
        account=account.name,
        courses=[(course.name, course.summary) for course in courses_offered(user)],
        role=user.role,
        link=f"{public_url}/invitations/{token}",
        expires=invitation.expires_at,
        about=invitation.topic,
        locale=user.locale or account.locale,
    )
    return invitation


def courses_offered(user: User) -> list[Course]:
    """The courses an invited person finds when they accept."""
    return list(
        db.session.scalars(
            select(Course)
            .join(Enrollment, Enrollment.course_id == Course.id)
            .where(Enrollment.user_id == user.id, Enrollment.ended_at.is_(None))
            .order_by(Course.name_key, Course.id)
        )
    )


def find_pending(user: User) -> Invitation | None:
    """The user's invitation that waits for an answer, expired or not."""
    return db.session.scalar(select(Invitation).filter_by(user_id=user.id, answer=None))


def read(token: str) -> Invitation:
    """The invitation a link belongs to. Raises InvitationUnknown, InvitationSpent, InvitationExpired."""
    invitation = db.session.scalar(
        select(Invitation)
        .options(joinedload(Invitation.user), joinedload(Invitation.account))
        .filter_by(token_hash=fingerprint(token))
    )
    if invitation is None:
        raise InvitationUnknown
    if invitation.answer is not None:
        raise InvitationSpent(invitation)
    if invitation.expires_at <= now():
        raise InvitationExpired(invitation)
    return invitation


def accept(token: str) -> User:
    """ "It's me": the user is registered, the token spent; of two at once, one wins.

    Raises what `read` raises.
    """
    invitation = read(token)
    _answer(invitation, Answer.ACCEPTED)
    user = invitation.user
    user.status, user.registered_at = Status.REGISTERED, now()
    audit.record(user.account_id, "invitation.accepted", f"user:{user.id}", by=user)
    return user


def decline(token: str) -> Invitation:
    """ "It's not me": withdraw, tell the inviter, keep nothing about the invited person.

    Raises what `read` raises.
    """
    invitation = read(token)
    _answer(invitation, Answer.DECLINED)
    account, user, inviter = invitation.account, invitation.user, invitation.invited_by
    audit.record(account.id, "invitation.declined", f"user:{user.id}", source="mail")
    if inviter is not None and inviter.email:
        mail.queue_declined(
            to=inviter.email,
            name=inviter.name,
            account=account.name,
            invited=user.label,
            about=f"user:{inviter.id}",
            locale=inviter.locale or account.locale,
        )
    if user.status is Status.PENDING:
        db.session.flush()
        db.session.delete(user)
    return invitation


def withdraw(user: User, *, by: User) -> None:
    """Take back a pending invitation; the person disappears unless they are known otherwise."""
    invitation = find_pending(user)
    if invitation is None:
        return
    _answer(invitation, Answer.WITHDRAWN)
    mail.cancel(invitation.topic)
    audit.record(user.account_id, "invitation.withdrawn", f"user:{user.id}", by=by)
    if user.status is Status.PENDING:
        db.session.flush()
        db.session.delete(user)


def resend(user: User, *, by: User | None, lifetime: timedelta, public_url: str) -> None:
    """Mail a pending user again, with a new token; the old one stops working."""
    if user.status is not Status.PENDING:
        return
    _send_invitation(user.account, user, by=by, lifetime=lifetime, public_url=public_url)
    audit.record(
        user.account_id, "invitation.resent", f"user:{user.id}", by=by, source="" if by else "sign-in"
    )


def renew_expired(token: str, *, lifetime: timedelta, public_url: str) -> None:
    """The person whose link is too old asks for a new one; it goes to the same address.

    Raises InvitationUnknown, InvitationSpent. One that has not expired stays as it is.
    """
    try:
        read(token)
    except InvitationExpired as expired:
        resend(expired.invitation.user, by=None, lifetime=lifetime, public_url=public_url)


def _answer(invitation: Invitation, answer: Answer) -> None:
    """Spend the token; raises InvitationSpent or InvitationUnknown when somebody was faster."""
    held = db.session.scalar(
        select(Invitation)
        .filter_by(id=invitation.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if held is None:
        # "It's not me" was said, or it was withdrawn, in this very moment.
        raise InvitationUnknown
    if held.answer is not None:
        raise InvitationSpent(held)
    held.answer, held.answered_at = answer, now()
    db.session.flush()
