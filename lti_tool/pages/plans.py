"""Plans: which are there, what lapses when, and giving, moving and freeing them."""

from datetime import datetime, timedelta

from babel.dates import format_timedelta
from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, lazy_gettext
from flask_babel import gettext as _
from flask_wtf import FlaskForm
from wtforms import IntegerField
from wtforms.validators import InputRequired

from lti_tool.classroom import access, allotment, courses
from lti_tool.classroom.courses import Course
from lti_tool.classroom.plans import Plan
from lti_tool.database import db, now
from lti_tool.pages import months, visitor, words
from lti_tool.pages.visitor import allowed
from lti_tool.pages.windows import local_path

pages = Blueprint("plans", __name__)
pages.after_request(visitor.vary)


@pages.app_template_filter("last_day")
def last_day(ends_at: datetime) -> str:
    """The last day on which a plan holds: one that ends at midnight does not hold on the day it ends."""
    return words.day(ends_at - timedelta(seconds=1))


@pages.app_template_filter("ahead")
def ahead(at: datetime) -> str:
    """How long until then, in words."""
    left = max(at - now(), timedelta(0))
    return str(format_timedelta(left, add_direction=True, locale=get_locale()))


class ChoosePlanForm(FlaskForm):  # type: ignore[misc]
    """Which of the free plans a course gets."""

    plan = IntegerField(validators=[InputRequired(lazy_gettext("Choose a plan."))])


class ChooseCourseForm(FlaskForm):  # type: ignore[misc]
    """Which course a plan goes to."""

    course = IntegerField(validators=[InputRequired(lazy_gettext("Choose a course."))])


@pages.get("/plans")
@allowed(access.can_give_plans)
def overview() -> ResponseReturnValue:
    """Every plan of the account: seats, period, on which course."""
    everything = allotment.list_allotted(g.account.id)
    running = [one for one in everything if not one.over]
    expiring = [one for one in running if one.ends_soon and one.course is not None]
    return render_template(
        "plans/overview.html",
        running=running,
        over=[one for one in everything if one.over],
        in_force=sum(one.plan.in_force() for one in running),
        free=sum(one.course is None for one in running),
        expiring=[(one, allotment.successor(one, running)) for one in expiring],
        calendar=months.draw(running) if running else None,
    )


# --- a plan for a course -----------------------------------------------------------------


@pages.get("/courses/<int:course_id>/plan")
@allowed(access.can_give_plans)
def choose(course_id: int) -> ResponseReturnValue:
    """The free plans to choose from; for htmx as a dialog."""
    return _choose_page(visitor.find_course(course_id), ChoosePlanForm())


def _choose_page(course: Course, form: FlaskForm) -> ResponseReturnValue:
    dialog = visitor.wants_fragment() and request.headers.get("HX-Target") == "dialog"
    return render_template(
        "plans/_choose.html" if dialog else "plans/choose.html",
        course=course,
        free=allotment.free_plans(g.account.id),
        form=form,
        dialog=dialog,
        following=_following(course),
    ), 422 if form.errors else 200


@pages.post("/courses/<int:course_id>/plan")
@allowed(access.can_give_plans)
def give(course_id: int) -> ResponseReturnValue:
    """Give the course a free plan; its people see the door open by itself."""
    course = visitor.find_course(course_id)
    form = ChoosePlanForm()
    if not form.validate_on_submit():
        return _choose_page(course, form)
    plan = visitor.find_plan(form.plan.data)
    courses.activate(course, plan, by=g.user)
    _tell(course, plan)
    following = _following(course)
    db.session.commit()
    return redirect(following, 303)


@pages.post("/courses/<int:course_id>/plan/free")
@allowed(access.can_give_plans)
def free(course_id: int) -> ResponseReturnValue:
    """Take the course's plan from it; who is in a session now is not cut off."""
    course = visitor.find_course(course_id)
    courses.deactivate(course, by=g.user)
    flash(_("%(course)s has no plan now. Students find a closed door.", course=course.name), "open")
    following = _following(course)
    db.session.commit()
    return redirect(following, 303)


def _following(course: Course) -> str:
    """Where the person came from, else the course."""
    wish = request.values.get("next", "")
    return local_path(wish) if wish else url_for("courses.show", course_id=course.id)


def _tell(course: Course, plan: Plan) -> None:
    if plan.starts_at > now():
        flash(_("%(course)s has a plan that is still to start.", course=course.name), "open")
    else:
        flash(_("%(course)s is active. Students can come in.", course=course.name), "open")


# --- a course for a plan -----------------------------------------------------------------


@pages.get("/plans/<int:plan_id>/give")
@allowed(access.can_give_plans)
def choose_course(plan_id: int) -> ResponseReturnValue:
    """The courses to choose from, those that asked first; for htmx the found ones alone."""
    return _choose_course_page(visitor.find_plan(plan_id), ChooseCourseForm())


def _choose_course_page(plan: Plan, form: FlaskForm) -> ResponseReturnValue:
    search = request.args.get("q", "").strip()
    part = visitor.wants_fragment() and request.headers.get("HX-Target") == "found"
    return render_template(
        "plans/_courses.html" if part else "plans/give.html",
        plan=plan,
        search=search,
        found=allotment.courses_for(g.account.id, search=search),
        holder=courses.find_by_plan(g.account.id, plan.id),
        form=form,
    ), 422 if form.errors else 200


@pages.post("/plans/<int:plan_id>/give")
@allowed(access.can_give_plans)
def give_to(plan_id: int) -> ResponseReturnValue:
    """Give the plan to a course, or move it there from the course that holds it."""
    plan = visitor.find_plan(plan_id)
    form = ChooseCourseForm()
    if not form.validate_on_submit():
        return _choose_course_page(plan, form)
    course = visitor.find_course(form.course.data)
    allotment.move(plan, course, by=g.user)
    _tell(course, plan)
    db.session.commit()
    return redirect(url_for(".overview"), 303)
