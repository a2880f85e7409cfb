"""The claims of an id_token, read and checked: whose it is, how long it lives, what it asks for.

Pure: no database, no network. Every check raises LaunchRefused with its own code. Claim names are those of
LTI 1.3 core, section 5, and the security framework, section 5.1.3.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lti_tool.database import now
from lti_tool.lti import deep_linking, values
from lti_tool.lti.deep_linking import DeepLinking
from lti_tool.lti.handshake import State, digest
from lti_tool.lti.refusal import LaunchRefused, Refusal
from lti_tool.lti.registrations import Platform

Claims = dict[str, Any]

LTI = "https://purl.imsglobal.org/spec/lti/claim/"
MESSAGE_TYPE = LTI + "message_type"
VERSION = LTI + "version"
DEPLOYMENT_ID = LTI + "deployment_id"
TARGET_LINK_URI = LTI + "target_link_uri"
RESOURCE_LINK = LTI + "resource_link"
ROLES = LTI + "roles"
CONTEXT = LTI + "context"
PRESENTATION = LTI + "launch_presentation"
TOOL_PLATFORM = LTI + "tool_platform"
CUSTOM = LTI + "custom"
MEMBERSHIPS = "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice"
GRADEBOOK = "https://purl.imsglobal.org/spec/lti-ags/claim/endpoint"
DEEP_LINKING = "https://purl.imsglobal.org/spec/lti-dl/claim/deep_linking_settings"

RESOURCE_LINK_REQUEST = "LtiResourceLinkRequest"
DEEP_LINKING_REQUEST = "LtiDeepLinkingRequest"

LONGEST_LIFE = 24 * 3600  # seconds
# Beyond every calendar, and beyond what can be reckoned with.
LAST_SECOND = 10**11
MOST_ROLES, LONGEST_ROLE = 100, 500
MOST_CUSTOM, LONGEST_CUSTOM = 100, 2000
MOST_SCOPES = 20
_BASE64URL = re.compile("[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Gradebook:
    """Where a course’s gradebook is, and what we may do there (AGS 2.0, section 3.1); for lti/grades.py."""

    # The course's line items, and the one of this link if it has exactly one.
    lineitems_url: str | None
    lineitem_url: str | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """A checked launch: who comes, from where, to what. Absent values are None or empty."""

    registration_id: int
    issuer: str
    client_id: str
    # Row id; whether anybody approved it is the product's question.
    deployment: int
    deployment_id: str
    subject: str
    # As sent; lti/roles.py reads them.
    roles: tuple[str, ...]
    context_id: str | None
    context_label: str | None
    context_title: str | None
    resource_link_id: str | None
    resource_link_title: str | None
    name: str | None
    given_name: str | None
    family_name: str | None
    # A claim of the platform, proved by nobody.
    email: str | None
    locale: str | None
    target_link_uri: str
    message_type: str
    # Where this context's roster can be asked for.
    memberships_url: str | None
    # Where the platform wants people back; http or https.
    return_url: str | None
    # "iframe", "frame" or "window"
    document_target: str | None
    # The product as it names itself: "moodle", "canvas", …
    platform_family: str
    platform_name: str
    custom: Mapping[str, str]
    issued_at: datetime
    # None where the platform offers none.
    gradebook: Gradebook | None = None
    # The browser brought our cookie back, so a session's will hold too; else platform storage spoke for it.
    cookie_held: bool = True
    # What is to be chosen; None for every other message.
    deep_linking: DeepLinking | None = None

    @property
    def room(self) -> int | None:
        """The course that the link names, if it was placed by deep linking."""
        said = self.custom.get(deep_linking.ROOM, "") if self.deep_linking is None else ""
        return int(said) if said.isascii() and said.isdigit() and len(said) <= 10 else None

    @property
    def context_history(self) -> tuple[str, ...]:
        """What this LMS course is a copy of, if the platform says."""
        return deep_linking.read_history(self.custom.get(deep_linking.CONTEXT_HISTORY))

    @property
    def link_history(self) -> tuple[str, ...]:
        """What this link is a copy of, if the platform says."""
        return deep_linking.read_history(self.custom.get(deep_linking.LINK_HISTORY))


def decode(part: str) -> bytes:
    """Strict base64url without padding (RFC 7515, section 2). Raises LaunchRefused."""
    try:
        if not _BASE64URL.fullmatch(part):
            raise LaunchRefused(Refusal.TOKEN_MALFORMED, "characters")
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise LaunchRefused(Refusal.TOKEN_MALFORMED, "base64") from None


def decode_object(part: str) -> Claims:
    """One part of a token that must be a JSON object. Raises LaunchRefused."""
    try:
        return msgspec.json.decode(decode(part), type=dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LaunchRefused(Refusal.TOKEN_MALFORMED, "json") from None


def check_times(claims: Claims, skew: int, *, begun_at: int) -> float:
    """Not expired, not from the future, not for years; `skew` seconds either way.

    Returns by how many seconds the platform's clock is ahead of ours (see `clock_offset`).
    """
    moment = now().timestamp()
    expires = _seconds(claims, "exp", Refusal.EXPIRY_MISSING)
    issued = _seconds(claims, "iat", Refusal.ISSUED_AT_MISSING)
    offset = clock_offset(issued, begun_at, moment)
    if expires <= moment - skew:
        raise LaunchRefused(Refusal.TOKEN_EXPIRED, clock_offset=offset)
    if issued > moment + skew:
        raise LaunchRefused(Refusal.TOKEN_EARLY, "iat", clock_offset=offset)
    if expires - issued > LONGEST_LIFE:
        raise LaunchRefused(Refusal.TOKEN_LIVES_TOO_LONG)
    if "nbf" in claims and _seconds(claims, "nbf", Refusal.TOKEN_MALFORMED) > moment + skew:
        raise LaunchRefused(Refusal.TOKEN_EARLY, "nbf", clock_offset=offset)
    return offset


def clock_offset(issued: float, begun_at: int, moment: float) -> float:
    """Seconds by which the platform's clock must be ahead of ours, below zero behind, at the least.

    The token was made after our login began and before now, so its time lies between the two if the clocks
    agree; a token that merely waited says nothing about them. Platforms write whole seconds.
    """
    ahead, behind = issued - moment, issued + 1 - begun_at
    return round(ahead if ahead > 0 else min(behind, 0.0), 1)


def check_tenant(claims: Claims, platform: Platform) -> None:
    """Issuer, audience and authorized party are the registration's the login began with."""
    if claims.get("iss") != platform.issuer:
        raise LaunchRefused(Refusal.ISSUER_WRONG)
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if platform.client_id not in audiences:
        raise LaunchRefused(Refusal.AUDIENCE_WRONG)
    party = claims.get("azp")
    # OpenID Connect core 3.1.3.7: with several audiences the party must be named.
    if (party is not None or len(audiences) > 1) and party != platform.client_id:
        raise LaunchRefused(Refusal.AUTHORIZED_PARTY_WRONG)


def read_deployment_id(claims: Claims, state: State) -> str:
    """The platform's deployment id, the same that the login named if it named one."""
    deployment_id = _identifier(claims, DEPLOYMENT_ID, claims.get(DEPLOYMENT_ID))
    if deployment_id is None:
        raise LaunchRefused(Refusal.DEPLOYMENT_MISSING)
    if state.deployment_hint is not None and state.deployment_hint != deployment_id:
        raise LaunchRefused(Refusal.DEPLOYMENT_WRONG)
    return deployment_id


def check_message(claims: Claims, state: State) -> None:
    """Shapes of what LTI requires, so that what reads them later meets no surprise."""
    kind = claims.get(MESSAGE_TYPE)
    if not kind:
        raise LaunchRefused(Refusal.MESSAGE_TYPE_MISSING)
    if kind not in (RESOURCE_LINK_REQUEST, DEEP_LINKING_REQUEST):
        raise LaunchRefused(Refusal.MESSAGE_TYPE_UNKNOWN)
    if claims.get(VERSION) != "1.3.0":
        raise LaunchRefused(Refusal.VERSION_WRONG)
    target = claims.get(TARGET_LINK_URI)
    if not isinstance(target, str) or digest(target) != state.target_digest:
        raise LaunchRefused(Refusal.TARGET_WRONG)
    _check_subject(claims.get("sub"))
    _check_roles(claims.get(ROLES))
    link = _part(claims, RESOURCE_LINK)
    if kind == RESOURCE_LINK_REQUEST and _identifier(claims, RESOURCE_LINK, link.get("id")) is None:
        raise LaunchRefused(Refusal.RESOURCE_LINK_MISSING)
    settings = _part(claims, DEEP_LINKING)
    if kind == DEEP_LINKING_REQUEST and _web_address(settings.get("deep_link_return_url")) is None:
        raise LaunchRefused(Refusal.RETURN_URL_MALFORMED, "absent")
    if kind == DEEP_LINKING_REQUEST and deep_linking.LINK not in deep_linking.texts(
        settings.get("accept_types")
    ):
        raise LaunchRefused(Refusal.DEEP_LINKING_UNSUPPORTED)


def read_launch(claims: Claims, platform: Platform, deployment: int, deployment_id: str) -> Launch:
    """The launch that checked claims say."""
    context = _part(claims, CONTEXT)
    link = _part(claims, RESOURCE_LINK)
    presentation = _part(claims, PRESENTATION)
    product = _part(claims, TOOL_PLATFORM)
    return Launch(
        registration_id=platform.id,
        issuer=platform.issuer,
        client_id=platform.client_id,
        deployment=deployment,
        deployment_id=deployment_id,
        subject=claims["sub"],
        roles=tuple(claims[ROLES]),
        context_id=_identifier(claims, CONTEXT, context.get("id")),
        context_label=values.text(context.get("label"), 200),
        context_title=values.text(context.get("title"), 200),
        resource_link_id=_identifier(claims, RESOURCE_LINK, link.get("id")),
        resource_link_title=values.text(link.get("title"), 200),
        name=values.text(claims.get("name"), 200),
        given_name=values.text(claims.get("given_name"), 200),
        family_name=values.text(claims.get("family_name"), 200),
        email=values.email(claims.get("email")),
        locale=values.text(presentation.get("locale"), 35) or values.text(claims.get("locale"), 35),
        target_link_uri=claims[TARGET_LINK_URI],
        message_type=claims[MESSAGE_TYPE],
        memberships_url=_memberships_url(_part(claims, MEMBERSHIPS)),
        return_url=_web_address(presentation.get("return_url")),
        document_target=values.text(presentation.get("document_target"), 20),
        platform_family=(values.text(product.get("product_family_code"), 50) or "").lower(),
        platform_name=values.text(product.get("name"), 200) or "",
        custom=_read_custom(_part(claims, CUSTOM)),
        issued_at=datetime.fromtimestamp(claims["iat"], UTC),
        gradebook=_gradebook(_part(claims, GRADEBOOK)),
        deep_linking=_read_deep_linking(claims),
    )


def _read_deep_linking(claims: Claims) -> DeepLinking | None:
    if claims[MESSAGE_TYPE] != DEEP_LINKING_REQUEST:
        return None
    settings = _part(claims, DEEP_LINKING)
    return_url = _web_address(settings.get("deep_link_return_url")) or ""
    return deep_linking.read(settings, return_url, _part(claims, GRADEBOOK).get("scope"))


def title_of(claims: Claims) -> str:
    """Where a launch comes from, for whoever approves its deployment."""
    return values.text(_part(claims, TOOL_PLATFORM).get("name"), 200) or (
        values.text(_part(claims, CONTEXT).get("title"), 200) or ""
    )


def _seconds(claims: Claims, name: str, missing: Refusal) -> float:
    value = claims.get(name)
    if value is None:
        raise LaunchRefused(missing)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LAST_SECOND:
        raise LaunchRefused(Refusal.TOKEN_MALFORMED, name)
    return value


def _check_subject(subject: Any) -> None:
    """LTI 1.3 core 5.3.6.1: at most 255 ASCII characters. Without one the launch is anonymous."""
    if subject is None or subject == "":
        raise LaunchRefused(Refusal.SUBJECT_MISSING)
    if not isinstance(subject, str) or len(subject) > values.ID_LENGTH:
        raise LaunchRefused(Refusal.SUBJECT_MALFORMED)
    if not (subject.isascii() and subject.isprintable()):
        raise LaunchRefused(Refusal.SUBJECT_MALFORMED)


def _check_roles(roles: Any) -> None:
    """A list of strings; an empty one is legal."""
    if not isinstance(roles, list) or len(roles) > MOST_ROLES:
        raise LaunchRefused(Refusal.ROLES_MALFORMED)
    for role in roles:
        if not isinstance(role, str) or len(role) > LONGEST_ROLE or not role.isprintable():
            raise LaunchRefused(Refusal.ROLES_MALFORMED)


def _part(claims: Claims, name: str) -> Mapping[str, Any]:
    """A claim that is an object; empty when absent."""
    part = claims.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise LaunchRefused(Refusal.CLAIM_MALFORMED, name)
    return part


def _identifier(claims: Claims, name: str, value: Any) -> str | None:
    try:
        return values.identifier(value)
    except values.ValueRefused:
        raise LaunchRefused(Refusal.CLAIM_MALFORMED, name) from None


def _web_address(value: Any) -> str | None:
    """An http(s) address to send people to; None when absent. Anything else is refused, not dropped."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 4000 or not value.isprintable() or "\\" in value:
        raise LaunchRefused(Refusal.RETURN_URL_MALFORMED)
    try:
        parts = urlsplit(value)
    except ValueError:
        raise LaunchRefused(Refusal.RETURN_URL_MALFORMED) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LaunchRefused(Refusal.RETURN_URL_MALFORMED)
    return value


def _memberships_url(service: Mapping[str, Any]) -> str | None:
    return _service_url(service.get("context_memberships_url"))


def _service_url(url: Any) -> str | None:
    """Checked for good when it is asked (lti/outgoing.py)."""
    return url if isinstance(url, str) and url.isprintable() and len(url) <= 4000 and url else None


def _gradebook(endpoint: Mapping[str, Any]) -> Gradebook | None:
    lineitems, lineitem = _service_url(endpoint.get("lineitems")), _service_url(endpoint.get("lineitem"))
    if lineitems is None and lineitem is None:
        return None
    scopes = endpoint.get("scope")
    named = scopes[:MOST_SCOPES] if isinstance(scopes, list) else []
    return Gradebook(lineitems, lineitem, tuple(sorted({s for s in map(_service_url, named) if s})))


def _read_custom(custom: Mapping[str, Any]) -> Mapping[str, str]:
    read: dict[str, str] = {}
    for name, value in list(custom.items())[:MOST_CUSTOM]:
        key, said = values.text(name, 200), values.text(value, LONGEST_CUSTOM)
        if key is not None and said is not None:
            read[key] = said
    return read
