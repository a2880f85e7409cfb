"""Returned messages: what a mail server sends back to the sender's address when it could not deliver.

RFC 3464: a multipart/report of words for people, a delivery status for machines, and the message or its
headers. Only codes and our own Message-ID are taken from it; who it was meant for is not looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, message_from_string
from email.message import Message

from lti_tool import delivery, mail

# Longer ones are cut: what is looked for stands before the words of the message that came back. Anybody can
# send one, and the standard library takes the longer for each line the deeper it stands in boxes.
LONGEST = 128 * 1024


@dataclass(frozen=True)
class Return:
    """What a returned message says of one of our mails."""

    message_id: str
    # As "5.1.1"; empty if it gives none.
    code: str
    # Will not be delivered any more; else it is held up and still tried.
    final: bool


def read(raw: bytes) -> Return | None:
    """What a returned message says; None for anything else, however it is made."""
    try:
        parts = list(message_from_bytes(raw[:LONGEST]).walk())
        action, code = _worst(parts)
        message_id = next(_message_ids(parts), "")
    except (RecursionError, LookupError, ValueError):
        # Boxes in boxes without end, character sets that do not exist: nothing a mail server sends.
        return None
    if not message_id or action not in ("failed", "delayed"):
        return None
    return Return(message_id, code, final=action == "failed")


def note(raw: bytes) -> bool:
    """Mark the mail that came back; was it one of ours?"""
    found = read(raw)
    if found is None:
        return False
    code = found.code or ("returned" if found.final else "held_up")
    return mail.note_return(found.message_id, code, final=found.final)


def _worst(parts: list[Message]) -> tuple[str, str]:
    """Action and code of the recipient who fared worst; we write to one person at a time."""
    worst = ("", "")
    for part in parts:
        # The standard library reads a delivery status as blocks of headers: the message's, then recipients'.
        if part.get_content_type() != "text/plain" or "action" not in part:
            continue
        action = str(part["action"]).strip().lower()
        found = delivery.ENHANCED_CODE.match(str(part.get("status", "")).strip())
        if action == "failed" or not worst[0]:
            worst = (action, found[0] if found else "")
        if action == "failed":
            break
    return worst


def _message_ids(parts: list[Message]) -> Iterator[str]:
    """The Message-IDs of what came back, whether all of it or only its headers."""
    for part in parts:
        if part.get_content_type() == "message/rfc822":
            held = [inner for inner in part.get_payload() if isinstance(inner, Message)]
        elif part.get_content_type() == "text/rfc822-headers":
            content = part.get_payload(decode=True)
            held = (
                [message_from_string(content.decode("ascii", "replace"))]
                if isinstance(content, bytes)
                else []
            )
        else:
            continue
        for inner in held:
            message_id = str(inner.get("message-id", "")).strip()
            # Nothing that PostgreSQL would not take, and nothing longer than a header's line.
            if message_id.isprintable() and 2 < len(message_id) < 998:
                yield message_id
