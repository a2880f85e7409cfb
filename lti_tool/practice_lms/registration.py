"""Dynamic registration, the platform's side: its configuration, one-use tokens, and its exact checks.

What Moodle 4.5 and Canvas check was read in their code and seen in a running Moodle; the codes are theirs.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt

from .keys import sign_token
from .messages import FAMILY, MEMBERSHIPS_SCOPE
from .platform import Platform

TOOL_CONFIGURATION = "https://purl.imsglobal.org/spec/lti-tool-configuration"
PLATFORM = "https://purl.imsglobal.org/spec/lti-platform-configuration"
CANVAS = "https://canvas.instructure.com/lti/"
_AGS = "https://purl.imsglobal.org/spec/lti-ags/scope/"
SCORE, RESULT = _AGS + "score", _AGS + "result.readonly"
LINE_ITEM, LINE_ITEM_READ = _AGS + "lineitem", _AGS + "lineitem.readonly"
CANVAS_PLACEMENTS = {
    "resource_link": ("course_navigation", "account_navigation", "link_selection", "assignment_selection"),
    "deep_linking": ("link_selection", "assignment_selection", "editor_button", "module_index_menu_modal"),
}
_LIFETIME = 3600
_DISPLAY_TYPES = {
    "default",
    "full_width",
    "full_width_in_context",
    "full_width_with_nav",
    "in_nav_context",
    "borderless",
    "new_window",
}
_PRIVACY_LEVELS = {"anonymous", "email_only", "name_only", "public"}
_HOST = re.compile(
    r"(([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])\.)*"
    r"([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(:[0-9]{1,5})?"
)


class RegistrationDenied(Exception):
    """The platform does not take the tool; carries its own code for it and the status."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Card:
    """A tool that registered itself, as its card in the platform's administration shows it."""

    client_id: str
    deployment_id: str
    name: str
    body: Mapping[str, Any]


class Registry:
    """Tools that register themselves at a platform; may be used by any number of threads.

    With `activates` off a new tool is pending, as in Moodle, until `activate` is called. Moodle's answer
    always names the deployment; Canvas' does with `tells_deployment`, a feature of its newer versions.
    """

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.activates = True
        self.tells_deployment = False
        self.cards: list[Card] = []
        # What each request to register brought, in order.
        self.bodies: list[Any] = []
        self._lock = threading.Lock()
        self._used: set[str] = set()
        self._next_type = 2

    # Beginning, and what a tool finds

    def begin(self, *, update: str | None = None) -> dict[str, str]:
        """The parameters that the tool's link is opened with; `update` is the client_id of a tool of ours."""
        now = int(self.platform.now())
        claims: dict[str, Any] = {
            "iss": self.platform.issuer,
            "sub": update or secrets.token_urlsafe(11),
            "scope": "reg-update" if update else "reg",
            "jti": secrets.token_hex(8),
            "iat": now,
            "exp": now + _LIFETIME,
        }
        key = self.platform.key
        token = sign_token(claims, {"kid": key.kid}, key.private_key, "RS256")
        url = f"{self.platform.server_url}/openid-configuration"
        if self.platform.flavour == "canvas":
            url += "?" + urlencode({"registration_token": token})
        return {"openid_configuration": url, "registration_token": token}

    def link(self, tool_link: str, *, update: str | None = None) -> str:
        """The tool's link as the platform opens it."""
        joint = "&" if urlsplit(tool_link).query else "?"
        return tool_link + joint + urlencode(self.begin(update=update))

    def configuration(self) -> dict[str, Any]:
        """The platform as it describes itself."""
        platform = self.platform
        canvas = platform.flavour == "canvas"
        messages: list[dict[str, Any]] = [
            {"type": "LtiResourceLinkRequest"},
            {"type": "LtiDeepLinkingRequest", "placements": ["ContentArea"]},
        ]
        if canvas:
            messages[0]["placements"] = list(CANVAS_PLACEMENTS["resource_link"])
            messages[1]["placements"] = list(CANVAS_PLACEMENTS["deep_linking"])
        said = {
            "issuer": platform.issuer,
            "authorization_endpoint": platform.auth_url,
            "token_endpoint": platform.token_url,
            "jwks_uri": platform.jwks_url,
            "registration_endpoint": f"{platform.server_url}/openid-registration",
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["id_token"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "subject_types_supported": ["public"],
            "scopes_supported": [LINE_ITEM, LINE_ITEM_READ, RESULT, SCORE, MEMBERSHIPS_SCOPE, "openid"],
            "claims_supported": ["sub", "iss", "name", "given_name", "family_name", "email"],
            PLATFORM: {
                "product_family_code": FAMILY[platform.flavour][0],
                "version": "practice",
                "messages_supported": messages,
                "variables": ["Context.id", "Context.id.history", "ResourceLink.id"],
            },
        }
        if canvas:
            # A bare host, and not what its token endpoint wants to be called.
            said["authorization_server"] = urlsplit(platform.browser_url).netloc
        return said

    # Registering

    def check_token(self, bearer: str) -> dict[str, Any]:
        """The claims of a registration token that is ours, alive and unused. Raises RegistrationDenied."""
        if not bearer:
            raise RegistrationDenied("missing_registration_token", 401)
        key = self.platform.key
        try:
            claims: dict[str, Any] = jwt.decode(
                bearer, key.public_pem, algorithms=["RS256"], issuer=self.platform.issuer
            )
        except jwt.InvalidTokenError as error:
            raise RegistrationDenied("invalid_token", 401) from error
        if claims["jti"] in self._used:
            raise RegistrationDenied("token_already_used", 401)
        return claims

    def register(self, bearer: str, body: Any) -> dict[str, Any]:
        """Take a tool, or bring its registration up to date; the answer. Raises RegistrationDenied."""
        with self._lock:
            claims = self.check_token(bearer)
            self.bodies.append(body)
            if not isinstance(body, dict):
                raise RegistrationDenied("invalid_body")
            flavour = self.platform.flavour
            (check_for_canvas if flavour == "canvas" else check_for_moodle)(body)
            self._used.add(claims["jti"])
            updates = claims["scope"] == "reg-update"
            old = next((card for card in self.cards if card.client_id == claims["sub"]), None)
            if updates and old is None:
                raise RegistrationDenied("invalid_client", 401)
            if old is not None:
                card = Card(old.client_id, old.deployment_id, body["client_name"], body)
                self.cards[self.cards.index(old)] = card
            else:
                number, self._next_type = self._next_type, self._next_type + 1
                deployment = str(number) if flavour == "moodle" else f"{number}:{secrets.token_hex(8)}"
                card = Card(claims["sub"], deployment, body["client_name"], body)
                self.cards.append(card)
        if self.activates:
            self.activate(card.client_id)
        return self._answer(card)

    def activate(self, client_id: str) -> None:
        """Switch a tool on: it can be launched from now on."""
        card = next(card for card in self.cards if card.client_id == client_id)
        body, tool = card.body, card.body[TOOL_CONFIGURATION]
        claims = tool.get("claims") or []
        named = bool({"name", "given_name", "family_name"} & set(claims))
        self.platform.connect_tool(
            card.client_id,
            (card.deployment_id,),
            login_url=body["initiate_login_uri"],
            launch_url=tool["target_link_uri"],
            jwks_url=body["jwks_uri"],
            redirect_uris=body["redirect_uris"],
            scopes=str(body.get("scope", "")).split(),
            names=named,
            emails="email" in claims,
            custom=tool.get("custom_parameters", {}),
        )

    def _answer(self, card: Card) -> dict[str, Any]:
        body, asked = card.body, card.body[TOOL_CONFIGURATION]
        names = ("response_types", "jwks_uri", "initiate_login_uri", "grant_types", "redirect_uris")
        answer: dict[str, Any] = {name: body[name] for name in names if name in body}
        answer |= {"client_id": card.client_id, "client_name": card.name, "application_type": "web"}
        answer["token_endpoint_auth_method"] = "private_key_jwt"
        scopes = str(body.get("scope", "")).split()
        tool: dict[str, Any]
        if self.platform.flavour == "canvas":
            url = f"{self.platform.server_url}/api/lti/registrations/{card.deployment_id.partition(':')[0]}"
            tool = {**asked, CANVAS + "registration_config_url": url + "/view"}
            answer |= {"scope": " ".join([*scopes, "openid"]), "registration_client_uri": url}
            if self.tells_deployment:
                answer["deployment_id"] = card.deployment_id
        else:
            if LINE_ITEM in scopes:
                scopes = [SCORE, RESULT, LINE_ITEM_READ, LINE_ITEM, *(set(scopes) & {MEMBERSHIPS_SCOPE})]
            picks = [one for one in asked.get("messages", []) if one["type"] == "LtiDeepLinkingRequest"]
            tool = {
                "version": "1.3.0",
                "deployment_id": card.deployment_id,
                "target_link_uri": asked["target_link_uri"],
                "domain": asked["domain"],
                "description": asked.get("description", ""),
                "claims": [
                    "sub",
                    "iss",
                    *(one for one in asked.get("claims", []) if one not in ("sub", "iss")),
                ],
                "custom_parameters": asked.get("custom_parameters", {}),
                # Labels and placements are lost.
                "messages": [
                    {"type": one["type"], "target_link_uri": one.get("target_link_uri", "")} for one in picks
                ],
            }
            answer |= {"scope": " ".join(scopes)}
        return answer | {TOOL_CONFIGURATION: tool}


# --- what the platforms check ------------------------------------------------------------


def check_for_moodle(body: Mapping[str, Any]) -> None:
    """What Moodle 4.5 checks, in its order (registration_helper.php). Raises RegistrationDenied."""
    required = (
        "response_types",
        "initiate_login_uri",
        "redirect_uris",
        "client_name",
        "jwks_uri",
        "token_endpoint_auth_method",
        TOOL_CONFIGURATION,
    )
    for name in required:
        if not body.get(name):
            raise RegistrationDenied(f"missing required attribute {name.rpartition('/')[2]}")
    tool = body[TOOL_CONFIGURATION]
    if not tool.get("domain"):
        raise RegistrationDenied("missing required attribute domain")
    domain = str(tool["domain"])
    target = str(tool.get("target_link_uri") or f"https://{domain}")
    if domain.removeprefix("www.") != urlsplit(target).netloc.removeprefix("www."):
        raise RegistrationDenied("domain_targetlinkuri_mismatch")
    if "id_token" not in body["response_types"]:
        raise RegistrationDenied("invalid_response_types")
    if not isinstance(body["redirect_uris"], list):
        raise RegistrationDenied("invalid_redirect_uris")
    if body["token_endpoint_auth_method"] != "private_key_jwt":
        raise RegistrationDenied("invalid_token_endpoint_auth_method")
    if body.get("application_type", "web") != "web":
        raise RegistrationDenied("invalid_application_type")
    for name, value in tool.get("custom_parameters", {}).items():
        # One line each, cut at the first “=”.
        if "=" in name or re.search(r"[=\r\n]", str(value)):
            raise RegistrationDenied("invalid_custom_parameters")


def check_for_canvas(body: Mapping[str, Any]) -> None:
    """What Canvas checks: its model and the schema of the tool configuration. Raises RegistrationDenied."""

    def need(holds: bool, code: str) -> None:
        if not holds:
            raise RegistrationDenied(code, 422)

    need(body.get("application_type") == "web", "application_type")
    need({"client_credentials", "implicit"} <= set(body.get("grant_types", [])), "grant_types")
    need("id_token" in body.get("response_types", []), "response_types")
    need(body.get("token_endpoint_auth_method") == "private_key_jwt", "token_endpoint_auth_method")
    uris = body.get("redirect_uris")
    need(isinstance(uris, list) and bool(uris) and all(map(_is_url, uris)), "redirect_uris")
    for name in ("initiate_login_uri", "jwks_uri"):
        need(_is_url(body.get(name)), name)
    for name in ("logo_uri", "client_uri", "tos_uri", "policy_uri"):
        need(name not in body or _is_url(body[name]), name)
    need(bool(body.get("client_name")), "client_name")
    known = {LINE_ITEM, LINE_ITEM_READ, RESULT, SCORE, MEMBERSHIPS_SCOPE, "openid"}
    need(set(str(body.get("scope", "")).split()) <= known, "scopes")
    tool = body.get(TOOL_CONFIGURATION)
    if not isinstance(tool, dict):
        raise RegistrationDenied("lti_tool_configuration", 422)
    need(bool(_HOST.fullmatch(str(tool.get("domain", "")))), "domain")
    need(_are_texts(tool.get("claims")), "claims")
    need(tool.get(CANVAS + "privacy_level", "public") in _PRIVACY_LEVELS, "privacy_level")
    need(isinstance(tool.get(CANVAS + "tool_id", ""), str), "tool_id")
    need(_are_texts(list(tool.get("custom_parameters", {}).values())), "custom_parameters")
    need(isinstance(tool.get("messages"), list), "messages")
    for message in tool["messages"]:
        kind = {"LtiResourceLinkRequest": "resource_link", "LtiDeepLinkingRequest": "deep_linking"}.get(
            message.get("type")
        )
        if kind is None:
            raise RegistrationDenied("messages.type", 422)
        places = {*CANVAS_PLACEMENTS[kind], *(CANVAS + one for one in CANVAS_PLACEMENTS[kind])}
        places |= {"ContentArea", "RichTextEditor"}
        need(set(message.get("placements", [])) <= places, "messages.placements")
        need(isinstance(message.get("label", ""), str), "messages.label")
        need(_is_url(message.get("target_link_uri", "https://")), "messages.target_link_uri")
        need(message.get(CANVAS + "display_type", "default") in _DISPLAY_TYPES, "messages.display_type")
        default = message.get(CANVAS + "course_navigation/default_enabled", True)
        need(isinstance(default, bool), "messages.default_enabled")


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
