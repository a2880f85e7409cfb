"""What platforms say of themselves and check of us: a real Moodle's exchange, Canvas' rules, attack 55."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TOOL
from flask import Flask
from flask.testing import FlaskClient

from lti_tool.lti import introduction, registration
from lti_tool.lti.clouds import CLOUDS
from lti_tool.lti.introduction import Addresses
from lti_tool.lti.registration import Fault, RegistrationRefused
from lti_tool.pages import registration_words
from lti_tool.practice_lms import Platform
from lti_tool.practice_lms.messages import MEMBERSHIPS_SCOPE
from lti_tool.practice_lms.registration import (
    LINE_ITEM,
    PLATFORM,
    TOOL_CONFIGURATION,
    RegistrationDenied,
    Registry,
    check_for_canvas,
    check_for_moodle,
)

RECORDED = Path(__file__).parent / "recorded" / "moodle-4.5"
OURS = Addresses(TOOL, f"{TOOL}/lti/login", f"{TOOL}/lti/launch", f"{TOOL}/lti/jwks.json", f"{TOOL}/mark.svg")


def recorded(name: str) -> dict[str, Any]:
    exchange: dict[str, Any] = json.loads((RECORDED / f"registration-{name}.json").read_text("utf-8"))
    return exchange


# Nothing but settings: reading needs no database.
BARE = Flask("bare")
BARE.config["ALLOW_PRIVATE_PLATFORMS"] = True


def read(said: dict[str, Any], url: str) -> registration.Configuration:
    with BARE.app_context():
        return registration.read_configuration(said, url)


@pytest.mark.parametrize("name", ["new", "update"])
def test_a_real_moodle_s_exchange_is_read_and_our_body_satisfies_it(name: str) -> None:
    exchange = recorded(name)
    configuration = read(exchange["configuration"], exchange["openid_configuration_url"])
    assert configuration.family == "moodle"
    assert configuration.asked.whole
    body = introduction.body(OURS, configuration, "Virtual classrooms")
    check_for_moodle(body)
    tool = body[TOOL_CONFIGURATION]
    assert {"type": "LtiDeepLinkingRequest", "placements": ["ContentArea"]}.items() <= tool["messages"][
        1
    ].items()
    assert set(body["scope"].split()) <= set(exchange["configuration"]["scopes_supported"])
    answered = registration.read_answer(exchange["response"], configuration.offered)
    assert answered.client_id == exchange["response"]["client_id"]
    assert answered.deployment_id == {"new": "1", "update": "2"}[name]
    agreed = registration.read_agreement(answered.agreed)
    assert (agreed.roster, agreed.grades, agreed.names, agreed.picks) == (True, True, True, True)
    assert agreed.emails is (name == "new")
    # The checker knows the tool that a real Moodle took.
    check_for_moodle(exchange["request"])


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(body))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    inner.pop(path[-1])
    return copy


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda b: without(b, "response_types"), "missing required attribute response_types"),
        (lambda b: without(b, "jwks_uri"), "missing required attribute jwks_uri"),
        (lambda b: without(b, TOOL_CONFIGURATION), "missing required attribute lti-tool-configuration"),
        (lambda b: without(b, TOOL_CONFIGURATION, "domain"), "missing required attribute domain"),
        (lambda b: b | {"response_types": ["code"]}, "invalid_response_types"),
        (lambda b: b | {"redirect_uris": "https://t"}, "invalid_redirect_uris"),
        (lambda b: b | {"token_endpoint_auth_method": "none"}, "invalid_token_endpoint_auth_method"),
        (lambda b: b | {"application_type": "native"}, "invalid_application_type"),
        (
            lambda b: b | {TOOL_CONFIGURATION: b[TOOL_CONFIGURATION] | {"domain": "other.example"}},
            "domain_targetlinkuri_mismatch",
        ),
    ],
)
def test_the_practice_moodle_refuses_what_moodle_refuses(
    change: Callable[[dict[str, Any]], dict[str, Any]], code: str
) -> None:
    with pytest.raises(RegistrationDenied, match=f"^{re.escape(code)}$"):
        check_for_moodle(change(recorded("new")["request"]))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda b: without(b, "application_type"), "application_type"),
        (lambda b: b | {"grant_types": ["implicit"]}, "grant_types"),
        (lambda b: b | {"scope": b["scope"] + " https://example.org/made-up"}, "scopes"),
        (lambda b: b | {"logo_uri": "mark.svg"}, "logo_uri"),
        (
            lambda b: b | {TOOL_CONFIGURATION: b[TOOL_CONFIGURATION] | {"domain": "https://t.example"}},
            "domain",
        ),
        (
            lambda b: b | {TOOL_CONFIGURATION: b[TOOL_CONFIGURATION] | {"custom_parameters": {"n": 1}}},
            "custom_parameters",
        ),
        (
            lambda b: (
                b
                | {
                    TOOL_CONFIGURATION: b[TOOL_CONFIGURATION]
                    | {"messages": [{"type": "LtiResourceLinkRequest", "placements": ["nowhere"]}]}
                }
            ),
            "messages.placements",
        ),
    ],
)
def test_the_practice_canvas_refuses_what_canvas_refuses(
    change: Callable[[dict[str, Any]], dict[str, Any]], code: str
) -> None:
    body = canvas_body()
    check_for_canvas(body)
    with pytest.raises(RegistrationDenied, match=f"^{re.escape(code)}$"):
        check_for_canvas(change(body))


def canvas_body() -> dict[str, Any]:
    platform = Platform("http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1", "canvas")
    said = Registry(platform).configuration()
    return introduction.body(OURS, read(said, "http://127.0.0.1:1/c"), "Virtual classrooms")


def test_canvas_gets_its_own_placements_and_the_key_file_says_the_same(
    app: Flask, client: FlaskClient
) -> None:
    body = canvas_body()
    tool = body[TOOL_CONFIGURATION]
    key = client.get("/lti/canvas.json").get_json()
    (extension,) = key["extensions"]
    placed = {one["message_type"]: one["placement"] for one in extension["settings"]["placements"]}
    assert placed == {one["type"]: one["placements"][0] for one in tool["messages"]}
    assert placed == {
        "LtiResourceLinkRequest": "course_navigation",
        "LtiDeepLinkingRequest": "link_selection",
    }
    assert key["scopes"] == body["scope"].split()
    assert MEMBERSHIPS_SCOPE in key["scopes"]
    assert LINE_ITEM in key["scopes"]
    assert key["custom_fields"] == tool["custom_parameters"]
    assert key["custom_fields"]["canvas_course_id"] == "$Canvas.course.id"
    assert tool["https://canvas.instructure.com/lti/privacy_level"] == extension["privacy_level"] == "public"
    assert key["oidc_initiation_url"] == f"{TOOL}/lti/login"
    assert (key["target_link_uri"], key["public_jwk_url"]) == (f"{TOOL}/lti/launch", f"{TOOL}/lti/jwks.json")
    assert extension["domain"] == tool["domain"] == "tool.example"


def test_less_is_asked_of_a_platform_that_offers_less() -> None:
    exchange = recorded("new")
    said = exchange["configuration"] | {"scopes_supported": [MEMBERSHIPS_SCOPE, "openid"]}
    said[PLATFORM] = {
        "product_family_code": "sakai",
        "messages_supported": [{"type": "LtiResourceLinkRequest"}],
    }
    configuration = read(said, exchange["openid_configuration_url"])
    body = introduction.body(OURS, configuration, "")
    assert body["scope"] == MEMBERSHIPS_SCOPE
    assert [one["type"] for one in body[TOOL_CONFIGURATION]["messages"]] == ["LtiResourceLinkRequest"]
    asked = configuration.asked
    assert (asked.roster, asked.grades, asked.picks, asked.whole) == (True, False, False, False)


def test_every_fault_has_its_words() -> None:
    assert set(registration_words.FAULTS) == set(Fault)


# --- attacks 54 and 55 -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"issuer": "https://canvas.instructure.com"}, Fault.ISSUER_FOREIGN),
        ({"issuer": "https://moodle.localhost"}, Fault.ISSUER_FOREIGN),
        ({"issuer": "https://moodle.localhost:8443@evil.example"}, Fault.CONFIGURATION_MALFORMED),
        ({"registration_endpoint": "https://evil.example/r"}, Fault.ENDPOINT_FOREIGN),
        ({"registration_endpoint": "gopher://moodle.localhost:8443/"}, Fault.CONFIGURATION_MALFORMED),
        ({"jwks_uri": None}, Fault.CONFIGURATION_MALFORMED),
        ({"authorization_server": "https://victim.example/token"}, Fault.ENDPOINT_FOREIGN),
        ({"token_endpoint": ["https://moodle.localhost:8443/t"]}, Fault.CONFIGURATION_MALFORMED),
        ({"authorization_endpoint": "https://moodle.localhost:8443/a\x00b"}, Fault.CONFIGURATION_MALFORMED),
        ({"authorization_endpoint": "https://a.example/" + "x" * 600}, Fault.CONFIGURATION_MALFORMED),
    ],
)
def test_a_configuration_speaks_only_for_its_own_host(change: dict[str, Any], fault: Fault) -> None:
    exchange = recorded("new")
    with pytest.raises(RegistrationRefused) as refused:
        read(exchange["configuration"] | change, exchange["openid_configuration_url"])
    assert refused.value.code is fault
    # Another host for the authorization is as it should be: hosted Canvas has one.
    apart = exchange["configuration"] | {"authorization_endpoint": "https://sso.example/auth"}
    assert read(apart, exchange["openid_configuration_url"]).auth_url == "https://sso.example/auth"


def test_the_hosted_canvas_may_name_its_school_s_own_host() -> None:
    for cloud in ("canvas", "canvas-beta", "canvas-test"):
        preset = CLOUDS[cloud]
        said = {
            "issuer": preset.issuer,
            "authorization_endpoint": preset.auth_url,
            "token_endpoint": preset.token_url,
            "jwks_uri": preset.jwks_url,
            "registration_endpoint": "https://canvas.school.example/api/lti/registrations",
            "authorization_server": "sso.canvaslms.com",
            PLATFORM: {"product_family_code": "canvas"},
        }
        found = read(said, f"{preset.issuer}/api/lti/security/openid-configuration")
        assert found.registration_url.startswith("https://canvas.school.example/")
        assert found.token_audience is None
        assert found.host == "canvas.school.example"
