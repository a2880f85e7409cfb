"""What the bench plays on: databases of its own, the application over them, a platform that costs nothing."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import make_url

from lti_tool import create_app
from lti_tool import settings as tool_settings
from lti_tool.classroom import accounts, courses, plans
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.courses import Context, Enrollment, Source
from lti_tool.database import db
from lti_tool.lti import registrations
from lti_tool.practice_lms import Platform

from .measuring import HOME, ask, free_port, processor_seconds

CLIENT = "doorlist-bench"
POSTGRESQL = os.environ.get("LTI_TOOL_TEST_POSTGRESQL_URL", "")
PEOPLE_BEFORE = 200


class Database:
    """A new, empty database."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    @property
    def plain_url(self) -> str:
        """For drivers, which know nothing of SQLAlchemy's dialects."""
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

    def server_seconds(self) -> float:
        """Processor time of the database server's processes for us; SQLite has none of its own."""
        if self.kind == "sqlite":
            return 0.0
        with psycopg.connect(self.plain_url) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        return processor_seconds(row[0] for row in rows if Path(f"/proc/{row[0]}").exists())


@contextmanager
def new_database(kind: str, folder: Path, name: str) -> Iterator[Database]:
    """A database beside those that others use, gone afterwards."""
    if kind == "sqlite":
        yield Database(kind, f"sqlite:///{folder / f'{name}.sqlite'}")
        return
    given = make_url(POSTGRESQL)
    own = f"bench_{name}_{os.getpid()}"
    with psycopg.connect(Database(kind, POSTGRESQL).plain_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{own}"')
        try:
            yield Database(kind, given.set(database=own).render_as_string(hide_password=False))
        finally:
            connection.execute(f'DROP DATABASE "{own}" WITH (FORCE)')


def kinds() -> list[str]:
    """Which databases there are to measure on."""
    return ["sqlite", "postgresql"] if POSTGRESQL else ["sqlite"]


def settings_for(database: Database, folder: Path, *, port: int = 8000) -> dict[str, Any]:
    """The application's settings over `database`; limits wide, since all launches come from one address."""
    return {
        "SECRET_KEY": "the-bench-secret-which-is-long-enough-for-anybody",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "DATABASE_URL": database.url,
        "QUEUE_FILE": str(folder / f"queue-{database.kind}.sqlite"),
        "REDIS_URL": "",
        "LIMIT_LAUNCH": "1000000 per minute",
        "ALLOW_PRIVATE_PLATFORMS": True,
        "ROSTER_MAX_MEMBERS": 250_000,
    }


def as_environment(settings: dict[str, Any]) -> dict[str, str]:
    """Settings as the environment gives them."""
    return {
        f"LTI_TOOL_{name}": str(value).lower() if value is True else str(value)
        for name, value in settings.items()
    }


def make_app(settings: dict[str, Any]) -> Flask:
    """The application over a database at the newest migration."""
    app = create_app(**settings, LOG_LEVEL="WARNING")
    with app.app_context():
        upgrade(directory=str(tool_settings.PACKAGE / "migrations"))
    return app


def furnish(platform: Platform, *, memberships_url: str = "") -> dict[str, int]:
    """An account, its platform approved, an active course of it with people inside; their ids."""
    account = accounts.add_account("default", "Linden Polytechnic")
    registration = registrations.add_registration(
        name="Linden campus",
        issuer=platform.issuer,
        client_id=CLIENT,
        auth_url=platform.auth_url,
        token_url=platform.token_url,
        jwks_url=platform.jwks_url,
    )
    deployment = registrations.note_deployment(registration, "1")
    accounts.approve(accounts.connect(account, registration), deployment)
    course = courses.add_course(account.id, "Geology", summary="Rocks and how they came to be")
    courses.activate(course, plans.grant(account, seats=100, name="Year 100"))
    context = Context(
        account_id=account.id,
        course_id=course.id,
        deployment_id=deployment.id,
        context_id=platform.course("geology").id,
        title="Geology",
        memberships_url=memberships_url,
    )
    db.session.add(context)
    ids = {"account": account.id, "course": course.id}
    for number in range(PEOPLE_BEFORE if not memberships_url else 0):
        role = Role.INSTRUCTOR if number == 0 else Role.STUDENT
        user = accounts.add_user(
            account.id,
            name=f"Person {number}",
            email=f"person{number}@example.org",
            role=role,
            mailbox_proven=True,
        )
        db.session.add(
            Enrollment(
                account_id=account.id, course_id=course.id, user_id=user.id, role=role, source=Source.MANUAL
            )
        )
        if number < 2:
            ids["instructor" if number == 0 else "student"] = user.id
    ids["owner"] = accounts.add_user(
        account.id, name="Ada Okonkwo", email="ada@example.org", role=Role.OWNER, mailbox_proven=True
    ).id
    db.session.commit()
    db.session.refresh(context)
    ids["context"] = context.id
    db.session.rollback()
    return ids


class StandIn:
    """The platform process: its port, its folder, and what it was asked."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        # Its messages and its key are the practice LMS's.
        self.platform = Platform(self.url, self.url, self.url)
        (folder / "jwks.json").write_text(json.dumps(self.platform.jwks()))

    def asked(self, path: str) -> int:
        """How often it was asked for `path`."""
        return int(json.loads(ask(self.port, "/asked").body).get(path, 0))


@contextmanager
def new_source(folder: Path) -> Iterator[StandIn]:
    """A platform process over a folder of answers."""
    folder.mkdir()
    port = free_port()
    source = StandIn(folder, port)
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.source", str(folder), str(port)], cwd=HOME)
    try:
        for _ in range(100):
            try:
                ask(port, "/asked")
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield source
    finally:
        process.terminate()
        process.wait(10)
