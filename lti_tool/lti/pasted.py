"""What a person pastes to see how it would be read: role lines, an id_token, its claims, a roster's member.

Nothing is verified, so nothing that is read here may let anybody in anywhere. Pure; keeps nothing.
"""

from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec

from lti_tool.lti import values
from lti_tool.lti.claims import CONTEXT, LONGEST_ROLE, MOST_ROLES, ROLES


class PastedUnreadable(Exception):
    """It looks like a token or JSON and is not, or it holds no list of roles; `.reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pasted:
    """The roles of a launch or a member, as sent, and whose they are if that was said."""

    roles: tuple[str, ...]
    name: str = ""
    course: str = ""
    # Out of a signed token whose signature nobody checked.
    from_token: bool = False


def read_pasted(text: str) -> Pasted:
    """Roles one a line, or JSON, or a token.

    Raises PastedUnreadable: not_json, not_token, no_roles, too_many.
    """
    text = text.strip().strip("'\"").strip()
    if text[:1] in ("{", "["):
        return _read_json(text)
    if "id_token=" in text:
        text = parse_qs(text.replace("\n", "").lstrip("?")).get("id_token", [""])[0]
        return _read_token(text)
    if text.startswith("eyJ"):
        return _read_token("".join(text.split()))
    lines = (line.strip().strip(",'\"").strip() for line in text.splitlines())
    return Pasted(_checked([line for line in lines if line]))


def _read_json(text: str) -> Pasted:
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise PastedUnreadable("not_json") from None
    if isinstance(said, list):
        return Pasted(_checked(said))
    token = said.get("id_token")
    return _read_token(token) if isinstance(token, str) else _read_claims(said)


def _read_token(token: str) -> Pasted:
    parts = token.split(".")
    if len(parts) != 3:
        raise PastedUnreadable("not_token")
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise PastedUnreadable("not_token") from None
    if not isinstance(claims, dict):
        raise PastedUnreadable("not_token")
    return _read_claims(claims, from_token=True)


def _read_claims(claims: dict[str, Any], *, from_token: bool = False) -> Pasted:
    """Of all that a launch says only roles, name and course are looked at."""
    context = claims.get(CONTEXT)
    title = context.get("title") if isinstance(context, dict) else None
    return Pasted(
        _checked(claims.get(ROLES, claims.get("roles"))),
        values.text(claims.get("name"), 200) or "",
        values.text(title, 200) or "",
        from_token,
    )


def _checked(roles: Any) -> tuple[str, ...]:
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise PastedUnreadable("no_roles")
    if len(roles) > MOST_ROLES or any(len(role) > LONGEST_ROLE for role in roles):
        raise PastedUnreadable("too_many")
    return tuple(roles)
