"""Names and roles of a context: every page or nothing (NRPS 2.0).

A roster that is not complete would end enrollments, so whatever casts a doubt raises: pages that lead in
circles or to another host, too many of them, members without an id.
"""

import html
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec
import requests
from flask import current_app

from lti_tool.database import now
from lti_tool.lti import outgoing, tokens, values
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registrations import Platform, Registration

SCOPE = "https://purl.imsglobal.org/spec/lti-nrps/scope/contextmembership.readonly"
MEDIA_TYPE = "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"
# Seconds before each new try after 5xx and cut connections.
BACKOFF = (0.5, 2.0)
# How long a platform may ask us to wait (429), in seconds; past that the sync is left for later.
LONGEST_WAIT = 30.0
# What may be over by the next try.
PASSING = {"connection_cut", "token_service_failed"}
# So many pages in a row that name nobody new: the list goes on for ever.
MOST_BARREN_PAGES = 10
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


def fetch_members(
    registration: Registration,
    memberships_url: str,
    *,
    resource_link_id: str | None = None,
    limit: int | None = None,
    on_page: OnPage | None = None,
) -> list[Member]:
    """Everybody in the context, each once. `limit` is the page size we ask for.

    Ends the open transaction before the network is asked (outgoing.let_go): commit first. `on_page` hears
    the pages and members so far. Raises PlatformUnavailable or RosterIncomplete.
    """
    platform = Platform.of(registration)
    escaped = platform.family in ESCAPED_IN
    first = _with_query(memberships_url, {"limit": limit, "rlid": resource_link_id})
    members: dict[str, Member] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    barren = 0
    for page, entries in enumerate(_pages(platform, first), start=1):
        before = len(members)
        for entry in entries:
            member = _read_member(entry, shared, escaped=escaped, page=page)
            known = members.get(member.subject)
            members[member.subject] = member if known is None else _merge(known, member)
        barren = 0 if len(members) > before else barren + 1
        if barren == MOST_BARREN_PAGES:
            raise RosterIncomplete("too_many_pages", page=page)
        if len(members) > current_app.config["ROSTER_MAX_MEMBERS"]:
            raise RosterIncomplete("too_many_members", page=page)
        if on_page is not None:
            on_page(page, len(members))
    return list(members.values())


def _pages(platform: Platform, first: str) -> Iterator[list[_Entry]]:
    """Page by page, so that only one is in memory as it was sent."""
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
        yield _read_page(response, page=len(seen))
        url = find_next(response.headers.get("Link", ""), url)
        # The access token goes nowhere but where the launch said.
        if url is not None and _origin(url) != _origin(first):
            raise RosterIncomplete("foreign_next", page=len(seen))


def _fetch(platform: Platform, url: str, *, page: int) -> requests.Response:
    """One page, with patience for what passes. Raises PlatformUnavailable."""
    waits = iter(BACKOFF)
    renewed = False
    while True:
        failure: PlatformUnavailable
        try:
            response = _get(url, tokens.access_token(platform, SCOPE))
            if response.status_code == 200:
                return response
            failure = PlatformUnavailable("roster_refused", status=response.status_code, page=page)
            if response.status_code == 401 and not renewed:
                tokens.access_token(platform, SCOPE, renew=True)
                renewed = True
                continue
            wait = _wait(response, waits)
        except PlatformUnavailable as error:
            failure = PlatformUnavailable(error.reason, status=error.status, page=page)
            wait = next(waits, None) if error.reason in PASSING else None
        if wait is None:
            raise failure
        time.sleep(wait)


def _get(url: str, token: str) -> requests.Response:
    # on_page may have begun a transaction.
    outgoing.let_go()
    headers = {"Authorization": f"Bearer {token}", "Accept": MEDIA_TYPE}
    return outgoing.session(outgoing.ROSTER_PAGE).get(url, headers=headers)


def _wait(response: requests.Response, waits: Iterator[float]) -> float | None:
    """Seconds to wait before the next try, None if there is none."""
    if response.status_code == 429:
        asked = _retry_after(response.headers.get("Retry-After", ""))
        own = next(waits, None)
        return None if own is None or (asked or 0) > LONGEST_WAIT else max(own, asked or 0)
    return next(waits, None) if response.status_code >= 500 else None


def _retry_after(text: str) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now()).total_seconds()


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


_LINK = re.compile(r'<([^<>]*)>((?:[^<"]|"[^"]*")*)')
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))')


def find_next(header: str, base: str) -> str | None:
    """The address of rel=next in a Link header (RFC 8288), or None.

    Case is kept: cursors depend on it. Moodle's typographic quotes and &amp; are understood.
    """
    with suppress(UnicodeError):
        # HTTP headers are read as Latin-1; quotes that are not ASCII were sent as UTF-8.
        header = header.encode("latin-1").decode("utf-8")
    header = re.sub("[“”„]", '"', header)
    for address, parameters in _LINK.findall(header):
        relations = [
            quoted or bare for name, quoted, bare in _PARAMETER.findall(parameters) if name.lower() == "rel"
        ]
        # Of several rel parameters the first counts.
        if "next" in " ".join(relations[:1]).lower().split():
            try:
                return urljoin(base, address.strip().replace("&amp;", "&"))
            except ValueError:
                raise RosterIncomplete("next_malformed") from None
    return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise RosterIncomplete("next_malformed") from None


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
