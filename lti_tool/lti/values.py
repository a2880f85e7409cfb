"""Values as platforms send them: empty, unsubstituted, too long or with control characters."""

import re
from typing import Any

# NUL breaks PostgreSQL, a lone surrogate every database; no control character belongs in a name.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# A substitution variable that the platform did not know arrives as it was written: $Person.email.primary
_UNSUBSTITUTED = re.compile(r"\$[A-Z]\w*(\.\w+)*")
# First characters of values that need a closer look; the empty one is no value's.
_SUSPICIOUS = {"", " ", "$"}
# 1EdTech bounds subject, deployment, context and resource link ids alike.
ID_LENGTH = 255
LARGEST_TOKEN = 64_000  # characters


class ValueRefused(ValueError):
    """A value that identifies something cannot be what it claims to be."""


def text(value: Any, cap: int) -> str | None:
    """What a person may read, cut to `cap` characters; None when nothing was really said."""
    # Nearly every value of a big roster is plain; str answers faster than the expressions below.
    if type(value) is str and value.isprintable() and value[:1] not in _SUSPICIOUS and value[-1] != " ":
        return value[:cap]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    # The plain case first: big rosters have hundreds of thousands of values.
    value = (value if value.isprintable() else _UNPRINTABLE.sub(" ", value)).strip()
    if not value or (value[0] == "$" and _UNSUBSTITUTED.fullmatch(value)):
        return None
    return value[:cap]


def identifier(value: Any) -> str | None:
    """An id exactly as sent, None when absent. Raises ValueRefused rather than change one character."""
    if (
        type(value) is str
        and len(value) <= ID_LENGTH
        and value.isprintable()
        and value[:1] not in _SUSPICIOUS
    ):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > ID_LENGTH:
        raise ValueRefused
    if not value.isprintable() and _UNPRINTABLE.search(value):
        raise ValueRefused
    return None if value[0] == "$" and _UNSUBSTITUTED.fullmatch(value) else value


def email(value: Any) -> str | None:
    """An address if it can be one; a cut address would be somebody else's, so a long one is absent."""
    address = text(value, 1000)
    if not address or len(address) > 254 or "@" not in address or " " in address:
        return None
    return address
