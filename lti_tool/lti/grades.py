"""A course's gradebook: its line items, and scores for people (AGS 2.0).

Line items name their own addresses, so each is held against the origin that the signed launch named before
the access token goes there. Moodle's addresses have a query: /scores stands before it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import requests

from lti_tool.lti import outgoing, services
from lti_tool.lti.claims import Gradebook
from lti_tool.lti.outgoing import Limits, PlatformUnavailable
from lti_tool.lti.registrations import Platform
from lti_tool.lti.scopes import LINE_ITEMS, LINE_ITEMS_READ, SCORES
from lti_tool.lti.services import NextMalformed
from lti_tool.lti.tokens import TokenRefused

LINE_ITEM_TYPE = "application/vnd.ims.lis.v2.lineitem+json"
CONTAINER_TYPE = "application/vnd.ims.lis.v2.lineitemcontainer+json"
SCORE_TYPE = "application/vnd.ims.lis.v1.score+json"

MOST_PAGES = 50
# A job waits, as for a roster's page.
PATIENT = Limits(read=20.0, total=60.0, size=2_000_000)


class GradebookUnavailable(Exception):
    """The gradebook could not be asked. `reason` is a short code; nothing of its answer is in here."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"{reason} status {status}" if status else reason)
        self.reason = reason
        self.status = status


class ScopeMissing(Exception):
    """The platform does not let us do this in its gradebook."""


class LineItemGone(Exception):
    """The platform no longer has this line item."""


@dataclass(frozen=True, slots=True)
class LineItem:
    """A column of a gradebook."""

    url: str
    label: str
    score_maximum: float
    # What the tool called it when it made it: which of its things, and what of it.
    resource_id: str = ""
    tag: str = ""
    resource_link_id: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """What a person reached, and how far they and their grading are (AGS 2.0, section 3.4)."""

    subject: str
    at: datetime
    given: float | None = None
    maximum: float | None = None
    comment: str = ""
    activity: str = "Completed"
    grading: str = "FullyGraded"


class _Item(msgspec.Struct):
    """A line item as sent; some platforms write numbers as text, and leave out what is empty."""

    id: Any = None
    label: Any = None
    scoreMaximum: Any = None
    resourceId: Any = None
    tag: Any = None
    resourceLinkId: Any = None


def _named(work: Callable[..., Any]) -> Callable[..., Any]:
    """Give every failure of the platform a name of the gradebook's own."""

    @wraps(work)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        except TokenRefused as refused:
            if refused.error == "invalid_scope":
                raise ScopeMissing(refused.error) from None
            raise GradebookUnavailable(refused.reason, status=refused.status) from None
        except PlatformUnavailable as error:
            raise GradebookUnavailable(error.reason, status=error.status) from None
        except NextMalformed:
            raise GradebookUnavailable("next_malformed") from None

    return guarded


class GradebookService:
    """One course's gradebook on one platform.

    Every method ends the open transaction (outgoing.let_go), and may raise GradebookUnavailable or
    ScopeMissing.
    """

    def __init__(self, platform: Platform, gradebook: Gradebook) -> None:
        self.platform = platform
        self.gradebook = gradebook

    @_named
    def list_items(self, *, resource_id: str = "", tag: str = "") -> list[LineItem]:
        """Every line item that we may see, all pages; of one resource or with one tag."""
        return [
            item
            for page in self._pages()
            for item in page
            if (not resource_id or item.resource_id == resource_id) and (not tag or item.tag == tag)
        ]

    def find_item(self, *, resource_id: str, tag: str = "") -> LineItem | None:
        """The line item we made for this resource, or None."""
        return next(iter(self.list_items(resource_id=resource_id, tag=tag)), None)

    @_named
    def create_item(self, item: LineItem) -> LineItem:
        """A new column; its address is the platform's. Not asked twice: that would make two."""
        answer = self._ask(
            "POST",
            self._list_url(),
            LINE_ITEMS,
            {"Content-Type": LINE_ITEM_TYPE, "Accept": LINE_ITEM_TYPE},
            _written(item),
            again=False,
        )
        return self._read(outgoing.read_json(answer, _Item))

    @_named
    def update_item(self, item: LineItem) -> None:
        """Another label or another maximum. Raises LineItemGone."""
        headers = {"Content-Type": LINE_ITEM_TYPE, "Accept": LINE_ITEM_TYPE}
        self._ask_item("PUT", item.url, LINE_ITEMS, headers, _written(item))

    @_named
    def delete_item(self, item: LineItem) -> None:
        """Take the column away with its scores. Raises LineItemGone."""
        self._ask_item("DELETE", item.url, LINE_ITEMS, {})

    @_named
    def post_score(self, item_url: str, score: Score) -> None:
        """Say what somebody reached; the newest `at` holds. Raises LineItemGone."""
        said: dict[str, Any] = {
            "userId": score.subject,
            "timestamp": _moment(score.at),
            "activityProgress": score.activity,
            "gradingProgress": score.grading,
        }
        if score.given is not None:
            said |= {"scoreGiven": score.given, "scoreMaximum": score.maximum}
        if score.comment:
            said["comment"] = score.comment
        # Moodle answers 200 with nothing in it, others 204: what it holds is not asked.
        self._ask_item(
            "POST", scores_url(item_url), SCORES, {"Content-Type": SCORE_TYPE}, msgspec.json.encode(said)
        )

    def _pages(self) -> Iterator[list[LineItem]]:
        url: str | None = self._list_url()
        seen: set[str] = set()
        while url is not None:
            if url in seen or len(seen) >= MOST_PAGES:
                raise GradebookUnavailable("too_many_pages")
            seen.add(url)
            answer = self._ask("GET", url, self._reading(), {"Accept": CONTAINER_TYPE})
            yield [self._read(item) for item in outgoing.read_json(answer, list[_Item])]
            url = services.find_next(answer.headers.get("Link", ""), url)

    def _list_url(self) -> str:
        if self.gradebook.lineitems_url is None:
            raise GradebookUnavailable("lineitems_missing")
        return self.gradebook.lineitems_url

    def _reading(self) -> str:
        return LINE_ITEMS if LINE_ITEMS in self.gradebook.scopes else LINE_ITEMS_READ

    def _ask_item(
        self, method: str, url: str, scope: str, headers: dict[str, str], body: bytes | None = None
    ) -> None:
        try:
            self._ask(method, url, scope, headers, body)
        except PlatformUnavailable as error:
            if error.reason == "gradebook_refused" and error.status in (404, 410):
                raise LineItemGone(url) from None
            raise

    def _ask(
        self,
        method: str,
        url: str,
        scope: str,
        headers: dict[str, str],
        body: bytes | None = None,
        *,
        again: bool = True,
    ) -> requests.Response:
        # An empty list says nothing: then the token's answer will.
        if self.gradebook.scopes and scope not in self.gradebook.scopes:
            raise ScopeMissing(scope)
        home = self.gradebook.lineitems_url or self.gradebook.lineitem_url or ""
        # The access token goes nowhere but where the launch said.
        if services.origin(url) != services.origin(home):
            raise GradebookUnavailable("foreign_address")
        return services.ask(
            self.platform,
            method,
            url,
            scope=scope,
            headers=headers,
            limits=PATIENT,
            refused="gradebook_refused",
            body=body,
            again=again,
        )

    def _read(self, item: _Item) -> LineItem:
        if not isinstance(item.id, str) or not item.id.isprintable():
            raise GradebookUnavailable("line_item_malformed")
        return LineItem(
            url=item.id,
            label=services.text_of(item.label)[:200],
            score_maximum=_number(item.scoreMaximum),
            resource_id=services.text_of(item.resourceId),
            tag=services.text_of(item.tag),
            resource_link_id=services.text_of(item.resourceLinkId),
        )


def scores_url(item_url: str) -> str:
    """Where scores of a line item go: /scores, before the query that Moodle's addresses have."""
    try:
        parts = urlsplit(item_url)
    except ValueError:
        raise GradebookUnavailable("url_malformed") from None
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/scores"))


def _written(item: LineItem) -> bytes:
    fields: dict[str, Any] = {
        "label": item.label,
        "scoreMaximum": item.score_maximum,
        "resourceId": item.resource_id,
        "tag": item.tag,
        "resourceLinkId": item.resource_link_id,
    }
    return msgspec.json.encode({name: value for name, value in fields.items() if value != ""})


def _moment(at: datetime) -> str:
    """With milliseconds and zone: platforms keep the later of two scores."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
