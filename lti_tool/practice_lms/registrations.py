"""A tool as the platform knows it, and the requests it sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

_KEY_TIMEOUT = 5


@dataclass
class ToolRegistration:
    """One tool as this platform knows it; `names` and `emails` may be switched off at any time."""

    client_id: str
    deployment_ids: tuple[str, ...]
    login_url: str
    launch_url: str
    jwks_url: str
    redirect_uris: tuple[str, ...]
    scopes: frozenset[str]
    names: bool = True
    emails: bool = True
    jwks: Callable[[], Mapping[str, Any]] | None = None
    # Custom parameters of every launch, their variables still to be filled in.
    custom: Mapping[str, str] = field(default_factory=dict)

    def fetch_keys(self) -> Mapping[str, Any]:
        """The tool's key set, fetched anew each time: a rotated key of the tool must work at once."""
        if self.jwks is not None:
            return self.jwks()
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(self.jwks_url, timeout=_KEY_TIMEOUT, allow_redirects=False)
            if answer.status_code != 200:
                raise ValueError(f"{self.jwks_url} answered {answer.status_code}")
            keys: Mapping[str, Any] = answer.json()
            return keys


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that reached the platform; header names are spelled Like-This."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    at: float = 0.0
