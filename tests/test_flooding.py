"""Who knocks too often is told so on a page, with when to come again; a campus behind one address is not."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Browser, Cast
from flask import Flask
from werkzeug.test import TestResponse

from lti_tool.settings import defaults

Browse = Callable[[int | None], Browser]


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"LIMIT_SIGN_IN": "3 per minute", "LIMIT_INVITATION": "3 per minute"}


def is_told_to_wait(answer: TestResponse, seconds: int) -> bool:
    """A page with words, and the same for programs."""
    assert answer.status_code == 429
    assert 'data-error="too_many"' in answer.text
    assert "Too many tries in a short time" in answer.text
    assert "then try again. Nothing is lost." in answer.text
    return 0 < int(answer.headers["Retry-After"]) <= seconds


@pytest.mark.parametrize(
    ("address", "before"),
    [
        ("/sign-in", 303),
        ("/sign-in/code", 410),
        ("/sign-in/link/no-such-token", 410),
        ("/invitations/no-such-token/accept", 404),
        ("/invitations/no-such-token/decline", 404),
        ("/invitations/no-such-token/renew", 404),
    ],
)
def test_flooding_meets_a_page_that_says_when_to_come_again(
    cast: Cast, browse: Browse, address: str, before: int
) -> None:
    browser = browse(None)
    browser.get("/sign-in")
    answers = [browser.post(address, {"email": f"nobody{n}@example.org"}) for n in range(4)]
    assert [answer.status_code for answer in answers[:3]] == [before] * 3
    assert is_told_to_wait(answers[3], 60)


def test_a_full_mailbox_says_minutes_and_stops_nobody_else(cast: Cast, browse: Browse) -> None:
    answers = []
    for n in range(6):
        browser = browse(None)
        # A campus: each of them has a browser and an address of the network of their own here.
        browser.client.environ_base["REMOTE_ADDR"] = f"192.0.2.{n}"
        answers.append(browser.post("/sign-in", {"email": "sam@example.org"}))
    assert [answer.status_code for answer in answers] == [303] * 5 + [429]
    assert is_told_to_wait(answers[5], 15 * 60)
    assert re.search(r"Wait 1[45] minutes", answers[5].text), re.findall(r"Wait [^<]*", answers[5].text)
    browser = browse(None)
    browser.client.environ_base["REMOTE_ADDR"] = "192.0.2.9"
    assert browser.post("/sign-in", {"email": "tess@example.org"}).status_code == 303


def test_one_hall_may_sign_in_at_once_from_one_address() -> None:
    """Two hundred people who come within five minutes are not an attack."""
    known = defaults()
    for name in ("LIMIT_SIGN_IN", "LIMIT_INVITATION"):
        number, per = known[name].split(" per ")
        assert per == "minute"
        assert int(number) >= 60


def test_long_lists_are_begun_only_so_often(app: Flask, cast: Cast, browse: Browse) -> None:
    app.config["LIMIT_LISTS"] = "2 per minute"
    ada, ids = browse(cast.ada), {"user": [str(cast.sam)]}
    assert [ada.post("/users/batches/new/delete", ids).status_code for _ in range(3)] == [303, 303, 429]
    assert ada.post("/users/export", ids).status_code == 200
