"""Linking oneself: "Is that you?", a mailed code, or an own sign-in in the same browser."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import NotFound
from wtforms import StringField
from wtforms.validators import InputRequired, Length

from lti_tool.classroom import access, invitations, linking, merging, roster, sessions
from lti_tool.classroom.accounts import User, find_by_mailbox
from lti_tool.classroom.invitations import AddressWrong
from lti_tool.classroom.linking import FRESH, LinkRefused, LinkSpent
from lti_tool.classroom.merging import MergeRefused
from lti_tool.classroom.sessions import CodeWrong, Kind, Session
from lti_tool.database import db, now
from lti_tool.pages import limits, visitor
from lti_tool.pages.limits import limiter
from lti_tool.pages.sign_in import CodeForm, wrong_code
from lti_tool.pages.visitor import allowed, signed_in

pages = Blueprint("linking", __name__, url_prefix="/link")

# How often one person may ask for a code, and one address be sent one.
CODES = limits.MAILS_TO_ONE_ADDRESS


class MailboxForm(FlaskForm):  # type: ignore[misc]
    """The address to prove."""

    email = StringField(
        lazy_gettext("Email"), [InputRequired(lazy_gettext("Write your address.")), Length(max=254)]
    )


@dataclass(frozen=True)
class Offer:
    """Who somebody from an LMS may be, too."""

    arrived: User
    other: User
    # What the LMS is called; empty if it is gone.
    platform: str
    # Signed in here as the other just now: no code is needed.
    proven: bool

    @property
    def address(self) -> str:
        """The address, as far as it tells somebody who has it which one is meant."""
        local, _at, domain = self.other.email.partition("@")
        return f"{local[:1]}…@{domain}"


@pages.app_context_processor
def offers() -> dict[str, Any]:
    """What the course page asks for its note."""
    return {"link_offer": link_offer, "may_prove_mailbox": lambda: linking.may_prove(g.user)}


def link_offer() -> Offer | None:
    """Who the person asking may be, too, if there is reason to ask."""
    session: Session | None = g.session
    if session is None:
        return None
    both = _both_sign_ins()
    if both is not None:
        return Offer(both[0].user, both[1].user, _platform(both[0]), True)
    if session.kind is not Kind.LAUNCH:
        return None
    other = linking.find_offer(g.user)
    return Offer(g.user, other, _platform(session), False) if other is not None else None


def _platform(session: Session) -> str:
    return roster.lms_name(session.registration) if session.registration else ""


def _both_sign_ins() -> tuple[Session, Session] | None:
    """The launch and the own sign-in of this browser, both just now, of two people who may be one."""
    found = []
    for name, kind in ((visitor.LAUNCH_COOKIE, Kind.LAUNCH), (visitor.OWN_COOKIE, Kind.OWN)):
        token = request.cookies.get(name)
        if not token:
            return None
        session = sessions.find_session(token, kind, idle=FRESH)
        if session is None or session.created_at + FRESH <= now():
            return None
        found.append(session)
    launched, own = found
    if linking.is_refused(launched.user, own.user) or not linking.may_link(launched.user, own.user):
        return None
    return launched, own


def _person() -> str:
    return f"link:{g.user.id if g.user else 0}"


def _was_sent(response: Response) -> bool:
    """A typing error uses up nothing."""
    return response.status_code != 422


def _claimed() -> str:
    return limits.address_key(g.user.email if g.user else "")


@pages.post("/ask")
@limiter.limit(CODES, key_func=_person)
@limiter.limit(CODES, key_func=_claimed)
@allowed(signed_in)
def ask() -> ResponseReturnValue:
    """Mail a code to the address that the LMS claims and a person here has."""
    offer = link_offer()
    if offer is None:
        raise NotFound
    return _send(offer.other.email)


@pages.get("/mailbox")
@allowed(signed_in)
def mailbox() -> ResponseReturnValue:
    """Which address is to be proven?"""
    if not linking.may_prove(g.user):
        raise LinkRefused
    return render_template("linking/mailbox.html", form=MailboxForm(formdata=None))


@pages.post("/mailbox")
@limiter.limit(CODES, key_func=_person, deduct_when=_was_sent)
@limiter.limit(CODES, key_func=limits.asked_address, deduct_when=_was_sent)
@allowed(signed_in)
def ask_mailbox() -> ResponseReturnValue:
    """Mail a code to the address that was typed; known or not makes no difference."""
    if not linking.may_prove(g.user):
        raise LinkRefused
    form, email = MailboxForm(), ""
    if form.validate_on_submit():
        try:
            email = invitations.check_address(form.email.data)
        except AddressWrong:
            form.email.errors = [_("This is no e-mail address. Look for a typing error.")]
    if not email:
        return render_template("linking/mailbox.html", form=form), 422
    return _send(email)


def _send(email: str) -> ResponseReturnValue:
    session = visitor.session()
    linking.send_code(session, email, account=g.account.name, locale=session.locale or g.account.locale)
    db.session.commit()
    return redirect(url_for(".code"), 303)


@pages.get("/code")
@allowed(signed_in)
def code() -> ResponseReturnValue:
    """Ask for the six digits, in the browser session that asked for them."""
    email = linking.find_asked(visitor.session())
    if email is None:
        return redirect(_back(visitor.session()))
    return render_template("linking/code.html", form=CodeForm(formdata=None), email=email)


@pages.post("/code")
@limiter.limit(limits.sign_ins)
@allowed(signed_in)
def enter_code() -> ResponseReturnValue:
    """Link by the six digits; a wrong try is counted."""
    session = visitor.session()
    form, email = CodeForm(), linking.find_asked(session)
    if email is None:
        raise LinkSpent
    if not form.validate_on_submit():
        return render_template("linking/code.html", form=form, email=email), 422
    try:
        email = linking.try_code(session, "".join(form.code.data.split()))
    except CodeWrong as wrong:
        # The try counts even though it failed.
        db.session.commit()
        form.code.errors = [wrong_code(wrong.left)]
        return render_template("linking/code.html", form=form, email=email), 422
    other = find_by_mailbox(g.account.id, email)
    if other is not None:
        return _become(session, other)
    if not linking.may_prove(g.user):
        raise LinkRefused
    linking.take_mailbox(g.user, email)
    db.session.commit()
    flash(_("This address is yours now. With it you can sign in by mail, too."))
    return redirect(_back(visitor.session()), 303)


@pages.post("/own")
@allowed(signed_in)
def link_own() -> ResponseReturnValue:
    """Link the two people this browser has just signed in as, from an LMS and by mail."""
    both = _both_sign_ins()
    if both is None:
        raise LinkRefused
    return _become(both[0], both[1].user)


@pages.post("/not-me")
@allowed(signed_in)
def refuse() -> ResponseReturnValue:
    """ "Not me": the question is never asked again."""
    offer = link_offer()
    if offer is not None:
        linking.refuse(offer.arrived, offer.other)
        db.session.commit()
    return redirect(_back(visitor.session()), 303)


def _become(session: Session, other: User) -> ResponseReturnValue:
    """The person of `session` is `other` from now on, with a session whose token is made only now."""
    if not linking.may_link(session.user, other):
        raise LinkRefused
    kind, back = session.kind, _back(session)
    kept: dict[str, Any] = {
        "registration_id": session.registration_id,
        "course_id": session.course_id,
        "framed": session.framed,
        "locale": session.locale,
        "label": session.label,
    }
    left = session.expires_at - now()
    try:
        merging.merge(other, session.user)
    except MergeRefused:
        raise LinkRefused from None
    lifetime = min(left, timedelta(minutes=current_app.config["SESSION_MINUTES"]))
    if access.is_admin(other):
        # As a launch of theirs would be.
        lifetime = min(lifetime, timedelta(hours=1))
    started, token = sessions.start(other, kind, lifetime=lifetime, **kept)
    g.session, g.user = started, other
    db.session.commit()
    flash(_("Linked. From now on this is one person, however you come."))
    return visitor.sign_in(redirect(back, 303), token, kind, lifetime=lifetime)


def _back(session: Session) -> str:
    """Where the person came from."""
    if session.course_id is None:
        return url_for("courses.directory")
    return url_for("courses.show", course_id=session.course_id)
