"""The launch: login initiation, the small page before the authorization request, and the arrival.

Login (/lti/login) answers with a page, not a redirect: it first finds out whether our cookie comes back
from inside the frame. If not, the way on is a window of its own, before the platform's one-use hint is
spent.
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
from werkzeug.wrappers import Response as AnyResponse

from lti_tool import logs
from lti_tool.classroom import access, roster, sessions
from lti_tool.classroom.roster import Arrival, DeploymentPending
from lti_tool.classroom.sessions import Kind
from lti_tool.database import db
from lti_tool.lti import keys
from lti_tool.lti import launch as lti
from lti_tool.pages import framing, limits, visitor
from lti_tool.pages.limits import limiter

pages = Blueprint("launch", __name__, url_prefix="/lti")

# Two first launches of one course may meet in the middle; the later one starts over.
TRIES = 3


@pages.route("/login", methods=["GET", "POST"])
@limiter.limit(limits.launches)
def login() -> Response:
    """Third-party login initiation (1EdTech security framework, 5.1.1.1). Writes nothing."""
    login = lti.begin(request.values, tool_url=current_app.config["PUBLIC_URL"])
    g.frame_ancestors = framing.origins([login.parameters["iss"], login.authorization_url])
    response = make_response(
        render_template(
            "launch/login.html",
            login=login,
            again=f"{url_for('.login')}?{urlencode(login.parameters)}",
            framed_now=request.headers.get("Sec-Fetch-Dest") == "iframe",
        )
    )
    response.set_cookie(
        login.cookie_name,
        login.cookie_value,
        max_age=lti.COOKIE_SECONDS,
        path="/lti",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )
    return response


@pages.get("/cookie/<name>")
def cookie_held(name: str) -> Response:
    """Did the browser bring back the cookie that the login just set? Asked by the login's own page."""
    return jsonify(held=name.startswith("dl-state-") and name in request.cookies)


@pages.post("/launch")
@limiter.limit(limits.launches)
def launch() -> AnyResponse:
    """The platform's answer: check it, burn its nonce, let the person arrive, sign them in."""
    for attempt in range(TRIES):
        try:
            return _arrive()
        except IntegrityError:
            db.session.rollback()
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _arrive() -> AnyResponse:
    checked = lti.finish(request.form, request.cookies, tool_url=current_app.config["PUBLIC_URL"])
    try:
        arrival = roster.arrive(checked)
    except DeploymentPending:
        # The deployment was noted, so that an admin can approve it.
        db.session.commit()
        raise
    lifetime = _lifetime(arrival)
    framed = request.headers.get("Sec-Fetch-Dest", "iframe") != "document"
    _, token = sessions.start(
        arrival.user,
        Kind.LAUNCH,
        lifetime=lifetime,
        registration_id=checked.registration_id,
        course_id=arrival.course.id,
        framed=framed,
        locale=checked.locale or "",
    )
    course_id, user_id = arrival.course.id, arrival.user.id
    db.session.commit()
    logs.event("launch", registration=checked.registration_id, course=course_id, user=user_id)
    response = redirect(url_for("courses.show", course_id=course_id), 303)
    response.delete_cookie(
        lti.cookie_name(request.form.get("state", "")),
        path="/lti",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )
    return visitor.sign_in(response, token, Kind.LAUNCH, lifetime=lifetime)


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
