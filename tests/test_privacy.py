"""What is held about somebody: the page that says so, and the copy one may take away."""

import json
from collections.abc import Callable
from html import unescape
from typing import Any

from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select

from lti_tool.classroom import accounts, privacy, rooms
from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course
from lti_tool.classroom.rooms import ChatMessage
from lti_tool.database import db
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]


def test_every_column_that_names_a_user_is_in_the_copy_or_left_out_with_a_reason() -> None:
    naming = {
        f"{table.name}.{column.name}"
        for table in db.metadata.tables.values()
        for column in table.columns
        for key in column.foreign_keys
        if key.column.table.name == "user" and key.column.name == "id"
    }
    told = {f"{section.table.__tablename__}.{section.column}" for section in privacy.SECTIONS}
    assert naming - told - privacy.LEFT_OUT.keys() == set(), "say in privacy.py what the copy tells of them"
    assert (told | privacy.LEFT_OUT.keys()) - naming == set(), "there are no such columns any more"
    assert told & privacy.LEFT_OUT.keys() == set()
    assert all(privacy.LEFT_OUT.values())


def test_no_section_tells_a_secret() -> None:
    for section in privacy.SECTIONS:
        for column in section.tells:
            assert column in section.table.__table__.columns, f"{section.name}: {column}"
            assert not any(word in column for word in ("token", "hash", "code", "window", "sealed")), column
    # What is new about a person is told too, or said to be nobody's business here.
    silent = {
        "account_id",
        "name_key",
        "email_key",
        "made_admin_by_id",
        "listed",
        "merged_into_id",
    }
    assert {column.name for column in User.__table__.columns} - set(privacy.PERSON) - silent == set()


def test_the_copy_holds_everything_about_oneself_and_nobody_else(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    assert lms.launch(browser, "sam", "geology").status_code == 303
    with app.app_context():
        arrived = db.session.scalars(select(User).order_by(User.id.desc())).first()
        assert arrived is not None
        sam = arrived.id
        course = db.session.scalars(select(Course).order_by(Course.id.desc())).first()
        assert course is not None
        meeting = rooms.open_meeting(course, by=arrived)
        rooms.take_seat(meeting, arrived, Role.STUDENT, moderates=False, window="secret-window")
        db.session.add(ChatMessage(meeting_id=meeting.id, user_id=sam, text="Guten Tag, سلام"))
        db.session.add(ChatMessage(meeting_id=meeting.id, user_id=cast.tess, text="Tess was here"))
        db.session.commit()
        title = course.name
    answer = browser.get("/me/export")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "سلام" in answer.text, "people can read it"
    copy = json.loads(answer.text)
    assert copy["institution"] == "Linden Polytechnic"
    assert copy["person"]["id"] == sam
    assert copy["known_to_lms"][0]["subject"]
    assert copy["known_to_lms"][0]["lms"]
    assert copy["courses"][0]["course"] == title
    assert copy["courses"][0]["source"] == "lms"
    assert copy["signed_in_browsers"][0]["kind"] == "launch"
    assert copy["attendance"][0]["session_in_course"] == title
    assert [one["text"] for one in copy["messages"]] == ["Guten Tag, سلام"]
    assert copy["meetings_you_opened"][0]["course"] == title
    assert [one["action"] for one in copy["log_of_what_you_did"]] == ["meeting.started"]
    for other in ("Tess", "Ada Okonkwo", "secret-window", "token"):
        assert other not in answer.text


def test_mails_and_the_log_are_in_the_copy_without_what_they_said(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browse(None).post("/sign-in", {"email": "sam@example.org"})
    work()
    assert browse(cast.ada).post(f"/users/{cast.sam}/export").status_code == 200
    copy = browse(cast.sam).get("/me/export").get_json()
    assert [one["kind"] for one in copy["mails"]] == ["sign_in"]
    assert copy["mails"][0]["sent_at"]
    assert copy["sign_ins_asked_for"][0]["used_at"] is None
    assert [one["action"] for one in copy["log_about_you"]] == ["user.exported"]


def test_an_admin_takes_a_copy_for_somebody_and_the_log_keeps_that(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    answer = browse(cast.ada).post(f"/users/{cast.sam}/export")
    assert answer.get_json()["person"]["email"] == "sam@example.org"
    with app.app_context():
        event = db.session.scalars(select(AuditEvent).filter_by(action="user.exported")).one()
        assert (event.actor_id, event.target) == (cast.ada, f"user:{cast.sam}")
        mina = accounts.add_user(cast.account, name="Mina", email="mina@example.org", role=Role.ADMIN)
        db.session.commit()
        admin = mina.id
    assert browse(admin).post(f"/users/{cast.ada}/export").status_code == 403, "an owner is above an admin"
    assert browse(cast.eve).post(f"/users/{cast.sam}/export").status_code == 404
    assert browse(cast.ivan).post(f"/users/{cast.sam}/export").status_code == 403
    assert browse(cast.ada).get(f"/users/{cast.sam}/export").status_code == 405
    assert browse(None).get("/me/export").status_code == 303
    page = browse(cast.ada).get(f"/users/{cast.sam}").text
    assert f"/users/{cast.sam}/export" in page


def test_an_operator_prints_a_copy(app: Flask, cast: Cast) -> None:
    printed = app.test_cli_runner().invoke(args=["user", "export", str(cast.sam), "--json"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout)["person"]["name"] == "Sam Whitfield"
    assert app.test_cli_runner().invoke(args=["user", "export", "9999"]).exit_code == 1


def test_anybody_reads_what_is_kept_and_for_how_long(app: Flask, cast: Cast, browse: Browse) -> None:
    nobody = browse(None)
    general = nobody.get("/privacy")
    assert general.status_code == 200, "with two accounts, none is known"
    assert "Linden" not in general.text
    assert "2 years" not in general.text
    with app.app_context():
        account = db.session.get_one(Account, cast.account)
        account.contact, account.keep_audit_days, account.keep_unseen_days = "data@linden.example", 0, 100
        db.session.commit()
    own = browse(cast.sam).get("/privacy").text
    for words in (
        "Linden Polytechnic",
        "until somebody deletes it",
        "2 years",
        "90 days",
        "not seen for 100 days",
        "at most 12 hours",
        "mailto:data@linden.example",
        'href="/me"',
    ):
        assert words in own, words


def test_pages_without_a_name_lead_to_the_words_of_their_account(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    assert browse(cast.ada).post(
        "/users/invite", {"name": "Noor", "email": "noor@example.org", "role": "student"}
    ).status_code in (200, 303)
    work()
    path = mailbox.wait_for("noor@example.org").links[0].partition("tool.example")[2]
    nobody = browse(None)
    page = nobody.get(path).text
    address = unescape(page.partition('<a href="/privacy')[2].partition('"')[0])
    assert address.startswith("?of=")
    assert "Linden Polytechnic" in nobody.get(f"/privacy{address}").text
    for guess in ("?of=1", f"?of={cast.account}", "?of=", f"{address[:-4]}AAAA"):
        assert "Linden" not in nobody.get(f"/privacy{guess}").text
    assert 'href="/privacy"' in nobody.get("/sign-in").text
    assert "Oak College" in browse(cast.eve).get(f"/privacy{address}").text, "one’s own account comes first"


def test_the_menu_leads_to_what_one_may_see(cast: Cast, browse: Browse) -> None:
    for person, settles in ((cast.ada, True), (cast.ivan, False), (cast.sam, False)):
        page: Any = browse(person).get("/courses").text
        assert 'href="/me"' in page
        assert 'href="/privacy"' in page
        assert ('href="/settings"' in page) is settles
