"""Returned messages: what a mail server sends back is shown, and never does more than that."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select
from test_invitations import KHAI, invite, user_with

from lti_tool import bounces
from lti_tool.bounces import Return
from lti_tool.classroom.invitations import Invitation
from lti_tool.database import db
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]

POSTFIX = """\
Return-Path: <>
Date: Mon, 23 Nov 2026 10:00:00 +0000 (UTC)
From: MAILER-DAEMON@mail.linden.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: doorlist@linden.example
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="XYZ"

This is a MIME-encapsulated message.

--XYZ
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

<minhkhai@example.com>: host mx.example.com[192.0.2.1] said: 550 5.1.1 no such user

--XYZ
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.linden.example
X-Postfix-Queue-ID: 4ABC
Arrival-Date: Mon, 23 Nov 2026 09:59:00 +0000 (UTC)

Final-Recipient: rfc822; minhkhai@example.com
Original-Recipient: rfc822;minhkhai@example.com
Action: {action}
Status: {status}
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 no such user

--XYZ
Content-Description: Undelivered Message {what}
Content-Type: {kind}

Return-Path: <doorlist@linden.example>
From: Doorlist <doorlist@linden.example>
To: minhkhai@example.com
Message-ID:
 {message_id}
Subject: You are invited
{rest}
--XYZ--
"""


def returned(message_id: str, *, action: str = "failed", status: str = "5.1.1", whole: bool = False) -> bytes:
    """A returned message as Postfix writes it, with the headers alone or with the whole message."""
    kind, rest = ("message/rfc822", "\nHello\n") if whole else ("text/rfc822-headers", "")
    text = POSTFIX.format(
        action=action, status=status, message_id=message_id, kind=kind, rest=rest, what="Headers"
    )
    return text.replace("\n", "\r\n").encode()


# --- reading, without a database ---------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        ("failed", "5.1.1", Return("<1@tool.example>", "5.1.1", True)),
        ("Failed", "5.7.26 (rejected)", Return("<1@tool.example>", "5.7.26", True)),
        ("failed", "nonsense", Return("<1@tool.example>", "", True)),
        ("delayed", "4.4.7", Return("<1@tool.example>", "4.4.7", False)),
        ("delivered", "2.0.0", None),
        ("relayed", "2.1.9", None),
        ("dance", "5.1.1", None),
    ],
)
def test_action_and_code_of_a_returned_message_are_read(
    action: str, status: str, expected: Return | None, whole: bool
) -> None:
    raw = returned("<1@tool.example>", action=action, status=status, whole=whole)
    assert bounces.read(raw) == expected


def test_the_worst_recipient_of_an_exim_report_counts() -> None:
    exim = returned("<1@tool.example>", action="delayed", status="4.2.2", whole=True).replace(
        b"Diagnostic-Code",
        b"\r\nFinal-Recipient: rfc822;b@example.com\r\nAction: failed\r\nStatus: 5.2.2\r\nDiagnostic-Code",
        1,
    )
    assert bounces.read(exim) == Return("<1@tool.example>", "5.2.2", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\xff\xfe",
        b"hello",
        b"Content-Type: multipart/report; boundary=x\r\n\r\n--x",
        returned(""),
        returned("no brackets \0 here"),
        returned("<" + "x" * 5000 + ">"),
        returned("<1@tool.example>").replace(b"message/delivery-status", b"text/plain"),
        returned("<1@tool.example>").replace(b"text/rfc822-headers", b"text/html"),
        returned("<1@tool.example>").replace(
            b"text/rfc822-headers", b"text/rfc822-headers\r\nContent-Transfer-Encoding: base64"
        ),
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
        + b"--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" * 20_000,
        b"Content-Type: message/rfc822\r\n\r\n" * 20_000,
        b"Content-Type: text/plain; charset=no-such\r\nSubject: =?no-such?q?x?=\r\n\r\nx",
    ],
)
def test_anything_else_is_nothing(raw: bytes) -> None:
    assert bounces.read(raw) is None


# --- the command -------------------------------------------------------------------------


def bounced(app: Flask, raw: bytes) -> bool:
    done = app.test_cli_runner().invoke(args=["mail", "bounced", "--json"], input=raw)
    assert done.exit_code == 0, done.output
    return bool(json.loads(done.stdout)["noted"])


def test_a_returned_mail_is_shown_in_the_list_and_on_the_panel_and_does_nothing_else(
    app: Flask,
    cast: Cast,
    browse: Browse,
    work: Work,
    mailbox: Mailbox,
    move_clock: Callable[[timedelta], None],
) -> None:
    ada = browse(cast.ada)
    invite(ada, cast)
    work()
    path = mailbox.wait_for(KHAI).links[0].removeprefix("https://tool.example")
    message_id = str(mailbox.wait_for(KHAI).message["Message-ID"])
    user = user_with(app, KHAI)
    assert user is not None
    assert not bounced(app, returned("<unknown@tool.example>"))
    quiet = app.test_cli_runner().invoke(args=["mail", "bounced"], input=returned("<unknown@tool.example>"))
    assert (quiet.exit_code, quiet.output) == (0, "")

    assert bounced(app, returned(message_id, action="delayed", status="4.4.1"))
    listed = ada.get("/users/invitations").text
    assert "Mail held up" in listed
    assert bounced(app, returned(message_id))
    for page in (ada.get("/users/invitations?state=trouble").text, ada.get(f"/users/{user.id}").text):
        assert "Mail came back" in page or "The mail came back." in page
    assert "there is no such mailbox (5.1.1)" in ada.get(f"/users/{user.id}").text
    assert "Mail came back: there is no such mailbox (5.1.1)" in ada.get("/users/invitations/1").text
    assert not bounced(app, returned(message_id, action="delayed", status="4.4.1")), "it came back for good"
    with app.app_context():
        letter = db.session.scalars(select(OutboxMail)).one()
        assert (letter.last_error, letter.due_at) == ("5.1.1", None)
        assert db.session.scalars(select(Invitation.answer)).all() == [None]
    work()
    assert len(mailbox.sent_to(KHAI)) == 1, "nothing is sent for it"
    assert browse(None).post(f"{path}/accept").status_code == 303, "and the link goes on working"
    assert "Mail came back" not in ada.get("/users/invitations").text
