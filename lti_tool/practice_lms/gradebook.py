"""The platform's gradebook: line items and scores in memory (AGS 2.0), worded as each platform does."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .messages import Flavour

GRADEBOOK_CLAIM = "https://purl.imsglobal.org/spec/lti-ags/claim/endpoint"
_SCOPE = "https://purl.imsglobal.org/spec/lti-ags/scope/"
LINE_ITEMS_SCOPE = _SCOPE + "lineitem"
LINE_ITEMS_READ_SCOPE = _SCOPE + "lineitem.readonly"
SCORES_SCOPE = _SCOPE + "score"
RESULTS_SCOPE = _SCOPE + "result.readonly"
GRADEBOOK_SCOPES = frozenset({LINE_ITEMS_SCOPE, LINE_ITEMS_READ_SCOPE, SCORES_SCOPE, RESULTS_SCOPE})

_ACTIVITY = {"Initialized", "Started", "InProgress", "Submitted", "Completed"}
_GRADING = {"FullyGraded", "Pending", "PendingManual", "Failed", "NotReady"}
# Line items on a page where the tool asks for no number. Moodle has no cap.
_CAP: dict[Flavour, int | None] = {"moodle": None, "canvas": 10, "brightspace": 10}


class GradeRefused(Exception):
    """The gradebook does not take this; carries the status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class LineItem:
    """A column of a course's gradebook, with the scores it was sent."""

    id: int
    course_id: str
    label: str
    score_maximum: float
    resource_id: str = ""
    tag: str = ""
    resource_link_id: str = ""
    scores: list[dict[str, Any]] = field(default_factory=list)

    def current(self) -> dict[str, dict[str, Any]]:
        """Each person's latest score."""
        latest: dict[str, dict[str, Any]] = {}
        for score in self.scores:
            latest[score["userId"]] = score
        return latest


class Gradebook:
    """Every course's line items; may be used by any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[int, LineItem] = {}
        self._next_id = 1

    def items(self, course_id: str) -> list[LineItem]:
        """A course's columns, in the order they were made."""
        with self._lock:
            return [item for item in self._items.values() if item.course_id == course_id]

    def find(self, course_id: str, item_id: int) -> LineItem:
        """A column of a course; raises LookupError."""
        with self._lock:
            item = self._items.get(item_id)
        if item is None or item.course_id != course_id:
            raise LookupError(item_id)
        return item

    def add(self, course_id: str, sent: Mapping[str, Any]) -> LineItem:
        """A new column; raises GradeRefused."""
        fields = _fields(sent)
        with self._lock:
            item = LineItem(self._next_id, course_id, **fields)
            self._items[item.id] = item
            self._next_id += 1
        return item

    def change(self, item: LineItem, sent: Mapping[str, Any]) -> None:
        """Another label, maximum or tag; raises GradeRefused."""
        for name, value in _fields(sent).items():
            setattr(item, name, value)

    def remove(self, item: LineItem) -> None:
        """The column is gone, with its scores."""
        with self._lock:
            self._items.pop(item.id, None)

    def score(self, item: LineItem, sent: Mapping[str, Any], known: Iterable[str]) -> None:
        """A score for somebody in the course; raises GradeRefused for one that AGS does not allow."""
        if str(sent.get("userId", "")) not in set(known):
            raise GradeRefused("nobody in this course has this userId", 404)
        if sent.get("activityProgress") not in _ACTIVITY or sent.get("gradingProgress") not in _GRADING:
            raise GradeRefused("activityProgress and gradingProgress must be of the standard's words")
        at = _moment(sent.get("timestamp"))
        if "scoreGiven" in sent and not (_is_number(sent.get("scoreMaximum")) and sent["scoreMaximum"] > 0):
            raise GradeRefused("a scoreGiven needs a scoreMaximum")
        with self._lock:
            earlier = item.current().get(sent["userId"])
            if earlier and _moment(earlier["timestamp"]) >= at:
                raise GradeRefused("a newer score is here already", 409)
            item.scores.append(dict(sent))


def _fields(sent: Mapping[str, Any]) -> dict[str, Any]:
    label, maximum = sent.get("label"), sent.get("scoreMaximum")
    if not isinstance(label, str) or not label.strip():
        raise GradeRefused("a line item needs a label")
    if not _is_number(maximum) or maximum is None or maximum <= 0:
        raise GradeRefused("scoreMaximum must be more than 0")
    return {
        "label": label,
        "score_maximum": maximum,
        "resource_id": str(sent.get("resourceId", "")),
        "tag": str(sent.get("tag", "")),
        "resource_link_id": str(sent.get("resourceLinkId", "")),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moment(text: Any) -> datetime:
    """ISO 8601 with milliseconds and a zone (AGS 2.0, section 3.4.2)."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        raise GradeRefused("timestamp must be ISO 8601") from None
    if at.tzinfo is None or "." not in str(text):
        raise GradeRefused("timestamp needs milliseconds and a zone")
    return at


def lineitems_url(flavour: Flavour, server_url: str, course_id: str) -> str:
    """A course's line items; Moodle's addresses have a query of their own."""
    query = "?type_id=1" if flavour == "moodle" else ""
    return f"{server_url}/courses/{course_id}/lineitems{query}"


def item_url(flavour: Flavour, server_url: str, item: LineItem) -> str:
    """One line item's address, before whose query /scores goes."""
    ending = "/lineitem?type_id=1" if flavour == "moodle" else ""
    return f"{server_url}/courses/{item.course_id}/lineitems/{item.id}{ending}"


def gradebook_claim(
    flavour: Flavour,
    server_url: str,
    course_id: str,
    link_id: str,
    items: Iterable[LineItem],
    scopes: Iterable[str],
) -> dict[str, Any]:
    """What a launch says of the gradebook; `lineitem` only if the link has exactly one."""
    allowed = sorted(GRADEBOOK_SCOPES & set(scopes))
    if not allowed:
        return {}
    endpoint: dict[str, Any] = {
        "scope": allowed,
        "lineitems": lineitems_url(flavour, server_url, course_id),
    }
    own = [item for item in items if item.resource_link_id == link_id]
    if len(own) == 1:
        endpoint["lineitem"] = item_url(flavour, server_url, own[0])
    return {GRADEBOOK_CLAIM: endpoint}


def row(flavour: Flavour, server_url: str, item: LineItem) -> dict[str, Any]:
    """A line item as it is told; what is empty is left out."""
    told = {
        "id": item_url(flavour, server_url, item),
        "label": item.label,
        "scoreMaximum": item.score_maximum,
        "resourceId": item.resource_id,
        "tag": item.tag,
        "resourceLinkId": item.resource_link_id,
    }
    return {name: value for name, value in told.items() if value != ""}


def page_of(
    flavour: Flavour, items: list[LineItem], query: Mapping[str, str], url: str
) -> tuple[list[LineItem], str | None]:
    """The items of a page, and the Link header that says where the next one is."""
    found = [
        item
        for item in items
        if query.get("tag", item.tag) == item.tag
        and query.get("resource_id", item.resource_id) == item.resource_id
    ]
    size = int(query["limit"]) if query.get("limit", "").isdecimal() else 0
    cap = _CAP[flavour]
    size = min(size or len(found) or 1, cap or len(found) or 1)
    start = int(query["from"]) if query.get("from", "").isdecimal() else 0
    shown, end = found[start : start + size], start + size
    if end >= len(found):
        return shown, None
    joint = "&" if "?" in url else "?"
    following = f"{url}{joint}limit={size}&from={end}"
    if flavour == "moodle":
        # As Moodle writes it: ordinary parsers find no rel here, and no usable address.
        first = html.escape(f"{url}{joint}limit={size}&from=0")
        return shown, f"<{first}>; rel=“first”, <{html.escape(following)}>; rel=“next”"
    return shown, f'<{url}>; rel="first",<{following}>; rel="next"'
