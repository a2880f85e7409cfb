"""The LMS courses behind a course: leading one to another course, and what a copied course takes over."""

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from werkzeug.exceptions import NotFound
from wtforms import IntegerField, SelectMultipleField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from lti_tool.classroom import access, copies, moves
from lti_tool.classroom.copies import Offer
from lti_tool.classroom.courses import Course
from lti_tool.classroom.moves import Behind
from lti_tool.database import db
from lti_tool.pages import visitor
from lti_tool.pages.visitor import allowed

pages = Blueprint("lms_courses", __name__, url_prefix="/courses/<int:course_id>")
pages.after_request(visitor.vary)

# What can be taken over, as pages call it.
THINGS = {
    "name": lazy_gettext("Name"),
    "summary": lazy_gettext("Summary"),
    "description": lazy_gettext("Description"),
}


class MoveForm(FlaskForm):  # type: ignore[misc]
    """To which course an LMS course leads from now on."""

    course = IntegerField(validators=[InputRequired(lazy_gettext("Choose a course."))])


class TakeOverForm(FlaskForm):  # type: ignore[misc]
    """What the copy takes over."""

    thing = SelectMultipleField(
        validators=[InputRequired(lazy_gettext("Choose what to take over, or leave the course as it is."))],
        choices=[SelectChoice(key, label) for key, label in THINGS.items()],
    )


# --- moving ------------------------------------------------------------------------------


@pages.get("/lms-courses/<int:tie_id>/move")
@allowed(access.can_move_lms_courses)
def choose_course(course_id: int, tie_id: int) -> ResponseReturnValue:
    """The courses to which an LMS course can be moved, and what goes along."""
    course = visitor.find_course(course_id)
    return _move_page(course, find_behind(course, tie_id), MoveForm())


@pages.post("/lms-courses/<int:tie_id>/move")
@allowed(access.can_move_lms_courses)
def move(course_id: int, tie_id: int) -> ResponseReturnValue:
    """Lead the LMS course to another course; moving back is the same."""
    course = visitor.find_course(course_id)
    behind = find_behind(course, tie_id)
    form = MoveForm()
    if not form.validate_on_submit():
        return _move_page(course, behind, form)
    target = visitor.find_course(form.course.data)
    moves.move(behind.tie, target, by=g.user)
    flash(_("%(lms)s leads to %(course)s now.", lms=behind.tie.title, course=target.name), "open")
    # There it stands with the way back.
    following = url_for("courses.describe", course_id=target.id, _anchor="lms-courses")
    db.session.commit()
    return redirect(following, 303)


def find_behind(course: Course, tie_id: int) -> Behind:
    """An LMS course behind this course, else 404."""
    behind = moves.find_behind(course, tie_id)
    if behind is None:
        raise NotFound
    return behind


def _move_page(course: Course, behind: Behind, form: FlaskForm) -> ResponseReturnValue:
    search = request.args.get("q", "").strip()
    part = visitor.wants_fragment() and request.headers.get("HX-Target") == "found"
    found = moves.list_targets(behind.tie, search=search)
    return render_template(
        "lms_courses/_targets.html" if part else "lms_courses/move.html",
        course=course,
        behind=behind,
        search=search,
        found=found[: moves.OFFERED],
        more=len(found) > moves.OFFERED,
        form=form,
    ), 422 if form.errors else 200


# --- copies ------------------------------------------------------------------------------


@pages.get("/copy")
@allowed(access.can_moderate)
def ask_copy(course_id: int) -> ResponseReturnValue:
    """What the course could take over from the one it is a copy of."""
    course = visitor.find_course(course_id)
    return _copy_page(course, find_offer(course), TakeOverForm())


@pages.post("/copy")
@allowed(access.can_moderate)
def take_over(course_id: int) -> ResponseReturnValue:
    """Take what was ticked; people and plans never come along."""
    course = visitor.find_course(course_id)
    offer = find_offer(course)
    form = TakeOverForm()
    if not form.validate_on_submit():
        return _copy_page(course, offer, form)
    copies.take_over(course, offer, set(form.thing.data), by=g.user)
    flash(_("Taken over from %(course)s.", course=offer.origin.name), "open")
    following = url_for("courses.show", course_id=course.id)
    db.session.commit()
    return redirect(following, 303)


@pages.post("/copy/decline")
@allowed(access.can_moderate)
def decline_copy(course_id: int) -> ResponseReturnValue:
    """Leave the course as it is; nobody is asked again."""
    course = visitor.find_course(course_id)
    copies.take_over(course, find_offer(course), set(), by=g.user)
    following = url_for("courses.show", course_id=course.id)
    db.session.commit()
    return redirect(following, 303)


def find_offer(course: Course) -> Offer:
    """What the course is offered from one whose staff the person is too, else 404."""
    offer = copies.find_offer(course)
    if offer is None or not access.can_take_over_from(visitor.somebody(), offer.origin):
        raise NotFound
    return offer


def _copy_page(course: Course, offer: Offer, form: FlaskForm) -> ResponseReturnValue:
    return render_template(
        "lms_courses/copy.html", course=course, offer=offer, names=THINGS, form=form
    ), 422 if form.errors else 200
