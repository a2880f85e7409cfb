"""Inviting people: the form as a dialog or as a page, and what it asks the server while it is filled."""

from datetime import timedelta
from typing import Any

from flask import (
    Blueprint,
    current_app,
    flash,
    g,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import Forbidden, NotFound
from wtforms import BooleanField, SelectField, SelectMultipleField, StringField
from wtforms.validators import InputRequired, Length

from lti_tool.classroom import access, accounts, directory, invitations, verdicts
from lti_tool.classroom.accounts import PersonBlocked, Role, Status, User, email_key
from lti_tool.classroom.courses import Course
from lti_tool.classroom.invitations import AddressWrong, NothingNew
from lti_tool.database import db
from lti_tool.pages import typing_errors, visitor
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import ROLE_NAMES

pages = Blueprint("inviting", __name__)
pages.after_request(visitor.vary)

# What a finished dialog tells the list behind it.
_CHANGED = {"HX-Trigger": "users-changed"}


def one_line(text: str | None) -> str:
    """What somebody typed as one line: no control characters, single spaces."""
    return " ".join("".join(c if c.isprintable() or c in _JOINERS else " " for c in text or "").split())


# Nobody sees them, but they shape how the letters beside them are written, in Persian and Indic names.
_JOINERS = "\u200c\u200d"


class InviteForm(FlaskForm):  # type: ignore[misc]
    """Whom to invite, as what, to which courses."""

    name = StringField(
        lazy_gettext("Full name"),
        [Length(max=200, message=lazy_gettext("At most 200 characters."))],
        filters=[one_line],
    )
    email = StringField(
        lazy_gettext("Email"),
        [
            InputRequired(lazy_gettext("Write the address the invitation goes to.")),
            Length(max=254, message=lazy_gettext("At most 254 characters.")),
        ],
        filters=[one_line],
    )
    role = SelectField(lazy_gettext("Role"), coerce=Role)
    courses = SelectMultipleField(lazy_gettext("Courses"), coerce=int, validate_choice=False)
    more = BooleanField(lazy_gettext("Invite more users"))


@pages.get("/users/invite")
@allowed(access.can_manage_users)
def invite() -> ResponseReturnValue:
    """The form: a dialog for htmx, else a page. An address may name role and courses to begin with."""
    form = _invite_form(formdata=None)
    form.role.data = _role_wish()
    form.courses.data = request.args.getlist("course", type=int)
    form.more.data = bool(request.args.get("more"))
    looked_for = one_line(request.args.get("q"))
    form.email.data, form.name.data = (looked_for, "") if "@" in looked_for else ("", looked_for)
    return _invite_page(form)


@pages.post("/users/invite")
@allowed(access.can_manage_users)
def send_invitation() -> ResponseReturnValue:
    """Put somebody on the courses' lists and mail them."""
    form = _invite_form()
    known = accounts.find_known(g.account.id, form.email.data)
    if form.validate_on_submit() and not form.name.data and known is None:
        form.name.errors = [_("Write the person’s name.")]
    if form.errors or not form.is_submitted():
        return _invite_page(form, known=known), 422
    if not access.can_invite_as(g.user, form.role.data):
        raise Forbidden
    courses = choose_courses(form)
    try:
        user = invitations.invite(
            g.account,
            name=form.name.data,
            email=form.email.data,
            role=form.role.data,
            courses=courses,
            by=g.user,
            **invitation_terms(),
        )
    except AddressWrong:
        db.session.rollback()
        form.email.errors = [_("This is no e-mail address. Look for a typing error.")]
        return _invite_page(form), 422
    except PersonBlocked as blocked:
        form.email.errors = [
            _("%(name)s is blocked here. Unblock them in their panel first.", name=blocked.user.label)
        ]
        page = _invite_page(form, known=blocked.user)
        db.session.rollback()
        return page, 422
    except NothingNew as nothing:
        form.courses.errors = [_nothing_new(nothing.user, courses, form.role.data)]
        page = _invite_page(form, known=nothing.user)
        db.session.rollback()
        return page, 422
    db.session.commit()
    return _invited(form, user, courses)


@pages.get("/users/known")
@allowed(access.can_manage_users)
def known_address() -> ResponseReturnValue:
    """Who in the account has this address, shown while an invitation is written."""
    address = one_line(request.args.get("email"))[:254]
    known = accounts.find_known(g.account.id, address)
    return render_template("users/_known.html", **_known_facts(known, address))


@pages.get("/users/invite/courses")
@allowed(access.can_manage_users)
def find_courses() -> ResponseReturnValue:
    """Courses whose names hold what is typed, for the picker."""
    choices = directory.course_choices(g.account.id, search=one_line(request.args.get("q"))[:200], limit=30)
    return jsonify([course_option(choice) for choice in choices])


def _invite_form(**options: Any) -> InviteForm:
    form = InviteForm(**options)
    form.role.choices = [(role, ROLE_NAMES[role]) for role in roles_to_give()]
    return form


def roles_to_give() -> list[Role]:
    """The roles that the person asking may invite people as."""
    return [role for role in Role if access.can_invite_as(g.user, role)]


def _role_wish() -> Role:
    """The role that the address asks the form to begin with."""
    wish = request.args.get("role", "")
    return Role(wish) if wish in list(Role) else Role.STUDENT


def choose_courses(form: Any) -> list[Course]:
    """The courses chosen, each one the asker may invite to; admins are in all, so none is chosen for them."""
    if form.role.data.rank >= Role.ADMIN.rank:
        return []
    wanted = {course_id for course_id in form.courses.data if 0 < course_id < 2**31}
    found = directory.find_courses(g.account.id, list(wanted))
    if len(found) < len(set(form.courses.data)):
        raise NotFound
    if not all(access.can_invite_to(g.user, course) for course in found):
        raise Forbidden
    return found


def _nothing_new(user: User, courses: list[Course], role: Role) -> str:
    if not courses:
        return str(_("%(name)s has an account already. Pick a course to add.", name=user.label))
    names = ", ".join(course.name for course in courses)
    return str(
        _(
            "%(name)s is on the list of %(courses)s already. Pick another course or close.",
            name=user.label,
            courses=names,
        )
    )


def _invited(form: InviteForm, user: User, courses: list[Course]) -> ResponseReturnValue:
    """Say what was done; *Invite more users* gives the form again with role and courses kept."""
    pending = user.status is Status.PENDING
    said = _("Invited %(name)s.", name=user.label) if pending else _("Added %(name)s.", name=user.label)
    if not form.more.data:
        if visitor.wants_fragment():
            return render_template("users/_toast.html", said=said), 200, _CHANGED
        flash(said)
        return redirect(url_for("users.directory"), 303)
    if not visitor.wants_fragment():
        flash(said)
        kept = {"role": form.role.data.value, "course": [course.id for course in courses], "more": "1"}
        return redirect(url_for(".invite", **kept), 303)
    fresh = _invite_form(formdata=None)
    fresh.role.data, fresh.courses.data, fresh.more.data = form.role.data, form.courses.data, True
    names = ", ".join(course.name for course in courses)
    return _invite_page(fresh, said=said, names=names), 200, _CHANGED


def _invite_page(form: InviteForm, *, known: User | None = None, said: str = "", names: str = "") -> str:
    chosen = [course_id for course_id in form.courses.data or [] if 0 < course_id < 2**31]
    choices = directory.course_choices(g.account.id, chosen=chosen)
    return render_template(
        "users/_invite.html" if visitor.wants_fragment() else "users/invite.html",
        form=form,
        options=[course_option(choice) for choice in choices],
        chosen=chosen,
        said=said,
        names=names,
        in_dialog=visitor.wants_fragment(),
        **_known_facts(known, form.email.data or ""),
    )


def _known_facts(known: User | None, address: str) -> dict[str, Any]:
    claims = verdicts.find_known(g.account.id, [email_key(address)]) if address and known is None else {}
    return {
        "known": known,
        # Whom an LMS calls so, whose word the account does not take.
        "claimed": next((one.name for people in claims.values() for one in people), ""),
        "suggestion": typing_errors.mended(address),
        "known_courses": directory.count_courses(known) if known else 0,
        "days": current_app.config["INVITATION_DAYS"],
    }


def course_option(choice: directory.Choice) -> dict[str, Any]:
    """A course as the picker shows it."""
    return {
        "value": choice.id,
        "name": choice.name,
        "people": choice.instructors or _("No instructor yet"),
        "state": _("Active") if choice.active else _("Inactive"),
        "hue": choice.id % 6 + 1 if choice.active else 0,
        "cover": "cover-" + ("strata", "lines", "hex", "dots", "arcs", "grid")[choice.id % 6],
    }


def invitation_terms() -> dict[str, Any]:
    """How long an invitation may be answered, and where."""
    return {
        "lifetime": timedelta(days=current_app.config["INVITATION_DAYS"]),
        "public_url": current_app.config["PUBLIC_URL"],
    }
