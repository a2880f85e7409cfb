"""Bulk changes in words: deeds, and what became of each row."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flask_babel import format_decimal, gettext, ngettext
from flask_babel import lazy_gettext as _

from lti_tool.classroom.batches import Batch, Deed


class OutcomeWords(NamedTuple):
    """What a row's outcome is called; `sign` is the receipt's mark.

    `added`, `changed` and `ended` were done; `kept` needed nothing; `skipped` was refused.
    """

    sign: str
    name: Any
    # Why, where the name alone does not say it.
    why: Any = ""

    @property
    def done(self) -> bool:
        """Was the deed done?"""
        return self.sign in ("added", "changed", "ended")


# Outcome code → words, in the order in which receipts name them.
OUTCOMES: dict[str, OutcomeWords] = {
    "invited": OutcomeWords("added", _("invited")),
    "added": OutcomeWords("added", _("added")),
    "raised": OutcomeWords("changed", _("role in the course raised")),
    "removed": OutcomeWords("ended", _("removed")),
    "removed_returns": OutcomeWords(
        "ended",
        _("removed, the LMS still lists them"),
        _("The next sync brings them back unless they are removed in the LMS."),
    ),
    "changed": OutcomeWords("changed", _("role changed")),
    "mailed": OutcomeWords("added", _("invited again")),
    "deleted": OutcomeWords("ended", _("deleted")),
    "restored": OutcomeWords("changed", _("brought back to what it was")),
    "already": OutcomeWords("kept", _("nothing to do"), _("It is so already.")),
    "not_there": OutcomeWords("kept", _("not in the course"), _("There was nothing to remove.")),
    "admin": OutcomeWords("kept", _("admin"), _("Admins are in every course, so none is added.")),
    "registered": OutcomeWords("kept", _("registered already"), _("Who has answered needs no invitation.")),
    "above": OutcomeWords("skipped", _("above you"), _("Their role is higher than that of who asked.")),
    "yourself": OutcomeWords("skipped", _("yourself"), _("Nobody does this to themselves.")),
    "role_above": OutcomeWords(
        "skipped", _("role not yours to give"), _("The role is higher than that of who asked.")
    ),
    "last_owner": OutcomeWords("skipped", _("last owner"), _("The account would be left without an owner.")),
    "blocked": OutcomeWords("skipped", _("blocked"), _("Who is blocked gets no mail.")),
    "gone": OutcomeWords("skipped", _("gone"), _("They were deleted or merged meanwhile.")),
    "course_gone": OutcomeWords("skipped", _("course deleted meanwhile"), _("The course is gone.")),
    "moved_on": OutcomeWords(
        "skipped", _("changed since"), _("Somebody changed it in between, so it was left alone.")
    ),
    "asker": OutcomeWords(
        "skipped",
        _("no longer allowed"),
        _("Who asked for this was no longer allowed to when it was their turn."),
    ),
    # Rows of an uploaded list that were not taken; verdict_words.py says it with the row's own words.
    "formula": OutcomeWords(
        "skipped", _("name looks like a formula"), _("Nobody said that it was looked at.")
    ),
    "no_address": OutcomeWords("skipped", _("no address"), _("The row has no e-mail address.")),
    "bad_address": OutcomeWords("skipped", _("address wrong"), _("What stands there is no e-mail address.")),
    "duplicate": OutcomeWords("skipped", _("twice in the list"), _("An earlier row has the same address.")),
    "unknown_course": OutcomeWords("skipped", _("course unknown"), _("No course has this name.")),
    "two_courses": OutcomeWords("skipped", _("course not clear"), _("Two courses have this name.")),
    "unknown_role": OutcomeWords("skipped", _("role unknown"), _("Use Student, Instructor or Admin.")),
    "long_name": OutcomeWords("skipped", _("name too long"), _("The name is longer than 200 characters.")),
    "strange_name": OutcomeWords(
        "skipped", _("name unreadable"), _("The name has characters that nobody can see.")
    ),
    "broken": OutcomeWords("skipped", _("went wrong"), _("Something went wrong on our side. It was noted.")),
    "": OutcomeWords("skipped", _("not done"), _("It was stopped before their turn.")),
}

# What the pages call a deed.
DEEDS: dict[Deed, Any] = {
    Deed.INVITE: _("Invite"),
    Deed.INVITE_AGAIN: _("Send invitation again"),
    Deed.ADD_TO_COURSE: _("Add to course"),
    Deed.REMOVE_FROM_COURSE: _("Remove from course"),
    Deed.CHANGE_ROLE: _("Change role"),
    Deed.DELETE: _("Delete"),
}


def outcome_words(code: str) -> OutcomeWords:
    """The words for an outcome; a code that nobody has words for names itself."""
    return OUTCOMES.get(code) or OutcomeWords("skipped", code)


def title(batch: Batch) -> str:
    """What was asked for, in a line."""
    number = batch.total
    if batch.deed is Deed.INVITE:
        return str(ngettext("Invite by a list of %(num)s row", "Invite by a list of %(num)s rows", number))
    if batch.deed is Deed.INVITE_AGAIN:
        return str(ngettext("Invite %(num)s person again", "Invite %(num)s people again", number))
    if batch.deed is Deed.ADD_TO_COURSE:
        return str(ngettext("Add %(num)s person to a course", "Add %(num)s people to a course", number))
    if batch.deed is Deed.REMOVE_FROM_COURSE:
        return str(
            ngettext("Remove %(num)s person from a course", "Remove %(num)s people from a course", number)
        )
    if batch.deed is Deed.CHANGE_ROLE:
        return str(ngettext("Change the role of %(num)s person", "Change the role of %(num)s people", number))
    return str(ngettext("Delete %(num)s person", "Delete %(num)s people", number))


def yes(deed: Deed, number: int) -> str:
    """The deed with its number, as the button says it."""
    said = {
        Deed.INVITE_AGAIN: ngettext(
            "Yes, invite %(num)s person again", "Yes, invite %(num)s people again", number
        ),
        Deed.ADD_TO_COURSE: ngettext("Yes, add %(num)s person", "Yes, add %(num)s people", number),
        Deed.REMOVE_FROM_COURSE: ngettext("Yes, remove %(num)s person", "Yes, remove %(num)s people", number),
        Deed.CHANGE_ROLE: ngettext(
            "Yes, change %(num)s person’s role", "Yes, change %(num)s people’s roles", number
        ),
        Deed.DELETE: ngettext("Yes, delete %(num)s person", "Yes, delete %(num)s people", number),
    }
    return str(said[deed])


def kinds(counts: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """What a receipt can be narrowed to, as (code, name, number): those not done first, in all and by why."""
    left = [code for code in counts if not outcome_words(code).done]
    done = [code for code in counts if outcome_words(code).done]
    found = []
    for group, name, codes in (("left", _("not done"), left), ("done", _("done"), done)):
        if len(codes) > 1:
            found.append((group, str(name), sum(counts[code] for code in codes)))
        # Those whom a stopped change did not reach have no code.
        found += [(code or "left", str(outcome_words(code).name), counts[code]) for code in codes]
    return found


def in_short(batch: Batch) -> str:
    """What became of it, in a line."""
    if batch.busy:
        return str(gettext("under way"))
    counts = batch.outcomes or {}
    return " · ".join(
        f"{format_decimal(counts[code])} {outcome_words(code).name}"
        for code in (*OUTCOMES, *(counts.keys() - OUTCOMES.keys()))
        if counts.get(code)
    )
