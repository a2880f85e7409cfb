"""Platform storage: the LMS's page keeps a secret of this browser where our cookie does not come back.

The login's page puts a proof there (1EdTech LTI Client Side postMessages, OIDC with platform storage); the
state carries its hash. A launch without our cookie is first asked for it (`find_question`), by a page of our
own that posts the launch again with what the LMS's page gave back (`check_answer`).
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from flask import current_app

from lti_tool.database import now
from lti_tool.lti import handshake, registrations, values
from lti_tool.lti.handshake import State
from lti_tool.lti.refusal import LaunchRefused, Refusal

# How long our page may take to get the proof and post it.
ANSWER_WITHIN = timedelta(seconds=60)
_FRAME_NAME = re.compile("[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Question:
    """A launch that came without our cookie: what its page asks, of which frame of the LMS."""

    key: str
    # "_parent", or a frame's name; remembered from the login, since not every LMS repeats it
    target: str
    # Only to this origin is the question told, and only from it is an answer taken.
    origin: str
    # The platform's addresses, for who may frame the page.
    issuer: str
    auth_url: str
    # When the page was made, signed; it comes back with the answer.
    asked: str


def frame_name(name: str) -> str | None:
    """The LMS's frame that keeps values, as a login names it; markup in its place is none (attack 60)."""
    return name if _FRAME_NAME.fullmatch(name) else None


def new_proof() -> str:
    """256 random bits for the LMS's page to keep; the state carries only their hash."""
    return secrets.token_urlsafe(32)


def origin_of(url: str) -> str:
    """Scheme, host and port, as a browser writes the origin of an address."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")


def find_question(form: Mapping[str, str], cookies: Mapping[str, str]) -> Question | None:
    """What to ask the LMS's page before this launch can be judged; None where there is nothing to ask.

    Nothing is used up: only the state is checked. Raises LaunchRefused.
    """
    text = form.get("state") or ""
    if "proof" in form or not form.get("id_token") or cookies.get(handshake.cookie_name(text)):
        return None
    state = handshake.verify(text)
    if state.proof_digest is None or not state.storage_target:
        return None
    if len(form["id_token"]) > values.LARGEST_TOKEN:
        raise LaunchRefused(Refusal.TOKEN_TOO_LARGE)
    found = registrations.find_platform(state.registration_id, "")
    if found is None:
        raise LaunchRefused(Refusal.REGISTRATION_UNKNOWN, "removed since the login")
    platform, _ = found
    return Question(
        key=handshake.cookie_name(text),
        target=state.storage_target,
        origin=origin_of(platform.auth_url),
        issuer=platform.issuer,
        auth_url=platform.auth_url,
        asked=_stamp(int(now().timestamp()), text),
    )


def check_answer(form: Mapping[str, str], state: State, *, from_our_page: bool) -> None:
    """The proof that our own page posts is this login's, and in time (attacks 58, 59). Raises LaunchRefused.

    Another site's page could post an attacker's proof with the attacker's launch: that is why it matters
    who posts.
    """
    if "proof" not in form or state.proof_digest is None:
        raise LaunchRefused(Refusal.COOKIE_MISSING)
    if not from_our_page:
        raise LaunchRefused(Refusal.STORAGE_PROOF_FOREIGN)
    _check_stamp(form.get("asked") or "", form.get("state") or "")
    if not form["proof"]:
        raise LaunchRefused(Refusal.STORAGE_PROOF_MISSING)
    if not hmac.compare_digest(state.proof_digest, handshake.digest(form["proof"])):
        raise LaunchRefused(Refusal.STORAGE_PROOF_WRONG)


def _stamp(seconds: int, text: str) -> str:
    secret = str(current_app.config["SECRET_KEY"]).encode()
    key = hmac.digest(secret, b"doorlist lti storage question", "sha256")
    # A state that is no text of ours was refused before.
    return f"{seconds}.{hmac.digest(key, f'{seconds}.{text}'.encode(), 'sha256').hex()}"


def _check_stamp(asked: str, text: str) -> None:
    seconds = asked.partition(".")[0]
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 12):
        raise LaunchRefused(Refusal.STORAGE_PROOF_WRONG, "stamp")
    if not hmac.compare_digest(asked.encode("utf-8", "surrogatepass"), _stamp(int(seconds), text).encode()):
        raise LaunchRefused(Refusal.STORAGE_PROOF_WRONG, "stamp")
    if now().timestamp() - int(seconds) > ANSWER_WITHIN.total_seconds():
        raise LaunchRefused(Refusal.STORAGE_PROOF_LATE)
