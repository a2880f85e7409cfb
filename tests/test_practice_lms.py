"""The practice platform is strict where a real one is, and wrong only where it is told to be."""

from __future__ import annotations

import json
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

from lti_tool.practice_lms import Mailbox, Person, Platform, Server, create_app, serve
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


# Names and roles


def test_the_roster_wants_a_good_token(tool: Tool) -> None:
    assert tool.page("geology", {}).status_code == 401
    assert tool.page("geology", {"Authorization": "Bearer guessed"}).status_code == 401
    headers = tool.bearer()
    assert tool.page("geology", headers).status_code == 200
    tool.platform.tokens.revoke_all()
    assert tool.page("geology", headers).status_code == 401
    headers = tool.bearer()
    tool.platform.clock_offset = 3700
    assert tool.page("geology", headers).status_code == 401


def test_a_token_without_the_scope_opens_no_roster(platform: Platform, key: SigningKey) -> None:
    tool = Tool(platform, key)
    platform.registration().scopes = frozenset({"https://other.example.test/scope"})
    token = tool.ask_token(scope="https://other.example.test/scope").json()["access_token"]
    assert tool.page("geology", {"Authorization": f"Bearer {token}"}).status_code == 403


def test_the_roster_speaks_its_media_type_and_knows_its_courses(tool: Tool) -> None:
    headers = tool.bearer()
    answer = tool.page("geology", headers)
    assert answer.headers["Content-Type"].startswith(
        "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"
    )
    assert tool.page("geology", headers | {"Accept": "text/html"}).status_code == 406
    assert (
        requests.get(
            f"{tool.platform.server_url}/courses/77/memberships", headers=headers, timeout=5
        ).status_code
        == 404
    )


def test_paging_reaches_all_two_thousand(any_tool: Tool) -> None:
    pages = any_tool.walk("big", limit=100)
    size = {"moodle": 100, "canvas": 50, "brightspace": 100}[any_tool.platform.flavour]
    assert {len(page) for page in pages} == {size}
    everyone = [member["user_id"] for page in pages for member in page]
    assert len(everyone) == len(set(everyone)) == 2000


def test_without_a_limit_moodle_sends_everyone_and_canvas_fifty(any_tool: Tool) -> None:
    pages = any_tool.walk("big")
    assert len(pages) == {"moodle": 1, "canvas": 40, "brightspace": 10}[any_tool.platform.flavour]
    assert sum(map(len, pages)) == 2000


def test_courses_have_three_forty_and_two_thousand_members() -> None:
    first, second = Platform(), Platform()
    assert [len(first.members(course)) for course in first.courses] == [3, 40, 2000]
    assert first.members("big") == second.members("big")
    big = [member.person for member in first.members("big")]
    assert any(not person.email for person in big)
    assert any(not person.name for person in big)
    assert all(person.email.endswith((".org", ".test")) for person in big if person.email)


@pytest.mark.parametrize("flavour", ["canvas", "brightspace"])
def test_a_cursor_in_another_case_is_no_cursor(flavour: Any, key: SigningKey) -> None:
    platform = Platform(flavour=flavour)
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        headers = tool.bearer()
        following = tool.page("statics", headers, limit=10).links["next"]["url"]
        path, _, cursor = following.partition("bookmark:")
        assert cursor != cursor.lower()
        assert requests.get(following, headers=headers, timeout=20).status_code == 200
        wrong = requests.get(f"{path}bookmark:{cursor.lower()}", headers=headers, timeout=20)
        assert wrong.status_code == 400


def test_canvas_names_other_pages_before_the_next_one(key: SigningKey) -> None:
    platform = Platform(flavour="canvas")
    with serve(create_app(platform)):
        link = Tool(platform, key).page("statics", limit=10).headers["Link"]
    assert [part.rpartition("rel=")[2] for part in link.split(",")] == ['"current"', '"first"', '"next"']
    assert "page=bookmark:" in link


def test_moodles_next_link_forgets_the_role_and_keeps_the_resource_link(tool: Tool) -> None:
    answer = tool.page("statics", role=MEMBERSHIP + "Learner", limit=5, rlid="301")
    assert {role for member in answer.json()["members"] for role in member["roles"]} == {"Learner"}
    assert answer.json()["members"][0]["message"]
    following = answer.links["next"]["url"]
    assert "role=" not in following
    assert "rlid=301" in following
    assert tool.page("statics", role="Instructor").json()["members"][0]["roles"] == ["Instructor"]


def test_who_leaves_between_two_pages_shifts_nobody_out(key: SigningKey) -> None:
    platform = Platform(flavour="canvas")
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        headers = tool.bearer()
        first = tool.page("statics", headers, limit=20)
        for member in first.json()["members"][:5]:
            platform.withdraw("statics", member["user_id"])
        second = requests.get(first.links["next"]["url"], headers=headers, timeout=20)
    assert len(second.json()["members"]) == 20
    assert "next" not in second.links


def test_the_roster_follows_enrollments(tool: Tool) -> None:
    platform = tool.platform
    platform.withdraw("geology", "sam")
    platform.enroll("geology", Person("99", "lena", "Lena", "O'Hara & Co", "lena@example.org"), "student")
    platform.enroll("geology", "nobody", ["urn:lti:role:ims/lis/Learner"], status="Inactive")
    rows = {row["user_id"]: row for row in tool.page("geology").json()["members"]}
    assert set(rows) == {"3", "4", "99", "7"}
    assert rows["99"]["name"] == "Lena O&#039;Hara &amp; Co"
    assert rows["7"]["roles"] == ["urn:lti:role:ims/lis/Learner"]
    assert rows["7"]["status"] == "Inactive"
    assert rows["4"]["roles"] == ["Learner"]  # Tess is Instructor at launch


def test_names_and_addresses_can_be_withheld(tool: Tool) -> None:
    registration = tool.platform.registration()
    registration.names = registration.emails = False
    for row in [*tool.page("geology").json()["members"], tool.platform.claims("sam", "geology")]:
        assert not {"name", "given_name", "family_name", "email"} & row.keys()


def test_brightspace_may_list_only_who_has_launched(key: SigningKey) -> None:
    platform = Platform(flavour="brightspace")
    platform.only_launched_listed = True
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        assert tool.page("geology").json()["members"] == []
        platform.authorize(tool.auth_query(platform.login_parameters("sam", "geology")))
        assert [row["user_id"] for row in tool.page("geology").json()["members"]] == ["5"]


def test_a_course_can_be_added(tool: Tool) -> None:
    tool.platform.add_course("70", "Tides", 7)
    assert len(tool.page("70").json()["members"]) == 7
    with pytest.raises(LookupError):
        tool.platform.course("71")


# Faults


def test_a_fault_nobody_knows_is_refused(platform: Platform) -> None:
    with pytest.raises(ValueError, match="no fault"):
        platform.faults.roster = "hlaf"


def test_half_a_roster_breaks_after_the_first_page(any_tool: Tool) -> None:
    any_tool.platform.faults.roster = "half"
    headers = any_tool.bearer()
    first = any_tool.page("geology", headers)
    assert len(first.json()["members"]) == 2
    assert requests.get(first.links["next"]["url"], headers=headers, timeout=20).status_code == 500


def test_a_truncated_roster_is_no_json_after_the_first_page(any_tool: Tool) -> None:
    any_tool.platform.faults.roster = "truncated"
    headers = any_tool.bearer()
    second = requests.get(any_tool.page("statics", headers).links["next"]["url"], headers=headers, timeout=20)
    assert second.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        second.json()


def test_an_endless_roster_always_has_another_next_page(any_tool: Tool) -> None:
    any_tool.platform.faults.roster = "endless"
    headers = any_tool.bearer()
    answer, seen = any_tool.page("geology", headers), set()
    for _ in range(5):
        following = answer.links["next"]["url"]
        assert following not in seen
        seen.add(following)
        answer = requests.get(following, headers=headers, timeout=20)
        assert answer.status_code == 200


def test_a_roster_may_point_to_itself_or_elsewhere(tool: Tool) -> None:
    tool.platform.faults.roster = "self"
    answer = tool.page("geology", limit=2)
    assert answer.links["next"]["url"] == answer.url
    tool.platform.faults.roster = "foreign_next"
    tool.platform.faults.foreign_url = "https://trap.example.test/next"
    assert tool.page("geology").links["next"]["url"] == "https://trap.example.test/next"


def test_other_faults_of_the_roster(tool: Tool) -> None:
    headers = tool.bearer()
    for fault, status in (
        ("500", 500),
        ("503", 503),
        ("429", 429),
        ("403", 403),
        ("html", 200),
        ("garbage", 200),
    ):
        tool.platform.faults.roster = fault
        answer = tool.page("geology", headers)
        assert answer.status_code == status
        assert "user_id" not in answer.text
    tool.platform.faults.roster = "empty"
    assert tool.page("geology", headers).json()["members"] == []
    tool.platform.faults.roster = "401 once"
    assert [tool.page("geology", headers).status_code for _ in range(2)] == [401, 200]


def test_slow_endpoints_take_their_time(tool: Tool) -> None:
    tool.platform.faults.delay = 0.3
    headers = tool.bearer()
    tool.platform.faults.roster = tool.platform.faults.token = tool.platform.faults.jwks = "slow"
    for ask in (
        lambda: tool.page("geology", headers),
        tool.ask_token,
        lambda: requests.get(tool.platform.jwks_url, timeout=20),
    ):
        begun = time.monotonic()
        assert ask().status_code == 200
        assert time.monotonic() - begun >= 0.3


def test_faults_of_the_token_endpoint(tool: Tool) -> None:
    tool.platform.faults.token = "500"
    assert tool.ask_token().status_code == 500
    tool.platform.faults.token = "401 once"
    assert [tool.ask_token().status_code for _ in range(2)] == [401, 200]
    tool.platform.faults.token = "html"
    assert "<" in tool.ask_token().text
    tool.platform.faults.token = "empty"
    assert tool.ask_token().json() == {}


def test_faults_of_the_key_set(tool: Tool) -> None:
    faults, url = tool.platform.faults, tool.platform.jwks_url
    faults.jwks = "503"
    assert requests.get(url, timeout=20).status_code == 503
    faults.jwks = "redirect"
    assert requests.get(url, timeout=5, allow_redirects=False).status_code == 302
    assert requests.get(url, timeout=20).json() == tool.platform.jwks()
    faults.jwks = "huge"
    body = requests.get(url, timeout=30).content
    assert len(body) > 30_000_000
    assert json.loads(body)["keys"] == tool.platform.jwks()["keys"]
    faults.clear()
    assert requests.get(url, timeout=20).json() == tool.platform.jwks()


def test_the_platform_can_say_that_nobody_is_signed_in(tool: Tool) -> None:
    tool.platform.faults.auth = "login_required once"
    query = tool.auth_query(tool.platform.login_parameters("sam", "geology"))
    form = tool.platform.authorize(query)
    assert (form["error"], form["state"]) == ("login_required", "a-state")
    assert "id_token" in tool.platform.authorize(query)


def test_a_wrong_clock_shows_in_the_token(tool: Tool) -> None:
    tool.platform.clock_offset = 600
    assert tool.platform.claims("sam", "geology")["iat"] > time.time() + 590


def test_requests_are_on_record(tool: Tool) -> None:
    tool.page("geology", limit=2)
    assert [request.method for request in tool.platform.requests_to("/token")] == ["POST"]
    (request,) = tool.platform.requests_to("/courses/")
    assert request.query == "limit=2"
    assert request.headers["Authorization"].startswith("Bearer ")


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


def test_a_server_frees_its_port() -> None:
    server = serve(create_app(Platform()))
    assert isinstance(server, Server)
    requests.get(server.url + "/jwks.json", timeout=20)
    server.stop()
    server.stop()
    with serve(create_app(Platform()), port=server.port) as again:
        assert again.port == server.port
