"""Invitations on days when the mail server refuses, is busy, is down, or hangs up half-way.

What the invitations list and the person's panel say of it is asked each time.
"""

from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select
from test_invitations import KHAI, invite, user_with

from lti_tool.database import db
from lti_tool.mail import OutboxMail
from lti_tool.pages import invited_words
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
Move = Callable[[timedelta], None]


class Pages:
    """What the two pages say of Khai's invitation."""

    def __init__(self, app: Flask, cast: Cast, browse: Browse) -> None:
        user = user_with(app, KHAI)
        assert user is not None
        # A browser of its own each time: hours pass, and a session ends meanwhile.
        self.open, self.user_id = lambda: browse(cast.ada), user.id

    @property
    def panel(self) -> str:
        return unescape(self.open().get(f"/users/{self.user_id}").text)

    def listed(self, state: str = "") -> str:
        page = unescape(self.open().get("/users/invitations", query_string={"state": state}).text)
        return page[page.index('id="list"') :]


def test_a_refused_address_is_shown_with_its_reason(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    mailbox.refused.add(KHAI)
    ada = browse(cast.ada)
    invite(ada, cast)
    pages = Pages(app, cast, browse)
    assert "about to be sent" in pages.panel
    assert "About to be sent" in pages.listed()
    assert KHAI not in pages.listed("trouble")
    work()
    assert "The mail could not be delivered." in pages.panel
    assert "there is no such mailbox (550 5.1.1)" in pages.panel
    assert "Mail refused" in pages.listed("trouble")
    mailbox.refused.clear()
    assert ada.post("/users/invitations/1/resend").status_code == 303
    work()
    assert len(mailbox.sent_to(KHAI)) == 1
    assert "no answer yet" in pages.panel
    assert KHAI not in pages.listed("trouble")
    details = unescape(ada.get("/users/invitations/1").text)
    happened = [
        "Invited by Ada Okonkwo",
        "Mail refused: there is no such mailbox (550 5.1.1)",
        "Sent again by Ada Okonkwo",
        "Mail taken by the mail server",
    ]
    places = [details.index(words) for words in happened]
    assert places == sorted(places)


def test_a_busy_mail_server_is_asked_again_later(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    mailbox.busy_once = True
    ada = browse(cast.ada)
    invite(ada, cast)
    work()
    assert mailbox.mails == []
    pages = Pages(app, cast, browse)
    assert "The mail is not delivered yet." in pages.panel
    assert "(451 4.3.0)" in pages.panel
    assert "Tried again" in pages.listed("trouble")
    move_clock(timedelta(minutes=2))
    work()
    assert len(mailbox.sent_to(KHAI)) == 1
    assert "no answer yet" in pages.panel
    assert KHAI not in pages.listed("trouble")
    assert "Waiting" in pages.listed("waiting")


def test_a_mail_server_that_is_down_for_an_hour_loses_nothing_and_doubles_nothing(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    mailbox.stop()
    ada = browse(cast.ada)
    assert invite(ada, cast).status_code == 303
    pages = Pages(app, cast, browse)
    for minutes in (0, 2, 6, 16, 36):
        move_clock(timedelta(minutes=minutes))
        work()
    assert "our own mail server cannot be reached (ConnectionRefusedError)" in pages.panel
    assert "Tried again" in pages.listed("trouble")
    mailbox.start()
    move_clock(timedelta(minutes=60))
    work()
    move_clock(timedelta(days=2))
    work()
    assert len(mailbox.sent_to(KHAI)) == 1
    assert "no answer yet" in pages.panel


def test_a_connection_dropped_after_the_mail_sends_the_same_message_again(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    mailbox.drop_after_data = True
    ada = browse(cast.ada)
    invite(ada, cast)
    work()
    pages = Pages(app, cast, browse)
    assert "the mail server hung up (SMTPServerDisconnected)" in pages.panel
    assert "Tried again" in pages.listed("trouble")
    mailbox.drop_after_data = False
    move_clock(timedelta(minutes=2))
    work()
    mails = mailbox.sent_to(KHAI)
    assert len(mails) == 2
    assert mails[0].message["Message-ID"] == mails[1].message["Message-ID"]
    assert mails[0].links == mails[1].links
    assert "no answer yet" in pages.panel
    assert KHAI not in pages.listed("trouble")
    with app.app_context():
        letter = db.session.scalars(select(OutboxMail)).one()
        assert letter.sent_at is not None
        assert letter.sealed == "", "what was delivered is erased"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("5.1.1", "there is no such mailbox"),
        ("550 5.1.1", "there is no such mailbox"),
        ("550 5.7.26", "the mail server’s rules do not let our mail in"),
        ("550 5.9.9", "the mail server knows no such mailbox, or does not let our mail in"),
        ("452 4.2.2", "the mailbox is full at the moment"),
        ("451", "the mail server lets strangers wait"),
        ("5.11.1", "the mail server gives no reason that we know"),
        ("599", "the mail server gives no reason that we know"),
        ("", "the mail server gives no reason that we know"),
    ],
)
def test_codes_of_mail_servers_have_words(code: str, words: str) -> None:
    assert invited_words.why(code) == words
