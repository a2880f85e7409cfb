"""Signing in without an LMS: an address in, a one-use link and six digits out, no passwords.

The address is proven first and the account follows from the proof: a mailbox that several accounts know
is mailed a link and a code by each, and the one that is used says which account is entered. So nobody has
to name an account, and nobody learns which accounts know an address.
"""

import unicodedata
from datetime import datetime, timedelta

import msgspec
from flask import Blueprint, Response, current_app, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext, ngettext
from flask_wtf import FlaskForm
from wtforms import HiddenField, StringField
from wtforms.validators import InputRequired, Length, Regexp

from lti_tool.classroom import access, invitations, sessions
from lti_tool.classroom.accounts import User, find_only_account
from lti_tool.classroom.invitations import AddressWrong
from lti_tool.classroom.sessions import CODE_LIFETIME, CodeSpent, CodeWrong, Kind
from lti_tool.database import db, now
from lti_tool.pages import limits, visitor
from lti_tool.pages.browsers import this_browser
from lti_tool.pages.limits import limiter
from lti_tool.pages.windows import local_path
from lti_tool.sealing import SealBroken, seal, unseal

pages = Blueprint("sign_in", __name__)

# Ties the six digits to the browser that asked for them.
ASKER_COOKIE = "__Host-doorlist-asker"
# Which admin signed in here before: they need not be told again.
KNOWN_COOKIE = "__Host-doorlist-known"
KNOWN_FOR = timedelta(days=365)
# A mail takes a moment; until then the button to send another one counts down.
PATIENCE = timedelta(seconds=60)


class Asked(msgspec.Struct, frozen=True):
    """What the browser that asked keeps, sealed, until the code is entered."""

    asker: str
    email: str
    next: str
    # When the newest mail was asked for, and how many were.
    at: datetime
    times: int = 1


class AskForm(FlaskForm):  # type: ignore[misc]
    """The address, and where the person was going."""

    email = StringField(
        lazy_gettext("Email"), [InputRequired(lazy_gettext("Write your address.")), Length(max=254)]
    )
    next = HiddenField()


def digits(text: str | None) -> str:
    """The digits in what was typed or pasted, whatever stands between them and in whichever script."""
    return "".join(str(unicodedata.decimal(c)) for c in text or "" if c.isdecimal())


class CodeForm(FlaskForm):  # type: ignore[misc]
    """The six digits."""

    code = StringField(
        lazy_gettext("Code"),
        # What is not six digits is a slip, and costs no try.
        [Regexp(r"[0-9]{6}\Z", message=lazy_gettext("Write the six digits."))],
        filters=[digits],
    )


@pages.after_request
def keep_the_token(response: Response) -> Response:
    """A mailed link's address holds its token: no page learns it as a referrer."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@pages.get("/sign-in")
def ask() -> ResponseReturnValue:
    """Ask for the address."""
    form = AskForm(formdata=None, next=request.args.get("next", ""))
    return render_template("sign_in/ask.html", form=form, account=find_only_account())


@pages.post("/sign-in")
@limiter.limit(limits.sign_ins)
@limiter.limit(limits.MAILS_TO_ONE_ADDRESS, key_func=limits.asked_address)
def send() -> ResponseReturnValue:
    """Mail a link and a code. The answer is the same whether or not anybody has the address."""
    form = AskForm()
    email = ""
    if form.validate_on_submit():
        try:
            email = invitations.check_address(form.email.data)
        except AddressWrong:
            form.email.errors = [_("This is no e-mail address. Look for a typing error.")]
    if not email:
        return render_template("sign_in/ask.html", form=form, account=find_only_account()), 422
    before = _asked()
    again = before is not None and before.email == email
    asker = sessions.ask_to_sign_in(
        email,
        # Sent again, the code of either mail works: they may arrive in any order.
        asker=before.asker if before is not None and again else "",
        public_url=current_app.config["PUBLIC_URL"],
        invitation_lifetime=timedelta(days=current_app.config["INVITATION_DAYS"]),
    )
    db.session.commit()
    times = before.times + 1 if before is not None and again else 1
    asked = Asked(asker, email, local_path(form.next.data or ""), now(), times)
    answer = redirect(url_for(".code"), 303)
    answer.set_cookie(
        ASKER_COOKIE,
        seal("asker", msgspec.json.encode(asked).decode()),
        max_age=int(CODE_LIFETIME.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    return answer


@pages.get("/sign-in/code")
def code() -> ResponseReturnValue:
    """Ask for the six digits, in the browser that asked for them."""
    asked = _asked()
    if asked is None:
        return redirect(url_for(".ask"))
    return _code_page(CodeForm(formdata=None), asked)


@pages.post("/sign-in/code")
@limiter.limit(limits.sign_ins)
def enter_code() -> ResponseReturnValue:
    """Sign in by the six digits; a wrong try is counted."""
    asked = _asked()
    if asked is None:
        raise CodeSpent
    form = CodeForm()
    if not form.validate_on_submit():
        return _code_page(form, asked), 422
    try:
        user = sessions.sign_in_by_code(asked.asker, form.code.data)
    except CodeWrong as wrong:
        # The try counts even though it failed.
        db.session.commit()
        form.code.errors = [wrong_code(wrong.left)]
        return _code_page(form, asked), 422
    return _enter(user, asked)


@pages.get("/sign-in/link/<token>")
@limiter.limit(limits.sign_ins)
def link(token: str) -> ResponseReturnValue:
    """A button: mail scanners open links, so opening one signs nobody in."""
    found = sessions.find_by_link(token)
    if found is None or found.user is None:
        raise CodeSpent
    return render_template("sign_in/link.html", user=found.user, account=found.user.account, token=token)


@pages.post("/sign-in/link/<token>")
@limiter.limit(limits.sign_ins)
def use_link(token: str) -> ResponseReturnValue:
    """Sign in by the mailed link, once."""
    return _enter(sessions.sign_in_by_link(token), _asked())


@pages.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Sign out this browser, however it was signed in; signing out twice is no error."""
    for name in (visitor.LAUNCH_COOKIE, visitor.OWN_COOKIE):
        token = request.cookies.get(name)
        if token:
            sessions.end_by_token(token)
    db.session.commit()
    # Messages not shown yet name people: they are not for whoever comes next.
    session.clear()
    return visitor.sign_out(redirect(url_for(".ask"), 303))


def _asked() -> Asked | None:
    """What this browser asked for, if it did."""
    try:
        return msgspec.json.decode(unseal("asker", request.cookies.get(ASKER_COOKIE, "")), type=Asked)
    except (SealBroken, msgspec.DecodeError):
        return None


def _code_page(form: CodeForm, asked: Asked) -> str:
    wait = max(0, int((asked.at + PATIENCE - now()).total_seconds()))
    return render_template(
        "sign_in/code.html", form=form, asked=asked, wait=wait, account=find_only_account()
    )


def wrong_code(left: int) -> str:
    """What is said beside a code that is not right."""
    if left <= 0:
        return str(_("That code is not right, and that was the last try. Ask for a new one."))
    return str(
        ngettext(
            "That code is not right. %(num)s try left.", "That code is not right. %(num)s tries left.", left
        )
    )


def _enter(user: User, asked: Asked | None) -> ResponseReturnValue:
    """Start the session, with a token made only now, and go where the person was going."""
    lifetime = timedelta(minutes=current_app.config["SESSION_MINUTES"])
    browser = this_browser()
    _session, token = sessions.start(user, Kind.OWN, lifetime=lifetime, label=browser)
    tells = access.is_told_of_sign_ins(user)
    if tells and not _is_known_to(user):
        sessions.tell_of_sign_in(user, browser=browser, public_url=current_app.config["PUBLIC_URL"])
    known = seal("known", str(user.id))
    db.session.commit()
    answer = redirect(local_path(asked.next if asked else ""), 303)
    answer.delete_cookie(ASKER_COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    if tells:
        seconds = int(KNOWN_FOR.total_seconds())
        answer.set_cookie(
            KNOWN_COOKIE, known, max_age=seconds, path="/", secure=True, httponly=True, samesite="Lax"
        )
    return visitor.sign_in(answer, token, Kind.OWN, lifetime=lifetime)


def _is_known_to(user: User) -> bool:
    """Did `user` sign in with this browser before?"""
    try:
        return unseal("known", request.cookies.get(KNOWN_COOKIE, "")) == str(user.id)
    except SealBroken:
        return False
