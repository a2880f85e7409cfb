"""A person's panel beside the users list: what is known and from where; changing, blocking, erasing."""

from datetime import timedelta
from typing import Any

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    g,
    make_response,
    redirect,
    render_template,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext, ngettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import Forbidden, NotFound
from wtforms import HiddenField, SelectField, SelectMultipleField, StringField
from wtforms.validators import Length

from lti_tool.classroom import access, answers, directory, history, invitations, people
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.people import ChangedMeanwhile, LastOwner
from lti_tool.database import db, fold, is_id
from lti_tool.pages import audit_words, visitor
from lti_tool.pages.inviting import course_option, invitation_terms, one_line
from lti_tool.pages.users import list_args, list_facts, list_url
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import ROLE_NAMES

pages = Blueprint("person", __name__)
pages.after_request(visitor.vary)

# What a dialog or a save tells the list beside it.
_CHANGED = {"HX-Trigger": "users-changed"}
# Events in the panel; the audit log has the rest.
LATEST = 10


class PersonForm(FlaskForm):  # type: ignore[misc]
    """What can be changed of a person."""

    name = StringField(
        lazy_gettext("Full name"),
        [Length(max=200, message=lazy_gettext("At most 200 characters."))],
        filters=[one_line],
    )
    role = SelectField(lazy_gettext("Role in the account"), coerce=Role)
    # The person as the form was opened on them.
    version = HiddenField()


class CoursesForm(FlaskForm):  # type: ignore[misc]
    """The courses on whose lists a person is put, and as what."""

    courses = SelectMultipleField(lazy_gettext("Courses"), coerce=int, validate_choice=False)
    role = SelectField(lazy_gettext("Role in these courses"), coerce=Role)


class EraseForm(FlaskForm):  # type: ignore[misc]
    """The name once more, so that a slip deletes nobody."""

    confirm = StringField(filters=[one_line])


@pages.get("/users/<int:user_id>")
@allowed(access.can_manage_users)
def show(user_id: int) -> ResponseReturnValue:
    """The person's panel beside the list: role, courses, and where each fact comes from."""
    return _panel(visitor.find_user(user_id))


@pages.get("/users/<int:user_id>/history")
@allowed(access.can_see_audit_log)
def latest(user_id: int) -> ResponseReturnValue:
    """The latest that was done to and by the person, as the panel asks for it; else the audit log."""
    user = visitor.find_user(user_id)
    if not visitor.wants_fragment():
        return redirect(url_for("audit_log.show", person=user.id))
    page = history.list_events(g.account.id, history.Wish(people=(user.id,)), limit=LATEST)
    return render_template(
        "person/_history.html", user=user, told=audit_words.tell(g.account.id, page.events)
    )


@pages.post("/users/<int:user_id>")
@allowed(access.can_manage_users)
def change(user_id: int) -> ResponseReturnValue:
    """Save name and role, unless somebody else changed the person since the form was opened."""
    user = _find_changeable(user_id)
    form = _person_form(user)
    if not form.validate_on_submit():
        if form.role.errors and user.id == g.user.id:
            form.role.errors = [_("Nobody changes their own role. Ask another admin.")]
        return _panel(user, form=form, status=422)
    if not access.can_give_role(g.user, form.role.data):
        raise Forbidden
    try:
        people.hold(user, form.version.data or people.version_of(user))
        people.change_role(user, form.role.data, by=g.user)
    except ChangedMeanwhile:
        db.session.rollback()
        visitor.load()
        user = _find_changeable(user_id)
        form.version.data = people.version_of(user)
        return _panel(user, form=form, status=409)
    except LastOwner:
        db.session.rollback()
        visitor.load()
        form.role.errors = [_("This is the last owner. Make somebody else an owner first.")]
        return _panel(visitor.find_user(user_id), form=form, status=422)
    people.name_by_hand(user, form.name.data or user.name, by=g.user)
    db.session.commit()
    return _changed(user, _("Saved."))


# --- courses -----------------------------------------------------------------------------


@pages.get("/users/<int:user_id>/courses/add")
@allowed(access.can_manage_users)
def choose_courses(user_id: int) -> ResponseReturnValue:
    """Courses to put the person in: a dialog for htmx, else a page."""
    user = _find_changeable(user_id)
    form = _courses_form(formdata=None)
    form.role.data = user.role.in_courses
    return _courses_page(user, form)


@pages.post("/users/<int:user_id>/courses")
@allowed(access.can_manage_users)
def add_to_courses(user_id: int) -> ResponseReturnValue:
    """Put the person on the lists of courses, by hand."""
    user = _find_changeable(user_id)
    form = _courses_form()
    valid = form.validate_on_submit()
    wanted = {course_id for course_id in form.courses.data or [] if is_id(course_id)}
    if valid and not wanted:
        form.courses.errors = [_("Pick a course.")]
    if form.errors:
        return _courses_page(user, form, status=422)
    courses = directory.find_courses(g.account.id, list(wanted))
    if len(courses) < len(set(form.courses.data)):
        raise NotFound
    added = [one for one in courses if people.add_to_course(user, one, form.role.data, by=g.user)]
    names = ", ".join(course.name for course in added)
    if not added:
        form.courses.errors = [
            ngettext(
                "%(name)s is in this course already, with that role or a higher one.",
                "%(name)s is in these courses already, with that role or a higher one.",
                len(courses),
                name=user.label,
            )
        ]
        return _courses_page(user, form, status=422)
    db.session.commit()
    return _changed(user, _("Added to %(courses)s.", courses=names), from_dialog=True)


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


# --- invitation and sessions -------------------------------------------------------------


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
    answers.withdraw(user, by=g.user)
    db.session.commit()
    return _gone(_("The invitation of %(name)s is withdrawn.", name=label))


@pages.post("/users/<int:user_id>/sign-out")
@allowed(access.can_manage_users)
def sign_out(user_id: int) -> ResponseReturnValue:
    """Sign somebody out of every browser: one was lost, or left open."""
    user = _find_changeable(user_id)
    people.sign_out_everywhere(user, by=g.user)
    db.session.commit()
    return _changed(user, _("%(name)s is signed out everywhere.", name=user.label))


# --- blocking ----------------------------------------------------------------------------


@pages.get("/users/<int:user_id>/block")
@allowed(access.can_manage_users)
def confirm_block(user_id: int) -> ResponseReturnValue:
    """What blocking somebody does, before it is done."""
    return _panel(_find_blockable(user_id), template="person/_block.html")


@pages.post("/users/<int:user_id>/block")
@allowed(access.can_manage_users)
def block(user_id: int) -> ResponseReturnValue:
    """Shut somebody out until they are unblocked."""
    user = _find_blockable(user_id)
    people.block(user, by=g.user)
    db.session.commit()
    return _changed(user, _("%(name)s is blocked and signed out everywhere.", name=user.label))


@pages.post("/users/<int:user_id>/unblock")
@allowed(access.can_manage_users)
def unblock(user_id: int) -> ResponseReturnValue:
    """Let somebody in again."""
    user = _find_blockable(user_id)
    people.unblock(user, by=g.user)
    db.session.commit()
    return _changed(user, _("%(name)s can get in again.", name=user.label))


# --- deleting ----------------------------------------------------------------------------


@pages.get("/users/<int:user_id>/delete")
@allowed(access.can_manage_users)
def confirm_erase(user_id: int) -> ResponseReturnValue:
    """What deleting somebody does, before it is done."""
    return _panel(_find_removable(user_id), form=EraseForm(), template="person/_delete.html")


@pages.post("/users/<int:user_id>/delete")
@allowed(access.can_manage_users)
def erase(user_id: int) -> ResponseReturnValue:
    """Delete somebody for good, once their name is typed."""
    user = _find_removable(user_id)
    form = EraseForm()
    label = user.label
    if not form.validate_on_submit() or fold(form.confirm.data) != fold(one_line(label)):
        form.confirm.errors = [_("This is not the name.")]
        return _panel(user, form=form, template="person/_delete.html", status=422)
    people.erase(user, by=g.user)
    db.session.commit()
    return _gone(_("%(name)s is deleted.", name=label))


# --- finding and answering ---------------------------------------------------------------


def _find_changeable(user_id: int) -> User:
    """A person of the account whom the asker may change, else 404 or 403."""
    user = visitor.find_user(user_id)
    if not access.can_change(g.user, user):
        raise Forbidden
    return user


def _find_blockable(user_id: int) -> User:
    """A person of the account whom the asker may block and unblock, else 404 or 403."""
    user = visitor.find_user(user_id)
    if not access.can_block(g.user, user):
        raise Forbidden
    return user


def _find_removable(user_id: int) -> User:
    """A person of the account whom the asker may delete, else 404 or 403."""
    user = visitor.find_user(user_id)
    if not access.can_remove(g.user, user):
        raise Forbidden
    return user


def _person_form(user: User) -> PersonForm:
    form = PersonForm(obj=user)
    form.role.choices = [(role, ROLE_NAMES[role]) for role in access.roles_to_choose(g.user, user)]
    if not form.is_submitted():
        form.version.data = people.version_of(user)
    return form


def _courses_form(**options: Any) -> CoursesForm:
    form = CoursesForm(**options)
    form.role.choices = [(role, ROLE_NAMES[role]) for role in (Role.STUDENT, Role.INSTRUCTOR)]
    return form


def _courses_page(user: User, form: CoursesForm, *, status: int = 200) -> Response:
    """The choice of courses, as a dialog or as a page of its own."""
    chosen = [course_id for course_id in form.courses.data or [] if is_id(course_id)]
    choices = directory.course_choices(g.account.id, chosen=chosen)
    shown: dict[str, Any] = {
        "user": user,
        "form": form,
        "options": [course_option(choice) for choice in choices],
        "chosen": chosen,
        "list_args": list_args(),
        "in_dialog": visitor.wants_fragment(),
    }
    template = "person/_add_courses.html" if visitor.wants_fragment() else "person/add_courses.html"
    return make_response(render_template(template, **shown), status)


def _panel(
    user: User,
    *,
    form: FlaskForm | None = None,
    said: str = "",
    template: str = "person/_panel.html",
    status: int = 200,
) -> Response:
    """The panel alone for htmx, else beside the whole list."""
    shown = {
        "user": user,
        "form": form or _person_form(user),
        "portrait": people.portray(user, idle=timedelta(minutes=current_app.config["SESSION_IDLE_MINUTES"])),
        "said": said,
        # Somebody else was faster: what was typed is kept beside what is so now.
        "overtaken": status == 409,
        "panel": template,
        "list_url": list_url,
        "list_args": list_args(),
    }
    if visitor.wants_fragment():
        return make_response(render_template(template, **shown), status)
    return make_response(render_template("users/directory.html", **list_facts() | shown), status)


def _changed(user: User, said: str, *, from_dialog: bool = False) -> ResponseReturnValue:
    """After a change: the panel with what was done; the list renews itself."""
    if not visitor.wants_fragment():
        flash(said)
        return redirect(url_for(".show", user_id=user.id, **list_args()), 303)
    # Where a dialog asked there is nothing any more; the panel changes beside it.
    answer = _panel(user, said=said, template="person/_beside.html" if from_dialog else "person/_panel.html")
    answer.headers.update(_CHANGED)
    return answer


def _gone(said: str) -> ResponseReturnValue:
    """After somebody left the list: the panel closes."""
    if visitor.wants_fragment():
        return render_template("users/_toast.html", said=said), 200, {**_CHANGED, "HX-Push-Url": list_url()}
    flash(said)
    return redirect(list_url(), 303)
