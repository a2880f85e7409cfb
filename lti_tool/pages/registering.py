"""An LMS opens our link in its frame: show who asks, then, at a button, let the LMS register us.

No cookie is needed or read: the link's token speaks on the way in, a signed form field on the way on.
"""

from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from itsdangerous import BadSignature, URLSafeTimedSerializer

from lti_tool import logs
from lti_tool.classroom import connecting
from lti_tool.database import db
from lti_tool.lti import introduction, outgoing, registration
from lti_tool.lti.introduction import Addresses
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registration import Configuration, Fault, RegistrationRefused
from lti_tool.pages import framing, limits, registration_words
from lti_tool.pages.limits import limiter

pages = Blueprint("registering", __name__, url_prefix="/lti")
pages.add_app_template_filter(registration_words.agreement, "agreement")
pages.add_app_template_filter(registration_words.lines, "agreement_lines")

# Moodle's own token lives an hour.
FORM_SECONDS = 3600


def our_addresses() -> Addresses:
    """Ourselves, as platforms are told."""
    public: str = current_app.config["PUBLIC_URL"]
    return Addresses(
        public=public,
        login=public + url_for("launch.login"),
        launch=public + url_for("launch.launch"),
        jwks=public + url_for("launch.jwks"),
        logo=public + url_for("static", filename="mark.svg"),
    )


@pages.get("/register")
@limiter.limit(limits.registrations)
def ask() -> ResponseReturnValue:
    """Who asks, for which account, and what will be agreed; one button. Writes nothing."""
    configuration_url = request.args.get("openid_configuration", "")
    host = _let_frame(configuration_url)
    link = connecting.find_by_token(request.args.get("token", ""))
    link_id, g.account = link.id, link.account
    try:
        invitation = registration.read_invitation(
            configuration_url, request.args.get("registration_token", "")
        )
        configuration = registration.fetch_configuration(invitation)
    except RegistrationRefused as refused:
        g.seen = _sign(link_id, host=host, fault=refused.code)
        raise
    _let_frame(configuration_url, configuration)
    return render_template(
        "registering/ask.html",
        configuration=configuration,
        asked=_sign(link_id, url=invitation.configuration_url, token=invitation.token),
        seen=_sign(link_id, host=configuration.host),
    )


@pages.post("/register/seen")
@limiter.limit(limits.registrations)
def seen() -> ResponseReturnValue:
    """The page above was looked at: note it for the admin who waits elsewhere."""
    said = _read(request.form.get("seen", ""), "host")
    fault = said.get("fault", "")
    connecting.note(said["link"], said["host"], Fault(fault) if fault else None)
    db.session.commit()
    return "", 204


@pages.post("/register")
@limiter.limit(limits.registrations)
def register() -> ResponseReturnValue:
    """Register with the platform, store what was agreed and spend the link; a failure leaves it as it was."""
    asked = _read(request.form.get("asked", ""), "url")
    host = _let_frame(asked["url"])
    held = connecting.take(asked["link"], host)
    # The platform is asked outside any transaction.
    db.session.commit()
    try:
        invitation = registration.read_invitation(asked["url"], asked["token"])
        configuration = registration.fetch_configuration(invitation)
        body = introduction.body(our_addresses(), configuration, _description())
        registered = registration.register(configuration, invitation, body)
        link = connecting.connect(asked["link"], held, configuration, registered)
    except RegistrationRefused as refused:
        db.session.rollback()
        connecting.give_back(asked["link"], held, refused.code)
        db.session.commit()
        raise
    db.session.commit()
    g.account = link.account
    _let_frame(asked["url"], configuration)
    logs.event("registered", registration=link.registration_id)
    return render_template("registering/done.html", registration=link.registration)


@pages.get("/canvas.json")
def canvas_key() -> Response:
    """Ourselves as Canvas' developer keys take it, to paste or to be fetched."""
    answer = jsonify(introduction.canvas_key(our_addresses(), _description()))
    answer.headers["Cache-Control"] = "public, max-age=300"
    return answer


def _description() -> str:
    return str(_("Virtual classrooms for your courses, with a door list."))


def _let_frame(url: str, configuration: Configuration | None = None) -> str:
    """Let the platform that names this address frame the page, whatever it says; the address's host."""
    try:
        host = outgoing.check_url(url, allow_private=True).hostname or ""
    except PlatformUnavailable:
        return ""
    # Of a hosted cloud's customers only the configuration says on which host they are.
    g.frame_ancestors = framing.origins([url, configuration.registration_url] if configuration else [url])
    return host


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="doorlist registration")


def _sign(link_id: int, **said: str) -> str:
    """What a form of ours carries on: nobody who was not shown the page can make it."""
    return str(_serializer().dumps({"link": link_id, **said}))


def _read(signed: str, needed: str) -> dict[str, Any]:
    """What `_sign` was given. Raises RegistrationRefused."""
    try:
        said: dict[str, Any] = _serializer().loads(signed, max_age=FORM_SECONDS)
    except BadSignature:
        raise RegistrationRefused(Fault.FORM_WRONG) from None
    if needed not in said:
        # The other form's field.
        raise RegistrationRefused(Fault.FORM_WRONG)
    return said
