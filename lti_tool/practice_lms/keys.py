"""The platform's signing keys, and tokens signed by hand.

Signing by hand lets a test make tokens that a careful library refuses to make: no algorithm, a short key,
the public key as an HMAC secret, a subject that is a number.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
    "RS512": hashes.SHA512(),
}
_HMAC_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}

SecretKey = rsa.RSAPrivateKey | bytes | str


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key with its kid."""

    kid: str
    private_key: rsa.RSAPrivateKey

    @property
    def public_pem(self) -> str:
        """The public half as PEM."""
        return (
            self.private_key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode("ascii")
        )

    @property
    def private_pem(self) -> str:
        """The private half as PEM (PKCS 8, not encrypted)."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii")

    @property
    def jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517)."""
        numbers = self.private_key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self.kid,
            "e": _number(numbers.e),
            "n": _number(numbers.n),
        }


def new_key(bits: int = 2048) -> SigningKey:
    """A fresh key; a test may ask for a short one to see it refused."""
    return SigningKey(secrets.token_hex(10), rsa.generate_private_key(public_exponent=65537, key_size=bits))


def sign_token(
    claims: Mapping[str, Any], headers: Mapping[str, Any], key: SecretKey | None, algorithm: str
) -> str:
    """A JWT in compact form (RFC 7515); `headers` come last, and None there takes a header away."""
    given = {"typ": "JWT", "alg": algorithm, **headers}
    header = {name: value for name, value in given.items() if value is not None}
    parts = (json.dumps(part, ensure_ascii=False, separators=(",", ":")) for part in (header, dict(claims)))
    signed = ".".join(_text(part.encode()) for part in parts)
    return f"{signed}.{_text(_signature(signed.encode('ascii'), key, algorithm))}"


def _signature(signed: bytes, key: SecretKey | None, algorithm: str) -> bytes:
    if algorithm == "none":
        return b""
    if algorithm in _HMAC_HASHES and isinstance(key, str | bytes):
        secret = key.encode() if isinstance(key, str) else key
        return hmac.new(secret, signed, _HMAC_HASHES[algorithm]).digest()
    if algorithm in _RSA_HASHES and isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), _RSA_HASHES[algorithm])
    raise ValueError(f"{algorithm} cannot be signed with a key of type {type(key).__name__}")
