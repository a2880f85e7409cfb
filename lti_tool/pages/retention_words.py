"""How long things are kept, and what is forgotten, in words."""

from collections.abc import Callable
from typing import Any

from flask_babel import format_decimal, lazy_gettext, ngettext
from flask_babel import gettext as _

from lti_tool.classroom.retention import COUNTED, Kind

# Names of the settings.
KEPT: dict[Kind, Any] = {
    Kind.AUDIT: lazy_gettext("Audit log and receipts of syncs"),
    Kind.NAMES: lazy_gettext("Names in attendance and chat"),
    Kind.ENDED: lazy_gettext("Past courses of people who are in no course"),
    Kind.UNSEEN: lazy_gettext("Students who were not seen and are in no course"),
    Kind.MAIL: lazy_gettext("Which mails were sent"),
    Kind.REFUSED: lazy_gettext("Refused launches"),
}


def _count(number: int) -> str:
    said = str(format_decimal(number))
    return str(_("%(number)s or more", number=said)) if number >= COUNTED else said


# So many of each, as part of a list.
FORGOTTEN: dict[Kind, Callable[[int], str]] = {
    Kind.AUDIT: lambda n: ngettext("%(count)s log entry", "%(count)s log entries", n, count=_count(n)),
    Kind.NAMES: lambda n: ngettext(
        "%(count)s name in attendance and chat", "%(count)s names in attendance and chat", n, count=_count(n)
    ),
    Kind.ENDED: lambda n: ngettext(
        "%(count)s past place in a course", "%(count)s past places in courses", n, count=_count(n)
    ),
    Kind.UNSEEN: lambda n: ngettext("%(count)s person", "%(count)s people", n, count=_count(n)),
    Kind.MAIL: lambda n: ngettext(
        "%(count)s note of a sent mail", "%(count)s notes of sent mails", n, count=_count(n)
    ),
    Kind.REFUSED: lambda n: ngettext(
        "%(count)s refused launch", "%(count)s refused launches", n, count=_count(n)
    ),
}


def kept_for(days: int) -> str:
    """How long a term is, in words."""
    if not days:
        return str(_("until somebody deletes it"))
    if days % 365 == 0:
        return str(ngettext("%(num)s year", "%(num)s years", days // 365))
    return str(ngettext("%(num)s day", "%(num)s days", days))
