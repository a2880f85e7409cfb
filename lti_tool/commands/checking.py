"""`registration check`: the doctor on the command line."""

from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import select

from lti_tool import jobs
from lti_tool.classroom import checkups
from lti_tool.classroom.accounts import Account, Connection
from lti_tool.classroom.checkups import Finding
from lti_tool.commands.terminal import Refused, answers
from lti_tool.database import db
from lti_tool.lti.registrations import Registration
from lti_tool.pages import doctor_words
from lti_tool.pages.doctor_words import Said


@click.command("check")
@click.argument("registration_id", type=int, required=False)
@with_appcontext
@answers
def registration_check(registration_id: int | None) -> list[dict[str, Any]]:
    """Ask an LMS, or every one, whether all is well: a line for each thing found."""
    query = (
        select(Connection.id, Registration.id, Registration.name, Registration.issuer, Account.slug)
        .join(Registration, Registration.id == Connection.registration_id)
        .join(Account, Account.id == Connection.account_id)
        .order_by(Registration.id, Connection.id)
    )
    if registration_id is not None:
        query = query.where(Registration.id == registration_id)
    rows = db.session.execute(query).all()
    if registration_id is not None and not rows:
        raise Refused(f"There is no registration {registration_id}. `registration list` shows them.")
    return [
        {"registration": registration, "name": name, "issuer": issuer, "account": slug, **finding}
        for connection, registration, name, issuer, slug in rows
        for finding in _check(connection)
    ]


def _check(connection_id: int) -> list[dict[str, Any]]:
    connection = db.session.get_one(Connection, connection_id)
    found = jobs.examine(connection)
    checkups.keep(connection_id, found)
    db.session.commit()
    registration = db.session.get_one(Connection, connection_id).registration
    return [_row(finding, doctor_words.say(finding, registration)) for finding in found]


def _row(finding: Finding, said: Said) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "code": finding.code,
        "title": said.title,
        "text": said.text,
        "mend": said.mend,
        "facts": finding.facts,
    }
