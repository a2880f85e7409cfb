"""Accounts and the people in them: Account, Connection, Tenancy, User, Identity, Role, Status."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Enum, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, select, text
from sqlalchemy.orm import Mapped, contains_eager, mapped_column, relationship

from lti_tool.database import Base, db, fold, now
from lti_tool.lti.registrations import Deployment, Registration


class Role(StrEnum):
    """What a user is in the account; `instructor` and `student` also per enrollment."""

    STUDENT = "student"
    INSTRUCTOR = "instructor"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        """Order of power, lowest first."""
        return _RANKS[self]

    @property
    def in_courses(self) -> "Role":
        """As what somebody with this role is put on a course's list."""
        return Role.INSTRUCTOR if self is Role.INSTRUCTOR else Role.STUDENT


_RANKS = {role: rank for rank, role in enumerate(Role)}


class Status(StrEnum):
    """`pending`: invited, has not answered. `registered`: has."""

    PENDING = "pending"
    REGISTERED = "registered"


def stored(enum: type[StrEnum], length: int = 20) -> Enum:
    """A column type that stores an enum's value as plain text on every database."""
    return Enum(enum, values_callable=lambda e: [m.value for m in e], native_enum=False, length=length)


class AccountExists(Exception):
    """Another account has this slug."""


class ArrivalRefused(Exception):
    """A launch that holds, of somebody who may not come in. Its message is used up all the same."""


class PersonBlocked(ArrivalRefused):
    """An admin shut this person out of the account; `.user` is who it is."""

    def __init__(self, user: "User") -> None:
        super().__init__(user.id)
        self.user = user


class Account(Base):
    """One institution. Every query of the product is inside one."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    # How operators name it on the command line.
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    locale: Mapped[str] = mapped_column(default="en")
    timezone: Mapped[str] = mapped_column(default="UTC")
    # May instructors invite students to their own courses?
    instructors_invite: Mapped[bool] = mapped_column(default=False)
    # Where its people write about their data or when something is wrong; empty: the operator's address.
    contact: Mapped[str] = mapped_column(default="")
    # Are admins mailed when somebody signs in as them in a new browser?
    tells_new_sign_ins: Mapped[bool] = mapped_column(default=True)
    # Days after which things are forgotten; 0 keeps them (see retention.py).
    keep_audit_days: Mapped[int] = mapped_column(default=730)
    keep_names_days: Mapped[int] = mapped_column(default=730)
    keep_ended_days: Mapped[int] = mapped_column(default=730)
    keep_unseen_days: Mapped[int] = mapped_column(default=0)
    keep_mail_days: Mapped[int] = mapped_column(default=90)
    keep_refused_days: Mapped[int] = mapped_column(default=90)
    # When forgetting last came to its end, what it forgot then, and what the run going on has so far.
    forgot_at: Mapped[datetime | None]
    forgot: Mapped[Any | None] = mapped_column(JSON, deferred=True)
    forgetting: Mapped[Any | None] = mapped_column(JSON, deferred=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Connection(Base):
    """An account's tie to a platform, with what the account lets that platform decide."""

    __tablename__ = "connection"
    __table_args__ = (UniqueConstraint("account_id", "registration_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    registration_id: Mapped[int] = mapped_column(
        ForeignKey("registration.id", ondelete="CASCADE"), index=True
    )
    # May this LMS's administrators be admins here?
    makes_admins: Mapped[bool] = mapped_column(default=True)
    # Are its teaching assistants instructors here?
    assistants_teach: Mapped[bool] = mapped_column(default=True)
    # Are its course designers and managers instructors here?
    designers_teach: Mapped[bool] = mapped_column(default=True)
    # What the account says of single roles: the role exactly as sent → "instructor" or "student".
    role_overrides: Mapped[Any] = mapped_column(JSON, default=dict)
    # How roles were read before the last change, for undo.
    roles_before: Mapped[Any | None] = mapped_column(JSON, deferred=True)
    # Are its e-mail addresses proof of who somebody is? Never for admins and owners.
    trusts_addresses: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)

    account: Mapped[Account] = relationship()
    registration: Mapped[Registration] = relationship()


class Tenancy(Base):
    """A deployment somebody approved: its launches belong to the connection's account.

    The deployment, not the issuer, is the tenant: hosted issuers are shared by all their customers.
    """

    __tablename__ = "tenancy"

    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployment.id", ondelete="CASCADE"), primary_key=True
    )
    connection_id: Mapped[int] = mapped_column(ForeignKey("connection.id", ondelete="CASCADE"), index=True)
    approved_at: Mapped[datetime] = mapped_column(default=now)

    connection: Mapped[Connection] = relationship()


class User(Base):
    """A person in an account."""

    __tablename__ = "user"
    __table_args__ = (
        UniqueConstraint("account_id", "id"),
        # Each is an order of the users page, followed by what is asked of the rows it is walked along.
        Index(
            "ix_user_list",
            *("account_id", "name_key", "id", "listed", "email_key", "role", "status", "blocked_at"),
        ),
        Index("ix_user_email", "account_id", "email_key", "id", "listed", "name_key"),
        Index("ix_user_role", "account_id", "role", "name_key", "id", "listed", "status", "blocked_at"),
        Index("ix_user_status", "account_id", "status", "name_key", "id", "listed", "blocked_at", "role"),
        Index("ix_user_seen", "account_id", "last_seen_at", "id", "listed"),
        Index(
            "ix_user_blocked",
            *("account_id", "name_key", "id", "listed", "blocked_at"),
            sqlite_where=text("blocked_at IS NOT NULL"),
            postgresql_where=text("blocked_at IS NOT NULL"),
        ),
        # One person per proven mailbox; addresses that an LMS merely claims may repeat.
        Index(
            "uq_user_mailbox",
            "account_id",
            "email_key",
            unique=True,
            sqlite_where=text("mailbox_proven"),
            postgresql_where=text("mailbox_proven"),
        ),
        # The audit log names the deleted by number: SQLite, too, gives none a second time.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(default="")
    # `name` or else the address, folded: what lists search and sort by.
    name_key: Mapped[str] = mapped_column(default="")
    email: Mapped[str] = mapped_column(default="")
    email_key: Mapped[str] = mapped_column(default="")
    # Has this person, or the invitation that waits for them, been tied to the mailbox itself?
    mailbox_proven: Mapped[bool] = mapped_column(default=False)
    # Set by hand here: an LMS no longer overwrites it.
    name_by_hand: Mapped[bool] = mapped_column(default=False)
    role: Mapped[Role] = mapped_column(stored(Role), default=Role.STUDENT)
    # The registration whose word alone makes this person an admin; when it stops saying so, so do we.
    made_admin_by_id: Mapped[int | None] = mapped_column(ForeignKey("registration.id", ondelete="SET NULL"))
    status: Mapped[Status] = mapped_column(stored(Status), default=Status.REGISTERED)
    # A platform's preview account: never mailed, never counted.
    is_test: Mapped[bool] = mapped_column(default=False)
    locale: Mapped[str] = mapped_column(default="")
    timezone: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    registered_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None]
    # An admin shut this person out: no launch, link or code lets them in.
    blocked_at: Mapped[datetime | None]
    # On the users page? Not a platform's preview accounts, nor whoever was merged into somebody else.
    listed: Mapped[bool] = mapped_column(default=True)
    # Who this person turned out to be; until undoing that is over, what they were stays here.
    merged_into_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)

    account: Mapped[Account] = relationship()

    @property
    def label(self) -> str:
        """How the person is called on pages: name, else address, else an honest number."""
        return self.name or self.email or f"#{self.id}"


class Identity(Base):
    """(account, registration, subject) → user. E-mail is never a key."""

    __tablename__ = "identity"
    __table_args__ = (
        UniqueConstraint("account_id", "registration_id", "subject"),
        ForeignKeyConstraint(["account_id", "user_id"], ["user.account_id", "user.id"], ondelete="CASCADE"),
        Index("ix_identity_user", "user_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    registration_id: Mapped[int] = mapped_column(ForeignKey("registration.id", ondelete="CASCADE"))
    # The platform's `sub`: at most 255 characters, meaningful only there.
    subject: Mapped[str]
    user_id: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_launch_at: Mapped[datetime | None]

    user: Mapped[User] = relationship()


def add_account(slug: str, name: str) -> Account:
    """A new institution. Raises AccountExists."""
    if find_account(slug) is not None:
        raise AccountExists(slug)
    account = Account(slug=slug, name=name)
    db.session.add(account)
    db.session.flush()
    return account


def find_account(slug: str) -> Account | None:
    """The account that operators call `slug`."""
    return db.session.scalar(select(Account).filter_by(slug=slug))


def connect(account: Account, registration: Registration) -> Connection:
    """Tie `account` to a platform; a second time changes nothing."""
    connection = find_connection(account, registration.id)
    if connection is None:
        connection = Connection(account_id=account.id, registration_id=registration.id)
        db.session.add(connection)
        db.session.flush()
    return connection


def find_connection(account: Account, registration_id: int) -> Connection | None:
    """The account's tie to a registration."""
    return db.session.scalar(
        select(Connection).filter_by(account_id=account.id, registration_id=registration_id)
    )


def connections_of(registration: Registration) -> list[Connection]:
    """Every account's tie to a registration."""
    return list(db.session.scalars(select(Connection).filter_by(registration_id=registration.id)))


def approve(connection: Connection, deployment: Deployment) -> Tenancy:
    """From now on launches from `deployment` belong to the connection's account."""
    tenancy = db.session.get(Tenancy, deployment.id)
    if tenancy is None:
        tenancy = Tenancy(deployment_id=deployment.id, connection_id=connection.id)
        db.session.add(tenancy)
        db.session.flush()
    return tenancy


def waiting_deployments(account: Account) -> list[Deployment]:
    """Deployments of the account's platforms that nobody approved.

    A registration that several accounts share is left out: which of them a deployment belongs to is
    the operator's to say, not the guess of whoever looks first. So is one that another account let go
    and still has people from, who may be those who wait.
    """
    stranger = select(Account.id).where(
        Account.id != account.id,
        select(Identity.id)
        .where(
            Identity.account_id == Account.id,
            Identity.registration_id == Deployment.registration_id,
        )
        .exists(),
    )
    shared = (
        select(Connection.registration_id)
        .group_by(Connection.registration_id)
        .having(db.func.count(Connection.id) > 1)
    )
    return list(
        db.session.scalars(
            select(Deployment)
            .join(Connection, Connection.registration_id == Deployment.registration_id)
            .outerjoin(Tenancy, Tenancy.deployment_id == Deployment.id)
            .where(
                Connection.account_id == account.id,
                Tenancy.deployment_id.is_(None),
                Deployment.registration_id.not_in(shared),
                ~stranger.exists(),
            )
            .order_by(Deployment.first_seen_at)
        )
    )


def add_user(
    account_id: int,
    *,
    name: str = "",
    email: str = "",
    role: Role = Role.STUDENT,
    status: Status = Status.REGISTERED,
    mailbox_proven: bool = False,
    is_test: bool = False,
    seen_at: datetime | None = None,
) -> User:
    """A new person. The caller has made sure that the mailbox, if proven, is nobody else's."""
    user = User(
        account_id=account_id,
        role=role,
        status=status,
        mailbox_proven=mailbox_proven,
        is_test=is_test,
        listed=not is_test,
        last_seen_at=seen_at,
        registered_at=now() if status is Status.REGISTERED else None,
    )
    rename(user, name=name, email=email)
    db.session.add(user)
    db.session.flush()
    return user


def rename(user: User, *, name: str, email: str) -> None:
    """Set name and address with their search keys, writing nothing when nothing changed."""
    if (user.name, user.email) == (name, email) and user.name_key:
        return
    user.name, user.email = name, email
    user.name_key, user.email_key = fold(name or email), email_key(email)


def email_key(email: str) -> str:
    """An address as it is compared: two spellings of one mailbox in practice are one key."""
    return email.strip().casefold()


def find_user(account_id: int, user_id: int) -> User | None:
    """A user of this account; another account's is None, and so is who was merged into somebody else."""
    if not 0 < user_id < 2**31:
        # A number no id can have, which SQLite would not even take.
        return None
    return db.session.scalar(select(User).filter_by(account_id=account_id, id=user_id, merged_into_id=None))


def find_by_mailbox(account_id: int, email: str) -> User | None:
    """The person who proved, or is invited to prove, that this mailbox is theirs."""
    return db.session.scalar(
        select(User).filter_by(account_id=account_id, email_key=email_key(email), mailbox_proven=True)
    )


def find_known(account_id: int, email: str) -> User | None:
    """Who in the account has this address beyond doubt: proven, or claimed by an LMS that is trusted."""
    if not email.strip():
        return None
    user = find_by_mailbox(account_id, email)
    if user is not None:
        return user
    return db.session.scalar(
        select(User)
        .join(Identity, Identity.user_id == User.id)
        .join(
            Connection,
            (Connection.registration_id == Identity.registration_id)
            & (Connection.account_id == Identity.account_id),
        )
        .where(
            User.account_id == account_id,
            User.email_key == email_key(email),
            User.role.in_([Role.STUDENT, Role.INSTRUCTOR]),
            User.is_test.is_(False),
            Connection.trusts_addresses,
        )
        .order_by(User.id)
        .limit(1)
    )


def holders_of(email: str) -> list[User]:
    """Everybody who proved, or is invited to prove, that this mailbox is theirs: one per account."""
    return list(
        db.session.scalars(
            # Through the accounts, of which there are few, to the index that begins with them.
            select(User)
            .join(Account, Account.id == User.account_id)
            .options(contains_eager(User.account))
            .where(
                User.email_key == email_key(email),
                User.mailbox_proven,
                User.is_test.is_(False),
                # Whoever is shut out is mailed nothing, as if nobody had the address.
                User.blocked_at.is_(None),
            )
            .order_by(Account.id)
        )
    )


def find_only_account() -> Account | None:
    """The account of an installation that has just one."""
    found = list(db.session.scalars(select(Account).limit(2)))
    return found[0] if len(found) == 1 else None


def owners(account_id: int) -> list[User]:
    """Those who can never all be removed."""
    return list(db.session.scalars(select(User).filter_by(account_id=account_id, role=Role.OWNER)))
