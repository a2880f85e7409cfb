"""Attacks 1–46 on login and launch (and a few more), each refused with its code and leaving nothing behind.

Each attack goes through HTTP and has its control: the same message without the forgery arrives. So a test
fails when a check is gone, and also when it refuses everybody.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import TOOL, Lms, new_client
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from lti_tool import database
from lti_tool.classroom.accounts import User
from lti_tool.database import Base, db
from lti_tool.lti.registrations import Registration, add_registration, note_deployment
from lti_tool.pages.refusals import REFUSALS, Refusal
from lti_tool.practice_lms import Platform, Server, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.keys import SigningKey, new_key

LTI = "https://purl.imsglobal.org/spec/lti/claim/"
HOST = urlsplit(TOOL).hostname or ""
DEEP_LINKING = "https://purl.imsglobal.org/spec/lti-dl/claim/deep_linking_settings"


@dataclass
class Tab:
    """One browser tab on its way to us: a login begun, its cookie held, the token still to come."""

    lms: Platform
    client: FlaskClient
    person: str = "sam"
    course: str = "geology"
    # What the authorization endpoint is asked: nonce, state, client_id, …
    query: dict[str, str] = field(default_factory=dict)

    def begin(self, **parameters: Any) -> "Tab":
        """Login; the platform's page posts us the parameters."""
        asked = self.lms.login_parameters(self.person, self.course, **parameters)
        answer = self.client.post("/lti/login", data=asked)
        assert answer.status_code == 200, error_of(answer)
        found = re.search(r'data-authorize="([^"]*)"', answer.text)
        assert found is not None
        self.query = dict(parse_qsl(urlsplit(html.unescape(found[1])).query))
        return self

    def claims(self, **overrides: Any) -> dict[str, Any]:
        """The claims of the token the platform would send now; None takes one away."""
        given = {"client_id": self.query["client_id"], "nonce": self.query["nonce"]}
        return self.lms.claims(self.person, self.course, **{**given, **overrides})

    def post(self, token: str, **form: str) -> TestResponse:
        """The platform's answer, posted by this browser."""
        return self.client.post("/lti/launch", data={"id_token": token, "state": self.query["state"], **form})

    def post_claims(self, claims: dict[str, Any] | None = None, **signing: Any) -> TestResponse:
        """The platform's answer with these claims."""
        return self.post(self.lms.sign(self.claims() if claims is None else claims, **signing))


@pytest.fixture
def lms(lms: Lms) -> Platform:
    return lms.platform


@pytest.fixture
def tab(lms: Platform, client: FlaskClient) -> Tab:
    return Tab(lms, client).begin()


@pytest.fixture
def other_lms(app: Flask, lms: Platform) -> Iterator[Platform]:
    """Another institution's LMS, as well connected as the first, under the same client_id."""
    platform = Platform()
    server: Server = serve(create_lms(platform))
    client_id = lms.registration().client_id
    platform.connect_tool(client_id, ["1"], launch_url=launch_url(lms))
    connect(app, platform, client_id, "elsewhere-7")
    yield platform
    server.stop()


def connect(app: Flask, platform: Platform, client_id: str, *deployment_ids: str) -> None:
    with app.app_context():
        registration = add_registration(
            name="Another",
            issuer=platform.issuer,
            client_id=client_id,
            auth_url=platform.auth_url,
            token_url=platform.token_url,
            jwks_url=platform.jwks_url,
        )
        for deployment_id in deployment_ids:
            note_deployment(registration, deployment_id)
        db.session.commit()


@pytest.fixture
def counted(app: Flask) -> Callable[[], dict[str, int]]:
    """How many rows every table holds, but for what is remembered of refusals (tests/test_doctor.py)."""

    def count() -> dict[str, int]:
        with app.app_context():
            return {
                table.name: db.session.execute(select(func.count()).select_from(table)).scalar_one()
                for table in Base.metadata.sorted_tables
                if table.name != "launch_outcome"
            }

    return count


def error_of(answer: TestResponse) -> str | None:
    found = re.search(r'data-error="([^"]*)"', answer.text)
    return found[1] if found else None


def arrives(answer: TestResponse) -> bool:
    return answer.status_code in (200, 303) and error_of(answer) is None


def assert_refused(answer: TestResponse, code: str) -> None:
    assert (answer.status_code // 100, error_of(answer)) == (4, code)


@pytest.fixture
def attack(lms: Platform, client: FlaskClient, counted: Callable[[], dict[str, int]]) -> Callable[..., None]:
    """Try forged claims or signing in a fresh tab; assert the code and no rows; then the control arrives."""

    def run(
        code: str,
        change: Callable[[dict[str, Any]], Any] | None = None,
        *,
        begin: dict[str, Any] | None = None,
        **signing: Any,
    ) -> None:
        tab = Tab(lms, client).begin(**(begin or {}))
        before = counted()
        claims = tab.claims()
        if change is not None:
            change(claims)
        assert_refused(tab.post_claims(claims, **signing), code)
        assert counted() == before
        # The nonce was not used up by the forgery, and the message is fine without it.
        assert arrives(tab.post_claims())

    return run


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda claims: claims.pop(name)


def with_(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda claims: claims.update(changed)


def with_lti(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda claims: claims.update({LTI + name: value})


class TestState:
    def test_1_a_launch_without_state_is_refused(self, tab: Tab) -> None:
        token = tab.lms.sign(tab.claims())
        assert_refused(tab.client.post("/lti/launch", data={"id_token": token}), "state_missing")
        assert_refused(tab.post(token, state=""), "state_missing")
        assert arrives(tab.post(token))

    @pytest.mark.parametrize("place", [0, 20, -1])
    def test_2_a_forged_state_is_refused(self, tab: Tab, place: int) -> None:
        token, state = tab.lms.sign(tab.claims()), tab.query["state"]
        forged = list(state)
        forged[place] = "a" if forged[place] != "a" else "b"
        # The last character may carry bits of padding; then it is another spelling and has no cookie.
        assert_refused_with_any(tab.post(token, state="".join(forged)), {"state_wrong", "cookie_missing"})
        assert_refused(tab.post(token, state="x" * 200), "state_wrong")
        assert arrives(tab.post(token))

    def test_2_a_state_of_another_installation_is_refused(
        self, app: Flask, tab: Tab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = tab.lms.sign(tab.claims())
        with monkeypatch.context() as patch:
            patch.setitem(app.config, "SECRET_KEY", "another installation, another secret")
            assert_refused(tab.post(token), "state_wrong")
        assert arrives(tab.post(token))

    def test_3_the_attackers_login_does_not_work_in_the_victims_browser(self, app: Flask, tab: Tab) -> None:
        victim = new_client(app)
        form = {"id_token": tab.lms.sign(tab.claims()), "state": tab.query["state"]}
        assert_refused(victim.post("/lti/launch", data=form), "cookie_missing")
        assert arrives(tab.client.post("/lti/launch", data=form))

    def test_3_the_victims_own_cookie_does_not_fit_the_attackers_state(
        self, app: Flask, tab: Tab, lms: Platform
    ) -> None:
        victim = Tab(lms, new_client(app)).begin()
        theirs = next(c for c in cookies_of(victim.client) if c[0].startswith("__Host-dl-state-"))
        name = next(c for c in cookies_of(tab.client) if c[0].startswith("__Host-dl-state-"))[0]
        victim.client.set_cookie(name, theirs[1], path="/", domain=HOST)
        form = {"id_token": tab.lms.sign(tab.claims()), "state": tab.query["state"]}
        assert_refused(victim.client.post("/lti/launch", data=form), "cookie_wrong")
        assert arrives(victim.post_claims())

    def test_4_the_same_message_works_once(self, tab: Tab, counted: Callable[[], dict[str, int]]) -> None:
        token = tab.lms.sign(tab.claims())
        kept = cookies_of(tab.client)
        assert arrives(tab.post(token))
        before = counted()
        for name, value in kept:
            tab.client.set_cookie(name, value, path="/", domain=HOST)
        assert_refused(tab.post(token), "nonce_used")
        assert counted() == before

    def test_4_a_message_whose_person_was_not_let_in_works_no_second_time(
        self, app: Flask, lms: Platform, client: FlaskClient, counted: Callable[[], dict[str, int]]
    ) -> None:
        institution = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#Student"
        picks = {"message_type": "LtiDeepLinkingRequest"}
        assert arrives(Tab(lms, client).begin().post_claims())
        for begin, change, code in (
            ({}, without(LTI + "context"), "context_missing"),
            ({}, with_lti("roles", [institution]), "no_course_role"),
            (picks, with_(), "picking_not_allowed"),
            ({}, with_(), "blocked"),
        ):
            if code == "blocked":
                with app.app_context():
                    db.session.execute(update(User).values(blocked_at=database.now()))
                    db.session.commit()
            tab = Tab(lms, client).begin(**begin)
            claims = tab.claims(**begin)
            change(claims)
            token = tab.lms.sign(claims)
            kept = cookies_of(tab.client)
            before = counted()
            assert_refused(tab.post(token), code)
            # All that is left of it is that it was used.
            after = counted()
            assert after == {**before, "burned_nonce": before["burned_nonce"] + 1}
            for name, value in kept:
                tab.client.set_cookie(name, value, path="/", domain=HOST)
            assert_refused(tab.post(token), "nonce_used")
            assert counted() == after

    def test_5_a_replay_from_another_browser_is_refused(self, app: Flask, tab: Tab) -> None:
        form = {"id_token": tab.lms.sign(tab.claims()), "state": tab.query["state"]}
        assert arrives(tab.client.post("/lti/launch", data=form))
        assert_refused(new_client(app).post("/lti/launch", data=form), "cookie_missing")

    def test_6_a_used_nonce_with_a_new_state_is_refused(self, tab: Tab, lms: Platform) -> None:
        used = tab.query["nonce"]
        assert arrives(tab.post_claims())
        tab.begin()
        assert_refused(tab.post_claims(tab.claims(nonce=used)), "nonce_wrong")
        assert arrives(tab.post_claims())

    def test_7_the_nonce_of_another_pending_login_is_refused(
        self, lms: Platform, client: FlaskClient
    ) -> None:
        one, other = Tab(lms, client).begin(), Tab(lms, client).begin()
        assert_refused(one.post_claims(one.claims(nonce=other.query["nonce"])), "nonce_wrong")
        # Both tabs arrive: neither cookie displaced the other.
        assert arrives(one.post_claims())
        assert arrives(other.post_claims())

    def test_8_a_token_without_nonce_is_refused(self, attack: Callable[..., None]) -> None:
        attack("nonce_missing", without("nonce"))

    def test_8_a_nonce_that_is_no_text_is_refused(self, attack: Callable[..., None]) -> None:
        for nonce in [7, ["a"], {"a": 1}, True]:
            attack("nonce_wrong", with_(nonce=nonce))

    def test_9_a_state_past_its_five_minutes_is_refused(
        self, lms: Platform, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = datetime.now(UTC)
        for minutes, code in ((4.9, None), (5.1, "state_expired")):
            tab = Tab(lms, client).begin()
            with monkeypatch.context() as patch:
                then = start + timedelta(minutes=minutes)
                patch.setattr(database, "clock", lambda then=then: then)
                patch.setattr(lms, "clock_offset", minutes * 60)
                answer = tab.post_claims()
            assert arrives(answer) if code is None else error_of(answer) == code

    def test_9b_a_state_we_never_issued_is_refused_though_its_cookie_is_there(self, tab: Tab) -> None:
        planted = "state-b1aa759c-bf8f-44f9-bfb2-a01b3d189235"
        for name in (planted, f"lti1p3-{planted}", "__Host-dl-state-0000000000000000"):
            tab.client.set_cookie(name, planted, path="/", domain=HOST)
        assert_refused(tab.post(tab.lms.sign(tab.claims()), state=planted), "state_wrong")
        assert arrives(tab.post_claims())


class TestToken:
    def test_10_an_unsigned_token_is_refused(self, attack: Callable[..., None]) -> None:
        attack("algorithm_refused", algorithm="none")

    def test_10_an_algorithm_in_disguise_is_refused(self, attack: Callable[..., None]) -> None:
        for algorithm in ["None", "NONE", "rs256", "", None, 1]:
            attack("algorithm_refused", headers={"alg": algorithm})

    def test_11_the_public_key_is_no_hmac_secret(self, attack: Callable[..., None], lms: Platform) -> None:
        attack("algorithm_refused", key=lms.key.public_pem, algorithm="HS256")
        # And not under a false name either.
        attack("algorithm_refused", key=lms.key.public_pem, algorithm="HS256", headers={"kid": lms.key.kid})

    def test_11_another_rsa_algorithm_is_refused(self, attack: Callable[..., None]) -> None:
        for algorithm in ["RS384", "RS512"]:
            attack("algorithm_refused", algorithm=algorithm)

    def test_12_a_symmetric_key_in_the_key_set_signs_nothing(
        self, attack: Callable[..., None], lms: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = {"kty": "oct", "kid": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "alg": "HS256"}
        publish(lms, monkeypatch, secret)
        attack(
            "algorithm_refused",
            key="secret-secret-secret-secret",
            algorithm="HS256",
            headers={"kid": "oct"},
        )
        attack("key_unknown", headers={"kid": "oct"})

    def test_12_a_key_for_encryption_signs_nothing(
        self, attack: Callable[..., None], lms: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = new_key()
        publish(lms, monkeypatch, {**key.jwk, "use": "enc"})
        attack("key_unknown", key=key)
        other = new_key()
        monkeypatch.undo()

        def later() -> datetime:
            return datetime.now(UTC) + timedelta(seconds=31)

        monkeypatch.setattr(database, "clock", later)
        publish(lms, monkeypatch, {**other.jwk, "key_ops": ["encrypt"]})
        lms.clock_offset = 31
        attack("key_unknown", key=other)

    def test_13_a_foreign_key_under_the_platforms_kid_is_refused(
        self, attack: Callable[..., None], lms: Platform
    ) -> None:
        attack("signature_wrong", key=new_key(), headers={"kid": lms.key.kid})

    def test_14_an_unknown_kid_is_refused(self, attack: Callable[..., None]) -> None:
        attack("key_unknown", key=new_key())

    def test_15_a_token_without_a_usable_kid_is_refused(self, attack: Callable[..., None]) -> None:
        for kid in [None, "", 7, ["x"], {"x": 1}]:
            attack("key_id_missing", headers={"kid": kid})

    def test_16_a_key_that_the_token_brings_along_is_not_used(
        self, attack: Callable[..., None], lms: Platform
    ) -> None:
        key = new_key()
        attack("signature_wrong", key=key, headers={"kid": lms.key.kid, "jwk": key.jwk})
        attack("key_unknown", key=key, headers={"jwk": key.jwk})
        # Nor is its address asked.
        asked = len(lms.requests_to("/"))
        attack("signature_wrong", key=key, headers={"kid": lms.key.kid, "jku": lms.jwks_url + "?evil"})
        assert [request.query for request in list(lms.requests)[asked:] if request.query] == []

    def test_17_an_altered_payload_is_refused(self, tab: Tab) -> None:
        header, _, signature = tab.lms.sign(tab.claims()).split(".")
        raised = {**tab.claims(), LTI + "roles": ["Instructor"]}
        body = base64.urlsafe_b64encode(json.dumps(raised).encode()).decode().rstrip("=")
        assert_refused(tab.post(f"{header}.{body}.{signature}"), "signature_wrong")
        assert arrives(tab.post_claims())

    def test_18_a_key_of_1024_bits_is_refused(
        self, attack: Callable[..., None], lms: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        short = new_key(1024)
        publish(lms, monkeypatch, short.jwk)
        attack("key_weak", key=short)

    def test_19_an_expired_token_is_refused(self, attack: Callable[..., None], lms: Platform) -> None:
        now = int(lms.now())
        attack("token_expired", with_(iat=now - 200, exp=now - 100))
        # Moodle's token lives 60 seconds, so clocks may differ by 30 and no more.
        attack("token_expired", with_(iat=now - 95, exp=now - 35))

    def test_19_clocks_may_differ_by_a_few_seconds(self, tab: Tab, lms: Platform) -> None:
        now = int(lms.now())
        assert arrives(tab.post_claims(tab.claims(iat=now - 80, exp=now - 20)))
        assert arrives(tab.begin().post_claims(tab.claims(iat=now + 20, exp=now + 80)))

    def test_20_a_token_that_never_expires_is_refused(self, attack: Callable[..., None]) -> None:
        attack("expiry_missing", without("exp"))

    def test_21_a_token_without_time_of_issue_is_refused(self, attack: Callable[..., None]) -> None:
        attack("issued_at_missing", without("iat"))

    def test_22_a_token_for_ten_years_is_refused(self, attack: Callable[..., None], lms: Platform) -> None:
        now = int(lms.now())
        attack("token_lives_too_long", with_(exp=now + 10 * 365 * 86400))
        attack("token_lives_too_long", with_(iat=now - 2 * 86400, exp=now + 60))

    def test_23_a_token_from_the_future_is_refused(self, attack: Callable[..., None], lms: Platform) -> None:
        now = int(lms.now())
        attack("token_early", with_(iat=now + 90, exp=now + 150))
        attack("token_early", with_(nbf=now + 90))

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    def test_23_times_that_are_no_times_are_refused(self, attack: Callable[..., None], name: str) -> None:
        # JSON knows no infinity; what Python writes for it cannot be read.
        for value in ("soon", "1795423926", True, [], {}, float("inf"), float("nan")):
            attack("token_malformed", with_(**{name: value}))

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    def test_23_times_beyond_every_calendar_give_no_500(self, attack: Callable[..., None], name: str) -> None:
        for value in (10**12, 10**30, 10**400, -(10**400), 1e300):
            attack("token_malformed", with_(**{name: value}))


class TestTenant:
    def test_24_a_token_for_somebody_else_is_refused(self, attack: Callable[..., None]) -> None:
        attack("audience_wrong", with_(aud="another-tool"))
        attack("audience_wrong", with_(aud=["another-tool"]))
        attack("audience_wrong", with_(aud=[]))
        attack("audience_wrong", without("aud"))
        attack("audience_wrong", with_(aud=7))
        attack("audience_wrong", with_(aud={"doorlist-client": 1}))

    def test_25_two_audiences_need_a_party(self, attack: Callable[..., None], tab: Tab) -> None:
        both = [tab.query["client_id"], "another-tool"]
        attack("authorized_party_wrong", with_(aud=both))
        assert arrives(tab.post_claims(tab.claims(aud=both[::-1], azp=both[0])))

    def test_26_a_foreign_party_is_refused(self, attack: Callable[..., None]) -> None:
        attack("authorized_party_wrong", with_(azp="another-tool"))
        attack("authorized_party_wrong", with_(azp=["doorlist-client"]))

    def test_27_another_client_of_the_same_issuer_is_refused(
        self, app: Flask, lms: Platform, attack: Callable[..., None]
    ) -> None:
        # Hosted Canvas has one issuer, and one key set, for every school.
        lms.connect_tool("another-school", ["9"], launch_url=lms.registration().launch_url)
        connect(app, lms, "another-school", "9")
        attack("audience_wrong", with_(aud="another-school"))

    def test_28_another_lms_that_signs_with_its_own_key_is_refused(
        self, attack: Callable[..., None], other_lms: Platform
    ) -> None:
        attack("issuer_wrong", with_(iss=other_lms.issuer), key=other_lms.key)

    def test_28b_another_lms_that_uses_our_issuers_name_is_refused(
        self, attack: Callable[..., None], other_lms: Platform
    ) -> None:
        attack("key_unknown", key=other_lms.key)

    def test_29_a_login_at_one_lms_and_an_answer_from_another_is_refused(
        self, tab: Tab, other_lms: Platform
    ) -> None:
        theirs = other_lms.claims("sam", "geology", nonce=tab.query["nonce"])
        assert_refused(tab.post(other_lms.sign(theirs)), "issuer_wrong")
        assert arrives(tab.post_claims())

    def test_30_an_unknown_deployment_is_noted_and_lets_nobody_in(
        self, tab: Tab, counted: Callable[[], dict[str, int]]
    ) -> None:
        tab.begin(deployment_id="unheard-of")
        before = counted()
        assert_refused(tab.post_claims(tab.claims(deployment_id="unheard-of")), "deployment_pending")
        assert changed(before, counted()) <= {"deployment", "burned_nonce"}
        assert arrives(tab.begin().post_claims())

    def test_31_another_tenants_deployment_lets_nobody_in(
        self, tab: Tab, other_lms: Platform, counted: Callable[[], dict[str, int]]
    ) -> None:
        tab.begin(lti_deployment_id=None)
        before = counted()
        assert_refused(tab.post_claims(tab.claims(deployment_id="elsewhere-7")), "deployment_pending")
        assert changed(before, counted()) <= {"deployment", "burned_nonce"}

    def test_32_a_deployment_other_than_the_logins_is_refused(self, attack: Callable[..., None]) -> None:
        attack("deployment_wrong", with_lti("deployment_id", "2"))

    def test_32_a_deployment_that_is_none_is_refused(self, attack: Callable[..., None]) -> None:
        for value in [None, "", "x" * 256, ["1"], {"id": "1"}, "1\x00", 10**300]:
            code = "claim_malformed" if value else "deployment_missing"
            attack(code, with_lti("deployment_id", value), begin={"lti_deployment_id": None})


def test_every_refusal_has_its_words() -> None:
    assert set(REFUSALS) == set(Refusal)
    for code, words in REFUSALS.items():
        assert 400 <= words.status < 500, code
        assert str(words.title._args[0])
        assert str(words.happened._args[0]).endswith("."), code
        assert str(words.advice._args[0]).endswith("."), code


def test_a_registration_that_was_removed_since_the_login_is_refused(app: Flask, tab: Tab) -> None:
    with app.app_context():
        registration = db.session.scalars(select(Registration).filter_by(issuer=tab.lms.issuer)).one()
        registration.client_id = "renamed"
        db.session.commit()
    assert_refused(tab.post_claims(), "registration_unknown")


def test_state_survives_moodles_text_filter(tab: Tab) -> None:
    assert re.fullmatch("[A-Za-z0-9-]+", tab.query["state"])
    assert len(tab.query["state"]) < 1000


def assert_refused_with_any(answer: TestResponse, codes: set[str]) -> None:
    assert answer.status_code // 100 == 4
    assert error_of(answer) in codes


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in after if after[name] != before[name]}


def cookies_of(client: FlaskClient) -> list[tuple[str, str]]:
    return [(cookie.key, cookie.value) for cookie in (client._cookies or {}).values()]


def launch_url(lms: Platform) -> str:
    return lms.registration().launch_url


def publish(lms: Platform, monkeypatch: pytest.MonkeyPatch, *more: dict[str, Any]) -> None:
    """The platform's key set says these keys too."""
    own = lms.jwks()["keys"]
    monkeypatch.setattr(lms, "jwks", lambda: {"keys": [*own, *more]})


def signature_of(key: SigningKey, content: str) -> str:
    raw = key.private_key.sign(content.encode(), PKCS1v15(), SHA256())
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
