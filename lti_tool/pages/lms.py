"""The account's LMSs: what they may decide, deployments that wait, connecting one and letting one go."""

from collections.abc import Callable

from flask import Blueprint, Response, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import NotFound

from lti_tool.classroom import access, accounts, platforms
from lti_tool.classroom.accounts import Connection
from lti_tool.classroom.platforms import Tie
from lti_tool.classroom.roster import lms_name
from lti_tool.database import db
from lti_tool.lti.registrations import Deployment, RegistrationExists
from lti_tool.pages import connecting, visitor
from lti_tool.pages.connecting import KINDS, ConnectForm
from lti_tool.pages.visitor import allowed

pages = Blueprint("lms", __name__)
pages.add_app_template_filter(connecting.host_of, "host")
pages.add_app_template_filter(lms_name, "platform_name")


@pages.after_request
def vary(response: Response) -> Response:
    """Every address here answers a page or, for htmx, a part of it."""
    response.vary.add("HX-Request")
    return response


@pages.get("/lms")
@allowed(access.can_manage_platforms)
def overview() -> ResponseReturnValue:
    """Where people launch from, and what waits for an admin."""
    return render_template(
        "lms/overview.html",
        ties=platforms.list_ties(g.account),
        waiting=accounts.waiting_deployments(g.account),
    )


# --- connecting --------------------------------------------------------------------------


@pages.route("/lms/connect", methods=["GET", "POST"])
@allowed(access.can_manage_platforms)
def connect() -> ResponseReturnValue:
    """Our values to paste into the LMS, and the LMS's to paste here."""
    kind = KINDS.get(request.args.get("lms", ""), KINDS["moodle"])
    form = ConnectForm(data={"name": kind.title if kind.name != "other" else "", **kind.preset})
    if form.validate_on_submit():
        try:
            platforms.connect_by_hand(g.account, form.values(), form.deployment_ids(), by=g.user)
        except RegistrationExists:
            form.client_id.errors = [
                _(
                    "This issuer and client ID are connected already, and are never overwritten. "
                    "Nothing was changed."
                )
            ]
        else:
            db.session.commit()
            flash(
                _("%(lms)s is connected. The first launch shows whether all is well.", lms=form.name.data),
                "open",
            )
            return redirect(url_for(".overview"), 303)
    part = visitor.wants_fragment() and request.headers.get("HX-Target") == "how"
    return render_template(
        "lms/_how.html" if part else "lms/connect.html",
        form=form,
        kind=kind,
        kinds=KINDS.values(),
        ours=connecting.our_values(),
    ), 422 if form.errors else 200


# --- deployments -------------------------------------------------------------------------


@pages.post("/lms/deployments/<int:deployment_id>/approve")
@allowed(access.can_manage_platforms)
def approve(deployment_id: int) -> ResponseReturnValue:
    """Let the launches of a deployment that waits come in."""
    deployment = _find_waiting(deployment_id)
    platforms.approve(g.account, deployment, by=g.user)
    flash(
        _("Deployment %(id)s is approved. Its people can come in now.", id=deployment.deployment_id), "open"
    )
    db.session.commit()
    return redirect(url_for(".overview"), 303)


@pages.post("/lms/deployments/<int:deployment_id>/refuse")
@allowed(access.can_manage_platforms)
def refuse(deployment_id: int) -> ResponseReturnValue:
    """Forget a deployment that waits."""
    deployment = _find_waiting(deployment_id)
    flash(_("Deployment %(id)s is refused. Its next launch asks again.", id=deployment.deployment_id), "open")
    platforms.refuse(g.account, deployment, by=g.user)
    db.session.commit()
    return redirect(url_for(".overview"), 303)


def _find_waiting(deployment_id: int) -> Deployment:
    for deployment in accounts.waiting_deployments(g.account):
        if deployment.id == deployment_id:
            return deployment
    raise NotFound


# --- switches ----------------------------------------------------------------------------


@pages.post("/lms/<int:registration_id>/admins")
@allowed(access.can_manage_platforms)
def switch_admins(registration_id: int) -> ResponseReturnValue:
    """This LMS may make people admins, or may not."""
    return _switch(registration_id, platforms.let_make_admins)


@pages.post("/lms/<int:registration_id>/addresses")
@allowed(access.can_manage_platforms)
def switch_addresses(registration_id: int) -> ResponseReturnValue:
    """Its e-mail addresses are trusted for linking, or are not."""
    return _switch(registration_id, platforms.trust_addresses)


@pages.post("/lms/<int:registration_id>/assistants")
@allowed(access.can_manage_platforms)
def switch_assistants(registration_id: int) -> ResponseReturnValue:
    """Its teaching assistants are instructors here, or are not."""
    return _switch(registration_id, platforms.let_assistants_teach)


def _switch(registration_id: int, turn: Callable[..., None]) -> ResponseReturnValue:
    connection = _find_connection(registration_id)
    turn(connection, request.form.get("on") == "1", by=g.user)
    db.session.commit()
    return redirect(url_for(".overview", _anchor=f"lms-{registration_id}"), 303)


def _find_connection(registration_id: int) -> Connection:
    connection = accounts.find_connection(g.account, registration_id)
    if connection is None:
        raise NotFound
    return connection


# --- letting go --------------------------------------------------------------------------


@pages.get("/lms/<int:registration_id>/remove")
@allowed(access.can_manage_platforms)
def ask_to_remove(registration_id: int) -> ResponseReturnValue:
    """What would happen, and a button that says so."""
    tie = _find_tie(registration_id)
    came_through = g.session.registration_id == registration_id or g.user.made_admin_by_id == registration_id
    return render_template("lms/remove.html", tie=tie, came_through=came_through)


@pages.post("/lms/<int:registration_id>/remove")
@allowed(access.can_manage_platforms)
def remove(registration_id: int) -> ResponseReturnValue:
    """Take the LMS off the account."""
    connection = _find_connection(registration_id)
    name = lms_name(connection.registration)
    platforms.let_go(connection, by=g.user)
    flash(_("%(lms)s is removed. People and courses are still here.", lms=name), "open")
    db.session.commit()
    return redirect(url_for(".overview"), 303)


def _find_tie(registration_id: int) -> Tie:
    for tie in platforms.list_ties(g.account):
        if tie.registration.id == registration_id:
            return tie
    raise NotFound
