"""Registration and Deployment: which platforms we know (LTI 1.3 core, section 3.1.2 and 3.1.3).

Also how the rest of lti/ sees them: `Platform`, one registration's facts apart from the database session,
and `ToolConf`, pylti1p3's view of the tables.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pylti1p3.registration import Registration as LibraryRegistration
from pylti1p3.tool_config.abstract import ToolConfAbstract
from sqlalchemy import JSON, ForeignKey, UniqueConstraint, and_, bindparam, select, update
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lti_tool.database import Base, db, insert, now
from lti_tool.lti import keys
from lti_tool.lti.refusal import LaunchRefused, Refusal

# How old `last_launch_at` may get before a launch writes it anew: it is for people to read.
LAUNCH_NOTED_EVERY = timedelta(minutes=10)
# A clock that moved by so many seconds is noted before that, but not with every launch.
OFFSET_NOTED_FROM = 5.0
OFFSET_NOTED_EVERY = timedelta(minutes=1)


class RegistrationExists(Exception):
    """Another registration has this issuer and client id; it is never overwritten."""


class Registration(Base):
    """Our tool on one platform: issuer + client id. One hosted issuer may carry many clients."""

    __tablename__ = "registration"
    __table_args__ = (UniqueConstraint("issuer", "client_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    issuer: Mapped[str]
    client_id: Mapped[str]
    auth_url: Mapped[str]
    token_url: Mapped[str]
    # The `aud` of our client assertion where it differs from token_url (Brightspace, Canvas cloud).
    token_audience: Mapped[str | None]
    jwks_url: Mapped[str]
    # As the platform names itself in launches: "moodle", "canvas", … ; empty until the first launch.
    family: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_launch_at: Mapped[datetime | None]
    # What the platform agreed to when it was connected by a link (registration.read_agreement); else None.
    agreed: Mapped[Any | None] = mapped_column(JSON)
    # Seconds by which the platform's clock is ahead of ours (below zero: behind), as its launches show.
    clock_offset: Mapped[float | None]
    clock_seen_at: Mapped[datetime | None]

    deployments: Mapped[list["Deployment"]] = relationship(
        back_populates="registration", cascade="all, delete-orphan", order_by="Deployment.id"
    )


class Deployment(Base):
    """One placing of a registration on its platform; the tenant, since hosted issuers are shared."""

    __tablename__ = "deployment"
    __table_args__ = (UniqueConstraint("registration_id", "deployment_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    registration_id: Mapped[int] = mapped_column(ForeignKey("registration.id", ondelete="CASCADE"))
    # As the platform writes it; at most 255 ASCII characters.
    deployment_id: Mapped[str]
    # Where a launch from a deployment nobody approved yet came from, shown to whoever approves.
    first_seen_at: Mapped[datetime] = mapped_column(default=now)
    seen_title: Mapped[str] = mapped_column(default="")

    registration: Mapped[Registration] = relationship(back_populates="deployments")


@dataclass(frozen=True, slots=True)
class Platform:
    """One registration's facts, detached: they may be used while no transaction is open."""

    id: int
    issuer: str
    client_id: str
    auth_url: str
    token_url: str
    token_audience: str | None
    jwks_url: str
    family: str
    last_launch_at: datetime | None
    clock_offset: float | None
    clock_seen_at: datetime | None

    @classmethod
    def of(cls, registration: Registration) -> "Platform":
        """The facts of a loaded registration."""
        return cls(*(getattr(registration, name) for name in cls.__slots__))


# Made once, of tables rather than classes: every login and every launch begins with one of these.
_r, _d = Registration.__table__.c, Deployment.__table__.c
_FACTS: tuple[Any, ...] = tuple(_r[name] for name in Platform.__slots__)
_FIND_ISSUER = select(*_FACTS).where(_r.issuer == bindparam("issuer")).limit(2)
_FIND_CLIENT = _FIND_ISSUER.where(_r.client_id == bindparam("client"))


class ToolConf(ToolConfAbstract):
    """pylti1p3's view of the tables: any issuer may have many clients.

    The library's own keeps issuers in one dict on the class, shared by every tenant; this one keeps none.
    """

    def check_iss_has_one_client(self, iss: str) -> bool:
        """Never: hosted platforms have one issuer for all their customers."""
        return False

    def check_iss_has_many_clients(self, iss: str) -> bool:
        """Always, see above."""
        return True

    def find_registration_by_params(
        self, iss: str, client_id: str | None, *args: Any, **kwargs: Any
    ) -> "PlatformRegistration":
        """The one registration of issuer and client; without a client, the issuer's only one.

        Raises LaunchRefused if there is none, or more than one.
        """
        find = _FIND_CLIENT if client_id else _FIND_ISSUER
        rows = db.session.execute(
            find, {"issuer": iss, "client": client_id} if client_id else {"issuer": iss}
        ).all()
        if not rows:
            raise LaunchRefused(Refusal.REGISTRATION_UNKNOWN)
        if len(rows) > 1:
            raise LaunchRefused(Refusal.REGISTRATION_AMBIGUOUS)
        return PlatformRegistration(Platform(*rows[0]))

    def find_registration_by_issuer(self, iss: str, *args: Any, **kwargs: Any) -> "PlatformRegistration":
        """The issuer's only registration, see above."""
        return self.find_registration_by_params(iss, None)

    def find_deployment(self, iss: str, deployment_id: str) -> None:
        """Not asked: launch.py finds the deployment together with its registration."""

    def find_deployment_by_params(
        self, iss: str, deployment_id: str, client_id: str, *args: Any, **kwargs: Any
    ) -> None:
        """Not asked, see above."""


class PlatformRegistration(LibraryRegistration):
    """A registration as pylti1p3 wants it, made anew for each request: the library caches keys on it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.set_issuer(platform.issuer)
        self.set_client_id(platform.client_id)
        self.set_auth_login_url(platform.auth_url)
        self.set_auth_token_url(platform.token_url)
        self.set_key_set_url(platform.jwks_url)


def add_registration(
    *,
    name: str,
    issuer: str,
    client_id: str,
    auth_url: str,
    token_url: str,
    jwks_url: str,
    token_audience: str | None = None,
) -> Registration:
    """Store what the platform's admin read off. Raises RegistrationExists for a known pair.

    Our key pair exists from here on: the platform may ask for it before we first need it.
    """
    taken = select(Registration.id).filter_by(issuer=issuer, client_id=client_id)
    if db.session.scalar(taken) is not None:
        raise RegistrationExists(issuer, client_id)
    registration = Registration(
        name=name,
        issuer=issuer,
        client_id=client_id,
        auth_url=auth_url,
        token_url=token_url,
        jwks_url=jwks_url,
        token_audience=token_audience,
    )
    db.session.add(registration)
    db.session.flush()
    keys.current_key()
    return registration


def find_deployment(registration: Registration, deployment_id: str) -> Deployment | None:
    """The deployment with the platform's id, or None if it was never seen."""
    return db.session.scalar(
        select(Deployment).filter_by(registration_id=registration.id, deployment_id=deployment_id)
    )


_FIND_PLATFORM = (
    select(*_FACTS, _d.id)
    .select_from(Registration.__table__)
    .outerjoin(
        Deployment.__table__,
        and_(_d.registration_id == _r.id, _d.deployment_id == bindparam("deployment")),
    )
    .where(_r.id == bindparam("registration"))
)


def find_platform(registration_id: int, deployment_id: str) -> tuple[Platform, int | None] | None:
    """A registration's facts and the row id of one of its deployments, in one statement."""
    asked = {"registration": registration_id, "deployment": deployment_id}
    row = db.session.execute(_FIND_PLATFORM, asked).one_or_none()
    if row is None:
        return None
    *facts, deployment = row
    return Platform(*facts), deployment


def note_deployment(registration: Registration, deployment_id: str, title: str = "") -> Deployment:
    """The deployment with the platform's id, stored on first sight."""
    return db.session.get_one(Deployment, note_deployment_id(registration.id, deployment_id, title))


def note_deployment_id(registration_id: int, deployment_id: str, title: str = "") -> int:
    """The row id of the deployment with the platform's id, stored on first sight."""
    db.session.execute(
        insert(Deployment.__table__)
        .values(
            registration_id=registration_id,
            deployment_id=deployment_id,
            first_seen_at=now(),
            seen_title=title[:200],
        )
        .on_conflict_do_nothing()
    )
    # The other launch's row, if two first launches came at once.
    query = select(Deployment.id).filter_by(registration_id=registration_id, deployment_id=deployment_id)
    return db.session.execute(query).scalar_one()


def note_launch(platform: Platform, family: str, offset: float) -> None:
    """Remember that this platform launches, what it calls itself and what its clock says.

    Seldom, since launches are many.
    """
    last = platform.last_launch_at
    recent = last is not None and now() - last < LAUNCH_NOTED_EVERY
    if recent and (not family or family == platform.family) and not _is_new_offset(platform, offset):
        return
    db.session.execute(
        update(Registration)
        .where(Registration.id == platform.id)
        .values(
            last_launch_at=now(),
            family=family or platform.family,
            clock_offset=offset,
            clock_seen_at=now(),
        )
        .execution_options(synchronize_session=False)
    )


def _is_new_offset(platform: Platform, offset: float) -> bool:
    """Has the clock moved since it was noted? Asked once a minute: two servers of one LMS may disagree."""
    if platform.clock_offset is None or platform.clock_seen_at is None:
        return True
    moved = abs(offset - platform.clock_offset) > OFFSET_NOTED_FROM
    return moved and now() - platform.clock_seen_at >= OFFSET_NOTED_EVERY
