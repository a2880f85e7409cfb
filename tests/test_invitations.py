"""Walk 3: somebody is invited, finds the mail, says who they are, and is in; and what can go wrong."""

import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import TOOL, Browser, Cast, LiveServer, Lms, new_client
from flask import Flask
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from sqlalchemy import select
from werkzeug.test import TestResponse

from lti_tool.classroom import sessions
from lti_tool.classroom.accounts import Identity, Role, Status, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.invitations import Answer, Invitation
from lti_tool.database import db
from lti_tool.pages import visitor
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
KHAI = "minhkhai@example.com"


def invite(browser: Browser, cast: Cast, **changes: object) -> TestResponse:
    """Send the invitation form."""
    form = {
        "name": "Nguyễn Thị Minh Khai",
        "email": KHAI,
        "role": "student",
        "courses": [str(cast.geology)],
        **changes,
    }
    return browser.post("/users/invite", form)


def invited(browser: Browser, cast: Cast, work: Work, mailbox: Mailbox, **changes: object) -> str:
    """Invite somebody; the path their mail leads to."""
    assert invite(browser, cast, **changes).status_code == 303
    work()
    return path_in(mailbox, str(changes.get("email", KHAI)))


def path_in(mailbox: Mailbox, address: str) -> str:
    link = mailbox.wait_for(address).links[0]
    assert link.startswith(f"{TOOL}/invitations/")
    return urlsplit(link).path


def user_with(app: Flask, email: str) -> User | None:
    with app.app_context():
        return db.session.scalar(select(User).filter_by(email=email))


def row(browser: Browser, search: str) -> str:
    """The text of the one row that the users list finds."""
    page = browser.get("/users", query_string={"q": search}).text
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


# --- the walk ----------------------------------------------------------------------------


def test_an_invited_person_says_its_me_and_is_in_the_course(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    path = invited(ada, cast, work, mailbox)
    assert "Pending" in row(ada, "khai")
    mail = mailbox.wait_for(KHAI)
    assert mail.subject == "Ada Okonkwo invited you to Introduction to Structural Geology"
    assert "“It’s not me”" in mail.text
    assert "“It’s not me”" in mail.html

    khai = browse(None)
    shown = khai.get(path)
    assert shown.status_code == 200
    assert "Is this you?" in shown.text
    assert "Nguyễn Thị Minh Khai" in shown.text
    assert KHAI in shown.text
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert khai.get("/courses").status_code == 303, "opening the link signs nobody in"
    assert "Pending" in row(ada, "khai")
    assert khai.get(path).status_code == 200, "opening it again changes nothing"

    answered = khai.post(f"{path}/accept")
    assert answered.status_code == 303
    assert answered.location == "/courses"
    cookie = next(c for c in answered.headers.getlist("Set-Cookie") if c.startswith("__Host-doorlist="))
    for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert part in cookie
    assert "Introduction to Structural Geology" in khai.get("/courses").text
    assert khai.get(f"/courses/{cast.geology}").status_code == 200
    assert "Registered" in row(ada, "khai")

    twice = khai.get(path)
    assert twice.status_code == 410
    assert "You are signed in with this browser." in twice.text
    assert 'href="/courses"' in twice.text, "nobody who is in is sent to sign in"
    again = browse(None)
    for answer in (again.get(path), again.post(f"{path}/accept"), again.post(f"{path}/decline")):
        assert answer.status_code == 410
        assert 'data-error="invitation_used"' in answer.text
        assert "Linden Polytechnic" in answer.text
    assert again.get("/courses").status_code == 303
    with app.app_context():
        user = user_with(app, KHAI)
        assert user is not None
        enrolled = db.session.scalars(select(Enrollment).filter_by(user_id=user.id)).one()
        assert (enrolled.source, enrolled.role) == (Source.INVITATION, Role.STUDENT)
        done = db.session.scalars(select(AuditEvent.action).filter_by(target=f"user:{user.id}")).all()
        assert done == ["user.invited", "enrollment.added", "invitation.accepted"]


def test_somebody_with_an_account_is_added_at_once_and_told(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    assert "Sam Whitfield" in ada.get("/users/known?email=SAM@example.org").text
    done = invite(ada, cast, name="", email="Sam@Example.org", courses=[str(cast.statics)])
    assert done.status_code == 303
    assert browse(cast.sam).get(f"/courses/{cast.statics}").status_code == 200
    work()
    mail = mailbox.wait_for("sam@example.org")
    assert mail.subject == "You were added to Statics"
    assert "You need not accept anything." in mail.text
    assert "/invitations/" not in mail.text + mail.html


def test_what_somebody_has_already_is_said_beside_the_courses(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    refused = invite(ada, cast, name="", email="sam@example.org")
    assert refused.status_code == 422
    assert "Sam Whitfield is on the list of Introduction to Structural Geology already." in refused.text
    assert 'value="sam@example.org"' in refused.text
    none = invite(ada, cast, name="", email="sam@example.org", courses=[])
    assert none.status_code == 422
    assert "has an account already" in none.text
    work()
    assert mailbox.mails == []


def test_a_higher_role_raises_and_a_lower_one_changes_nothing(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    assert invite(ada, cast, email="sam@example.org", role="instructor").status_code == 303
    assert invite(ada, cast, email="ivan@example.org", role="student").status_code == 422
    with app.app_context():
        assert db.session.get_one(User, cast.sam).role is Role.INSTRUCTOR
        assert db.session.get_one(User, cast.ivan).role is Role.INSTRUCTOR


def test_its_not_me_deletes_the_person_and_tells_the_inviter(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox)
    done = browse(None).post(f"{path}/decline")
    assert done.status_code == 200
    assert "The invitation is withdrawn" in done.text
    assert "Ada Okonkwo" in done.text
    work()
    told = mailbox.wait_for("ada@example.org")
    assert told.subject == "Nguyễn Thị Minh Khai said “It’s not me”"
    assert user_with(app, KHAI) is None
    with app.app_context():
        kept = db.session.scalars(select(Invitation)).one()
        assert (kept.user_id, kept.answer) == (None, Answer.DECLINED)
        assert kept.course_names == ["Introduction to Structural Geology"]
        assert db.session.scalars(select(Enrollment).filter_by(source=Source.INVITATION)).all() == []
    for second in (browse(None).get(path), browse(None).post(f"{path}/accept")):
        assert second.status_code == 410
        assert 'data-error="invitation_declined"' in second.text
        assert "ask Ada Okonkwo to invite you again" in second.text


def test_a_withdrawn_invitation_no_longer_works(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    path = invited(ada, cast, work, mailbox)
    user = user_with(app, KHAI)
    assert user is not None
    assert "Withdraw invitation" in ada.get(f"/users/{user.id}").text
    assert ada.post(f"/users/{user.id}/invitation/withdraw").status_code == 303
    assert user_with(app, KHAI) is None
    for second in (browse(None).get(path), browse(None).post(f"{path}/accept")):
        assert second.status_code == 410
        assert 'data-error="invitation_withdrawn"' in second.text
        assert "ask Ada Okonkwo" in second.text


def test_an_invitation_withdrawn_before_its_mail_went_out_is_never_sent(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    invite(ada, cast)
    user = user_with(app, KHAI)
    assert user is not None
    ada.post(f"/users/{user.id}/invitation/withdraw")
    work()
    assert mailbox.mails == []


def test_resending_makes_the_older_link_say_so_and_mail_anew(
    app: Flask,
    cast: Cast,
    browse: Browse,
    work: Work,
    mailbox: Mailbox,
    move_clock: Callable[[timedelta], None],
) -> None:
    ada = browse(cast.ada)
    old = invited(ada, cast, work, mailbox)
    user = user_with(app, KHAI)
    assert user is not None
    part = ada.post(f"/users/{user.id}/invitation/resend", headers={"HX-Request": "true"})
    assert "The old link no longer works." in part.text
    work()
    new = urlsplit(mailbox.wait_for(KHAI, count=2).links[0]).path
    assert new != old
    for late in (browse(None).get(old), browse(None).post(f"{old}/accept")):
        assert late.status_code == 410
        assert 'data-error="invitation_replaced"' in late.text
        assert f'action="{old}/renew"' in late.text
    assert browse(None).post(f"{old}/renew").status_code == 200
    work()
    assert len(mailbox.sent_to(KHAI)) == 2, "the newest mail is only minutes old"
    move_clock(timedelta(minutes=11))
    assert browse(None).post(f"{old}/renew").status_code == 200
    work()
    newest = urlsplit(mailbox.wait_for(KHAI, count=3).links[0]).path
    assert 'data-error="invitation_replaced"' in browse(None).get(new).text
    assert browse(None).post(f"{newest}/accept").status_code == 303
    for late in (browse(None).get(old), browse(None).post(f"{old}/renew")):
        assert 'data-error="invitation_used"' in late.text


def test_an_expired_invitation_is_renewed_to_the_same_address(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Callable[[timedelta], None]
) -> None:
    old = invited(browse(cast.ada), cast, work, mailbox)
    move_clock(timedelta(days=14, seconds=5))
    stranger = browse(None)
    for late in (stranger.get(old), stranger.post(f"{old}/accept")):
        assert late.status_code == 410
        assert 'data-error="invitation_expired"' in late.text
        assert f'action="{old}/renew"' in late.text
    asked = stranger.post(f"{old}/renew")
    assert asked.status_code == 200
    assert "Look in your mail" in asked.text
    assert stranger.get("/courses").status_code == 303
    work()
    new = urlsplit(mailbox.wait_for(KHAI, count=2).links[0]).path
    assert stranger.post(f"{old}/renew").status_code == 200
    work()
    assert len(mailbox.sent_to(KHAI)) == 2, "once"
    assert browse(None).post(f"{new}/accept").status_code == 303


def test_renewing_one_that_still_works_mails_nothing(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox)
    assert browse(None).post(f"{path}/renew").status_code == 200
    work()
    assert len(mailbox.sent_to(KHAI)) == 1
    assert browse(None).get(path).status_code == 200


def test_of_two_who_accept_at_the_same_moment_one_wins(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox)
    browsers = [browse(None) for _ in range(4)]
    for browser in browsers:
        assert browser.get(path).status_code == 200
    statuses: list[int] = []
    begin = threading.Barrier(len(browsers))

    def press(browser: Browser) -> None:
        begin.wait()
        statuses.append(browser.post(f"{path}/accept").status_code)

    threads = [threading.Thread(target=press, args=(browser,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [303, 410, 410, 410]
    with app.app_context():
        accepted = select(AuditEvent).filter_by(action="invitation.accepted")
        assert len(db.session.scalars(accepted).all()) == 1


def test_a_forwarded_link_joins_nothing_to_whoever_presses_it(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, lms: Lms
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox, role="instructor")
    sam = browse(cast.sam)
    lms.launch(sam, "sam", "geology")
    shown = sam.get(path)
    assert "You are signed in as" in shown.text
    assert "Nguyễn Thị Minh Khai" in shown.text
    with app.app_context():
        before = {(i.subject, i.user_id) for i in db.session.scalars(select(Identity))}
        roles = {u.id: u.role for u in db.session.scalars(select(User))}
    assert sam.post(f"{path}/accept").status_code == 303
    assert "Nguyễn Thị Minh Khai" in sam.get("/courses").text, "the browser is the invited person's now"
    with app.app_context():
        assert {(i.subject, i.user_id) for i in db.session.scalars(select(Identity))} == before
        assert {u.id: u.role for u in db.session.scalars(select(User))} == roles
        assert db.session.get_one(User, cast.sam).role is Role.STUDENT


def test_no_token_of_the_request_becomes_the_session(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox)
    client = new_client(app)
    client.set_cookie(visitor.OWN_COOKIE, "planted", domain="tool.example", secure=True)
    Browser(client).post(f"{path}/accept")
    held = client.get_cookie(visitor.OWN_COOKIE, domain="tool.example")
    assert held is not None
    assert held.value != "planted"
    with app.app_context():
        assert sessions.find_session("planted", sessions.Kind.OWN, idle=timedelta(hours=1)) is None


def test_an_answer_without_its_csrf_token_changes_nothing(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox)
    for deed in ("accept", "decline", "renew"):
        assert new_client(app).post(f"{path}/{deed}").status_code == 400
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert browse(None).post(f"{path}/{deed}", headers=foreign).status_code == 403
    user = user_with(app, KHAI)
    assert user is not None
    assert user.status is Status.PENDING


@pytest.mark.parametrize("token", ["x", "a" * 43, "%00", "ś", "../../users", "a" * 3000])
def test_a_token_nobody_issued_gets_a_calm_page(cast: Cast, browse: Browse, token: str) -> None:
    browser = browse(None)
    assert browser.get(f"/invitations/{token}").status_code == 404
    assert browser.post(f"/invitations/{token}/accept").status_code == 404


# --- in a browser ------------------------------------------------------------------------


def test_answering_an_invitation_and_signing_in_work_in_a_browser(
    cast: Cast,
    server: LiveServer,
    browse: Browse,
    chromium: Callable[..., webdriver.Chrome],
    shot: Callable[[webdriver.Chrome, str], None],
    mailbox: Mailbox,
    tmp_path: Path,
) -> None:
    assert invite(browse(cast.ada), cast).status_code == 303
    caught = mailbox.wait_for(KHAI, 15)
    driver = chromium()
    wait = WebDriverWait(driver, 20)

    def look(picture: str) -> None:
        for width, scheme in ((1280, "light"), (360, "dark")):
            metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            # Colours fade into each other.
            time.sleep(0.25)
            shot(driver, f"{picture}-{width}")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width

    letter = tmp_path / "mail.html"
    letter.write_text(caught.html)
    driver.get(letter.as_uri())
    look("mail-invitation")
    driver.get(caught.links[0])
    look("invitation")
    driver.find_element(By.CSS_SELECTOR, ".btn-primary").click()
    wait.until(lambda d: d.current_url == f"{server.url}/courses")
    assert "Introduction to Structural Geology" in driver.page_source
    driver.find_element(By.CSS_SELECTOR, "details.menu summary").click()
    driver.find_element(By.CSS_SELECTOR, "details.menu button").click()
    wait.until(lambda d: d.current_url == f"{server.url}/sign-in")
    look("sign-in")
    driver.find_element(By.ID, "email").send_keys(f"{KHAI}\n")
    wait.until(lambda d: d.current_url == f"{server.url}/sign-in/code")
    driver.find_element(By.ID, "code").send_keys("000000\n")
    wait.until(lambda d: d.find_elements(By.ID, "code-error"))
    look("sign-in-code")
    code = re.search(r"^\s*(\d{6})\s*$", mailbox.wait_for(KHAI, 15, count=2).text, re.MULTILINE)
    assert code
    field = driver.find_element(By.ID, "code")
    field.clear()
    field.send_keys(f"{code[1]}\n")
    wait.until(lambda d: d.current_url == f"{server.url}/courses")
    driver.get(caught.links[0])
    look("invitation-used")
