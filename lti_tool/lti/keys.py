"""Our key pairs: with them we prove to a platform's token service who we are (security framework 4.1).

The private key lies sealed in the database, the public one is at /lti/jwks.json. Rotation publishes a new
key before it signs, so that platforms which cache our keys have seen it.
"""

import secrets
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import RSAAlgorithm
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.database import Base, db, now
from lti_tool.sealing import SealBroken, seal, unseal

# How long a new key is published before it signs, and an old one after it signed last.
OVERLAP = timedelta(minutes=15)
KEPT = timedelta(days=1)
_PURPOSE = "lti tool key"


class KeyUnreadable(Exception):
    """Our key was sealed with another SECRET_KEY. Set that one again, or make a new key (`keys rotate`)."""


class ToolKey(Base):
    """One key pair of ours."""

    __tablename__ = "tool_key"

    id: Mapped[int] = mapped_column(primary_key=True)
    kid: Mapped[str] = mapped_column(unique=True)
    # PKCS 8 PEM, sealed
    private_key: Mapped[str]
    # JSON, as it stands in our key set
    public_jwk: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    # From then on it signs no more; a day later it leaves the key set.
    retired_at: Mapped[datetime | None]

    def open(self) -> str:
        """The private key as PEM. Raises KeyUnreadable."""
        try:
            return unseal(_PURPOSE, self.private_key)
        except SealBroken:
            raise KeyUnreadable(self.kid) from None

    def signer(self) -> RSAPrivateKey:
        """The private key, ready to sign. Raises KeyUnreadable."""
        return _read(self.open())


@lru_cache(maxsize=8)
def _read(pem: str) -> RSAPrivateKey:
    """Reading a key tests its primes: a twentieth of a second, so it is done once in a process."""
    return cast(RSAPrivateKey, load_pem_private_key(pem.encode(), password=None))


def current_key() -> ToolKey:
    """The key that signs now; the first one is made here.

    Two processes may make the first one at the same time: both keys are published and the older signs.
    """
    return _find_signing() or _make()


def _find_signing() -> ToolKey | None:
    signing = or_(ToolKey.retired_at.is_(None), ToolKey.retired_at > now())
    return db.session.scalar(select(ToolKey).where(signing).order_by(ToolKey.id).limit(1))


def jwks() -> dict[str, list[dict[str, Any]]]:
    """Our key set: every key that signs, will sign or signed within the last day."""
    current_key()
    published = or_(ToolKey.retired_at.is_(None), ToolKey.retired_at > now() - KEPT)
    rows = db.session.scalars(select(ToolKey.public_jwk).where(published).order_by(ToolKey.id))
    return {"keys": [msgspec.json.decode(row) for row in rows]}


def rotate(*, at_once: bool = False) -> ToolKey:
    """A new key: published now, signing in 15 minutes. `at_once`, for a stolen key, drops the old ones.

    Where the old key cannot be opened any more the new one signs from this moment: nothing else could.
    """
    ends = now() - KEPT if at_once else now() + OVERLAP if is_readable() else now()
    db.session.execute(update(ToolKey).where(ToolKey.retired_at.is_(None)).values(retired_at=ends))
    if at_once:
        db.session.execute(update(ToolKey).where(ToolKey.retired_at > ends).values(retired_at=ends))
    return _make()


def is_readable() -> bool:
    """Can we open the key that signs? (No key yet is no trouble: the first one is made when needed.)"""
    key = _find_signing()
    try:
        if key is not None:
            key.open()
    except KeyUnreadable:
        return False
    return True


def rotate_if_due(days: int) -> ToolKey | None:
    """A new key if the newest is `days` old; 0 is never. Of two workers who ask at once, one makes it.

    A key that cannot be opened is left alone: the worker may be the one with the wrong SECRET_KEY.
    """
    if not days:
        return None
    oldest = now() - timedelta(days=days)
    newest = select(ToolKey).where(ToolKey.retired_at.is_(None)).order_by(ToolKey.id.desc()).limit(1)
    found = db.session.scalar(newest)
    if found is None or found.created_at > oldest:
        return None
    found = db.session.get_one(ToolKey, found.id, with_for_update=True, populate_existing=True)
    if found.retired_at is not None or not is_readable():
        return None
    return rotate()


def _make() -> ToolKey:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = secrets.token_hex(10)
    public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    jwk = {"kty": "RSA", "n": public["n"], "e": public["e"], "kid": kid, "alg": "RS256", "use": "sig"}
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = ToolKey(kid=kid, private_key=seal(_PURPOSE, pem), public_jwk=msgspec.json.encode(jwk).decode())
    db.session.add(key)
    db.session.flush()
    return key
