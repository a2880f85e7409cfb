"""The course directory, a course with its door, and its settings."""

from typing import Any

from flask import Blueprint, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_wtf import FlaskForm
from wtforms import StringField, TextAreaField
from wtforms.validators import InputRequired, Length

from lti_tool.classroom import access, allotment, copies, courses, moves, rooms, roster, syncs
from lti_tool.classroom.access import Gate
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.copies import Offer
from lti_tool.classroom.courses import Course
from lti_tool.database import db
from lti_tool.pages import visitor
from lti_tool.pages.visitor import allowed, signed_in

pages = Blueprint("courses", __name__)


class CourseForm(FlaskForm):  # type: ignore[misc]
    """What the directory says of a course."""

    name = StringField(
        lazy_gettext("Name"),
        [InputRequired(lazy_gettext("Give the course a name.")), Length(max=200)],
        filters=[lambda text: text and text.strip()],
    )
    summary = StringField(lazy_gettext("Summary"), [Length(max=150)])
    description = TextAreaField(lazy_gettext("Description"), [Length(max=500)])


@pages.get("/")
def home() -> ResponseReturnValue:
    """The directory is where everybody starts."""
    return redirect(url_for(".directory"))


@pages.get("/courses")
@allowed(signed_in)
def directory() -> ResponseReturnValue:
    """Admins see every course in two sections; others their own, closed ones greyed with the reason."""
    search = request.args.get("q", "").strip()
    if access.is_admin(g.user):
        found: list[Course] = list(courses.list_courses(g.account.id, search=search, limit=300))
        gates: dict[int, Gate] = {}
    else:
        own = courses.courses_of(g.user)
        found = [course for course, _role in own]
        gates = access.room_gates(g.user, found)
    ids = [course.id for course in found]
    shown: dict[str, Any] = {
        "search": search,
        "active": [c for c in found if c.active],
        "inactive": [c for c in found if not c.active],
        "instructors": courses.instructors_of(ids),
        "inside": rooms.count_present(ids),
        "gates": gates,
        "free": len(allotment.free_plans(g.account.id)) if access.can_give_plans(g.user) else 0,
    }
    fragment = visitor.wants_fragment() and request.headers.get("HX-Target") == "cards"
    response = make_response(
        render_template("courses/_cards.html" if fragment else "courses/directory.html", **shown)
    )
    response.vary.add("HX-Request")
    return response


@pages.route("/courses/new", methods=["GET", "POST"])
@allowed(access.can_create_courses)
def add() -> ResponseReturnValue:
    """A course that comes from no LMS; people are invited to it by mail."""
    form = CourseForm()
    if form.validate_on_submit():
        course = courses.add_course(
            g.account.id,
            form.name.data,
            summary=form.summary.data or "",
            description=form.description.data or "",
            by=g.user,
        )
        db.session.commit()
        return redirect(url_for(".show", course_id=course.id), 303)
    return render_template("courses/form.html", form=form, course=None), 422 if form.errors else 200


@pages.route("/courses/<int:course_id>/settings", methods=["GET", "POST"])
@allowed(access.can_create_courses)
def describe(course_id: int) -> ResponseReturnValue:
    """Name, summary, description."""
    course = visitor.find_course(course_id)
    form = CourseForm(obj=course)
    if form.validate_on_submit():
        courses.describe(
            course,
            name=form.name.data,
            summary=form.summary.data or "",
            description=form.description.data or "",
            by=g.user,
        )
        db.session.commit()
        return redirect(url_for(".show", course_id=course_id), 303)
    return render_template(
        "courses/form.html", form=form, course=course, behind=moves.list_behind(course)
    ), 422 if form.errors else 200


@pages.get("/courses/<int:course_id>")
@allowed(signed_in)
def show(course_id: int) -> ResponseReturnValue:
    """A course: its door, and for staff plan and roster at a glance."""
    course = visitor.find_course(course_id)
    facts = door_facts(course)
    return render_template(
        "courses/course.html", **facts, copy_offer=_copy_offer(course) if facts["staff"] else None
    )


@pages.get("/courses/<int:course_id>/door")
@allowed(signed_in)
def door(course_id: int) -> ResponseReturnValue:
    """The door alone; pages ask again every few seconds, so that it opens by itself."""
    course = visitor.find_course(course_id)
    return render_template("courses/_door.html", **door_facts(course))


@pages.post("/courses/<int:course_id>/ask")
@allowed(access.can_ask_for_activation)
def ask(course_id: int) -> ResponseReturnValue:
    """An instructor asks the admins for a plan."""
    course = visitor.find_course(course_id)
    courses.ask_for_activation(course, by=g.user)
    db.session.commit()
    return redirect(url_for(".show", course_id=course_id), 303)


def door_facts(course: Course) -> dict[str, Any]:
    """What the door and the tiles beside it show."""
    gate = access.room_gate(g.user, course)
    meeting = rooms.find_open(course) if gate.open_since else None
    staff = gate.role is Role.INSTRUCTOR
    run = syncs.latest_run(course) if staff else None
    return {
        "course": course,
        "gate": gate,
        "staff": staff,
        "admin": access.is_admin(g.user),
        "people": rooms.present(meeting) if meeting else [],
        "run": run,
        "roster_size": courses.count_people(course) if staff else 0,
        "platform": roster.platform_name(course) if staff else "",
        "may_ask": access.can_ask_for_activation(g.user, course),
        "last_meeting": rooms.last_ended(course) if staff else None,
        "room_name": _("room-%(id)s", id=course.id),
    }


def _copy_offer(course: Course) -> Offer | None:
    """What the course can take over from a course whose staff the person is too."""
    offer = copies.find_offer(course)
    return offer if offer and access.can_take_over_from(g.user, offer.origin) else None
