"""The users list as a file, whoever is selected or everybody who matches."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, g
from flask_babel import format_datetime
from flask_babel import gettext as _
from sqlalchemy import Select

from lti_tool import database
from lti_tool.classroom import access, audit, extracts
from lti_tool.classroom.courses import Source
from lti_tool.database import db
from lti_tool.pages import limits, spreadsheets
from lti_tool.pages.batches import chosen_people
from lti_tool.pages.visitor import allowed
from lti_tool.pages.words import ROLE_NAMES

pages = Blueprint("exporting", __name__)


@pages.post("/users/export")
@allowed(access.can_export_users)
@limits.per_account("LIMIT_LISTS")
def export() -> Response:
    """A CSV file of those selected; that somebody took it away is noted, with how many they were."""
    chosen, account_id = chosen_people(), g.account.id
    number = extracts.count(account_id, chosen)
    audit.record(account_id, "users.exported", "users", by=g.user, after={"people": number})
    db.session.commit()
    header = [_("Name"), _("Email"), _("Role"), _("Status"), _("Courses"), _("Sources"), _("Last seen")]
    return spreadsheets.csv_response(spreadsheets.file_name(_("users")), header, _lines(account_id, chosen))


def _lines(account_id: int, chosen: Select[Any]) -> Iterator[list[Any]]:
    """Everybody by name, a part at a time: neither a lock nor what was read is held between two parts."""
    sources = {Source.INVITATION: _("Invitation"), Source.MANUAL: _("By hand")}
    roles = {role: str(name) for role, name in ROLE_NAMES.items()}
    states = {"blocked": _("Blocked"), "pending": _("Pending"), "registered": _("Registered")}
    after = None
    while True:
        database.begin_reading(True)
        part = extracts.people_after(account_id, chosen, after)
        db.session.rollback()
        for person in part:
            yield [
                person.name,
                person.email,
                roles[person.role],
                states[person.state],
                "; ".join(person.courses),
                "; ".join([*person.platforms, *(sources[one] for one in person.sources)]),
                format_datetime(person.last_seen_at, "yyyy-MM-dd HH:mm") if person.last_seen_at else "",
            ]
        if len(part) < extracts.PART:
            return
        after = part[-1]
