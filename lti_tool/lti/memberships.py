"""Names and roles of a context: every page or nothing (NRPS 2.0).

A roster that is not complete would end enrollments, so whatever casts a doubt raises: pages that lead in
circles or to another host, too many of them, members without an id.
"""

import hashlib
import html
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import requests
from flask import current_app

from lti_tool.lti import outgoing, scopes, services, values
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registrations import Platform, Registration
from lti_tool.lti.services import NextMalformed

MEDIA_TYPE = "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"
# So many pages in a row that name nobody new: the list goes on for ever.
MOST_BARREN_PAGES = 10
# So much of a list is held unread while it comes as last time; of more only the members are held.
MOST_UNREAD = 50_000_000  # bytes
MOST_ROLES, LONGEST_ROLE = 100, 500
# Platforms that escape names for HTML in the roster, though not in launches.
ESCAPED_IN = {"moodle"}

OnPage = Callable[[int, int], None]


class RosterIncomplete(Exception):
    """The platform answered, but what it said is not a whole roster. `reason` is a short code."""

    def __init__(self, reason: str, *, page: int | None = None) -> None:
        super().__init__(f"{reason} page {page}" if page else reason)
        self.reason = reason
        self.page = page


class Member(msgspec.Struct, frozen=True, gc=False):
    """One person of a context. (A msgspec.Struct: of a dataclass, 100,000 cost three times the memory.)"""

    subject: str
    # As sent; lti/roles.py reads them.
    roles: tuple[str, ...]
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    email: str | None = None
    # Not Inactive and not Deleted.
    active: bool = True


class PageSeen(NamedTuple):
    """A page as it came, to know it again: SHA-256 of its bytes, and how many it names."""

    digest: str
    members: int


class Roster(msgspec.Struct, frozen=True):
    """Everybody in a context, each once; or nothing, if every page came as it was `known`."""

    members: list[Member] | None
    pages: list[PageSeen]


class _Entry(msgspec.Struct, gc=False):
    """A member as sent; types are judged in `_read_member`, so that one odd value is named."""

    user_id: Any = None
    roles: Any = None
    name: Any = None
    given_name: Any = None
    family_name: Any = None
    email: Any = None
    status: Any = None


class _Container(msgspec.Struct):
    members: list[_Entry]


def fetch_roster(
    registration: Registration,
    memberships_url: str,
    *,
    resource_link_id: str | None = None,
    limit: int | None = None,
    known: Sequence[PageSeen] = (),
    on_page: OnPage | None = None,
) -> Roster:
    """Everybody in the context. `limit` is the page size we ask for, `known` the pages of last time.

    Ends the open transaction before the network is asked (outgoing.let_go): commit first. `on_page` hears
    the pages and members so far. Raises PlatformUnavailable or RosterIncomplete.
    """
    platform = Platform.of(registration)
    first = _with_query(memberships_url, {"limit": limit, "rlid": resource_link_id})
    reading = _Reading(escaped=platform.family in ESCAPED_IN)
    # Pages that came as last time are only read once one did not.
    unread: list[requests.Response] = []
    digests: list[str] = []
    for page, response in enumerate(_pages(platform, first), start=1):
        digests.append(hashlib.sha256(response.content).hexdigest())
        unread.append(response)
        same = [was.digest for was in known[:page]] == digests
        if not same or sum(len(one.content) for one in unread) > MOST_UNREAD:
            reading.take(unread)
        if on_page is not None:
            on_page(page, sum(was.members for was in known[:page]) if same else len(reading.members))
    if known and [was.digest for was in known] == digests:
        return Roster(None, list(known))
    reading.take(unread)
    return Roster(list(reading.members.values()), list(map(PageSeen, digests, reading.counts)))


class _Reading:
    """Members as they are read, page after page."""

    def __init__(self, *, escaped: bool) -> None:
        self.members: dict[str, Member] = {}
        # How many each page names.
        self.counts: list[int] = []
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._escaped = escaped
        self._barren = 0

    def take(self, pages: list[requests.Response]) -> None:
        """Read the next pages, which are let go one by one. Raises RosterIncomplete."""
        while pages:
            self._take(pages.pop(0), page=len(self.counts) + 1)

    def _take(self, response: requests.Response, *, page: int) -> None:
        members, before = self.members, len(self.members)
        entries = _read_page(response, page=page)
        for entry in entries:
            member = _read_member(entry, self._shared, escaped=self._escaped, page=page)
            known = members.get(member.subject)
            members[member.subject] = member if known is None else _merge(known, member)
        self.counts.append(len(entries))
        self._barren = 0 if len(members) > before else self._barren + 1
        if self._barren == MOST_BARREN_PAGES:
            raise RosterIncomplete("too_many_pages", page=page)
        if len(members) > current_app.config["ROSTER_MAX_MEMBERS"]:
            raise RosterIncomplete("too_many_members", page=page)


def _pages(platform: Platform, first: str) -> Iterator[requests.Response]:
    """Page by page as sent."""
    seen: set[str] = set()
    url: str | None = first
    # Before a token is asked for: it would be for nothing.
    outgoing.check_url(first, allow_private=current_app.config["ALLOW_PRIVATE_PLATFORMS"])
    while url is not None:
        if url in seen:
            raise RosterIncomplete("pages_in_circles", page=len(seen))
        if len(seen) >= current_app.config["ROSTER_MAX_PAGES"]:
            raise RosterIncomplete("too_many_pages", page=len(seen))
        seen.add(url)
        response = _fetch(platform, url, page=len(seen))
        yield response
        try:
            url = services.find_next(response.headers.get("Link", ""), url)
            # The access token goes nowhere but where the launch said.
            if url is not None and services.origin(url) != services.origin(first):
                raise RosterIncomplete("foreign_next", page=len(seen))
        except NextMalformed:
            raise RosterIncomplete("next_malformed") from None


def _fetch(platform: Platform, url: str, *, page: int) -> requests.Response:
    """One page, with patience for what passes. Raises PlatformUnavailable."""
    try:
        return services.ask(
            platform,
            "GET",
            url,
            scope=scopes.ROSTER,
            headers={"Accept": MEDIA_TYPE},
            limits=outgoing.ROSTER_PAGE,
            refused="roster_refused",
        )
    except PlatformUnavailable as error:
        raise PlatformUnavailable(error.reason, status=error.status, page=page) from None


def _read_page(response: requests.Response, *, page: int) -> list[_Entry]:
    try:
        return outgoing.read_json(response, _Container).members
    except PlatformUnavailable as error:
        raise RosterIncomplete(error.reason, page=page) from None


def _read_member(
    entry: _Entry, shared: dict[tuple[str, ...], tuple[str, ...]], *, escaped: bool, page: int
) -> Member:
    try:
        subject = values.identifier(entry.user_id)
    except values.ValueRefused:
        raise RosterIncomplete("member_id_malformed", page=page) from None
    if subject is None:
        raise RosterIncomplete("member_without_id", page=page)
    return Member(
        subject=subject,
        roles=_read_roles(entry.roles, shared, page=page),
        name=_name(entry.name, escaped),
        given_name=_name(entry.given_name, escaped),
        family_name=_name(entry.family_name, escaped),
        email=values.email(entry.email),
        active=entry.status is None or entry.status == "Active" or _is_active(entry.status),
    )


def _read_roles(roles: Any, shared: dict[tuple[str, ...], tuple[str, ...]], *, page: int) -> tuple[str, ...]:
    """The roles as sent. Thousands have the same few: they are judged once, and one tuple serves all."""
    if roles is None:
        return ()
    if isinstance(roles, str):
        roles = [roles]
    if not isinstance(roles, list):
        raise RosterIncomplete("roles_malformed", page=page)
    said = tuple(roles)
    try:
        if said in shared:
            return shared[said]
    except TypeError:
        # Lists or objects inside have no hash.
        raise RosterIncomplete("roles_malformed", page=page) from None
    if len(said) > MOST_ROLES or not all(map(_is_role, said)):
        raise RosterIncomplete("roles_malformed", page=page)
    return shared.setdefault(said, said)


def _is_role(role: Any) -> bool:
    return isinstance(role, str) and len(role) <= LONGEST_ROLE and role.isprintable()


def _name(value: Any, escaped: bool) -> str | None:
    if escaped and isinstance(value, str) and "&" in value:
        value = html.unescape(value)
    return values.text(value, 200)


def _is_active(status: Any) -> bool:
    """NRPS 2.2: a missing status means Active; older platforms write it as a URI."""
    if not isinstance(status, str) or status == "Active":
        return True
    return re.split("[/#:]", status.strip().lower())[-1] not in ("inactive", "deleted")


def _merge(one: Member, other: Member) -> Member:
    """The same person twice: all roles, but those of an inactive entry do not outlive it in an active one."""
    first, second = (other, one) if other.active and not one.active else (one, other)
    both = first.active == second.active
    return Member(
        subject=first.subject,
        roles=tuple(dict.fromkeys(first.roles + second.roles)) if both else first.roles,
        name=first.name or second.name,
        given_name=first.given_name or second.given_name,
        family_name=first.family_name or second.family_name,
        email=first.email or second.email,
        active=first.active,
    )


def _with_query(url: str, added: dict[str, Any]) -> str:
    """The address with parameters of ours instead of its own of the same name."""
    said = {name: str(value) for name, value in added.items() if value is not None}
    if not said:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        raise PlatformUnavailable("url_malformed") from None
    kept = [
        (name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in said
    ]
    return urlunsplit(parts._replace(query=urlencode(kept + list(said.items()))))
