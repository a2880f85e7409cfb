"""Invitations on days when the mail server refuses, is busy, is down, or hangs up half-way."""

from collections.abc import Callable
from datetime import timedelta

from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select
from test_invitations import KHAI, invite, user_with

from lti_tool.database import db
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]


def test_a_refused_address_is_shown_on_the_panel(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    mailbox.refused.add(KHAI)
    ada = browse(cast.ada)
    invite(ada, cast)
    user = user_with(app, KHAI)
    assert user is not None
    assert "about to be sent" in ada.get(f"/users/{user.id}").text
    work()
    page = ada.get(f"/users/{user.id}").text
    assert "The mail could not be delivered." in page
    assert "550" in page


def test_a_busy_mail_server_is_asked_again_later(
    app: Flask,
    cast: Cast,
    browse: Browse,
    work: Work,
    mailbox: Mailbox,
    move_clock: Callable[[timedelta], None],
) -> None:
    mailbox.busy_once = True
    ada = browse(cast.ada)
    invite(ada, cast)
    work()
    assert mailbox.mails == []
    user = user_with(app, KHAI)
    assert user is not None
    page = ada.get(f"/users/{user.id}").text
    assert "The mail is not delivered yet." in page
    assert "451" in page
    move_clock(timedelta(minutes=2))
    work()
    assert len(mailbox.sent_to(KHAI)) == 1
    assert "no answer yet" in ada.get(f"/users/{user.id}").text


def test_a_mail_server_that_is_down_loses_nothing(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Callable[[timedelta], None]
) -> None:
    mailbox.stop()
    assert invite(browse(cast.ada), cast).status_code == 303
    work()
    mailbox.start()
    move_clock(timedelta(minutes=2))
    work()
    assert len(mailbox.sent_to(KHAI)) == 1


def test_a_connection_dropped_after_the_mail_sends_the_same_message_again(
    app: Flask,
    cast: Cast,
    browse: Browse,
    work: Work,
    mailbox: Mailbox,
    move_clock: Callable[[timedelta], None],
) -> None:
    mailbox.drop_after_data = True
    invite(browse(cast.ada), cast)
    work()
    mailbox.drop_after_data = False
    move_clock(timedelta(minutes=2))
    work()
    mails = mailbox.sent_to(KHAI)
    assert len(mails) == 2
    assert mails[0].message["Message-ID"] == mails[1].message["Message-ID"]
    assert mails[0].links == mails[1].links
    with app.app_context():
        letter = db.session.scalars(select(OutboxMail)).one()
        assert letter.sent_at is not None
        assert letter.sealed == "", "what was delivered is erased"
