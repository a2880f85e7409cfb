"""Linking: somebody who comes from an LMS and the person with a proven mailbox are one, and prove it.

An LMS's address is a claim and never enough. There are three proofs:

- a code that was mailed to the address, entered in the browser session that asked for it;
- signing in here and coming from the LMS in one browser, both just now (pages/linking.py knows);
- the account's word that this LMS's addresses are true (`Connection.trusts_addresses`), never for admins.

What may be linked, whatever the proof (`may_link`):

    arrived from the LMS    mailbox person below admin    mailbox person an admin or owner
    below admin             yes                           if all LMSs that know the arrived may make admins
    admin or owner          no, an admin merges           the same, and not if the mailbox person is below

The mailbox person keeps the account role they have: a link raises nobody. What the arrived is in courses
comes along. An LMS that may not make admins never opens an admin's door, since its operator can launch as
anybody it knows; `admin_door_shut` says so again at each launch, for those who became admins after they
were linked, and for LMSs that were allowed it then. And an LMS's word makes no admin of a person with a
mailbox of their own: they would stay one, by signing in with mail, after the LMS takes it back.

The note "Is that you?" appears only to whom an LMS claims the same address for. So whoever controls an LMS
of the account can learn whether an address is known in it: the price of offering anything, paid only inside
one account. Whoever types an address instead learns nothing: each gets a code.
"""

import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, bindparam, delete, func, select, update
from sqlalchemy.orm import Mapped, aliased, joinedload, mapped_column

from lti_tool import mail
from lti_tool.classroom import answers, audit
from lti_tool.classroom.accounts import Connection, Identity, Role, Status, User, email_key, rename
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.invitations import AddressWrong, Answer, Invitation, check_address
from lti_tool.classroom.sessions import CODE_LIFETIME, CODE_TRIES, CodeWrong, Session
from lti_tool.database import Base, db, insert, now
from lti_tool.sealing import fingerprint, seal, unseal

# An own sign-in and a launch in one browser are a proof only while both are as fresh as a code would be:
# later, somebody else may sit there.
FRESH = CODE_LIFETIME
# Addresses looked up by one statement.
_CHUNK = 500


class LinkSpent(Exception):
    """The code was used, has expired, had too many wrong tries, or was asked for in another browser."""


class LinkRefused(Exception):
    """These two may not be linked by the person themselves; an admin may still merge them."""


class LinkCode(Base):
    """Six digits mailed to an address, good once, in the browser session that asked."""

    __tablename__ = "link_code"
    __table_args__ = (Index("ix_link_code_expires_at", "expires_at"),)

    session_id: Mapped[int] = mapped_column(ForeignKey("session.id", ondelete="CASCADE"), primary_key=True)
    # The address, and a secret that stands before the digits in their hash: six digits alone are soon found.
    sealed: Mapped[str]
    code_hash: Mapped[str]
    tries: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime]


class LinkRefusal(Base):
    """ "Not me": this person is not asked again whether they are that one."""

    __tablename__ = "link_refusal"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), primary_key=True)
    other_id: Mapped[int] = mapped_column(
        ForeignKey("user.id", ondelete="CASCADE"), primary_key=True, index=True
    )


# --- who may be linked with whom ---------------------------------------------------------


def find_offer(user: User) -> User | None:
    """The person with a proven mailbox whose address an LMS claims for `user`, if they may be asked."""
    if user.mailbox_proven or not user.email_key:
        return None
    asked = {"account": user.account_id, "email": user.email_key, "user": user.id}
    other = db.session.scalar(_FIND_OFFER, asked)
    return other if other is not None and may_link(user, other) else None


# Made once: every course page of people from an LMS asks.
_FIND_OFFER = select(User).where(
    User.account_id == bindparam("account"),
    User.email_key == bindparam("email"),
    User.mailbox_proven,
    ~select(LinkRefusal.user_id)
    .where(LinkRefusal.user_id == bindparam("user"), LinkRefusal.other_id == User.id)
    .exists(),
)


def may_link(arrived: User, other: User) -> bool:
    """May `arrived` become one with `other`, once a proof is there? See the table above."""
    if arrived.id == other.id or arrived.account_id != other.account_id:
        return False
    if arrived.mailbox_proven or not other.mailbox_proven:
        return False
    for user in (arrived, other):
        if user.is_test or user.blocked_at is not None or user.merged_into_id is not None:
            return False
    if _administers(arrived) and arrived.role.rank > other.role.rank:
        return False
    return not _administers(other) or opens_admin_doors(arrived)


def may_prove(user: User) -> bool:
    """May this person prove a mailbox, to sign in by mail from then on? See above about LMS-made admins."""
    return not (user.mailbox_proven or user.is_test or user.blocked_at) and user.made_admin_by_id is None


def opens_admin_doors(user: User) -> bool:
    """May every LMS that knows this person make admins? Else its operator could launch as one."""
    barred = (
        select(Identity.id)
        .outerjoin(
            Connection,
            (Connection.account_id == Identity.account_id)
            & (Connection.registration_id == Identity.registration_id),
        )
        .where(Identity.user_id == user.id, Connection.makes_admins.is_not(True))
    )
    return db.session.scalar(barred.limit(1)) is None


def admin_door_shut(user: User, connection: Connection) -> bool:
    """Is this an admin whom this LMS may not sign in?

    An admin who is known by LMSs alone comes in all the same: whoever made them one meant just that person.
    """
    return _administers(user) and user.mailbox_proven and not connection.makes_admins


def is_shut_out(session: Session) -> bool:
    """Did somebody come through such a door before it was one: before they were an admin, or it was shut?"""
    user = session.user
    if session.registration_id is None or not (_administers(user) and user.mailbox_proven):
        return False
    allowed = select(Connection.id).where(
        Connection.account_id == user.account_id,
        Connection.registration_id == session.registration_id,
        Connection.makes_admins,
    )
    return db.session.scalar(allowed) is None


def _administers(user: User) -> bool:
    return user.role.rank >= Role.ADMIN.rank


def refuse(user: User, other: User) -> None:
    """ "Not me", for good."""
    db.session.execute(
        insert(LinkRefusal).values(user_id=user.id, other_id=other.id).on_conflict_do_nothing()
    )


def is_refused(user: User, other: User) -> bool:
    """Did this person say "Not me" of that one?"""
    return db.session.get(LinkRefusal, (user.id, other.id)) is not None


# --- the mailed code ---------------------------------------------------------------------


def send_code(session: Session, email: str, *, account: str, locale: str) -> None:
    """Mail six digits to an address, whoever's it is; what was mailed for this session before is void."""
    nonce, code = secrets.token_urlsafe(32), f"{secrets.randbelow(10**6):06d}"
    db.session.execute(delete(LinkCode).where(LinkCode.session_id == session.id))
    db.session.add(
        LinkCode(
            session_id=session.id,
            sealed=seal("link", f"{nonce} {email}"),
            code_hash=fingerprint(nonce + code),
            expires_at=now() + CODE_LIFETIME,
        )
    )
    mail.queue_link_code(
        to=email, asker=session.user.label, account=account, code=code, about=_topic(session), locale=locale
    )


def _topic(session: Session) -> str:
    return f"user:{session.user_id}"


def find_asked(session: Session) -> str | None:
    """The address whose code this session waits for."""
    found = db.session.get(LinkCode, session.id)
    if found is None or found.expires_at <= now() or found.tries >= CODE_TRIES:
        return None
    return _opened(found.sealed)[1]


def try_code(session: Session, code: str) -> str:
    """Use up the six digits; the address that is proven by them. Raises CodeWrong, LinkSpent.

    A wrong try is counted in this transaction: the caller commits even when this raises CodeWrong.
    """
    tried = db.session.execute(
        update(LinkCode)
        .where(LinkCode.session_id == session.id, LinkCode.expires_at > now(), LinkCode.tries < CODE_TRIES)
        .values(tries=LinkCode.tries + 1)
        .returning(LinkCode.sealed, LinkCode.code_hash, LinkCode.tries)
        .execution_options(synchronize_session=False)
    ).first()
    if tried is None:
        raise LinkSpent
    nonce, email = _opened(tried.sealed)
    if not hmac.compare_digest(tried.code_hash, fingerprint(nonce + code)):
        raise CodeWrong(CODE_TRIES - tried.tries)
    # The row is locked by the count above: of two who bring it at once, the later finds it gone.
    db.session.execute(delete(LinkCode).where(LinkCode.session_id == session.id))
    return email


def _opened(sealed: str) -> tuple[str, str]:
    nonce, _, email = unseal("link", sealed).partition(" ")
    return nonce, email


def sweep() -> None:
    """Forget codes that can no longer be used."""
    db.session.execute(delete(LinkCode).where(LinkCode.expires_at <= now()))


def take_mailbox(user: User, email: str) -> None:
    """A proven address that nobody has here becomes this person's own."""
    rename(user, name=user.name, email=email)
    user.mailbox_proven = True
    db.session.flush()
    audit.record(user.account_id, "mailbox.proven", f"user:{user.id}", by=user)


def welcome(user: User) -> None:
    """Somebody pending has come by another way: registered, and what waits for an answer is answered."""
    if user.status is not Status.PENDING:
        return
    user.status, user.registered_at = Status.REGISTERED, now()
    for invitation in db.session.scalars(select(Invitation).filter_by(user_id=user.id, answer=None)).all():
        answers.settle(invitation, Answer.ACCEPTED)


# --- addresses that an LMS is trusted with -----------------------------------------------


def _trustable(account_id: int, registration_id: int) -> tuple[Any, ...]:
    """People below admin with a mailbox of their own, whom this LMS does not know yet."""
    known = aliased(Identity)
    return (
        User.account_id == account_id,
        User.mailbox_proven,
        User.role.in_([Role.STUDENT, Role.INSTRUCTOR]),
        User.is_test.is_(False),
        ~select(known.id).where(known.user_id == User.id, known.registration_id == registration_id).exists(),
    )


def find_trusted(connection: Connection, email: str | None) -> User | None:
    """The person whose mailbox a trusted LMS says a newcomer has; nobody where it is not trusted.

    Who is blocked is found too, so that coming by another way does not let them in.
    """
    if not connection.trusts_addresses or not _is_address(email or ""):
        return None
    return db.session.scalar(
        select(User)
        .options(joinedload(User.account))
        .where(
            *_trustable(connection.account_id, connection.registration_id),
            User.email_key == email_key(email or ""),
        )
    )


def _is_address(email: str) -> bool:
    try:
        check_address(email)
    except AddressWrong:
        return False
    return True


def link_identity(user: User, registration_id: int, subject: str, *, source: str = "lms") -> Identity:
    """From now on this subject of the LMS is `user`."""
    identity = Identity(
        account_id=user.account_id, registration_id=registration_id, subject=subject, user_id=user.id
    )
    db.session.add(identity)
    _note_link(user.account_id, user.id, registration_id, source)
    return identity


def _note_link(account_id: int, user_id: int, registration_id: int, source: str) -> None:
    audit.record(
        account_id,
        "identity.linked",
        f"user:{user_id}",
        source=source,
        after={"registration": registration_id},
    )


def link_members(
    account_id: int, registration_id: int, context_id: int, members: Sequence[tuple[str, str]]
) -> dict[str, int]:
    """Newcomers of a list, as (subject, address), who are people here already; subject → user's id.

    One statement for each chunk of them, and none where the LMS is not trusted. Who is pending stays so
    until they come: being on a list is no answer to an invitation.
    """
    if not members or not _trusts(account_id, registration_id):
        return {}
    subjects: dict[str, str | None] = {}
    for subject, email in members:
        key = email_key(email)
        # Two with one address: it says nothing about either.
        subjects[key] = None if key in subjects else subject
    keys = [key for key, subject in subjects.items() if key and subject is not None]
    linked: dict[str, int] = {}
    for start in range(0, len(keys), _CHUNK):
        found = db.session.execute(
            select(User.id, User.email_key).where(
                *_trustable(account_id, registration_id),
                User.email_key.in_(keys[start : start + _CHUNK]),
                User.blocked_at.is_(None),
                ~select(Enrollment.id)
                .where(Enrollment.context_id == context_id, Enrollment.user_id == User.id)
                .exists(),
            )
        )
        linked |= {str(subjects[row.email_key]): row.id for row in found if _is_address(row.email_key)}
    rows: list[dict[str, Any]] = [
        {
            "account_id": account_id,
            "registration_id": registration_id,
            "subject": subject,
            "user_id": user_id,
            "created_at": now(),
        }
        for subject, user_id in linked.items()
    ]
    if rows:
        db.session.execute(insert(Identity.__table__), rows)
    for user_id in linked.values():
        _note_link(account_id, user_id, registration_id, "lms")
    return linked


def _trusts(account_id: int, registration_id: int) -> bool:
    trusting = select(func.count(Connection.id)).where(
        Connection.account_id == account_id,
        Connection.registration_id == registration_id,
        Connection.trusts_addresses,
    )
    return bool(db.session.scalar(trusting))
