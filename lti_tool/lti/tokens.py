"""Access tokens for platform services: client credentials with a signed assertion (security framework 4.1).

Not built on pylti1p3's ServiceConnector: of its four methods the token cache has no end and no tenant, the
request lower-cases the next page's address and puts answers into exceptions, and what would be left is one
call of `jwt.encode`.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import jwt
import msgspec
import requests
from flask import current_app

from lti_tool.database import now
from lti_tool.lti import keys, outgoing
from lti_tool.lti.keys import KeyUnreadable
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registrations import Platform

ASSERTION_SECONDS = 300
# A token is renewed this long before it ends, so that it does not end on its way.
RESERVE = timedelta(seconds=60)
LONGEST_TOKEN = 16_000  # characters
# RFC 6749, section 5.2. Anything else that a platform calls its refusal is its own text, and stays there.
ERRORS = {
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
}


class TokenRefused(PlatformUnavailable):
    """The platform gives us no token. `error` is its own word for the reason, if that is one of `ERRORS`."""

    def __init__(self, error: str, *, status: int) -> None:
        super().__init__("token_refused", status=status)
        self.error = error


class _Refusal(msgspec.Struct):
    error: Any = None


class _Grant(msgspec.Struct):
    """RFC 6749, section 5.1. Some platforms write the seconds as text, some not at all."""

    access_token: str
    expires_in: Any = 3600
    # What was granted, where that is less than what was asked for.
    scope: Any = None


def access_token(platform: Platform, scope: str, *, renew: bool = False) -> str:
    """A token for `scope` (space-separated), kept until shortly before it ends; never across registrations.

    Ends the open transaction (outgoing.let_go). Raises PlatformUnavailable.
    """
    kept: dict[tuple[Any, ...], tuple[str, datetime]] = current_app.extensions.setdefault("lti.tokens", {})
    # More than the id: a database may give a removed registration's id to the next one.
    name = (platform.id, platform.issuer, platform.client_id, platform.token_url, scope)
    token, ends = kept.get(name, ("", now()))
    if not renew and ends > now():
        return token
    token, ends = _ask(platform, scope)
    kept[name] = (token, ends)
    return token


def granted_scopes(platform: Platform, scopes: Sequence[str]) -> frozenset[str]:
    """Which of `scopes` the platform grants just now. Raises PlatformUnavailable.

    Some narrow a request silently, some refuse it whole: then each scope is asked for by itself.
    """
    try:
        return _granted(platform, scopes)
    except TokenRefused as refused:
        if refused.error != "invalid_scope" or len(scopes) == 1:
            raise
    found: set[str] = set()
    for scope in scopes:
        try:
            found |= _granted(platform, [scope])
        except TokenRefused as refused:
            if refused.error != "invalid_scope":
                raise
    return frozenset(found)


def _granted(platform: Platform, scopes: Sequence[str]) -> frozenset[str]:
    said = _request(platform, " ".join(scopes)).scope
    # RFC 6749, section 5.1: left out where it is what was asked for.
    return frozenset(scopes) & frozenset(said.split()) if isinstance(said, str) else frozenset(scopes)


def _ask(platform: Platform, scope: str) -> tuple[str, datetime]:
    grant = _request(platform, scope)
    token = grant.access_token
    if not token or len(token) > LONGEST_TOKEN or not (token.isascii() and token.isprintable()):
        raise PlatformUnavailable("token_malformed")
    return token, now() + timedelta(seconds=_seconds(grant.expires_in)) - RESERVE


def _request(platform: Platform, scope: str) -> _Grant:
    """One request for a token. Raises PlatformUnavailable."""
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": _assertion(platform),
        "scope": scope,
    }
    outgoing.let_go()
    response = outgoing.session().post(platform.token_url, data=form, headers={"Accept": "application/json"})
    if 200 < response.status_code < 500:
        raise TokenRefused(_error(response), status=response.status_code)
    if response.status_code != 200:
        raise PlatformUnavailable("token_service_failed", status=response.status_code)
    grant: _Grant = outgoing.read_json(response, _Grant)
    return grant


def _error(response: requests.Response) -> str:
    """The platform's own word for its refusal, if it is one that everybody knows."""
    try:
        said = outgoing.read_json(response, _Refusal).error
    except PlatformUnavailable:
        return ""
    return said if isinstance(said, str) and said in ERRORS else ""


def _assertion(platform: Platform) -> str:
    key = keys.current_key()
    moment = int(now().timestamp())
    message = {
        "iss": platform.client_id,
        "sub": platform.client_id,
        "aud": platform.token_audience or platform.token_url,
        # A platform whose clock is behind must not see a token from the future.
        "iat": moment - 5,
        "exp": moment + ASSERTION_SECONDS,
        "jti": secrets.token_urlsafe(24),
    }
    try:
        private = key.signer()
    except KeyUnreadable:
        raise PlatformUnavailable("own_key_unreadable") from None
    return jwt.encode(message, private, algorithm="RS256", headers={"kid": key.kid})


def _seconds(said: Any) -> int:
    try:
        return max(0, min(int(said), 86_400))
    except (TypeError, ValueError, OverflowError):
        return 0
