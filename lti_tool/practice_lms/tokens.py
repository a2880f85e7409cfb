"""The token endpoint's rules: client credentials with a signed assertion.

1EdTech Security Framework 1.0, section 4.1, which asks for RFC 7523.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME = 3600
_LEEWAY = 60
_LONGEST_ASSERTION = 3600


class TokenRefused(Exception):
    """The endpoint gives no token; carries the OAuth error code and the status (RFC 6749, section 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token the platform gave out."""

    value: str
    client_id: str
    scopes: frozenset[str]
    expires_at: float


@dataclass(frozen=True, slots=True)
class Client:
    """What the endpoint knows of a tool: the scopes it may have and how to get its keys."""

    client_id: str
    scopes: frozenset[str]
    fetch_keys: Callable[[], Mapping[str, Any]]


class AccessTokens:
    """Tokens given out, and the assertions already used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, AccessToken] = {}
        self._used: set[tuple[str, str]] = set()

    def grant(
        self, form: Mapping[str, str], find_client: Callable[[str], Client | None], audience: str, now: float
    ) -> AccessToken:
        """A token for a correct request; raises TokenRefused for any other."""
        if form.get("grant_type") != "client_credentials":
            raise TokenRefused("unsupported_grant_type", "grant_type must be client_credentials")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise TokenRefused("invalid_request", f"client_assertion_type must be {ASSERTION_TYPE}")
        assertion = form.get("client_assertion", "")
        client = find_client(_claimed_client(assertion))
        if client is None:
            raise TokenRefused("invalid_client", "no tool has this client_id", 401)
        claims = _verified(assertion, client, audience, now)
        asked = frozenset(form.get("scope", "").split())
        if not asked or not asked <= client.scopes:
            raise TokenRefused("invalid_scope", "a scope is asked for that this tool was not granted")
        with self._lock:
            use = (client.client_id, claims["jti"])
            if use in self._used:
                raise TokenRefused("invalid_client", "this assertion (jti) was used before", 401)
            self._used.add(use)
            token = AccessToken(secrets.token_urlsafe(24), client.client_id, asked, now + LIFETIME)
            self._tokens[token.value] = token
        return token

    def find(self, authorization: str, now: float) -> AccessToken | None:
        """The token an Authorization header carries, while it is good."""
        scheme, _, value = authorization.partition(" ")
        with self._lock:
            token = self._tokens.get(value)
        if scheme.lower() != "bearer" or token is None or token.expires_at <= now:
            return None
        return token

    def revoke_all(self) -> None:
        """No token is good any more; the tool has to ask for new ones."""
        with self._lock:
            self._tokens.clear()


def _claimed_client(assertion: str) -> str:
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise TokenRefused("invalid_client", f"the assertion is no JWT: {error}", 401) from error
    return str(claims.get("iss", ""))


def _verified(assertion: str, client: Client, audience: str, now: float) -> dict[str, Any]:
    """The assertion's claims once every one is checked, against the platform's own clock."""
    key = _key_for(assertion, client)
    try:
        claims: dict[str, Any] = jwt.decode(
            assertion,
            key,
            algorithms=["RS256"],
            issuer=client.client_id,
            audience=audience,
            options={
                "require": ["iss", "sub", "aud", "exp", "iat", "jti"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.InvalidTokenError as error:
        raise TokenRefused("invalid_client", f"the assertion does not hold: {error}", 401) from error
    if claims["sub"] != client.client_id:
        raise TokenRefused("invalid_client", "sub must be the client_id", 401)
    if not isinstance(claims["jti"], str) or not claims["jti"]:
        raise TokenRefused("invalid_client", "jti must be a string", 401)
    if not isinstance(claims["exp"], int) or not isinstance(claims["iat"], int):
        raise TokenRefused("invalid_client", "exp and iat must be whole numbers", 401)
    if claims["exp"] + _LEEWAY <= now:
        raise TokenRefused("invalid_client", "the assertion has expired", 401)
    if claims["iat"] - _LEEWAY > now:
        raise TokenRefused("invalid_client", "the assertion comes from the future", 401)
    if claims["exp"] - claims["iat"] > _LONGEST_ASSERTION:
        raise TokenRefused("invalid_client", "the assertion lives longer than an hour", 401)
    return claims


def _key_for(assertion: str, client: Client) -> jwt.PyJWK:
    kid = jwt.get_unverified_header(assertion).get("kid")
    if not kid:
        raise TokenRefused("invalid_client", "the assertion names no kid", 401)
    try:
        keys = jwt.PyJWKSet.from_dict(dict(client.fetch_keys()))
    except (jwt.PyJWTError, OSError, AttributeError, TypeError, ValueError) as error:
        raise TokenRefused("invalid_client", f"the tool's key set cannot be read: {error}", 401) from error
    for key in keys.keys:
        if key.key_id == kid:
            return key
    raise TokenRefused("invalid_client", f"the tool's key set has no key {kid}", 401)
