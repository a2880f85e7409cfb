"""The platform itself: who is on it, which tools are registered, and what it signs for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .authorization import AuthorizationRefused, PendingLaunch, PendingLaunches, find_fault
from .campus import Campus
from .faults import Faults
from .gradebook import Gradebook, gradebook_claim
from .keys import SecretKey, SigningKey, new_key, sign_token
from .messages import (
    CLAIM,
    MEMBERSHIPS_SCOPE,
    RESOURCE_LINK,
    Flavour,
    Privacy,
    Sender,
    launch_claims,
    with_overrides,
)
from .people import Course, Link, Membership, Person
from .registrations import ReceivedRequest, ToolRegistration
from .roster import Pager
from .tokens import AccessToken, AccessTokens, Client


class Platform(Campus):
    """An LTI 1.3 platform in memory.

    `issuer` is its iss, `browser_url` where browsers reach it, `server_url` where the tool's server reaches
    it. Addresses left empty are filled in by `serve`; a `key` left out is made when first needed. May be used
    by any number of threads.

    `storage_target` is where values are kept for tools ("_parent" or a frame's name), None where nowhere;
    `auth_base` is another host for the authorization endpoint and that frame, as Canvas has it.
    """

    def __init__(
        self,
        issuer: str = "",
        browser_url: str = "",
        server_url: str = "",
        flavour: Flavour = "moodle",
        *,
        name: str = "Linden campus",
        token_audience: str | None = None,
        storage_target: str | None = None,
        auth_base: str = "",
        with_people: bool = True,
        key: SigningKey | None = None,
    ) -> None:
        super().__init__(with_people=with_people)
        self.issuer = issuer
        self.browser_url = browser_url.rstrip("/")
        self.server_url = server_url.rstrip("/")
        self.flavour: Flavour = flavour
        self.name = name
        self.storage_target = storage_target
        self.auth_base = auth_base.rstrip("/")
        self.only_launched_listed = False
        self.clock_offset = 0.0
        self.faults = Faults()
        self.gradebook = Gradebook()
        self.tokens = AccessTokens()
        self.pager = Pager(flavour)
        self.requests: deque[ReceivedRequest] = deque(maxlen=20_000)
        self.content_items: list[dict[str, Any]] = []
        self.last_form: tuple[str, dict[str, str]] | None = None
        self._token_audience = token_audience
        self._keys: list[SigningKey] = [key] if key else []
        self._registrations: dict[str, ToolRegistration] = {}
        self._launched: set[tuple[str, str]] = set()
        self._pending = PendingLaunches(flavour)

    # Addresses

    @property
    def auth_url(self) -> str:
        """The authorization endpoint, for browsers."""
        return f"{self.auth_base or self.browser_url}/auth"

    @property
    def storage_frame(self) -> str | None:
        """The frame that keeps values for tools, on the authorization endpoint's host as Canvas has it.

        None where the page around the tool keeps them itself ("_parent"), or nobody does.
        """
        if self.storage_target in (None, "_parent"):
            return None
        return f"{self.auth_base or self.browser_url}/storage"

    @property
    def token_url(self) -> str:
        """The token endpoint, for the tool's server."""
        return f"{self.server_url}/token"

    @property
    def jwks_url(self) -> str:
        """The platform's key set."""
        return f"{self.server_url}/jwks.json"

    @property
    def token_audience(self) -> str:
        """The audience an assertion must name; Brightspace, for one, wants another than its token URL."""
        return self._token_audience or self.token_url

    def memberships_url(self, course: Course | str) -> str:
        """The names and roles service of a course."""
        return f"{self.server_url}/courses/{self.course(course).id}/memberships"

    # Tools

    def connect_tool(
        self,
        client_id: str,
        deployment_ids: Iterable[str] = ("1",),
        login_url: str = "",
        launch_url: str = "",
        jwks_url: str = "",
        *,
        redirect_uris: Iterable[str] | None = None,
        scopes: Iterable[str] = (MEMBERSHIPS_SCOPE,),
        names: bool = True,
        emails: bool = True,
        jwks: Callable[[], Mapping[str, Any]] | None = None,
        custom: Mapping[str, str] | None = None,
    ) -> ToolRegistration:
        """Registers a tool. `redirect_uris` is the launch URL alone unless said otherwise."""
        registration = ToolRegistration(
            client_id,
            tuple(deployment_ids),
            login_url,
            launch_url,
            jwks_url,
            tuple(redirect_uris) if redirect_uris is not None else (launch_url,),
            frozenset(scopes),
            names,
            emails,
            jwks,
            dict(custom or {}),
        )
        with self._lock:
            self._registrations[client_id] = registration
        return registration

    def registration(self, client_id: str | None = None) -> ToolRegistration:
        """A registration by client_id, or the first one."""
        with self._lock:
            if client_id is None:
                if not self._registrations:
                    raise LookupError("no tool is connected to this platform yet")
                return next(iter(self._registrations.values()))
            if client_id not in self._registrations:
                raise LookupError(f"no tool has the client_id {client_id!r}")
            return self._registrations[client_id]

    @property
    def registrations(self) -> list[ToolRegistration]:
        """All tools, in the order they were connected."""
        with self._lock:
            return list(self._registrations.values())

    # Keys and the clock

    @property
    def key(self) -> SigningKey:
        """The key that signs now; made when first needed."""
        with self._lock:
            if not self._keys:
                self._keys.append(new_key())
            return self._keys[-1]

    def rotate_key(self, *, keep_old: bool = True) -> SigningKey:
        """Signs with a new key from now on; the old ones stay in the key set unless told otherwise."""
        with self._lock:
            kept = [self.key, *self._keys[:-1]] if keep_old else []
            self._keys = [*kept, new_key()]
            return self._keys[-1]

    def jwks(self) -> dict[str, Any]:
        """The key set as it is published."""
        with self._lock:
            return {"keys": [key.jwk for key in reversed([*self._keys[:-1], self.key])]}

    def now(self) -> float:
        """The platform's own time, which a test may set wrong."""
        return time.time() + self.clock_offset

    # Launches

    def listed_members(self, course: Course | str) -> list[Membership]:
        """The members a roster tells: all, or those who have launched where Brightspace is set so."""
        found = self.course(course)
        with self._lock:
            launched = set(self._launched)
        return [
            member
            for member in self.members(found)
            if not self.only_launched_listed or (found.id, member.person.id) in launched
        ]

    def login_parameters(
        self,
        person: Person | str,
        course: Course | str,
        *,
        client_id: str | None = None,
        deployment_id: str | None = None,
        target: str | None = None,
        message_type: str = RESOURCE_LINK,
        document_target: str = "iframe",
        link: Link | str | None = None,
        claims: Mapping[str, Any] | None = None,
        **extra: str | None,
    ) -> dict[str, str]:
        """What the browser takes to the tool's login URL (LTI 1.3 core, section 5.1.1), with a one-shot hint.

        `claims` override those of the id_token to come; `extra` adds to the parameters, None takes one away.
        """
        registration = self.registration(client_id)
        placed = self.link(link) if link is not None else None
        launch = PendingLaunch(
            self.person(person),
            self.course(course),
            registration.client_id,
            deployment_id if deployment_id is not None else registration.deployment_ids[0],
            target if target is not None else (placed and placed.url) or registration.launch_url,
            message_type,
            document_target,
            dict(claims or {}),
            placed,
        )
        given: dict[str, str | None] = {
            "iss": self.issuer,
            "target_link_uri": launch.target,
            "login_hint": launch.person.id,
            "lti_message_hint": self._pending.begin(launch),
            "client_id": launch.client_id,
            "lti_deployment_id": launch.deployment_id,
            "lti_storage_target": self.storage_target,
            **extra,
        }
        return {name: value for name, value in given.items() if value is not None}

    def authorize(self, auth_query: Mapping[str, str]) -> dict[str, str]:
        """The form the authorization endpoint posts to the tool: id_token and state, or error and state.

        Raises AuthorizationRefused where nothing may be posted anywhere.
        """
        registration, state = self._asking(auth_query), auth_query.get("state", "")
        hint = auth_query.get("lti_message_hint", "")
        launch = self._pending.find(hint, registration.client_id)
        wrong = find_fault(auth_query, launch)
        struck = None if wrong else self.faults.strike("auth")
        if struck:
            wrong = struck, "The platform was asked to answer so."
        if wrong:
            form = {"error": wrong[0], "error_description": wrong[1], "state": state}
        else:
            self._pending.use(hint)
            token = self.sign(self._launch_claims(launch, registration, auth_query["nonce"]))
            form = {"id_token": token, "state": state}
            with self._lock:
                self._launched.add((launch.course.id, launch.person.id))
        self.last_form = (auth_query["redirect_uri"], form)
        return form

    def claims(
        self,
        person: Person | str,
        course: Course | str,
        *,
        client_id: str | None = None,
        deployment_id: str | None = None,
        nonce: str = "nonce",
        target: str | None = None,
        message_type: str = RESOURCE_LINK,
        **overrides: Any,
    ) -> dict[str, Any]:
        """An id_token's claims as this flavour sends them.

        Overrides go by claim name, whole or short ("roles"); None takes a claim away.
        """
        registration = self.registration(client_id)
        launch = PendingLaunch(
            self.person(person),
            self.course(course),
            registration.client_id,
            deployment_id if deployment_id is not None else registration.deployment_ids[0],
            target if target is not None else registration.launch_url,
            message_type,
            overrides=overrides,
        )
        return self._launch_claims(launch, registration, nonce)

    def sign(
        self,
        claims: Mapping[str, Any],
        *,
        key: SigningKey | SecretKey | None = None,
        headers: Mapping[str, Any] | None = None,
        algorithm: str = "RS256",
    ) -> str:
        """A signed token; with another key, header or algorithm it is a forged one."""
        own = self.key
        kid = key.kid if isinstance(key, SigningKey) else own.kid
        secret = key.private_key if isinstance(key, SigningKey) else key
        return sign_token(claims, {"kid": kid, **(headers or {})}, secret or own.private_key, algorithm)

    # Services

    def grant_token(self, form: Mapping[str, str]) -> AccessToken:
        """What the token endpoint does; raises TokenRefused."""
        return self.tokens.grant(form, self._find_client, self.token_audience, self.now())

    def privacy_of(self, client_id: str) -> Privacy:
        """What a tool may know of people just now."""
        registration = self.registration(client_id)
        return Privacy(registration.names, registration.emails)

    def requests_to(self, path: str) -> list[ReceivedRequest]:
        """The requests received whose path begins so."""
        return [request for request in list(self.requests) if request.path.startswith(path)]

    def _find_client(self, client_id: str) -> Client | None:
        with self._lock:
            found = self._registrations.get(client_id)
        return Client(found.client_id, found.scopes, found.fetch_keys) if found else None

    def _asking(self, auth_query: Mapping[str, str]) -> ToolRegistration:
        with self._lock:
            registration = self._registrations.get(auth_query.get("client_id", ""))
        if registration is None:
            raise AuthorizationRefused("No tool here has this client_id.")
        if auth_query.get("redirect_uri", "") not in registration.redirect_uris:
            raise AuthorizationRefused("This redirect_uri is not one of the tool’s, letter for letter.")
        return registration

    def _launch_claims(
        self, launch: PendingLaunch, registration: ToolRegistration, nonce: str
    ) -> dict[str, Any]:
        made = launch_claims(
            Sender(self.flavour, self.issuer, self.browser_url, self.name),
            self.membership(launch.course, launch.person),
            launch.course,
            client_id=launch.client_id,
            deployment_id=launch.deployment_id,
            privacy=Privacy(registration.names, registration.emails),
            nonce=nonce,
            target=launch.target,
            memberships_url=self.memberships_url(launch.course),
            now=int(self.now()),
            message_type=launch.message_type,
            document_target=launch.document_target,
            link=launch.link,
            custom=registration.custom,
        )
        made |= gradebook_claim(
            self.flavour,
            self.server_url,
            launch.course.id,
            made.get(CLAIM + "resource_link", {}).get("id", ""),
            self.gradebook.items(launch.course.id),
            registration.scopes,
        )
        return with_overrides(made, launch.overrides)
