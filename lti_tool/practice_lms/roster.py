"""Paging of the names and roles service, in the manner of each platform (NRPS 2.0, section 2.3)."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from .messages import Flavour, has_role
from .people import Membership

CONTENT_TYPE = "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"

# The most a page holds, whatever `limit` says. Moodle has no cap; the one of Brightspace is our choice.
_CAP: dict[Flavour, int | None] = {"moodle": None, "canvas": 50, "brightspace": 200}
_CURSOR_NAME: dict[Flavour, str] = {"canvas": "page", "brightspace": "bookmark"}


class BadCursor(Exception):
    """The tool asks for a page that this platform never offered."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some members, the query of the page after them, and the Link header that says so."""

    members: Sequence[Membership]
    link: str | None
    is_first: bool


class Pager:
    """Cuts rosters into pages and remembers each cursor it offered: one in another case is unknown."""

    def __init__(self, flavour: Flavour) -> None:
        self._flavour = flavour
        self._lock = threading.Lock()
        self._cursors: dict[str, tuple[str, str]] = {}

    def page(
        self, members: Sequence[Membership], query: Mapping[str, str], url: str, most: int | None
    ) -> Page:
        """The page a query asks for; `most` narrows the page further, for faults that need two pages."""
        role = query.get("role")
        if role:
            members = [member for member in members if has_role(self._flavour, member, role)]
        size = _smallest(_limit(query), _CAP[self._flavour], most)
        ordered = sorted(members, key=lambda member: member.person.sort_key)
        if self._flavour == "moodle":
            return _numbered(ordered, query, url, size)
        return self._bookmarked(ordered, query, url, size or len(ordered) or 1)

    def _bookmarked(
        self, ordered: Sequence[Membership], query: Mapping[str, str], url: str, size: int
    ) -> Page:
        """Pages that begin after a bookmark, so that someone who leaves in between shifts nobody out."""
        name = _CURSOR_NAME[self._flavour]
        cursor = query.get(name, "first")
        after = self._place(cursor)
        rest = [member for member in ordered if after is None or member.person.sort_key > after]
        shown = rest[:size]
        kept = {key: query[key] for key in ("limit", "role", "rlid") if key in query}
        links = [(cursor, "current"), ("first", "first")] if self._flavour == "canvas" else []
        if len(rest) > size:
            links.append((self._bookmark(shown[-1].person.sort_key), "next"))
        # Canvas writes no space after the commas. RFC 8288 lets rel go without quotes; one flavour does.
        quote = '"' if self._flavour == "canvas" else ""
        parts = [
            f"<{url}?{urlencode({**kept, name: at}, safe=':')}>; rel={quote}{rel}{quote}" for at, rel in links
        ]
        return Page(shown, ",".join(parts) or None, after is None)

    def _bookmark(self, place: tuple[str, str]) -> str:
        cursor = "bookmark:" + urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode("ascii")
        with self._lock:
            self._cursors[cursor] = place
        return cursor

    def _place(self, cursor: str) -> tuple[str, str] | None:
        if cursor == "first":
            return None
        with self._lock:
            if cursor not in self._cursors:
                raise BadCursor(cursor)
            return self._cursors[cursor]


def _numbered(ordered: Sequence[Membership], query: Mapping[str, str], url: str, size: int | None) -> Page:
    """Moodle's pages: everyone without `limit`, and a next link that forgets `role`."""
    start = _whole(query.get("from", "0"), "from")
    if not size:
        return Page(ordered[start:], None, start == 0)
    end = start + size
    following = {"limit": str(size), "from": str(end)} | ({"rlid": query["rlid"]} if "rlid" in query else {})
    link = f'<{url}?{urlencode(following)}>; rel="next"' if end < len(ordered) else None
    return Page(ordered[start:end], link, start == 0)


def _limit(query: Mapping[str, str]) -> int | None:
    return _whole(query["limit"], "limit") or None if query.get("limit") else None


def _whole(text: str, name: str) -> int:
    if not text.isdecimal():
        raise BadCursor(f"{name}={text}")
    return int(text)


def _smallest(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size), default=None)
