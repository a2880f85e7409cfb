"""What the mails say, and that no name or address in them can do harm."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Cast
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Flask
from jinja2 import ChoiceLoader, DictLoader
from sqlalchemy import select

from lti_tool import delivery, jobs, mail
from lti_tool.database import db, now
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Mailbox

Work = Callable[[], None]
TO = "reader@example.org"


def queue(app: Flask, kind: str, **changes: Any) -> None:
    """One mail of a kind, with ordinary words but for `changes`."""
    words: dict[str, Any] = {"to": TO, "name": "Sam", "account": "Linden", "about": "x:1", "locale": "en"}
    courses = [("Organic Chemistry II", "Carbonyl chemistry."), ("Statics", "")]
    with app.app_context():
        if kind == "invitation":
            words |= {"sender": "Ada", "courses": courses, "role": "student", "link": "https://t/i/1"}
            mail.queue_invitation(**words | {"expires": now() + timedelta(days=14)} | changes)
        elif kind == "added":
            words |= {"sender": "Ada", "courses": courses, "role": "instructor", "link": "https://t/c"}
            mail.queue_added(**words | changes)
        elif kind == "declined":
            mail.queue_declined(**words | {"invited": "Khai"} | changes)
        else:
            mail.queue_sign_in(**words | {"link": "https://t/s/1", "code": "012345"} | changes)
        db.session.commit()


@pytest.mark.parametrize(
    ("kind", "subject", "says"),
    [
        (
            "invitation",
            "Ada invited you to Linden",
            ["Organic Chemistry II", "as a student", "https://t/i/1"],
        ),
        ("added", "You were added to 2 courses", ["Statics", "as an instructor", "https://t/c"]),
        ("declined", "Khai said “It’s not me”", ["off every list"]),
        ("sign_in", "Your code for Linden", ["012345", "https://t/s/1", "15 minutes"]),
    ],
)
def test_every_mail_says_the_same_in_text_and_html(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox, kind: str, subject: str, says: list[str]
) -> None:
    queue(app, kind)
    work()
    caught = mailbox.wait_for(TO)
    assert caught.subject == subject
    assert "multipart/alternative" in [part.get_content_type() for part in caught.message.walk()]
    for words in ["Hello Sam,", "Sent by Doorlist for Linden.", *says]:
        assert words in caught.text
        assert words in caught.html
    assert "{" not in caught.text
    assert "\n\n\n" not in caught.text.replace("\r", "")
    assert '<html lang="en" dir="ltr">' in caught.html
    assert caught.message["Message-ID"].endswith("@tool.example>")


@pytest.mark.parametrize("kind", ["invitation", "added", "declined", "sign_in"])
def test_no_name_can_add_a_header_or_markup(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox, kind: str
) -> None:
    evil = "Eve\r\nBcc: victim@example.org\x00\u2028<script>x</script>"
    changes: dict[str, Any] = {"name": evil, "account": evil}
    if kind in ("invitation", "added"):
        changes |= {"sender": evil, "courses": [(evil, evil)]}
    if kind == "declined":
        changes |= {"invited": evil}
    queue(app, kind, **changes)
    work()
    caught = mailbox.wait_for(TO)
    assert caught.to == (TO,)
    assert caught.message["Bcc"] is None
    assert "Bcc: victim@example.org" in caught.subject, "it is part of the subject, nothing else"
    assert "<script>" not in caught.html
    assert "&lt;script&gt;" in caught.html


@pytest.mark.parametrize("locale", ["", "xx", "zz_ZZ", "not a language", "en_GB", "EN"])
def test_an_unknown_language_falls_back_to_the_first_of_ours(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox, locale: str
) -> None:
    queue(app, "sign_in", locale=locale)
    work()
    assert '<html lang="en"' in mailbox.wait_for(TO).html


def test_the_nearest_of_our_languages_is_chosen(app: Flask, cast: Cast) -> None:
    with app.app_context():
        app.config["LANGUAGES"] = ["en", "de", "pt-BR"]
        asked = {wish: delivery.choose_language(wish) for wish in ("de_AT", "pt", "pt-br", "fr", "")}
    assert asked == {"de_AT": "de", "pt": "pt-BR", "pt-br": "pt-BR", "fr": "en", "": "en"}


def test_a_mail_of_a_transaction_that_was_rolled_back_is_never_sent(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox
) -> None:
    with app.app_context():
        mail.queue_declined(to=TO, name="", account="Linden", invited="Khai", about="x:1", locale="en")
        db.session.rollback()
    work()
    assert mailbox.mails == []


def test_words_and_addresses_are_sealed_until_sent_and_erased_after(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox
) -> None:
    queue(app, "sign_in")
    with app.app_context():
        letter = db.session.scalars(select(OutboxMail)).one()
        assert TO not in letter.sealed
        assert "012345" not in letter.sealed
    work()
    with app.app_context():
        letter = db.session.scalars(select(OutboxMail)).one()
        assert letter.sealed == ""
        assert letter.sent_at is not None


def test_one_dead_mailbox_does_not_hold_up_the_others(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox
) -> None:
    mailbox.refused.add("dead@example.org")
    queue(app, "sign_in", to="dead@example.org")
    queue(app, "sign_in")
    work()
    assert len(mailbox.sent_to(TO)) == 1
    with app.app_context():
        dead = db.session.scalars(select(OutboxMail).order_by(OutboxMail.id)).first()
        assert dead is not None
        assert (dead.last_error, dead.due_at) == ("550 5.1.1", None)
        assert dead.failed_at is not None


def test_a_mail_that_never_gets_through_is_given_up_after_the_last_try(
    app: Flask, cast: Cast, mailbox: Mailbox, move_clock: Callable[[timedelta], None]
) -> None:
    mailbox.stop()
    queue(app, "sign_in")
    for _ in range(len(mail.RETRIES) + 2):
        with app.app_context():
            jobs.deliver_due_mail()
        move_clock(timedelta(days=1, minutes=1))
    with app.app_context():
        letter = db.session.scalars(select(OutboxMail)).one()
        assert letter.failed_at is not None
        assert letter.attempts == len(mail.RETRIES) + 1
        assert letter.sealed == ""


def test_an_address_beyond_ascii_reaches_its_domain(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox
) -> None:
    queue(app, "sign_in", to="a@bücher.example.org")
    work()
    assert mailbox.mails[0].to == ("a@xn--bcher-kva.example.org",)


def test_who_waits_for_a_code_does_not_stand_behind_a_list_of_invitations(
    app: Flask, cast: Cast, mailbox: Mailbox
) -> None:
    with app.app_context():
        letters = [
            mail.Addressed(
                f"guest{n}@example.org", "", [("Statics", "")], "student", "https://t/i", f"x:{n}", "en"
            )
            for n in range(3)
        ]
        mail.queue_invitations(
            letters, sender="Ada", account="Linden", expires=now() + timedelta(days=14), part_of="batch:1"
        )
        db.session.commit()
    queue(app, "sign_in")
    with app.app_context():
        assert jobs.deliver_due_mail() == 4
        progress = mail.progress_of("batch:1")
        assert (progress.total, progress.sent, progress.refused, progress.waiting) == (3, 3, 0, 0)
    assert mailbox.mails[0].to == (TO,)
    assert "Statics" in mailbox.wait_for("guest2@example.org").text


def test_a_mail_that_cannot_be_written_waits_and_holds_up_nobody(
    app: Flask, cast: Cast, mailbox: Mailbox, move_clock: Callable[[timedelta], None]
) -> None:
    queue(app, "declined")
    broken = DictLoader({"mail/declined.txt": "{{ nobody.knows.this }}"})
    whole = app.jinja_env.loader
    assert whole is not None
    app.jinja_env.loader = ChoiceLoader([broken, whole])
    queue(app, "sign_in")
    with app.app_context():
        assert jobs.deliver_due_mail() == 1
    app.jinja_env.loader = whole
    assert app.jinja_env.cache is not None
    app.jinja_env.cache.clear()
    move_clock(timedelta(minutes=2))
    with app.app_context():
        assert jobs.deliver_due_mail() == 1, "mended, it goes out"
    assert {one.subject for one in mailbox.mails} == {"Your code for Linden", "Khai said “It’s not me”"}


def test_a_day_in_a_mail_is_told_in_the_zone_of_whoever_caused_it(
    app: Flask, cast: Cast, work: Work, mailbox: Mailbox
) -> None:
    expires = datetime(2027, 3, 1, 23, 30, tzinfo=UTC)
    for address, zone in (("a@example.org", "Asia/Tokyo"), ("b@example.org", "America/New_York")):
        with app.test_request_context(headers={"Cookie": f"doorlist-zone={zone}"}):
            mail.queue_invitation(
                to=address, name="", sender="Ada", account="L", courses=[], role="student",
                link="https://t/i", expires=expires, about="x:1", locale="en",
            )  # fmt: skip
            db.session.commit()
    work()
    assert "2 Mar 2027" in mailbox.wait_for("a@example.org").text
    assert "1 Mar 2027" in mailbox.wait_for("b@example.org").text


def test_a_mail_that_version_0_1_wrote_and_sealed_still_goes_out(
    app: Flask, work: Work, mailbox: Mailbox
) -> None:
    key = HKDF(hashes.SHA256(), 32, None, b"doorlist outbox").derive(app.config["SECRET_KEY"].encode())
    written = {"to": TO, "subject": "Is this you?", "text": "Sam?\n", "html": "<p>Sam?</p>"}
    sealed = Fernet(base64.urlsafe_b64encode(key)).encrypt(json.dumps(written).encode()).decode()
    with app.app_context():
        db.session.add(OutboxMail(kind="invitation", message_id="<old@tool.example>", sealed=sealed))
        db.session.commit()
    work()
    caught = mailbox.wait_for(TO)
    assert (caught.subject, caught.message["Message-ID"]) == ("Is this you?", "<old@tool.example>")
    assert "Sam?" in caught.text
