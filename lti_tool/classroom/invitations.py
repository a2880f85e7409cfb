"""Invitations: a mailed question to one mailbox, and the links that lead to it; answers.py takes the answer.

Tokens are 256 random bits of which the database holds the SHA-256.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import (
    JSON,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    ScalarSelect,
    String,
    cast,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lti_tool import mail
from lti_tool.classroom import audit, enrolling
from lti_tool.classroom.accounts import (
    Account,
    PersonBlocked,
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
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.database import Base, db, insert_many, now
from lti_tool.mail import OutboxMail
from lti_tool.sealing import fingerprint


class Answer(StrEnum):
    """What became of an invitation; no answer yet is None."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


class State(StrEnum):
    """Where an invitation stands: its answer, or that it waits for one or waited too long."""

    WAITING = "waiting"
    EXPIRED = "expired"
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
    """No invitation has this token: it was mistyped or cut off, or what it led to is gone."""


class _Useless(Exception):
    """A link that cannot be answered; `.invitation` is what it was mailed for."""

    def __init__(self, invitation: "Invitation") -> None:
        super().__init__(invitation.id)
        self.invitation = invitation


class InvitationSpent(_Useless):
    """The invitation was answered or withdrawn already."""


class InvitationExpired(_Useless):
    """Its time is over."""


class LinkReplaced(_Useless):
    """A newer mail took the place of the one with this link; the invitation still waits."""


_UNREMINDED = text("answer IS NULL AND reminded_at IS NULL")


class Invitation(Base):
    """One question "Is this you?" to one mailbox. It outlives the person, whom it then no longer names."""

    __tablename__ = "invitation"
    __table_args__ = (
        # Checked at commit, when the person who went is no longer named (see user_id).
        ForeignKeyConstraint(
            ["account_id", "user_id"],
            ["user.account_id", "user.id"],
            name="fk_invitation_account_id_user_id",
            deferrable=True,
            initially="DEFERRED",
        ),
        Index("ix_invitation_user", "user_id"),
        Index("ix_invitation_list", "account_id", "id"),
        Index("ix_invitation_answer", "account_id", "answer", "id"),
        Index("ix_invitation_inviter", "account_id", "invited_by_id", "id"),
        # What a reminder may still be due for.
        Index(
            "ix_invitation_unreminded", "expires_at", sqlite_where=_UNREMINDED, postgresql_where=_UNREMINDED
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    # None: declined or withdrawn, or the person was deleted since.
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    invited_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    # When the newest mail with a link was queued, reminders aside.
    sent_at: Mapped[datetime] = mapped_column(default=now)
    reminded_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    answer: Mapped[Answer | None] = mapped_column(stored(Answer))
    withdrawn_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    # The names of the courses it led to when it was answered; until then the person's enrollments say.
    course_names: Mapped[Any | None] = mapped_column(JSON)

    account: Mapped[Account] = relationship(foreign_keys="Invitation.account_id")
    user: Mapped[User | None] = relationship(
        foreign_keys="Invitation.user_id", primaryjoin="Invitation.user_id == User.id", overlaps="account"
    )
    invited_by: Mapped[User | None] = relationship(foreign_keys="Invitation.invited_by_id")
    withdrawn_by: Mapped[User | None] = relationship(foreign_keys="Invitation.withdrawn_by_id")

    @property
    def topic(self) -> str:
        """How the outbox names this invitation."""
        return f"invitation:{self.id}"

    @property
    def state(self) -> State:
        """Where it stands now; whether its time is over is asked whenever it is looked at."""
        if self.answer is not None or self.user_id is None:
            return State(self.answer or Answer.WITHDRAWN)
        return State.EXPIRED if self.expires_at <= now() else State.WAITING


class InvitationLink(Base):
    """A mailed link to an invitation: its token's SHA-256, and since when a newer one replaces it."""

    __tablename__ = "invitation_link"

    id: Mapped[int] = mapped_column(primary_key=True)
    invitation_id: Mapped[int] = mapped_column(ForeignKey("invitation.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    # Its page then says so. A reminder's link replaces none.
    replaced_at: Mapped[datetime | None]
    reminder: Mapped[bool] = mapped_column(default=False)
    # Who had it mailed; None: the invited person asked for it, or nobody did.
    by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))

    by: Mapped[User | None] = relationship()


def new_links(
    invitation_ids: Sequence[int], *, by: User | None = None, reminder: bool = False, replace: bool = True
) -> list[str]:
    """A fresh link for each of these invitations, however many; the tokens, in their order.

    Those mailed before stop working if `replace`; of invitations made just now there are none.
    """
    tokens = [secrets.token_urlsafe(32) for _ in invitation_ids]
    if replace:
        for start in range(0, len(invitation_ids), 500):
            db.session.execute(
                update(InvitationLink)
                .where(
                    InvitationLink.invitation_id.in_(invitation_ids[start : start + 500]),
                    InvitationLink.replaced_at.is_(None),
                )
                .values(replaced_at=now())
                .execution_options(synchronize_session=False)
            )
    each = {"invitation_id": invitation_ids, "token_hash": [fingerprint(token) for token in tokens]}
    every = {"created_at": now(), "reminder": reminder, "by_id": by.id if by else None}
    insert_many(InvitationLink.__table__, each, every)
    return tokens


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
    invitation. Admins are in every course, so none is asked for. Raises AddressWrong, NothingNew,
    PersonBlocked.
    """
    email = check_address(email)
    if role.rank >= Role.ADMIN.rank:
        # An LMS's word about an address, trusted or not, makes nobody an admin.
        user, courses = find_by_mailbox(account.id, email), ()
    else:
        user = find_known(account.id, email)
    if user is not None and user.blocked_at is not None:
        raise PersonBlocked(user)
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
    added = [
        course
        for course in courses
        if enrolling.enroll(course, user, role.in_courses, Source.INVITATION, by=by)
    ]
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


def _send_invitation(
    account: Account, user: User, *, by: User | None, lifetime: timedelta, public_url: str
) -> Invitation:
    """Mail `user` a fresh link; those mailed before stop working."""
    invitation = find_pending(user)
    if invitation is None:
        invitation = Invitation(
            account_id=account.id,
            user_id=user.id,
            invited_by_id=by.id if by else None,
            expires_at=now() + lifetime,
        )
        db.session.add(invitation)
    else:
        # Whose invitation it is stays as it was, whoever sends it again.
        invitation.expires_at, invitation.sent_at = now() + lifetime, now()
        invitation.invited_by_id = invitation.invited_by_id or (by.id if by else None)
    db.session.flush()
    token = new_links([invitation.id], by=by)[0]
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


def courses_of(user_ids: Sequence[int]) -> dict[int, list[Course]]:
    """User id → the courses they are in now, by name; in one statement."""
    found: dict[int, list[Course]] = {}
    rows = db.session.execute(
        select(Enrollment.user_id, Course)
        .join(Course, Course.id == Enrollment.course_id)
        .where(Enrollment.user_id.in_(user_ids), Enrollment.ended_at.is_(None))
        .order_by(Course.name_key, Course.id)
    )
    for user_id, course in rows:
        held = found.setdefault(user_id, [])
        if course not in held:
            held.append(course)
    return found


def courses_offered(user: User) -> list[Course]:
    """The courses an invited person finds when they accept."""
    return courses_of([user.id]).get(user.id, [])


def newest_mail() -> ScalarSelect[Any]:
    """The id of the newest mail about an invitation, in a query over invitations."""
    return (
        select(func.max(OutboxMail.id))
        .where(OutboxMail.about == literal("invitation:") + cast(Invitation.id, String))
        .correlate(Invitation)
        .scalar_subquery()
    )


def find_pending(user: User) -> Invitation | None:
    """The user's invitation that waits for an answer, expired or not."""
    return db.session.scalar(select(Invitation).filter_by(user_id=user.id, answer=None))


def resend(user: User, *, by: User | None, lifetime: timedelta, public_url: str) -> None:
    """Mail a pending user again, with a new token; the old ones stop working."""
    if user.status is not Status.PENDING or user.blocked_at is not None:
        return
    _send_invitation(user.account, user, by=by, lifetime=lifetime, public_url=public_url)
    audit.record(
        user.account_id, "invitation.resent", f"user:{user.id}", by=by, source="" if by else "sign-in"
    )
