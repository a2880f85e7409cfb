"""HTTP in, HTML out. With commands and jobs.py one of the three doors that commit."""

import hashlib
from functools import cache
from typing import Any

from flask import Flask, g, request, url_for
from flask_wtf import CSRFProtect
from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.routing import IntegerConverter, Map

from lti_tool import database, settings
from lti_tool.pages import (
    account_settings,
    audit_log,
    batches,
    connecting,
    course_inviting,
    courses,
    doctor,
    errors,
    exporting,
    framing,
    health,
    invitations,
    invited,
    inviting,
    inviting_many,
    launch,
    limits,
    linking,
    lms,
    lms_courses,
    me,
    merging,
    person,
    picking,
    plans,
    privacy,
    registering,
    role_maps,
    rooms,
    roster,
    sign_in,
    users,
    visitor,
    windows,
    words,
)

csrf = CSRFProtect()


def init_app(app: Flask) -> None:
    """Register every page, and what holds for all of them."""
    app.config.update(
        # Flask's own cookie carries the CSRF token and flashed messages, in frames too.
        SESSION_COOKIE_NAME="__Host-doorlist-form",
        SESSION_COOKIE_SAMESITE="None",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_PARTITIONED=True,
        SESSION_COOKIE_PATH="/",
        # Origin and Sec-Fetch-Site are checked below; a Referer may be withheld in frames.
        WTF_CSRF_SSL_STRICT=False,
        WTF_CSRF_TIME_LIMIT=None,
        MAX_CONTENT_LENGTH=2 * 1024 * 1024,
        MAX_FORM_MEMORY_SIZE=1024 * 1024,
    )
    app.url_map.converters["int"] = Id
    csrf.init_app(app)
    words.init_app(app)
    limits.init_app(app)
    errors.init_app(app)
    for module in (
        audit_log,
        account_settings,
        batches,
        connecting,
        course_inviting,
        courses,
        doctor,
        exporting,
        health,
        invitations,
        invited,
        inviting,
        inviting_many,
        launch,
        linking,
        lms,
        lms_courses,
        me,
        merging,
        person,
        picking,
        plans,
        privacy,
        registering,
        role_maps,
        rooms,
        roster,
        sign_in,
        users,
        windows,
    ):
        app.register_blueprint(module.pages)
    # What a platform posts carries no token of ours: the signed state and the id_token speak for it.
    csrf.exempt(launch.pages)
    # Nor does what an LMS's frame posts when it registers us: a signed field speaks for it, without a cookie.
    csrf.exempt(registering.pages)
    # What an LMS's frame posts when rooms are chosen carries a sealed field, for the same reason.
    csrf.exempt(picking.pages)
    # A ticket speaks for itself, in a window that has no cookie of ours yet.
    csrf.exempt(windows.open_window)
    app.url_defaults(_stamp)
    app.jinja_env.globals["url_for"] = _address
    app.before_request(_begin)
    app.before_request(_refuse_foreign_posts)
    app.after_request(framing.protect)
    # The thread may do something else next, outside a request.
    app.teardown_request(lambda error: database.begin_reading(False))


def _address(endpoint: str, **values: Any) -> str:
    """`url_for` of templates; a page names the same few static files dozens of times."""
    if endpoint == "static" and values.keys() == {"filename"}:
        return _static(request.script_root, values["filename"])
    return url_for(endpoint, **values)


@cache
def _static(root: str, filename: str) -> str:
    # `root` is part of the address that url_for makes.
    return url_for("static", filename=filename)


class Id(IntegerConverter):
    """An id in an address: never larger than the databases' integers, so that probing ends in a 404."""

    def __init__(self, map: Map, *args: Any, **options: Any) -> None:
        super().__init__(map, *args, **{"max": 2**31 - 1, **options})


def _stamp(endpoint: str, values: dict[str, Any]) -> None:
    """Static files carry their content's mark in the address, so browsers keep them until they change."""
    if endpoint == "static" and "filename" in values:
        values["v"] = _mark(values["filename"])


@cache
def _mark(filename: str) -> str:
    content = (settings.PACKAGE / "static" / filename).read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _begin() -> None:
    # A login initiation is often posted, and writes nothing.
    reads = request.method in ("GET", "HEAD", "OPTIONS") or request.endpoint == "launch.login"
    database.begin_reading(reads)
    # No text of ours has a NUL, and PostgreSQL takes none. What platforms send is judged in lti/.
    if not reads and request.blueprint != "launch" and any("\0" in text for text in request.form.values()):
        raise BadRequest
    g.session = g.user = g.account = None
    if request.endpoint == "static" or request.blueprint in ("launch", "registering", "health"):
        return
    visitor.load()
    if reads:
        database.begin_reading(False)
        visitor.touch()
        database.begin_reading(True)


def _refuse_foreign_posts() -> None:
    """A changing request comes from our own pages; only platforms may post to /lti/ from elsewhere."""
    if request.method in ("GET", "HEAD", "OPTIONS") or request.path.startswith("/lti/"):
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Forbidden("cross-site")
        return
    origin = request.headers.get("Origin")
    if origin == "null":
        # What pages send that withhold their address. The form's token speaks for ours; a ticket has none.
        foreign = request.endpoint == "windows.open_window"
    else:
        # No address has such a host, so that what is no address is nobody's.
        foreign = origin is not None and origin.partition("://")[2] != request.host
    if foreign:
        raise Forbidden("cross-site")
