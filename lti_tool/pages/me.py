"""My account: what one is called, language and zone, where one is signed in, what is held about oneself."""

import json
from datetime import timedelta

from flask import Blueprint, Response, current_app, flash, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import Forbidden, NotFound
from wtforms import SelectField, StringField
from wtforms.validators import Length

from lti_tool.classroom import access, audit, people, privacy, sessions
from lti_tool.classroom.accounts import User
from lti_tool.database import db, is_id
from lti_tool.pages import visitor
from lti_tool.pages.browsers import browser_words
from lti_tool.pages.inviting import one_line
from lti_tool.pages.visitor import allowed, signed_in
from lti_tool.pages.words import languages_to_choose, zones_to_choose

pages = Blueprint("me", __name__)
pages.add_app_template_filter(browser_words, "browser_words")


class MeForm(FlaskForm):  # type: ignore[misc]
    """What people settle for themselves."""

    name = StringField(
        lazy_gettext("Name"),
        [Length(max=200, message=lazy_gettext("At most 200 characters."))],
        filters=[one_line],
    )
    locale = SelectField(lazy_gettext("Language"))
    timezone = SelectField(lazy_gettext("Time zone"))


@pages.get("/me")
@allowed(signed_in)
def show() -> ResponseReturnValue:
    """Everything about oneself on one page."""
    return _page(_form(g.user))


@pages.post("/me")
@allowed(signed_in)
def change() -> ResponseReturnValue:
    """Save name, language and zone."""
    user = visitor.somebody()
    form = _form(user)
    valid = form.validate_on_submit()
    if valid and user.name and not form.name.data:
        form.name.errors = [_("Write the name that the others see.")]
        valid = False
    if not valid:
        return _page(form), 422
    people.name_by_hand(user, form.name.data, by=user)
    user.locale, user.timezone = form.locale.data, form.timezone.data
    db.session.commit()
    flash(_("Saved."))
    return redirect(url_for(".show"), 303)


@pages.post("/me/sessions/<int:session_id>/end")
@allowed(signed_in)
def end_session(session_id: int) -> ResponseReturnValue:
    """Sign out one browser; it may be this one."""
    user = visitor.somebody()
    session = sessions.find_own(user, session_id) if is_id(session_id) else None
    if session is None:
        raise NotFound
    here = session.id == g.session.id
    sessions.end(session)
    db.session.commit()
    if here:
        return _signed_out()
    flash(_("That browser is signed out."))
    return redirect(url_for(".show"), 303)


@pages.post("/me/sessions/end-others")
@allowed(signed_in)
def end_other_sessions() -> ResponseReturnValue:
    """Sign out everywhere but here."""
    sessions.end_others(visitor.session())
    db.session.commit()
    flash(_("Every other browser is signed out."))
    return redirect(url_for(".show"), 303)


@pages.post("/me/sessions/end-all")
@allowed(signed_in)
def end_every_session() -> ResponseReturnValue:
    """Sign out everywhere, here too."""
    people.sign_out_everywhere(g.user, by=g.user)
    db.session.commit()
    return _signed_out()


def _signed_out() -> ResponseReturnValue:
    return visitor.sign_out(redirect(url_for("sign_in.ask"), 303))


@pages.get("/me/export")
@allowed(signed_in)
def export() -> ResponseReturnValue:
    """A copy of everything that is held about oneself."""
    return _copy_of(visitor.somebody())


@pages.post("/users/<int:user_id>/export")
@allowed(access.can_manage_users)
def export_person(user_id: int) -> ResponseReturnValue:
    """A copy for somebody who asked an admin for it; the log keeps that it was taken."""
    user = visitor.find_user(user_id)
    if not access.can_export(g.user, user):
        raise Forbidden
    audit.record(g.account.id, "user.exported", f"user:{user.id}", by=g.user)
    answer = _copy_of(user)
    db.session.commit()
    return answer


def _copy_of(user: User) -> Response:
    answer = Response(
        json.dumps(privacy.export(user), ensure_ascii=False, indent=2), mimetype="application/json"
    )
    # A name as file name could be anything.
    answer.headers["Content-Disposition"] = f'attachment; filename="doorlist-person-{user.id}.json"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _form(user: User) -> MeForm:
    form = MeForm(obj=user)
    form.locale.choices = [("", _("As my LMS or browser says")), *languages_to_choose()]
    form.timezone.choices = [("", _("As my browser says")), *((zone, zone) for zone in zones_to_choose())]
    return form


def _page(form: MeForm) -> str:
    idle = timedelta(minutes=current_app.config["SESSION_IDLE_MINUTES"])
    return render_template(
        "me/show.html", form=form, browsers=sessions.living(g.user, idle=idle), here=g.session.id
    )
