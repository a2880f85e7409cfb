"""Launches from frames that keep no cookie: the proof in platform storage, attacks 58–60, the ticket out.

What the LMS's page does between login and launch is played here; in test_storage_browser.py browsers do it.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import TOOL, Browser, Lms, new_client
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from lti_tool.classroom import sessions
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.sessions import Session
from lti_tool.database import db
from lti_tool.lti import handshake, platform_storage
from lti_tool.pages import visitor

Browse = Callable[[int | None], Browser]
OURS = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"}


@dataclass
class Frame:
    """A frame of the LMS in a browser that keeps no cookie of ours there."""

    client: FlaskClient
    # What the login's page put into platform storage, and the platform's answer to us.
    key: str
    proof: str
    answer: dict[str, str]

    def launch(self) -> TestResponse:
        """The platform posts its answer."""
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}
        return self.client.post("/lti/launch", data=self.answer, headers=headers)

    def form(self) -> dict[str, str]:
        """What our page would post on, with the proof it got from the LMS's page."""
        asking = self.launch()
        assert asking.status_code == 200, asking.text
        return {**fields(asking), "proof": self.proof}

    def confirm(self, form: dict[str, str], **headers: str) -> TestResponse:
        """Our page posts it."""
        return self.client.post("/lti/launch", data=form, headers={**OURS, **headers})


def fields(page: TestResponse) -> dict[str, str]:
    """The hidden fields of the one form of a page."""
    return {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    }


def attribute(page: TestResponse, name: str) -> str | None:
    found = re.search(rf'data-{name}="([^"]*)"', page.text)
    return html.unescape(found[1]) if found else None


def error_of(answer: TestResponse) -> str | None:
    return attribute(answer, "error")


@pytest.fixture
def frame(app: Flask, lms: Lms) -> Callable[..., Frame]:
    """frame("sam") has logged in, and the platform has answered; the launch is still to come."""

    def begin(
        person: str = "sam", target: str = "_parent", client: FlaskClient | None = None, **login: Any
    ) -> Frame:
        asked = lms.login_parameters(person, "geology", lti_storage_target=target, **login)
        page = new_client(app).post("/lti/login", data=asked)
        query = dict(parse_qsl(urlsplit(attribute(page, "authorize") or "").query))
        return Frame(
            client or new_client(app),
            attribute(page, "key") or "",
            attribute(page, "proof") or "",
            lms.authorize(query),
        )

    return begin


@pytest.fixture
def rows(app: Flask) -> Callable[[], dict[str, int]]:
    """How many rows every table holds, but for the note of what was refused."""

    def count() -> dict[str, int]:
        with app.app_context():
            return {
                name: db.session.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in db.metadata.tables.items()
                if name != "launch_outcome"
            }

    return count


def test_the_login_page_has_the_lms_keep_a_fresh_proof_that_the_state_knows_only_as_a_hash(
    app: Flask, lms: Lms
) -> None:
    client = new_client(app)
    seen = set()
    for _ in range(2):
        asked = lms.login_parameters("sam", "geology", lti_storage_target="post_message_forwarding")
        page = client.post("/lti/login", data=asked)
        proof, key = attribute(page, "proof"), attribute(page, "key")
        assert proof is not None
        assert len(proof) == 43
        assert attribute(page, "storage") == "post_message_forwarding"
        assert attribute(page, "origin") == lms.browser_url
        assert page.headers["Cache-Control"] == "no-store"
        assert proof not in page.headers["Set-Cookie"]
        authorize = attribute(page, "authorize") or ""
        assert proof not in authorize
        # In a window of its own the cookie has to do: the LMS's page is not around it.
        assert "lti_storage_target" not in re.findall(r'href="(/lti/login[^"]*)"', page.text)[0]
        with app.app_context():
            state = handshake.verify(dict(parse_qsl(urlsplit(authorize).query))["state"])
        assert state.proof_digest == handshake.digest(proof)
        assert state.storage_target == "post_message_forwarding"
        seen |= {proof, key}
    assert len(seen) == 4


def test_a_login_without_storage_has_no_proof(app: Flask, lms: Lms) -> None:
    page = new_client(app).post("/lti/login", data=lms.login_parameters("sam", "geology"))
    assert attribute(page, "proof") is None
    assert attribute(page, "storage") is None


def test_without_a_cookie_the_proof_lets_in_and_the_frame_shows_the_door(
    app: Flask, lms: Lms, frame: Callable[..., Frame], rows: Callable[[], dict[str, int]]
) -> None:
    sam = frame()
    before = rows()
    asking = sam.launch()
    assert asking.status_code == 200
    assert rows() == before, "asking uses nothing up"
    assert attribute(asking, "origin") == lms.browser_url
    assert attribute(asking, "storage") == "_parent"
    assert attribute(asking, "key") == sam.key
    assert sam.proof not in asking.text
    assert fields(asking)["id_token"] == sam.answer["id_token"]
    for page in (asking, sam.confirm({**fields(asking), "proof": sam.proof})):
        assert page.status_code == 200, page.text
        assert "Set-Cookie" not in page.headers, "nothing that would not be kept"
        assert page.headers["Cache-Control"] == "no-store"
        assert lms.issuer in page.headers["Content-Security-Policy"]
    assert 'data-gate="course_inactive"' in page.text
    for said in ("Geology", "Student", "Sam Rivera", "the course has no plan", "Moodle has told us"):
        assert said in page.text, said
    assert rows()["session"] == before["session"] + 1


def test_the_ticket_in_the_door_opens_one_window_of_its_own(
    app: Flask, frame: Callable[..., Frame], browse: Browse
) -> None:
    sam = frame()
    ticket = fields(sam.confirm(sam.form()))
    window = browse(None)
    window.client.set_cookie(visitor.LAUNCH_COOKIE, "planted" * 6, domain="tool.example", secure=True)
    opened = window.client.post("/ticket", data=ticket, headers=OURS)
    assert opened.status_code == 303
    arrived = window.get(opened.location)
    assert arrived.status_code == 303
    course = window.get(arrived.location, headers={"Sec-Fetch-Dest": "document"})
    assert course.status_code == 200
    assert "Sam Rivera" in course.text
    assert 'data-gate="course_inactive"' in course.text
    # Where even a window keeps no cookie, it says that and nothing about signing in.
    withheld = new_client(app).get(opened.location)
    assert (withheld.status_code, error_of(withheld)) == (403, "cookies_withheld")
    assert "Allow cookies for this address" in withheld.text
    again = new_client(app).post("/ticket", data=ticket, headers=OURS)
    assert error_of(again) == "ticket_spent"
    assert again.headers.getlist("Set-Cookie") == [] or visitor.LAUNCH_COOKIE not in str(again.headers)


def test_the_ticket_in_the_door_waits_ten_minutes_and_ends_with_the_persons_sessions(
    app: Flask, frame: Callable[..., Frame], move_clock: Callable[[timedelta], None]
) -> None:
    early, late, gone = (fields(f.confirm(f.form())) for f in (frame(), frame(), frame("tess")))
    with app.app_context():
        tess = db.session.scalars(select(Session).order_by(Session.id.desc())).first()
        assert tess is not None
        sessions.end_all(tess.user)
        db.session.commit()
    assert error_of(new_client(app).post("/ticket", data=gone, headers=OURS)) == "ticket_spent"
    move_clock(timedelta(minutes=9))
    assert new_client(app).post("/ticket", data=early, headers=OURS).status_code == 303
    move_clock(timedelta(minutes=2))
    assert error_of(new_client(app).post("/ticket", data=late, headers=OURS)) == "ticket_spent"


def test_content_can_be_chosen_in_a_frame_without_cookies(frame: Callable[..., Frame]) -> None:
    """A deep linking launch carries itself in its page's form, whatever spoke for the browser."""
    ivan = frame("ivan", message_type="LtiDeepLinkingRequest")
    picking = ivan.confirm(ivan.form())
    assert picking.status_code == 200, picking.text
    assert 'action="/lti/deep-link"' in picking.text
    assert "Set-Cookie" not in picking.headers


def test_in_a_window_that_keeps_no_cookie_the_proof_is_of_no_use_and_that_is_said(
    frame: Callable[..., Frame], rows: Callable[[], dict[str, int]]
) -> None:
    sam = frame()
    form = sam.form()
    before = rows()
    answer = sam.confirm(form, **{"Sec-Fetch-Dest": "document"})
    assert (answer.status_code, error_of(answer)) == (403, "cookies_withheld")
    assert rows() == {**before, "burned_nonce": before["burned_nonce"] + 1}
    assert error_of(sam.confirm(form)) == "nonce_used"


class TestAttacks:
    def refused(self, answer: TestResponse, code: str) -> None:
        assert error_of(answer) == code, answer.text
        assert answer.status_code // 100 == 4
        assert visitor.LAUNCH_COOKIE not in str(answer.headers)

    def test_58_a_proof_that_is_absent_wrong_or_of_another_login_is_refused(
        self, frame: Callable[..., Frame], rows: Callable[[], dict[str, int]]
    ) -> None:
        sam, other = frame(), frame()
        form = sam.form()
        before = rows()
        self.refused(sam.confirm({**form, "proof": ""}), "storage_proof_missing")
        for wrong in ("x", "x" * 43, sam.key, other.proof, sam.proof + " ", "\0", "é" * 500):
            self.refused(sam.confirm({**form, "proof": wrong}), "storage_proof_wrong")
        # Nor does the other login's page vouch for this one's state.
        self.refused(sam.confirm({**form, "asked": other.form()["asked"]}), "storage_proof_wrong")
        assert rows() == before
        assert sam.confirm(form).status_code == 200

    def test_59_another_sites_page_cannot_post_its_own_proof(self, frame: Callable[..., Frame]) -> None:
        """The attacker's whole launch, proof and all, posted in the victim's browser."""
        attackers = frame()
        form = attackers.form()
        for headers in (
            {"Sec-Fetch-Site": "cross-site", "Origin": TOOL},
            {"Sec-Fetch-Site": "same-site", "Origin": TOOL},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
            {},
        ):
            answer = attackers.client.post("/lti/launch", data=form, headers=headers)
            self.refused(answer, "storage_proof_foreign")
        # A browser that says no more than Origin is believed that.
        assert attackers.client.post("/lti/launch", data=form, headers={"Origin": TOOL}).status_code == 200

    def test_60_markup_in_the_storage_target_is_no_target(
        self, app: Flask, lms: Lms, frame: Callable[..., Frame]
    ) -> None:
        for target in ('"><script>alert(1)</script>', "a b", "x" * 101, "'onload='"):
            sam = frame(target=target)
            assert sam.proof == ""
            self.refused(sam.launch(), "cookie_missing")
        # What the launch says of it is not read at all: the login's word stands in the state.
        sam = frame()
        sam.answer["lti_storage_target"] = '"><script>alert(1)</script>'
        asking = sam.launch()
        assert "alert(1)" not in asking.text
        assert attribute(asking, "storage") == "_parent"

    def test_a_proof_works_once(self, app: Flask, frame: Callable[..., Frame]) -> None:
        sam = frame()
        form = sam.form()
        assert sam.confirm(form).status_code == 200
        self.refused(sam.confirm(form), "nonce_used")
        with app.app_context():
            assert len(db.session.scalars(select(Enrollment)).all()) == 1

    def test_a_proof_that_comes_late_is_refused(
        self, frame: Callable[..., Frame], lms: Lms, move_clock: Callable[[timedelta], None]
    ) -> None:
        early, late = frame(), frame()
        forms = early.form(), late.form()
        move_clock(timedelta(seconds=50))
        assert early.confirm(forms[0]).status_code == 200
        move_clock(timedelta(seconds=12))
        self.refused(late.confirm(forms[1]), "storage_proof_late")
        seconds, _, signature = forms[1]["asked"].partition(".")
        for forged in (
            f"{int(seconds) + 60}.{signature}",
            "",
            ".",
            "é.x",
            "9" * 50,
            f"-1.{signature}",
        ):
            self.refused(late.confirm({**forms[1], "asked": forged}), "storage_proof_wrong")
        # The login itself is still in time: asked anew, it goes on.
        assert late.confirm(late.form()).status_code == 200

    def test_a_proof_for_a_login_that_had_none_is_refused(
        self, app: Flask, lms: Lms, frame: Callable[..., Frame]
    ) -> None:
        sam, other = frame(target=""), frame()
        form = {**sam.answer, "asked": other.form()["asked"], "proof": other.proof}
        self.refused(sam.confirm(form), "cookie_missing")
        with app.app_context():
            stamp = platform_storage._stamp(int(sessions.now().timestamp()), sam.answer["state"])
        self.refused(sam.confirm({**form, "asked": stamp}), "cookie_missing")
        self.refused(sam.confirm({**form, "asked": stamp, "proof": ""}), "cookie_missing")

    def test_a_wrong_cookie_is_not_mended_by_a_good_proof(self, frame: Callable[..., Frame]) -> None:
        sam = frame()
        form = sam.form()
        sam.client.set_cookie(sam.key, "0" * 64, path="/lti", domain="tool.example", secure=True)
        self.refused(sam.launch(), "cookie_wrong")
        self.refused(sam.confirm(form), "cookie_wrong")

    def test_nothing_is_asked_for_a_launch_that_cannot_hold(
        self, frame: Callable[..., Frame], move_clock: Callable[[timedelta], None]
    ) -> None:
        sam = frame()
        good = dict(sam.answer)
        for state, code in (
            ("", "state_missing"),
            ("x" * 200, "state_wrong"),
            (good["state"][:-4], "state_wrong"),
        ):
            sam.answer = {**good, "state": state}
            self.refused(sam.launch(), code)
        sam.answer = {**good, "id_token": "x" * 64_001}
        self.refused(sam.launch(), "token_too_large")
        sam.answer = {"state": good["state"]}
        self.refused(sam.launch(), "cookie_missing")
        sam.answer = {"state": good["state"], "error": "login_required"}
        self.refused(sam.launch(), "platform_login_required")
        move_clock(timedelta(minutes=6))
        sam.answer = good
        self.refused(sam.launch(), "state_expired")

    def test_every_other_check_of_a_launch_stands(self, lms: Lms, frame: Callable[..., Frame]) -> None:
        """A good proof says whose browser it is, and nothing of the token."""
        sam = frame()
        form = sam.form()
        token = form["id_token"]
        head, body, signature = token.split(".")
        self.refused(sam.confirm({**form, "id_token": f"{head}.{body}.{signature[::-1]}"}), "signature_wrong")
        nonces = frame().answer["id_token"]
        self.refused(sam.confirm({**form, "id_token": nonces}), "nonce_wrong")
        assert sam.confirm(form).status_code == 200


def test_a_launch_by_cookie_asks_the_database_no_more_for_all_this_and_one_by_proof_little(
    app: Flask, lms: Lms, frame: Callable[..., Frame], statements: list[str]
) -> None:
    """Sam's later launches, with storage on offer."""

    def counted(launch: Callable[[], TestResponse]) -> tuple[int, int]:
        del statements[:]
        status = launch().status_code
        return status, len([s for s in statements if not s.startswith(("BEGIN", "COMMIT", "PRAGMA"))])

    for _ in range(2):
        client = new_client(app)
        asked = lms.login_parameters("sam", "geology", lti_storage_target="_parent")
        page = client.post("/lti/login", data=asked)
        form = lms.authorize(dict(parse_qsl(urlsplit(attribute(page, "authorize") or "").query)))
        by_cookie = counted(partial(client.post, "/lti/launch", data=form))
    # The registration, who and where, the nonce, the session.
    assert by_cookie == (303, 4), statements
    sam = frame()
    assert counted(sam.launch) == (200, 1), statements
    status, count = counted(partial(sam.confirm, sam.form()))
    assert status == 200
    assert count <= 10, statements


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://lms.example/auth?x=1", "https://lms.example"),
        ("https://LMS.example:443/auth", "https://lms.example"),
        ("https://lms.example:8443/auth", "https://lms.example:8443"),
        ("http://127.0.0.1:8001/auth", "http://127.0.0.1:8001"),
        ("http://[::1]:80/auth", "http://[::1]"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str) -> None:
    assert platform_storage.origin_of(url) == origin


def test_in_a_frame_the_page_says_who_is_there_so_that_a_switch_is_seen(browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    for person in ("ivan", "sam"):
        course = lms.launch(browser, person, "geology").location
        page = browser.get(course, headers={"Sec-Fetch-Dest": "iframe"}).text
        assert re.search(rf"Signed in as <a [^>]+><bdi>{lms.person(person).name}</bdi></a>", page)
    assert lms.person("ivan").name not in page
