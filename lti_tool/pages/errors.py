"""The one place where errors become pages: a code, what happened, what to do, who can mend it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, g, make_response, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    TooManyRequests,
)

from lti_tool import logs
from lti_tool.classroom import outcomes
from lti_tool.classroom.courses import PlanNotInForce, PlanTaken
from lti_tool.classroom.invitations import InvitationExpired, InvitationSpent, InvitationUnknown
from lti_tool.classroom.moves import AlreadyThere
from lti_tool.classroom.people import LastOwner
from lti_tool.classroom.placements import PickingRefused, PickingStale
from lti_tool.classroom.platforms import NoAdminLeft
from lti_tool.classroom.role_changes import RoleMapMoved
from lti_tool.classroom.roster import DeploymentPending, NoContext, NoCourseRole
from lti_tool.classroom.sessions import CodeSpent, TicketSpent
from lti_tool.classroom.syncs import NothingToUndo, SyncImpossible, SyncNotHeld
from lti_tool.database import db, now
from lti_tool.lti.refusal import LaunchRefused
from lti_tool.lti.registration import RegistrationRefused
from lti_tool.pages import framing, refusals, registration_words, visitor, words
from lti_tool.pages.refusals import Mender
from lti_tool.pages.visitor import SignInNeeded
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


def _page(code: str, status: int, title: Any, text: Any) -> Callable[[], ErrorPage]:
    return lambda: ErrorPage(code, status, title, text)


# Errors whose page depends on nothing but their kind.
PAGES: dict[type[Exception], Callable[[], ErrorPage]] = {
    NotFound: _page(
        "not_found",
        404,
        lazy_gettext("There is nothing here"),
        lazy_gettext("The address is wrong, or it leads to something that is not yours to see."),
    ),
    Forbidden: _page(
        "not_allowed",
        403,
        lazy_gettext("This is not yours to do"),
        lazy_gettext("Your role does not allow it. Nothing was changed."),
    ),
    CSRFError: _page(
        "form_stale",
        400,
        lazy_gettext("This form has gone stale"),
        lazy_gettext("Nothing was changed. Go back, reload the page and send it again."),
    ),
    MethodNotAllowed: _page(
        "method_wrong",
        405,
        lazy_gettext("This address does not work that way"),
        lazy_gettext("Nothing was changed. Go back and try the button on the page."),
    ),
    RequestEntityTooLarge: _page(
        "too_large",
        413,
        lazy_gettext("That was too much at once"),
        lazy_gettext("What you sent is larger than we take. Nothing was changed."),
    ),
    TooManyRequests: _page(
        "too_many",
        429,
        lazy_gettext("Too many tries in a short time"),
        lazy_gettext("Wait a minute, then try again. Nothing is lost."),
    ),
    DeploymentPending: _page(
        "deployment_pending",
        403,
        lazy_gettext("Doorlist does not know this part of your LMS yet"),
        lazy_gettext(
            "An admin of your institution has to approve it on the LMS page in Doorlist. It is shown to them"
            " there."
        ),
    ),
    NoContext: _page(
        "context_missing",
        400,
        lazy_gettext("This was not opened from a course"),
        lazy_gettext("A live room belongs to a course. Open Doorlist from inside the course in your LMS."),
    ),
    NoCourseRole: _page(
        "no_course_role",
        403,
        lazy_gettext("Your LMS gave you no role in this course"),
        lazy_gettext(
            "It told us who you are at the institution, but not what you are in the course, so nobody was let"
            " in. Ask to be enrolled in the course in your LMS, then open it again."
        ),
    ),
    PickingStale: _page(
        "picking_stale",
        410,
        lazy_gettext("This page is too old to choose on"),
        lazy_gettext(
            "It is good for an hour, and only as long as your LMS is connected. Nothing was added. Go back to"
            " the course and add the content again."
        ),
    ),
    AlreadyThere: _page(
        "lms_course_there",
        409,
        lazy_gettext("This LMS course has a room in that course already"),
        lazy_gettext("Nothing was moved. Choose another course."),
    ),
    TicketSpent: _page(
        "ticket_spent",
        403,
        lazy_gettext("This button was used or has gone stale"),
        lazy_gettext(
            "It works once and for a short time. Close this window and press the button again, or open the"
            " activity in your LMS again."
        ),
    ),
    # Blocked even where no frame is in the way: only the browser's settings can mend it.
    CookiesWithheld: _page(
        "cookies_withheld",
        403,
        lazy_gettext("Your browser keeps no cookies of Doorlist"),
        lazy_gettext(
            "Without a cookie Doorlist cannot remember who you are, not even in a window of its own. Nothing"
            " is wrong with your account. Allow cookies for this address in your browser’s settings, then"
            " open the activity in your LMS again."
        ),
    ),
    PlanTaken: _page(
        "plan_taken",
        409,
        lazy_gettext("This plan is on another course by now"),
        lazy_gettext("Somebody was faster. Nothing was changed. Choose another plan."),
    ),
    PlanNotInForce: _page(
        "plan_over",
        409,
        lazy_gettext("This plan is over"),
        lazy_gettext("Nothing was changed. Choose a plan that is still running."),
    ),
    LastOwner: _page(
        "last_owner",
        409,
        lazy_gettext("This is the last owner"),
        lazy_gettext("Make somebody else an owner first. Nothing was changed."),
    ),
    NoAdminLeft: _page(
        "no_admin_left",
        409,
        lazy_gettext("Nobody would be left to manage this account"),
        lazy_gettext(
            "Everybody who is an admin here is one only by this LMS’s word. Make somebody an admin by hand "
            "first. Nothing was changed."
        ),
    ),
    RoleMapMoved: _page(
        "role_map_moved",
        409,
        lazy_gettext("This role map was changed meanwhile"),
        lazy_gettext("Nothing was changed. Open the role map again and look at what it says now."),
    ),
    SyncImpossible: _page(
        "no_roster",
        409,
        lazy_gettext("There is no list to ask for"),
        lazy_gettext(
            "This course comes from no LMS, or its LMS does not offer its member list to Doorlist."
            " Nothing was changed."
        ),
    ),
    SyncNotHeld: _page(
        "sync_answered",
        409,
        lazy_gettext("This sync no longer waits for an answer"),
        lazy_gettext("Somebody answered it already, or a newer sync took its place. Nothing was changed."),
    ),
    NothingToUndo: _page(
        "nothing_to_undo",
        409,
        lazy_gettext("This sync can no longer be undone"),
        lazy_gettext("Only the newest sync of a course can be undone. Nothing was changed."),
    ),
}


def init_app(app: Flask) -> None:
    """Turn every error into its page; nobody meets a bare 500 inside an LMS's frame."""
    for kind, make in PAGES.items():
        app.register_error_handler(kind, lambda error, make=make: answer(make()))
    app.register_error_handler(LaunchRefused, refused)
    app.register_error_handler(RegistrationRefused, registration_refused)
    app.register_error_handler(PickingRefused, picking_refused)
    app.register_error_handler(SignInNeeded, sign_in_needed)
    app.register_error_handler(InvitationUnknown, invitation_unknown)
    app.register_error_handler(InvitationSpent, invitation_spent)
    app.register_error_handler(InvitationExpired, invitation_expired)
    app.register_error_handler(CodeSpent, code_spent)
    app.register_error_handler(HTTPException, other)
    app.register_error_handler(InternalServerError, unexpected)


def answer(page: ErrorPage, template: str = "errors/error.html", **more: Any) -> Response:
    """Render an error page; whatever the transaction held is gone."""
    account = g.get("account")
    db.session.rollback()
    if g.get("session") is not None:
        # Who asks may have been signed out or deleted meanwhile, and nothing read before holds any more.
        visitor.load()
        g.account = account
    framing.let_platform()
    logs.event("refused", code=page.code, status=page.status)
    moment = words.moment(now())
    response = make_response(render_template(template, page=page, moment=moment, **more), page.status)
    if request.headers.get("HX-Request") == "true":
        # A fragment must not swallow a whole page: htmx loads the error as a page of its own.
        response.headers["HX-Retarget"] = "body"
    return response


def refused(error: LaunchRefused) -> Response:
    """A login or launch that does not hold."""
    said = refusals.words(error)
    logs.event("launch_refused", code=error.code, detail=error.detail, clock_offset=error.clock_offset)
    text = " ".join(filter(None, (str(said.happened), refusals.clock(error.clock_offset), str(said.advice))))
    page = answer(ErrorPage(str(error.code.value), said.status, said.title, text, MENDERS[said.mender]))
    # For whoever looks after the LMS; what the launch itself wrote is gone.
    db.session.rollback()
    if outcomes.note_refusal(error):
        db.session.commit()
    return page


def registration_refused(error: RegistrationRefused) -> Response:
    """A link that was opened in an LMS came to nothing; its page notes that for whoever waits elsewhere."""
    said = registration_words.FAULTS[error.code]
    code = f"{error.code.value} ({error.detail})" if error.detail else error.code.value
    page = ErrorPage(error.code.value, said.status, said.title, said.text)
    return answer(page, "registering/refused.html", told=code)


def picking_refused(error: PickingRefused) -> Response:
    """A student would place rooms; the way back tells the LMS that nothing was chosen."""
    # Who arrived is forgotten with the transaction.
    g.user = None
    page = ErrorPage(
        "picking_not_allowed",
        403,
        _("Only teachers add rooms to a course"),
        _("Your LMS says that you are not one of this course. Nothing was added."),
    )
    return answer(page, "picking/refused.html", return_url=error.return_url, response=error.answer)


def sign_in_needed(error: SignInNeeded) -> Response:
    """Nobody we know: in a frame the way is through the LMS, elsewhere through the sign-in page."""
    framed = request.headers.get("Sec-Fetch-Dest") == "iframe"
    if not framed and request.method == "GET" and request.headers.get("HX-Request") != "true":
        response = make_response("", 303)
        response.headers["Location"] = url_for("sign_in.ask", next=request.full_path.rstrip("?"))
        return response
    return answer(
        ErrorPage(
            "signed_out",
            401,
            _("You are not signed in any more"),
            _("A sign-in lasts for some hours. Open the course in your LMS again, or sign in by mail."),
            action=Action(url_for("sign_in.ask"), _("Sign in"), new_window=framed),
        )
    )


def invitation_unknown(error: InvitationUnknown) -> Response:
    """A mistyped, cut or replaced link."""
    return answer(
        ErrorPage(
            "invitation_unknown",
            404,
            _("We do not know this invitation"),
            _(
                "The link may be cut off, or a newer invitation took its place. Open the newest mail from us,"
                " and copy the whole address."
            ),
            action=Action(url_for("sign_in.ask"), _("I have an account: sign in")),
        )
    )


def invitation_spent(error: InvitationSpent) -> Response:
    """Answered or withdrawn already."""
    g.account = error.invitation.account
    return answer(
        ErrorPage(
            "invitation_used",
            410,
            _("This invitation was answered already"),
            _(
                "Each invitation works once. If you said “It’s me”, you have an account: sign in with your"
                " address."
            ),
            action=Action(url_for("sign_in.ask"), _("Sign in")),
        )
    )


def invitation_expired(error: InvitationExpired) -> Response:
    """Too old; a new one goes to the same address."""
    g.account = error.invitation.account
    page = render_template("invitations/expired.html", invitation=error.invitation)
    db.session.rollback()
    return make_response(page, 410)


def code_spent(error: CodeSpent) -> Response:
    """A sign-in link or code that is used, old, or tried too often."""
    return answer(
        ErrorPage(
            "sign_in_spent",
            410,
            _("This link or code no longer works"),
            _("It works once and for 15 minutes. Ask for a new one."),
            action=Action(url_for("sign_in.ask"), _("Sign in")),
        )
    )


def other(error: HTTPException) -> Response:
    """Any other HTTP error keeps its status and gets our page."""
    return answer(
        ErrorPage(
            f"http_{error.code}",
            error.code or 500,
            _("That did not work"),
            _("What was sent does not fit this address. Nothing was changed."),
        )
    )


def unexpected(error: InternalServerError) -> Response:
    """Our own mistake: said plainly, logged with the request's id."""
    if error.original_exception is not None:
        logs.log.error("unexpected", exc_info=error.original_exception)
    return answer(
        ErrorPage(
            "unexpected",
            500,
            _("Something went wrong on our side"),
            _("It was noted. Nothing of what you sent was kept half-way. Try again in a minute."),
        )
    )
