"""Browser sessions, tickets into a window of one's own, and signing in by mailed link and code.

Every token is 256 random bits made here after the check that earns it, never taken from a request, and
only its SHA-256 is stored.
"""

import hmac
import secrets
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, bindparam, delete, select, update
from sqlalchemy.orm import Mapped, joinedload, lazyload, mapped_column, relationship

from lti_tool import mail
from lti_tool.classroom import invitations
from lti_tool.classroom.accounts import Status, User, holders_of, stored
from lti_tool.classroom.courses import Course
from lti_tool.database import Base, db, now
from lti_tool.lti.registrations import Registration
from lti_tool.sealing import fingerprint

TICKET_LIFETIME = timedelta(seconds=30)
# Of a ticket that stands in a page from the start: the click comes when the person has read the page, and a
# frame without cookies cannot ask for another.
PAGE_TICKET_LIFETIME = timedelta(minutes=10)
CODE_LIFETIME = timedelta(minutes=15)
CODE_TRIES = 5
# Last seen is written at most this often, so that reading pages does not write.
TOUCH_EVERY = timedelta(minutes=5)


class Kind(StrEnum):
    """`launch`: from an LMS, in a partitioned cookie. `own`: signed in here, first-party only."""

    LAUNCH = "launch"
    OWN = "own"


class TicketSpent(Exception):
    """The ticket was used, has gone stale, or was never issued."""


class CodeWrong(Exception):
    """The code is not right; `.left` tries remain."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class CodeSpent(Exception):
    """The code or link was used, has expired, or had too many wrong tries."""


class Session(Base):
    """One browser that we know: who it is, until when."""

    __tablename__ = "session"
    __table_args__ = (Index("ix_session_user", "user_id"), Index("ix_session_expires_at", "expires_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[Kind] = mapped_column(stored(Kind))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    registration_id: Mapped[int | None] = mapped_column(ForeignKey("registration.id", ondelete="CASCADE"))
    # Where the launch arrived.
    course_id: Mapped[int | None] = mapped_column(ForeignKey("course.id", ondelete="CASCADE"))
    # Opened in an LMS's frame: pages leave out the bar.
    framed: Mapped[bool] = mapped_column(default=False)
    # The LMS's language for this person, over the browser's.
    locale: Mapped[str] = mapped_column(default="")
    # Which browser it is, coarsely, as "Firefox/Linux": enough for its owner to know it again.
    label: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    registration: Mapped[Registration | None] = relationship()
    course: Mapped[Course | None] = relationship()


class Ticket(Base):
    """Lets a frame whose cookie was withheld open one window of its own, once, for a short time."""

    __tablename__ = "ticket"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("session.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime]


class SignInCode(Base):
    """A mailed one-use link and six digits; either signs in, once."""

    __tablename__ = "sign_in_code"
    __table_args__ = (Index("ix_sign_in_code_user", "user_id", "created_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    # None: nobody has that address. The row is there all the same, so that wrong codes for unknown
    # and for known addresses get the same answers.
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    # Of the link in the mail.
    token_hash: Mapped[str] = mapped_column(unique=True)
    # Of the browser that asked: six digits alone are guessable, so they work only there.
    asker_hash: Mapped[str] = mapped_column(index=True)
    code_hash: Mapped[str]
    tries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]

    user: Mapped[User | None] = relationship()


def start(
    user: User,
    kind: Kind,
    *,
    lifetime: timedelta,
    registration_id: int | None = None,
    course_id: int | None = None,
    framed: bool = False,
    locale: str = "",
    label: str = "",
) -> tuple[Session, str]:
    """A new session and its token, which is told only here."""
    token = secrets.token_urlsafe(32)
    session = Session(
        token_hash=fingerprint(token),
        kind=kind,
        user_id=user.id,
        registration_id=registration_id,
        course_id=course_id,
        framed=framed,
        locale=locale,
        label=label,
        expires_at=now() + lifetime,
    )
    db.session.add(session)
    if user.last_seen_at is None or user.last_seen_at + TOUCH_EVERY < now():
        user.last_seen_at = now()
    db.session.flush()
    return session, token


# Made once: every request begins with it.
_FIND_SESSION = (
    select(Session)
    .options(joinedload(Session.user).joinedload(User.account))
    .where(Session.token_hash == bindparam("token_hash"), Session.kind == bindparam("kind"))
)


def find_session(token: str, kind: Kind, *, idle: timedelta) -> Session | None:
    """The living session of a cookie, or None: unknown, too old, or idle for too long."""
    session = db.session.scalar(_FIND_SESSION, {"token_hash": fingerprint(token), "kind": kind})
    if session is None or session.expires_at <= now() or session.seen_at + idle <= now():
        return None
    # Blocking and merging end sessions; this holds whatever happened at the same moment.
    kept_out = session.user.blocked_at is not None or session.user.merged_into_id is not None
    return None if kept_out else session


def keep(session_id: int) -> Session | None:
    """The session of somebody who sits in a room, while it lasts: being there is using it."""
    session = db.session.get(Session, session_id)
    if session is None or session.expires_at <= now() or session.user.blocked_at is not None:
        return None
    if session.seen_at + TOUCH_EVERY < now():
        session.seen_at = session.user.last_seen_at = now()
    return session


def living(user: User, *, idle: timedelta) -> list[Session]:
    """The browsers that are signed in as `user`, the one used last in front."""
    return list(
        db.session.scalars(
            select(Session)
            .options(lazyload(Session.user), joinedload(Session.registration))
            .where(Session.user_id == user.id, Session.expires_at > now(), Session.seen_at > now() - idle)
            .order_by(Session.seen_at.desc(), Session.id.desc())
        )
    )


def find_own(user: User, session_id: int) -> Session | None:
    """A session of this user; anybody else's is None."""
    return db.session.scalar(select(Session).filter_by(id=session_id, user_id=user.id))


def end(session: Session) -> None:
    """Sign out this browser."""
    db.session.delete(session)


def end_others(session: Session) -> None:
    """Sign the user out everywhere but in this browser."""
    db.session.execute(delete(Session).where(Session.user_id == session.user_id, Session.id != session.id))


def end_by_token(token: str) -> None:
    """Sign out the browser that holds this token."""
    db.session.execute(delete(Session).filter_by(token_hash=fingerprint(token)))


def end_all(user: User) -> None:
    """Sign the user out everywhere: a role was lost, or they asked."""
    db.session.execute(delete(Session).filter_by(user_id=user.id))


def shut_out(user: User) -> None:
    """No browser is signed in any more, and no ticket, mailed link or code signs one in."""
    end_all(user)
    db.session.execute(delete(SignInCode).filter_by(user_id=user.id))


def issue_ticket(session: Session, lifetime: timedelta = TICKET_LIFETIME) -> str:
    """A ticket for a new window of `session`'s person."""
    token = secrets.token_urlsafe(32)
    db.session.add(Ticket(token_hash=fingerprint(token), session_id=session.id, expires_at=now() + lifetime))
    return token


def spend_ticket(token: str) -> Session:
    """The session a ticket stands for; of two who come at once, one gets it. Raises TicketSpent."""
    spent = db.session.execute(
        delete(Ticket)
        .where(Ticket.token_hash == fingerprint(token))
        .returning(Ticket.session_id, Ticket.expires_at)
    ).first()
    if spent is None or spent.expires_at <= now():
        raise TicketSpent
    session = db.session.get(Session, spent.session_id)
    if session is None or session.expires_at <= now():
        raise TicketSpent
    return session


def ask_to_sign_in(email: str, *, asker: str = "", public_url: str, invitation_lifetime: timedelta) -> str:
    """Mail a link and a code for every account that has this mailbox; the asker token for the browser.

    One mailbox may be known to several accounts: each mails its own link and code, and the one that is
    used says which account is entered. Who has not answered an invitation yet gets that again instead.
    Nothing that the browser gets tells whether the address is known. `asker`: this browser asked for the
    same address before, and the codes that are on their way still work in it.
    """
    asker = asker or secrets.token_urlsafe(32)
    registered = False
    holders = holders_of(email)
    for user in holders:
        if user.status is Status.PENDING:
            invitations.resend(user, by=None, lifetime=invitation_lifetime, public_url=public_url)
            continue
        registered = True
        token, code = _issue(asker, user)
        mail.queue_sign_in(
            to=user.email,
            name=user.name,
            account=user.account.name,
            link=f"{public_url}/sign-in/link/{token}",
            code=code,
            about=f"user:{user.id}",
            locale=user.locale or user.account.locale,
        )
    if not registered:
        token, code = _issue(asker, None)
        if not holders:
            mail.rehearse_sign_in(to=email, link=f"{public_url}/sign-in/link/{token}", code=code)
    return asker


def _issue(asker: str, user: User | None) -> tuple[str, str]:
    """A link's token and six digits."""
    token, code = secrets.token_urlsafe(32), f"{secrets.randbelow(10**6):06d}"
    db.session.add(
        SignInCode(
            user_id=user.id if user else None,
            token_hash=fingerprint(token),
            asker_hash=fingerprint(asker),
            code_hash=fingerprint(asker + code),
            expires_at=now() + CODE_LIFETIME,
        )
    )
    db.session.flush()
    return token, code


def mint_link(user: User, *, public_url: str) -> str:
    """A one-use sign-in link, good for a day, for an operator to hand over."""
    token = secrets.token_urlsafe(32)
    db.session.add(
        SignInCode(
            user_id=user.id,
            token_hash=fingerprint(token),
            asker_hash=fingerprint(secrets.token_urlsafe(32)),
            code_hash="",
            expires_at=now() + timedelta(hours=24),
        )
    )
    db.session.flush()
    return f"{public_url}/sign-in/link/{token}"


def find_by_link(token: str) -> SignInCode | None:
    """The sign-in a mailed link belongs to, while it can still be used."""
    found = db.session.scalar(select(SignInCode).filter_by(token_hash=fingerprint(token), used_at=None))
    return found if found is not None and found.expires_at > now() else None


def sign_in_by_link(token: str) -> User:
    """Use up a mailed link. Raises CodeSpent."""
    found = find_by_link(token)
    if found is None:
        raise CodeSpent
    return _use(found)


def sign_in_by_code(asker: str, code: str) -> User:
    """Use up the six digits in the browser that asked. Raises CodeWrong, CodeSpent.

    A wrong try is counted in this transaction: the caller commits even when this raises CodeWrong.
    """
    tried = db.session.execute(
        update(SignInCode)
        .where(
            SignInCode.asker_hash == fingerprint(asker),
            SignInCode.used_at.is_(None),
            SignInCode.expires_at > now(),
            SignInCode.tries < CODE_TRIES,
        )
        .values(tries=SignInCode.tries + 1)
        .returning(SignInCode.id, SignInCode.code_hash, SignInCode.tries)
        .execution_options(synchronize_session=False)
    ).all()
    if not tried:
        raise CodeSpent
    wanted = fingerprint(asker + code)
    right = [row.id for row in tried if hmac.compare_digest(row.code_hash, wanted)]
    found = db.session.get(SignInCode, right[0]) if right else None
    if found is None or found.user is None:
        raise CodeWrong(CODE_TRIES - min(row.tries for row in tried))
    return _use(found)


def tell_of_sign_in(user: User, *, browser: str, public_url: str) -> None:
    """Mail an admin that somebody signed in as them in a browser that was not seen before."""
    mail.queue_new_sign_in(
        to=user.email,
        name=user.name,
        account=user.account.name,
        browser=browser,
        at=now(),
        link=f"{public_url}/me",
        about=f"user:{user.id}",
        locale=user.locale or user.account.locale,
    )


def _use(found: SignInCode) -> User:
    used = db.session.execute(
        update(SignInCode)
        .where(SignInCode.id == found.id, SignInCode.used_at.is_(None))
        .values(used_at=now())
        .returning(SignInCode.id)
        .execution_options(synchronize_session=False)
    ).first()
    if used is None or found.user is None or found.user.blocked_at is not None:
        raise CodeSpent
    # Those that the same browser was sent before go with it.
    db.session.execute(
        update(SignInCode)
        .where(
            SignInCode.asker_hash == found.asker_hash,
            SignInCode.user_id == found.user_id,
            SignInCode.used_at.is_(None),
        )
        .values(used_at=now())
        .execution_options(synchronize_session=False)
    )
    return found.user


def sweep() -> None:
    """Forget what can no longer be used."""
    for table in (Session, Ticket, SignInCode):
        db.session.execute(delete(table).where(table.expires_at <= now()))
