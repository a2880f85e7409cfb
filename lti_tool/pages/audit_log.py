"""The audit log: what was done in the account, by whom and to whom; filtered, paged, as a page or as CSV."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from flask import Blueprint, g, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_timezone
from flask_babel import gettext as _

from lti_tool.classroom import access, accounts, directory, history
from lti_tool.classroom.accounts import User
from lti_tool.classroom.history import Wish
from lti_tool.database import is_id
from lti_tool.pages import audit_words, visitor
from lti_tool.pages.inviting import one_line
from lti_tool.pages.spreadsheets import csv_response, file_name
from lti_tool.pages.visitor import allowed

pages = Blueprint("audit_log", __name__)
pages.after_request(visitor.vary)

# What of the address says which events are shown; links carry it on.
_KEYS = ("q", "person", "course", "group", "since", "until")


@pages.get("/audit")
@allowed(access.can_see_audit_log)
def show() -> ResponseReturnValue:
    """The events, newest first; for htmx the list alone."""
    wish, shown = _asked()
    page = history.list_events(g.account.id, wish)
    told = audit_words.tell(g.account.id, page.events)
    facts = {**shown, "page": page, "told": told, "log_url": _log_url, "filtered": bool(_args())}
    if visitor.wants_fragment() and request.headers.get("HX-Target") == "list":
        part = make_response(render_template("audit_log/_events.html", **facts))
        part.headers["HX-Push-Url"] = _log_url(older=wish.older, newer=wish.newer)
        return part
    return render_template(
        "audit_log/log.html",
        **facts,
        groups=audit_words.GROUPS,
        course_names=directory.course_names(g.account, among=wish.course_id),
    )


@pages.get("/audit.csv")
@allowed(access.can_see_audit_log)
def export() -> ResponseReturnValue:
    """The same events as a file, all of them, sent as they are read."""
    wish, _shown = _asked()
    header = [
        _("Time (%(zone)s)", zone=str(get_timezone())),
        _("What happened"),
        _("Changed"),
        _("By"),
        _("Code"),
        _("About"),
    ]
    return csv_response(file_name("audit-log"), header, _rows(g.account.id, wish))


def _rows(account_id: int, wish: Wish) -> Iterator[list[Any]]:
    zone = get_timezone()
    for part in history.all_events(account_id, wish):
        for told in audit_words.tell(account_id, part):
            yield [
                told.event.at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
                told.sentence.striptags(),
                "; ".join(str(change) for change in told.changes),
                told.by.striptags(),
                told.event.action,
                told.event.target,
            ]


def _asked() -> tuple[Wish, dict[str, Any]]:
    """Which events the address asks for, and what its form shows of that."""
    search = one_line(request.args.get("q"))[:200]
    person_id, course_id = _id("person"), _id("course")
    chosen: list[User] = []
    people: tuple[int, ...] | None = None
    if person_id is not None:
        # Whoever is deleted has a past all the same.
        people = (person_id,)
        found = accounts.find_user(g.account.id, person_id)
        chosen = [found] if found else []
    elif search:
        chosen = history.find_by_name(g.account.id, search)
        people = tuple(user.id for user in chosen)
    since, until = _day("since"), _day("until")
    group = request.args.get("group", "")
    wish = Wish(
        people=people,
        course_id=course_id,
        actions=audit_words.actions_of(group),
        since=_midnight(since) if since else None,
        until=_midnight(until + timedelta(days=1)) if until else None,
        older=request.args.get("older", ""),
        newer=request.args.get("newer", ""),
    )
    return wish, {
        "wish": wish,
        "search": search,
        "group": group,
        "since": since.isoformat() if since else "",
        "until": until.isoformat() if until else "",
        "person_id": person_id,
        "chosen": chosen,
    }


def _id(name: str) -> int | None:
    wish = request.args.get(name, type=int)
    return wish if wish is not None and is_id(wish) else None


def _day(name: str) -> date | None:
    """A day as the browser's own field writes it; None for nonsense."""
    try:
        day = date.fromisoformat(request.args.get(name, ""))
    except ValueError:
        return None
    # Far from both ends of the calendar, where zones and the day after fall off.
    return day if 1970 <= day.year < 9000 else None


def _midnight(day: date) -> datetime:
    """When the day begins where the reader is."""
    return datetime.combine(day, time(), get_timezone())


def _args() -> dict[str, str]:
    return {key: request.args[key] for key in _KEYS if request.args.get(key)}


def _log_url(endpoint: str = "audit_log.show", *, without: str = "", **more: str) -> str:
    """The log as it is filtered now, but for what is `without`."""
    kept: dict[str, Any] = {key: value for key, value in _args().items() if key != without}
    return url_for(endpoint, **kept | {key: value for key, value in more.items() if value})
