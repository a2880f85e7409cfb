"""What error pages say: their shape, and the words of those that depend on nothing but the error's kind.

Errors about people and accounts have theirs in people_errors.py; errors.py makes pages of them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from lti_tool.classroom.courses import PlanNotInForce, PlanTaken
from lti_tool.classroom.moves import AlreadyThere
from lti_tool.classroom.placements import PickingStale
from lti_tool.classroom.role_changes import RoleMapMoved
from lti_tool.classroom.roster import AdminDoorShut, DeploymentPending, NoContext, NoCourseRole
from lti_tool.classroom.sessions import TicketSpent
from lti_tool.classroom.syncs import NothingToUndo, SyncImpossible, SyncNotHeld
from lti_tool.pages.refusals import Mender
from lti_tool.pages.windows import CookiesWithheld

SUPPORT = lazy_gettext("Send this code to your institution’s support. It holds no personal data.")


@dataclass(frozen=True)
class Action:
    """The one way on that an error page offers."""

    url: str
    label: str
    new_window: bool = False


@dataclass(frozen=True)
class ErrorPage:
    """What an error page says."""

    code: str
    status: int
    title: Any
    text: Any
    mender: Any = SUPPORT
    action: Action | None = None


MENDERS = {
    Mender.YOU: SUPPORT,
    Mender.LMS_ADMIN: lazy_gettext(
        "Your LMS administrator can mend this. Send them this code; it holds no personal data."
    ),
    Mender.DOORLIST_ADMIN: lazy_gettext(
        "An admin of Doorlist at your institution can mend this. Send them this code; it holds no personal"
        " data."
    ),
}


def said(code: str, status: int, title: Any, text: Any) -> Callable[[], ErrorPage]:
    """A page that depends on nothing but the kind of the error."""
    return lambda: ErrorPage(code, status, title, text)


PAGES: dict[type[Exception], Callable[[], ErrorPage]] = {
    NotFound: said(
        "not_found",
        404,
        lazy_gettext("There is nothing here"),
        lazy_gettext("The address is wrong, or it leads to something that is not yours to see."),
    ),
    Forbidden: said(
        "not_allowed",
        403,
        lazy_gettext("This is not yours to do"),
        lazy_gettext("Your role does not allow it. Nothing was changed."),
    ),
    CSRFError: said(
        "form_stale",
        400,
        lazy_gettext("This form has gone stale"),
        lazy_gettext("Nothing was changed. Go back, reload the page and send it again."),
    ),
    MethodNotAllowed: said(
        "method_wrong",
        405,
        lazy_gettext("This address does not work that way"),
        lazy_gettext("Nothing was changed. Go back and try the button on the page."),
    ),
    RequestEntityTooLarge: said(
        "too_large",
        413,
        lazy_gettext("That was too much at once"),
        lazy_gettext("What you sent is larger than we take. Nothing was changed."),
    ),
    DeploymentPending: said(
        "deployment_pending",
        403,
        lazy_gettext("Doorlist does not know this part of your LMS yet"),
        lazy_gettext(
            "An admin of your institution has to approve it on the LMS page in Doorlist. It is shown to them"
            " there."
        ),
    ),
    NoContext: said(
        "context_missing",
        400,
        lazy_gettext("This was not opened from a course"),
        lazy_gettext("A live room belongs to a course. Open Doorlist from inside the course in your LMS."),
    ),
    AdminDoorShut: said(
        "admin_door_shut",
        403,
        lazy_gettext("As an admin you come in by mail"),
        lazy_gettext(
            "Your institution does not let this LMS make admins, so it opens no admin’s door either. Sign in"
            " to Doorlist with your address in a window of its own. Nothing was changed."
        ),
    ),
    NoCourseRole: said(
        "no_course_role",
        403,
        lazy_gettext("Your LMS gave you no role in this course"),
        lazy_gettext(
            "It told us who you are at the institution, but not what you are in the course, so nobody was let"
            " in. Ask to be enrolled in the course in your LMS, then open it again."
        ),
    ),
    PickingStale: said(
        "picking_stale",
        410,
        lazy_gettext("This page is too old to choose on"),
        lazy_gettext(
            "It is good for an hour, and only as long as your LMS is connected. Nothing was added. Go back to"
            " the course and add the content again."
        ),
    ),
    AlreadyThere: said(
        "lms_course_there",
        409,
        lazy_gettext("This LMS course has a room in that course already"),
        lazy_gettext("Nothing was moved. Choose another course."),
    ),
    TicketSpent: said(
        "ticket_spent",
        403,
        lazy_gettext("This button was used or has gone stale"),
        lazy_gettext(
            "It works once and for a short time. Close this window and press the button again, or open the"
            " activity in your LMS again."
        ),
    ),
    # Blocked even where no frame is in the way: only the browser's settings can mend it.
    CookiesWithheld: said(
        "cookies_withheld",
        403,
        lazy_gettext("Your browser keeps no cookies of Doorlist"),
        lazy_gettext(
            "Without a cookie Doorlist cannot remember who you are, not even in a window of its own. Nothing"
            " is wrong with your account. Allow cookies for this address in your browser’s settings, then"
            " open the activity in your LMS again."
        ),
    ),
    PlanTaken: said(
        "plan_taken",
        409,
        lazy_gettext("This plan is on another course by now"),
        lazy_gettext("Somebody was faster. Nothing was changed. Choose another plan."),
    ),
    PlanNotInForce: said(
        "plan_over",
        409,
        lazy_gettext("This plan is over"),
        lazy_gettext("Nothing was changed. Choose a plan that is still running."),
    ),
    RoleMapMoved: said(
        "role_map_moved",
        409,
        lazy_gettext("This role map was changed meanwhile"),
        lazy_gettext("Nothing was changed. Open the role map again and look at what it says now."),
    ),
    SyncImpossible: said(
        "no_roster",
        409,
        lazy_gettext("There is no list to ask for"),
        lazy_gettext(
            "This course comes from no LMS, or its LMS does not offer its member list to Doorlist."
            " Nothing was changed."
        ),
    ),
    SyncNotHeld: said(
        "sync_answered",
        409,
        lazy_gettext("This sync no longer waits for an answer"),
        lazy_gettext("Somebody answered it already, or a newer sync took its place. Nothing was changed."),
    ),
    NothingToUndo: said(
        "nothing_to_undo",
        409,
        lazy_gettext("This sync can no longer be undone"),
        lazy_gettext("Only the newest sync of a course can be undone. Nothing was changed."),
    ),
}
