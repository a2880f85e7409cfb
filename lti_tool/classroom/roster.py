"""Rosters: arriving by launch. role_maps.py reads the roles, syncs.py keeps rosters in step."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, bindparam, or_, select
from sqlalchemy.orm import joinedload

from lti_tool.classroom import audit, linking, placements
from lti_tool.classroom.accounts import (
    ArrivalRefused,
    Connection,
    Identity,
    PersonBlocked,
    Role,
    Tenancy,
    User,
    add_user,
    rename,
)
from lti_tool.classroom.courses import Context, Course, Enrollment, Source, add_course
from lti_tool.classroom.role_maps import Reading, higher, policy_of, read_roles
from lti_tool.database import db, fold, is_id, now
from lti_tool.lti.claims import Gradebook
from lti_tool.lti.launch import Launch
from lti_tool.lti.registrations import Deployment, Registration

# How old a `last_launch_at` may get before a launch writes it anew.
LAUNCH_NOTED_EVERY = timedelta(minutes=10)


class DeploymentPending(Exception):
    """Nobody approved the deployment yet, so its launches are refused; `.registration_id` is its own."""

    def __init__(self, registration_id: int) -> None:
        super().__init__(registration_id)
        self.registration_id = registration_id


class NoCourseRole(ArrivalRefused):
    """The LMS gave the person no role in this course, only institution or system roles."""


class AdminDoorShut(ArrivalRefused):
    """An admin comes from an LMS that may not make admins: they sign in by mail. See linking.py."""


class NoContext(ArrivalRefused):
    """The launch came from outside any course, so there is no room to open."""


# --- arriving by launch ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who arrived where."""

    user: User
    course: Course
    # By which tie of the LMS course.
    context: Context


def find_connection_of(deployment: int) -> Connection | None:
    """The account's tie through which launches of a deployment come, if it was approved."""
    return db.session.scalar(
        select(Connection)
        .options(joinedload(Connection.registration))
        .join(Tenancy, Tenancy.connection_id == Connection.id)
        .where(Tenancy.deployment_id == deployment)
    )


class _Known(NamedTuple):
    """What we know of a launch before it arrives."""

    connection: Connection
    context: Context | None
    identity: Identity | None
    enrollment: Enrollment | None


# Made once, and one statement: every launch asks all of it.
_FIND_KNOWN = (
    select(Connection, Context, Identity, Enrollment)
    .select_from(Tenancy)
    .join(Connection, Connection.id == Tenancy.connection_id)
    .outerjoin(
        Context,
        and_(
            Context.deployment_id == Tenancy.deployment_id,
            Context.context_id == bindparam("context"),
            # The room that the link names, else the LMS course's main one.
            or_(Context.main, Context.room == bindparam("room")),
        ),
    )
    .outerjoin(
        Identity,
        and_(
            Identity.account_id == Connection.account_id,
            Identity.registration_id == bindparam("registration"),
            Identity.subject == bindparam("subject"),
        ),
    )
    .outerjoin(Enrollment, and_(Enrollment.context_id == Context.id, Enrollment.user_id == Identity.user_id))
    .options(
        joinedload(Connection.registration),
        joinedload(Context.course),
        joinedload(Identity.user).joinedload(User.account),
    )
    .where(Tenancy.deployment_id == bindparam("deployment"))
    .order_by(Context.main)
)


def _find_known(launch: Launch) -> _Known:
    """Raises DeploymentPending."""
    asked = {
        "deployment": launch.deployment,
        "context": launch.context_id,
        "registration": launch.registration_id,
        "subject": launch.subject,
        # Larger numbers are nobody's room, and too large for the databases.
        "room": launch.room if launch.room and is_id(launch.room) else None,
    }
    row = db.session.execute(_FIND_KNOWN, asked).first()
    if row is None:
        raise DeploymentPending(launch.registration_id)
    return _Known(*row)


def arrive(launch: Launch) -> Arrival:
    """Turn a checked launch into course, user and enrollment, created on first sight.

    Raises DeploymentPending, PersonBlocked, AdminDoorShut, NoContext, NoCourseRole.
    """
    known = _find_known(launch)
    connection = known.connection
    if known.identity is not None and known.identity.user.blocked_at is not None:
        raise PersonBlocked(known.identity.user)
    if launch.context_id is None:
        raise NoContext
    if known.context is not None and known.context.account_id != connection.account_id:
        # The deployment went to another account; its courses stay with the one they were made in.
        raise DeploymentPending(launch.registration_id)
    reading = read_roles(launch.roles, policy_of(connection))
    if reading.role is None and not reading.admin:
        raise NoCourseRole
    context, held = _arrive_at_course(launch, connection, known.context), known.enrollment
    if launch.room is not None and launch.room not in (context.room, context.copied_from_id):
        main, context = context, placements.follow(context, launch.room, launch)
        # What is not the main one was made just now.
        held = held if context is main else None
    _note_launch(context, connection, launch)
    user = _arrive_as_user(launch, connection, reading, known.identity)
    if reading.role is not None:
        _enroll_by_launch(context, user, launch, reading, held)
    return Arrival(user, context.course, context)


def _arrive_at_course(launch: Launch, connection: Connection, context: Context | None) -> Context:
    title = launch.context_title or launch.context_label or launch.resource_link_title or "Course"
    if context is None:
        course = add_course(connection.account_id, title)
        context = Context(
            account_id=connection.account_id,
            course_id=course.id,
            deployment_id=launch.deployment,
            context_id=launch.context_id,
            title=title,
            label=launch.context_label or "",
            memberships_url=launch.memberships_url or "",
        )
        db.session.add(context)
        db.session.flush()
        placements.recognise(context, launch)
        audit.record(connection.account_id, "course.arrived", f"course:{course.id}", source="lms")
    elif context.title != title:
        # A name given here by hand stays; one that came from the LMS follows it.
        if context.main and context.course.name == context.title:
            context.course.name, context.course.name_key = title, fold(title)
        context.title = title
    return context


def _note_launch(context: Context, connection: Connection, launch: Launch) -> None:
    """What the newest launch says of the LMS, and of where its services are."""
    if launch.platform_family and connection.registration.family != launch.platform_family:
        connection.registration.family = launch.platform_family
    if launch.memberships_url:
        context.memberships_url = launch.memberships_url
    context.resource_link_id = launch.resource_link_id or context.resource_link_id
    if launch.deep_linking is None:
        # There is no link yet that could have a line item.
        _note_gradebook(context, launch.gradebook)
    if not _is_recent(context.last_launch_at):
        context.last_launch_at = now()


def _note_gradebook(context: Context, gradebook: Gradebook | None) -> None:
    """Where the LMS course's gradebook is; one that is offered no more is forgotten."""
    scopes = list(gradebook.scopes) if gradebook else None
    context.lineitems_url = (gradebook and gradebook.lineitems_url) or ""
    context.lineitem_url = (gradebook and gradebook.lineitem_url) or ""
    if context.service_scopes != scopes:
        context.service_scopes = scopes


def _is_recent(moment: datetime | None) -> bool:
    """Is a launch noted newly enough? It is for people to read, and launches are many."""
    return moment is not None and now() - moment < LAUNCH_NOTED_EVERY


def _arrive_as_user(
    launch: Launch, connection: Connection, reading: Reading, identity: Identity | None
) -> User:
    account_id = connection.account_id
    account_role = Role.ADMIN if reading.admin else higher(reading.role)
    if identity is None:
        identity = _recognise(launch, connection, reading)
    if identity is None:
        user = add_user(
            account_id,
            name=launch.name or "",
            email=launch.email or "",
            role=account_role,
            is_test=reading.test,
            seen_at=now(),
        )
        identity = Identity(
            account_id=account_id,
            registration_id=launch.registration_id,
            subject=launch.subject,
            user_id=user.id,
        )
        db.session.add(identity)
        if reading.admin:
            user.made_admin_by_id = launch.registration_id
            audit.record(
                account_id, "role.changed", f"user:{user.id}", source="lms", after={"role": Role.ADMIN}
            )
    else:
        user = identity.user
        if linking.admin_door_shut(user, connection):
            raise AdminDoorShut
        if user.mailbox_proven and account_role is Role.ADMIN:
            # They would stay one, by signing in with mail, after the LMS takes it back.
            account_role = higher(reading.role)
        linking.welcome(user)
        refresh_person(user, launch.name, launch.email)
        if reading.test and user.role is Role.STUDENT and not user.mailbox_proven:
            user.is_test, user.listed = True, False
        if account_role.rank > user.role.rank:
            made_by = launch.registration_id if account_role is Role.ADMIN else None
            _change_role(user, account_role, made_admin_by=made_by)
        elif user.made_admin_by_id == launch.registration_id and not reading.admin:
            # The LMS that made this person an admin no longer says so.
            _change_role(user, account_role, made_admin_by=None)
    if not _is_recent(identity.last_launch_at):
        identity.last_launch_at = now()
    return user


def _recognise(launch: Launch, connection: Connection, reading: Reading) -> Identity | None:
    """Somebody new to an LMS whose addresses are trusted, who is a person here already.

    Raises PersonBlocked.
    """
    if reading.admin or reading.test:
        return None
    user = linking.find_trusted(connection, launch.email)
    if user is None:
        return None
    if user.blocked_at is not None:
        raise PersonBlocked(user)
    identity = linking.link_identity(user, launch.registration_id, launch.subject)
    identity.user = user
    return identity


def _change_role(user: User, role: Role, *, made_admin_by: int | None) -> None:
    audit.record(
        user.account_id,
        "role.changed",
        f"user:{user.id}",
        source="lms",
        before={"role": user.role},
        after={"role": role},
    )
    user.role, user.made_admin_by_id = role, made_admin_by


def refresh_person(user: User, name: str | None, email: str | None) -> None:
    """Take an LMS's newer values; an absent one changes nothing, one set by hand stays."""
    rename(
        user,
        name=user.name if user.name_by_hand or not name else name,
        email=user.email if user.mailbox_proven or not email else email,
    )


def _enroll_by_launch(
    context: Context, user: User, launch: Launch, reading: Reading, held: Enrollment | None
) -> None:
    raw = list(launch.roles)
    if held is None:
        held = Enrollment(
            account_id=context.account_id,
            course_id=context.course_id,
            user_id=user.id,
            context_id=context.id,
            source=Source.LMS,
            subject=launch.subject,
            role=higher(reading.role),
            launch_role=reading.role,
            launch_roles=raw,
            role_unsaid=reading.unsaid,
        )
        db.session.add(held)
    else:
        if held.ended_at is not None:
            # The LMS let them in just now, which is newer than the roster that ended them.
            held.ended_at, held.since, held.roster_role, held.roster_roles = None, now(), None, None
            held.digest = None
        if held.launch_roles != raw:
            held.launch_roles = raw
        held.launch_role, held.role_unsaid = reading.role, reading.unsaid
        role = higher(held.launch_role, held.roster_role)
        if role is not held.role:
            audit.record(
                context.account_id,
                "role.changed",
                f"user:{user.id}",
                source="lms",
                before={"course": context.course_id, "role": held.role},
                after={"course": context.course_id, "role": role},
            )
            held.role = role


PLATFORM_NAMES = {
    "moodle": "Moodle",
    "canvas": "Canvas",
    "blackboardlearn": "Blackboard",
    "desire2learn": "Brightspace",
    "sakai": "Sakai",
    "schoology": "Schoology",
    "openedx": "Open edX",
}


def platform_name(course: Course) -> str:
    """What the course's LMS is called on pages; empty for a course that comes from none."""
    registration = db.session.scalar(
        select(Registration)
        .join(Deployment, Deployment.registration_id == Registration.id)
        .join(Context, Context.deployment_id == Deployment.id)
        .where(Context.course_id == course.id)
        .order_by(Context.id)
        .limit(1)
    )
    if registration is None:
        return ""
    return lms_name(registration)


def lms_name(registration: Registration) -> str:
    """What an LMS is called: by its kind if we know it, else as its admin named it."""
    return PLATFORM_NAMES.get(registration.family.lower(), registration.name)
