"""The page behind a mailed invitation. Opening it changes nothing; its buttons do."""

from datetime import timedelta

from flask import Blueprint, Response, current_app, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from lti_tool.classroom import access, answers, invitations, sessions
from lti_tool.classroom.sessions import Kind
from lti_tool.database import db
from lti_tool.pages import invitation_words, limits, visitor
from lti_tool.pages.browsers import this_browser
from lti_tool.pages.inviting import invitation_terms
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
    invitation = answers.read(token)
    user = answers.invited_person(invitation)
    g.account = invitation.account
    invitation_words.speak_to(user)
    return render_template(
        "invitations/invitation.html",
        invitation=invitation,
        user=user,
        token=token,
        courses=invitations.courses_offered(user),
        everywhere=access.is_admin(user),
    )


@pages.post("/invitations/<token>/accept")
@limiter.limit(limits.invitations)
def accept(token: str) -> ResponseReturnValue:
    """ "It's me": registered and signed in as the invited person, whoever sat here before."""
    user = answers.accept(token)
    lifetime = timedelta(minutes=current_app.config["SESSION_MINUTES"])
    _, session_token = sessions.start(user, Kind.OWN, lifetime=lifetime, label=this_browser())
    db.session.commit()
    answer = redirect(url_for("courses.directory"), 303)
    return visitor.sign_in(answer, session_token, Kind.OWN, lifetime=lifetime)


@pages.post("/invitations/<token>/decline")
@limiter.limit(limits.invitations)
def decline(token: str) -> ResponseReturnValue:
    """ "It's not me": withdrawn, the sender is told, nothing is kept."""
    invitation = answers.decline(token)
    told = invitation.invited_by.label if invitation.invited_by else ""
    db.session.commit()
    g.account = invitation.account
    return render_template("invitations/declined.html", told=told)


@pages.post("/invitations/<token>/renew")
@limiter.limit(limits.invitations)
def renew(token: str) -> ResponseReturnValue:
    """A new invitation instead of one too old or replaced; it goes to the same address, not to the asker."""
    invitation = answers.find(token)
    g.account = invitation.account
    invitation_words.speak_to(invitation.user)
    answers.renew(token, **invitation_terms())
    db.session.commit()
    return render_template("invitations/renewed.html")
