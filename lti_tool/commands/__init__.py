"""What an operator types: `flask --app wsgi …`. Each command commits once, after the last rule.

With --json a command prints one JSON value and nothing else on stdout. Errors go to stderr, with exit
status 1 (refused, not found) or 2 (usage).
"""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext
from flask_migrate import upgrade
from sqlalchemy import select

from lti_tool import jobs, settings
from lti_tool.classroom import access, accounts, audit, courses, people, plans, platforms, sessions, syncs
from lti_tool.classroom.accounts import Account, AccountExists, Role, User
from lti_tool.classroom.courses import Context, Course, Enrollment, PlanNotInForce, PlanTaken
from lti_tool.classroom.invitations import AddressWrong, check_address
from lti_tool.classroom.people import LastOwner
from lti_tool.classroom.plans import Plan
from lti_tool.classroom.platforms import NoAdminLeft
from lti_tool.classroom.syncs import SyncImpossible, SyncRun
from lti_tool.commands import demonstration
from lti_tool.database import db, now
from lti_tool.lti import keys, registrations
from lti_tool.lti.registrations import Deployment, Registration, RegistrationExists
from lti_tool.mail import OutboxMail

registration_group = AppGroup("registration", help="LMS registrations.")
account_group = AppGroup("account", help="Accounts: one for each institution.")
user_group = AppGroup("user", help="People in an account.")
course_group = AppGroup("course", help="Courses of an account.")
plan_group = AppGroup("plan", help="Plans: slots that make courses active.")
roster_group = AppGroup("roster", help="Rosters from the LMS.")
mail_group = AppGroup("mail", help="The outbox.")
keys_group = AppGroup("keys", help="The keys we sign with.")

account_option = click.option("--account", "slug", required=True, help="The account's short name.")
course_option = click.option("--course", "course_id", type=int, required=True, help="The course's id.")


def init_app(app: Flask) -> None:
    """Register every command."""
    for command in (
        init,
        demo,
        worker,
        door,
        registration_group,
        account_group,
        user_group,
        course_group,
        plan_group,
        roster_group,
        mail_group,
        keys_group,
    ):
        app.cli.add_command(command)


class Refused(click.ClickException):
    """The rules say no, or there is no such thing: one line on stderr, exit status 1."""

    exit_code = 1


def _show(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_show(item) for item in value) if value else "(none)"
    if isinstance(value, dict):
        return "  ".join(f"{key}={_plain(held)}" for key, held in value.items())
    return str(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def answers(work: Callable[..., Any]) -> Callable[..., None]:
    """Print what the command answers, as JSON or for people."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value and nothing else.")
    @wraps(work)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        value = work(*args, **kwargs)
        click.echo(json.dumps(value, ensure_ascii=False, default=str) if as_json else _show(value))

    return run


def _account(slug: str) -> Account:
    account = accounts.find_account(slug)
    if account is None:
        raise Refused(f"There is no account called {slug}. `account list` shows them.")
    return account


def _course(course_id: int) -> Course:
    course = db.session.get(Course, course_id)
    if course is None:
        raise Refused(f"There is no course {course_id}. `course list` shows them.")
    return course


def _user(user_id: int) -> User:
    user = db.session.get(User, user_id)
    if user is None:
        raise Refused(f"There is no user {user_id}. `user list` shows them.")
    return user


def _address(email: str) -> str:
    try:
        return check_address(email)
    except AddressWrong as wrong:
        raise Refused(f"{email!r} is not an address: {wrong.reason}") from None


# --- the installation --------------------------------------------------------------------


@click.command()
@click.option(
    "--account", "slug", default="default", show_default=True, help="Short name of the first account."
)
@click.option("--name", default="Our institution", show_default=True, help="What the institution is called.")
@click.option("--owner-email", default="owner@localhost.localdomain", show_default=True)
@click.option("--owner-name", default="Owner", show_default=True)
@with_appcontext
@answers
def init(slug: str, name: str, owner_email: str, owner_name: str) -> dict[str, str]:
    """Bring the database to the newest migration; first account and owner; a one-use sign-in link.

    Again on an installation that has them: only the migrations, and a new link for the owner.
    """
    upgrade(directory=str(settings.PACKAGE / "migrations"))
    account = accounts.find_account(slug) or accounts.add_account(slug, name)
    owner = next(iter(accounts.owners(account.id)), None)
    if owner is None:
        owner = accounts.add_user(
            account.id, name=owner_name, email=_address(owner_email), role=Role.OWNER, mailbox_proven=True
        )
        audit.record(account.id, "user.added", f"user:{owner.id}", source="command")
    keys.current_key()
    link = _sign_in_link(owner)
    db.session.commit()
    return {"account": slug, "sign_in": link}


def _sign_in_link(user: User) -> str:
    return sessions.mint_link(user, public_url=current_app.config["PUBLIC_URL"])


@click.command()
@with_appcontext
def worker() -> None:
    """Run the job worker: mail, syncs, housekeeping."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    jobs.take_over(app)
    jobs.make_consumer(app).run()


@click.command()
@click.option("--port", default=8000, show_default=True, help="The tool's port; another if it is taken.")
@click.option("--lms-port", default=8001, show_default=True, help="The practice LMS's port.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep the data; without: nowhere.")
@with_appcontext
def demo(port: int, lms_port: int, folder: Path | None) -> None:
    """Everything in one process on loopback: tool, worker, practice LMS, and a mailbox for its mail."""
    running = demonstration.start(
        current_app.extensions["create_app"],
        secret=current_app.config["SECRET_KEY"],
        folder=folder,
        tool_port=port,
        lms_port=lms_port,
    )
    click.echo(
        f"""
Doorlist is running. Nothing here leaves this machine.

  Practice LMS   {running.lms}
                 Be a teacher, a student or an admin, and launch a course.
  Mailbox        {running.mailbox}
                 Every mail that Doorlist sends arrives here.
  Doorlist       {running.tool}
                 Sign in once as the owner: {running.sign_in}

Stop with Ctrl+C.
"""
    )
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    running.stop()


@click.command()
@click.option("--user", "user_id", type=int, required=True, help="The user's id.")
@course_option
@with_appcontext
@answers
def door(user_id: int, course_id: int) -> dict[str, Any]:
    """What this person finds at this room's door, and why."""
    gate = access.room_gate(_user(user_id), _course(course_id))
    return {"gate": gate.name, "because": [str(reason) for reason in gate.because]}


# --- accounts and people -----------------------------------------------------------------


@account_group.command("add")
@click.argument("slug")
@click.option("--name", required=True, help="What the institution is called.")
@answers
def account_add(slug: str, name: str) -> dict[str, Any]:
    """A new account."""
    try:
        account = accounts.add_account(slug, name)
    except AccountExists:
        raise Refused(f"There is an account called {slug} already.") from None
    db.session.commit()
    return {"id": account.id, "account": slug, "name": name}


@account_group.command("list")
@answers
def account_list() -> list[dict[str, Any]]:
    """Every account."""
    return [
        {"id": account.id, "account": account.slug, "name": account.name}
        for account in db.session.scalars(select(Account).order_by(Account.id))
    ]


@user_group.command("add")
@account_option
@click.option("--name", required=True)
@click.option("--email", required=True)
@click.option("--role", type=click.Choice([role.value for role in Role]), default="student")
@answers
def user_add(slug: str, name: str, email: str, role: str) -> dict[str, Any]:
    """A registered user, whose address the operator vouches for; prints a one-use sign-in link."""
    account, email = _account(slug), _address(email)
    if accounts.find_by_mailbox(account.id, email) is not None:
        raise Refused("Somebody in this account has that address already.")
    user = accounts.add_user(account.id, name=name, email=email, role=Role(role), mailbox_proven=True)
    audit.record(account.id, "user.added", f"user:{user.id}", source="command", after={"role": role})
    link = _sign_in_link(user)
    db.session.commit()
    return {"id": user.id, "name": name, "email": email, "role": role, "sign_in": link}


@user_group.command("list")
@account_option
@answers
def user_list(slug: str) -> list[dict[str, Any]]:
    """Everybody in an account."""
    account = _account(slug)
    enrolled: dict[int, list[int]] = {}
    for user_id, course_id in db.session.execute(
        select(Enrollment.user_id, Enrollment.course_id)
        .where(Enrollment.account_id == account.id, Enrollment.ended_at.is_(None))
        .distinct()
        .order_by(Enrollment.course_id)
    ):
        enrolled.setdefault(user_id, []).append(course_id)
    return [
        {
            "id": user.id,
            "name": user.name,
            "email": user.email,
            "role": user.role.value,
            "status": user.status.value,
            "courses": enrolled.get(user.id, []),
        }
        for user in db.session.scalars(select(User).filter_by(account_id=account.id).order_by(User.id))
    ]


@user_group.command("role")
@click.argument("user_id", type=int)
@click.argument("role", type=click.Choice([role.value for role in Role]))
@answers
def user_role(user_id: int, role: str) -> dict[str, Any]:
    """Change what a user is in the account; the last owner stays one."""
    user = _user(user_id)
    try:
        people.change_role(user, Role(role), source="command")
    except LastOwner:
        raise Refused("This is the account's last owner. Make somebody else an owner first.") from None
    db.session.commit()
    return {"id": user_id, "role": role}


# --- courses and plans -------------------------------------------------------------------


@course_group.command("add")
@account_option
@click.argument("name")
@answers
def course_add(slug: str, name: str) -> dict[str, Any]:
    """A course that comes from no LMS."""
    course = courses.add_course(_account(slug).id, name)
    db.session.commit()
    return {"id": course.id, "name": name}


@course_group.command("list")
@account_option
@answers
def course_list(slug: str) -> list[dict[str, Any]]:
    """Every course of an account, with the LMS courses behind it."""
    account = _account(slug)
    contexts: dict[int, list[dict[str, str]]] = {}
    for course_id, context_id, deployment_id, issuer, client_id in db.session.execute(
        select(
            Context.course_id,
            Context.context_id,
            Deployment.deployment_id,
            Registration.issuer,
            Registration.client_id,
        )
        .join(Deployment, Deployment.id == Context.deployment_id)
        .join(Registration, Registration.id == Deployment.registration_id)
        .where(Context.account_id == account.id)
        .order_by(Context.id)
    ):
        contexts.setdefault(course_id, []).append(
            {
                "issuer": issuer,
                "client_id": client_id,
                "deployment_id": deployment_id,
                "context_id": context_id,
            }
        )
    return [
        {
            "id": course.id,
            "name": course.name,
            "active": course.active,
            "plan": course.plan_id,
            "contexts": contexts.get(course.id, []),
        }
        for course in courses.list_courses(account.id)
    ]


def _plan(plan: Plan, course_id: int | None) -> dict[str, Any]:
    return {
        "id": plan.id,
        "seats": plan.seats,
        "from": plan.starts_at.isoformat(),
        "until": plan.ends_at.isoformat() if plan.ends_at else None,
        "course": course_id,
    }


@plan_group.command("grant")
@account_option
@click.option("--seats", type=click.IntRange(1), default=40, show_default=True)
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The day it ends (UTC); without: no end.")
@click.option("--course", "course_id", type=int, help="Give it to this course at once.")
@answers
def plan_grant(slug: str, seats: int, until: datetime | None, course_id: int | None) -> dict[str, Any]:
    """A new plan for an account."""
    account = _account(slug)
    plan = plans.grant(account, seats=seats, until=until.replace(tzinfo=UTC) if until else None)
    if course_id is not None:
        course = courses.find_course(account.id, course_id)
        if course is None:
            raise Refused(f"Account {slug} has no course {course_id}.")
        try:
            courses.activate(course, plan)
        except PlanNotInForce:
            raise Refused("The plan would be over already.") from None
    db.session.commit()
    return _plan(plan, course_id)


@plan_group.command("list")
@account_option
@answers
def plan_list(slug: str) -> list[dict[str, Any]]:
    """An account's plans and the courses they are on."""
    account = _account(slug)
    holders = dict(
        db.session.execute(
            select(Course.plan_id, Course.id).where(
                Course.account_id == account.id, Course.plan_id.is_not(None)
            )
        )
        .tuples()
        .all()
    )
    return [_plan(plan, holders.get(plan.id)) for plan in plans.list_plans(account.id)]


@plan_group.command("free")
@click.argument("plan_id", type=int)
@answers
def plan_free(plan_id: int) -> dict[str, Any]:
    """Take a plan off its course."""
    plan = db.session.get(Plan, plan_id)
    if plan is None:
        raise Refused(f"There is no plan {plan_id}. `plan list` shows them.")
    course = courses.find_by_plan(plan.account_id, plan.id)
    if course is not None:
        courses.deactivate(course)
    db.session.commit()
    return _plan(plan, None)


@plan_group.command("give")
@click.argument("plan_id", type=int)
@course_option
@answers
def plan_give(plan_id: int, course_id: int) -> dict[str, Any]:
    """Give a free plan to a course."""
    course = _course(course_id)
    plan = plans.find_plan(course.account_id, plan_id)
    if plan is None:
        raise Refused(f"The course's account has no plan {plan_id}.")
    try:
        courses.activate(course, plan)
    except PlanTaken:
        raise Refused("The plan is on another course. Free it first.") from None
    except PlanNotInForce:
        raise Refused("The plan is over.") from None
    db.session.commit()
    return _plan(plan, course_id)


# --- platforms ---------------------------------------------------------------------------


def _registration(registration: Registration) -> dict[str, Any]:
    return {
        "id": registration.id,
        "name": registration.name,
        "issuer": registration.issuer,
        "client_id": registration.client_id,
        "deployments": [deployment.deployment_id for deployment in registration.deployments],
    }


@registration_group.command("add")
@account_option
@click.option("--name", required=True, help="What the LMS is called on pages.")
@click.option("--issuer", required=True)
@click.option("--client-id", required=True)
@click.option("--auth-url", required=True, help="OIDC authorization endpoint.")
@click.option("--token-url", required=True, help="OAuth 2 access token endpoint.")
@click.option("--jwks-url", required=True, help="The platform's public keys.")
@click.option("--token-audience", help="`aud` of our assertions where it is not the token URL.")
@click.option("--deployment", "deployments", multiple=True, help="Deployment id; may be given several times.")
@answers
def registration_add(slug: str, deployments: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    """Connect an account to an LMS by hand; deployments named here are approved."""
    account = _account(slug)
    try:
        registration = registrations.add_registration(**fields)
    except RegistrationExists:
        raise Refused(
            "There is a registration with this issuer and client id; it is never overwritten."
        ) from None
    connection = accounts.connect(account, registration)
    for deployment_id in deployments:
        accounts.approve(connection, registrations.note_deployment(registration, deployment_id))
    audit.record(account.id, "registration.added", f"registration:{registration.id}", source="command")
    db.session.commit()
    return _registration(registration)


@registration_group.command("list")
@answers
def registration_list() -> list[dict[str, Any]]:
    """Every LMS we know."""
    return [
        _registration(registration)
        for registration in db.session.scalars(select(Registration).order_by(Registration.id))
    ]


@registration_group.command("remove")
@click.argument("registration_id", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@answers
def registration_remove(registration_id: int, yes: bool) -> dict[str, Any]:
    """Take an LMS off every account: launches are refused, its enrollments end, people and courses stay."""
    registration = db.session.get(Registration, registration_id)
    if registration is None:
        raise Refused(f"There is no registration {registration_id}. `registration list` shows them.")
    shown = _registration(registration)
    if not yes:
        click.confirm(f"Take {registration.name} off every account?", abort=True, err=True)
    for connection in accounts.connections_of(registration):
        try:
            platforms.let_go(connection, source="command")
        except NoAdminLeft:
            raise Refused("Its account would have no admin left. Make somebody an owner first.") from None
    db.session.commit()
    return shown


# --- rosters -----------------------------------------------------------------------------


@roster_group.command("sync")
@click.option("--course", "course_id", type=int, help="The course's id.")
@click.option("--all", "every", is_flag=True, help="Every course that has an LMS roster.")
@click.option("--dry-run", is_flag=True, help="Fetch and compare; write nothing.")
@answers
def roster_sync(course_id: int | None, every: bool, dry_run: bool) -> Any:
    """Sync rosters here and now."""
    if every == (course_id is not None):
        raise click.UsageError("Give either --course ID or --all.")
    if course_id is not None:
        return _sync(_course(course_id), dry_run)
    with_roster = select(Context.course_id).where(Context.memberships_url != "")
    found = db.session.scalars(select(Course.id).where(Course.id.in_(with_roster)).order_by(Course.id)).all()
    return [{"course": one, **_sync(_course(one), dry_run)} for one in found]


def _sync(course: Course, dry_run: bool) -> dict[str, Any]:
    try:
        if dry_run:
            return jobs.preview_sync(course)
        run_id = syncs.ask_for_sync(course).id
    except SyncImpossible:
        raise Refused("This course comes from no LMS, or its LMS offers no member list.") from None
    db.session.commit()
    jobs.run_queued_syncs()
    return jobs.sync_result(db.session.get_one(SyncRun, run_id))


@roster_group.command("show")
@course_option
@answers
def roster_show(course_id: int) -> list[dict[str, Any]]:
    """Every enrollment of a course, with what the LMS said."""
    course = _course(course_id)
    rows = db.session.execute(
        select(Enrollment, User)
        .join(User, User.id == Enrollment.user_id)
        .where(Enrollment.course_id == course.id)
        .order_by(User.name_key, Enrollment.id)
    )
    return [
        {
            "user": user.id,
            "subject": enrollment.subject,
            "name": user.name,
            "email": user.email,
            "role": enrollment.role.value,
            "source": enrollment.source.value,
            "active": enrollment.ended_at is None,
            "roles": enrollment.roster_roles or enrollment.launch_roles or [],
        }
        for enrollment, user in rows
    ]


# --- mail and keys -----------------------------------------------------------------------


@mail_group.command("send-due")
@answers
def mail_send_due() -> dict[str, int]:
    """Deliver what is due, now."""
    return {"sent": jobs.deliver_due_mail()}


@mail_group.command("list")
@answers
def mail_list() -> list[dict[str, Any]]:
    """The outbox, newest first. Addresses and words are sealed and not shown."""
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "about": row.about,
            "created": row.created_at.isoformat(),
            "due": row.due_at.isoformat() if row.due_at else None,
            "attempts": row.attempts,
            "sent": row.sent_at.isoformat() if row.sent_at else None,
            "error": row.last_error or None,
        }
        for row in db.session.scalars(select(OutboxMail).order_by(OutboxMail.id.desc()).limit(200))
    ]


@keys_group.command("rotate")
@click.option("--at-once", is_flag=True, help="Sign with the new key from this moment (a key leaked).")
@answers
def keys_rotate(at_once: bool) -> dict[str, Any]:
    """Make a new key to sign with; the old ones stay published while platforms may need them."""
    key = keys.rotate(at_once=at_once)
    db.session.commit()
    return {"kid": key.kid, "created": key.created_at.isoformat(), "at": now().isoformat()}
