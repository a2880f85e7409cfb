"""Trouble on order: what the platform's endpoints do wrong when a test or the demo page asks for it."""

from __future__ import annotations

import threading

_STATUSES = {"401", "403", "429", "500", "503"}
KNOWN: dict[str, set[str]] = {
    "roster": _STATUSES
    | {"half", "truncated", "endless", "self", "foreign_next", "html", "garbage", "empty", "slow"},
    "token": _STATUSES | {"html", "empty", "slow"},
    "jwks": _STATUSES | {"slow", "redirect", "huge", "html", "garbage"},
    "configuration": _STATUSES | {"issuer", "endpoint", "incomplete", "redirect", "huge", "slow", "html"},
    "registration": _STATUSES | {"nameless", "redirect", "huge", "slow", "html"},
    "auth": {"login_required", "interaction_required", "temporarily_unavailable"},
    "grades": _STATUSES | {"foreign_next", "foreign_item", "gone", "html", "garbage", "slow"},
}


class Faults:
    """One switch per endpoint; None is a healthy endpoint.

    A value may end with " once" ("500 once"): the fault then strikes one request and mends itself.

    roster: a status, "half" (first page fine, later pages 500), "truncated" (later pages are cut short),
    "endless" (a new cursor each time), "self" (the next link is the page itself), "foreign_next" (the
    next link is `foreign_url`), "html", "garbage", "empty", "slow" (waits `delay` seconds).
    token: a status, "html", "empty" (an object without a token), "slow".
    jwks: a status, "slow", "redirect" (to `redirect_url`), "huge" (30 MB), "html", "garbage".
    auth: the error that is posted to the tool instead of a token.
    configuration: a status, "issuer" (somebody else's), "endpoint" (the registration endpoint is elsewhere),
    "incomplete", "redirect" (to `redirect_url`), "huge" (3 MB), "slow", "html".
    registration: a status, "nameless" (an answer without a client_id), "redirect", "huge", "slow", "html".
    grades: a status, "foreign_next" (the next link is `foreign_url`), "foreign_item" (every line item is),
    "gone" (no line item is there any more), "html", "garbage", "slow".
    """

    roster: str | None
    token: str | None
    jwks: str | None
    auth: str | None
    configuration: str | None
    registration: str | None
    grades: str | None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.delay: float = 8.0
        self.foreign_url: str = "https://elsewhere.example.test/memberships"
        self.redirect_url: str = "/jwks-moved.json"
        self.clear()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuses a fault that no endpoint knows: a misspelt one would test nothing."""
        if name in KNOWN and value is not None and str(value).removesuffix(" once") not in KNOWN[name]:
            raise ValueError(f"no fault {value!r} of {name}; known: {', '.join(sorted(KNOWN[name]))}")
        super().__setattr__(name, value)

    def clear(self) -> None:
        """Everything is healthy again."""
        for name in KNOWN:
            setattr(self, name, None)

    def strike(self, name: str) -> str | None:
        """The fault this request meets; one that strikes once is used up."""
        with self._lock:
            fault: str | None = getattr(self, name)
            if fault is None or not fault.endswith(" once"):
                return fault
            setattr(self, name, None)
            return fault.removesuffix(" once")
