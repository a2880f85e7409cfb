"""Inviting students to a course, by its instructors where the account lets them, and taking that back."""

from typing import Any

from flask import Blueprint, current_app, flash, g, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext, ngettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import Forbidden, NotFound
from wtforms import TextAreaField
from wtforms.validators import InputRequired, Length

from lti_tool.classroom import access, guests
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.guests import Line, Result
from lti_tool.database import db
from lti_tool.pages import visitor
from lti_tool.pages.inviting import invitation_terms
from lti_tool.pages.visitor import allowed

pages = Blueprint("course_inviting", __name__)
pages.after_request(visitor.vary)

# What a finished dialog tells the roster behind it.
_CHANGED = {"HX-Trigger": "roster-changed"}

RESULTS = {
    Result.INVITED: lazy_gettext("Invited"),
    Result.ALREADY: lazy_gettext("On the course’s list already"),
    Result.TWICE: lazy_gettext("Stands in your lines twice; once counts"),
    Result.NO_ADDRESS: lazy_gettext("No e-mail address; look for a typing error"),
    Result.TOO_LONG: lazy_gettext("The name is longer than 200 characters"),
    Result.LIMIT: lazy_gettext("Not invited: that is more than one may invite in 24 hours"),
    Result.ASK_ADMIN: lazy_gettext("Not invited: ask an admin"),
}


class GuestsForm(FlaskForm):  # type: ignore[misc]
    """Whom to invite: a person a line."""

    people = TextAreaField(
        lazy_gettext("Students"),
        [
            InputRequired(lazy_gettext("Write at least one address.")),
            Length(max=20_000, message=lazy_gettext("That is more than 50 people need.")),
        ],
    )


@pages.get("/courses/<int:course_id>/invite")
@allowed(access.can_invite_to)
def ask(course_id: int) -> ResponseReturnValue:
    """The form: a dialog for htmx, else a page."""
    return _page(visitor.find_course(course_id), GuestsForm(formdata=None))


@pages.post("/courses/<int:course_id>/invite")
@allowed(access.can_invite_to)
def invite(course_id: int) -> ResponseReturnValue:
    """Invite everybody who can be; the lines that could not be taken stay in the form."""
    course = visitor.find_course(course_id)
    form = GuestsForm()
    lines = guests.read_lines(form.people.data or "") if form.validate_on_submit() else []
    if len(lines) > guests.MOST_LINES:
        form.people.errors = [
            _("These are %(num)s people; at most 50 at a time. Nobody was invited.", num=len(lines))
        ]
    elif not lines and not form.errors:
        form.people.errors = [_("Write at least one address.")]
    if form.errors or form.people.errors:
        return _page(course, form), 422
    guests.invite(course, lines, by=g.user, limit=_limit(), **invitation_terms())
    db.session.commit()
    return _answer(course, form, lines)


@pages.post("/courses/<int:course_id>/invited/<int:user_id>/resend")
@allowed(access.can_invite_to)
def resend(course_id: int, user_id: int) -> ResponseReturnValue:
    """Mail somebody again whom one invited to the course."""
    course = visitor.find_course(course_id)
    user = guests.send_again(_find_own(course, user_id), by=g.user, limit=_limit(), **invitation_terms())
    said = _("%(name)s is mailed again. The old link no longer works.", name=user.label)
    db.session.commit()
    return _changed(course, said)


@pages.post("/courses/<int:course_id>/invited/<int:user_id>/withdraw")
@allowed(access.can_invite_to)
def withdraw(course_id: int, user_id: int) -> ResponseReturnValue:
    """Take somebody off the course whom one invited and who has not answered."""
    course = visitor.find_course(course_id)
    label = guests.take_back(_find_own(course, user_id), by=g.user)
    db.session.commit()
    return _changed(course, _("%(name)s is no longer invited to the course.", name=label))


def _find_own(course: Course, user_id: int) -> Enrollment:
    """A pending guest of the course whom the asker invited, else 404 or 403."""
    held = guests.find_guest(course, user_id)
    if held is None:
        raise NotFound
    if not access.can_take_back_invitation(g.user, course, held):
        raise Forbidden
    return held


def _limit() -> int:
    return int(current_app.config["INSTRUCTOR_INVITES"])


def _page(course: Course, form: GuestsForm, **more: Any) -> str:
    template = "course_inviting/_form.html" if visitor.wants_fragment() else "course_inviting/ask.html"
    return render_template(
        template,
        course=course,
        form=form,
        in_dialog=visitor.wants_fragment(),
        limit=_limit(),
        left=max(0, _limit() - guests.count_invited(g.user)),
        days=current_app.config["INVITATION_DAYS"],
        results=RESULTS,
        **more,
    )


def _answer(course: Course, form: GuestsForm, lines: list[Line]) -> ResponseReturnValue:
    """All done: back to the roster. Else each line with what became of it, and the rest in the form."""
    number = sum(line.result is Result.INVITED for line in lines)
    said = ngettext("%(num)s student invited.", "%(num)s students invited.", number)
    if number == len(lines):
        return _changed(course, said)
    left = [line.text for line in lines if not line.done]
    form.people.data = "\n".join(left)
    if left:
        form.people.errors = [
            ngettext(
                "%(num)s line is left. Mend it and send it again.",
                "%(num)s lines are left. Mend them and send them again.",
                len(left),
            )
        ]
    page = make_response(_page(course, form, lines=lines, said=said), 422 if left else 200)
    page.headers.update(_CHANGED)
    return page


def _changed(course: Course, said: str) -> ResponseReturnValue:
    """What was done, on the roster."""
    if visitor.wants_fragment():
        return render_template("users/_toast.html", said=said), 200, _CHANGED
    flash(said)
    return redirect(url_for("roster.show", course_id=course.id), 303)
