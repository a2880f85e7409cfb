"""The users list as a file: who is in it, that no spreadsheet runs what it says, and any number of them."""

import csv
import io
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import Status, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course
from lti_tool.database import db, fold, insert_many, now
from lti_tool.pages import spreadsheets

Browse = Callable[[int | None], Browser]


def read(answer: TestResponse) -> list[list[str]]:
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/csv"
    assert answer.data.startswith(b"\xef\xbb\xbf"), "without it a spreadsheet does not know UTF-8"
    return list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"))))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+49 30 1234", "'+49 30 1234"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "' =1"),
        ("\r=1", "' =1"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        # Where a spreadsheet splits at semicolons, a cell begins behind one.
        ("Anna;=1", "Anna;'=1"),
        ("Anna\n=1", "Anna =1"),
        ("Jean-Pierre = ok", "Jean-Pierre = ok"),
        ('O\'Brien, "Bob"', 'O\'Brien, "Bob"'),
        (-1, -1),
        ("", ""),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(written: object, kept: object) -> None:
    assert spreadsheets.harmless(written) == kept


def test_the_selected_or_all_who_match_are_taken_away_as_a_file_and_that_is_noted(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        accounts.add_user(cast.account, name='=HYPERLINK("http://x","y")', status=Status.PENDING)
        tess = db.session.get_one(User, cast.tess)
        tess.blocked_at, tess.last_seen_at = now(), datetime(2026, 11, 3, 9, 5, tzinfo=UTC)
        db.session.get_one(Course, cast.geology).name = "@risk"
        db.session.commit()
    ada = browse(cast.ada)
    selected = ada.post("/users/export", {"user": [cast.ivan, cast.tess, cast.eve, "x"]})
    rows = read(selected)
    assert rows == [
        ["Name", "Email", "Role", "Status", "Courses", "Sources", "Last seen"],
        ["Ivan Petrović", "ivan@example.org", "Instructor", "Registered", "'@risk; Statics", "By hand", ""],
        [
            "Tess van der Meulen",
            "tess@example.org",
            "Student",
            "Blocked",
            "'@risk",
            "By hand",
            "2026-11-03 09:05",
        ],
    ]
    named = selected.headers["Content-Disposition"]
    assert named.startswith('attachment; filename="Linden-Polytechnic-users-20')
    everybody = read(ada.post("/users/export", {"all": "1", "user": cast.sam}))
    assert len(everybody) == 1 + 6
    assert everybody[1][:4] == ['\'=HYPERLINK("http://x","y")', "", "Student", "Pending"]
    assert sorted(row[5] for row in everybody[1:]) == ["", "", "By hand", "By hand", "By hand", "Moodle"]
    matching = read(ada.post("/users/export", {"all": "1", "q": "petrovic", "role": "instructor"}))
    assert [row[0] for row in matching[1:]] == ["Ivan Petrović"]
    with app.app_context():
        noted = db.session.scalars(select(AuditEvent).filter_by(action="users.exported")).all()
        assert [event.after["people"] for event in noted] == [2, 6, 1]
        assert {event.actor_id for event in noted} == {cast.ada}

    assert browse(cast.ivan).post("/users/export", {"all": "1"}).status_code == 403
    assert len(read(browse(cast.eve).post("/users/export", {"all": "1", "user": cast.sam}))) == 2
    assert len(read(browse(cast.eve).post("/users/export", {"user": cast.sam}))) == 1


def test_a_long_list_is_sent_in_parts_that_hold_no_lock_and_little_memory(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    number = 3000
    names = [f"Person {n % 1500:04}" for n in range(number)]
    with app.app_context():
        insert_many(
            User.__table__,
            {"name": names, "name_key": [fold(name) for name in names]},
            {"account_id": cast.account, "created_at": now(), "email": "", "email_key": ""}
            | {"role": "student", "status": "registered"},
        )
        db.session.commit()
    ada = browse(cast.ada)
    ada.get("/users")
    tracemalloc.start()
    answer = ada.post("/users/export", {"all": "1"}, buffered=False)
    parts, found = iter(answer.response), 0
    found += next(parts).count(b"\n")
    # Somebody else writes meanwhile.
    with app.app_context():
        accounts.add_user(cast.account, name="Zoë")
        db.session.commit()
    for part in parts:
        found += part.count(b"\n")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answer.close()
    assert found == 1 + 4 + number + 1, "nobody is left out or told twice, however many share a name"
    assert most < 12_000_000
