"""Accounts and people: `account …`, `user …`, and what somebody finds at a door."""

from typing import Any

import click
from flask.cli import AppGroup, with_appcontext
from sqlalchemy import select

from lti_tool.classroom import access, accounts, audit, people, privacy
from lti_tool.classroom.accounts import Account, AccountExists, Role, User
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.people import LastOwner
from lti_tool.commands.terminal import (
    Refused,
    account_option,
    answers,
    course_option,
    find_account,
    find_course,
    find_user,
    read_address,
    sign_in_link,
)
from lti_tool.database import db

account_group = AppGroup("account", help="Accounts: one for each institution.")
user_group = AppGroup("user", help="People in an account.")


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
    account, email = find_account(slug), read_address(email)
    if accounts.find_by_mailbox(account.id, email) is not None:
        raise Refused("Somebody in this account has that address already.")
    user = accounts.add_user(account.id, name=name, email=email, role=Role(role), mailbox_proven=True)
    audit.record(account.id, "user.added", f"user:{user.id}", source="command", after={"role": role})
    link = sign_in_link(user)
    db.session.commit()
    return {"id": user.id, "name": name, "email": email, "role": role, "sign_in": link}


@user_group.command("list")
@account_option
@answers
def user_list(slug: str) -> list[dict[str, Any]]:
    """Everybody in an account."""
    account = find_account(slug)
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
        for user in db.session.scalars(
            select(User).filter_by(account_id=account.id, merged_into_id=None).order_by(User.id)
        )
    ]


@user_group.command("export")
@click.argument("user_id", type=int)
@answers
def user_export(user_id: int) -> dict[str, Any]:
    """A copy of everything that is held about somebody; use --json to have a file."""
    user = find_user(user_id)
    audit.record(user.account_id, "user.exported", f"user:{user.id}", source="command")
    copy = privacy.export(user)
    db.session.commit()
    return copy


@user_group.command("role")
@click.argument("user_id", type=int)
@click.argument("role", type=click.Choice([role.value for role in Role]))
@answers
def user_role(user_id: int, role: str) -> dict[str, Any]:
    """Change what a user is in the account; the last owner stays one."""
    user = find_user(user_id)
    try:
        people.change_role(user, Role(role), source="command")
    except LastOwner:
        raise Refused("This is the account's last owner. Make somebody else an owner first.") from None
    db.session.commit()
    return {"id": user_id, "role": role}


@click.command()
@click.option("--user", "user_id", type=int, required=True, help="The user's id.")
@course_option
@with_appcontext
@answers
def door(user_id: int, course_id: int) -> dict[str, Any]:
    """What this person finds at this room's door, and why."""
    gate = access.room_gate(find_user(user_id), find_course(course_id))
    return {"gate": gate.name, "because": [str(reason) for reason in gate.because]}
