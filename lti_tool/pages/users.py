"""The users list and a person's panel."""

from typing import Any, TypeVar

from flask import Blueprint, Response, flash, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import Forbidden
from wtforms import SelectField, StringField
from wtforms.validators import Length

from lti_tool.classroom import access, directory, invitations, people
from lti_tool.classroom.accounts import Role, Status, User
from lti_tool.classroom.directory import Order, Wish
from lti_tool.classroom.people import LastOwner
from lti_tool.database import db, fold
from lti_tool.pages import visitor
from lti_tool.pages.inviting import invitation_terms, one_line
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import ROLE_NAMES

pages = Blueprint("users", __name__)

Wished = TypeVar("Wished", Role, Status, Order)

# What of the address says which list is shown; every link and form of the panel carries it on.
_LIST_KEYS = ("q", "role", "status", "course", "sort", "after", "before")
# What a dialog or a save tells the list beside it.
_CHANGED = {"HX-Trigger": "users-changed"}


class PersonForm(FlaskForm):  # type: ignore[misc]
    """What can be changed of a person."""

    name = StringField(
        lazy_gettext("Full name"),
        [Length(max=200, message=lazy_gettext("At most 200 characters."))],
        filters=[one_line],
    )
    role = SelectField(lazy_gettext("Role in the account"), coerce=Role)


class EraseForm(FlaskForm):  # type: ignore[misc]
    """The name once more, so that a slip deletes nobody."""

    confirm = StringField(filters=[one_line])


@pages.after_request
def vary(response: Response) -> Response:
    """Every address here answers a page or, for htmx, a part of it."""
    response.vary.add("HX-Request")
    return response


# --- the list ----------------------------------------------------------------------------


@pages.get("/users", endpoint="directory")
@allowed(access.can_manage_users)
def show_directory() -> ResponseReturnValue:
    """Everybody in the account: searched, filtered, sorted, a page at a time."""
    if visitor.wants_fragment() and request.headers.get("HX-Target") == "list":
        part = make_response(render_template("users/_list.html", **_list_facts(), swapped=True))
        if request.headers.get("HX-Trigger") != "renew":
            part.headers["HX-Push-Url"] = url_for(".directory", **list_args())
        return part
    return render_template("users/directory.html", **_list_facts(), portrait=None)


def _list_facts() -> dict[str, Any]:
    """What the list shows, as the address says it."""
    order = request.args.get("sort", "name")
    wish = Wish(
        search=one_line(request.args.get("q"))[:200],
        role=_one_of(Role, request.args.get("role", "")),
        status=_one_of(Status, request.args.get("status", "")),
        course_id=_course_wish(),
        order=_one_of(Order, order.removeprefix("-")) or Order.NAME,
        descending=order.startswith("-"),
        after=request.args.get("after", ""),
        before=request.args.get("before", ""),
    )
    return {
        "wish": wish,
        "people": directory.find_people(g.account.id, wish),
        "course_names": directory.course_names(g.account, among=wish.course_id),
        "roles": [Role.STUDENT, Role.INSTRUCTOR, Role.ADMIN],
        "statuses": list(Status),
        "list_url": list_url,
        "list_args": list_args(),
    }


def _one_of(kind: type[Wished], text: str) -> Wished | None:
    """The member of `kind` that is called so; None for none and for nonsense."""
    return kind(text) if text in list(kind) else None


def _course_wish() -> int | None:
    wish = request.args.get("course", type=int)
    return wish if wish is not None and 0 < wish < 2**31 else None


def list_args(**changes: str) -> dict[str, Any]:
    """The list's state as arguments of an address, with `changes`; empty ones are left out."""
    state = {key: request.args.get(key, "") for key in _LIST_KEYS} | changes
    return {key: value for key, value in state.items() if value and (key, value) != ("sort", "name")}


def list_url(**changes: str) -> str:
    """The list as it is now, but for `changes`; other than a page of it, it begins at the start."""
    return url_for(".directory", **list_args(**{"after": "", "before": "", **changes}))


# --- a person ----------------------------------------------------------------------------


@pages.get("/users/<int:user_id>")
@allowed(access.can_manage_users)
def show(user_id: int) -> ResponseReturnValue:
    """The person's panel beside the list: role, courses, and where each fact comes from."""
    return _panel(visitor.find_user(user_id))


@pages.post("/users/<int:user_id>")
@allowed(access.can_manage_users)
def change(user_id: int) -> ResponseReturnValue:
    """Save name and role."""
    user = _find_changeable(user_id)
    form = _person_form(user)
    if not form.validate_on_submit():
        return _panel(user, form=form, status=422)
    if not access.can_give_role(g.user, form.role.data):
        raise Forbidden
    try:
        people.change_role(user, form.role.data, by=g.user)
    except LastOwner:
        db.session.rollback()
        visitor.load()
        form.role.errors = [_("This is the last owner. Make somebody else an owner first.")]
        return _panel(visitor.find_user(user_id), form=form, status=422)
    people.name_by_hand(user, form.name.data or user.name, by=g.user)
    db.session.commit()
    return _changed(user, _("Saved."))


@pages.post("/users/<int:user_id>/courses/<int:of_course>/remove")
@allowed(access.can_manage_users)
def remove_from_course(user_id: int, of_course: int) -> ResponseReturnValue:
    """Take somebody off a course's list."""
    user = _find_changeable(user_id)
    course = visitor.find_course(of_course)
    comes_back = people.remove_from_course(user, course, by=g.user)
    db.session.commit()
    said = _("Removed from %(course)s.", course=course.name)
    if comes_back:
        said += " " + _(
            "The LMS still lists them: the next sync brings them back unless they are removed there."
        )
    return _changed(user, said)


@pages.post("/users/<int:user_id>/invitation/resend")
@allowed(access.can_manage_users)
def resend(user_id: int) -> ResponseReturnValue:
    """Mail a pending person again; the link mailed before stops working."""
    user = _find_changeable(user_id)
    invitations.resend(user, by=g.user, **invitation_terms())
    db.session.commit()
    return _changed(user, _("A new invitation is on its way. The old link no longer works."))


@pages.post("/users/<int:user_id>/invitation/withdraw")
@allowed(access.can_manage_users)
def withdraw(user_id: int) -> ResponseReturnValue:
    """Take an invitation back; the person disappears from the list."""
    user = _find_changeable(user_id)
    label = user.label
    invitations.withdraw(user, by=g.user)
    db.session.commit()
    return _gone(_("The invitation of %(name)s is withdrawn.", name=label))


@pages.get("/users/<int:user_id>/delete")
@allowed(access.can_manage_users)
def confirm_erase(user_id: int) -> ResponseReturnValue:
    """What deleting somebody does, before it is done."""
    return _panel(_find_changeable(user_id), form=EraseForm(), template="users/_delete.html")


@pages.post("/users/<int:user_id>/delete")
@allowed(access.can_manage_users)
def erase(user_id: int) -> ResponseReturnValue:
    """Delete somebody for good, once their name is typed."""
    user = _find_changeable(user_id)
    form = EraseForm()
    label = user.label
    if not form.validate_on_submit() or fold(form.confirm.data) != fold(one_line(label)):
        form.confirm.errors = [_("This is not the name.")]
        return _panel(user, form=form, template="users/_delete.html", status=422)
    people.erase(user, by=g.user)
    db.session.commit()
    return _gone(_("%(name)s is deleted.", name=label))


def _find_changeable(user_id: int) -> User:
    """A person of the account whom the asker may change, else 404 or 403."""
    user = visitor.find_user(user_id)
    if not access.can_change(g.user, user):
        raise Forbidden
    return user


def _person_form(user: User) -> PersonForm:
    form = PersonForm(obj=user)
    form.role.choices = [(role, ROLE_NAMES[role]) for role in access.roles_to_choose(g.user, user)]
    return form


def _panel(
    user: User,
    *,
    form: FlaskForm | None = None,
    said: str = "",
    template: str = "users/_panel.html",
    status: int = 200,
) -> Response:
    """The panel alone for htmx, else beside the whole list."""
    shown = {
        "user": user,
        "form": form or _person_form(user),
        "portrait": people.portray(user),
        "said": said,
        "panel": template,
        "list_url": list_url,
        "list_args": list_args(),
    }
    if visitor.wants_fragment():
        return make_response(render_template(template, **shown), status)
    return make_response(render_template("users/directory.html", **_list_facts() | shown), status)


def _changed(user: User, said: str) -> ResponseReturnValue:
    """After a change: the panel with what was done; the list renews itself."""
    if visitor.wants_fragment():
        answer = _panel(user, said=said)
        answer.headers.update(_CHANGED)
        return answer
    flash(said)
    return redirect(url_for(".show", user_id=user.id, **list_args()), 303)


def _gone(said: str) -> ResponseReturnValue:
    """After somebody left the list: the panel closes."""
    if visitor.wants_fragment():
        return render_template("users/_toast.html", said=said), 200, {**_CHANGED, "HX-Push-Url": list_url()}
    flash(said)
    return redirect(list_url(), 303)
