"""Ten thousand invitations from a CSV file: read and judged, then done, against the least it could cost.

`python -m tests.bench.invitations WAY`, with the rest as JSON on stdin, is one process that does it once in
one way and prints JSON. `ours` is what the pages and the job do; `floor` reads the same file with the csv
module and writes users and invitations with two executemany; `row` invites and commits person by person.
"""

import csv
import io
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import func, make_url, select, text

from lti_tool.classroom import batches, bulk, drafts, guest_lists, invitations, verdicts
from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.batches import Batch
from lti_tool.classroom.courses import Course
from lti_tool.classroom.verdicts import Terms
from lti_tool.database import db, now
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Platform

from .measuring import HOME, Line, in_turn
from .stage import Database, furnish, kinds, make_app, new_database, settings_for

ROWS = 10_000
# The peer takes this many and is scaled.
SINGLE = 1_000
LIFETIME = timedelta(days=14)
URL = "https://doorlist.example"
_USER = "account_id, name, name_key, email, email_key, mailbox_proven, name_by_hand, role, status, is_test"
_USER += ", locale, timezone, created_at, listed"
_INVITATION = "account_id, user_id, created_at, sent_at, expires_at"


def measure(folder: Path, rounds: int) -> Iterator[Line]:
    """Each way on each database."""
    for kind in kinds():
        numbers = count()
        ways: dict[str, Callable[[], Mapping[str, float]]] = {
            way: partial(_once, way, kind, folder, numbers) for way in ("ours", "floor", "row")
        }
        found = in_turn(rounds, ways)
        ours, floor, row = found["ours"], found["floor"]["all"], found["row"]["one"] * ROWS
        whole = ours["judged"] + ours["done"]
        name = f"{ROWS:,} from a CSV file, {kind}"
        yield Line(
            "invite",
            f"{name}: ours ÷ csv + two executemany",
            whole / floor,
            at_most=10,
            of=f"{ours['judged']:.2f} s read and judged, {ours['done']:.2f} s done, to {floor:.3f} s of CPU",
        )
        yield Line(
            "invite",
            f"{name}: a commit per row ÷ ours",
            row / whole,
            at_least=10,
            of=f"{row:.1f} s, from {SINGLE:,} rows",
        )


def _once(way: str, kind: str, folder: Path, numbers: "count[int]") -> dict[str, float]:
    with new_database(kind, folder, f"invite_{way}_{next(numbers)}") as database:
        asked = {"kind": kind, "database": database.url, "folder": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.invitations", way],
            cwd=HOME,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Do it once in the way asked for."""
    way, asked = sys.argv[1], json.load(sys.stdin)
    database = Database(asked["kind"], asked["database"])
    app = make_app(settings_for(database, Path(asked["folder"])))
    with app.app_context():
        ids = furnish(Platform("https://lms.example", "https://lms.example", "https://lms.example"))
        if way == "ours":
            found = _ours(database, ids)
        elif way == "row":
            found = {"one": _measured(database, partial(_singly, ids, _file())) / SINGLE}
        else:
            _forget_search(database)
            db.engine.dispose()
            found = {"all": _measured(database, partial(_plainly, database, ids, _file()))}
    print(json.dumps(found))


def _file() -> bytes:
    file = io.StringIO()
    write = csv.writer(file).writerow
    write(["Name", "Email", "Role", "Course"])
    for number in range(ROWS):
        write([f"Émile Person {number}", f"Person.{number}@example{number % 50}.org", "Student", "Geology"])
    return file.getvalue().encode()


def _measured(database: Database, work: Callable[[], None]) -> float:
    before = time.process_time() + database.server_seconds()
    work()
    return time.process_time() + database.server_seconds() - before


# --- ours --------------------------------------------------------------------------------


def _ours(database: Database, ids: Mapping[str, int]) -> dict[str, float]:
    content = _file()
    made: list[int] = []

    def judge() -> None:
        account, owner = db.session.get_one(Account, ids["account"]), db.session.get_one(User, ids["owner"])
        written, _ = guest_lists.decode(content)
        found = guest_lists.read_table(written)
        columns = guest_lists.guess_columns(found)
        batch = drafts.begin(account, written, {"role": "student", "courses": []}, by=owner)
        db.session.commit()
        # The columns page comes in between, and its answer is another request.
        again = guest_lists.read_table(drafts.text_of(batch) or "")
        rows = guest_lists.entries(again, columns, headed=True)
        words = {word: Role(role) for word, role in guest_lists.ROLE_WORDS.items()}
        guests = verdicts.read(account, rows, Terms(Role.STUDENT, [], words), by=owner)
        verdicts.judge(account, guests)
        drafts.keep_judged(batch, guests, batch.terms)
        db.session.commit()
        made.append(batch.id)

    def do() -> None:
        drafts.confirm(
            db.session.get_one(Batch, made[0]),
            by=db.session.get_one(User, ids["owner"]),
            again=False,
            formulas=False,
        )
        db.session.commit()
        batch = batches.claim_next()
        assert batch is not None
        db.session.commit()
        while bulk.do_part(batch, bulk.Mails(LIFETIME, URL)):
            db.session.commit()
        db.session.commit()

    found = {"judged": _measured(database, judge), "done": _measured(database, do)}
    mails = db.session.scalar(select(func.count(OutboxMail.id)))
    if mails != ROWS:
        raise RuntimeError(f"{mails} mails for {ROWS} people")
    return found


# --- the floor and the peer --------------------------------------------------------------


def _forget_search(database: Database) -> None:
    """Two executemany keep no search index."""
    if database.kind == "sqlite":
        for name in db.session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
            db.session.execute(text(f'DROP TRIGGER "{name}"'))
    else:
        for name in db.session.scalars(
            text("SELECT indexname FROM pg_indexes WHERE tablename = 'user' AND indexdef LIKE '%gin%'")
        ).all():
            db.session.execute(text(f'DROP INDEX "{name}"'))
    db.session.commit()


def _plainly(database: Database, ids: Mapping[str, int], content: bytes) -> None:
    at = now()
    sqlite = database.kind == "sqlite"
    false, true, when = (0, 1, str(at)) if sqlite else (False, True, at)
    rows = list(csv.reader(io.StringIO(content.decode())))[1:]
    users = [
        (
            *(ids["account"], name, name.lower(), email, email.lower(), true, false, role.lower(), "pending"),
            *(false, "", "", when, true),
        )
        for name, email, role, _ in rows
    ]
    invited = [(ids["account"], 1_000 + number, when, when, when) for number in range(len(rows))]
    # Beside the numbers that others have taken, so that both tables know them beforehand.
    users = [(1_000 + number, *user) for number, user in enumerate(users)]
    connection: Any = (
        sqlite3.connect(make_url(database.url).database or "")
        if sqlite
        else psycopg.connect(database.plain_url)
    )
    mark = "?" if sqlite else "%s"
    for table, names, values in (("user", f"id, {_USER}", users), ("invitation", _INVITATION, invited)):
        marks = ", ".join([mark] * len(values[0]))
        connection.cursor().executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', values)
    connection.commit()
    # Stays open until the server's time has been read: afterwards its process is gone.
    _OPEN.append(connection)


_OPEN: list[Any] = []


def _singly(ids: Mapping[str, int], content: bytes) -> None:
    for name, email, _, _ in list(csv.reader(io.StringIO(content.decode())))[1 : SINGLE + 1]:
        invitations.invite(
            db.session.get_one(Account, ids["account"]),
            name=name,
            email=email,
            role=Role.STUDENT,
            courses=[db.session.get_one(Course, ids["course"])],
            by=db.session.get_one(User, ids["owner"]),
            lifetime=LIFETIME,
            public_url=URL,
        )
        db.session.commit()


if __name__ == "__main__":
    main()
