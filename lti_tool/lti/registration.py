"""Dynamic registration (1EdTech LTI Dynamic Registration 1.0): the platform's part, asked and read.

A platform's admin opens our link inside the platform; we read the platform's configuration, say what we are
and want, and get a client id. Whoever sends the link's parameters names addresses of their choice, so all
of them go through the guarded session, and an issuer is believed only from its own host.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from flask import current_app

from lti_tool.lti import outgoing, values
from lti_tool.lti.clouds import HOSTED_ISSUERS, is_audience_of
from lti_tool.lti.outgoing import Limits, PlatformUnavailable
from lti_tool.lti.scopes import LINE_ITEMS, RESULTS, ROSTER, SCORES

TOOL_CONFIGURATION = "https://purl.imsglobal.org/spec/lti-tool-configuration"
PLATFORM_CONFIGURATION = "https://purl.imsglobal.org/spec/lti-platform-configuration"
# The roster to know who belongs to a course; the gradebook to hand over attendance.
SCOPES = (ROSTER, LINE_ITEMS, RESULTS, SCORES)
CLAIMS = ("sub", "iss", "name", "given_name", "family_name", "email")
RESOURCE_LINK, DEEP_LINKING = "LtiResourceLinkRequest", "LtiDeepLinkingRequest"
# Somebody waits in front of the page, but a platform that installs a tool may take its time.
PATIENT = Limits(read=8.0, total=12.0)
URL_LENGTH = 500
TOKEN_LENGTH = 8_000
MOST_SCOPES = 50
# An address as it is stored and sent on: no space, nothing that is not ASCII.
_PLAIN = re.compile(r"[!-~]+")
# What a platform calls its refusal: Moodle says "domain_targetlinkuri_mismatch" as plain text.
_CODE = re.compile(r"[A-Za-z0-9_. -]{1,80}")


class Fault(StrEnum):
    """Why a registration came to nothing. pages/registration_words.py has the words for each."""

    LINK_UNKNOWN = "link_unknown"
    LINK_USED = "link_used"
    LINK_EXPIRED = "link_expired"
    LINK_BUSY = "link_busy"
    FORM_WRONG = "form_wrong"
    CONFIGURATION_MISSING = "configuration_missing"
    CONFIGURATION_REFUSED = "configuration_refused"
    CONFIGURATION_UNAVAILABLE = "configuration_unavailable"
    CONFIGURATION_MALFORMED = "configuration_malformed"
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105
    ISSUER_FOREIGN = "issuer_foreign"
    ENDPOINT_FOREIGN = "endpoint_foreign"
    ENDPOINT_REFUSED = "endpoint_refused"
    PLATFORM_REFUSED = "platform_refused"
    PLATFORM_UNAVAILABLE = "platform_unavailable"
    ANSWER_MALFORMED = "answer_malformed"
    REGISTRATION_TAKEN = "registration_taken"


class RegistrationRefused(Exception):
    """A registration came to nothing. `detail` is a short word of ours or of the platform, never a value."""

    def __init__(self, code: Fault, detail: str = "") -> None:
        super().__init__(f"{code.value} ({detail})" if detail else code.value)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a platform sends with the link it opens; checked for what it can be, nothing asked yet."""

    configuration_url: str
    token: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """A platform as it describes itself (OpenID Connect discovery, with LTI's additions)."""

    issuer: str
    auth_url: str
    token_url: str
    token_audience: str | None
    jwks_url: str
    registration_url: str
    # As the platform names its product: "moodle", "canvas", …
    family: str
    # None where the platform does not say.
    scopes: frozenset[str] | None
    # Message type → the places where the platform offers it.
    places: dict[str, tuple[str, ...]]

    @property
    def host(self) -> str:
        """The host people know the platform by: a hosted cloud's issuer is everybody's, this is theirs."""
        return urlsplit(self.registration_url).hostname or self.issuer

    @property
    def name(self) -> str:
        """What it is called where its product is none we know."""
        return self.host

    @property
    def offered(self) -> list[str]:
        """Those of our scopes that the platform offers."""
        return [one for one in SCOPES if self.scopes is None or one in self.scopes]

    @property
    def takes_picks(self) -> bool:
        """Does it speak deep linking?"""
        return DEEP_LINKING in self.places

    @property
    def asked(self) -> "Agreement":
        """What we would ask of this platform: less where it has no way to give it."""
        messages = [RESOURCE_LINK, DEEP_LINKING] if self.takes_picks else [RESOURCE_LINK]
        return read_agreement(
            {"scopes": self.offered, "claims": CLAIMS, "messages": messages, "deployment": True}
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """What the platform answered: who we are there, and what it agreed to."""

    client_id: str
    deployment_id: str | None
    # As it is kept: scopes, claims, messages, deployment, client_uri.
    agreed: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a platform agreed to, in the product's terms. None: it did not say."""

    roster: bool
    grades: bool
    names: bool | None
    emails: bool | None
    picks: bool | None
    deployment: bool

    @property
    def whole(self) -> bool:
        """Is nothing missing that people would notice?"""
        said = (self.roster, self.grades, self.names, self.emails, self.picks)
        return False not in said


def read_invitation(configuration_url: str, token: str) -> Invitation:
    """What came with the link. Raises RegistrationRefused."""
    if not configuration_url:
        raise RegistrationRefused(Fault.CONFIGURATION_MISSING)
    _checked(configuration_url, Fault.CONFIGURATION_REFUSED, "url_too_long")
    if len(token) > TOKEN_LENGTH or not (token.isascii() and token.isprintable()) or " " in token:
        raise RegistrationRefused(Fault.TOKEN_MALFORMED)
    return Invitation(configuration_url, token)


def fetch_configuration(invitation: Invitation) -> Configuration:
    """Ask the platform what it is; ends the open transaction. Raises RegistrationRefused."""
    outgoing.let_go()
    # Canvas wants the token here too; Moodle does not mind.
    try:
        answer = outgoing.session(PATIENT).get(invitation.configuration_url, headers=_headers(invitation))
        if answer.status_code != 200:
            raise PlatformUnavailable("status", status=answer.status_code)
        said = outgoing.read_json(answer)
    except PlatformUnavailable as error:
        refused = error.reason in ("address_private", "not_https", "port_refused", "url_malformed")
        code = Fault.CONFIGURATION_REFUSED if refused else Fault.CONFIGURATION_UNAVAILABLE
        raise RegistrationRefused(code, _reason(error)) from None
    return read_configuration(said, invitation.configuration_url)


def read_configuration(said: dict[str, Any], configuration_url: str) -> Configuration:
    """The configuration that was found at an address. Raises RegistrationRefused."""
    issuer = _url(said, "issuer")
    if _place(issuer) != _place(configuration_url):
        # Anybody can write any issuer; only its own host can say that it is one.
        raise RegistrationRefused(Fault.ISSUER_FOREIGN)
    registration_url = _url(said, "registration_endpoint")
    # A hosted cloud names its customer's host here, over TLS and from the issuer's own.
    if issuer not in HOSTED_ISSUERS and _place(registration_url) != _place(issuer):
        raise RegistrationRefused(Fault.ENDPOINT_FOREIGN)
    platform = said.get(PLATFORM_CONFIGURATION)
    platform = platform if isinstance(platform, dict) else {}
    places = {}
    for message in _list(platform.get("messages_supported")):
        if isinstance(message, dict) and isinstance(message.get("type"), str):
            found = [place for place in _list(message.get("placements")) if isinstance(place, str)]
            places[message["type"]] = tuple(found)
    scopes = said.get("scopes_supported")
    return Configuration(
        issuer=issuer,
        auth_url=_url(said, "authorization_endpoint"),
        token_url=_url(said, "token_endpoint"),
        token_audience=_audience(said),
        jwks_url=_url(said, "jwks_uri"),
        registration_url=registration_url,
        family=(values.text(platform.get("product_family_code"), 40) or "").lower(),
        scopes=frozenset(one for one in scopes if isinstance(one, str)) if isinstance(scopes, list) else None,
        places=places,
    )


def register(configuration: Configuration, invitation: Invitation, body: dict[str, Any]) -> Registered:
    """Ask the platform to take us; ends the open transaction. Raises RegistrationRefused."""
    outgoing.let_go()
    try:
        answer = outgoing.session(PATIENT).post(
            configuration.registration_url, json=body, headers=_headers(invitation)
        )
    except PlatformUnavailable as error:
        code = Fault.ENDPOINT_REFUSED if error.reason == "address_private" else Fault.PLATFORM_UNAVAILABLE
        raise RegistrationRefused(code, _reason(error)) from None
    if answer.status_code >= 500:
        raise RegistrationRefused(Fault.PLATFORM_UNAVAILABLE, f"status {answer.status_code}")
    if answer.status_code not in (200, 201):
        raise RegistrationRefused(Fault.PLATFORM_REFUSED, _word(answer))
    try:
        return read_answer(outgoing.read_json(answer), configuration.offered)
    except PlatformUnavailable as error:
        raise RegistrationRefused(Fault.ANSWER_MALFORMED, _reason(error)) from None


def read_answer(said: dict[str, Any], asked: list[str]) -> Registered:
    """Who we are there: Moodle names the deployment inside the tool configuration, Canvas outside or not.

    Raises RegistrationRefused.
    """
    tool = said.get(TOOL_CONFIGURATION)
    tool = tool if isinstance(tool, dict) else {}
    try:
        client_id = values.identifier(said.get("client_id"))
        deployment_id = values.identifier(tool.get("deployment_id") or said.get("deployment_id"))
    except values.ValueRefused:
        raise RegistrationRefused(Fault.ANSWER_MALFORMED, "identifier") from None
    if client_id is None or not client_id.isascii() or re.search(r"\s", client_id):
        raise RegistrationRefused(Fault.ANSWER_MALFORMED, "client_id")
    if deployment_id is not None and not deployment_id.isascii():
        raise RegistrationRefused(Fault.ANSWER_MALFORMED, "deployment_id")
    scope, claims, messages = said.get("scope"), tool.get("claims"), tool.get("messages")
    return Registered(
        client_id,
        deployment_id,
        {
            # RFC 7591, section 3.2.1: left out where it is what was asked for.
            "scopes": scope.split()[:MOST_SCOPES] if isinstance(scope, str) else asked,
            "claims": [str(claim)[:80] for claim in claims[:MOST_SCOPES]]
            if isinstance(claims, list)
            else None,
            "messages": _types(messages) if isinstance(messages, list) else None,
            "deployment": deployment_id is not None,
            "client_uri": values.text(said.get("registration_client_uri"), URL_LENGTH),
        },
    )


def read_agreement(agreed: dict[str, Any]) -> Agreement:
    """What was agreed, as it is kept, in the product's terms."""
    scopes, claims, messages = agreed["scopes"], agreed["claims"], agreed["messages"]
    return Agreement(
        roster=ROSTER in scopes,
        grades={LINE_ITEMS, SCORES} <= set(scopes),
        names=None if claims is None else "name" in claims,
        emails=None if claims is None else "email" in claims,
        picks=None if messages is None else DEEP_LINKING in messages,
        deployment=agreed["deployment"],
    )


# --- reading what platforms say ----------------------------------------------------------


def _headers(invitation: Invitation) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    return headers | {"Authorization": f"Bearer {invitation.token}"} if invitation.token else headers


def _checked(url: str, code: Fault, too_long: str) -> SplitResult:
    if len(url) > 4 * URL_LENGTH:
        raise RegistrationRefused(code, too_long)
    try:
        return outgoing.check_url(url, allow_private=current_app.config["ALLOW_PRIVATE_PLATFORMS"])
    except PlatformUnavailable as error:
        raise RegistrationRefused(code, error.reason) from None


def _url(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or len(value) > URL_LENGTH or not _PLAIN.fullmatch(value):
        raise RegistrationRefused(Fault.CONFIGURATION_MALFORMED, name)
    _checked(value, Fault.CONFIGURATION_MALFORMED, name)
    return value


def _audience(said: dict[str, Any]) -> str | None:
    """`authorization_server`, if it is an address: Canvas writes a host, and checks for its token URL.

    Raises RegistrationRefused.
    """
    value = values.text(said.get("authorization_server"), URL_LENGTH)
    if not value or value == said.get("token_endpoint") or "://" not in value:
        return None
    if not is_audience_of(value, _url(said, "token_endpoint")):
        raise RegistrationRefused(Fault.ENDPOINT_FOREIGN, "authorization_server")
    return value


def _place(url: str) -> tuple[str | None, int]:
    """Host and port."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _types(messages: list[Any]) -> list[str]:
    types = (message.get("type") for message in messages if isinstance(message, dict))
    return [one[:80] for one in types if isinstance(one, str)][:20]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _reason(error: PlatformUnavailable) -> str:
    return f"status {error.status}" if error.reason == "status" else error.reason


def _word(answer: requests.Response) -> str:
    """The platform's own code for its refusal, where it is one and not a page or somebody's data."""
    status = f"status {answer.status_code}"
    try:
        said = outgoing.read_json(answer)
    except PlatformUnavailable:
        said = {"error": answer.content[:100].decode("utf-8", "replace").strip()}
    code = said.get("error")
    return f"{status}: {code}" if isinstance(code, str) and _CODE.fullmatch(code) else status
