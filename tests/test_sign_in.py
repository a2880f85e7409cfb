"""Signing in without an LMS, by mailed link and code; and that nothing tells who is known."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Browser, Cast, new_client
from flask import Flask, template_rendered
from sqlalchemy import select

from lti_tool import mail
from lti_tool.classroom import accounts, sessions
from lti_tool.classroom.accounts import Role, Status, User
from lti_tool.classroom.sessions import SignInCode
from lti_tool.database import db, now
from lti_tool.pages import visitor
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
SAM = "sam@example.org"
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}


@pytest.fixture
def settings() -> dict[str, Any]:
    """All tests come from one address."""
    return {"LIMIT_SIGN_IN": "1000 per minute"}


def ask(browser: Browser, email: str = SAM, following: str = "") -> None:
    answer = browser.post("/sign-in", {"email": email, "next": following})
    assert answer.status_code == 303
    assert answer.location == "/sign-in/code"


def code_in(mailbox: Mailbox, address: str = SAM, count: int = 1) -> str:
    found = re.search(r"^\s*(\d{6})\s*$", mailbox.wait_for(address, count=count).text, re.MULTILINE)
    assert found
    return found[1]


def link_in(mailbox: Mailbox, address: str = SAM) -> str:
    return urlsplit(mailbox.wait_for(address).links[0]).path


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


def test_the_code_signs_in_the_browser_that_asked(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    ask(browser, "  SAM@example.org ", f"/courses/{cast.geology}")
    assert SAM in browser.get("/sign-in/code").text.lower()
    work()
    code = code_in(mailbox)
    done = browser.post("/sign-in/code", {"code": f"{code[:3]} {code[3:]}"})
    assert done.status_code == 303
    assert done.location == f"/courses/{cast.geology}"
    assert "Sam Whitfield" in browser.get("/courses").text
    assert browser.get("/sign-in/code").status_code == 302, "the code is used up"
    assert browse(None).post("/sign-in/code", {"code": code}).status_code == 410


def test_a_code_is_useless_in_another_browser(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ask(browse(None))
    work()
    thief = browse(None)
    ask(thief, "nobody@example.net")
    assert thief.post("/sign-in/code", {"code": code_in(mailbox)}).status_code == 422
    assert thief.get("/courses").status_code == 303


def test_the_link_shows_a_button_and_works_once_in_any_browser(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ask(browse(None))
    work()
    path = link_in(mailbox)
    phone = browse(None)
    for _ in range(2):
        shown = phone.get(path)
        assert shown.status_code == 200
        assert "Sam Whitfield" in shown.text
        assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert phone.get("/courses").status_code == 303
    assert phone.post(path).status_code == 303
    assert phone.get("/courses").status_code == 200
    other = browse(None)
    for spent in (other.get(path), other.post(path)):
        assert spent.status_code == 410
        assert 'data-error="sign_in_spent"' in spent.text
    assert other.get("/courses").status_code == 303


def test_using_the_code_uses_up_the_link(cast: Cast, browse: Browse, work: Work, mailbox: Mailbox) -> None:
    browser = browse(None)
    ask(browser)
    work()
    assert browser.post("/sign-in/code", {"code": code_in(mailbox)}).status_code == 303
    assert browse(None).post(link_in(mailbox)).status_code == 410


def test_known_and_unknown_addresses_get_the_same_answers(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    with app.app_context():
        accounts.add_user(
            cast.account, name="P", email="pends@example.org", status=Status.PENDING, mailbox_proven=True
        )
        accounts.add_user(cast.account, name="C", email="claim@example.org")
        # Shut out by an admin.
        accounts.find_by_mailbox(cast.account, "tess@example.org").blocked_at = now()
        db.session.commit()
    seen = []
    for email in (SAM, "nob@example.org", "pends@example.org", "claim@example.org", "tess@example.org"):
        browser = browse(None)
        answers = [browser.post("/sign-in", {"email": email}), browser.get("/sign-in/code")]
        answers += [
            browser.post("/sign-in/code", {"code": "00000"}),
            browser.post("/sign-in", {"email": email}),
        ]
        answers += [browser.get("/sign-in/code")]
        answers += [browser.post("/sign-in/code", {"code": "000000"}) for _ in range(6)]
        seen.append([(a.status_code, _impersonal(a.text, email), sorted(a.headers.keys())) for a in answers])
    assert [status for status, _, _ in seen[0]] == [303, 200, 422, 303, 200, *5 * [422], 410]
    for other in seen[1:]:
        assert other == seen[0]
    work()
    assert {to for mail in mailbox.mails for to in mail.to} == {SAM, "pends@example.org"}
    assert "/invitations/" in mailbox.wait_for("pends@example.org").text, "the invitation once more"


def test_as_much_is_done_for_an_unknown_address_as_for_a_known_one(
    app: Flask,
    cast: Cast,
    browse: Browse,
    monkeypatch: pytest.MonkeyPatch,
    statements: list[str],
) -> None:
    """Time tells: what a mail says is sealed for either, and written for neither before it is delivered."""
    done = []
    seal = mail.seal
    for email in (SAM, "nob@example.org"):
        work: list[str] = []

        def note(sender: Flask, template: Any, work: list[str] = work, **rest: Any) -> None:
            work.append(str(template.name))

        def seal_noted(purpose: str, value: str, work: list[str] = work) -> str:
            work.append(purpose)
            return seal(purpose, value)

        monkeypatch.setattr(mail, "seal", seal_noted)
        browser = browse(None)
        browser.get("/sign-in")
        with template_rendered.connected_to(note, app):
            statements.clear()
            browser.post("/sign-in", {"email": email})
        done.append((len(statements), [one for one in work if one.startswith(("mail/", "outbox"))]))
    assert done[0] == done[1] == (done[0][0], ["outbox"])


def _impersonal(page: str, email: str) -> str:
    page = page.replace(email, "ADDRESS")
    page = re.sub(r'data-wait="\d+"|today [^<]+ [AP]M', "WHEN", page)
    page = re.sub(r'name="csrf[-_]token" (content|value)="[^"]+"', "CSRF", page)
    return re.sub(r"· [0-9a-f]{12} · [^<]+", "· ID · TIME", page)


def test_five_wrong_tries_end_a_code_and_the_rest_is_counted_down(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    ask(browser)
    work()
    code = code_in(mailbox)
    for left in ("4 tries left", "3 tries left", "2 tries left", "1 try left", "that was the last try"):
        answer = browser.post("/sign-in/code", {"code": wrong(code)})
        assert answer.status_code == 422
        assert left in answer.text
    assert browser.post("/sign-in/code", {"code": code}).status_code == 410
    assert browser.get("/courses").status_code == 303


def test_a_code_and_its_link_are_over_after_a_quarter_of_an_hour(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Callable[[timedelta], None]
) -> None:
    browser = browse(None)
    ask(browser)
    work()
    move_clock(timedelta(minutes=15))
    assert browser.post("/sign-in/code", {"code": code_in(mailbox)}).status_code == 410
    assert browser.get(link_in(mailbox)).status_code == 410


@pytest.mark.parametrize(
    "following",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "/\t/evil",
    ],
)
def test_nobody_is_sent_elsewhere(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, following: str
) -> None:
    browser = browse(None)
    ask(browser, following=following)
    work()
    assert browser.post("/sign-in/code", {"code": code_in(mailbox)}).location == "/courses"


def test_what_was_asked_for_while_signed_out_is_shown_after_signing_in(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    turned = browser.get("/users?q=sam&sort=-name")
    assert turned.status_code == 303
    page = browser.get(turned.location)
    hidden = re.search(r'name="next"[^>]*value="([^"]*)"', page.text)
    assert hidden
    ask(browser, "ada@example.org", hidden[1].replace("&amp;", "&"))
    work()
    done = browser.post("/sign-in/code", {"code": code_in(mailbox, "ada@example.org")})
    assert done.location == "/users?q=sam&sort=-name"


@pytest.mark.parametrize("email", ["", "nobody", "a b@example.org", "x" * 300 + "@example.org"])
def test_what_is_no_address_comes_back_beside_the_field(cast: Cast, browse: Browse, email: str) -> None:
    answer = browse(None).post("/sign-in", {"email": email})
    assert answer.status_code == 422
    assert 'aria-describedby="email-error"' in answer.text


def test_a_mailbox_of_two_accounts_gets_a_code_from_each(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    with app.app_context():
        accounts.add_user(
            cast.other_account, name="Sam at Oak", email=SAM, role=Role.INSTRUCTOR, mailbox_proven=True
        )
        db.session.commit()
    browser = browse(None)
    ask(browser)
    work()
    mailbox.wait_for(SAM, count=2)
    mails = {mail.subject: mail for mail in mailbox.sent_to(SAM)}
    assert set(mails) == {"Your code for Linden Polytechnic", "Your code for Oak College"}
    found = re.search(r"^\s*(\d{6})\s*$", mails["Your code for Oak College"].text, re.MULTILINE)
    assert found
    assert browser.post("/sign-in/code", {"code": found[1]}).status_code == 303
    page = browser.get("/courses").text
    assert "Oak College" in page
    assert "Sam at Oak" in page


def test_one_mailbox_is_not_flooded_whoever_asks(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    statuses = {
        email: [browse(None).post("/sign-in", {"email": email}).status_code for _ in range(6)]
        for email in (SAM, "nobody@example.net")
    }
    assert statuses[SAM] == [303] * 5 + [429]
    assert statuses["nobody@example.net"] == statuses[SAM]
    work()
    assert len(mailbox.sent_to(SAM)) == 5


def test_an_operators_link_signs_in_once(app: Flask, cast: Cast, browse: Browse) -> None:
    with app.app_context():
        path = sessions.mint_link(db.session.get_one(User, cast.ada), public_url="")
        db.session.commit()
    browser = browse(None)
    assert "Ada Okonkwo" in browser.get(path).text
    assert browser.post(path).status_code == 303
    assert browser.get("/users").status_code == 200
    assert browse(None).post(path).status_code == 410


def test_signing_out_ends_the_session_itself_and_not_only_the_cookie(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    browser = browse(cast.sam)
    kept = browser.client.get_cookie(visitor.OWN_COOKIE, domain="tool.example")
    assert kept is not None
    assert browser.get("/courses").status_code == 200
    out = browser.post("/sign-out")
    assert out.status_code == 303
    assert out.location == "/sign-in"
    thief = new_client(app)
    thief.set_cookie(visitor.OWN_COOKIE, kept.value, domain="tool.example", secure=True)
    assert thief.get("/courses").status_code == 303
    assert browse(None).post("/sign-out").status_code == 303


def test_a_token_planted_before_signing_in_stays_worthless(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    browser.client.set_cookie(visitor.OWN_COOKIE, "planted", domain="tool.example", secure=True)
    ask(browser)
    work()
    assert browser.post("/sign-in/code", {"code": code_in(mailbox)}).status_code == 303
    thief = new_client(app)
    thief.set_cookie(visitor.OWN_COOKIE, "planted", domain="tool.example", secure=True)
    assert thief.get("/courses").status_code == 303


def test_without_its_csrf_token_nothing_happens(app: Flask, cast: Cast, browse: Browse) -> None:
    client = new_client(app)
    for address in ("/sign-in", "/sign-in/code", "/sign-in/link/x", "/sign-out"):
        assert client.post(address, data={"email": SAM, "code": "123456"}).status_code == 400
    with app.app_context():
        assert db.session.scalars(select(SignInCode)).all() == []


def test_neither_code_nor_link_lies_readable_in_the_database(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ask(browse(None))
    work()
    token = link_in(mailbox).rsplit("/", 1)[1]
    with app.app_context():
        held = db.session.scalars(select(SignInCode)).one()
        assert token not in (held.token_hash, held.asker_hash, held.code_hash)
        assert code_in(mailbox) not in held.code_hash or len(held.code_hash) == 64


def test_a_code_may_be_pasted_as_people_copy_it_and_a_slip_costs_no_try(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    ask(browser)
    page = browser.get("/sign-in/code").text
    assert _impersonal(page, SAM) == _impersonal(browser.get("/sign-in/code").text, SAM), "it may be reloaded"
    for attribute in ('autocomplete="one-time-code"', 'inputmode="numeric"', "Look in spam"):
        assert attribute in page
    work()
    code = code_in(mailbox)
    for slip in ("", "12345", code + "1", "abc", "١٢٣"):
        answer = browser.post("/sign-in/code", {"code": slip})
        assert answer.status_code == 422
        assert "Write the six digits" in answer.text
        assert 'aria-invalid="true"' in answer.text
    # As an Arabic keyboard writes them, and with what mail programs put between.
    strange = "".join(chr(0x660 + int(digit)) for digit in code)
    assert browser.post("/sign-in/code", {"code": f" {strange[:3]}\u00a0-{strange[3:]} "}).status_code == 303


def test_sent_again_the_code_of_either_mail_works_and_the_other_is_spent_with_it(
    cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    browser = browse(None)
    for _ in range(2):
        ask(browser)
        work()
    assert "The code of either mail works" in browser.get("/sign-in/code").text
    mailbox.wait_for(SAM, count=2)
    first, second = mailbox.sent_to(SAM)
    code = re.search(r"^\s*(\d{6})\s*$", first.text, re.MULTILINE)
    assert code
    assert browser.post("/sign-in/code", {"code": code[1]}).status_code == 303
    assert browse(None).post(urlsplit(second.links[0]).path).status_code == 410


def test_an_admin_is_told_of_a_sign_in_with_a_new_browser_and_of_no_other(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    def sign_in(browser: Browser, email: str, count: int) -> None:
        ask(browser, email)
        work()
        mailbox.wait_for(email, count=count)
        code = re.search(r"^\s*(\d{6})\s*$", mailbox.sent_to(email)[-1].text, re.MULTILINE)
        assert code
        assert browser.post("/sign-in/code", {"code": code[1]}, headers=FIREFOX).status_code == 303
        work()

    ada, own = "ada@example.org", browse(None)
    sign_in(own, ada, 1)
    told = mailbox.wait_for(ada, count=2)
    assert told.subject == "New sign-in to Linden Polytechnic"
    assert "Firefox on Linux" in told.text
    assert "/me" in told.links[0]
    sign_in(own, ada, 3)
    assert len(mailbox.sent_to(ada)) == 3, "this browser is known"
    sign_in(browse(None), SAM, 1)
    assert len(mailbox.sent_to(SAM)) == 1, "students are not told"
    with app.app_context():
        accounts.find_account("default").tells_new_sign_ins = False
        db.session.commit()
    sign_in(browse(None), ada, 4)
    assert len(mailbox.sent_to(ada)) == 4, "the account wants none"
