"""One process that takes a roster once, so that its time and memory are its own.

`python -m tests.bench.roster_once WAY`, with the rest as JSON on stdin; prints JSON. `ours` syncs through the
real job: first, the same again, one in a hundred changed. `floor` parses the same pages and writes them into
the same two tables with the bare driver, and lets one ORM merge a row do it (the peer).
"""

import json
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from sqlalchemy import event, make_url, select, update

from lti_tool import jobs
from lti_tool.classroom import syncs
from lti_tool.classroom.accounts import Identity, Role, Status, User
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.classroom.courses import Source as From
from lti_tool.classroom.syncs import SyncRun
from lti_tool.database import db, fold, now
from lti_tool.lti.registrations import Registration
from lti_tool.practice_lms import Platform

from .stage import Database, furnish, make_app, settings_for

# The peer takes this many and is scaled.
MERGED = 500
ROSTER_TABLES = {"user", "identity", "enrollment"}
_WRITES = re.compile(r'\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)')
_USER = [
    "id",
    "account_id",
    "name",
    "name_key",
    "email",
    "email_key",
    "mailbox_proven",
    "name_by_hand",
    "role",
    "status",
    "is_test",
    "locale",
    "timezone",
    "created_at",
    "registered_at",
    "listed",
]
_ENROLLMENT = [
    "id",
    "account_id",
    "course_id",
    "user_id",
    "role",
    "source",
    "since",
    "context_id",
    "subject",
    "roster_role",
    "roster_roles",
    "role_unsaid",
    "digest",
]


class _Member(msgspec.Struct):
    user_id: str
    roles: list[str]
    name: str = ""
    email: str = ""
    status: str = "Active"


class _Page(msgspec.Struct):
    members: list[_Member]


def main() -> None:
    """Take the roster in the way asked for."""
    way, asked = sys.argv[1], json.load(sys.stdin)
    database = Database(asked["kind"], asked["database"])
    folder = Path(asked["folder"])
    app = make_app(settings_for(database, folder))
    source = asked["source"]
    platform = Platform(source, source, source)
    with app.app_context():
        ids = furnish(platform, memberships_url=f"{source}/memberships/{asked['roster']}")
    if way == "ours":
        found = _sync(app, database, ids, f"{source}/memberships/{asked['roster']}-changed")
    else:
        with app.app_context():
            found = {"merge": _merge(database, ids, _parse(folder / asked["roster"]))}
            db.engine.dispose()
        write = _write_sqlite if database.kind == "sqlite" else _copy_postgresql
        found["floor"] = _measured(database, lambda: write(database, ids, folder / asked["roster"]))
    print(json.dumps(found))


def _measured(database: Database, work: Any) -> float:
    before = time.process_time() + database.server_seconds()
    work()
    return time.process_time() + database.server_seconds() - before


# --- ours --------------------------------------------------------------------------------


def _sync(app: Any, database: Database, ids: dict[str, int], changed_url: str) -> dict[str, Any]:
    written: Counter[str] = Counter()
    with app.app_context():
        engine = db.engine

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if found := _WRITES.match(statement):
            written[found[1]] += max(cursor.rowcount, 0)

    event.listen(engine, "after_cursor_execute", note)

    def run() -> None:
        with app.app_context():
            syncs.ask_for_sync(db.session.get_one(Course, ids["course"]))
            db.session.commit()
            jobs.run_queued_syncs()

    answer: dict[str, Any] = {}
    idle = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for step in ("first", "unchanged", "changed"):
        if step == "changed":
            with app.app_context():
                db.session.execute(update(Context).values(memberships_url=changed_url))
                db.session.commit()
        written.clear()
        answer[step] = _measured(database, run)
        answer[f"{step}_rows"] = sum(written[table] for table in ROSTER_TABLES)
        if step == "first":
            answer["memory"] = (_memory("VmHWM") - idle) / 1024
        with app.app_context():
            last = db.session.scalars(select(SyncRun).order_by(SyncRun.id.desc())).first()
            assert last is not None
            answer[f"{step}_state"] = f"{last.state.value} {last.error}".strip()
    return answer


def _memory(line: str) -> int:
    """Kilobytes, from /proc."""
    found = re.search(rf"{line}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


# --- the floor ---------------------------------------------------------------------------


def _parse(folder: Path) -> Iterator[_Member]:
    decoder = msgspec.json.Decoder(_Page)
    number = 1
    while (page := folder / f"{number}.json").exists():
        yield from decoder.decode(page.read_bytes()).members
        number += 1


def _rows(
    ids: dict[str, int], folder: Path, at: Any, false: Any
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    account, course, context = ids["account"], ids["course"], ids["context"]
    users, enrollments = [], []
    # Beside the numbers that the peer's rows took.
    for number, member in enumerate(_parse(folder), start=1_000_000):
        role = "instructor" if "Instructor" in member.roles else "student"
        name, email = member.name, member.email
        users.append(
            (
                number,
                account,
                name,
                name.lower(),
                email,
                email.lower(),
                false,
                false,
                role,
                "registered",
                false,
                "",
                "",
                at,
                at,
                not false,
            )
        )
        enrollments.append(
            (
                number,
                account,
                course,
                number,
                role,
                "lms",
                at,
                context,
                member.user_id,
                role,
                '["Learner"]',
                false,
                "",
            )
        )
    return users, enrollments


def _write_sqlite(database: Database, ids: dict[str, int], folder: Path) -> None:
    connection = sqlite3.connect(make_url(database.url).database or "")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    # The floor keeps no search index; ours is filled within what it is compared with.
    connection.execute("INSERT INTO user_search_pause (id) VALUES (1)")
    for table, columns, rows in zip(
        ("user", "enrollment"), (_USER, _ENROLLMENT), _rows(ids, folder, str(now()), 0), strict=True
    ):
        marks = ", ".join("?" * len(columns))
        connection.executemany(f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({marks})', rows)
    connection.execute("DELETE FROM user_search_pause")
    connection.commit()
    connection.close()


def _copy_postgresql(database: Database, ids: dict[str, int], folder: Path) -> None:
    # The connection stays open until the server's time has been read: afterwards its process is gone.
    connection = _OPEN[database.url] = psycopg.connect(database.plain_url)
    for table, columns, rows in zip(
        ("user", "enrollment"), (_USER, _ENROLLMENT), _rows(ids, folder, now(), False), strict=True
    ):
        statement = f'COPY "{table}" ({", ".join(columns)}) FROM STDIN'
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row(row)
    connection.commit()


_OPEN: dict[str, Any] = {}


# --- the peer ----------------------------------------------------------------------------


def _merge(database: Database, ids: dict[str, int], members: Iterator[_Member]) -> float:
    """Seconds for each member: look the identity up, merge the user, merge the enrollment."""
    registration = db.session.scalars(select(Registration.id)).one()
    some = [member for _, member in zip(range(MERGED), members, strict=False)]

    def work() -> None:
        for member in some:
            subject = f"merged-{member.user_id}"
            known = db.session.scalar(
                select(Identity).filter_by(
                    account_id=ids["account"], registration_id=registration, subject=subject
                )
            )
            role = Role.INSTRUCTOR if "Instructor" in member.roles else Role.STUDENT
            user = db.session.merge(
                User(
                    id=known.user_id if known else None,
                    account_id=ids["account"],
                    name=member.name,
                    name_key=fold(member.name),
                    email=member.email,
                    email_key=member.email.casefold(),
                    role=role,
                    status=Status.REGISTERED,
                )
            )
            db.session.flush()
            if known is None:
                db.session.add(
                    Identity(
                        account_id=ids["account"],
                        registration_id=registration,
                        subject=subject,
                        user_id=user.id,
                    )
                )
            held = db.session.scalar(
                select(Enrollment.id).filter_by(context_id=ids["context"], user_id=user.id)
            )
            db.session.merge(
                Enrollment(
                    id=held,
                    account_id=ids["account"],
                    course_id=ids["course"],
                    user_id=user.id,
                    role=role,
                    source=From.LMS,
                    context_id=ids["context"],
                    subject=subject,
                    roster_role=role,
                    roster_roles=member.roles,
                )
            )
            db.session.flush()
        db.session.commit()

    return _measured(database, work) / len(some)


if __name__ == "__main__":
    main()
