"""How often one address may knock (Flask-Limiter; shared through Redis when it is set)."""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from flask import Flask, current_app, g, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits.storage import Storage

from lti_tool.classroom.accounts import email_key
from lti_tool.classroom.invitations import AddressWrong, check_address
from lti_tool.sealing import fingerprint

limiter = Limiter(get_remote_address, headers_enabled=True)


class Counts(Storage):
    """Counts of this process. (The library's own starts a thread for every request, to forget old ones.)"""

    STORAGE_SCHEME = ["counts"]
    base_exceptions = ValueError

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: str) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        # Key → how often, and until when that counts.
        self.counts: dict[str, tuple[int, float]] = {}
        self.lock = threading.Lock()
        self.sweep_at = 0.0

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, from a first one on for `expiry` seconds."""
        at = time.time()
        with self.lock:
            if self.sweep_at <= at:
                self.counts = {name: held for name, held in self.counts.items() if held[1] > at}
                self.sweep_at = at + 60
            count, until = self.counts.get(key, (0, 0.0))
            if until <= at:
                count, until = 0, at + expiry
            self.counts[key] = (count + amount, until)
            return count + amount

    def get(self, key: str) -> int:
        """How often so far."""
        count, until = self.counts.get(key, (0, 0.0))
        return count if until > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """Until when the count holds."""
        return self.counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        """Always there."""
        return True

    def reset(self) -> int | None:
        """Forget everything; how many keys there were."""
        with self.lock:
            held, self.counts = len(self.counts), {}
        return held

    def clear(self, key: str) -> None:
        """Forget one key."""
        with self.lock:
            self.counts.pop(key, None)


def init_app(app: Flask) -> None:
    """Start counting, in this process or in Redis."""
    app.config["RATELIMIT_STORAGE_URI"] = app.config["REDIS_URL"] or "counts://"
    app.config["RATELIMIT_STRATEGY"] = "fixed-window"
    limiter.init_app(app)


def seconds_to_wait() -> int:
    """Until the limit that this request ran into lets the next one through."""
    reached = limiter.current_limit
    return max(1, math.ceil(reached.reset_at - time.time())) if reached else 60


def launches() -> str:
    """For login and launch; loose, since a campus shares one address."""
    return str(current_app.config["LIMIT_LAUNCH"])


def sign_ins() -> str:
    """For asking for codes and trying them."""
    return str(current_app.config["LIMIT_SIGN_IN"])


def registrations() -> str:
    """For opening an LMS's registration link and answering it; each asks the LMS something."""
    return str(current_app.config["LIMIT_REGISTRATION"])


def invitations() -> str:
    """For opening and answering invitations."""
    return str(current_app.config["LIMIT_INVITATION"])


def per_account(setting: str) -> Callable[..., Any]:
    """Count what an account does, whoever of its people does it; below `@allowed`, which knows them."""

    def decorate(page: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(page)
        def counted(*args: Any, **kwargs: Any) -> Any:
            limit = str(current_app.config[setting])
            with limiter.limit(limit, key_func=lambda: f"account {g.account.id}"):
                return page(*args, **kwargs)

        return counted

    return decorate


# How many sign-in mails one mailbox may be sent, whoever asks and from wherever.
# A code allows five tries, so this also bounds guessing: at most 200 tries a day of a million.
MAILS_TO_ONE_ADDRESS = "5 per 15 minutes;40 per day"


def asked_address() -> str:
    """The mailbox a sign-in is asked for; known or not makes no difference."""
    return address_key(request.form.get("email", ""))


def address_key(email: str) -> str:
    """What mails to one mailbox are counted under."""
    # A domain can be written in many ways, all of which lead to one mailbox.
    with suppress(AddressWrong):
        email = check_address(email)
    return "asked:" + fingerprint(email_key(email))
