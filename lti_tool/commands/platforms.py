"""LMS registrations: `registration …`."""

from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy import select

from lti_tool.classroom import accounts, audit, connecting, platforms
from lti_tool.classroom.platforms import NoAdminLeft
from lti_tool.commands.terminal import Refused, account_option, answers, find_account
from lti_tool.database import db
from lti_tool.lti import registrations
from lti_tool.lti.registrations import Registration, RegistrationExists

registration_group = AppGroup("registration", help="LMS registrations.")


def _find(registration_id: int) -> Registration:
    registration = db.session.get(Registration, registration_id)
    if registration is None:
        raise Refused(f"There is no registration {registration_id}. `registration list` shows them.")
    return registration


def _registration(registration: Registration) -> dict[str, Any]:
    return {
        "id": registration.id,
        "name": registration.name,
        "issuer": registration.issuer,
        "client_id": registration.client_id,
        "deployments": [deployment.deployment_id for deployment in registration.deployments],
    }


@registration_group.command("add")
@account_option
@click.option("--name", required=True, help="What the LMS is called on pages.")
@click.option("--issuer", required=True)
@click.option("--client-id", required=True)
@click.option("--auth-url", required=True, help="OIDC authorization endpoint.")
@click.option("--token-url", required=True, help="OAuth 2 access token endpoint.")
@click.option("--jwks-url", required=True, help="The platform's public keys.")
@click.option("--token-audience", help="`aud` of our assertions where it is not the token URL.")
@click.option("--deployment", "deployments", multiple=True, help="Deployment id; may be given several times.")
@answers
def registration_add(slug: str, deployments: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    """Connect an account to an LMS by hand; deployments named here are approved."""
    account = find_account(slug)
    try:
        registration = registrations.add_registration(**fields)
    except RegistrationExists:
        raise Refused(
            "There is a registration with this issuer and client id; it is never overwritten."
        ) from None
    connection = accounts.connect(account, registration)
    for deployment_id in deployments:
        accounts.approve(connection, registrations.note_deployment(registration, deployment_id))
    audit.record(account.id, "registration.added", f"registration:{registration.id}", source="command")
    db.session.commit()
    return _registration(registration)


@registration_group.command("link")
@account_option
@answers
def registration_link(slug: str) -> dict[str, Any]:
    """A one-use link that connects an account to the LMS it is opened in."""
    link, token = connecting.make_link(find_account(slug), "", source="command")
    db.session.commit()
    address = current_app.config["PUBLIC_URL"] + f"/lti/register?token={token}"
    return {"id": link.id, "link": address, "expires": link.expires_at.isoformat()}


@registration_group.command("approve")
@click.argument("registration_id", type=int)
@account_option
@click.option("--deployment", "deployment_id", required=True, help="Deployment id, as the LMS writes it.")
@answers
def registration_approve(registration_id: int, slug: str, deployment_id: str) -> dict[str, Any]:
    """Launches from a deployment belong to this account: where several share one registration."""
    account, registration = find_account(slug), _find(registration_id)
    deployment = registrations.note_deployment(registration, deployment_id)
    connection = accounts.connect(account, registration)
    if accounts.approve(connection, deployment).connection_id != connection.id:
        raise Refused("That deployment belongs to another account.")
    audit.record(
        account.id,
        "deployment.approved",
        f"deployment:{deployment.id}",
        source="command",
        after={"deployment": deployment_id},
    )
    db.session.commit()
    return _registration(registration) | {"account": slug, "deployment": deployment_id}


@registration_group.command("list")
@answers
def registration_list() -> list[dict[str, Any]]:
    """Every LMS we know."""
    return [
        _registration(registration)
        for registration in db.session.scalars(select(Registration).order_by(Registration.id))
    ]


@registration_group.command("remove")
@click.argument("registration_id", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@answers
def registration_remove(registration_id: int, yes: bool) -> dict[str, Any]:
    """Take an LMS off every account: launches are refused, its enrollments end, people and courses stay."""
    registration = _find(registration_id)
    shown = _registration(registration)
    if not yes:
        click.confirm(f"Take {registration.name} off every account?", abort=True, err=True)
    for connection in accounts.connections_of(registration):
        try:
            platforms.let_go(connection, source="command")
        except NoAdminLeft:
            raise Refused("Its account would have no admin left. Make somebody an owner first.") from None
    db.session.commit()
    return shown
