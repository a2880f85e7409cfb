"""The practice LMS's mailbox: a real SMTP server and a page."""

from __future__ import annotations

import smtplib
import threading

import pytest
import test_practice_lms
from test_practice_lms import send

from lti_tool.practice_lms import Mailbox, Platform, create_app

# Fixtures are found by their names here.
mailbox = test_practice_lms.mailbox


def test_mail_is_caught_and_waited_for(mailbox: Mailbox) -> None:
    later = threading.Timer(0.2, send, (mailbox, "Lena@example.test", "Grüße — 你好"))
    later.start()
    mail = mailbox.wait_for("lena@example.test", 5)
    later.join()
    assert mail.subject == "Grüße — 你好"
    assert mail.links == ["https://tool.example.test/invitations/x1?a=1&b=2"]
    assert mailbox.mail(1) == mail
    with pytest.raises(TimeoutError, match="你好"):
        mailbox.wait_for("sam@example.test", 0.05)


def test_a_mailbox_has_bad_days_when_told(mailbox: Mailbox) -> None:
    mailbox.refused.add("gone@example.test")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(mailbox, "gone@example.test")
    mailbox.busy_once = True
    with pytest.raises(smtplib.SMTPDataError) as busy:
        send(mailbox)
    assert busy.value.smtp_code == 451
    send(mailbox)
    mailbox.drop_after_data = True
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(mailbox)
    mailbox.drop_after_data = False
    assert len(mailbox.sent_to("sam@example.test")) == 2


def test_a_mailbox_stops_while_someone_is_connected() -> None:
    mailbox = Mailbox().start()
    with smtplib.SMTP(mailbox.host, mailbox.port, timeout=20) as client:
        client.ehlo()
        mailbox.stop()
        client.close()


def test_the_mailbox_page_shows_mails_with_links_to_follow(mailbox: Mailbox) -> None:
    browser = create_app(Platform(), mailbox).test_client()
    assert "No mail yet" in browser.get("/mailbox").text
    send(mailbox, subject="First")
    send(mailbox, subject="Second <b>", html="<!doctype html><title>x</title><p>Hi</p>")
    page = browser.get("/mailbox").text
    assert page.index("Second &lt;b&gt;") < page.index("First")
    page = browser.get("/mailbox/2").text
    assert 'href="https://tool.example.test/invitations/x1?a=1&amp;b=2" target="_blank"' in page
    html = browser.get("/mailbox/2/html")
    assert html.text.startswith('<!doctype html><base target="_blank">')
    assert "sandbox" in html.headers["Content-Security-Policy"]
    assert browser.get("/mailbox/1/html").status_code == 404
    assert b"Subject: First" in browser.get("/mailbox/1/raw").data
    assert browser.get("/mailbox/3").status_code == 404
    browser.post("/mailbox/clear")
    assert mailbox.mails == []
    send(mailbox)
    assert mailbox.mails[0].number == 3


def test_without_a_mailbox_there_is_no_mailbox_page() -> None:
    browser = create_app(Platform()).test_client()
    assert browser.get("/mailbox").status_code == 404
    assert "Mailbox" not in browser.get("/").text
