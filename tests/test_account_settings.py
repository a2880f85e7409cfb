"""The account's settings, and forgetting what is older than they say."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import func, select

from lti_tool import jobs
from lti_tool.classroom import accounts, audit, retention, rooms
from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.outcomes import LaunchOutcome
from lti_tool.classroom.retention import Kind
from lti_tool.classroom.rooms import Attendance, ChatMessage
from lti_tool.database import db, now
from lti_tool.lti.registrations import Registration
from lti_tool.mail import OutboxMail

Browse = Callable[[int | None], Browser]
Move = Callable[[timedelta], None]


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"LANGUAGES": ["en", "de"]}


def form(**changes: Any) -> dict[str, Any]:
    """The settings as they are at first, with `changes`; None leaves a field out."""
    first = {
        "name": "Linden Polytechnic",
        "contact": "",
        "locale": "en",
        "timezone": "UTC",
        "tells_new_sign_ins": "y",
        "keep_audit_days": "730",
        "keep_names_days": "730",
        "keep_ended_days": "730",
        "keep_unseen_days": "0",
        "keep_mail_days": "90",
        "keep_refused_days": "90",
    }
    return {name: value for name, value in (first | changes).items() if value is not None}


def count(app: Flask, table: Any, *conditions: Any) -> int:
    with app.app_context():
        return db.session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0


def forget(app: Flask) -> int:
    with app.app_context():
        return jobs.forget_due()


def test_an_admin_changes_the_settings_and_the_log_says_what(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    ada = browse(cast.ada)
    ada.get("/settings")
    statements.clear()
    page = ada.get("/settings").text
    assert len([one for one in statements if not one.startswith("BEGIN")]) <= 10
    assert "Ada Okonkwo" in page, "who owns the account"
    assert "Nothing was forgotten by itself yet" in page
    wished = form(
        name="Linden  University",
        contact="privacy@linden.example",
        locale="de",
        timezone="Europe/Berlin",
        instructors_invite="y",
        tells_new_sign_ins=None,
        keep_audit_days="0",
    )
    assert ada.post("/settings", wished).location == "/settings"
    with app.app_context():
        account = db.session.get_one(Account, cast.account)
        assert (account.name, account.contact) == ("Linden University", "privacy@linden.example")
        assert (account.locale, account.timezone) == ("de", "Europe/Berlin")
        assert (account.instructors_invite, account.tells_new_sign_ins) == (True, False)
        assert account.keep_audit_days == 0
        event = db.session.scalars(select(AuditEvent).filter_by(action="account.changed")).one()
        assert event.actor_id == cast.ada
        assert event.before["name"] == "Linden Polytechnic"
        assert event.after["name"] == "Linden University"
        assert "keep_mail_days" not in event.after
        assert "privacy@" not in str(event.after), "addresses stay out of the log"
    ada.post("/settings", wished)
    assert count(app, AuditEvent, AuditEvent.action == "account.changed") == 1, "nothing was different"
    assert "privacy@linden.example" in browse(cast.sam).get("/me").text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "  "),
        ("name", "x" * 201),
        ("contact", "nobody"),
        ("locale", "xx"),
        ("timezone", "Mars/Olympus"),
        ("keep_audit_days", "29"),
        ("keep_mail_days", "-1"),
        ("keep_names_days", "3651"),
        ("keep_unseen_days", "soon"),
        ("keep_ended_days", ""),
    ],
)
def test_what_cannot_be_comes_back_filled_beside_its_field(
    app: Flask, cast: Cast, browse: Browse, field: str, value: str
) -> None:
    for address in ("/settings", "/settings/preview"):
        answer = browse(cast.ada).post(address, form(**{field: value}))
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.text
        tag = re.search(rf'<(input|select)[^>]* id="{field}"[^>]*>', answer.text)
        assert tag
        assert 'aria-invalid="true"' in tag[0]
        if tag[1] == "input" and value.strip():
            assert f'value="{value}"' in tag[0]
    assert count(app, AuditEvent, AuditEvent.action == "account.changed") == 0


def test_only_admins_of_the_account_settle_anything(app: Flask, cast: Cast, browse: Browse) -> None:
    for person in (cast.sam, cast.ivan):
        browser = browse(person)
        assert browser.get("/settings").status_code == 403
        assert 'href="/settings"' not in browser.get("/courses").text
        for address in ("/settings", "/settings/preview"):
            assert browser.post(address, form(name="Mine")).status_code == 403
    assert browse(None).get("/settings").location == "/sign-in?next=/settings"
    # Eve settles her own account, and nothing of this one.
    eve = browse(cast.eve)
    assert "Oak College" in eve.get("/settings").text
    assert "Ada Okonkwo" not in eve.get("/settings").text
    assert eve.post("/settings", form(name="Oak University")).status_code == 303
    with app.app_context():
        assert db.session.get_one(Account, cast.account).name == "Linden Polytechnic"


def furnish(app: Flask, cast: Cast) -> dict[str, int]:
    """Something of each kind in both accounts, as old as now; ids of who is of interest."""
    with app.app_context():
        ids = {}
        for name, account in (("here", cast.account), ("there", cast.other_account)):
            people = {
                "gone": accounts.add_user(account, name=f"Gone {name}", email=f"gone@{name}.example"),
                "staff": accounts.add_user(account, name="Staff", role=Role.INSTRUCTOR),
                "stays": accounts.add_user(account, name="Stays"),
            }
            course = Course(account_id=account, name="Old", name_key="old")
            db.session.add(course)
            db.session.flush()
            for key, user in people.items():
                ids[f"{key} {name}"] = user.id
                held = Enrollment(
                    account_id=account,
                    course_id=course.id,
                    user_id=user.id,
                    role=Role.STUDENT,
                    source="manual",
                )
                held.ended_at = None if key == "stays" else now()
                db.session.add(held)
            meeting = rooms.open_meeting(course, by=people["staff"])
            db.session.add(
                Attendance(
                    meeting_id=meeting.id,
                    user_id=people["gone"].id,
                    role=Role.STUDENT,
                    window="w",
                    left_at=now(),
                )
            )
            db.session.add(ChatMessage(meeting_id=meeting.id, user_id=people["gone"].id, text="Hello"))
            audit.record(account, "course.added", f"course:{course.id}")
            about = f"user:{people['stays'].id}"
            mailed = OutboxMail(kind="sign_in", about=about, message_id=f"<{name}>", sealed="")
            db.session.add(mailed)
            db.session.flush()
            mailed.due_at = None
        db.session.commit()
        return ids


def test_a_preview_counts_what_would_be_forgotten_and_forgets_nothing(
    app: Flask, cast: Cast, browse: Browse, move_clock: Move
) -> None:
    furnish(app, cast)
    move_clock(timedelta(days=40))
    ada = browse(cast.ada)
    nothing = ada.post("/settings/preview", form())
    assert nothing.status_code == 200
    assert "Today this would forget nothing" in nothing.text
    shorter = form(
        keep_audit_days="30",
        keep_names_days="30",
        keep_ended_days="30",
        keep_unseen_days="30",
        keep_mail_days="30",
    )
    shown = ada.post("/settings/preview", shorter, headers={"HX-Request": "true"})
    assert "<html" not in shown.text
    for line in (
        "2 names in attendance",
        "2 past places",
        "1 note of a sent mail",
        "1 person",
        "Save and forget",
    ):
        assert line in shown.text, line
    held = ada.post("/settings", shorter)
    assert held.status_code == 422, "nobody forgets people by a slip"
    assert "1 person" in held.text
    with app.app_context():
        assert db.session.get_one(Account, cast.account).keep_unseen_days == 0
    foreseen = re.search(r'name="foreseen" value="([^"]+)"', held.text)
    assert foreseen
    changed = ada.post("/settings", {**shorter, "keep_mail_days": "31", "foreseen": foreseen[1]})
    assert changed.status_code == 422, "other terms were shown than are sent"
    assert ada.post("/settings", {**shorter, "foreseen": foreseen[1]}).status_code == 303
    with app.app_context():
        assert db.session.get_one(Account, cast.account).keep_unseen_days == 30
    assert count(app, ChatMessage, ChatMessage.user_id.is_not(None)) == 2


def test_what_is_old_is_forgotten_in_parts_and_only_here(
    app: Flask, cast: Cast, browse: Browse, move_clock: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = furnish(app, cast)
    with app.app_context():
        account = db.session.get_one(Account, cast.account)
        for kind in Kind:
            setattr(account, f"keep_{kind}_days", 30)
        db.session.get_one(Account, cast.other_account).keep_mail_days = 0
        db.session.commit()
    move_clock(timedelta(days=40))
    with app.app_context():
        # Those of the cast were seen; nobody else is of interest.
        for user in db.session.scalars(select(User).where(User.id.in_([cast.sam, cast.tess]))):
            user.last_seen_at = now()
        db.session.commit()
    monkeypatch.setattr(retention, "PART", 1)
    monkeypatch.setattr(jobs, "FORGET_SECONDS", 0.000001)
    assert forget(app) <= 1, "a sweep forgets for some time only"
    monkeypatch.setattr(jobs, "FORGET_SECONDS", 20)
    forget(app)
    with app.app_context():
        account = db.session.get_one(Account, cast.account)
        assert account.forgot == {"audit": 3, "names": 2, "ended": 2, "unseen": 1, "mail": 1}
        assert account.forgetting is None
        assert accounts.find_user(cast.account, ids["gone here"]) is None
        for name in ("staff here", "stays here", "gone there"):
            assert db.session.get(User, ids[name]) is not None, name
    assert count(app, Attendance) == 2, "rows stay for the sums"
    assert count(app, Attendance, Attendance.user_id.is_(None)) == 1
    assert count(app, ChatMessage, ChatMessage.user_id.is_(None)) == 1
    assert count(app, Enrollment, Enrollment.user_id == ids["staff here"]) == 0
    assert count(app, Enrollment, Enrollment.user_id == ids["gone there"]) == 1
    assert count(app, OutboxMail) == 1
    assert count(app, AuditEvent, AuditEvent.action == "retention.applied") == 1
    assert forget(app) == 0, "once a day"
    assert "1 person" in browse(cast.ada).get("/settings").text
    move_clock(timedelta(days=1))
    forget(app)
    with app.app_context():
        assert db.session.get_one(Account, cast.account).forgot == {}


def test_a_run_that_died_goes_on_where_it_was(
    app: Flask, cast: Cast, move_clock: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(app, cast)
    move_clock(timedelta(days=800))
    monkeypatch.setattr(retention, "PART", 1)
    with app.app_context():
        for _ in range(3):
            assert retention.forget_next()
            db.session.commit()
        # The fourth part is lost with its worker.
        assert retention.forget_next()
        db.session.rollback()
        assert db.session.get_one(Account, cast.account).forgetting["counts"]
    forget(app)
    with app.app_context():
        account = db.session.get_one(Account, cast.account)
        assert account.forgot["names"] == 2
        assert account.forgot["ended"] == 2
        assert accounts.find_user(cast.account, cast.sam) is not None, "people are kept at first"


def test_refused_launches_of_a_shared_lms_stay_for_who_keeps_them_longest(
    app: Flask, cast: Cast, lms: Any, move_clock: Move
) -> None:
    with app.app_context():
        db.session.add(LaunchOutcome(registration_id=lms.registration_id, code="nonce_used"))
        other = db.session.get_one(Account, cast.other_account)
        accounts.connect(other, db.session.get_one(Registration, lms.registration_id))
        other.keep_refused_days = 0
        db.session.commit()
    move_clock(timedelta(days=100))
    forget(app)
    assert count(app, LaunchOutcome) == 1
    with app.app_context():
        db.session.get_one(Account, cast.other_account).keep_refused_days = 60
        db.session.commit()
    move_clock(timedelta(days=2))
    forget(app)
    assert count(app, LaunchOutcome) == 0
