"""The keys platforms sign with: parsed once, kept in this process, fetched seldom.

Kept by registration and address, so one tenant's keys never check another's token. An unknown kid asks
the platform again at most every 30 seconds; a failed answer never counts as keys.
"""

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from flask import current_app
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from lti_tool.database import now
from lti_tool.lti import outgoing, values
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.refusal import LaunchRefused, Refusal
from lti_tool.lti.registrations import Platform

REFETCH = timedelta(seconds=30)
# Sooner while we have no key at all: nobody can launch until then.
FIRST_FETCH = timedelta(seconds=5)
FRESH = timedelta(hours=4)
# Old keys serve while the platform's address is down, but a withdrawn key must end some day.
STALE = timedelta(hours=24)
SMALLEST_KEY, LARGEST_KEY = 2048, 8192  # bits
MOST_KEYS = 100
# Seconds a launch waits for another launch's fetch.
PATIENCE = 7.0


@dataclass(slots=True)
class KeyRing:
    """What one platform's key set said last."""

    keys: dict[str, RSAPublicKey] = field(default_factory=dict)
    # kids of keys too small to trust
    weak: frozenset[str] = frozenset()
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def find_key(platform: Platform, kid: str) -> RSAPublicKey:
    """The platform's key with this id.

    May fetch, and then ends the open transaction (outgoing.let_go). Raises LaunchRefused.
    """
    ring = _ring(platform)
    key = ring.keys.get(kid)
    if key is not None and _is_younger(ring.fetched_at, FRESH):
        return key
    asked = ring.tried_at
    failure = _refresh(ring, platform.jwks_url, waiting=key is None, kid=kid)
    key = ring.keys.get(kid)
    if key is not None and _is_younger(ring.fetched_at, STALE):
        return key
    if kid in ring.weak:
        raise LaunchRefused(Refusal.KEY_WEAK)
    if failure or not _is_younger(ring.fetched_at, STALE):
        raise LaunchRefused(Refusal.KEYS_UNAVAILABLE, failure or "tried a moment ago")
    # A platform that changed its keys within those 30 seconds: the next launch asks again.
    raise LaunchRefused(Refusal.KEY_UNKNOWN, "tried a moment ago" if ring.tried_at == asked else "")


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a platform's key set says just now."""

    kids: tuple[str, ...]
    # Of keys that are too small to trust.
    weak: tuple[str, ...]


def look(platform: Platform) -> KeySet:
    """Ask for the key set now, for whoever looks after the connection. Raises PlatformUnavailable."""
    outgoing.let_go()
    keys, weak = _fetch(platform.jwks_url)
    return KeySet(tuple(values.text(kid, 60) or "" for kid in keys), tuple(sorted(weak)))


def _ring(platform: Platform) -> KeyRing:
    rings: dict[tuple[int, str, str], KeyRing] = current_app.extensions.setdefault("lti.platform_keys", {})
    # The client as well: a database may give a removed registration's id to the next one.
    name = (platform.id, platform.client_id, platform.jwks_url)
    return rings.get(name) or rings.setdefault(name, KeyRing())


def _is_younger(moment: datetime | None, age: timedelta) -> bool:
    # A clock set back counts as old: asking once too often harms nobody.
    return moment is not None and timedelta(0) <= now() - moment < age


def _refresh(ring: KeyRing, url: str, *, waiting: bool, kid: str) -> str:
    """Fetch the key set if it is time to; the reason it failed, or nothing."""
    pause = REFETCH if ring.keys or ring.weak else FIRST_FETCH
    if _is_younger(ring.tried_at, pause):
        return ""
    outgoing.let_go()
    # Who has an old key need not queue behind a slow platform.
    if not ring.lock.acquire(blocking=waiting, timeout=PATIENCE if waiting else -1):
        return "busy" if waiting else ""
    try:
        if kid in ring.keys and _is_younger(ring.fetched_at, FRESH):
            return ""
        if _is_younger(ring.tried_at, pause):
            return ""
        return _fetch_into(ring, url)
    finally:
        ring.lock.release()


def _fetch_into(ring: KeyRing, url: str) -> str:
    """Ask now; the reason it failed, or nothing. The old keys stay until there are new ones."""
    try:
        ring.keys, ring.weak = _fetch(url)
        ring.fetched_at = now()
    except PlatformUnavailable as error:
        return str(error)
    finally:
        # Afterwards: until then others wait for this answer instead of going without.
        ring.tried_at = now()
    return ""


def _fetch(url: str) -> tuple[dict[str, RSAPublicKey], frozenset[str]]:
    """The platform's usable keys and the ids of its weak ones. Raises PlatformUnavailable."""
    response = outgoing.session().get(url, headers={"Accept": "application/json"})
    if response.status_code != 200:
        raise PlatformUnavailable("key_set_refused", status=response.status_code)
    found: dict[str, RSAPublicKey] = {}
    weak: set[str] = set()
    for jwk in outgoing.read_json(response, _KeySet).keys[:MOST_KEYS]:
        kid, key = jwk.get("kid"), _parse(jwk)
        if not isinstance(kid, str) or key is None or kid in found:
            continue
        if key.key_size < SMALLEST_KEY:
            weak.add(kid)
        elif key.key_size <= LARGEST_KEY:
            found[kid] = key
    if not found and not weak:
        raise PlatformUnavailable("key_set_without_keys")
    return found, frozenset(weak)


def _parse(jwk: dict[str, Any]) -> RSAPublicKey | None:
    """An RSA key meant for RS256 signatures, or None (RFC 7517, section 4)."""
    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    # Only the public half, whatever else a careless platform published.
    public = {"kty": "RSA", "n": jwk.get("n"), "e": jwk.get("e")}
    if not isinstance(public["n"], str) or not isinstance(public["e"], str):
        return None
    try:
        key = RSAAlgorithm.from_jwk(public)
    except (InvalidKeyError, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) else None
