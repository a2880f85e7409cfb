"""Connecting an LMS by a link: the walk, what platforms check, and the attacks (SECURITY 54, 55, 71)."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import TOOL, Browser, Cast, Lms, new_client, platform_key
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from test_outgoing import Listener
from test_roster_page import counted, text_of
from werkzeug.test import TestResponse

from lti_tool.classroom import accounts, connecting, people
from lti_tool.classroom.accounts import Connection, Role, Tenancy, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.connecting import RegistrationLink
from lti_tool.database import db
from lti_tool.logs import redact
from lti_tool.lti import registration
from lti_tool.lti.clouds import CLOUDS
from lti_tool.lti.registrations import Deployment, Registration
from lti_tool.practice_lms import Platform, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.messages import Flavour
from lti_tool.practice_lms.registration import (
    Registry,
    check_for_canvas,
    check_for_moodle,
)

Browse = Callable[[int | None], Browser]


@dataclass
class Campus:
    """A platform on loopback that knows no tool yet, and its registry."""

    platform: Platform
    registry: Registry

    def open(self, client: FlaskClient, link: str, **update: str) -> TestResponse:
        """As the platform's frame opens the tool's link: no cookie, from another site."""
        url = urlsplit(self.registry.link(link, **update))
        return client.get(f"{url.path}?{url.query}", headers={"Sec-Fetch-Dest": "iframe"})

    def connect(self, client: FlaskClient, link: str, **update: str) -> TestResponse:
        """Open the link, and press the button."""
        return press(client, self.open(client, link, **update))


@pytest.fixture
def campus_of() -> Iterator[Callable[[Flavour], Campus]]:
    servers = []

    def begin(flavour: Flavour) -> Campus:
        platform = Platform(flavour=flavour, key=platform_key())
        lms = create_lms(platform)
        servers.append(serve(lms))
        return Campus(platform, lms.extensions["practice_registry"])

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def moodle(campus_of: Callable[[Flavour], Campus]) -> Campus:
    return campus_of("moodle")


@pytest.fixture
def canvas(campus_of: Callable[[Flavour], Campus]) -> Campus:
    return campus_of("canvas")


@pytest.fixture
def ada(cast: Cast, browse: Browse) -> Browser:
    return browse(cast.ada)


def make_link(browser: Browser, kind: str = "moodle") -> str:
    answer = browser.post(f"/lms/connect/links?lms={kind}")
    assert answer.status_code == 200
    found = re.search(r'id="link-address">([^<]+)<', answer.text)
    assert found, answer.text
    return unescape(found[1])


def press(client: FlaskClient, page: TestResponse) -> TestResponse:
    """The page's one button, as a form in a frame posts it: from our own page, cookies or not."""
    found = re.search(r'name="asked" value="([^"]+)"', page.text)
    assert found, page.text
    return client.post("/lti/register", data={"asked": unescape(found[1])})


def tell(client: FlaskClient, page: TestResponse) -> TestResponse:
    """What the page's script says of itself."""
    found = re.search(r'data-said="([^"]+)"', page.text)
    assert found, page.text
    return client.post("/lti/register/seen", data={"seen": unescape(found[1])})


def error_of(answer: TestResponse) -> str:
    found = re.search(r'data-error="(\w+)"', answer.text)
    assert found, answer.text
    return found[1]


def nothing_stored(app: Flask) -> bool:
    with app.app_context():
        return not any(
            db.session.scalar(select(func.count()).select_from(table))
            for table in (Registration, Connection, Deployment, Tenancy)
        )


# --- the walk ----------------------------------------------------------------------------


def test_from_a_link_in_moodle_to_a_launch(
    app: Flask, cast: Cast, ada: Browser, browse: Browse, moodle: Campus, client: FlaskClient
) -> None:
    link = make_link(ada)
    assert link.startswith(f"{TOOL}/lti/register?token=")
    token = parse_qs(urlsplit(link).query)["token"][0]
    assert len(token) >= 43
    page = ada.get("/lms/connect")
    assert token not in page.text
    assert "Not opened yet" in text_of(page)
    found = re.search(r'id="open-links" hx-get="([^"]+)"', page.text)
    assert found
    listed = unescape(found[1])
    with app.app_context():
        (link_id,) = db.session.scalars(select(RegistrationLink.id)).all()
        assert token not in str(db.session.execute(select(RegistrationLink.__table__)).all())
    state = f"/lms/connect/{link_id}/state"
    asking = {"HX-Request": "true"}
    waiting = ada.get(state, headers=asking)
    assert "Waiting for Moodle to call" in waiting.text
    assert "<html" not in waiting.text

    # In Moodle's frame: who asks, for whom, what; and nothing has happened yet.
    shown = moodle.open(client, link)
    assert shown.status_code == 200
    assert "Set-Cookie" not in shown.headers
    assert moodle.platform.issuer in shown.headers["Content-Security-Policy"].partition("frame-ancestors")[2]
    said = text_of(shown)
    assert "Linden Polytechnic" in said
    assert "Moodle · 127.0.0.1" in said
    assert "names and roles service" in said
    assert nothing_stored(app)
    assert not moodle.registry.bodies
    assert tell(client, shown).status_code == 204
    assert "Opened at 127.0.0.1" in ada.get(state, headers=asking).text
    moved = re.search(r'hx-get="([^"]+)"', ada.get(listed, headers=asking).text)
    assert moved
    # Nothing is put in where nothing has changed.
    assert ada.get(unescape(moved[1]), headers=asking).status_code == 204

    done = press(client, shown)
    assert done.status_code == 200, text_of(done)
    assert "Set-Cookie" not in done.headers
    assert "press Activate" in text_of(done)
    assert "data-connected" in done.text
    assert "Without" not in text_of(done)
    check_for_moodle(moodle.registry.bodies[0])
    check_for_canvas(moodle.registry.bodies[0])
    with app.app_context():
        stored = db.session.scalars(select(Registration)).one()
        assert (stored.issuer, stored.family, stored.name) == (moodle.platform.issuer, "moodle", "Moodle")
        assert stored.auth_url == moodle.platform.auth_url
        assert stored.agreed
        assert registration.read_agreement(stored.agreed).whole
        assert [one.deployment_id for one in stored.deployments] == ["2"]
        tie = db.session.scalars(select(Tenancy)).one().connection
        assert tie.account_id == cast.account
        assert db.session.scalars(
            select(AuditEvent.action).where(
                AuditEvent.action.like("link.%") | AuditEvent.action.like("platform.%")
            )
        ).all() == ["link.made", "platform.connected"]
    found = ada.get(state, headers=asking)
    assert found.status_code == 286
    assert "Moodle · 127.0.0.1 is connected" in text_of(found)
    assert "hx-get" not in found.text
    assert "Open links" not in ada.get("/lms/connect").text
    # A page that listed the link, with nothing on it that waits for this one, tells too.
    told = ada.get(listed, headers=asking)
    assert "Moodle · 127.0.0.1 is connected" in text_of(told)
    assert "hx-get" not in told.text
    assert "connected" not in browse(cast.eve).get(listed, headers=asking).text
    beside = ada.get(f"{state}?listed=1", headers=asking)
    assert 'id="open-links" hx-swap-oob="true" hidden' in beside.text

    # It is a whole connection: people come in.
    moodle.registry.platform.registration().jwks = lambda: new_client(app).get("/lti/jwks.json").get_json()
    launched = Lms(moodle.platform, 0).launch(browse(None), "sam", "geology")
    assert launched.status_code == 303

    # Attack 71: once.
    for again in (moodle.open(client, link), press(client, shown)):
        assert (again.status_code, error_of(again)) == (404, "link_used")
    assert len(moodle.registry.bodies) == 1


def test_canvas_says_no_deployment_and_its_first_launch_waits_for_approval(
    app: Flask, cast: Cast, ada: Browser, browse: Browse, canvas: Campus, client: FlaskClient
) -> None:
    done = canvas.connect(client, make_link(ada, "canvas"))
    assert done.status_code == 200, text_of(done)
    assert "The first launch waits for your approval" in text_of(done)
    check_for_canvas(canvas.registry.bodies[0])
    with app.app_context():
        stored = db.session.scalars(select(Registration)).one()
        assert stored.deployments == []
        # A bare host is no audience.
        assert stored.token_audience is None
        assert stored.agreed["client_uri"].endswith("/api/lti/registrations/2")
    canvas.platform.registration().jwks = lambda: new_client(app).get("/lti/jwks.json").get_json()
    lms = Lms(canvas.platform, 0)
    assert error_of(lms.launch(browse(None), "sam", "geology")) == "deployment_pending"
    with app.app_context():
        waiting = db.session.scalars(select(Deployment.id)).one()
    assert ada.post(f"/lms/deployments/{waiting}/approve").status_code == 303
    assert lms.launch(browse(None), "sam", "geology").status_code == 303

    # With its newer feature Canvas names it, beside the tool configuration.
    canvas.registry.tells_deployment = True
    assert "waits for your approval" not in text_of(canvas.connect(client, make_link(ada, "canvas")))
    with app.app_context():
        assert db.session.scalar(select(func.count(Tenancy.deployment_id))) == 2


def test_registering_again_brings_the_same_lms_up_to_date_and_keeps_its_switches(
    app: Flask, cast: Cast, ada: Browser, browse: Browse, moodle: Campus, client: FlaskClient
) -> None:
    moodle.connect(client, make_link(ada))
    with app.app_context():
        registration_id, client_id = db.session.execute(select(Registration.id, Registration.client_id)).one()
        db.session.get_one(Registration, registration_id).jwks_url = "https://old.example/keys"
        db.session.scalars(select(Connection)).one().makes_admins = False
        db.session.commit()
    assert moodle.connect(client, make_link(ada), update=client_id).status_code == 200
    with app.app_context():
        stored = db.session.scalars(select(Registration)).one()
        assert (stored.id, stored.jwks_url) == (registration_id, moodle.platform.jwks_url)
        assert not db.session.scalars(select(Connection)).one().makes_admins
        assert db.session.scalars(select(AuditEvent).filter_by(action="platform.renewed")).one()

    # Another account's link cannot take it over, nor write one address of it.
    eve = browse(cast.eve)
    theirs = moodle.connect(client, make_link(eve), update=client_id)
    assert (theirs.status_code, error_of(theirs)) == (409, "registration_taken")
    with app.app_context():
        assert db.session.scalars(select(Connection.account_id)).all() == [cast.account]


def test_a_platform_cannot_give_us_another_accounts_client_id(
    app: Flask,
    cast: Cast,
    ada: Browser,
    browse: Browse,
    moodle: Campus,
    campus_of: Callable[[Flavour], Campus],
    client: FlaskClient,
) -> None:
    moodle.connect(client, make_link(ada))
    card = moodle.registry.cards[0]
    evil = campus_of("moodle")
    evil.registry.cards.append(card)
    theirs = evil.connect(client, make_link(browse(cast.eve)), update=card.client_id)
    assert (theirs.status_code, error_of(theirs)) == (409, "registration_taken")
    with app.app_context():
        assert db.session.scalars(select(Connection.account_id)).all() == [cast.account]


def test_a_link_is_worth_no_more_than_whoever_made_it(
    app: Flask, cast: Cast, ada: Browser, browse: Browse, moodle: Campus, client: FlaskClient
) -> None:
    with app.app_context():
        made = [
            accounts.add_user(cast.account, name=name, role=Role.ADMIN).id for name in ("Rob Ex", "Tim Gone")
        ]
        db.session.commit()
    links = [make_link(browse(one)) for one in made]
    page = moodle.open(client, links[0])
    with app.app_context():
        by = db.session.get_one(User, cast.ada)
        people.change_role(db.session.get_one(User, made[0]), Role.STUDENT, by=by)
        people.erase(db.session.get_one(User, made[1]), by=by)
        db.session.commit()
    for answer in (press(client, page), *(moodle.open(client, link) for link in links)):
        assert (answer.status_code, error_of(answer)) == (404, "link_unknown")
    assert "Rob Ex" not in ada.get("/lms/connect").text
    assert not moodle.registry.bodies


# --- trouble, and attack 54 (55 is in test_registration_facts.py) ------------------------


TROUBLES = [
    ("configuration", "issuer", "issuer_foreign"),
    ("configuration", "endpoint", "endpoint_foreign"),
    ("configuration", "incomplete", "configuration_malformed"),
    ("configuration", "redirect", "configuration_unavailable"),
    ("configuration", "huge", "configuration_unavailable"),
    ("configuration", "html", "configuration_unavailable"),
    ("configuration", "500", "configuration_unavailable"),
    ("registration", "redirect", "platform_unavailable"),
    ("registration", "huge", "platform_unavailable"),
    ("registration", "html", "answer_malformed"),
    ("registration", "500", "platform_unavailable"),
    ("registration", "403", "platform_refused"),
    ("registration", "nameless", "answer_malformed"),
]


def test_a_failure_stores_nothing_says_why_and_leaves_the_link_as_it_was(
    app: Flask, ada: Browser, moodle: Campus, client: FlaskClient
) -> None:
    link = make_link(ada)
    shown = moodle.open(client, link)
    for endpoint, trouble, fault in TROUBLES:
        setattr(moodle.platform.faults, endpoint, trouble)
        refused = press(client, shown)
        assert error_of(refused) == fault, trouble
        assert 400 <= refused.status_code < 500
        assert nothing_stored(app)
        assert fault in ada.get("/lms/connect/1/state").text
        moodle.platform.faults.clear()
    assert not moodle.platform.requests_to("/jwks-moved")

    # At the first look too; the page tells whoever waits.
    moodle.platform.faults.configuration = "issuer"
    first = moodle.open(client, link)
    assert error_of(first) == "issuer_foreign"
    assert tell(client, first).status_code == 204
    assert "This address speaks for another LMS" in text_of(ada.get("/lms/connect/1/state"))
    moodle.platform.faults.clear()
    assert moodle.connect(client, link).status_code == 200


def test_the_platform_s_own_word_for_its_refusal_is_shown(
    app: Flask, ada: Browser, moodle: Campus, client: FlaskClient
) -> None:
    page = moodle.open(client, make_link(ada))
    assert press(client, page).status_code == 200
    stale = moodle.open(client, make_link(ada))
    moodle.platform.rotate_key(keep_old=False)
    refused = press(client, stale)
    assert error_of(refused) == "platform_refused"
    assert "platform_refused (status 401: invalid_token)" in refused.text


class TestInTheOpen:
    """Where platforms on private addresses are not allowed."""

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"ALLOW_PRIVATE_PLATFORMS": False, "LIMIT_REGISTRATION": "12 per minute"}

    def test_nothing_inside_is_asked_by_whatever_address(
        self, app: Flask, ada: Browser, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = parse_qs(urlsplit(make_link(ada)).query)["token"][0]
        inside = Listener()
        port = urlsplit(inside.url).port

        def opened(url: str) -> TestResponse:
            return client.get("/lti/register", query_string={"token": token, "openid_configuration": url})

        # A name that leads inward, whatever it was when it was looked at: the address is what counts.
        real = socket.getaddrinfo
        monkeypatch.setattr(
            "lti_tool.lti.outgoing.socket.getaddrinfo",
            lambda host, *rest, **more: real(
                "127.0.0.1" if host.endswith(".example") else host, *rest, **more
            ),
        )
        for url in (
            f"http://127.0.0.1:{port}/c",
            f"https://127.0.0.1:{port}/c",
            f"https://[::1]:{port}/c",
            f"https://moodle.example:{port}/c",
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.7/c",
            "file:///etc/passwd",
            "https://user@moodle.example/c",
        ):
            refused = opened(url)
            assert (refused.status_code, error_of(refused)) == (400, "configuration_refused"), url
        assert inside.connections == 0
        assert error_of(opened("")) == "configuration_missing"
        assert nothing_stored(app)
        # A frame that names no honest host is let in by nobody.
        odd = opened("https://a.example;script-src *")
        assert "script-src" not in odd.headers["Content-Security-Policy"]
        for _ in range(4):
            last = opened("")
        assert (last.status_code, error_of(last)) == (429, "too_many")
        inside.socket.close()


# --- the link itself ---------------------------------------------------------------------


def test_a_link_that_is_unknown_old_or_withdrawn_does_nothing(
    cast: Cast,
    ada: Browser,
    browse: Browse,
    moodle: Campus,
    client: FlaskClient,
    move_clock: Callable[[timedelta], None],
) -> None:
    link = make_link(ada)
    unknown = moodle.open(client, link[:-3] + "abc")
    assert (unknown.status_code, error_of(unknown)) == (404, "link_unknown")
    page = moodle.open(client, link)
    assert ada.post("/lms/connect/1/withdraw").status_code == 303
    for answer in (moodle.open(client, link), press(client, page)):
        assert (answer.status_code, error_of(answer)) == (404, "link_unknown")
    assert ada.get("/lms/connect/1/state").status_code == 404

    second = make_link(ada)
    page = moodle.open(client, second)
    move_clock(timedelta(hours=23, minutes=30))
    assert moodle.open(client, second).status_code == 200
    move_clock(timedelta(minutes=31))
    for answer in (moodle.open(client, second), press(client, page)):
        assert (answer.status_code, error_of(answer)) == (404, "link_expired")
    ada = browse(cast.ada)
    assert "This link has run out" in ada.get("/lms/connect/2/state").text
    assert not moodle.registry.bodies

    # The button carries a field that only the page above it makes.
    for forged in ("", "nonsense", "eyJsaW5rIjoxfQ.aaaa.bbbb"):
        answer = client.post("/lti/register", data={"asked": forged})
        assert (answer.status_code, error_of(answer)) == (400, "form_wrong")
    third = moodle.open(client, make_link(ada))
    said = re.search(r'data-said="([^"]+)"', third.text)
    assert said
    assert error_of(client.post("/lti/register", data={"asked": unescape(said[1])})) == "form_wrong"
    broken = client.get(
        "/lti/register",
        query_string=parse_qs(urlsplit(make_link(ada)).query)
        | {"openid_configuration": moodle.registry.begin()["openid_configuration"]}
        | {"registration_token": "a\r\nX-More: b"},
    )
    assert error_of(broken) == "token_malformed"


def test_of_two_that_press_at_once_one_registers(
    app: Flask, ada: Browser, moodle: Campus, client: FlaskClient, move_clock: Callable[[timedelta], None]
) -> None:
    page = moodle.open(client, make_link(ada))
    moodle.platform.faults.delay = 1.5
    moodle.platform.faults.registration = "slow once"
    answers: list[TestResponse] = []
    first = threading.Thread(target=lambda: answers.append(press(new_client(app), page)))
    first.start()
    while not moodle.platform.requests_to("/openid-registration") and first.is_alive():
        first.join(0.02)
    second = press(client, page)
    assert (second.status_code, error_of(second)) == (409, "link_busy")
    first.join()
    assert answers[0].status_code == 200
    with app.app_context():
        assert db.session.scalar(select(func.count(Registration.id))) == 1


def test_a_link_whose_server_died_meanwhile_is_free_again_after_a_minute(
    app: Flask, ada: Browser, moodle: Campus, client: FlaskClient, move_clock: Callable[[timedelta], None]
) -> None:
    page = moodle.open(client, make_link(ada))
    with app.app_context():
        connecting.take(1, "127.0.0.1")
        db.session.commit()
    assert error_of(press(client, page)) == "link_busy"
    move_clock(timedelta(seconds=61))
    assert press(client, page).status_code == 200


# --- the page and who may ----------------------------------------------------------------


def test_the_page_offers_links_files_and_clouds(app: Flask, ada: Browser) -> None:
    page = ada.get("/lms/connect?lms=canvas")
    assert f"{TOOL}/lti/canvas.json" in page.text
    beta = ada.get("/lms/connect?lms=canvas&cloud=canvas-beta")
    assert 'value="https://canvas.beta.instructure.com"' in beta.text
    assert 'value="https://sso.beta.canvaslms.com/api/lti/security/jwks"' in beta.text
    assert 'id="by-hand" open' in beta.text
    brightspace = ada.get("/lms/connect?lms=other&cloud=brightspace")
    assert 'value="https://api.brightspace.com/auth/token"' in brightspace.text
    blackboard = CLOUDS["blackboard"]
    values = {name: getattr(blackboard, name) for name in ("issuer", "auth_url", "token_url", "jwks_url")}
    answer = ada.post(
        "/lms/connect?lms=other&cloud=blackboard", values | {"name": "Blackboard", "client_id": "abc-1"}
    )
    assert answer.status_code == 303
    with app.app_context():
        stored = db.session.scalars(select(Registration)).one()
        assert stored.jwks_url.endswith("/applications/abc-1/jwks.json")
    made = ada.post("/lms/connect/links?lms=canvas")
    assert 'value="https://canvas.instructure.com"' in made.text
    for number in range(12):
        ada.post("/lms/connect/links", headers={"HX-Request": "true"})
        if number == 1:
            with counted(app) as few:
                ada.get("/lms/connect")
    with counted(app) as statements:
        ada.get("/lms/connect")
    assert len(statements) == len(few) <= 10


def test_only_admins_of_the_account_see_and_withdraw_its_links(
    cast: Cast, ada: Browser, browse: Browse
) -> None:
    make_link(ada)
    eve = browse(cast.eve)
    assert eve.get("/lms/connect/1/state").status_code == 404
    assert eve.post("/lms/connect/1/withdraw").status_code == 404
    assert "Open links" not in eve.get("/lms/connect").text
    odd = "/lms/connect/links?shown=1-x-9999999999-" + 5000 * "9"
    assert eve.get(odd, headers={"HX-Request": "true"}).status_code == 200
    for who in (cast.ivan, cast.sam):
        browser = browse(who)
        assert browser.post("/lms/connect/links").status_code == 403
        assert browser.get("/lms/connect/1/state").status_code == 403
        assert browser.get("/lms/connect/links").status_code == 403
        assert browser.post("/lms/connect/1/withdraw").status_code == 403
    assert "Waiting for" in ada.get("/lms/connect/1/state").text


class TestByLinkAlone:
    """Where the operator keeps typing in values to himself."""

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"ADMINS_CONNECT_BY_HAND": False}

    def test_no_form_is_shown_or_taken(self, app: Flask, ada: Browser) -> None:
        page = ada.get("/lms/connect")
        assert "Make a link" in page.text
        assert "By hand" not in page.text
        assert ada.post("/lms/connect", {"issuer": "https://lms.example"}).status_code == 403
        assert nothing_stored(app)


def test_an_operator_makes_links_and_gives_deployments_of_one_registration_to_accounts(
    app: Flask, cast: Cast, canvas: Campus, client: FlaskClient, browse: Browse
) -> None:
    run = app.test_cli_runner()
    made = run.invoke(args=["registration", "link", "--account", "default", "--json"])
    said = json.loads(made.stdout)
    assert set(said) == {"id", "link", "expires"}
    assert canvas.connect(client, said["link"]).status_code == 200
    approve = ["registration", "approve", "1", "--deployment", "oak", "--account"]
    assert json.loads(run.invoke(args=[*approve, "other", "--json"]).stdout)["deployment"] == "oak"
    again = run.invoke(args=[*approve, "default", "--json"])
    assert (again.exit_code, "another account" in again.stderr) == (1, True)
    with app.app_context():
        tenancy = db.session.scalars(select(Tenancy)).one()
        assert tenancy.connection.account_id == cast.other_account
    # Shared by then: a link of either account no longer writes to it.
    client_id = canvas.registry.cards[0].client_id
    theirs = canvas.connect(client, make_link(browse(cast.eve), "canvas"), update=client_id)
    assert error_of(theirs) == "registration_taken"


def test_a_link_s_token_stays_out_of_the_log() -> None:
    assert redact("GET /lti/register?token=abc&openid_configuration=x") == (
        "GET /lti/register?token=[secret]&openid_configuration=x"
    )
    # Nor do the fields that speak for whoever posts them.
    for name in ("asked", "seen", "launch", "proof", "ticket", "JWT"):
        assert redact(f"{name}=gAAAAABabc&room=7") == f"{name}=[secret]&room=7"
