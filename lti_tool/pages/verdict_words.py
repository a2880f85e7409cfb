"""Words for what becomes of a row of an uploaded list, before the yes, and for lists that cannot be read."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flask_babel import format_decimal, lazy_gettext
from flask_babel import gettext as _

from lti_tool.classroom.batches import BatchRow
from lti_tool.classroom.guest_lists import MAX_ROWS, Field, Flaw, ListRefused
from lti_tool.classroom.verdicts import LONGEST_NAME, Verdict


class VerdictWords(NamedTuple):
    """`status` is the mark's kind; `why` may be empty."""

    status: str
    name: str
    why: str = ""


FIELD_NAMES: dict[Field, Any] = {
    Field.NAME: lazy_gettext("Full name"),
    Field.FIRST: lazy_gettext("First name"),
    Field.LAST: lazy_gettext("Last name"),
    Field.EMAIL: lazy_gettext("Email"),
    Field.ROLE: lazy_gettext("Role"),
    Field.COURSE: lazy_gettext("Course"),
}
SEPARATOR_NAMES = {
    ",": lazy_gettext("commas"),
    ";": lazy_gettext("semicolons"),
    "\t": lazy_gettext("tabs"),
    "": lazy_gettext("one column"),
}


def verdict_words(row: BatchRow) -> VerdictWords:
    """What the check page says of a row."""
    words = row.words or {}
    verdict, facts = Verdict(row.verdict), words.get("facts", {})
    if verdict is Verdict.INVITE:
        return VerdictWords("registered", _("Invite"), _claimed(facts))
    if verdict is Verdict.ADD:
        why = _("Has an account; the mail says what was added")
        if facts.get("raised"):
            why = _("Has an account and gets a higher role; the mail says so")
        return VerdictWords("registered", _("Add"), why)
    if verdict is Verdict.WAITING:
        return VerdictWords(
            "pending", _("Pending already"), _("Gets what is new; a fresh invitation only if you ask for it")
        )
    if verdict is Verdict.FORMULA:
        return VerdictWords(
            "pending", _("Look at the name"), _("It looks like a formula, which a spreadsheet would run")
        )
    if verdict is Verdict.NOTHING:
        return VerdictWords("off", _("Nothing to do"), _("On these lists already"))
    return VerdictWords("stop", _("Not taken"), _REASONS[verdict](words, facts))


def _claimed(facts: dict[str, Any]) -> str:
    name = facts.get("claimed")
    if not name:
        return ""
    return str(
        _(
            "An LMS says this address is %(name)s’s. This makes a second person unless they prove it is them",
            name=name,
        )
    )


def _unknown_course(words: dict[str, Any], facts: dict[str, Any]) -> str:
    if facts.get("nearest"):
        return str(
            _(
                "No course “%(course)s”. Is it “%(nearest)s”?",
                course=facts["course"],
                nearest=facts["nearest"],
            )
        )
    return str(_("No course “%(course)s”", course=facts["course"]))


# Why a row is not taken.
_REASONS: dict[Verdict, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    Verdict.NO_ADDRESS: lambda words, facts: _("It has no e-mail address"),
    Verdict.BAD_ADDRESS: lambda words, facts: _(
        "“%(email)s” is not an e-mail address", email=words.get("email", "")
    ),
    Verdict.DUPLICATE: lambda words, facts: _("Same address as row %(row)s", row=facts["row"]),
    Verdict.UNKNOWN_COURSE: _unknown_course,
    Verdict.TWO_COURSES: lambda words, facts: _(
        "Two courses are called “%(course)s”. Invite to it on its own", course=facts["course"]
    ),
    Verdict.UNKNOWN_ROLE: lambda words, facts: _(
        "No role “%(role)s”. Use Student, Instructor or Admin", role=words.get("role", "")
    ),
    Verdict.ROLE_REFUSED: lambda words, facts: _("This role is not yours to give by a list"),
    Verdict.LONG_NAME: lambda words, facts: _(
        "The name is longer than %(number)s characters", number=LONGEST_NAME
    ),
    Verdict.STRANGE_NAME: lambda words, facts: _("The name has characters that nobody can see"),
    Verdict.BLOCKED: lambda words, facts: _("An admin blocked this person. Unblock them first"),
}


def refusal(refused: ListRefused) -> str:
    """Why a list cannot be read, beside its field."""
    limits = {"rows": format_decimal(MAX_ROWS), "size": 2}
    if refused.flaw is Flaw.EMPTY:
        return str(_("There is nobody in it. Paste at least one line with an e-mail address."))
    if refused.flaw is Flaw.TOO_MANY_ROWS:
        return str(
            _(
                "These are %(found)s rows. At most %(rows)s rows and %(size)s MB are taken at once; split the"
                " list.",
                found=format_decimal(refused.rows),
                **limits,
            )
        )
    if refused.flaw is Flaw.TOO_LARGE:
        return str(
            _(
                "The list is too large. At most %(rows)s rows and %(size)s MB are taken at once; split it.",
                **limits,
            )
        )
    if refused.flaw is Flaw.SPREADSHEET:
        return str(_("This is a spreadsheet’s own file. Save it as CSV and choose that file."))
    return str(_("This file is not text. Save the list as CSV and choose that file."))
