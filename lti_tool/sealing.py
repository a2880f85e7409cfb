"""Values that must not lie readable in the database: sealed with a key derived from the secret."""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import current_app


class SealBroken(Exception):
    """What was sealed cannot be opened: another secret key, or the value was changed."""


def _fernet(purpose: str) -> Fernet:
    secret = str(current_app.config["SECRET_KEY"]).encode()
    key = HKDF(hashes.SHA256(), 32, None, f"doorlist {purpose}".encode()).derive(secret)
    return Fernet(base64.urlsafe_b64encode(key))


def seal(purpose: str, value: str) -> str:
    """`value`, encrypted and authenticated; only `unseal` with the same purpose opens it."""
    return _fernet(purpose).encrypt(value.encode()).decode()


def unseal(purpose: str, sealed: str) -> str:
    """What `seal` was given. Raises SealBroken."""
    try:
        return _fernet(purpose).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise SealBroken(purpose) from None


def fingerprint(token: str) -> str:
    """SHA-256 of a random token, as hex: all we store of it."""
    return hashlib.sha256(token.encode()).hexdigest()
