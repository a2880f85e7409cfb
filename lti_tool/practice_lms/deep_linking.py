"""What comes back from a deep linking launch, checked (LTI Deep Linking 2.0, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from .campus import Campus
from .messages import CLAIM, DEEP_LINKING_CLAIM
from .people import Link

_LEEWAY = 60


class ContentRefused(Exception):
    """The tool's answer is not one the platform may trust."""


def content_items(
    message: str, keys: Mapping[str, Any], client_id: str, deployment_ids: tuple[str, ...], issuer: str
) -> list[dict[str, Any]]:
    """The content items of a signed LtiDeepLinkingResponse; raises ContentRefused."""
    try:
        kid = jwt.get_unverified_header(message).get("kid")
        found = {key.key_id: key for key in jwt.PyJWKSet.from_dict(dict(keys)).keys}
        if kid not in found:
            raise ContentRefused(f"the tool’s key set has no key {kid}")
        claims: dict[str, Any] = jwt.decode(
            message,
            found[kid],
            algorithms=["RS256"],
            issuer=client_id,
            audience=issuer,
            leeway=_LEEWAY,
            options={"require": ["iss", "aud", "exp", "iat", "nonce"]},
        )
    except jwt.PyJWTError as error:
        raise ContentRefused(f"the answer does not hold: {error}") from error
    expected = {"message_type": "LtiDeepLinkingResponse", "version": "1.3.0"}
    for name, value in expected.items():
        if claims.get(CLAIM + name) != value:
            raise ContentRefused(f"{name} must be {value}")
    if claims.get(CLAIM + "deployment_id") not in deployment_ids:
        raise ContentRefused("the deployment is not one of this tool")
    items = claims.get(DEEP_LINKING_CLAIM + "content_items", [])
    if not isinstance(items, list):
        raise ContentRefused("content_items must be a list")
    return items


def messages_of(message: str) -> dict[str, str]:
    """What a checked answer says to the person: `msg` and `errormsg` (section 4.5)."""
    claims: dict[str, Any] = jwt.decode(message, options={"verify_signature": False})
    said = {name: claims.get(DEEP_LINKING_CLAIM + name) for name in ("msg", "errormsg")}
    return {name: text for name, text in said.items() if isinstance(text, str)}


def place(campus: Campus, course: str, items: list[dict[str, Any]]) -> list[Link]:
    """The links among the items, placed in the course from which the tool was asked."""
    return [
        campus.place_link(
            course,
            str(item.get("title") or "Untitled"),
            url=str(item.get("url") or ""),
            custom={str(name): str(value) for name, value in (item.get("custom") or {}).items()},
        )
        for item in items
        if isinstance(item, dict) and item.get("type") == "ltiResourceLink"
    ]
