"""Courses and what they have: `course …`, `plan …`, `roster …`."""

from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import AppGroup
from sqlalchemy import select

from lti_tool import jobs
from lti_tool.classroom import courses, plans, syncs
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Context, Course, Enrollment, PlanNotInForce, PlanTaken
from lti_tool.classroom.plans import Plan
from lti_tool.classroom.syncs import SyncImpossible, SyncRun
from lti_tool.commands.terminal import (
    Refused,
    account_option,
    answers,
    course_option,
    find_account,
    find_course,
)
from lti_tool.database import db
from lti_tool.lti.registrations import Deployment, Registration

course_group = AppGroup("course", help="Courses of an account.")
plan_group = AppGroup("plan", help="Plans: slots that make courses active.")
roster_group = AppGroup("roster", help="Rosters from the LMS.")


@course_group.command("add")
@account_option
@click.argument("name")
@answers
def course_add(slug: str, name: str) -> dict[str, Any]:
    """A course that comes from no LMS."""
    course = courses.add_course(find_account(slug).id, name)
    db.session.commit()
    return {"id": course.id, "name": name}


@course_group.command("list")
@account_option
@answers
def course_list(slug: str) -> list[dict[str, Any]]:
    """Every course of an account, with the LMS courses behind it."""
    account = find_account(slug)
    contexts: dict[int, list[dict[str, str]]] = {}
    for course_id, context_id, deployment_id, issuer, client_id in db.session.execute(
        select(
            Context.course_id,
            Context.context_id,
            Deployment.deployment_id,
            Registration.issuer,
            Registration.client_id,
        )
        .join(Deployment, Deployment.id == Context.deployment_id)
        .join(Registration, Registration.id == Deployment.registration_id)
        .where(Context.account_id == account.id)
        .order_by(Context.id)
    ):
        contexts.setdefault(course_id, []).append(
            {
                "issuer": issuer,
                "client_id": client_id,
                "deployment_id": deployment_id,
                "context_id": context_id,
            }
        )
    return [
        {
            "id": course.id,
            "name": course.name,
            "active": course.active,
            "plan": course.plan_id,
            "contexts": contexts.get(course.id, []),
        }
        for course in courses.list_courses(account.id)
    ]


def _plan(plan: Plan, course_id: int | None) -> dict[str, Any]:
    return {
        "id": plan.id,
        "seats": plan.seats,
        "from": plan.starts_at.isoformat(),
        "until": plan.ends_at.isoformat() if plan.ends_at else None,
        "course": course_id,
    }


@plan_group.command("grant")
@account_option
@click.option("--seats", type=click.IntRange(1), default=40, show_default=True)
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The day it ends (UTC); without: no end.")
@click.option("--course", "course_id", type=int, help="Give it to this course at once.")
@answers
def plan_grant(slug: str, seats: int, until: datetime | None, course_id: int | None) -> dict[str, Any]:
    """A new plan for an account."""
    account = find_account(slug)
    plan = plans.grant(account, seats=seats, until=until.replace(tzinfo=UTC) if until else None)
    if course_id is not None:
        course = courses.find_course(account.id, course_id)
        if course is None:
            raise Refused(f"Account {slug} has no course {course_id}.")
        try:
            courses.activate(course, plan)
        except PlanNotInForce:
            raise Refused("The plan would be over already.") from None
    db.session.commit()
    return _plan(plan, course_id)


@plan_group.command("list")
@account_option
@answers
def plan_list(slug: str) -> list[dict[str, Any]]:
    """An account's plans and the courses they are on."""
    account = find_account(slug)
    holders = dict(
        db.session.execute(
            select(Course.plan_id, Course.id).where(
                Course.account_id == account.id, Course.plan_id.is_not(None)
            )
        )
        .tuples()
        .all()
    )
    return [_plan(plan, holders.get(plan.id)) for plan in plans.list_plans(account.id)]


@plan_group.command("free")
@click.argument("plan_id", type=int)
@answers
def plan_free(plan_id: int) -> dict[str, Any]:
    """Take a plan off its course."""
    plan = db.session.get(Plan, plan_id)
    if plan is None:
        raise Refused(f"There is no plan {plan_id}. `plan list` shows them.")
    course = courses.find_by_plan(plan.account_id, plan.id)
    if course is not None:
        courses.deactivate(course)
    db.session.commit()
    return _plan(plan, None)


@plan_group.command("give")
@click.argument("plan_id", type=int)
@course_option
@answers
def plan_give(plan_id: int, course_id: int) -> dict[str, Any]:
    """Give a free plan to a course."""
    course = find_course(course_id)
    plan = plans.find_plan(course.account_id, plan_id)
    if plan is None:
        raise Refused(f"The course's account has no plan {plan_id}.")
    try:
        courses.activate(course, plan)
    except PlanTaken:
        raise Refused("The plan is on another course. Free it first.") from None
    except PlanNotInForce:
        raise Refused("The plan is over.") from None
    db.session.commit()
    return _plan(plan, course_id)


@roster_group.command("sync")
@click.option("--course", "course_id", type=int, help="The course's id.")
@click.option("--all", "every", is_flag=True, help="Every course that has an LMS roster.")
@click.option("--dry-run", is_flag=True, help="Fetch and compare; write nothing.")
@answers
def roster_sync(course_id: int | None, every: bool, dry_run: bool) -> Any:
    """Sync rosters here and now."""
    if every == (course_id is not None):
        raise click.UsageError("Give either --course ID or --all.")
    if course_id is not None:
        return _sync(find_course(course_id), dry_run)
    with_roster = select(Context.course_id).where(Context.memberships_url != "")
    found = db.session.scalars(select(Course.id).where(Course.id.in_(with_roster)).order_by(Course.id)).all()
    return [{"course": one, **_sync(find_course(one), dry_run)} for one in found]


def _sync(course: Course, dry_run: bool) -> dict[str, Any]:
    try:
        if dry_run:
            return jobs.preview_sync(course)
        run_id = syncs.ask_for_sync(course).id
    except SyncImpossible:
        raise Refused("This course comes from no LMS, or its LMS offers no member list.") from None
    db.session.commit()
    jobs.run_queued_syncs()
    return jobs.sync_result(db.session.get_one(SyncRun, run_id))


@roster_group.command("show")
@course_option
@answers
def roster_show(course_id: int) -> list[dict[str, Any]]:
    """Every enrollment of a course, with what the LMS said."""
    course = find_course(course_id)
    rows = db.session.execute(
        select(Enrollment, User)
        .join(User, User.id == Enrollment.user_id)
        .where(Enrollment.course_id == course.id)
        .order_by(User.name_key, Enrollment.id)
    )
    return [
        {
            "user": user.id,
            "subject": enrollment.subject,
            "name": user.name,
            "email": user.email,
            "role": enrollment.role.value,
            "source": enrollment.source.value,
            "active": enrollment.ended_at is None,
            "roles": enrollment.roster_roles or enrollment.launch_roles or [],
        }
        for enrollment, user in rows
    ]
