"""Deep linking: what a platform asks to have chosen, and our signed answer (LTI Deep Linking 2.0).

Not built on pylti1p3's DeepLink: it sends `data` as null where none came, and knows no line item's label.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import jwt

from lti_tool.database import now
from lti_tool.lti import keys, values
from lti_tool.lti.scopes import LINE_ITEMS

LTI = "https://purl.imsglobal.org/spec/lti/claim/"
DL = "https://purl.imsglobal.org/spec/lti-dl/claim/"
RESPONSE = "LtiDeepLinkingResponse"
LINK = "ltiResourceLink"

# The custom parameter by which a link names its room.
ROOM = "room"
# Where a copy of a course or of a link says what it was copied from. Platforms fill the variables in at
# each launch (LTI 1.3 core, appendix D); one that does not know them leaves them as they are.
CONTEXT_HISTORY, LINK_HISTORY = "context_id_history", "resource_link_id_history"
HISTORY = {CONTEXT_HISTORY: "$Context.id.history", LINK_HISTORY: "$ResourceLink.id.history"}
LONGEST_HISTORY = 50  # ids

ANSWER_SECONDS = 600


@dataclass(frozen=True, slots=True)
class DeepLinking:
    """What a deep linking launch asks for."""

    # Where the answer goes; http or https.
    return_url: str
    # As sent, for example "ltiResourceLink", "link", "file".
    accept_types: tuple[str, ...]
    # "iframe", "window", …
    targets: tuple[str, ...]
    accept_multiple: bool
    # A link may bring a line item for grades.
    accept_line_item: bool
    # The platform makes the links at once, without asking the person again.
    auto_create: bool
    # To be sent back as it came; None when none came.
    data: Any


def read(settings: Mapping[str, Any], return_url: str, scopes: Any) -> DeepLinking:
    """The settings claim of a checked launch; `scopes` as its claim of the grade service has them."""
    says = settings.get("accept_lineitem")
    may_make = isinstance(scopes, list) and LINE_ITEMS in scopes
    return DeepLinking(
        return_url=return_url,
        accept_types=texts(settings.get("accept_types")),
        targets=texts(settings.get("accept_presentation_document_targets")),
        # Absent means that it is not said; one link is what every platform takes.
        accept_multiple=settings.get("accept_multiple") is True,
        accept_line_item=may_make if says is None else says is True,
        auto_create=settings.get("auto_create") is True,
        data=settings.get("data"),
    )


def texts(value: Any) -> tuple[str, ...]:
    """The texts of a list, as sent; none if it is no list."""
    said = value if isinstance(value, list) else []
    return tuple(text for text in said[:50] if isinstance(text, str) and len(text) <= 100)


def read_history(said: str | None) -> tuple[str, ...]:
    """The ids that a history variable names, the newest copy's origin first (LTI 1.3 core, appendix D)."""
    ids = [unquote(one.strip()) for one in (said or "").split(",")[:LONGEST_HISTORY]]
    # Unquoted they may hold what no id has, and what PostgreSQL takes in no text.
    return tuple(dict.fromkeys(one for one in ids if one.isprintable() and 0 < len(one) <= values.ID_LENGTH))


@dataclass(frozen=True, slots=True)
class Item:
    """A link to one of our rooms, to be placed in the platform's course."""

    room: int
    title: str
    text: str = ""
    # The label of a line item for attendance; None: no line item.
    line_item: str | None = None


def content_item(item: Item, launch_url: str) -> dict[str, Any]:
    """The item as the platform takes it (section 3.1.2)."""
    said: dict[str, Any] = {
        "type": LINK,
        "url": launch_url,
        "title": item.title,
        "custom": {ROOM: str(item.room), **HISTORY},
    }
    if item.text:
        said["text"] = item.text
    if item.line_item is not None:
        said["lineItem"] = {
            "scoreMaximum": 100,
            "label": item.line_item,
            "resourceId": f"attendance-{item.room}",
            "tag": "attendance",
        }
    return said


def answer(
    *,
    issuer: str,
    client_id: str,
    deployment_id: str,
    data: Any,
    items: Sequence[Mapping[str, Any]],
    error: str = "",
) -> str:
    """The signed LtiDeepLinkingResponse (section 4.5). Ask for nothing and it says: nothing was chosen."""
    key = keys.current_key()
    moment = int(now().timestamp())
    message: dict[str, Any] = {
        "iss": client_id,
        "aud": [issuer],
        # A platform whose clock is behind must not see an answer from the future.
        "iat": moment - 5,
        "exp": moment + ANSWER_SECONDS,
        "nonce": secrets.token_urlsafe(24),
        LTI + "message_type": RESPONSE,
        LTI + "version": "1.3.0",
        LTI + "deployment_id": deployment_id,
        DL + "content_items": list(items),
    }
    # What was not sent is not sent back, not even as null.
    if data is not None:
        message[DL + "data"] = data
    if error:
        message[DL + "errormsg"] = error
    return jwt.encode(message, key.signer(), algorithm="RS256", headers={"kid": key.kid})
