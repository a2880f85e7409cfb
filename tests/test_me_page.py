"""My account: name, language and zone, and the browsers one is signed in with."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Browser, Cast, Lms, sign_in_token
from flask import Flask
from sqlalchemy import select

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import User
from lti_tool.classroom.sessions import Session
from lti_tool.database import db
from lti_tool.pages.browsers import name_browser

Browse = Callable[[int | None], Browser]


@pytest.fixture
def settings() -> dict[str, Any]:
    """With a second language to choose."""
    return {"LANGUAGES": ["en", "de"]}


def user(app: Flask, user_id: int) -> User:
    with app.app_context():
        return db.session.get_one(User, user_id)


def sessions_of(app: Flask, user_id: int) -> list[int]:
    with app.app_context():
        return list(db.session.scalars(select(Session.id).filter_by(user_id=user_id).order_by(Session.id)))


@pytest.mark.parametrize(
    ("user_agent", "label"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox/Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
            " Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
            "Edge/Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            " Version/17.5 Safari/605.1.15",
            "Safari/macOS",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            " CriOS/126.0 Mobile/15E148 Safari/604.1",
            "Chrome/iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"
            " Mobile Safari/537.36",
            "Chrome/Android",
        ),
        ("curl/8.5", "/"),
        ("", "/"),
        ("<script>alert(1)</script> Linux", "/Linux"),
    ],
)
def test_a_browser_is_named_coarsely_and_nothing_else_of_it_is_kept(user_agent: str, label: str) -> None:
    assert name_browser(user_agent) == label


def test_one_settles_name_language_and_zone_for_oneself(app: Flask, cast: Cast, browse: Browse) -> None:
    sam = browse(cast.sam)
    page = sam.get("/me")
    assert page.status_code == 200
    assert 'value="Sam Whitfield"' in page.text
    saved = sam.post("/me", {"name": " Samuel\nWhitfield ", "locale": "de", "timezone": "Asia/Tokyo"})
    assert (saved.status_code, saved.location) == (303, "/me")
    held = user(app, cast.sam)
    assert (held.name, held.name_by_hand) == ("Samuel Whitfield", True)
    assert (held.locale, held.timezone) == ("de", "Asia/Tokyo")
    sam.client.set_cookie("doorlist-zone", "Europe/Berlin", domain="tool.example", secure=True)
    shown = sam.get("/me").text
    assert '<html lang="de"' in shown, "what one chose oneself comes before what the browser says"
    assert '<option value="Asia/Tokyo" selected>' in shown
    assert sam.post("/me", {"name": "Sam", "locale": "", "timezone": ""}).status_code == 303
    assert '<html lang="en"' in sam.get("/me").text


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "", "locale": "", "timezone": ""}, "name"),
        ({"name": "x" * 201, "locale": "", "timezone": ""}, "name"),
        ({"name": "Sam", "locale": "xx", "timezone": ""}, "locale"),
        ({"name": "Sam", "locale": "", "timezone": "Mars/Olympus"}, "timezone"),
    ],
)
def test_what_cannot_be_comes_back_beside_its_field(
    app: Flask, cast: Cast, browse: Browse, form: dict[str, str], field: str
) -> None:
    answer = browse(cast.sam).post("/me", form)
    assert answer.status_code == 422
    assert re.search(rf'aria-invalid="true"[^>]*>|aria-describedby="{field}-error', answer.text)
    assert f'id="{field}-error"' in answer.text
    assert user(app, cast.sam).name == "Sam Whitfield"


def test_the_browsers_one_is_signed_in_with_are_shown_and_can_be_signed_out(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    here, phone = browse(cast.sam), browse(cast.sam)
    sign_in_token(app, cast.tess)
    [first, second] = sessions_of(app, cast.sam)
    page = here.get("/me").text
    assert page.count("This one") == 1
    assert f"/me/sessions/{first}/end" in page
    assert f"/me/sessions/{second}/end" in page
    [tess] = sessions_of(app, cast.tess)
    assert f"/me/sessions/{tess}/end" not in page
    assert here.post(f"/me/sessions/{tess}/end").status_code == 404
    assert here.post("/me/sessions/2147483647/end").status_code == 404
    assert here.post(f"/me/sessions/{second}/end").location == "/me"
    assert phone.get("/courses").status_code == 303
    out = here.post(f"/me/sessions/{first}/end")
    assert out.location == "/sign-in"
    assert "__Host-doorlist=;" in out.headers["Set-Cookie"] or "__Host-doorlist-launch=;" in str(out.headers)
    assert here.get("/courses").status_code == 303
    assert sessions_of(app, cast.tess) == [tess], "nobody else was signed out"


def test_everywhere_means_here_too_only_when_one_says_so(app: Flask, cast: Cast, browse: Browse) -> None:
    here, phone, tess = browse(cast.sam), browse(cast.sam), browse(cast.tess)
    assert here.post("/me/sessions/end-others").location == "/me"
    assert phone.get("/me").status_code == 303
    assert here.get("/me").status_code == 200
    again = browse(cast.sam)
    assert here.post("/me/sessions/end-all").location == "/sign-in"
    assert here.get("/me").status_code == again.get("/me").status_code == 303
    assert tess.get("/me").status_code == 200


def test_a_launch_is_listed_with_its_lms_and_leads_to_this_page(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    browser = browse(None)
    launched = lms.launch(browser, "sam", "geology")
    assert launched.status_code == 303
    shown = browser.get(launched.location, headers={"Sec-Fetch-Dest": "iframe"})
    assert 'href="/me"' in shown.text
    page = browser.get("/me", headers={"Sec-Fetch-Dest": "iframe"})
    assert page.status_code == 200
    assert "From Linden campus" in page.text or "From Moodle" in page.text
    assert 'class="topbar"' not in page.text
    assert 'href="/courses"' in page.text


def test_the_page_takes_ten_statements_however_many_browsers_there_are(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    here = browse(cast.ada)
    for _ in range(12):
        sign_in_token(app, cast.ada)
    here.get("/me")
    statements.clear()
    assert here.get("/me").status_code == 200
    assert len([one for one in statements if not one.startswith("BEGIN")]) <= 10


def test_nobody_reaches_it_without_signing_in_and_nothing_happens_without_a_token(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    assert browse(None).get("/me").location == "/sign-in?next=/me"
    client = browse(cast.sam).client
    for address in ("/me", "/me/sessions/end-all", "/me/sessions/end-others", "/me/sessions/1/end"):
        assert client.post(address, data={"name": "Mallory"}).status_code == 400
    assert user(app, cast.sam).name == "Sam Whitfield"
    assert len(sessions_of(app, cast.sam)) == 1
    with app.app_context():
        assert accounts.find_user(cast.account, cast.sam) is not None
