"""The authorization endpoint's rules for an LTI launch (1EdTech Security Framework 1.0, section 5.1.1)."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .messages import RESOURCE_LINK, Flavour
from .people import Course, Link, Person

_MOST_PENDING = 20_000


class AuthorizationRefused(Exception):
    """The request ends on a page of the platform: it names nobody to whom an answer may go."""


@dataclass(frozen=True, slots=True)
class PendingLaunch:
    """A login that was begun and waits for the tool to come back with its hint."""

    person: Person
    course: Course
    client_id: str
    deployment_id: str
    target: str
    message_type: str = RESOURCE_LINK
    document_target: str = "iframe"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    # None: the one that every course has.
    link: Link | None = None


class PendingLaunches:
    """Launch hints, each good for one id_token, as Moodle and Canvas hold it."""

    def __init__(self, flavour: Flavour) -> None:
        self._flavour = flavour
        self._lock = threading.Lock()
        self._launches: dict[str, PendingLaunch] = {}
        self._used: set[str] = set()

    def begin(self, launch: PendingLaunch) -> str:
        """Remembers a launch and returns its lti_message_hint."""
        number = secrets.randbelow(10**10)
        if self._flavour == "moodle":
            cmid = int(launch.course.id) + 2 if launch.course.id.isdigit() else 2
            hint = json.dumps({"cmid": cmid, "launchid": f"ltilaunch{cmid}_{number}"}, separators=(",", ":"))
        else:
            hint = secrets.token_urlsafe(24)
        with self._lock:
            while len(self._launches) >= _MOST_PENDING:
                self._launches.pop(next(iter(self._launches)))
            self._launches[hint] = launch
        return hint

    def find(self, hint: str, client_id: str) -> PendingLaunch:
        """The launch behind a hint that is known, unused and this tool's."""
        with self._lock:
            if hint in self._used:
                raise AuthorizationRefused("This launch was used already. Open the activity again.")
            launch = self._launches.get(hint)
        if launch is None or launch.client_id != client_id:
            raise AuthorizationRefused("No launch of this tool has this lti_message_hint.")
        return launch

    def use(self, hint: str) -> None:
        """Uses up a hint; of two requests at once, one is refused."""
        with self._lock:
            if hint in self._used:
                raise AuthorizationRefused("This launch was used already. Open the activity again.")
            self._used.add(hint)
            self._launches.pop(hint, None)


def find_fault(query: Mapping[str, str], launch: PendingLaunch) -> tuple[str, str] | None:
    """What is wrong with an authorization request: an OpenID Connect error and its words, or None."""
    expected = (
        ("response_type", "id_token", "unsupported_response_type"),
        ("response_mode", "form_post", "invalid_request"),
        ("scope", "openid", "invalid_scope"),
        ("prompt", "none", "invalid_request"),
    )
    for name, value, error in expected:
        if query.get(name) != value:
            return error, f"{name} must be {value}"
    for name in ("nonce", "state"):
        if not query.get(name):
            return "invalid_request", f"{name} is missing"
    if query.get("login_hint") != launch.person.id:
        return "login_required", "login_hint is not who is signed in here"
    return None
