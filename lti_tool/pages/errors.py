"""The one place where errors become pages: a code, what happened, what to do, who can mend it.

What most of them say is in error_pages.py and people_errors.py.
"""

from datetime import timedelta
from typing import Any

from flask import Flask, Response, g, make_response, render_template, request, url_for
from flask_babel import format_timedelta
from flask_babel import gettext as _
from werkzeug.exceptions import HTTPException, InternalServerError, TooManyRequests

from lti_tool import logs
from lti_tool.classroom import outcomes
from lti_tool.classroom.accounts import PersonBlocked
from lti_tool.classroom.invitations import (
    InvitationExpired,
    InvitationSpent,
    InvitationUnknown,
    LinkReplaced,
)
from lti_tool.classroom.placements import PickingRefused
from lti_tool.classroom.sessions import CodeSpent
from lti_tool.database import db, now
from lti_tool.lti.refusal import LaunchRefused
from lti_tool.lti.registration import RegistrationRefused
from lti_tool.pages import (
    error_pages,
    framing,
    invitation_words,
    limits,
    people_errors,
    refusals,
    registration_words,
    visitor,
    words,
)
from lti_tool.pages.error_pages import MENDERS, Action, ErrorPage
from lti_tool.pages.refusals import Mender
from lti_tool.pages.visitor import SignInNeeded


def init_app(app: Flask) -> None:
    """Turn every error into its page; nobody meets a bare 500 inside an LMS's frame."""
    for kind, make in (*error_pages.PAGES.items(), *people_errors.PAGES.items()):
        app.register_error_handler(kind, lambda error, make=make: answer(make()))
    app.register_error_handler(TooManyRequests, too_many)
    app.register_error_handler(LaunchRefused, refused)
    app.register_error_handler(RegistrationRefused, registration_refused)
    app.register_error_handler(PickingRefused, picking_refused)
    app.register_error_handler(SignInNeeded, sign_in_needed)
    app.register_error_handler(PersonBlocked, blocked)
    app.register_error_handler(InvitationUnknown, invitation_unknown)
    for useless in (InvitationSpent, InvitationExpired, LinkReplaced):
        app.register_error_handler(useless, invitation_useless)
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


def too_many(error: TooManyRequests) -> Response:
    """Too often in too short a time; Retry-After says the same to programs."""
    time = format_timedelta(timedelta(minutes=max(1, round(limits.seconds_to_wait() / 60))))
    wait = _("Wait %(time)s, then try again. Nothing is lost.", time=time)
    return answer(ErrorPage("too_many", 429, _("Too many tries in a short time"), wait))


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


def blocked(error: PersonBlocked) -> Response:
    """Shut out by an admin: by launch, link or code the answer is the same."""
    g.account = error.user.account
    return answer(
        ErrorPage(
            "blocked",
            403,
            _("You are blocked at %(account)s", account=g.account.name),
            _(
                "An admin there shut you out of Doorlist, so no course and no room opens for you here. Your"
                " courses in your LMS are as they were. If this is a mistake, ask the admin to unblock you."
            ),
            MENDERS[Mender.DOORLIST_ADMIN],
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
                "The link may be cut off, or what it led to is gone. Open the newest mail from us, and copy"
                " the whole address."
            ),
            action=Action(url_for("sign_in.ask"), _("I have an account: sign in")),
        )
    )


def invitation_useless(error: InvitationSpent | InvitationExpired | LinkReplaced) -> Response:
    """A link that no longer answers its invitation; where that still waits, a new one is mailed."""
    g.account = error.invitation.account
    invitation_words.speak_to(error.invitation.user)
    page = invitation_words.why_useless(error)
    return answer(page, "invitations/useless.html", renewable=not isinstance(error, InvitationSpent))


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
