"""The one-use link that connects an LMS: an admin makes it here and opens it there.

That it is opened inside the LMS proves what typed-in values do not: whose LMS it is. Its token is 256 random
bits of which the database holds the SHA-256.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, ForeignKey, Index, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from lti_tool.classroom import access, accounts, audit, platforms
from lti_tool.classroom.accounts import Account, User
from lti_tool.classroom.roster import PLATFORM_NAMES
from lti_tool.database import Base, db, is_id, now
from lti_tool.lti import registrations
from lti_tool.lti.registration import Configuration, Fault, Registered, RegistrationRefused
from lti_tool.lti.registrations import Registration, RegistrationExists
from lti_tool.sealing import fingerprint

LIFETIME = timedelta(hours=24)
# Longer than a platform may take to answer; should we die meanwhile, the link is free again after it.
HOLD = timedelta(minutes=1)


class RegistrationLink(Base):
    """One permission to connect one LMS to an account."""

    __tablename__ = "registration_link"
    __table_args__ = (Index("ix_registration_link_account", "account_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    # The kind of LMS it was made for, which only changes words.
    kind: Mapped[str] = mapped_column(default="")
    token_hash: Mapped[str] = mapped_column(unique=True)
    # None: the operator.
    made_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    # The row stays: a page that the link once opened carries its id.
    withdrawn_at: Mapped[datetime | None]
    # What became of it so far: where it was opened, and why that came to nothing.
    opened_at: Mapped[datetime | None]
    host: Mapped[str] = mapped_column(default="")
    fault: Mapped[Fault | None] = mapped_column(accounts.stored(Fault, 40))
    # While an LMS is being asked: nobody else may use the link until then.
    held_until: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    registration_id: Mapped[int | None] = mapped_column(ForeignKey("registration.id", ondelete="SET NULL"))

    account: Mapped[Account] = relationship()
    made_by: Mapped[User | None] = relationship()
    registration: Mapped[Registration | None] = relationship()

    @property
    def open(self) -> bool:
        """Can it still be used?"""
        return self.used_at is None and self.withdrawn_at is None and self.expires_at > now()


def make_link(
    account: Account, kind: str, *, by: User | None = None, source: str = ""
) -> tuple[RegistrationLink, str]:
    """A new link and its token, which is shown once."""
    token = secrets.token_urlsafe(32)
    link = RegistrationLink(
        account_id=account.id,
        kind=kind,
        token_hash=fingerprint(token),
        made_by_id=by.id if by else None,
        expires_at=now() + LIFETIME,
    )
    db.session.add(link)
    db.session.flush()
    audit.record(account.id, "link.made", f"registration_link:{link.id}", by=by, source=source)
    return link, token


def open_links(account: Account) -> list[RegistrationLink]:
    """Those that can still be used, newest first."""
    links = db.session.scalars(
        select(RegistrationLink)
        .options(joinedload(RegistrationLink.made_by))
        .where(
            RegistrationLink.account_id == account.id,
            RegistrationLink.used_at.is_(None),
            RegistrationLink.withdrawn_at.is_(None),
            RegistrationLink.expires_at > now(),
        )
        .order_by(RegistrationLink.id.desc())
    )
    return [link for link in links if _is_backed(link)]


def connected_links(account: Account, ids: Sequence[int]) -> list[RegistrationLink]:
    """Those of these links that connected an LMS, newest first; another account's are left out."""
    return list(
        db.session.scalars(
            select(RegistrationLink)
            .options(joinedload(RegistrationLink.registration))
            .where(
                RegistrationLink.account_id == account.id,
                RegistrationLink.id.in_([one for one in ids if is_id(one)]),
                RegistrationLink.registration_id.is_not(None),
            )
            .order_by(RegistrationLink.id.desc())
        )
    )


def find_link(account_id: int, link_id: int) -> RegistrationLink | None:
    """A link of this account that was not withdrawn; another account's is None."""
    return db.session.scalar(
        select(RegistrationLink)
        .options(joinedload(RegistrationLink.registration))
        .filter_by(account_id=account_id, id=link_id, withdrawn_at=None)
    )


def withdraw(link: RegistrationLink, *, by: User | None) -> None:
    """Nobody can use the link any more."""
    audit.record(link.account_id, "link.withdrawn", f"registration_link:{link.id}", by=by)
    link.withdrawn_at = now()


def withdraw_all(user: User, *, by: User | None) -> None:
    """Whoever is deleted leaves no link behind, which would pass for the operator's."""
    for link in db.session.scalars(
        select(RegistrationLink).filter_by(made_by_id=user.id, used_at=None, withdrawn_at=None)
    ).all():
        withdraw(link, by=by)


def _is_backed(link: RegistrationLink) -> bool:
    """May whoever made it still connect an LMS? A link must not outlive its maker's rights."""
    return link.made_by is None or access.can_manage_platforms(link.made_by)


# --- being used --------------------------------------------------------------------------


def find_by_token(token: str) -> RegistrationLink:
    """The link behind a token. Raises RegistrationRefused for one that cannot be used."""
    link = db.session.scalar(
        select(RegistrationLink)
        .options(joinedload(RegistrationLink.account))
        .filter_by(token_hash=fingerprint(token))
    )
    if link is None:
        raise RegistrationRefused(Fault.LINK_UNKNOWN)
    _check(link)
    return link


def _check(link: RegistrationLink) -> None:
    if link.withdrawn_at is not None or not (link.used_at or _is_backed(link)):
        raise RegistrationRefused(Fault.LINK_UNKNOWN)
    if link.used_at is not None:
        raise RegistrationRefused(Fault.LINK_USED)
    if link.expires_at <= now():
        raise RegistrationRefused(Fault.LINK_EXPIRED)


def note(link_id: int, host: str, fault: Fault | None) -> None:
    """An LMS opened the link, and perhaps that came to nothing: shown to whoever waits for it."""
    link = db.session.get(RegistrationLink, link_id)
    if link is not None and link.open:
        link.opened_at, link.host, link.fault = now(), host[:255], fault


def take(link_id: int, host: str) -> datetime:
    """Hold the link while its LMS is asked; until when. Raises RegistrationRefused.

    Of two that try at once one gets it.
    """
    link = db.session.get(RegistrationLink, link_id)
    if link is None or not _is_backed(link):
        raise RegistrationRefused(Fault.LINK_UNKNOWN)
    until = now() + HOLD
    free = or_(RegistrationLink.held_until.is_(None), RegistrationLink.held_until <= now())
    seen = {"opened_at": now(), "host": host[:255], "fault": None}
    if not _change(link_id, free, RegistrationLink.expires_at > now(), held_until=until, **seen):
        db.session.refresh(link)
        _check(link)
        raise RegistrationRefused(Fault.LINK_BUSY)
    return until


def give_back(link_id: int, held_until: datetime, fault: Fault) -> None:
    """It came to nothing: the link can be used again, and says why."""
    mine = RegistrationLink.held_until == held_until
    _change(link_id, mine, held_until=None, fault=fault)


def connect(
    link_id: int, held_until: datetime, configuration: Configuration, registered: Registered
) -> RegistrationLink:
    """The LMS took us: store what was agreed and spend the link. Raises RegistrationRefused.

    The account's own registration of the same issuer and client id is brought up to date, with its switches
    and people as they were; another account's is never touched.
    """
    mine = RegistrationLink.held_until == held_until
    if not _change(link_id, mine, used_at=now(), host=configuration.host[:255], fault=None):
        raise RegistrationRefused(Fault.LINK_BUSY)
    link = db.session.get_one(RegistrationLink, link_id, populate_existing=True)
    registration, before = _store(link.account, configuration, registered)
    connection = accounts.connect(link.account, registration)
    if registered.deployment_id is not None:
        accounts.approve(connection, registrations.note_deployment(registration, registered.deployment_id))
    link.registration_id = registration.id
    audit.record(
        link.account_id,
        "platform.renewed" if before else "platform.connected",
        f"registration:{registration.id}",
        by=link.made_by,
        source="link",
        before=before,
        after={"issuer": registration.issuer, "deployment": registered.deployment_id, **registered.agreed},
    )
    return link


def _store(
    account: Account, configuration: Configuration, registered: Registered
) -> tuple[Registration, Any]:
    """The registration, new or brought up to date, and what was agreed before."""
    addresses = {
        name: getattr(configuration, name) for name in ("auth_url", "token_url", "jwks_url", "token_audience")
    }
    try:
        registration = platforms.find_own(account, configuration.issuer, registered.client_id)
        platforms.check_client(account, registered.client_id, configuration.token_url)
        before = None
        if registration is None:
            with db.session.begin_nested():
                registration = registrations.add_registration(
                    name=PLATFORM_NAMES.get(configuration.family, configuration.host),
                    issuer=configuration.issuer,
                    client_id=registered.client_id,
                    **addresses,
                )
        else:
            before = {"issuer": registration.issuer, **(registration.agreed or {})}
            for name, value in addresses.items():
                setattr(registration, name, value)
    except (RegistrationExists, IntegrityError):
        raise RegistrationRefused(Fault.REGISTRATION_TAKEN) from None
    registration.family = configuration.family or registration.family
    registration.agreed = registered.agreed
    return registration, before


def _change(link_id: int, *conditions: Any, **values: Any) -> bool:
    """Change an unused link if the conditions hold at this moment; did they?"""
    changed = db.session.execute(
        update(RegistrationLink)
        .where(
            RegistrationLink.id == link_id,
            RegistrationLink.used_at.is_(None),
            RegistrationLink.withdrawn_at.is_(None),
            *conditions,
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return cast(CursorResult[Any], changed).rowcount == 1
