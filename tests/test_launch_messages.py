"""Attacks 33–46 on login and launch: messages of a wrong shape, and the platform’s own errors."""

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import test_launch_forgeries
from flask import Flask
from flask.testing import FlaskClient
from test_launch_forgeries import (
    DEEP_LINKING,
    LTI,
    Tab,
    arrives,
    assert_refused,
    connect,
    error_of,
    launch_url,
    signature_of,
    with_,
    with_lti,
    without,
)

from lti_tool.practice_lms import Platform

# Fixtures are found by their names here.
attack = test_launch_forgeries.attack
counted = test_launch_forgeries.counted
lms = test_launch_forgeries.lms
tab = test_launch_forgeries.tab


class TestMessage:
    def test_33_a_message_without_type_is_refused(self, attack: Callable[..., None]) -> None:
        attack("message_type_missing", without(LTI + "message_type"))

    def test_34_an_unknown_type_is_refused(self, attack: Callable[..., None]) -> None:
        for kind in ["LtiSubmissionReviewRequest", "basic-lti-launch-request", 7, ["x"]]:
            attack("message_type_unknown", with_lti("message_type", kind))

    def test_35_another_version_is_refused(self, attack: Callable[..., None]) -> None:
        for version in ["1.1", "1.3", "LTI-1p3", None, 1.3]:
            attack("version_wrong", with_lti("version", version))

    def test_36_a_target_other_than_the_logins_is_refused(self, attack: Callable[..., None]) -> None:
        for target in ["https://evil.example/", None, 7]:
            attack("target_wrong", with_lti("target_link_uri", target))

    def test_36_a_target_of_ours_that_was_not_asked_for_is_refused(
        self, attack: Callable[..., None], lms: Platform
    ) -> None:
        attack("target_wrong", with_lti("target_link_uri", launch_url(lms) + "?course=9"))

    def test_37_an_anonymous_launch_gets_a_clear_page(self, attack: Callable[..., None]) -> None:
        for subject in [None, ""]:
            attack("subject_missing", with_(sub=subject))

    def test_38_a_subject_that_is_none_is_refused(self, attack: Callable[..., None]) -> None:
        for subject in ["x" * 5000, "x" * 256, 33, ["5"], "Zoë", "5\n", "5\x00"]:
            attack("subject_malformed", with_(sub=subject))

    def test_39_roles_that_are_no_list_of_texts_are_refused(self, attack: Callable[..., None]) -> None:
        for roles in [
            "Instructor",
            {"Instructor": True},
            [1],
            [["Instructor"]],
            ["x" * 501],
            ["x"] * 101,
            None,
            ["\x00"],
        ]:
            attack("roles_malformed", with_lti("roles", roles))

    def test_40_a_deep_linking_return_url_that_is_a_script_is_refused(self, tab: Tab) -> None:
        for address in ["javascript:alert(1)", "data:text/html,x", "//evil.example", 7, None]:
            tab.begin(message_type="LtiDeepLinkingRequest")
            claims = tab.claims(message_type="LtiDeepLinkingRequest")
            claims[DEEP_LINKING] = {**claims[DEEP_LINKING], "deep_link_return_url": address}
            assert_refused(tab.post_claims(claims), "return_url_malformed")
            # The control: a sound request is let in.
            teacher = tab.claims(message_type="LtiDeepLinkingRequest", roles=["Instructor"])
            sound = tab.post_claims(teacher)
            assert sound.status_code == 200, sound.text
            assert 'name="launch"' in sound.text

    def test_40_a_return_url_that_is_a_script_is_refused(self, attack: Callable[..., None]) -> None:
        for address in ["javascript:alert(1)", " javascript:alert(1)", "ftp://x/", 7, ["x"]]:
            attack("return_url_malformed", with_lti("launch_presentation", {"return_url": address}))

    def test_41_a_login_for_a_foreign_target_is_refused(self, lms: Platform, client: FlaskClient) -> None:
        for target in [
            "https://evil.example/lti/launch",
            "//evil.example/",
            "javascript:alert(1)",
            "HOST@evil.example/",
            "HOST:81/",
            "HOST.evil.example/",
            "HOST\\@evil.example/",
            "/lti/launch",
            "http://[::1/",
            "http://x:port/",
        ]:
            ours = urlsplit(launch_url(lms))
            target = target.replace("HOST", f"{ours.scheme}://{ours.netloc}")
            parameters = lms.login_parameters("sam", "geology", target=target)
            assert_refused(client.post("/lti/login", data=parameters), "target_foreign")
            assert_refused(client.get("/lti/login", query_string=parameters), "target_foreign")
            sound = lms.login_parameters("sam", "geology", target=launch_url(lms) + "?course=9")
            assert client.post("/lti/login", data=sound).status_code == 200

    def test_42_an_unknown_issuer_is_refused(self, lms: Platform, client: FlaskClient) -> None:
        parameters = lms.login_parameters("sam", "geology")
        for changed in (
            {"iss": "https://unknown.example"},
            {"client_id": "unknown"},
            {"iss": lms.issuer + "/"},
            {"iss": "\0"},
        ):
            assert_refused(client.post("/lti/login", data={**parameters, **changed}), "registration_unknown")
        assert client.post("/lti/login", data=parameters).status_code == 200

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("iss", "issuer_missing"),
            ("login_hint", "login_hint_missing"),
            ("target_link_uri", "target_missing"),
        ],
    )
    def test_42_an_incomplete_login_is_refused(
        self, lms: Platform, client: FlaskClient, name: str, code: str
    ) -> None:
        parameters = lms.login_parameters("sam", "geology")
        del parameters[name]
        assert_refused(client.get("/lti/login", query_string=parameters), code)
        assert_refused(client.get("/lti/login"), "issuer_missing")

    def test_42_an_issuer_with_several_clients_must_say_which(
        self, app: Flask, lms: Platform, client: FlaskClient
    ) -> None:
        parameters = lms.login_parameters("sam", "geology", client_id=None)
        del parameters["client_id"]
        assert client.post("/lti/login", data=parameters).status_code == 200
        connect(app, lms, "another-school", "9")
        assert_refused(client.post("/lti/login", data=parameters), "registration_ambiguous")

    def test_43_a_token_in_an_address_is_refused(self, tab: Tab) -> None:
        form = {"id_token": tab.lms.sign(tab.claims()), "state": tab.query["state"]}
        assert tab.client.get("/lti/launch", query_string=form).status_code == 405
        assert_refused(tab.client.post("/lti/launch", query_string=form), "state_missing")
        assert arrives(tab.client.post("/lti/launch", data=form))

    def test_44_a_claim_of_70_kilobytes_is_refused(self, attack: Callable[..., None]) -> None:
        attack("token_too_large", with_lti("custom", {"x": "y" * 70_000}))

    def test_44_a_body_of_megabytes_is_refused(self, tab: Tab) -> None:
        for size in (900_000, 3_000_000):
            answer = tab.post("x" * size)
            assert answer.status_code // 100 == 4
        assert arrives(tab.post_claims())

    def test_44_a_login_hint_without_end_is_refused(self, lms: Platform, client: FlaskClient) -> None:
        parameters = lms.login_parameters("sam", "geology")
        for name, length in (
            ("login_hint", 5000),
            ("lti_message_hint", 5000),
            ("lti_deployment_id", 256),
        ):
            answer = client.post("/lti/login", data={**parameters, name: "x" * length})
            assert_refused(answer, "parameters_too_long")

    @pytest.mark.parametrize(
        "token",
        [
            "garbage",
            "a.b",
            "a.b.c",
            "a.b.c.d",
            "...",
            "é.é.é",
            "e30.e30.e30",
            "W10.W10.W10",
            "bnVsbA.bnVsbA.",
            "\x00\x00.\x00.\x00",
            "eyJhbGciOiJSUzI1NiJ9.e30.AA==",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ." + "W1tb" * 8000 + ".AA",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ." + "eyJhIjp7" + "ImEiOnsi" * 4000 + ".AA",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ._____w.AA",
        ],
    )
    def test_45_garbage_gives_no_500(self, tab: Tab, token: str) -> None:
        answer = tab.post(token)
        assert answer.status_code // 100 == 4
        assert error_of(answer) in ("token_malformed", "algorithm_refused", "key_id_missing")
        assert arrives(tab.post_claims())

    @pytest.mark.parametrize(
        "name",
        [
            LTI + "context",
            LTI + "resource_link",
            LTI + "custom",
            LTI + "launch_presentation",
            LTI + "tool_platform",
            "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice",
            DEEP_LINKING,
        ],
    )
    def test_45_a_claim_of_the_wrong_shape_gives_no_500(self, attack: Callable[..., None], name: str) -> None:
        for value in ("text", 7, [], ["x"], True, 1.5):
            attack("claim_malformed", with_(**{name: value}))

    @pytest.mark.parametrize("name", ["context", "resource_link"])
    def test_45_an_id_of_the_wrong_shape_gives_no_500(self, attack: Callable[..., None], name: str) -> None:
        for value in (["x"], {"x": 1}, "x" * 300, "a\x00b", 1.5, 10**300):
            attack("claim_malformed", with_lti(name, {"id": value}))

    def test_45_a_launch_without_resource_link_is_refused(self, attack: Callable[..., None]) -> None:
        attack("resource_link_missing", without(LTI + "resource_link"))
        attack("resource_link_missing", with_lti("resource_link", {"id": ""}))

    @pytest.mark.parametrize(
        "value",
        ["\x00", "a\x00b", ["Sam"], {"a": 1}, 7, True, "x" * 20_000, "\u202e", "<b>&", ""],
        ids=repr,
    )
    def test_45_odd_names_and_addresses_arrive_and_break_nothing(self, tab: Tab, value: Any) -> None:
        odd = dict.fromkeys(("name", "given_name", "family_name", "email", "locale"), value)
        presentation = {"locale": value, "document_target": value, "return_url": ""}
        claims = tab.claims(
            context={"id": "2", "label": value, "title": value},
            resource_link={"id": "1", "title": value},
            custom={"x": value, "\x00": "y"},
            tool_platform={"name": value, "product_family_code": value},
            launch_presentation=presentation,
        )
        # A token may have 64,000 characters in all.
        if value == "x" * 20_000:
            claims = tab.claims(context={"id": "2", "label": value[:9000], "title": value})
            odd = {"name": value[:9000]}
        assert arrives(tab.post_claims({**claims, **odd}))

    def test_45_a_lone_surrogate_breaks_nothing(self, tab: Tab) -> None:
        # As many a JSON library writes it, though it is no character.
        header, body, _ = tab.lms.sign(tab.claims(name="MARK")).split(".")
        raw = base64.urlsafe_b64decode(body + "==").replace(b"MARK", b"\\ud800")
        forged = f"{header}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"
        answer = tab.post(f"{forged}.{signature_of(tab.lms.key, forged)}")
        assert answer.status_code < 500

    def test_46_an_unknown_critical_header_is_refused(self, attack: Callable[..., None]) -> None:
        for value in [["exp"], ["b64"], [], "exp", {"x": 1}, None]:
            if value is None:
                attack("header_unknown", headers={"b64": False, "crit": ["b64"]})
            else:
                attack("header_unknown", headers={"crit": value})


class TestPlatformErrors:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            ("login_required", "platform_login_required"),
            ("interaction_required", "platform_login_required"),
            ("access_denied", "platform_denied"),
            ("launch_no_longer_valid", "platform_launch_expired"),
            ("temporarily_unavailable", "platform_error"),
            ("<script>", "platform_error"),
        ],
    )
    def test_an_error_of_the_platform_gets_its_own_page(self, tab: Tab, error: str, code: str) -> None:
        form = {
            "error": error,
            "error_description": "<b>words of the LMS</b>",
            "state": tab.query["state"],
        }
        answer = tab.client.post("/lti/launch", data=form)
        assert_refused(answer, code)
        assert "words of the LMS" not in answer.text

    def test_a_message_without_token_is_refused(self, tab: Tab) -> None:
        assert_refused(tab.post(""), "token_missing")
