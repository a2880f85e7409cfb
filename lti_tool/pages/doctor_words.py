"""What the doctor found, in sentences: what it means, and the mend in that LMS's own words."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import current_app
from flask_babel import format_decimal, gettext, lazy_gettext, ngettext

from lti_tool.classroom.checkups import Checkup, Finding, Kind
from lti_tool.classroom.roster import lms_name
from lti_tool.lti.registrations import Registration
from lti_tool.pages import doctor_mends, refusals, words
from lti_tool.pages.refusals import REFUSALS


@dataclass(frozen=True)
class Said:
    """A finding in words."""

    kind: Kind
    title: str
    # What it means, and what mends it.
    text: str
    mend: str
    # For whoever runs the LMS, to be sent as it is; empty where the mend is not theirs.
    copy: str
    # Courses it is about, and how many more.
    courses: list[dict[str, Any]]
    more: int


def _(sentence: str, **values: Any) -> str:
    """A sentence in the reader's language (flask_babel does not say that it is text)."""
    return str(gettext(sentence, **values))


def _n(one: str, many: str, number: int, **values: Any) -> str:
    return str(ngettext(one, many, number, n=format_decimal(number), **values))


STEPS = {
    "": lazy_gettext("The check is waiting for its turn"),
    "keys": lazy_gettext("Asking for its keys"),
    "token": lazy_gettext("Asking it for access"),
    "grades": lazy_gettext("Looking into its gradebook"),
    "rosters": lazy_gettext("Looking at rosters and launches"),
}


def step(checkup: Checkup) -> str:
    """How far a check has come."""
    return str(STEPS.get(checkup.step, STEPS["rosters"]))


# --- why something could not be asked ----------------------------------------------------

_REASONS = {
    "timeout": lazy_gettext("It took too long to answer."),
    "connection_refused": lazy_gettext("Nobody answered at its address."),
    "connection_cut": lazy_gettext("The connection was cut."),
    "name_unknown": lazy_gettext("Its host name is unknown."),
    "tls_failed": lazy_gettext("Its certificate does not hold."),
    "redirected": lazy_gettext("It sent us on to another address, which we do not follow."),
    "address_private": lazy_gettext("Its address is not on the open internet."),
    "not_https": lazy_gettext("Its address is not secure (https)."),
    "port_refused": lazy_gettext("Its address uses a port that we do not call."),
    "url_malformed": lazy_gettext("Its address is not one."),
    "html_answer": lazy_gettext("It sent a web page, as it does while it is being maintained."),
    "not_json": lazy_gettext("What it sent cannot be read."),
    "too_large": lazy_gettext("What it sent is larger than we take."),
    "key_set_without_keys": lazy_gettext("There is no key in it that we can use (RSA, RS256)."),
    "token_service_failed": lazy_gettext("Its token service has a fault at the moment."),
    "token_malformed": lazy_gettext("The access it gave cannot be read."),
    "foreign_address": lazy_gettext(
        "It names an address on another host, which never gets our access token."
    ),
    "too_many_pages": lazy_gettext("Its list has no end."),
    "line_item_malformed": lazy_gettext("What it sent is no list of grade columns."),
}
_TOKEN_ERRORS = {
    "invalid_client": lazy_gettext(
        "It says that it does not know this client or cannot confirm our signature."
    ),
    "unauthorized_client": lazy_gettext("It says that this client may not ask for access."),
    "invalid_scope": lazy_gettext("It grants none of the services that Doorlist asks for."),
    "invalid_request": lazy_gettext("It says that it does not understand the request."),
    "invalid_grant": lazy_gettext(
        "It says that our assertion does not hold; clocks that disagree can cause it."
    ),
    "unsupported_grant_type": lazy_gettext("It says that it gives no access to tools this way."),
}


def _why(facts: dict[str, Any]) -> str:
    said = _REASONS.get(facts.get("reason", ""))
    if said is not None:
        return str(said)
    if facts.get("status"):
        return _("It answered with status %(status)s.", status=facts["status"])
    return ""


# --- findings ----------------------------------------------------------------------------


def _clock(lms: str, facts: dict[str, Any]) -> str:
    if facts["offset"] > 0:
        return _("%(lms)s’s clock is %(time)s ahead of ours", lms=lms, time=words.span(facts["offset"]))
    return _("%(lms)s’s clock is %(time)s behind ours", lms=lms, time=words.span(facts["offset"]))


def _share(facts: dict[str, Any]) -> str:
    return _n(
        "%(missing)s of %(n)s person came without.",
        "%(missing)s of %(n)s people came without.",
        facts["people"],
        missing=format_decimal(facts["missing"]),
    )


def _refused(facts: dict[str, Any]) -> str:
    known = {code.value: said.title for code, said in REFUSALS.items()}
    title = str(known.get(facts["code"], _("The launch was refused")))
    last = words.moment(datetime.fromisoformat(facts["at"]))
    return _(
        "The most frequent: “%(title)s” (%(code)s), last %(moment)s.",
        title=title,
        code=facts["code"],
        moment=last,
    )


def _keys(facts: dict[str, Any]) -> str:
    return _n("%(n)s key", "%(n)s keys", facts["keys"])


_Sentence = Callable[[str, dict[str, Any]], str]

# Code → title, and what it means.
_FINDINGS: dict[str, tuple[_Sentence, _Sentence]] = {
    "keys_good": (lambda lms, f: _("Keys answer · %(keys)s", keys=_keys(f)), lambda lms, f: ""),
    "keys_some_weak": (
        lambda lms, f: _("Keys answer, but some are too short"),
        lambda lms, f: _("Launches signed with these are refused: %(kids)s.", kids=", ".join(f["weak"])),
    ),
    "keys_weak": (
        lambda lms, f: _("%(lms)s’s keys are too short", lms=lms),
        lambda lms, f: _("They have fewer than 2,048 bits, which others can break, so nobody is let in."),
    ),
    "keys_unavailable": (
        lambda lms, f: _("%(lms)s does not show its keys", lms=lms),
        lambda lms, f: _("%(why)s Launches work until the keys we know are a day old.", why=_why(f)),
    ),
    "clock_good": (
        lambda lms, f: _(
            "Clocks agree within %(time)s",
            time=words.span(max(1, abs(f["offset"]))),
        ),
        lambda lms, f: "",
    ),
    "clock_drifts": (
        _clock,
        lambda lms, f: _(
            "Launches still work: Doorlist allows up to %(allowed)s seconds.", allowed=f["allowed"]
        ),
    ),
    "clock_off": (
        _clock,
        lambda lms, f: _(
            "Doorlist allows up to %(allowed)s seconds, so launches are refused.", allowed=f["allowed"]
        ),
    ),
    "nobody_launched": (
        lambda lms, f: _("Nobody has launched yet"),
        lambda lms, f: _("Open Doorlist from a course once: the first launch shows what a check cannot."),
    ),
    "token_good": (
        lambda lms, f: _("%(lms)s confirms our signature and gives access", lms=lms),
        lambda lms, f: "",
    ),
    "token_refused": (
        lambda lms, f: _("%(lms)s gives Doorlist no access", lms=lms),
        lambda lms, f: _(
            "%(why)s People can launch, but rosters and grades do not work.",
            why=_TOKEN_ERRORS.get(f["error"]) or _why(f),
        ),
    ),
    "token_waits_for_clock": (
        lambda lms, f: _("%(lms)s gives Doorlist no access", lms=lms),
        lambda lms, f: _(
            "Our signature names a time, which does not hold by its clock. Mend the clock first, then check"
            " again."
        ),
    ),
    "token_unavailable": (
        lambda lms, f: _("%(lms)s’s token service does not answer", lms=lms),
        lambda lms, f: _("%(why)s People can launch, but rosters and grades do not work.", why=_why(f)),
    ),
    "own_key_unreadable": (
        lambda lms, f: _("Doorlist cannot open its own key"),
        lambda lms, f: _("SECRET_KEY was changed since the key was made, so rosters and grades do not work."),
    ),
    "roster_service_good": (lambda lms, f: _("Names and roles service is on"), lambda lms, f: ""),
    "roster_scope_missing": (
        lambda lms, f: _("The names and roles service is off"),
        lambda lms, f: _("People can launch, but rosters cannot be synced."),
    ),
    "roster_not_offered": (
        lambda lms, f: _("%(lms)s has offered no member list", lms=lms),
        lambda lms, f: _("Launches do not say where to ask for it, so rosters cannot be synced."),
    ),
    "grades_scope_missing": (
        lambda lms, f: (
            _("The grades service is off") if f.get("all") else _("The grades service is only half on")
        ),
        lambda lms, f: _("Everything else works, but attendance cannot go to the gradebook."),
    ),
    "grades_unseen": (
        lambda lms, f: _("No launch has named a gradebook yet"),
        lambda lms, f: _("The service is on. Open Doorlist from a course and check again: it has to answer."),
    ),
    "grades_good": (
        lambda lms, f: _("Grades service is on"),
        lambda lms, f: "",
    ),
    "grades_failed": (
        lambda lms, f: _("The gradebook does not answer"),
        lambda lms, f: _("%(why)s Attendance cannot go there.", why=_why(f)),
    ),
    "names_withheld": (
        lambda lms, f: _("%(lms)s withholds names", lms=lms),
        lambda lms, f: _(
            "%(share)s They are shown as numbers, and nobody can tell who is in the room.", share=_share(f)
        ),
    ),
    "names_some_missing": (lambda lms, f: _("Some people have no name"), lambda lms, f: _share(f)),
    "emails_withheld": (
        lambda lms, f: _("%(lms)s withholds e-mail addresses", lms=lms),
        lambda lms, f: _("%(share)s People can launch, but you cannot find them by mail.", share=_share(f)),
    ),
    "emails_some_missing": (lambda lms, f: _("Some people have no e-mail address"), lambda lms, f: _share(f)),
    "people_told": (lambda lms, f: _("Names and e-mail addresses arrive"), lambda lms, f: ""),
    "rosters_good": (
        lambda lms, f: _n("%(n)s roster in step", "%(n)s rosters in step", f["courses"]),
        lambda lms, f: "",
    ),
    "rosters_failed": (
        lambda lms, f: _n("%(n)s roster could not be read", "%(n)s rosters could not be read", f["count"]),
        lambda lms, f: _("What was there before stays in force."),
    ),
    "rosters_held": (
        lambda lms, f: _n("%(n)s sync waits for your yes", "%(n)s syncs wait for your yes", f["count"]),
        lambda lms, f: _("It would end many enrollments, so nothing has been changed."),
    ),
    "rosters_old": (
        lambda lms, f: _n(
            "%(n)s roster is older than a day", "%(n)s rosters are older than a day", f["count"]
        ),
        lambda lms, f: _("Who came or left since is not here. Sync them."),
    ),
    "rosters_never": (
        lambda lms, f: _n("%(n)s roster was never synced", "%(n)s rosters were never synced", f["count"]),
        lambda lms, f: _("Only those are here who opened the course."),
    ),
    "deployments_waiting": (
        lambda lms, f: _n(
            "%(n)s deployment waits for your approval",
            "%(n)s deployments wait for your approval",
            f["count"],
        ),
        lambda lms, f: _("Its launches are refused until you decide on the LMS page."),
    ),
    "refusals": (
        lambda lms, f: _n(
            "Launches were refused for %(n)s reason since yesterday",
            "Launches were refused for %(n)s reasons since yesterday",
            f["reasons"],
        ),
        lambda lms, f: _refused(f),
    ),
    "public_url_insecure": (
        lambda lms, f: _("Doorlist’s own address is not secure (https)"),
        lambda lms, f: _(
            "Browsers keep no cookies for it inside an LMS’s frame. Whoever runs Doorlist can change"
            " PUBLIC_URL."
        ),
    ),
    "check_lost": (
        lambda lms, f: _("The check did not finish"),
        lambda lms, f: _("Doorlist was stopped in the middle of it, three times. Check again."),
    ),
}


def say(finding: Finding, registration: Registration) -> Said:
    """A finding in words; one of an older release says its code."""
    lms, facts = lms_name(registration), finding.facts
    title_of, text_of = _FINDINGS.get(finding.code, (lambda lms, f: finding.code, lambda lms, f: ""))
    title, text = title_of(lms, facts), text_of(lms, facts).strip()
    mend = doctor_mends.mend_of(finding, registration.family) if finding.kind is not Kind.GOOD else ""
    courses = facts.get("courses", [])
    courses = courses if isinstance(courses, list) else []
    theirs = bool(mend) and finding.code in doctor_mends.THEIRS
    return Said(
        finding.kind,
        title,
        text,
        mend,
        _for_their_admin(finding, registration, (title, text, mend)) if theirs else "",
        courses,
        facts.get("count", 0) - len(courses),
    )


def _for_their_admin(finding: Finding, registration: Registration, sentences: tuple[str, ...]) -> str:
    """A message as one would write it, with what the reader needs to find the tool."""
    title, text, mend = sentences
    public = current_app.config["PUBLIC_URL"]
    return "\n".join(
        [
            _(
                "Doorlist, our virtual classrooms’ tool in %(lms)s, needs your help.",
                lms=lms_name(registration),
            ),
            "",
            _("What is wrong: %(title)s.", title=title) + (f" {text}" if text else ""),
            _("What mends it: %(mend)s", mend=mend),
            "",
            _("The tool’s address: %(url)s", url=f"{public}/lti/launch"),
            _("Its public keys: %(url)s", url=f"{public}/lti/jwks.json"),
            _("Client ID: %(id)s", id=registration.client_id),
            _("Code: %(code)s", code=finding.code),
        ]
    )


def lamp(checkup: Checkup | None) -> tuple[str, str]:
    """The lamp of an LMS and its words: all well, something to look at, things to mend, not checked."""
    if checkup is None or checkup.finished_at is None:
        return "", _("Not checked yet") if checkup is None else _("Checking")
    kinds = [one.kind for one in checkup.findings]
    if mends := kinds.count(Kind.MEND):
        return "wait", _n("%(n)s thing to mend", "%(n)s things to mend", mends)
    if looks := kinds.count(Kind.LOOK):
        return "look", _n("%(n)s thing to look at", "%(n)s things to look at", looks)
    return "open", _("All well")


def refusal_title(code: str) -> str:
    """What a refused launch said to the person in front of it."""
    known = {one.value: said.title for one, said in REFUSALS.items()}
    others = {
        "context_missing": _("This was not opened from a course"),
        "no_course_role": _("Your LMS gave you no role in this course"),
    }
    return str(known.get(code) or others.get(code) or code)


def offset_words(offset: float | None) -> str:
    """By how much a refused launch's clock was off."""
    return refusals.clock(offset)
