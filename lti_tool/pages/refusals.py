"""What a refused login or launch says to the person in front of it, and who can mend it.

One entry for each code of lti/refusal.py; codes that only a forger meets share their words. The code itself
is shown beside them, for support.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from flask_babel import lazy_gettext

from lti_tool.lti.refusal import LaunchRefused, Refusal
from lti_tool.pages import words as words_of_time


class Mender(StrEnum):
    """Who can mend it."""

    YOU = "you"
    LMS_ADMIN = "lms_admin"
    DOORLIST_ADMIN = "doorlist_admin"


@dataclass(frozen=True, slots=True)
class Words:
    """Title, what happened, what to do, who can mend it, and the HTTP status. The texts are lazy strings."""

    title: Any
    happened: Any
    advice: Any
    mender: Mender
    status: int = 400


_AGAIN = Words(
    lazy_gettext("This opening has run out"),
    lazy_gettext(
        "Your LMS’s ticket to Doorlist is good for a few minutes, and this one is older. Nothing is lost."
    ),
    lazy_gettext("Go back to the course in your LMS and open the activity again."),
    Mender.YOU,
)
_NOT_FROM_LMS = Words(
    lazy_gettext("This did not come from your LMS"),
    lazy_gettext("The message that brought you here does not hold, so nobody was let in."),
    lazy_gettext(
        "Go back to the course in your LMS and open the activity again. If it keeps happening, send the code"
        " below to your institution’s support."
    ),
    Mender.YOU,
    403,
)
_NO_COOKIE = Words(
    lazy_gettext("Your browser does not let Doorlist in here"),
    lazy_gettext(
        "It kept back the cookie by which Doorlist recognises you, as some browsers do inside another"
        " site’s page. Nobody was let in."
    ),
    lazy_gettext(
        "Go back to the course and open the activity in a new window, or allow cookies for Doorlist."
    ),
    Mender.YOU,
    403,
)
_WRONG_KEY = Words(
    lazy_gettext("The signature of your LMS does not hold"),
    lazy_gettext(
        "Doorlist could not confirm that your LMS signed this message, so nobody was let in. The LMS may have"
        " changed its keys or its settings."
    ),
    lazy_gettext(
        "Open the activity again in a minute. If it keeps happening, your LMS administrator should compare"
        " the tool’s settings with Doorlist’s LMS page."
    ),
    Mender.LMS_ADMIN,
    403,
)
_MALFORMED = Words(
    lazy_gettext("Your LMS sent something Doorlist cannot read"),
    lazy_gettext("A part of the message that LTI 1.3 asks for is missing or is not what it should be."),
    lazy_gettext("Send the code below to your LMS administrator: it names the part."),
    Mender.LMS_ADMIN,
)
_CLOCK = Words(
    lazy_gettext("The clocks do not agree"),
    lazy_gettext("Your LMS’s message names a time that Doorlist’s clock says is over or still to come."),
    lazy_gettext(
        "Open the activity again. If it keeps happening, your LMS administrator should check the clock of the"
        " LMS server."
    ),
    Mender.LMS_ADMIN,
)
_SETTINGS = Words(
    lazy_gettext("The tool is not set up as Doorlist knows it"),
    lazy_gettext("What your LMS sent belongs to another registration or another address of Doorlist."),
    lazy_gettext(
        "Your LMS administrator should compare issuer, client ID and addresses with Doorlist’s LMS page."
    ),
    Mender.LMS_ADMIN,
    403,
)
_LOGIN_INCOMPLETE = Words(
    lazy_gettext("This address opens only from an LMS"),
    lazy_gettext("The request lacks what an LMS sends along, so Doorlist cannot tell where it came from."),
    lazy_gettext("Open Doorlist from your course, or sign in by e-mail if you were invited."),
    Mender.YOU,
)


def clock(offset: float | None) -> str:
    """By how much an LMS's clock is off, where a signed message showed it; else nothing."""
    if not round(abs(offset or 0)):
        return ""
    time = words_of_time.span(offset or 0)
    if (offset or 0) > 0:
        return str(_("The LMS’s clock is %(time)s ahead of ours.", time=time))
    return str(_("The LMS’s clock is %(time)s behind ours.", time=time))


REFUSALS: dict[Refusal, Words] = {
    Refusal.ISSUER_MISSING: _LOGIN_INCOMPLETE,
    Refusal.LOGIN_HINT_MISSING: _LOGIN_INCOMPLETE,
    Refusal.TARGET_MISSING: _LOGIN_INCOMPLETE,
    Refusal.PARAMETERS_TOO_LONG: _LOGIN_INCOMPLETE,
    Refusal.TARGET_FOREIGN: Words(
        lazy_gettext("This link leads somewhere else"),
        lazy_gettext(
            "The LMS asked Doorlist to open an address that is not Doorlist’s, so nothing was opened."
        ),
        lazy_gettext("Your LMS administrator should correct the tool URL of this activity."),
        Mender.LMS_ADMIN,
    ),
    Refusal.REGISTRATION_UNKNOWN: Words(
        lazy_gettext("Doorlist does not know this LMS"),
        lazy_gettext("No account here is connected to the LMS you came from, or no longer."),
        lazy_gettext("Your institution’s Doorlist administrator can connect it on the LMS page."),
        Mender.DOORLIST_ADMIN,
        403,
    ),
    Refusal.REGISTRATION_AMBIGUOUS: Words(
        lazy_gettext("Doorlist cannot tell which institution this is"),
        lazy_gettext(
            "Several institutions share the LMS you came from, and it did not say whose tool was opened."
        ),
        lazy_gettext("Your LMS administrator should set the tool up so that it sends its client ID."),
        Mender.LMS_ADMIN,
    ),
    Refusal.PLATFORM_LOGIN_REQUIRED: Words(
        lazy_gettext("You are signed out of your LMS"),
        lazy_gettext(
            "Your LMS did not say who you are. Its sign-in may have run out, or your browser keeps it out of"
            " frames."
        ),
        lazy_gettext("Sign in to your LMS again, then open the activity from the course."),
        Mender.YOU,
        403,
    ),
    Refusal.PLATFORM_DENIED: Words(
        lazy_gettext("Your LMS does not let you open this"),
        lazy_gettext("It told Doorlist that this activity is not for you, or not now."),
        lazy_gettext("Ask your teacher whether the activity is open to you."),
        Mender.LMS_ADMIN,
        403,
    ),
    Refusal.PLATFORM_LAUNCH_EXPIRED: _AGAIN,
    Refusal.PLATFORM_ERROR: Words(
        lazy_gettext("Your LMS could not open Doorlist"),
        lazy_gettext("It answered with an error instead of telling Doorlist who you are."),
        lazy_gettext("Open the activity again. If it keeps happening, tell your LMS administrator."),
        Mender.LMS_ADMIN,
    ),
    Refusal.STATE_MISSING: _NOT_FROM_LMS,
    Refusal.STATE_WRONG: _NOT_FROM_LMS,
    Refusal.STATE_EXPIRED: _AGAIN,
    Refusal.COOKIE_MISSING: _NO_COOKIE,
    Refusal.COOKIE_WRONG: _NOT_FROM_LMS,
    Refusal.STORAGE_PROOF_MISSING: _NO_COOKIE,
    Refusal.STORAGE_PROOF_WRONG: _NOT_FROM_LMS,
    Refusal.STORAGE_PROOF_LATE: _AGAIN,
    Refusal.STORAGE_PROOF_FOREIGN: _NOT_FROM_LMS,
    Refusal.NONCE_MISSING: _MALFORMED,
    Refusal.NONCE_WRONG: _NOT_FROM_LMS,
    Refusal.NONCE_USED: Words(
        lazy_gettext("This opening was used already"),
        lazy_gettext(
            "Your LMS’s ticket to Doorlist works once. You probably pressed Back or reloaded. Nothing is"
            " broken and nothing is lost."
        ),
        lazy_gettext("Go back to the course in your LMS and open the activity again."),
        Mender.YOU,
    ),
    Refusal.TOKEN_MISSING: _NOT_FROM_LMS,
    Refusal.TOKEN_TOO_LARGE: Words(
        lazy_gettext("Your LMS sent more than Doorlist takes"),
        lazy_gettext("The message that opens an activity may have 64,000 characters; this one has more."),
        lazy_gettext("Your LMS administrator should send fewer custom parameters to the tool."),
        Mender.LMS_ADMIN,
        413,
    ),
    Refusal.TOKEN_MALFORMED: _MALFORMED,
    Refusal.ALGORITHM_REFUSED: _WRONG_KEY,
    Refusal.HEADER_UNKNOWN: _WRONG_KEY,
    Refusal.KEY_ID_MISSING: _WRONG_KEY,
    Refusal.KEY_UNKNOWN: Words(
        lazy_gettext("Your LMS signs with a key that Doorlist does not know"),
        lazy_gettext(
            "It may have changed its keys a moment ago. Doorlist asks for them at most every 30 seconds, and"
            " this one was not among them. Nobody was let in."
        ),
        lazy_gettext(
            "Open the activity again in half a minute. If it keeps happening, your LMS administrator should"
            " compare the key set’s address with Doorlist’s LMS page."
        ),
        Mender.LMS_ADMIN,
        403,
    ),
    Refusal.KEY_WEAK: Words(
        lazy_gettext("The key of your LMS is too short"),
        lazy_gettext("It signs with fewer than 2,048 bits, which others can break, so nobody was let in."),
        lazy_gettext("Your LMS administrator should make a new key of at least 2,048 bits."),
        Mender.LMS_ADMIN,
        403,
    ),
    Refusal.KEYS_UNAVAILABLE: Words(
        lazy_gettext("Your LMS did not show its keys"),
        lazy_gettext(
            "Doorlist asks the LMS for its keys to check who sends you. It got none, so nobody was let in."
        ),
        lazy_gettext(
            "Try again in a minute. If it keeps happening, your LMS administrator should check that Doorlist"
            " can reach the key set’s address."
        ),
        Mender.LMS_ADMIN,
    ),
    Refusal.SIGNATURE_WRONG: _WRONG_KEY,
    Refusal.EXPIRY_MISSING: _MALFORMED,
    Refusal.ISSUED_AT_MISSING: _MALFORMED,
    Refusal.TOKEN_EXPIRED: Words(
        _AGAIN.title,
        _AGAIN.happened,
        lazy_gettext(
            "Go back to the course in your LMS and open the activity again. If this happens each time,"
            " your LMS administrator should check the clock of the LMS server."
        ),
        Mender.YOU,
    ),
    Refusal.TOKEN_EARLY: _CLOCK,
    Refusal.TOKEN_LIVES_TOO_LONG: _CLOCK,
    Refusal.ISSUER_WRONG: _SETTINGS,
    Refusal.AUDIENCE_WRONG: _SETTINGS,
    Refusal.AUTHORIZED_PARTY_WRONG: _SETTINGS,
    Refusal.DEPLOYMENT_MISSING: _MALFORMED,
    Refusal.DEPLOYMENT_WRONG: _SETTINGS,
    Refusal.DEPLOYMENT_PENDING: Words(
        lazy_gettext("Doorlist is waiting for an approval"),
        lazy_gettext(
            "Your LMS opened Doorlist from a place that nobody has approved yet. The request has been noted."
        ),
        lazy_gettext("Your institution’s Doorlist administrator can approve it on the LMS page."),
        Mender.DOORLIST_ADMIN,
        403,
    ),
    Refusal.MESSAGE_TYPE_MISSING: _MALFORMED,
    Refusal.MESSAGE_TYPE_UNKNOWN: Words(
        lazy_gettext("Doorlist does not do this"),
        lazy_gettext("Your LMS asked for something other than opening an activity."),
        lazy_gettext("Open Doorlist from a course. Your LMS administrator can take the other entry away."),
        Mender.LMS_ADMIN,
    ),
    Refusal.VERSION_WRONG: Words(
        lazy_gettext("Your LMS speaks another version of LTI"),
        lazy_gettext("Doorlist speaks LTI 1.3; this message says it is another."),
        lazy_gettext("Your LMS administrator should set the tool up anew as LTI 1.3."),
        Mender.LMS_ADMIN,
    ),
    Refusal.TARGET_WRONG: _SETTINGS,
    Refusal.SUBJECT_MISSING: Words(
        lazy_gettext("Your LMS did not say who you are"),
        lazy_gettext(
            "It opened Doorlist without a person, as some do for guests. Doorlist’s rooms have a door list,"
            " so it needs to know."
        ),
        lazy_gettext("Sign in to your LMS and open the activity from the course."),
        Mender.YOU,
        403,
    ),
    Refusal.SUBJECT_MALFORMED: _MALFORMED,
    Refusal.ROLES_MALFORMED: _MALFORMED,
    Refusal.RESOURCE_LINK_MISSING: _MALFORMED,
    Refusal.RETURN_URL_MALFORMED: _MALFORMED,
    Refusal.CLAIM_MALFORMED: _MALFORMED,
    Refusal.DEEP_LINKING_UNSUPPORTED: Words(
        lazy_gettext("Your LMS does not take what Doorlist has"),
        lazy_gettext(
            "It asked for content, but not for links to a tool. Doorlist has rooms, which are such links."
        ),
        lazy_gettext("Go back and add Doorlist as an activity of the course, where your LMS offers it."),
        Mender.LMS_ADMIN,
    ),
}


def words(error: LaunchRefused) -> Words:
    """What to say of a refusal: nothing has run out where the LMS's clock is shown to be that slow."""
    slow = -(error.clock_offset or 0) > current_app.config["CLOCK_SKEW_SECONDS"]
    return _CLOCK if slow and error.code is Refusal.TOKEN_EXPIRED else REFUSALS[error.code]
