"""Values that must not lie readable in the database: sealed with a key derived from the secret."""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import current_app


class SealBroken(Exception):
    """What was sealed cannot be opened: another secret key, or the value was changed."""


# Random bytes before each sealed value; never the same twice under one key.
_NONCE = 12
# How values begin that version 0.1 sealed, as Fernet tokens: signing keys are such, and mail that waits.
_FERNET = "gAAAA"


def _key(purpose: str) -> bytes:
    secret = str(current_app.config["SECRET_KEY"]).encode()
    return HKDF(hashes.SHA256(), 32, None, f"doorlist {purpose}".encode()).derive(secret)


def seal(purpose: str, value: str) -> str:
    """`value`, encrypted and authenticated; only `unseal` with the same purpose opens it."""
    return seal_all(purpose, [value])[0]


def seal_all(purpose: str, values: Iterable[str]) -> list[str]:
    """`seal` for many values; the key is derived once."""
    key = AESGCM(_key(purpose))
    sealed = []
    for value in values:
        nonce = os.urandom(_NONCE)
        sealed.append(base64.urlsafe_b64encode(nonce + key.encrypt(nonce, value.encode(), None)).decode())
    return sealed


def unseal(purpose: str, sealed: str) -> str:
    """What `seal` was given. Raises SealBroken."""
    key = _key(purpose)
    try:
        if sealed.startswith(_FERNET):
            return Fernet(base64.urlsafe_b64encode(key)).decrypt(sealed.encode()).decode()
        content = base64.urlsafe_b64decode(sealed.encode())
        return AESGCM(key).decrypt(content[:_NONCE], content[_NONCE:], None).decode()
    except (InvalidTag, InvalidToken, ValueError, binascii.Error):
        raise SealBroken(purpose) from None


def fingerprint(token: str) -> str:
    """SHA-256 of a random token, as hex: all we store of it."""
    return hashlib.sha256(token.encode()).hexdigest()
