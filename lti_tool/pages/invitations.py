"""The page behind a mailed invitation. Opening it changes nothing; its buttons do."""

from datetime import timedelta

from flask import Blueprint, Response, current_app, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from lti_tool.classroom import invitations, sessions
from lti_tool.classroom.sessions import Kind
from lti_tool.database import db
from lti_tool.pages import limits, visitor
from lti_tool.pages.limits import limiter

pages = Blueprint("invitations", __name__)


@pages.after_request
def keep_the_token(response: Response) -> Response:
    """The address holds the token: no page learns it as a referrer, our own logs included."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@pages.get("/invitations/<token>")
@limiter.limit(limits.invitations)
def show(token: str) -> ResponseReturnValue:
    """Whom it is for, from whom, to what. Mail scanners come here too, so nothing happens yet."""
    invitation = invitations.read(token)
    g.account = invitation.account
    return render_template(
        "invitations/invitation.html",
        invitation=invitation,
        token=token,
        courses=invitations.courses_offered(invitation.user),
    )


@pages.post("/invitations/<token>/accept")
@limiter.limit(limits.invitations)
def accept(token: str) -> ResponseReturnValue:
    """ "It's me": registered and signed in as the invited person, whoever sat here before."""
    user = invitations.accept(token)
    lifetime = timedelta(minutes=current_app.config["SESSION_MINUTES"])
    _, session_token = sessions.start(user, Kind.OWN, lifetime=lifetime)
    db.session.commit()
    answer = redirect(url_for("courses.directory"), 303)
    return visitor.sign_in(answer, session_token, Kind.OWN, lifetime=lifetime)


@pages.post("/invitations/<token>/decline")
@limiter.limit(limits.invitations)
def decline(token: str) -> ResponseReturnValue:
    """ "It's not me": withdrawn, the sender is told, nothing is kept."""
    invitation = invitations.decline(token)
    account = invitation.account
    told = invitation.invited_by.label if invitation.invited_by else ""
    db.session.commit()
    g.account = account
    return render_template("invitations/declined.html", told=told)


@pages.post("/invitations/<token>/renew")
@limiter.limit(limits.invitations)
def renew(token: str) -> ResponseReturnValue:
    """A new invitation instead of one whose time is over; it goes to the same address, not to the asker."""
    invitations.renew_expired(
        token,
        lifetime=timedelta(days=current_app.config["INVITATION_DAYS"]),
        public_url=current_app.config["PUBLIC_URL"],
    )
    db.session.commit()
    return render_template("invitations/renewed.html")
