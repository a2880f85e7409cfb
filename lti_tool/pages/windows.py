"""A window of our own out of an LMS's frame: a one-use ticket carries the person over.

A browser keeps a frame's cookies apart from a window's, so a plain link would arrive as nobody.
"""

from datetime import timedelta
from urllib.parse import urlsplit

from flask import Blueprint, current_app, g, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from lti_tool.classroom import sessions
from lti_tool.classroom.accounts import ArrivalRefused
from lti_tool.database import db, now
from lti_tool.pages import visitor
from lti_tool.pages.browsers import this_browser
from lti_tool.pages.visitor import allowed, signed_in

pages = Blueprint("windows", __name__)


class CookiesWithheld(ArrivalRefused):
    """The browser keeps no cookie of ours, not even in a window of our own: nobody can be signed in."""


def local_path(wish: str) -> str:
    """A path of ours and nothing else, so that no form can send people elsewhere."""
    try:
        parts = urlsplit(wish)
    except ValueError:
        return url_for("courses.directory")
    foreign = parts.scheme or parts.netloc or not wish.startswith("/") or wish.startswith(("//", "/\\"))
    # A line break would be one in the Location header.
    return url_for("courses.directory") if foreign or not wish.isprintable() else wish


@pages.post("/tickets")
@allowed(signed_in)
def issue_ticket() -> ResponseReturnValue:
    """A ticket for the person of this frame: as JSON for our script, else as a page with one button."""
    ticket = sessions.issue_ticket(visitor.session())
    following = local_path(request.form.get("next", ""))
    db.session.commit()
    if request.accept_mimetypes.best == "application/json":
        return jsonify(ticket=ticket, spend=url_for(".open_window"), next=following)
    return render_template("launch/ticket.html", ticket=ticket, following=following)


@pages.post("/ticket")
def open_window() -> ResponseReturnValue:
    """Spend a ticket: this window is the person's from now on."""
    from_frame = sessions.spend_ticket(request.form.get("ticket", ""))
    lifetime = min(from_frame.expires_at - now(), timedelta(minutes=current_app.config["SESSION_MINUTES"]))
    _, token = sessions.start(
        from_frame.user,
        from_frame.kind,
        lifetime=lifetime,
        registration_id=from_frame.registration_id,
        course_id=from_frame.course_id,
        locale=from_frame.locale,
        label=this_browser(),
    )
    kind = from_frame.kind
    db.session.commit()
    answer = redirect(local_path(request.form.get("next", "")), 303)
    return visitor.sign_in(answer, token, kind, lifetime=lifetime)


@pages.get("/window")
def enter_window() -> ResponseReturnValue:
    """Where a ticket leads out of a frame without cookies: did this window keep the one it just got?"""
    if g.user is None:
        raise CookiesWithheld
    return redirect(local_path(request.args.get("next", "")), 303)
