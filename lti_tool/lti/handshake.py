"""What survives from login to launch: a signed state, the browser's binder, and burned nonces.

Login writes nothing to the database. The state says all the launch must agree with; it is signed, lives
five minutes and belongs to one browser. Its nonce is burned in the launch's own transaction, once.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

import msgspec
from flask import current_app
from sqlalchemy import CursorResult, ForeignKey, String, delete
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.database import Base, db, insert, now
from lti_tool.lti.refusal import LaunchRefused, Refusal
from lti_tool.sealing import fingerprint

LIFETIME = timedelta(minutes=5)
# Moodle filters the state as text, so it keeps to letters and digits.
_STATE = re.compile("[a-z2-7]{60,2000}")
_SIGNATURE_LENGTH = 32
# Of a binder's cookie. Another host of our domain can neither set it nor take it away.
BINDER_PREFIX = "__Host-dl-state-"
# A browser sends the binders of all its pending logins with every request.
MOST_BINDERS = 16


class State(msgspec.Struct, frozen=True, array_like=True):
    """What the launch must agree with."""

    nonce: bytes  # 256 random bits; the platform gets them as hex
    registration_id: int
    client_id: str
    target_digest: bytes  # SHA-256 of the login's target_link_uri
    deployment_hint: str | None  # lti_deployment_id, if the platform sent one
    issued_at: int  # seconds since 1970
    binder_digest: bytes  # SHA-256 of the cookie that only this browser has
    proof_digest: bytes | None = None  # of the secret in platform storage, where cookies do not work
    storage_target: str | None = None  # the platform's frame that keeps it


class BurnedNonce(Base):
    """A nonce that was used. Kept until its state would have expired anyway."""

    __tablename__ = "burned_nonce"

    registration_id: Mapped[int] = mapped_column(
        ForeignKey("registration.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    # SHA-256, as hex
    nonce_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


def digest(value: str) -> bytes:
    """SHA-256, as the state carries it."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def new_state(
    *,
    registration_id: int,
    client_id: str,
    target_link_uri: str,
    deployment_hint: str | None,
    binder: str,
    proof: str | None = None,
    storage_target: str | None = None,
) -> State:
    """A state with a fresh nonce, beginning now."""
    return State(
        nonce=secrets.token_bytes(32),
        registration_id=registration_id,
        client_id=client_id,
        target_digest=digest(target_link_uri),
        deployment_hint=deployment_hint,
        issued_at=int(now().timestamp()),
        binder_digest=digest(binder),
        proof_digest=digest(proof) if proof else None,
        storage_target=storage_target,
    )


def sign(state: State) -> str:
    """The state as it travels: signature and content in base32, lower case."""
    content = msgspec.msgpack.encode(state)
    return base64.b32encode(_signature(content) + content).decode().rstrip("=").lower()


def verify(text: str) -> State:
    """The state behind `text`. Raises LaunchRefused for one that is not ours or past its five minutes."""
    if not text:
        raise LaunchRefused(Refusal.STATE_MISSING)
    if not _STATE.fullmatch(text):
        raise LaunchRefused(Refusal.STATE_WRONG, "characters")
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error:
        raise LaunchRefused(Refusal.STATE_WRONG, "encoding") from None
    signature, content = raw[:_SIGNATURE_LENGTH], raw[_SIGNATURE_LENGTH:]
    if not hmac.compare_digest(signature, _signature(content)):
        raise LaunchRefused(Refusal.STATE_WRONG, "signature")
    try:
        state = msgspec.msgpack.decode(content, type=State)
    except msgspec.MsgspecError:
        # Signed by an older release, with other fields.
        raise LaunchRefused(Refusal.STATE_EXPIRED, "fields") from None
    age = now().timestamp() - state.issued_at
    # Below zero when another of our servers, whose clock is ahead, began the login.
    if not -current_app.config["CLOCK_SKEW_SECONDS"] <= age <= LIFETIME.total_seconds():
        raise LaunchRefused(Refusal.STATE_EXPIRED)
    return state


def cookie_name(text: str) -> str:
    """The binder's cookie: one for each state, so that logins in parallel tabs do not clash."""
    return BINDER_PREFIX + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def new_binder() -> str:
    """A secret for this browser's cookie, and when it was made; the state carries only its hash."""
    return f"{int(now().timestamp())}-{secrets.token_hex(32)}"


def surplus(cookies: Mapping[str, str]) -> list[str]:
    """Names of the oldest binders, to be forgotten so that a new one leaves no more than MOST_BINDERS."""
    binders = [name for name in cookies if name.startswith(BINDER_PREFIX)]
    # What we did not set has no time, and is forgotten first.
    binders.sort(key=lambda name: cookies[name].partition("-")[0].rjust(20))
    return binders[: max(0, len(binders) - MOST_BINDERS + 1)]


def is_binder(state: State, value: str) -> bool:
    """Whether a cookie's value is the one given to the browser that began this login."""
    return hmac.compare_digest(state.binder_digest, digest(value))


def burn(state: State) -> None:
    """Use the state's nonce up, in the caller's transaction. Raises LaunchRefused if it was used before."""
    row = {
        "registration_id": state.registration_id,
        "nonce_hash": fingerprint(state.nonce.hex()),
        "expires_at": now() + 2 * LIFETIME,
    }
    burning = _burning(db.session.get_bind().dialect.name)
    if cast(CursorResult[Any], db.session.execute(burning, row)).rowcount != 1:
        raise LaunchRefused(Refusal.NONCE_USED)


@cache
def _burning(dialect: str) -> Any:
    """The statement, made once for each kind of database."""
    statement = insert(BurnedNonce.__table__).on_conflict_do_nothing()
    # On PostgreSQL the count of an INSERT is gone otherwise.
    return statement.execution_options(preserve_rowcount=True)


def sweep() -> int:
    """Forget burned nonces whose states have expired; how many."""
    gone = db.session.execute(delete(BurnedNonce).where(BurnedNonce.expires_at < now()))
    return cast(CursorResult[Any], gone).rowcount


def _signature(content: bytes) -> bytes:
    secret = str(current_app.config["SECRET_KEY"]).encode()
    key = hmac.digest(secret, b"doorlist lti state", "sha256")
    return hmac.digest(key, content, "sha256")
