"""The protocol over HTTP: authorization, key set, tokens, names and roles, each with its faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, cast

from flask import Blueprint, Response, current_app, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from .authorization import AuthorizationRefused
from .messages import MEMBERSHIPS_SCOPE, roster_row
from .people import Course
from .platform import Platform
from .roster import CONTENT_TYPE, BadCursor, Page
from .tokens import LIFETIME, TokenRefused

endpoints = Blueprint("endpoints", __name__)

_HUGE_CHUNKS = 480  # of 64 KB each: 30 MB


def the_platform() -> Platform:
    """The platform this application serves."""
    return cast(Platform, current_app.extensions["practice_lms"])


@endpoints.route("/auth", methods=["GET", "POST"])
def authorize() -> str | tuple[str, int]:
    """The authorization endpoint: posts the id_token, or the error, to the tool by way of the browser."""
    query = request.form if request.method == "POST" else request.args
    try:
        form = the_platform().authorize(query)
    except AuthorizationRefused as refusal:
        return render_template("practice_lms/refused.html", reason=str(refusal)), 400
    return render_template(
        "practice_lms/post.html", action=query["redirect_uri"], fields=form, title="Back to the tool"
    )


@endpoints.get("/jwks.json")
def jwks() -> AnyResponse:
    """The platform's public keys (RFC 7517)."""
    faults = the_platform().faults
    fault = faults.strike("jwks")
    if fault == "redirect":
        return redirect(faults.redirect_url)
    if fault == "huge":
        return Response(_huge(the_platform().jwks()), mimetype="application/json")
    return broken_answer(fault) or jsonify(the_platform().jwks())


@endpoints.get("/jwks-moved.json")
def jwks_moved() -> Response:
    """Where the fault "redirect" leads: good keys that a careful tool never reads."""
    return jsonify(the_platform().jwks())


@endpoints.post("/token")
def token() -> Response:
    """The token endpoint (RFC 6749, section 4.4; RFC 7523)."""
    broken = broken_answer(the_platform().faults.strike("token"))
    if broken is not None:
        return broken
    try:
        granted = the_platform().grant_token(request.form)
    except TokenRefused as refusal:
        answer = jsonify(error=refusal.error, error_description=refusal.description)
        answer.status_code = refusal.status
        return answer
    answer = jsonify(
        {
            "access_token": granted.value,
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "scope": " ".join(sorted(granted.scopes)),
        }
    )
    if the_platform().flavour == "moodle":
        # Moodle calls its JSON HTML here.
        answer.content_type = "text/html; charset=utf-8"
    answer.headers["Cache-Control"] = "no-store"
    return answer


@endpoints.get("/courses/<course_id>/memberships")
def memberships(course_id: str) -> Response:
    """The names and roles service (NRPS 2.0): one page of a course's members."""
    platform = the_platform()
    granted = platform.tokens.find(request.headers.get("Authorization", ""), platform.now())
    if granted is None:
        return said(401, "The access token is missing, unknown or no longer good.")
    if MEMBERSHIPS_SCOPE not in granted.scopes:
        return said(403, "The access token lacks the scope of this service.")
    if not request.accept_mimetypes.best_match([CONTENT_TYPE]):
        return said(406, f"This service speaks {CONTENT_TYPE}.")
    if platform.flavour == "canvas" and not request.headers.get("User-Agent"):
        return said(403, "A User-Agent is required.")
    try:
        course = platform.course(course_id)
    except LookupError:
        return said(404, "There is no such course.")
    fault = platform.faults.strike("roster")
    broken = broken_answer(fault)
    if broken is not None:
        return broken
    members = [] if fault == "empty" else platform.listed_members(course)
    # Faults of later pages need a later page, even where the platform would send everyone at once.
    most = max(1, (len(members) + 1) // 2) if fault in ("half", "truncated") else None
    query = request.args.to_dict()
    if fault == "endless":
        query = {name: value for name, value in query.items() if name not in ("page", "bookmark", "from")}
    try:
        page = platform.pager.page(members, query, platform.memberships_url(course), most)
    except BadCursor as cursor:
        return said(400, f"There is no page {cursor}.")
    if fault == "half" and not page.is_first:
        return said(500, "Something went wrong.")
    return _membership_answer(course, page, granted.client_id, fault)


def _membership_answer(course: Course, page: Page, client_id: str, fault: str | None) -> Response:
    platform = the_platform()
    privacy, with_message = platform.privacy_of(client_id), "rlid" in request.args
    url = platform.memberships_url(course)
    told = [
        roster_row(platform.flavour, member, privacy, with_message=with_message) for member in page.members
    ]
    body: dict[str, Any] = {
        "id": url,
        "context": {"id": course.id, "label": course.label, "title": course.title},
        "members": told,
    }
    text = json.dumps(body)
    if fault == "truncated" and not page.is_first:
        text = text[: len(text) // 2]
    answer = Response(text, content_type=f"{CONTENT_TYPE}; charset=utf-8")
    link = _false_link(fault, url) or page.link
    if link:
        answer.headers["Link"] = link
    return answer


def _false_link(fault: str | None, url: str) -> str | None:
    """The next links that lead nowhere good."""
    if fault == "endless":
        return f'<{url}?from={time.monotonic_ns()}>; rel="next"'
    if fault == "self":
        here = f"{url}?{request.query_string.decode('ascii')}".removesuffix("?")
        return f'<{here}>; rel="next"'
    if fault == "foreign_next":
        return f'<{the_platform().faults.foreign_url}>; rel="next"'
    return None


def broken_answer(fault: str | None) -> Response | None:
    """The answer of an endpoint that fails as a whole; a slow one only waits."""
    if fault == "slow":
        time.sleep(the_platform().faults.delay)
        return None
    if fault == "html":
        return Response("<!doctype html><title>Sign in</title><p>Sign in to go on.", mimetype="text/html")
    if fault == "garbage":
        return Response('{"keys": 7, "members": "none"}', mimetype="application/json")
    if fault == "empty" and request.path == "/token":
        return jsonify({})
    if fault is not None and fault.isdigit():
        return said(int(fault), "The platform was asked to answer so.")
    return None


def said(status: int, message: str) -> Response:
    answer = jsonify(errors=[{"message": message}])
    answer.status_code = status
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="practice"'
    if status in (429, 503):
        answer.headers["Retry-After"] = "1"
    return answer


def _huge(keys: dict[str, Any]) -> Iterator[str]:
    """A key set that is right, and thirty megabytes long."""
    yield json.dumps(keys)[:-1] + ', "padding": "'
    for _ in range(_HUGE_CHUNKS):
        yield "x" * 65536
    yield '"}'
