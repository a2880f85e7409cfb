"""The account's settings: what it is called, where its people write, and how long things are kept."""

from typing import Any

from flask import Blueprint, current_app, flash, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from wtforms import BooleanField, HiddenField, IntegerField, SelectField, StringField
from wtforms.validators import DataRequired, Length, ValidationError

from lti_tool.classroom import access, account_settings, accounts, invitations, retention
from lti_tool.classroom.accounts import Account
from lti_tool.classroom.invitations import AddressWrong
from lti_tool.classroom.retention import Kind
from lti_tool.database import db
from lti_tool.pages import visitor
from lti_tool.pages.inviting import one_line
from lti_tool.pages.retention_words import FORGOTTEN, KEPT
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import languages_to_choose, zones_to_choose

pages = Blueprint("account_settings", __name__)
pages.after_request(visitor.vary)

# Days for which something may be kept; 0 keeps it for good.
SHORTEST, LONGEST = 30, 3650


def is_term(form: FlaskForm, field: IntegerField) -> None:
    """A number of days that something may be kept. Raises ValidationError."""
    if field.data is None or not (field.data == 0 or SHORTEST <= field.data <= LONGEST):
        field.process_errors = []
        raise ValidationError(
            _("Write a number of days from %(least)s to %(most)s, or 0.", least=SHORTEST, most=LONGEST)
        )


class SettingsForm(FlaskForm):  # type: ignore[misc]
    """What admins settle for their account."""

    name = StringField(
        lazy_gettext("Name of the institution"),
        [
            DataRequired(lazy_gettext("Write what the institution is called.")),
            Length(max=200, message=lazy_gettext("At most 200 characters.")),
        ],
        filters=[one_line],
    )
    contact = StringField(
        lazy_gettext("Contact address"),
        [Length(max=254, message=lazy_gettext("At most 254 characters."))],
        filters=[one_line],
    )
    locale = SelectField(lazy_gettext("Language"))
    timezone = SelectField(lazy_gettext("Time zone"))
    instructors_invite = BooleanField(lazy_gettext("Instructors may invite students to their own courses"))
    tells_new_sign_ins = BooleanField(
        lazy_gettext("Mail admins when somebody signs in as them with a new browser")
    )
    keep_audit_days = IntegerField(KEPT[Kind.AUDIT], [is_term])
    keep_names_days = IntegerField(KEPT[Kind.NAMES], [is_term])
    keep_ended_days = IntegerField(KEPT[Kind.ENDED], [is_term])
    keep_unseen_days = IntegerField(KEPT[Kind.UNSEEN], [is_term])
    keep_mail_days = IntegerField(KEPT[Kind.MAIL], [is_term])
    keep_refused_days = IntegerField(KEPT[Kind.REFUSED], [is_term])
    # The terms whose effect was shown, so that nothing is forgotten that nobody was told of.
    foreseen = HiddenField()

    def validate_contact(self, field: StringField) -> None:
        """An address that mail can be sent to, or none. Raises ValidationError."""
        if field.data:
            try:
                field.data = invitations.check_address(field.data)
            except AddressWrong:
                raise ValidationError(_("This is no e-mail address. Look for a typing error.")) from None

    @property
    def terms(self) -> dict[Kind, int]:
        """What is to be kept for how long."""
        return {kind: self[f"keep_{kind}_days"].data for kind in Kind}


@pages.get("/settings")
@allowed(access.can_change_settings)
def show() -> ResponseReturnValue:
    """The settings as they are."""
    return _page(_form())


@pages.post("/settings/preview")
@allowed(access.can_change_settings)
def preview() -> ResponseReturnValue:
    """What these terms would forget today. Nothing is saved."""
    form = _form()
    if not form.validate_on_submit():
        return _page(form), 422
    return _foreseen_page(form)


@pages.post("/settings")
@allowed(access.can_change_settings)
def change() -> ResponseReturnValue:
    """Save; terms that would forget something are shown with their numbers first."""
    form = _form()
    if not form.validate_on_submit():
        return _page(form), 422
    account: Account = g.account
    if _forgets_more(account, form) and form.foreseen.data != _name(form.terms):
        return _foreseen_page(form, status=422)
    wished = {name: form[name].data for name in account_settings.SETTINGS}
    account_settings.change(account, wished, by=g.user)
    db.session.commit()
    flash(_("Saved."))
    return redirect(url_for(".show"), 303)


def _form() -> SettingsForm:
    form = SettingsForm(obj=g.account)
    form.locale.choices = languages_to_choose()
    form.timezone.choices = [(zone, zone) for zone in zones_to_choose()]
    return form


def _forgets_more(account: Account, form: SettingsForm) -> bool:
    """Would something be forgotten today that the terms in force keep?"""
    now = retention.terms(account)
    sooner = {kind: days for kind, days in form.terms.items() if days and not 0 < now[kind] <= days}
    return any(retention.foresee(account, sooner).values())


def _name(terms: dict[Kind, int]) -> str:
    return " ".join(str(terms[kind]) for kind in Kind)


def _foreseen_page(form: SettingsForm, *, status: int = 200) -> ResponseReturnValue:
    """The form with what its terms would forget, once."""
    form.foreseen.data = _name(form.terms)
    found = retention.foresee(g.account, form.terms)
    return _page(form, foreseen=[FORGOTTEN[kind](number) for kind, number in found.items() if number]), status


def _page(form: SettingsForm, *, foreseen: list[str] | None = None) -> str:
    shown: dict[str, Any] = {"form": form, "foreseen": foreseen}
    if visitor.wants_fragment():
        return render_template("account_settings/_form.html", **shown)
    account: Account = g.account
    forgot = account.forgot or {}
    return render_template(
        "account_settings/show.html",
        **shown,
        owners=accounts.owners(account.id),
        forgot=[FORGOTTEN[kind](forgot[kind]) for kind in Kind if forgot.get(kind)],
        operator=current_app.config["SUPPORT_EMAIL"],
    )
