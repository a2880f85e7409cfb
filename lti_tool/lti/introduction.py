"""What we say of ourselves to a platform: the registration's body, and Canvas' JSON with the same facts."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lti_tool.lti.registration import (
    CLAIMS,
    DEEP_LINKING,
    RESOURCE_LINK,
    SCOPES,
    TOOL_CONFIGURATION,
    Configuration,
)

NAME = "Doorlist"
CANVAS = "https://canvas.instructure.com/lti/"
# Where each message should be offered, by the last part of what platforms call the place.
PLACES = {
    RESOURCE_LINK: ("course_navigation", "CourseNavigation"),
    DEEP_LINKING: ("link_selection", "ContentArea"),
}
# What every launch shall say: of which courses this one is a copy, of which link this one.
CUSTOM = {
    "context_id_history": "$Context.id.history",
    "resource_link_id_history": "$ResourceLink.id.history",
}
CANVAS_CUSTOM = {
    **CUSTOM,
    "canvas_course_id": "$Canvas.course.id",
    "canvas_section_ids": "$Canvas.course.sectionIds",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where we are, for browsers and platforms."""

    public: str
    login: str
    launch: str
    jwks: str
    logo: str

    @property
    def domain(self) -> str:
        """Host and, where unusual, port: Moodle compares it with the launch's."""
        return urlsplit(self.launch).netloc


def body(ours: Addresses, configuration: Configuration, description: str) -> dict[str, Any]:
    """The client registration: one for every platform, its places chosen from what the platform offers."""
    canvas = configuration.family == "canvas"
    opens = _message(RESOURCE_LINK, ours, configuration)
    tool: dict[str, Any] = {
        "domain": ours.domain,
        "target_link_uri": ours.launch,
        "description": description,
        "claims": list(CLAIMS),
        # Here and not in the messages, which Moodle does not read. Canvas takes no value but text.
        "custom_parameters": CANVAS_CUSTOM if canvas else CUSTOM,
        "messages": [opens],
    }
    if configuration.takes_picks:
        tool["messages"].append(_message(DEEP_LINKING, ours, configuration))
    if canvas:
        tool |= {CANVAS + "privacy_level": "public", CANVAS + "tool_id": NAME.lower()}
        opens.setdefault("placements", ["course_navigation"])
        opens |= {
            CANVAS + "course_navigation/default_enabled": True,
            CANVAS + "display_type": "full_width_in_context",
        }
    return {
        "application_type": "web",
        "response_types": ["id_token"],
        "grant_types": ["client_credentials", "implicit"],
        "initiate_login_uri": ours.login,
        "redirect_uris": [ours.launch],
        "client_name": NAME,
        "client_uri": ours.public,
        "logo_uri": ours.logo,
        "jwks_uri": ours.jwks,
        "token_endpoint_auth_method": "private_key_jwt",
        "scope": " ".join(configuration.offered),
        TOOL_CONFIGURATION: tool,
    }


def _message(kind: str, ours: Addresses, configuration: Configuration) -> dict[str, Any]:
    message: dict[str, Any] = {"type": kind, "target_link_uri": ours.launch, "label": NAME}
    places = [
        place for place in configuration.places.get(kind, ()) if place.rpartition("/")[2] in PLACES[kind]
    ]
    return message | {"placements": places} if places else message


def canvas_key(ours: Addresses, description: str) -> dict[str, Any]:
    """The same facts as Canvas' developer keys take them, pasted or from an address."""

    def placed(placement: str, kind: str, **more: Any) -> dict[str, Any]:
        return {
            "placement": placement,
            "message_type": kind,
            "target_link_uri": ours.launch,
            "text": NAME,
            "enabled": True,
            **more,
        }

    return {
        "title": NAME,
        "description": description,
        "oidc_initiation_url": ours.login,
        "target_link_uri": ours.launch,
        "redirect_uris": [ours.launch],
        "public_jwk_url": ours.jwks,
        "scopes": list(SCOPES),
        "custom_fields": CANVAS_CUSTOM,
        "extensions": [
            {
                "platform": "canvas.instructure.com",
                "domain": ours.domain,
                "tool_id": NAME.lower(),
                "privacy_level": "public",
                "settings": {
                    "text": NAME,
                    "icon_url": ours.logo,
                    "placements": [
                        placed("course_navigation", RESOURCE_LINK, display_type="full_width_in_context"),
                        placed("link_selection", DEEP_LINKING),
                    ],
                },
            }
        ],
    }
