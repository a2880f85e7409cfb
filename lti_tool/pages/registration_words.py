"""What a registration by link says to people: each fault, and what an LMS agreed to."""

from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext

from lti_tool.lti import registration
from lti_tool.lti.registration import Agreement, Fault
from lti_tool.lti.registrations import Registration


@dataclass(frozen=True, slots=True)
class Words:
    """Title, what happened and what to do (lazy strings), and the HTTP status."""

    title: Any
    text: Any
    status: int = 400


_NEW_LINK = lazy_gettext("Make a new link on Doorlist’s LMS page.")
_ODD = Words(
    lazy_gettext("Your LMS describes itself in a way Doorlist cannot read"),
    lazy_gettext(
        "A part that LTI’s dynamic registration asks for is missing or is not what it should be. Nothing was"
        " connected. Connect this LMS by hand instead."
    ),
)

FAULTS: dict[Fault, Words] = {
    Fault.LINK_UNKNOWN: Words(
        lazy_gettext("We do not know this link"),
        lazy_gettext("It may be cut off, or it was withdrawn. Make a new link on Doorlist’s LMS page."),
        404,
    ),
    Fault.LINK_USED: Words(
        lazy_gettext("This link was used already"),
        lazy_gettext("Each link connects one LMS, once. Make a new link on Doorlist’s LMS page."),
        404,
    ),
    Fault.LINK_EXPIRED: Words(
        lazy_gettext("This link has run out"),
        lazy_gettext("A link works for 24 hours. Make a new link on Doorlist’s LMS page."),
        404,
    ),
    Fault.LINK_BUSY: Words(
        lazy_gettext("This link is being used right now"),
        lazy_gettext("Another window is connecting an LMS with it. Wait a minute, then look there."),
        409,
    ),
    Fault.FORM_WRONG: Words(
        lazy_gettext("This page has gone stale"),
        lazy_gettext("Nothing was connected. Open the link in your LMS once more."),
    ),
    Fault.CONFIGURATION_MISSING: Words(
        lazy_gettext("This link belongs in your LMS"),
        lazy_gettext(
            "Do not open it in the browser: paste it where your LMS adds tools by a link (dynamic"
            " registration). The LMS then opens it and says who it is."
        ),
    ),
    Fault.CONFIGURATION_REFUSED: Words(
        lazy_gettext("Doorlist does not call this address"),
        lazy_gettext(
            "Your LMS named an address for its description that is not https or not on the open internet."
            " Nothing was connected. Its public address has to be set in the LMS."
        ),
    ),
    Fault.CONFIGURATION_UNAVAILABLE: Words(
        lazy_gettext("Your LMS did not describe itself"),
        lazy_gettext(
            "Doorlist asked the address that your LMS named and got no answer it can use. Nothing was"
            " connected. Open the link in your LMS once more; it still works."
        ),
    ),
    Fault.CONFIGURATION_MALFORMED: _ODD,
    Fault.TOKEN_MALFORMED: _ODD,
    Fault.ISSUER_FOREIGN: Words(
        lazy_gettext("This address speaks for another LMS"),
        lazy_gettext(
            "The description names an LMS on another host than its own, and anybody could write that."
            " Nothing was connected. In your LMS, the site’s own address has to be the one it is opened by."
        ),
        403,
    ),
    Fault.ENDPOINT_FOREIGN: Words(
        lazy_gettext("Your LMS sends Doorlist elsewhere"),
        lazy_gettext(
            "The address for registering is on another host than the LMS. Nothing was connected. Connect"
            " this LMS by hand instead."
        ),
        403,
    ),
    Fault.ENDPOINT_REFUSED: Words(
        lazy_gettext("Doorlist does not call this address"),
        lazy_gettext(
            "The address for registering is not on the open internet. Nothing was connected. The public"
            " address has to be set in the LMS."
        ),
    ),
    Fault.PLATFORM_REFUSED: Words(
        lazy_gettext("Your LMS did not take Doorlist"),
        lazy_gettext(
            "It answered with a refusal, and nothing was connected. Its own word for it, if it gave one, is"
            " in the code below. Open the link in your LMS once more: the old permission may be used up."
        ),
    ),
    Fault.PLATFORM_UNAVAILABLE: Words(
        lazy_gettext("Your LMS did not answer"),
        lazy_gettext(
            "Doorlist asked to be taken and got no answer it can use. Nothing was connected here. Look in"
            " your LMS whether Doorlist is listed there, delete it if so, and open the link once more."
        ),
    ),
    Fault.ANSWER_MALFORMED: Words(
        lazy_gettext("Your LMS’s answer cannot be read"),
        lazy_gettext(
            "It took Doorlist, but did not say under which client ID. Nothing was connected here. Delete"
            " Doorlist in your LMS and connect it by hand instead."
        ),
    ),
    Fault.REGISTRATION_TAKEN: Words(
        lazy_gettext("This LMS’s Doorlist belongs to another institution"),
        lazy_gettext(
            "The client ID that your LMS gave is connected to another account here, which is never"
            " overwritten. Add Doorlist to your LMS as a new tool instead of updating the old one."
        ),
        409,
    ),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing an LMS may agree to: its name, whether it did (None: it did not say), what else happens."""

    what: Any
    agreed: bool | None
    otherwise: Any


def lines(said: Agreement) -> list[Line]:
    """What was agreed or would be asked, line by line."""
    return [
        Line(
            lazy_gettext("Who is in a course (names and roles service)"),
            said.roster,
            lazy_gettext("Without it rosters do not sync: people appear once they open Doorlist."),
        ),
        Line(
            lazy_gettext("People’s names"),
            said.names,
            lazy_gettext("Without them people are shown by a number until they tell their name."),
        ),
        Line(
            lazy_gettext("E-mail addresses"),
            said.emails,
            lazy_gettext("Without them people cannot be found by address and get no mail."),
        ),
        Line(
            lazy_gettext("Attendance into the gradebook (assignment and grade services)"),
            said.grades,
            lazy_gettext("Without it attendance stays in Doorlist."),
        ),
        Line(
            lazy_gettext("Choosing a room where content is added (deep linking)"),
            said.picks,
            lazy_gettext("Without it each activity opens its course’s main room."),
        ),
    ]


def agreement(one: Registration) -> Agreement | None:
    """What an LMS that was connected by a link agreed to; None for one connected by hand."""
    return registration.read_agreement(one.agreed) if one.agreed else None
