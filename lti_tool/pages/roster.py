"""A course's roster: how it stands with the LMS, what each sync did, and who is in the course."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from lti_tool.classroom import access, course_list, courses, guests, syncs
from lti_tool.classroom.accounts import Status, User
from lti_tool.classroom.course_list import ListPage
from lti_tool.classroom.courses import Context, Course
from lti_tool.classroom.roster import lms_name
from lti_tool.classroom.syncs import Standing, SyncRun, SyncState
from lti_tool.database import db
from lti_tool.lti.registrations import Registration
from lti_tool.pages import sync_words, visitor
from lti_tool.pages.sync_words import Failure
from lti_tool.pages.visitor import allowed

pages = Blueprint("roster", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_filter(sync_words.in_short, "in_short")
pages.add_app_template_filter(sync_words.failure, "sync_failure")
pages.add_app_template_filter(sync_words.short_roles, "short_roles")
pages.add_app_template_global(sync_words.skipped_because, "skipped_because")

# htmx stops polling at this status.
STOP_POLLING = 286
NAMES_PAGE = 250


@dataclass(frozen=True)
class Sheet:
    """One LMS course behind the course: its newest sync in words."""

    context: Context
    registration: Registration
    run: SyncRun | None
    # Only of a failed one: why, and since when the roster stands.
    failure: Failure | None
    stands_since: datetime | None

    @property
    def lms(self) -> str:
        """What the LMS is called."""
        return lms_name(self.registration)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind the receipt holds."""
        return sync_words.counts(self.run) if self.run else {}

    @property
    def took(self) -> str:
        """How long it took, and for how many."""
        return sync_words.took(self.run) if self.run else ""


def _sheet(standing: Standing) -> Sheet:
    run, failure, since = standing.run, None, None
    if run is not None and run.state is SyncState.FAILED:
        failure = sync_words.failure(run, lms_name(standing.registration))
        in_force = syncs.latest_in_force(standing.context.id)
        since = in_force.finished_at if in_force else None
    return Sheet(standing.context, standing.registration, run, failure, since)


def _sync_facts(course: Course) -> dict[str, Any]:
    sheets = [_sheet(standing) for standing in syncs.standings(course)]
    busy = [sheet.run for sheet in sheets if sheet.run and sheet.run.busy]
    return {"course": course, "sheets": sheets, "busy": busy[0] if busy else None}


# --- the page ----------------------------------------------------------------------------


@pages.get("/courses/<int:course_id>/roster")
@allowed(access.can_see_roster)
def show(course_id: int) -> ResponseReturnValue:
    """How the roster stands, and everybody on it; for htmx the list alone."""
    course = visitor.find_course(course_id)
    search = request.args.get("q", "").strip()
    people = course_list.list_people(
        course,
        search=search,
        after=request.args.get("after", type=int),
        before=request.args.get("before", type=int),
    )
    if visitor.wants_fragment() and request.headers.get("HX-Target") == "people":
        standings = syncs.standings(course)
        return render_template(
            "roster/_people.html",
            course=course,
            people=people,
            search=search,
            lms_of=_names(standings),
            inviters=_inviters(people),
            swapped=True,
        )
    facts = _sync_facts(course)
    return render_template(
        "roster/roster.html",
        **facts,
        people=people,
        search=search,
        roster_size=people.total,
        lms_of={sheet.context.id: sheet.lms for sheet in facts["sheets"]},
        inviters=_inviters(people),
    )


def _inviters(people: ListPage) -> dict[int, User]:
    """Enrollment id → who invited those that have not answered yet."""
    waiting = [one.invitation for one in people.people if one.user.status is Status.PENDING]
    return guests.inviters_of([held for held in waiting if held is not None])


def _names(standings: list[Standing]) -> dict[int, str]:
    return {s.context.id: lms_name(s.registration) for s in standings}


# --- syncing -----------------------------------------------------------------------------


@pages.post("/courses/<int:course_id>/roster/sync")
@allowed(access.can_see_roster)
def sync(course_id: int) -> ResponseReturnValue:
    """Ask for a sync; while one is under way, that one."""
    course = visitor.find_course(course_id)
    syncs.ask_for_sync(course, by=g.user)
    db.session.commit()
    return _after(course)


@pages.post("/courses/<int:course_id>/roster/syncs/<int:run_id>/yes")
@allowed(access.can_see_roster)
def confirm(course_id: int, run_id: int) -> ResponseReturnValue:
    """Yes to a held sync: the list is read anew, and as many may end."""
    course = visitor.find_course(course_id)
    syncs.answer_held(_find_run(course, run_id), True, by=g.user)
    db.session.commit()
    return _after(course)


@pages.post("/courses/<int:course_id>/roster/syncs/<int:run_id>/no")
@allowed(access.can_see_roster)
def refuse(course_id: int, run_id: int) -> ResponseReturnValue:
    """No to a held sync: the roster stays as it is."""
    course = visitor.find_course(course_id)
    syncs.answer_held(_find_run(course, run_id), False, by=g.user)
    db.session.commit()
    return _after(course)


@pages.post("/courses/<int:course_id>/roster/syncs/<int:run_id>/undo")
@allowed(access.can_see_roster)
def undo(course_id: int, run_id: int) -> ResponseReturnValue:
    """Bring back what the newest sync changed."""
    course = visitor.find_course(course_id)
    syncs.undo_sync(_find_run(course, run_id), by=g.user)
    db.session.commit()
    return _after(course)


def _find_run(course: Course, run_id: int) -> SyncRun:
    run = syncs.find_run(course, run_id)
    if run is None:
        raise NotFound
    return run


def _after(course: Course) -> ResponseReturnValue:
    """Where the person goes on: the part that asked, or the roster's page."""
    if visitor.wants_fragment():
        return _tile(course) if request.headers.get("HX-Target") == "roster-tile" else _progress(course)
    return redirect(url_for(".show", course_id=course.id), 303)


def _progress(course: Course) -> Response:
    """How the roster stands, as a part of the page that asks again while a sync is under way."""
    facts = _sync_facts(course)
    response = make_response(
        render_template("roster/_sync.html", **facts, roster_size=courses.count_people(course), swapped=True)
    )
    if not facts["busy"]:
        response.status_code = STOP_POLLING if request.method == "GET" else 200
        response.headers["HX-Trigger"] = "roster-changed"
    return response


def _tile(course: Course) -> Response:
    run = syncs.latest_run(course)
    standings = syncs.standings(course)
    response = make_response(
        render_template(
            "roster/_tile.html",
            course=course,
            run=run,
            roster_size=courses.count_people(course),
            platform=lms_name(standings[0].registration) if standings else "",
        )
    )
    if request.method == "GET" and not (run and run.busy):
        response.status_code = STOP_POLLING
    return response


@pages.get("/courses/<int:course_id>/roster/tile")
@allowed(access.can_see_roster)
def tile(course_id: int) -> ResponseReturnValue:
    """The roster at a glance, as the course page asks for it while a sync is under way."""
    course = visitor.find_course(course_id)
    if not visitor.wants_fragment():
        return redirect(url_for("courses.show", course_id=course_id))
    return _tile(course)


# --- receipts ----------------------------------------------------------------------------


@pages.get("/courses/<int:course_id>/roster/syncs")
@allowed(access.can_see_roster)
def earlier(course_id: int) -> ResponseReturnValue:
    """The course's syncs, newest first."""
    course = visitor.find_course(course_id)
    runs = syncs.earlier_runs(course, before=request.args.get("before", type=int))
    return render_template(
        "roster/syncs.html",
        course=course,
        runs=runs,
        lms_of=_names(syncs.standings(course)),
        roster_size=courses.count_people(course),
    )


@pages.get("/courses/<int:course_id>/roster/syncs/<int:run_id>")
@allowed(access.can_see_roster)
def receipt(course_id: int, run_id: int) -> ResponseReturnValue:
    """One sync and its receipt; to the roster page, which asks each second, how far it has come."""
    course = visitor.find_course(course_id)
    run = _find_run(course, run_id)
    if visitor.wants_fragment():
        return _progress(course)
    return render_template(
        "roster/receipt.html",
        course=course,
        sheet=_sheet(_standing(course, run)),
        roster_size=courses.count_people(course),
    )


def _standing(course: Course, run: SyncRun) -> Standing:
    registration = next(s.registration for s in syncs.standings(course) if s.context.id == run.context_id)
    return Standing(run.context, registration, run)


@pages.get("/courses/<int:course_id>/roster/syncs/<int:run_id>/<kind>")
@allowed(access.can_see_roster)
def names(course_id: int, run_id: int, kind: str) -> ResponseReturnValue:
    """Everybody a sync added, changed, ended, skipped or renamed, by name."""
    course = visitor.find_course(course_id)
    run = _find_run(course, run_id)
    if kind not in sync_words.KINDS or not run.receipt:
        raise NotFound
    everybody = run.receipt.get(kind, [])
    start = max(0, request.args.get("from", 0, type=int))
    return render_template(
        "roster/names.html",
        course=course,
        sheet=_sheet(_standing(course, run)),
        roster_size=courses.count_people(course),
        kind=kind,
        people=everybody[start : start + NAMES_PAGE],
        start=start,
        step=NAMES_PAGE,
        total=len(everybody),
    )
