"""What all commands share: naming things on the command line, and printing answers."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from flask import current_app

from lti_tool.classroom import accounts, sessions
from lti_tool.classroom.accounts import Account, User
from lti_tool.classroom.courses import Course
from lti_tool.classroom.invitations import AddressWrong, check_address
from lti_tool.database import db

account_option = click.option("--account", "slug", required=True, help="The account's short name.")
course_option = click.option("--course", "course_id", type=int, required=True, help="The course's id.")


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


def find_account(slug: str) -> Account:
    """The account with this short name. Raises Refused."""
    account = accounts.find_account(slug)
    if account is None:
        raise Refused(f"There is no account called {slug}. `account list` shows them.")
    return account


def find_course(course_id: int) -> Course:
    """The course with this id. Raises Refused."""
    course = db.session.get(Course, course_id)
    if course is None:
        raise Refused(f"There is no course {course_id}. `course list` shows them.")
    return course


def find_user(user_id: int) -> User:
    """The user with this id. Raises Refused."""
    user = db.session.get(User, user_id)
    if user is None or user.merged_into_id is not None:
        raise Refused(f"There is no user {user_id}. `user list` shows them.")
    return user


def read_address(email: str) -> str:
    """An address that mail can be sent to. Raises Refused."""
    try:
        return check_address(email)
    except AddressWrong as wrong:
        raise Refused(f"{email!r} is not an address: {wrong.reason}") from None


def sign_in_link(user: User) -> str:
    """A one-use link that signs `user` in."""
    return sessions.mint_link(user, public_url=current_app.config["PUBLIC_URL"])
