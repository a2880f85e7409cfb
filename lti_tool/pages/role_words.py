"""How roles of an LMS were read, in sentences."""

from typing import Any

from flask_babel import gettext

from lti_tool.classroom.accounts import Role
from lti_tool.classroom.role_maps import Rule, Verdict
from lti_tool.lti.roles import RoleName


def _(sentence: str, **values: Any) -> str:
    """A sentence in the reader's language (flask_babel does not say that it is text)."""
    return str(gettext(sentence, **values))


def where(name: RoleName | None) -> str:
    """What a role is said about."""
    if name is None:
        return _("unknown")
    return {"context": _("course"), "institution": _("institution"), "system": _("system")}[name.scope]


def called(name: RoleName | None, sent: str) -> str:
    """A role in the vocabulary's spelling, and as sent where it is none of the vocabulary."""
    if name is None:
        return sent.strip()
    return f"{name.core} · {name.sub}" if name.sub else name.core


def because(verdict: Verdict, *, makes_admins: bool) -> str:
    """Why one role counts as it does."""
    teaches = verdict.counts is Role.INSTRUCTOR
    if verdict.rule is Rule.ASSISTANT:
        if teaches:
            return _("A teaching assistant, and those are instructors here.")
        return _("A teaching assistant, and those are students here.")
    if verdict.rule is Rule.DESIGNER:
        if teaches:
            return _("A course designer or manager, and those are instructors here.")
        return _("A course designer or manager, and those are students here.")
    if verdict.rule is Rule.OVERRIDE:
        return (
            _("Your rule for this role: instructor.") if teaches else _("Your rule for this role: student.")
        )
    if verdict.rule is Rule.ADMINISTRATOR:
        if makes_admins:
            return _("Administrators of this LMS are admins here. In the course it says nothing.")
        return _("This LMS may not make people admins, and in the course it says nothing.")
    return {
        Rule.TEACHES: _("Teaches the course: instructor."),
        Rule.COURSE_ADMINISTRATOR: _("Administrator of the course alone: instructor."),
        Rule.LEARNS: _("Learns in the course: student."),
        Rule.ONLOOKER: _("Sees the course and never leads it: student."),
        Rule.LIMITED: _("A grader or a guest, which is less than an instructor: student."),
        Rule.COMPANION: _("Sent beside a more exact role, which counts instead."),
        Rule.UNKNOWN: _("Not a role that we know. It makes nobody an instructor."),
        Rule.OUTSIDE: _("Says nothing about the course."),
        Rule.TEST_USER: _("A preview account: marked, never mailed, never counted."),
    }[verdict.rule]


def unreadable(reason: str) -> str:
    """Why what was pasted cannot be read."""
    return {
        "not_json": _("This begins like JSON, but it breaks off or cannot be read. Copy the whole of it."),
        "not_token": _("This looks like a token, but it cannot be read. Copy all three parts of it."),
        "no_roles": _("There is no list of roles in it."),
        "too_many": _("That is more, or longer, than an LMS may send: 100 roles of 500 characters."),
    }[reason]
