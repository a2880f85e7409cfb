"""What an account lets its LMSs do: approving deployments, the switches, letting an LMS go."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, func, or_, select, update

from lti_tool.classroom import accounts, audit, sessions
from lti_tool.classroom.accounts import Account, Connection, Identity, Role, Tenancy, User
from lti_tool.classroom.courses import Context, Enrollment, Source
from lti_tool.classroom.sessions import Session
from lti_tool.database import db, now
from lti_tool.lti import registrations
from lti_tool.lti.registrations import Deployment, Registration, RegistrationExists


class ClientTaken(RegistrationExists):
    """Another account's LMS knows us by this client id, and would take what we sign here for its own."""


# Client ids below it are counted up: a self-hosted Canvas begins at 10,000,000,000,001.
_COUNTED = 2 * 10**13


class NoAdminLeft(Exception):
    """Everybody who is an admin is one only by this LMS's word."""


@dataclass(frozen=True)
class Tie:
    """One LMS of an account with what hangs on it."""

    connection: Connection
    registration: Registration
    deployments: tuple[Deployment, ...]
    courses: int
    people: int
    # Those who are admins only because this LMS says so.
    admins: int


def list_ties(account: Account) -> list[Tie]:
    """The account's LMSs, in five statements however many."""
    rows = db.session.execute(
        select(Connection, Registration)
        .join(Registration, Registration.id == Connection.registration_id)
        .where(Connection.account_id == account.id)
        .order_by(Connection.id)
    ).all()
    courses = _count(
        select(Deployment.registration_id, func.count(Context.course_id.distinct()))
        .join(Context, Context.deployment_id == Deployment.id)
        .where(Context.account_id == account.id)
        .group_by(Deployment.registration_id)
    )
    people = _count(
        select(Identity.registration_id, func.count(Identity.user_id.distinct()))
        .join(User, User.id == Identity.user_id)
        .where(Identity.account_id == account.id, User.is_test.is_(False))
        .group_by(Identity.registration_id)
    )
    admins = _count(
        select(User.made_admin_by_id, func.count())
        .where(User.account_id == account.id, User.made_admin_by_id.is_not(None))
        .group_by(User.made_admin_by_id)
    )
    approved: dict[int, list[Deployment]] = {}
    for connection_id, deployment in db.session.execute(
        select(Tenancy.connection_id, Deployment)
        .join(Deployment, Deployment.id == Tenancy.deployment_id)
        .join(Connection, Connection.id == Tenancy.connection_id)
        .where(Connection.account_id == account.id)
        .order_by(Deployment.id)
    ):
        approved.setdefault(connection_id, []).append(deployment)
    return [
        Tie(
            connection,
            registration,
            tuple(approved.get(connection.id, ())),
            courses.get(registration.id, 0),
            people.get(registration.id, 0),
            admins.get(registration.id, 0),
        )
        for connection, registration in rows
    ]


def find_tie(account: Account, registration_id: int) -> Tie | None:
    """One of the account's LMSs; another account's is None."""
    return next((tie for tie in list_ties(account) if tie.registration.id == registration_id), None)


def _count(query: Any) -> dict[int, int]:
    return {row[0]: row[1] for row in db.session.execute(query)}


# --- connecting --------------------------------------------------------------------------


def connect_by_hand(
    account: Account, values: dict[str, Any], deployments: list[str], *, by: User
) -> Connection:
    """Connect an LMS whose admin read its values off. Raises RegistrationExists, ClientTaken.

    A pair of issuer and client id that is in use is never overwritten. One that this account let go
    before is taken up again with the new values, so that its people stay the same people.
    """
    registration = _let_go_before(account, values["issuer"], values["client_id"])
    check_client(account, values["client_id"], values["token_url"])
    if registration is None:
        registration = registrations.add_registration(**values)
    else:
        for name, value in values.items():
            setattr(registration, name, value)
    connection = accounts.connect(account, registration)
    for deployment_id in deployments:
        accounts.approve(connection, registrations.note_deployment(registration, deployment_id))
    audit.record(
        account.id,
        "platform.connected",
        f"registration:{registration.id}",
        by=by,
        after={"issuer": registration.issuer, "deployments": deployments},
    )
    return connection


def _let_go_before(account: Account, issuer: str, client_id: str) -> Registration | None:
    """The registration that only this account ever used, and does not use now. Raises RegistrationExists."""
    registration = find_own(account, issuer, client_id)
    if registration is not None and accounts.find_connection(account, registration.id) is not None:
        raise RegistrationExists(issuer, client_id)
    return registration


def find_own(account: Account, issuer: str, client_id: str) -> Registration | None:
    """The registration of this pair, if no other account uses or ever used it. Raises RegistrationExists."""
    registration = db.session.scalar(select(Registration).filter_by(issuer=issuer, client_id=client_id))
    if registration is None:
        return None
    if _others_of(registration, account):
        raise RegistrationExists(issuer, client_id)
    return registration


def check_client(account: Account, client_id: str, token_url: str) -> None:
    """No other account's LMS knows us by this client id. Raises ClientTaken.

    One key of ours signs for all accounts: with another's client id its LMS would give this account the
    access that is the other's, or, if it is careless of the audience, whoever was sent our assertion. Numbers
    that were counted up meet by chance; then the token services are two.
    """
    counted = client_id.isascii() and client_id.isdigit() and int(client_id) < _COUNTED
    for other in db.session.scalars(select(Registration).filter_by(client_id=client_id)).all():
        by_chance = counted and _host(other.token_url) != _host(token_url)
        if not by_chance and _others_of(other, account):
            raise ClientTaken(other.issuer, client_id)


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _others_of(registration: Registration, account: Account) -> set[int]:
    """The other accounts that use, or ever used, a registration."""
    users = set(db.session.scalars(select(Connection.account_id).filter_by(registration_id=registration.id)))
    return (users | _accounts_behind(registration)) - {account.id}


def _accounts_behind(registration: Registration) -> set[int]:
    """Accounts that have people or courses from a registration."""
    people = select(Identity.account_id).where(Identity.registration_id == registration.id)
    courses = (
        select(Context.account_id)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .where(Deployment.registration_id == registration.id)
    )
    return set(db.session.scalars(people.union(courses)))


# --- deployments -------------------------------------------------------------------------


def approve(account: Account, deployment: Deployment, *, by: User) -> None:
    """Launches from a deployment that waited belong to this account from now on."""
    connection = accounts.find_connection(account, deployment.registration_id)
    assert connection is not None, "waiting_deployments gives those of the account's own platforms"
    accounts.approve(connection, deployment)
    audit.record(
        account.id,
        "deployment.approved",
        f"deployment:{deployment.id}",
        by=by,
        after={"deployment": deployment.deployment_id},
    )


def refuse(account: Account, deployment: Deployment, *, by: User) -> None:
    """Forget a deployment that waited; its next launch lets it wait again."""
    audit.record(
        account.id,
        "deployment.refused",
        f"deployment:{deployment.id}",
        by=by,
        before={"deployment": deployment.deployment_id},
    )
    db.session.delete(deployment)


# --- switches ----------------------------------------------------------------------------


def trust_addresses(connection: Connection, on: bool, *, by: User) -> None:
    """Are this LMS's e-mail addresses proof of who somebody is? Never for admins and owners."""
    if connection.trusts_addresses != on:
        _switch(connection, "trusts_addresses", on, by=by)


def _switch(connection: Connection, name: str, on: bool, *, by: User) -> None:
    setattr(connection, name, on)
    audit.record(
        connection.account_id,
        "platform.switched",
        f"registration:{connection.registration_id}",
        by=by,
        before={name: not on},
        after={name: on},
    )


def take_admins_back(connection: Connection) -> None:
    """Those who are admins by this LMS's word alone become what they are in courses, and are signed out.

    Raises NoAdminLeft.
    """
    theirs = (
        User.account_id == connection.account_id,
        User.made_admin_by_id == connection.registration_id,
    )
    made = db.session.scalars(select(User).where(*theirs).with_for_update()).all()
    others = select(User.id).where(
        User.account_id == connection.account_id,
        User.role.in_([Role.OWNER, Role.ADMIN]),
        or_(User.made_admin_by_id.is_(None), User.made_admin_by_id != connection.registration_id),
    )
    if made and db.session.scalar(others.limit(1)) is None:
        raise NoAdminLeft
    ids = [user.id for user in made]
    teaching = set(
        db.session.scalars(
            select(Enrollment.user_id).where(
                Enrollment.user_id.in_(ids),
                Enrollment.role == Role.INSTRUCTOR,
                Enrollment.ended_at.is_(None),
            )
        )
    )
    for user in made:
        role = Role.INSTRUCTOR if user.id in teaching else Role.STUDENT
        if user.role is Role.ADMIN:
            audit.record(
                user.account_id,
                "role.changed",
                f"user:{user.id}",
                source="lms",
                before={"role": user.role},
                after={"role": role},
            )
            user.role = role
            sessions.end_all(user)
        user.made_admin_by_id = None


# --- letting go --------------------------------------------------------------------------


def let_go(connection: Connection, *, by: User | None = None, source: str = "") -> None:
    """Take an LMS off the account: launches are refused, its enrollments end, people and courses stay.

    What it called people is kept, so that connecting it again brings back the same people. Raises
    NoAdminLeft.
    """
    account_id, registration = connection.account_id, connection.registration
    take_admins_back(connection)
    contexts = (
        select(Context.id)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .where(Context.account_id == account_id, Deployment.registration_id == registration.id)
    )
    ended = db.session.execute(
        update(Enrollment)
        .where(
            Enrollment.context_id.in_(contexts),
            Enrollment.source == Source.LMS,
            Enrollment.ended_at.is_(None),
        )
        .values(ended_at=now(), digest=None)
        .returning(Enrollment.id)
        .execution_options(synchronize_session=False)
    ).all()
    theirs = select(User.id).where(User.account_id == account_id)
    db.session.execute(
        delete(Session)
        .where(Session.registration_id == registration.id, Session.user_id.in_(theirs))
        .execution_options(synchronize_session=False)
    )
    audit.record(
        account_id,
        "platform.removed",
        f"registration:{registration.id}",
        by=by,
        source=source,
        before={"issuer": registration.issuer, "client_id": registration.client_id},
        after={"ended": len(ended)},
    )
    # Where nobody launched, nothing is left to come back to: another account must not be asked about it.
    unused = (
        select(Deployment)
        .join(Tenancy, Tenancy.deployment_id == Deployment.id)
        .where(
            Tenancy.connection_id == connection.id,
            ~select(Context.id).where(Context.deployment_id == Deployment.id).exists(),
        )
    )
    for deployment in db.session.scalars(unused).all():
        db.session.delete(deployment)
    db.session.delete(connection)
    db.session.flush()
    db.session.expire(registration, ["deployments"])
    used = select(Connection.id).filter_by(registration_id=registration.id)
    if db.session.scalar(used.limit(1)) is None and not _accounts_behind(registration):
        # Never launched: nothing is lost with it.
        db.session.delete(registration)
