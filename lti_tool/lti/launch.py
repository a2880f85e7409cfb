"""The LTI 1.3 launch: from a platform's login initiation to a checked `Launch` (security framework 5.1.1).

1. The platform sends the browser to us (`begin`): who is asking, and for what.
2. We send it to the platform's authorization endpoint, with a signed state and a nonce.
3. The platform posts the id_token back (`finish`): every check, then the nonce is burned.

Built on pylti1p3's `OIDCLogin` and `MessageLaunch`: their order of steps and their message validators
stand; each step whose check is missing or loose in 2.0.0 is overridden here. Nothing is kept in its session
or caches.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from flask import current_app
from jwt.algorithms import RSAAlgorithm
from pylti1p3.cookie import CookieService
from pylti1p3.exception import LtiException
from pylti1p3.message_launch import MessageLaunch, TJwtData
from pylti1p3.oidc_login import OIDCLogin
from pylti1p3.redirect import Redirect
from pylti1p3.request import Request
from pylti1p3.session import SessionService

from lti_tool.lti import claims as reading
from lti_tool.lti import handshake, outgoing, platform_keys, platform_storage, registrations, values
from lti_tool.lti.claims import Launch
from lti_tool.lti.platform_storage import Question, find_question
from lti_tool.lti.refusal import Known, LaunchRefused, Refusal
from lti_tool.lti.registrations import PlatformRegistration, ToolConf

__all__ = [
    "Launch",
    "LaunchRefused",
    "Login",
    "Question",
    "Refusal",
    "begin",
    "cookie_name",
    "find_question",
    "finish",
    "is_cookie_name",
    "surplus_cookies",
    "use_up",
]

# The binder cookie lives as long as the state.
COOKIE_SECONDS = int(handshake.LIFETIME.total_seconds())
LONGEST_PARAMETER = 4_000  # characters
# What a platform may say at login; sent again when the login is retried in a window of its own.
PARAMETERS = (
    "iss",
    "login_hint",
    "target_link_uri",
    "lti_message_hint",
    "lti_deployment_id",
    "client_id",
    "lti_storage_target",
)
_RS256 = RSAAlgorithm(RSAAlgorithm.SHA256)
_ERRORS = {
    "login_required": Refusal.PLATFORM_LOGIN_REQUIRED,
    "interaction_required": Refusal.PLATFORM_LOGIN_REQUIRED,
    "account_selection_required": Refusal.PLATFORM_LOGIN_REQUIRED,
    "consent_required": Refusal.PLATFORM_LOGIN_REQUIRED,
    "access_denied": Refusal.PLATFORM_DENIED,
    "unauthorized_client": Refusal.PLATFORM_DENIED,
    # Canvas, when its launch waited too long
    "launch_no_longer_valid": Refusal.PLATFORM_LAUNCH_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Login:
    """What the browser needs to go on to the platform."""

    authorization_url: str
    state: str
    # To be set HttpOnly, Secure, SameSite=None, Partitioned, for COOKIE_SECONDS.
    cookie_name: str
    cookie_value: str
    registration_id: int
    # The platform's frame that keeps values for us, if it offers one (1EdTech lti-cs-oidc).
    storage_target: str | None
    # What that frame is to keep under the cookie's name, and the only origin it is told to.
    proof: str | None
    platform_origin: str
    # The login's own parameters, to begin again in a new window.
    parameters: Mapping[str, str]


def begin(parameters: Mapping[str, str], *, tool_url: str) -> Login:
    """Answer a login initiation. `tool_url` is our address without a path. Raises LaunchRefused."""
    said = {name: parameters.get(name) or "" for name in PARAMETERS}
    if any(len(value) > LONGEST_PARAMETER for value in said.values()):
        raise LaunchRefused(Refusal.PARAMETERS_TOO_LONG)
    if len(said["lti_deployment_id"]) > values.ID_LENGTH:
        raise LaunchRefused(Refusal.PARAMETERS_TOO_LONG, "lti_deployment_id")
    return LoginInitiation(said, tool_url).login()


def finish(
    form: Mapping[str, str], cookies: Mapping[str, str], *, tool_url: str, from_our_page: bool = False
) -> Launch:
    """Check the platform's answer, which our page that asks for the proof may have posted (`find_question`).

    Raises LaunchRefused.

    The nonce and a deployment seen for the first time are written in the caller's transaction. Call it
    before anything else is written: fetching a platform's keys ends the transaction (outgoing.let_go).
    """
    if form.get("error"):
        _refuse_error(form["error"], form.get("state", ""))
    launching = LaunchMessage(form, cookies, from_our_page)
    try:
        launching.validate()
    except LaunchRefused as refused:
        refused.known = launching.known
        raise
    except LtiException as error:
        # Its own validators. Their words hold no claim values; unknown ones stay out of the logs.
        raise LaunchRefused(Refusal.CLAIM_MALFORMED, type(error).__name__, known=launching.known) from None
    return launching.launch


def use_up(state: str) -> None:
    """Burn the nonce of a launch that `finish` took, whose transaction came to nothing."""
    # Run out meanwhile, or burned by the same message sent twice: nothing is left to use.
    with suppress(LaunchRefused):
        handshake.burn(handshake.verify(state))


def cookie_name(state: str) -> str:
    """The binder cookie of a state, for clearing it after the launch."""
    return handshake.cookie_name(state)


def is_cookie_name(name: str) -> bool:
    """Is this what a binder's cookie is called?"""
    return name.startswith(handshake.BINDER_PREFIX)


def surplus_cookies(cookies: Mapping[str, str]) -> list[str]:
    """Binders of so many pending logins that the oldest should go."""
    return handshake.surplus(cookies)


class Form(Request):
    """pylti1p3's view of a request: its parameters and nothing else."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.parameters = parameters

    def get_param(self, key: str) -> str:
        """A parameter, empty when absent."""
        return self.parameters.get(key) or ""

    def is_secure(self) -> bool:
        """Cookies are set by the pages, which know."""
        return True


class NoSession(SessionService):
    """pylti1p3 keeps nothing for us: state and nonce are handshake.py's."""

    def __init__(self) -> None:
        """Without the library's storage."""


class Cookies(CookieService):
    """The request's cookies, to read."""

    def __init__(self, cookies: Mapping[str, str]) -> None:
        self.cookies = cookies

    def get_cookie(self, name: str) -> str | None:
        """A cookie's value, or None."""
        return self.cookies.get(name)

    def set_cookie(self, name: str, value: Any, exp: int | None = 3600) -> None:
        """Nothing: pages/launch.py sets the binder's cookie from `Login`."""


class LoginInitiation(OIDCLogin):
    """pylti1p3's login, with our state, and an authorization URL that may have a query of its own."""

    def __init__(self, parameters: Mapping[str, str], tool_url: str) -> None:
        super().__init__(Form(parameters), ToolConf(), NoSession(), Cookies({}))
        self.parameters = parameters
        self.tool_url = tool_url

    def login(self) -> Login:
        """Everything the browser needs to go on. Raises LaunchRefused."""
        said = self.parameters
        for name, code in (("iss", Refusal.ISSUER_MISSING), ("login_hint", Refusal.LOGIN_HINT_MISSING)):
            if not said[name]:
                raise LaunchRefused(code)
        _check_target(said["target_link_uri"], self.tool_url)
        # PostgreSQL cannot be asked for a name with a NUL in it.
        if not (said["iss"] + said["client_id"]).isprintable():
            raise LaunchRefused(Refusal.REGISTRATION_UNKNOWN)
        platform = cast(PlatformRegistration, self.validate_oidc_login()).platform
        binder = handshake.new_binder()
        target = platform_storage.frame_name(said["lti_storage_target"])
        proof = platform_storage.new_proof() if target else None
        state = handshake.new_state(
            registration_id=platform.id,
            client_id=platform.client_id,
            target_link_uri=said["target_link_uri"],
            deployment_hint=said["lti_deployment_id"] or None,
            binder=binder,
            proof=proof,
            storage_target=target,
        )
        signed = handshake.sign(state)
        return Login(
            authorization_url=self._authorization_url(platform, signed, state.nonce.hex()),
            state=signed,
            cookie_name=handshake.cookie_name(signed),
            cookie_value=binder,
            registration_id=platform.id,
            storage_target=target,
            proof=proof,
            platform_origin=platform_storage.origin_of(platform.auth_url),
            parameters={name: value for name, value in said.items() if value},
        )

    def get_redirect(self, url: str) -> Redirect[Any]:
        """Not used: login answers with a page that tries the cookie first."""
        raise NotImplementedError

    def _authorization_url(self, platform: registrations.Platform, state: str, nonce: str) -> str:
        query = {
            "scope": "openid",
            "response_type": "id_token",
            "response_mode": "form_post",
            "prompt": "none",
            "client_id": platform.client_id,
            "redirect_uri": f"{self.tool_url}/lti/launch",
            "state": state,
            "nonce": nonce,
            "login_hint": self.parameters["login_hint"],
        }
        if self.parameters["lti_message_hint"]:
            query["lti_message_hint"] = self.parameters["lti_message_hint"]
        joint = "&" if "?" in platform.auth_url else "?"
        return platform.auth_url + joint + urlencode(query)


class LaunchMessage(MessageLaunch):
    """pylti1p3's launch with every step checked against the state (its `validate` calls them in order)."""

    launch: Launch
    _state: handshake.State
    _body: reading.Claims
    _key_id: str
    _platform: registrations.Platform
    _deployment: int | None
    _clock_offset: float
    # Whose launch this is, as far as the state that we signed says.
    known = Known()

    def __init__(
        self, form: Mapping[str, str], cookies: Mapping[str, str], from_our_page: bool = False
    ) -> None:
        super().__init__(
            Form(form), ToolConf(), NoSession(), Cookies(cookies), requests_session=outgoing.session()
        )
        self._form, self._from_our_page = form, from_our_page

    def _get_request_param(self, key: str) -> str:
        return self._request.get_param(key)

    def validate_state(self) -> "LaunchMessage":
        """The state is ours, in time, and this browser's by cookie or proof (attacks 1–5, 9, 58, 59)."""
        text = self._get_request_param("state")
        self._state = handshake.verify(text)
        self.known = Known(self._state.registration_id)
        binder = self._cookie_service.get_cookie(handshake.cookie_name(text))
        self._cookie_held = bool(binder)
        if not binder:
            platform_storage.check_answer(self._form, self._state, from_our_page=self._from_our_page)
        elif not handshake.is_binder(self._state, binder):
            raise LaunchRefused(Refusal.COOKIE_WRONG)
        return self

    def validate_jwt_format(self) -> "LaunchMessage":
        """Three parts of base64url, JSON objects inside, signed with RS256 and nothing to understand."""
        token = self._get_request_param("id_token")
        if not token:
            raise LaunchRefused(Refusal.TOKEN_MISSING)
        if len(token) > values.LARGEST_TOKEN:
            raise LaunchRefused(Refusal.TOKEN_TOO_LARGE)
        parts = token.split(".")
        if len(parts) != 3:
            raise LaunchRefused(Refusal.TOKEN_MALFORMED, "parts")
        header, body = reading.decode_object(parts[0]), reading.decode_object(parts[1])
        self._body = body
        self._jwt = cast(TJwtData, {"header": header, "body": body})
        if header.get("alg") != "RS256":
            raise LaunchRefused(Refusal.ALGORITHM_REFUSED)
        # RFC 7515 4.1.11: who does not understand an extension must refuse it; we understand none.
        if "crit" in header or "b64" in header:
            raise LaunchRefused(Refusal.HEADER_UNKNOWN)
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not key_id:
            raise LaunchRefused(Refusal.KEY_ID_MISSING)
        self._key_id = key_id
        return self

    def validate_nonce(self) -> "LaunchMessage":
        """The nonce is this login's; it is burned last, so that a forgery cannot use it up."""
        nonce = self._body.get("nonce")
        if not nonce:
            raise LaunchRefused(Refusal.NONCE_MISSING)
        if nonce != self._state.nonce.hex():
            raise LaunchRefused(Refusal.NONCE_WRONG)
        return self

    def validate_registration(self) -> "LaunchMessage":
        """The registration of the login, and the token is that one's (attacks 24–29)."""
        body = self._body
        # Only looked up; believed once the signature is checked.
        deployment_id = reading.read_deployment_id(body, self._state)
        found = registrations.find_platform(self._state.registration_id, deployment_id)
        if found is None:
            raise LaunchRefused(Refusal.REGISTRATION_UNKNOWN, "removed since the login")
        self._platform, self._deployment = found
        self.known = Known(self._platform.id, deployment_id if self._deployment else "")
        if self._platform.client_id != self._state.client_id:
            raise LaunchRefused(Refusal.REGISTRATION_UNKNOWN, "changed since the login")
        reading.check_tenant(body, self._platform)
        self._registration = PlatformRegistration(self._platform)
        return self

    def validate_jwt_signature(self) -> "LaunchMessage":
        """Signed by the registration's own key, and in time (attacks 10–23)."""
        content, _, signature = self._get_request_param("id_token").rpartition(".")
        key = platform_keys.find_key(self._platform, self._key_id)
        # PyJWT's RS256, without its second decoding of what validate_jwt_format has read.
        if not _RS256.verify(content.encode(), key, reading.decode(signature)):
            raise LaunchRefused(Refusal.SIGNATURE_WRONG)
        skew: int = current_app.config["CLOCK_SKEW_SECONDS"]
        self._clock_offset = reading.check_times(self._body, skew, begun_at=self._state.issued_at)
        return self

    def validate_deployment(self) -> "LaunchMessage":
        """Known or noted in `save_launch_data`: it was compared with the login's hint already."""
        return self

    def validate_message(self) -> "LaunchMessage":
        """Shapes first, then pylti1p3's validators (attacks 33–40)."""
        reading.check_message(self._body, self._state)
        super().validate_message()
        return self

    def save_launch_data(self) -> "LaunchMessage":
        """Everything holds: burn the nonce (attacks 4, 6) and hand the launch up."""
        body, platform = self._body, self._platform
        deployment_id = reading.read_deployment_id(body, self._state)
        launch = reading.read_launch(body, platform, self._deployment or 0, deployment_id)
        if not self._cookie_held:
            launch = replace(launch, cookie_held=False)
        handshake.burn(self._state)
        if self._deployment is None:
            noted = registrations.note_deployment_id(platform.id, deployment_id, reading.title_of(body))
            launch = replace(launch, deployment=noted)
        registrations.note_launch(platform, launch.platform_family, self._clock_offset)
        self.launch = launch
        return self


def _refuse_error(error: str, state: str) -> None:
    """The platform sent an error instead of a token (OpenID Connect core 3.1.2.6)."""
    said = error if re.fullmatch("[a-z_]{1,40}", error) else ""
    refused = LaunchRefused(_ERRORS.get(error, Refusal.PLATFORM_ERROR), said)
    with suppress(LaunchRefused):
        refused.known = Known(handshake.verify(state).registration_id)
    raise refused


def _check_target(target: str, tool_url: str) -> None:
    """The launch must lead to us: anything else would make us an open redirect (attack 41)."""
    if not target:
        raise LaunchRefused(Refusal.TARGET_MISSING)
    if not target.isprintable() or "\\" in target:
        raise LaunchRefused(Refusal.TARGET_FOREIGN)
    try:
        if _origin(target) != _origin(tool_url):
            raise LaunchRefused(Refusal.TARGET_FOREIGN)
    except ValueError:
        raise LaunchRefused(Refusal.TARGET_FOREIGN) from None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
