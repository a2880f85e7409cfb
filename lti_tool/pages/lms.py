"""The account's LMSs: what they may decide, deployments that wait, connecting one and letting one go."""

from collections.abc import Callable

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import NotFound

from lti_tool.classroom import access, accounts, checkups, platforms, role_changes
from lti_tool.classroom.accounts import Connection
from lti_tool.classroom.roster import lms_name
from lti_tool.database import db
from lti_tool.lti.registrations import Deployment
from lti_tool.pages import connecting, visitor
from lti_tool.pages.visitor import allowed

pages = Blueprint("lms", __name__)
pages.after_request(visitor.vary)
pages.add_app_template_filter(connecting.host_of, "host")
pages.add_app_template_filter(lms_name, "platform_name")


@pages.get("/lms")
@allowed(access.can_manage_platforms)
def overview() -> ResponseReturnValue:
    """Where people launch from, and what waits for an admin."""
    ties = platforms.list_ties(g.account)
    return render_template(
        "lms/overview.html",
        ties=ties,
        waiting=accounts.waiting_deployments(g.account),
        checkups=checkups.checkups([tie.connection for tie in ties]),
    )


# --- connecting --------------------------------------------------------------------------


@pages.get("/lms/connect")
@allowed(access.can_manage_platforms)
def connect() -> ResponseReturnValue:
    """A link to open in the LMS; by hand, our values to paste there and the LMS's to paste here."""
    return connecting.show()


@pages.post("/lms/connect")
@allowed(access.can_connect_by_hand)
def connect_by_hand() -> ResponseReturnValue:
    """Connect an LMS whose values were typed in."""
    return connecting.connect_by_hand()


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
    return _switch(registration_id, role_changes.let_make_admins)


@pages.post("/lms/<int:registration_id>/addresses")
@allowed(access.can_manage_platforms)
def switch_addresses(registration_id: int) -> ResponseReturnValue:
    """Its e-mail addresses are trusted for linking, or are not."""
    return _switch(registration_id, platforms.trust_addresses)


@pages.post("/lms/<int:registration_id>/assistants")
@allowed(access.can_manage_platforms)
def switch_assistants(registration_id: int) -> ResponseReturnValue:
    """Its teaching assistants are instructors here, or are not."""
    return _switch(registration_id, role_changes.let_assistants_teach)


@pages.post("/lms/<int:registration_id>/designers")
@allowed(access.can_manage_platforms)
def switch_designers(registration_id: int) -> ResponseReturnValue:
    """Its course designers and managers are instructors here, or are not."""
    return _switch(registration_id, role_changes.let_designers_teach)


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
    tie = platforms.find_tie(g.account, registration_id)
    if tie is None:
        raise NotFound
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
