"""The launch: login initiation, the small page before the authorization request, and the arrival.

Login (/lti/login) answers with a page, not a redirect: it first finds out whether our cookie comes back
from inside the frame, or the LMS's page keeps a proof for us. If neither, the way on is a window of its own,
before the platform's one-use hint is spent. Where a proof spoke for the browser, no session would hold in the
frame: the launch answers with the course's door, and everything else opens in a window of its own.
"""

from datetime import timedelta
from urllib.parse import urlencode

from flask import (
    Blueprint,
    Response,
    current_app,
    g,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.wrappers import Response as AnyResponse

from lti_tool import logs
from lti_tool.classroom import access, outcomes, roster, sessions
from lti_tool.classroom.accounts import ArrivalRefused
from lti_tool.classroom.courses import Course
from lti_tool.classroom.roster import Arrival, DeploymentPending, NoContext, NoCourseRole
from lti_tool.classroom.sessions import Kind, Session
from lti_tool.database import db
from lti_tool.lti import keys
from lti_tool.lti import launch as lti
from lti_tool.lti.launch import Launch
from lti_tool.pages import framing, limits, picking, visitor
from lti_tool.pages.browsers import this_browser
from lti_tool.pages.limits import limiter
from lti_tool.pages.windows import CookiesWithheld

pages = Blueprint("launch", __name__, url_prefix="/lti")

# Two first launches of one course may meet in the middle; the later one starts over.
TRIES = 3
# Refusals that whoever looks after the LMS can mend, as outcomes.py calls them.
NOTED: dict[type[ArrivalRefused], str] = {NoContext: "context_missing", NoCourseRole: "no_course_role"}


@pages.route("/login", methods=["GET", "POST"])
@limiter.limit(limits.launches)
def login() -> Response:
    """Third-party login initiation (1EdTech security framework, 5.1.1.1). Writes nothing."""
    login = lti.begin(request.values, tool_url=current_app.config["PUBLIC_URL"])
    g.frame_ancestors = framing.origins([login.parameters["iss"], login.authorization_url])
    # A session needs a cookie in any case, and its own window should say soon if it has none.
    again = {name: said for name, said in login.parameters.items() if name != "lti_storage_target"}
    response = make_response(
        render_template(
            "launch/login.html",
            login=login,
            again=f"{url_for('.login')}?{urlencode(again)}",
        )
    )
    response.set_cookie(
        login.cookie_name,
        login.cookie_value,
        max_age=lti.COOKIE_SECONDS,
        path="/",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )
    for name in lti.surplus_cookies(request.cookies):
        _forget_binder(response, name)
    return response


def _forget_binder(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="None", partitioned=True)


@pages.after_request
def forget_used_binder(response: Response) -> Response:
    """The cookie of a login whose message was used up, for whatever answer, has served its turn."""
    name = g.get("used_binder")
    if name in request.cookies and response.status_code < 500:
        _forget_binder(response, name)
    return response


@pages.get("/cookie/<name>")
def cookie_held(name: str) -> Response:
    """Did the browser bring back the cookie that the login just set? Asked by the login's own page."""
    return jsonify(held=lti.is_cookie_name(name) and name in request.cookies)


@pages.post("/launch")
@limiter.limit(limits.launches)
def launch() -> AnyResponse:
    """The platform's answer: check it, burn its nonce, let the person arrive, sign them in.

    Without our cookie it is first asked of the LMS's page whether the launch began in this browser.
    """
    question = lti.find_question(request.form, request.cookies)
    if question is not None:
        g.frame_ancestors = framing.origins([question.issuer, question.auth_url])
        return make_response(render_template("launch/proof.html", question=question))
    for attempt in range(TRIES):
        try:
            return _arrive()
        except (IntegrityError, StaleDataError):
            db.session.rollback()
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _arrive() -> AnyResponse:
    checked = lti.finish(
        request.form,
        request.cookies,
        tool_url=current_app.config["PUBLIC_URL"],
        from_our_page=_is_from_our_page(),
    )
    g.used_binder = lti.cookie_name(request.form["state"])
    try:
        return _let_in(checked)
    except DeploymentPending:
        # The deployment was noted, so that an admin can approve it.
        outcomes.note(checked.registration_id, checked.deployment_id, "deployment_pending")
        db.session.commit()
        raise
    except ArrivalRefused as refused:
        db.session.rollback()
        # Without what the arrival wrote, but not to be sent again.
        lti.use_up(request.form["state"])
        if type(refused) in NOTED:
            outcomes.note(checked.registration_id, checked.deployment_id, NOTED[type(refused)])
        db.session.commit()
        raise


def _let_in(checked: Launch) -> AnyResponse:
    arrival = roster.arrive(checked)
    if checked.deep_linking is not None:
        return picking.offer(checked, arrival)
    lifetime = _lifetime(arrival)
    framed = request.headers.get("Sec-Fetch-Dest", "iframe") != "document"
    if not framed and not checked.cookie_held:
        raise CookiesWithheld
    session, token = sessions.start(
        arrival.user,
        Kind.LAUNCH,
        lifetime=lifetime,
        registration_id=checked.registration_id,
        course_id=arrival.course.id,
        framed=framed,
        locale=checked.locale or "",
        label=this_browser(),
    )
    if not checked.cookie_held:
        return _show_door(session, arrival.course)
    course_id, user_id = arrival.course.id, arrival.user.id
    db.session.commit()
    logs.event("launch", registration=checked.registration_id, course=course_id, user=user_id)
    response = redirect(url_for("courses.show", course_id=course_id), 303)
    return visitor.sign_in(response, token, Kind.LAUNCH, lifetime=lifetime)


def _show_door(session: Session, course: Course) -> Response:
    """The frame keeps no cookie: its page is the door, and a ticket leads into a window of our own.

    The session's token is told to nobody; the window gets one of its own for the ticket.
    """
    ticket = sessions.issue_ticket(session, sessions.PAGE_TICKET_LIFETIME)
    g.session, g.user, g.account = session, session.user, session.user.account
    g.frame_ancestors = framing.ancestors(g.account.id)
    page = render_template(
        "launch/door.html",
        course=course,
        gate=access.room_gate(g.user, course),
        platform=roster.lms_name(session.registration) if session.registration else "",
        ticket=ticket,
        following=url_for("windows.enter_window", next=url_for("courses.show", course_id=course.id)),
        seconds=int(sessions.PAGE_TICKET_LIFETIME.total_seconds()),
    )
    registration_id, course_id, user_id = session.registration_id, course.id, g.user.id
    db.session.commit()
    logs.event("launch", registration=registration_id, course=course_id, user=user_id, storage=True)
    return make_response(page)


def _is_from_our_page() -> bool:
    """Was the launch posted by a page of ours? Only such a one may bring a proof."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin", "").partition("://")[2] == request.host


def _lifetime(arrival: Arrival) -> timedelta:
    whole = timedelta(minutes=current_app.config["SESSION_MINUTES"])
    # No roster tells us when an LMS takes its admin rights back; only the next launch does.
    return min(whole, timedelta(hours=1)) if access.is_admin(arrival.user) else whole


@pages.get("/jwks.json")
def jwks() -> Response:
    """Our public keys, for platforms that check our client assertions."""
    answer = jsonify(keys.jwks())
    # The very first reader finds a key that was made for him.
    db.session.commit()
    answer.headers["Cache-Control"] = "public, max-age=300"
    return answer
