"""The audit log's page: whatever was done has its sentence, can be found, and is nobody else's to read."""

import ast
import csv
import io
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import event, text
from test_users_page import link
from werkzeug.test import TestResponse

from lti_tool.classroom import audit, courses, history, people, plans
from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course
from lti_tool.classroom.history import Wish
from lti_tool.database import db, insert_many, now
from lti_tool.pages import audit_words

Browse = Callable[[int | None], Browser]
PACKAGE = Path(__file__).parent.parent / "lti_tool"


def recorded_actions() -> Iterator[tuple[str, str]]:
    """(file, action) of everything that the product may write into the log: its doors and rules."""
    code = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*\Z")
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called.split(".")[-1] not in ("record", "_record", "_log", "literal", "insert_many"):
                continue
            for one in ast.walk(node):
                if isinstance(one, ast.Constant) and isinstance(one.value, str) and code.match(one.value):
                    yield str(path.relative_to(PACKAGE)), one.value


def test_whatever_is_recorded_has_a_sentence_and_a_place_among_the_filters() -> None:
    found = list(recorded_actions())
    assert len({action for _, action in found}) > 30, "the search for actions found too few of them"
    in_groups = {action for group in audit_words.GROUPS for action in audit_words.actions_of(group) or ()}
    for path, action in found:
        assert action in audit_words.SENTENCES, f"{path} records {action}, which has no words"
    assert set(audit_words.SENTENCES) == in_groups


def lines(page: TestResponse) -> list[str]:
    """The sentences of the page, with what changed, as one reads them."""
    cells = re.findall(r'<td class="c-what"><div>(.*?)</div></td>', page.text, re.S)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells]


def deeds(app: Flask, cast: Cast) -> None:
    """One after the other, a few things that people do."""
    with app.app_context():
        ada, sam = db.session.get_one(User, cast.ada), db.session.get_one(User, cast.sam)
        geology = db.session.get_one(Course, cast.geology)
        plan = plans.find_plan(cast.account, cast.plan)
        assert plan is not None
        people.change_role(sam, Role.INSTRUCTOR, by=ada)
        db.session.flush()
        courses.activate(geology, plan, by=ada)
        people.remove_from_course(sam, geology, by=ada)
        courses.describe(geology, name="Geology <1>", summary="", description="", by=ada)
        audit.record(
            cast.account,
            "role.changed",
            f"user:{cast.tess}",
            source="lms",
            before={"course": cast.geology, "role": "student"},
            after={"course": cast.geology, "role": "instructor"},
        )
        audit.record(cast.other_account, "user.blocked", f"user:{cast.eve}")
        db.session.commit()


def test_each_event_is_a_sentence_with_names_and_what_changed(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    deeds(app, cast)
    ada = browse(cast.ada)
    statements.clear()
    page = ada.get("/audit")
    assert len([one for one in statements if one.startswith("SELECT")]) <= 10
    assert lines(page) == [
        "Tess van der Meulen has another role in Geology <1> . Role: Student → is now Instructor",
        "What Geology <1> says of itself was changed."
        " Name: Introduction to Structural Geology → is now Geology <1>",
        "Sam Whitfield was removed from Geology <1> .",
        "Geology <1> was given the plan Autumn 40-1 .",
        "Sam Whitfield has another role in the account. Role: Student → is now Instructor",
        "The plan Autumn 40-1 was granted. Seats: 40",
    ]
    assert f'<a href="/users/{cast.sam}"><bdi>Sam Whitfield</bdi></a>' in page.text
    assert "<span>the LMS</span>" in page.text
    assert "Eve Mallory" not in page.text
    assert 'aria-current="page">Audit log</a>' in page.text
    with app.app_context():
        # Whoever is deleted is named nowhere, and their deeds are not taken for the system's.
        ada_user = db.session.get_one(User, cast.ada)
        people.block(db.session.get_one(User, cast.tess), by=db.session.get_one(User, cast.ivan))
        people.erase(db.session.get_one(User, cast.ivan), by=ada_user)
        people.erase(db.session.get_one(User, cast.sam), by=ada_user)
        db.session.commit()
    page = ada.get("/audit")
    assert "Sam Whitfield" not in page.text
    assert lines(page)[0] == f"A deleted person (no. {cast.sam}) was deleted. Role: Instructor before"
    assert lines(page)[2] == "Tess van der Meulen was blocked."
    assert "<span>a deleted person</span>" in page.text


def test_the_log_is_filtered_by_person_course_kind_and_day(
    app: Flask, cast: Cast, browse: Browse, move_clock: Callable[[timedelta], None]
) -> None:
    deeds(app, cast)
    ada = browse(cast.ada)
    assert len(lines(ada.get(f"/audit?person={cast.sam}"))) == 2
    assert len(lines(ada.get(f"/audit?person={cast.ada}"))) == 4
    assert len(lines(ada.get(f"/audit?person={cast.ada}&course={cast.geology}"))) == 3
    assert len(lines(ada.get(f"/audit?course={cast.geology}"))) == 4
    assert len(lines(ada.get("/audit?group=plans"))) == 2
    assert len(lines(ada.get(f"/audit?group=people&course={cast.geology}&person={cast.tess}"))) == 1
    assert len(lines(ada.get("/audit?q=whit"))) == 2
    nobody = ada.get("/audit?q=zanzibar")
    assert "Nobody called “zanzibar”" in nobody.text
    assert lines(nobody) == []
    assert "Nothing like this happened" in ada.get("/audit?group=sessions").text
    today = now().date()
    tomorrow = (today + timedelta(days=1)).isoformat()
    assert len(lines(ada.get(f"/audit?since={today}&until={today}"))) == 6
    assert lines(ada.get(f"/audit?since={tomorrow}")) == []
    # Whom the filter names may be changed and let go of.
    page = ada.get(f"/audit?person={cast.sam}&group=people")
    assert "<bdi>Sam Whitfield</bdi>" in page.text
    assert 'href="/audit?group=people"' in unescape(page.text)
    part = ada.get("/audit?group=plans", headers={"HX-Request": "true", "HX-Target": "list"})
    assert "<html" not in part.text
    assert part.headers["HX-Push-Url"] == "/audit?group=plans"
    assert "HX-Request" in part.headers["Vary"]
    for nonsense in (
        "person=abc",
        "person=99999999999",
        "course=-1",
        "group=shoes",
        "since=yesterday",
        "until=9999-12-31",
        "since=0001-01-01",
        "older=x",
        "older=999999999999999999-1",
        "newer=1-99999999999",
        "q=%00",
    ):
        assert ada.get(f"/audit?{nonsense}").status_code == 200, nonsense


def fill(app: Flask, cast: Cast, number: int) -> None:
    """Many events; two at each moment, as one statement writes them."""
    with app.app_context():
        at = now() - timedelta(days=1)
        insert_many(
            AuditEvent.__table__,
            {
                "at": [at + timedelta(seconds=n // 2) for n in range(number)],
                "target": [f"user:{(cast.sam, cast.tess)[n % 2]}" for n in range(number)],
                "actor_id": [(cast.ada, cast.sam, None)[n % 3] for n in range(number)],
                "course_id": [(cast.geology, None)[n % 2] for n in range(number)],
                "action": [("user.blocked", "user.unblocked", "role.changed")[n % 3] for n in range(number)],
            },
            {"account_id": cast.account},
        )
        db.session.commit()


@pytest.mark.parametrize(
    ("wish", "expected"),
    [("", 131), ("person=3", 87), ("group=people", 130), ("course=1&group=people", 65)],
)
def test_pages_of_the_log_follow_each_other_without_gaps(
    app: Flask, cast: Cast, browse: Browse, wish: str, expected: int
) -> None:
    fill(app, cast, 130)
    ada = browse(cast.ada)
    times: list[list[str]] = []
    page = ada.get(f"/audit?{wish}")
    while True:
        times.append(re.findall(r'<time datetime="([^"]+)"', page.text))
        if 'aria-label="Older" disabled' in page.text:
            break
        page = ada.get(link(page, "Older"))
    flat = [one for part in times for one in part]
    assert len(flat) == expected
    assert flat == sorted(flat, reverse=True)
    for part in reversed(times[:-1]):
        page = ada.get(link(page, "Newer"))
        assert re.findall(r'<time datetime="([^"]+)"', page.text) == part
    assert 'aria-label="Newer" disabled' in page.text


def test_the_filtered_log_can_be_kept_as_csv(app: Flask, cast: Cast, browse: Browse) -> None:
    deeds(app, cast)
    fill(app, cast, 1200)
    with app.app_context():
        db.session.get_one(User, cast.tess).name = '=cmd|"/c calc"!A1'
        db.session.get_one(Account, cast.account).timezone = "Asia/Kolkata"
        db.session.commit()
    ada = browse(cast.ada)
    assert 'href="/audit.csv?group=people"' in ada.get("/audit?group=people").text
    whole = ada.get("/audit.csv")
    assert whole.mimetype == "text/csv"
    assert "attachment" in whole.headers["Content-Disposition"]
    rows = list(csv.reader(io.StringIO(whole.get_data().decode("utf-8-sig"))))
    assert rows[0][0] == "Time (Asia/Kolkata)"
    assert len(rows) == 1 + 6 + 1200
    found = [row for row in rows if row[4] == "plan.given"]
    assert found[0][1:] == [
        "Geology <1> was given the plan Autumn 40-1.",
        "",
        "Ada Okonkwo",
        "plan.given",
        f"course:{cast.geology}",
    ]
    assert rows[1][1].startswith("'=cmd"), "no spreadsheet runs a name"
    rows = list(csv.reader(io.StringIO(ada.get("/audit.csv?group=plans").get_data().decode("utf-8-sig"))))
    assert [row[4] for row in rows[1:]] == ["plan.given", "plan.granted"]


def test_the_log_is_for_admins_and_only_their_own(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    deeds(app, cast)
    for address in ("/audit", "/audit.csv", f"/users/{cast.sam}/history"):
        assert browse(cast.ivan).get(address).status_code == 403
        assert browse(cast.sam).get(address).status_code == 403
        assert browse(None).get(address).status_code == 303
    eve = browse(cast.eve)
    assert lines(eve.get("/audit")) == ["Eve Mallory was blocked."]
    for wish in (f"person={cast.sam}", f"course={cast.geology}", "q=whitfield", "group=plans"):
        page = eve.get(f"/audit?{wish}")
        assert lines(page) == []
        assert "Whitfield" not in page.text.replace("“whitfield”", "")
        assert eve.get(f"/audit.csv?{wish}").text.count("\n") == 1
    assert eve.get(f"/users/{cast.sam}/history").status_code == 404
    part = browse(cast.ada).get(f"/users/{cast.sam}/history", headers={"HX-Request": "true"})
    assert "was removed from" in part.text
    assert f'href="/audit?person={cast.sam}"' in part.text


def test_no_filter_of_the_log_reads_it_whole(app: Flask, cast: Cast) -> None:
    fill(app, cast, 3000)
    plans_seen: list[str] = []
    with app.app_context():
        connection = db.session.connection()
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            # Of so few rows a whole reading would be cheapest; is there an index for each way?
            connection.execute(text("SET LOCAL enable_seqscan = off"))

        def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
            if "audit_event" in statement and statement.startswith("SELECT"):
                how = "EXPLAIN " if postgresql else "EXPLAIN QUERY PLAN "
                rows = cursor.connection.cursor().execute(how + statement, parameters)
                plans_seen.append("\n".join(str(row[-1]) for row in rows.fetchall()))

        event.listen(db.engine, "before_cursor_execute", explain)
        for wish in (
            Wish(),
            Wish(people=(cast.sam,)),
            Wish(course_id=cast.geology),
            Wish(actions=("user.blocked", "role.changed")),
            Wish(since=now() - timedelta(days=2), until=now()),
        ):
            assert history.list_events(cast.account, wish).events
        event.remove(db.engine, "before_cursor_execute", explain)
        db.session.rollback()
    assert len(plans_seen) == 5
    for plan in plans_seen:
        assert "Seq Scan on audit_event" not in plan, plan
        for line in plan.splitlines():
            # SQLite: every look into the table goes by an index.
            if line.startswith(("SCAN", "SEARCH")) and "audit_event" in line:
                assert "USING" in line, plan


def test_the_log_never_takes_somebody_new_for_somebody_deleted(cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    form = {"role": "student", "courses": [str(cast.geology)]}
    ada.post("/users/invite", {**form, "name": "Wanda Weg", "email": "wanda@example.org"})
    gone = int(re.findall(r'href="/users/(\d+)', ada.get("/users?q=wanda").text)[0])
    assert ada.post(f"/users/{gone}/invitation/withdraw").status_code == 303
    ada.post("/users/invite", {**form, "name": "Nina Neu", "email": "nina@example.org"})
    told = lines(ada.get("/audit?group=invitations"))
    assert told[0].startswith("Nina Neu was invited.")
    assert [line for line in told if "Nina" in line] == told[:1]
    assert f"A deleted person (no. {gone}) was invited." in " ".join(told)
