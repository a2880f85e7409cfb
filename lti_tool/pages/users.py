"""The users list: searched, filtered, sorted, a page at a time."""

from collections.abc import Mapping
from typing import Any, TypeVar

from flask import Blueprint, g, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext

from lti_tool.classroom import access, directory
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.courses import Source
from lti_tool.classroom.wishes import Order, Standing, Wish
from lti_tool.database import is_id
from lti_tool.pages import visitor
from lti_tool.pages.inviting import one_line
from lti_tool.pages.visitor import allowed

pages = Blueprint("users", __name__)
pages.after_request(visitor.vary)

Wished = TypeVar("Wished", Role, Standing, Source, Order)

# What of the address says which list is shown; every link and form of the panel carries it on.
_LIST_KEYS = ("q", "role", "status", "course", "source", "sort", "after", "before")
_STANDINGS = {
    Standing.PENDING: lazy_gettext("Pending"),
    Standing.REGISTERED: lazy_gettext("Registered"),
    Standing.BLOCKED: lazy_gettext("Blocked"),
}
_ORDERS = {
    "name": lazy_gettext("By name"),
    "-name": lazy_gettext("By name, Z to A"),
    "email": lazy_gettext("By email"),
    "-email": lazy_gettext("By email, Z to A"),
    "role": lazy_gettext("By role, students first"),
    "-role": lazy_gettext("By role, owners first"),
    "status": lazy_gettext("By status, pending first"),
    "-status": lazy_gettext("By status, blocked first"),
    "-seen": lazy_gettext("Seen most recently"),
    "seen": lazy_gettext("Not seen for longest"),
}


@pages.get("/users", endpoint="directory")
@allowed(access.can_manage_users)
def show_directory() -> ResponseReturnValue:
    """Everybody in the account: searched, filtered, sorted, a page at a time."""
    if visitor.wants_fragment() and request.headers.get("HX-Target") == "list":
        part = make_response(render_template("users/_list.html", **list_facts(), swapped=True))
        if request.headers.get("HX-Trigger") != "renew":
            part.headers["HX-Push-Url"] = url_for("users.directory", **list_args())
        return part
    return render_template("users/directory.html", **list_facts(), portrait=None)


def list_facts() -> dict[str, Any]:
    """What the list shows, as the address says it."""
    wish = read_wish(request.args)
    courses, platforms = directory.courses_and_platforms(g.account, among=wish.course_id)
    return {
        "wish": wish,
        "people": directory.find_people(g.account.id, wish),
        "course_names": list(courses.items()),
        "roles": [Role.STUDENT, Role.INSTRUCTOR, Role.ADMIN],
        "standings": [(standing.value, name) for standing, name in _STANDINGS.items()],
        "sources": _sources(wish, platforms),
        "orders": list(_ORDERS.items()),
        "list_url": list_url,
        "list_args": list_args(),
    }


def read_wish(given: Mapping[str, str]) -> Wish:
    """Which list somebody asks for: by an address (`request.args`), or by a form that carries it on."""
    order, source = given.get("sort", "name"), given.get("source", "")
    return Wish(
        search=one_line(given.get("q"))[:200],
        role=_one_of(Role, given.get("role", "")),
        status=_one_of(Standing, given.get("status", "")),
        course_id=_id(given.get("course", "")),
        source=_one_of(Source, source) or _id(source),
        order=_one_of(Order, order.removeprefix("-")) or Order.NAME,
        descending=order.startswith("-"),
        after=given.get("after", ""),
        before=given.get("before", ""),
    )


def _sources(wish: Wish, platforms: dict[int, str]) -> list[tuple[str, str]]:
    """Where the account's people can be known from."""
    if isinstance(wish.source, int) and wish.source not in platforms:
        platforms = {**platforms, wish.source: str(_("Another LMS"))}
    return [
        *((str(one), name) for one, name in platforms.items()),
        (Source.INVITATION.value, str(_("An invitation"))),
        (Source.MANUAL.value, str(_("Put on a course by hand"))),
    ]


def _one_of(kind: type[Wished], text: str) -> Wished | None:
    """The member of `kind` that is called so; None for none and for nonsense."""
    return kind(text) if text in list(kind) else None


def _id(text: str) -> int | None:
    """An id that a row could have; None for nonsense."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and is_id(int(text)) else None


def list_args(**changes: str) -> dict[str, Any]:
    """The list's state as arguments of an address, with `changes`; empty ones are left out."""
    state = {key: request.args.get(key, "") for key in _LIST_KEYS} | changes
    return {key: value for key, value in state.items() if value and (key, value) != ("sort", "name")}


def list_url(**changes: str) -> str:
    """The list as it is now, but for `changes`; other than a page of it, it begins at the start."""
    return url_for("users.directory", **list_args(**{"after": "", "before": "", **changes}))
