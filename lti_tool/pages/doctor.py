"""One LMS looked at closely: what the newest check found, its rosters, its refused launches."""

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from lti_tool.classroom import access, accounts, checkups, doctor, outcomes, platforms
from lti_tool.classroom.accounts import Connection
from lti_tool.database import db
from lti_tool.pages import doctor_words, limits, visitor
from lti_tool.pages.visitor import allowed

pages = Blueprint("doctor", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_filter(doctor_words.lamp, "checkup_lamp")
pages.add_app_template_filter(doctor_words.step, "checkup_step")
pages.add_app_template_filter(doctor_words.refusal_title, "refusal_title")
pages.add_app_template_filter(doctor_words.offset_words, "offset_words")
pages.add_app_template_global(doctor_words.say, "finding_said")

ROSTERS_SHOWN = 100


@pages.get("/lms/<int:registration_id>")
@allowed(access.can_manage_platforms)
def show(registration_id: int) -> ResponseReturnValue:
    """Everything we know of one LMS."""
    tie = platforms.find_tie(g.account, registration_id)
    if tie is None:
        raise NotFound
    return render_template(
        "lms/details.html",
        tie=tie,
        registration=tie.registration,
        checkup=checkups.find_checkup(tie.connection),
        rosters=doctor.rosters(tie.connection, limit=ROSTERS_SHOWN),
        outcomes=outcomes.latest(g.account, [registration_id]),
        whole=True,
    )


@pages.post("/lms/<int:registration_id>/check")
@allowed(access.can_manage_platforms)
@limits.per_account("LIMIT_CHECK")
def check(registration_id: int) -> ResponseReturnValue:
    """Ask for a check: a job asks the LMS, the page waits for what it finds."""
    connection = _find_connection(registration_id)
    checkups.ask(connection)
    db.session.commit()
    return _answer(connection)


@pages.get("/lms/<int:registration_id>/checkup")
@allowed(access.can_manage_platforms)
def checkup(registration_id: int) -> ResponseReturnValue:
    """How far a check has come, or what it found; without htmx that is a part of the page."""
    return _answer(_find_connection(registration_id))


def _answer(connection: Connection) -> ResponseReturnValue:
    whole = request.args.get("whole") == "1"
    registration_id = connection.registration_id
    if not visitor.wants_fragment():
        if whole:
            return redirect(url_for(".show", registration_id=registration_id), 303)
        return redirect(url_for("lms.overview", _anchor=f"lms-{registration_id}"), 303)
    return render_template(
        "lms/_checkup.html",
        registration=connection.registration,
        checkup=checkups.find_checkup(connection),
        whole=whole,
        swapped=True,
    )


def _find_connection(registration_id: int) -> Connection:
    connection = accounts.find_connection(g.account, registration_id)
    if connection is None:
        raise NotFound
    return connection
