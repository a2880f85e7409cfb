"""The practice platform is strict where a real one is, and wrong only where it is told to be."""

from __future__ import annotations

import smtplib
import threading
import time
import uuid
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import jwt
import pytest
import requests
from flask import Flask, Response, jsonify
from flask import request as asked

from lti_tool.practice_lms import Mailbox, Platform, Server, create_app, serve
from lti_tool.practice_lms.authorization import AuthorizationRefused
from lti_tool.practice_lms.keys import SigningKey, new_key
from lti_tool.practice_lms.messages import CLAIM, DEEP_LINKING, DEEP_LINKING_CLAIM, MEMBERSHIPS_SCOPE, Flavour

MEMBERSHIP = "http://purl.imsglobal.org/vocab/lis/v2/membership#"
LAUNCH_URL = "https://tool.example.test/lti/launch"
FLAVOURS: tuple[Flavour, ...] = ("moodle", "canvas", "brightspace")


class Tool:
    """A tool just large enough to ask a platform for things."""

    def __init__(self, platform: Platform, key: SigningKey, client_id: str = "tool-1") -> None:
        self.platform = platform
        self.key = key
        self.client_id = client_id
        platform.connect_tool(
            client_id,
            ("1", "2"),
            "https://tool.example.test/lti/login?from=lms",
            LAUNCH_URL,
            jwks=lambda: {"keys": [self.key.jwk]},
        )

    def auth_query(self, parameters: dict[str, str], **changed: str) -> dict[str, str]:
        return {
            "response_type": "id_token",
            "response_mode": "form_post",
            "scope": "openid",
            "prompt": "none",
            "client_id": self.client_id,
            "redirect_uri": LAUNCH_URL,
            "login_hint": parameters["login_hint"],
            "lti_message_hint": parameters["lti_message_hint"],
            "nonce": "a-nonce",
            "state": "a-state",
            **changed,
        }

    def read(self, token: str) -> dict[str, Any]:
        """An id_token's claims after the check against the published keys."""
        keys = jwt.PyJWKSet.from_dict(requests.get(self.platform.jwks_url, timeout=20).json())
        claims: dict[str, Any] = jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["RS256"],
            audience=self.client_id,
        )
        return claims

    def assertion(self, **changed: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.platform.token_url,
            "iat": now,
            "exp": now + 60,
            "jti": str(uuid.uuid4()),
            **changed,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key.private_pem, "RS256", headers={"kid": self.key.kid})

    def ask_token(self, assertion: str | None = None, **changed: str) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion or self.assertion(),
            "scope": MEMBERSHIPS_SCOPE,
            **changed,
        }
        return requests.post(self.platform.token_url, data=form, timeout=20)

    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.ask_token().json()['access_token']}"}

    def page(self, course: str, headers: dict[str, str] | None = None, **query: Any) -> requests.Response:
        return requests.get(
            self.platform.memberships_url(course),
            params=query,
            headers=self.bearer() if headers is None else headers,
            timeout=20,
        )

    def walk(self, course: str, **query: Any) -> list[list[dict[str, Any]]]:
        """Every page of a roster, by following rel=next."""
        headers = self.bearer()
        answer = self.page(course, headers, **query)
        found = []
        while True:
            assert answer.status_code == 200, answer.text
            found.append(answer.json()["members"])
            if "next" not in answer.links:
                return found
            answer = requests.get(answer.links["next"]["url"], headers=headers, timeout=20)


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return new_key()


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    with serve(create_app(platform)):
        yield platform


@pytest.fixture
def tool(platform: Platform, key: SigningKey) -> Tool:
    return Tool(platform, key)


@pytest.fixture(params=FLAVOURS)
def any_tool(request: pytest.FixtureRequest, key: SigningKey) -> Iterator[Tool]:
    """A tool on a platform of each kind."""
    platform = Platform(flavour=request.param)
    with serve(create_app(platform)):
        yield Tool(platform, key)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


def send(mailbox: Mailbox, to: str = "sam@example.test", subject: str = "Hello", html: str = "") -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Doorlist <door@example.test>", to, subject
    message.set_content("Open https://tool.example.test/invitations/x1?a=1&b=2.\nOr not.\n")
    if html:
        message.add_alternative(html, subtype="html")
    with smtplib.SMTP(mailbox.host, mailbox.port, timeout=20) as client:
        client.send_message(message)


# Launches


def test_a_launch_brings_a_signed_token_with_everything_a_tool_needs(any_tool: Tool) -> None:
    platform = any_tool.platform
    parameters = platform.login_parameters("sam", "geology", deployment_id="2")
    assert parameters["iss"] == platform.issuer
    assert parameters["lti_deployment_id"] == "2"
    form = platform.authorize(any_tool.auth_query(parameters))
    assert form["state"] == "a-state"
    claims = any_tool.read(form["id_token"])
    assert claims["nonce"] == "a-nonce"
    assert claims["sub"] == platform.person("sam").id
    assert claims["email"] == "sam@example.test"
    assert claims[CLAIM + "deployment_id"] == "2"
    assert MEMBERSHIP + "Learner" in claims[CLAIM + "roles"]
    assert claims[CLAIM + "context"]["title"] == "Geology"


def test_the_launch_goes_through_the_browser_with_two_forms(tool: Tool) -> None:
    browser = create_app(tool.platform).test_client()
    first = browser.post("/launch", data={"person": "sam", "course": "geology"}).text
    assert 'action="https://tool.example.test/lti/login?from=lms"' in first
    assert "data-autosubmit" in first
    parameters = tool.platform.login_parameters("sam", "geology")
    answer = browser.get("/auth", query_string=tool.auth_query(parameters))
    assert answer.status_code == 200
    assert f'action="{LAUNCH_URL}"' in answer.text
    assert 'name="id_token"' in answer.text
    parameters = tool.platform.login_parameters("sam", "geology")
    assert browser.post("/auth", data=tool.auth_query(parameters)).status_code == 200


def test_login_initiation_may_be_a_redirect_and_keeps_the_query_of_the_login_url(tool: Tool) -> None:
    browser = create_app(tool.platform).test_client()
    answer = browser.get("/launch?person=sam&course=geology&method=get")
    assert answer.location.startswith("https://tool.example.test/lti/login?from=lms&iss=")


def test_a_hint_is_good_for_one_token(tool: Tool) -> None:
    query = tool.auth_query(tool.platform.login_parameters("sam", "geology"))
    browser = create_app(tool.platform).test_client()
    assert browser.get("/auth", query_string=query).status_code == 200
    again = browser.get("/auth", query_string=query)
    assert again.status_code == 400
    assert "used already" in again.text
    assert "id_token" not in again.text


def test_of_many_requests_with_one_hint_a_single_one_gets_a_token(tool: Tool) -> None:
    query = tool.auth_query(tool.platform.login_parameters("sam", "geology"))
    won: list[dict[str, str]] = []
    refused: list[AuthorizationRefused] = []

    def ask() -> None:
        try:
            won.append(tool.platform.authorize(query))
        except AuthorizationRefused as refusal:
            refused.append(refusal)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "stranger"},
        {"redirect_uri": LAUNCH_URL + "/"},
        {"redirect_uri": ""},
        {"lti_message_hint": "guessed"},
    ],
)
def test_a_request_that_names_no_known_tool_ends_on_a_page(tool: Tool, changed: dict[str, str]) -> None:
    query = tool.auth_query(tool.platform.login_parameters("sam", "geology"), **changed)
    answer = create_app(tool.platform).test_client().get("/auth", query_string=query)
    assert answer.status_code == 400
    assert "<form" not in answer.text


def test_another_tool_cannot_use_the_hint(tool: Tool, key: SigningKey) -> None:
    other = Tool(tool.platform, key, "tool-2")
    with pytest.raises(AuthorizationRefused):
        tool.platform.authorize(other.auth_query(tool.platform.login_parameters("sam", "geology")))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "code"}, "unsupported_response_type"),
        ({"response_mode": "query"}, "invalid_request"),
        ({"scope": "email"}, "invalid_scope"),
        ({"prompt": "login"}, "invalid_request"),
        ({"nonce": ""}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"login_hint": "3"}, "login_required"),
    ],
)
def test_a_faulty_request_is_answered_with_an_error_and_keeps_its_hint(
    tool: Tool, changed: dict[str, str], error: str
) -> None:
    query = tool.auth_query(tool.platform.login_parameters("sam", "geology"))
    form = tool.platform.authorize({**query, **changed})
    assert form["error"] == error
    assert "id_token" not in form
    assert "id_token" in tool.platform.authorize(query)


def test_roles_are_worded_as_each_platform_words_them() -> None:
    roles = {}
    for flavour in FLAVOURS:
        platform = Platform(flavour=flavour)
        platform.connect_tool("tool-1")
        roles[flavour] = {
            who: platform.claims(who, "geology")[CLAIM + "roles"]
            for who in ("tess", "ada", "mentor", "test-student")
        }
    assistant = "http://purl.imsglobal.org/vocab/lis/v2/membership/Instructor#TeachingAssistant"
    assert roles["moodle"]["tess"] == [MEMBERSHIP + "Instructor"]
    assert {assistant, MEMBERSHIP + "Instructor"} <= set(roles["canvas"]["tess"])
    assert not [role for role in roles["canvas"]["ada"] if "membership" in role]
    assert MEMBERSHIP + "Mentor" in roles["canvas"]["mentor"]
    assert roles["brightspace"]["mentor"] == []
    assert roles["canvas"]["test-student"][-1].endswith("#TestUser")


def test_an_observer_in_canvas_names_whom_he_observes() -> None:
    platform = Platform(flavour="canvas")
    platform.connect_tool("tool-1")
    assert platform.claims("mentor", "statics")[CLAIM + "role_scope_mentor"] == [platform.person("sam").id]


def test_someone_without_name_and_mail_launches_without_them() -> None:
    for flavour in FLAVOURS:
        platform = Platform(flavour=flavour)
        platform.connect_tool("tool-1")
        claims = platform.claims("nobody", "geology")
        assert not {"name", "given_name", "family_name"} & claims.keys()
        assert claims.get("email") == ("" if flavour == "brightspace" else None)


def test_claims_can_be_changed_and_taken_away(platform: Platform) -> None:
    platform.connect_tool("tool-1")
    claims = platform.claims("sam", "geology", roles=["odd"], exp=None, sub=7, **{CLAIM + "version": "1.1"})
    assert claims[CLAIM + "roles"] == ["odd"]
    assert claims[CLAIM + "version"] == "1.1"
    assert claims["sub"] == 7
    assert "exp" not in claims


def test_changed_claims_ride_along_with_a_whole_launch(tool: Tool) -> None:
    parameters = tool.platform.login_parameters(
        "sam", "geology", claims={"roles": []}, lti_storage_target="_parent"
    )
    assert parameters["lti_storage_target"] == "_parent"
    form = tool.platform.authorize(tool.auth_query(parameters))
    assert tool.read(form["id_token"])[CLAIM + "roles"] == []


def test_tokens_can_be_forged_for_the_tests_of_a_tool(platform: Platform, key: SigningKey) -> None:
    platform.connect_tool("tool-1")
    claims = platform.claims("sam", "geology")
    short = new_key(1024)
    assert platform.sign(claims, algorithm="none").endswith(".")
    assert jwt.get_unverified_header(platform.sign(claims, headers={"kid": None})).keys() == {"typ", "alg"}
    assert jwt.get_unverified_header(platform.sign(claims, key=key))["kid"] == key.kid
    assert platform.sign(claims, key=short) != platform.sign(claims)
    confused = platform.sign(claims, key=platform.key.public_pem, algorithm="HS256")
    assert jwt.get_unverified_header(confused)["alg"] == "HS256"
    with pytest.raises(ValueError, match="cannot be signed"):
        platform.sign(claims, algorithm="ES256")


def test_a_rotated_key_signs_and_the_old_one_stays_readable(tool: Tool) -> None:
    claims = tool.platform.claims("sam", "geology")
    before = tool.platform.sign(claims)
    tool.platform.rotate_key()
    after = tool.platform.sign(claims)
    assert tool.read(before) == tool.read(after)
    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    tool.platform.rotate_key(keep_old=False)
    assert len(tool.platform.jwks()["keys"]) == 1


def test_a_key_rotated_before_its_first_use_is_another_key() -> None:
    platform = Platform()
    platform.rotate_key()
    platform.rotate_key()
    assert len({key["kid"] for key in platform.jwks()["keys"]}) == 3


# Tokens


def test_a_correct_assertion_gets_a_token_for_an_hour(any_tool: Tool) -> None:
    answer = any_tool.ask_token()
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 3600
    assert answer.json()["scope"] == MEMBERSHIPS_SCOPE


def test_an_assertion_is_used_once(tool: Tool) -> None:
    assertion = tool.assertion()
    assert tool.ask_token(assertion).status_code == 200
    again = tool.ask_token(assertion)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")
    assert "jti" in again.json()["error_description"]


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://elsewhere.example.test/token"},
        {"aud": None},
        {"sub": "someone-else"},
        {"iss": "tool-9"},
        {"exp": None},
        {"iat": None},
        {"jti": None},
        {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 3700},
        {"iat": int(time.time()) + 3600, "exp": int(time.time()) + 3700},
        {"exp": int(time.time()) + 90000},
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(tool: Tool, changed: dict[str, Any]) -> None:
    answer = tool.ask_token(tool.assertion(**changed))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_an_assertion_that_is_not_signed_by_the_tool_is_refused(tool: Tool) -> None:
    claims = jwt.decode(tool.assertion(), options={"verify_signature": False})
    stranger = new_key()
    forged = (
        tool.platform.sign(claims, algorithm="none"),
        tool.platform.sign(claims, algorithm="none", headers={"kid": tool.key.kid}),
        tool.platform.sign(claims, key=stranger, headers={"kid": tool.key.kid}),
        tool.platform.sign(claims, key=stranger),
        tool.platform.sign(claims, key=tool.key.public_pem, algorithm="HS256", headers={"kid": tool.key.kid}),
        tool.platform.sign(claims, key=tool.key.private_key, headers={"kid": None}),
        "not a token",
    )
    for assertion in forged:
        assert tool.ask_token(assertion).status_code == 401
    good = tool.platform.sign(claims, key=tool.key.private_key, headers={"kid": tool.key.kid})
    assert tool.ask_token(good).status_code == 200


def test_only_granted_scopes_and_the_right_grant_are_given(tool: Tool) -> None:
    assert tool.ask_token(scope="https://purl.imsglobal.org/spec/lti-ags/scope/score").json() == {
        "error": "invalid_scope",
        "error_description": "a scope is asked for that this tool was not granted",
    }
    assert tool.ask_token(scope="").json()["error"] == "invalid_scope"
    assert tool.ask_token(grant_type="password").json()["error"] == "unsupported_grant_type"
    assert tool.ask_token(client_assertion_type="jwt").json()["error"] == "invalid_request"


def test_the_tools_keys_are_fetched_over_http(platform: Platform, key: SigningKey) -> None:
    keys = Flask("keys")
    answers = [
        lambda: jsonify(keys=[key.jwk]),
        lambda: Response("busy", 503),
        lambda: jsonify(keys=[]),
        lambda: Response("<html>"),
    ]
    keys.add_url_rule("/jwks.json", view_func=lambda: answers[int(asked.args["n"])](), endpoint="jwks")
    with serve(keys) as server:
        tool = Tool(platform, key)
        registration = platform.registration()
        registration.jwks = None
        statuses = []
        for number in range(len(answers)):
            registration.jwks_url = f"{server.url}/jwks.json?n={number}"
            statuses.append(tool.ask_token().status_code)
    assert statuses == [200, 401, 401, 401]
    assert tool.ask_token().status_code == 401  # nobody answers any more


def test_a_platform_may_want_an_audience_of_its_own(key: SigningKey) -> None:
    platform = Platform(flavour="brightspace", token_audience="https://api.brightspace.com/auth/token")
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        assert tool.ask_token().status_code == 401
        assertion = tool.assertion(aud="https://api.brightspace.com/auth/token")
        assert tool.ask_token(assertion).status_code == 200


# Deep linking


def test_chosen_content_comes_back_signed(tool: Tool) -> None:
    platform = tool.platform
    settings = platform.claims("ivan", "geology", message_type=DEEP_LINKING)
    assert CLAIM + "resource_link" not in settings
    back = settings[DEEP_LINKING_CLAIM + "deep_linking_settings"]["deep_link_return_url"]
    now = int(time.time())
    answer = {
        "iss": tool.client_id,
        "aud": platform.issuer,
        "iat": now,
        "exp": now + 60,
        "nonce": "n",
        CLAIM + "message_type": "LtiDeepLinkingResponse",
        CLAIM + "version": "1.3.0",
        CLAIM + "deployment_id": "1",
        DEEP_LINKING_CLAIM + "content_items": [{"type": "ltiResourceLink", "title": "Room <1>"}],
    }
    for changed in (
        {"aud": "elsewhere"},
        {"exp": now - 600},
        {CLAIM + "deployment_id": "9"},
        {"iss": "stranger"},
    ):
        token = platform.sign({**answer, **changed}, key=tool.key)
        assert requests.post(back, data={"JWT": token}, timeout=20).status_code == 400
    assert requests.post(back, data={"JWT": platform.sign(answer)}, timeout=20).status_code == 400
    assert platform.content_items == []
    taken = requests.post(back, data={"JWT": platform.sign(answer, key=tool.key)}, timeout=20)
    assert "Room &lt;1&gt;" in taken.text
    assert [item["title"] for item in platform.content_items] == ["Room <1>"]


# Pages


def test_the_picker_offers_people_courses_and_two_ways_in(tool: Tool) -> None:
    page = create_app(tool.platform).test_client().get("/?person=tess&course=statics").text
    assert 'value="tess" checked' in page
    assert 'value="statics" checked' in page
    assert 'name="tool"' in page
    assert 'formtarget="_blank"' in page
    assert "style=" not in page
    assert "display-capture" in page


def test_an_unknown_person_or_course_is_not_found(tool: Tool) -> None:
    browser = create_app(tool.platform).test_client()
    assert browser.get("/?person=eve").status_code == 404
    assert browser.post("/launch", data={"person": "sam", "course": "alchemy"}).status_code == 404


def test_a_launch_without_a_tool_says_so(platform: Platform) -> None:
    answer = create_app(platform).test_client().get("/launch?person=sam&course=geology")
    assert answer.status_code == 409
    assert "no tool is connected" in answer.text


def test_trouble_is_turned_on_and_off(tool: Tool) -> None:
    platform = tool.platform
    browser = create_app(platform).test_client()

    def turn(name: str) -> str:
        answer = browser.post("/trouble", data={"trouble": name, "person": "sam", "course": "geology"})
        assert answer.status_code == 303
        return browser.get(answer.location).text

    assert 'value="half" aria-pressed="true"' in turn("half")
    assert platform.faults.roster == "half"
    turn("clock")
    turn("withhold")
    assert platform.clock_offset == 600
    assert not platform.registration().names
    turn("peace")
    assert platform.faults.roster is None
    assert platform.clock_offset == 0
    assert platform.registration().emails
    turn("move")
    assert not platform.is_enrolled("geology", "sam")
    turn("move")
    assert platform.is_enrolled("geology", "sam")
    assert browser.post("/trouble", data={"trouble": "magic"}).status_code == 404


def test_the_last_launch_can_be_sent_again(tool: Tool) -> None:
    browser = create_app(tool.platform).test_client()
    assert browser.post("/again").status_code == 409
    form = tool.platform.authorize(tool.auth_query(tool.platform.login_parameters("sam", "geology")))
    again = browser.post("/again").text
    assert form["id_token"] in again
    assert f'action="{LAUNCH_URL}"' in again


def test_pages_allow_no_inline_script_and_escape_what_they_are_told(tool: Tool) -> None:
    browser = create_app(tool.platform).test_client()
    answer = browser.get("/return?lti_errormsg=<script>alert(1)</script>")
    assert "&lt;script&gt;" in answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]


# Mail


def test_a_server_frees_its_port() -> None:
    server = serve(create_app(Platform()))
    assert isinstance(server, Server)
    requests.get(server.url + "/jwks.json", timeout=20)
    server.stop()
    server.stop()
    with serve(create_app(Platform()), port=server.port) as again:
        assert again.port == server.port
