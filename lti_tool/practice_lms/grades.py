"""The gradebook over HTTP: line items and scores, with its faults (AGS 2.0)."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .endpoints import broken_answer, said, the_platform
from .gradebook import (
    LINE_ITEMS_READ_SCOPE,
    LINE_ITEMS_SCOPE,
    SCORES_SCOPE,
    GradeRefused,
    LineItem,
    lineitems_url,
    page_of,
    row,
)

grades = Blueprint("grades", __name__)

_ITEM = "application/vnd.ims.lis.v2.lineitem+json"
_CONTAINER = "application/vnd.ims.lis.v2.lineitemcontainer+json"
_SCORE = "application/vnd.ims.lis.v1.score+json"


@grades.route("/courses/<course_id>/lineitems", methods=["GET", "POST"])
def line_items(course_id: str) -> Response:
    """A course's columns: a page of them, or one more."""
    platform = the_platform()
    reading = request.method == "GET"
    refused = _refusal({LINE_ITEMS_SCOPE, LINE_ITEMS_READ_SCOPE} if reading else {LINE_ITEMS_SCOPE})
    if refused is not None:
        return refused
    url = lineitems_url(platform.flavour, platform.server_url, course_id)
    if not reading:
        try:
            item = platform.gradebook.add(course_id, _sent(_ITEM))
        except GradeRefused as error:
            return said(error.status, str(error))
        return _answer(_row(item), _ITEM, 201)
    shown, link = page_of(platform.flavour, platform.gradebook.items(course_id), request.args.to_dict(), url)
    fault = platform.faults.grades
    answer = _answer([_row(item, fault) for item in shown], _CONTAINER)
    if fault == "foreign_next":
        link = f'<{platform.faults.foreign_url}>; rel="next"'
    if link:
        # Header values go out as Latin-1: what is not ASCII arrives as UTF-8 taken for it.
        answer.headers["Link"] = link.encode().decode("latin-1")
    return answer


@grades.route("/courses/<course_id>/lineitems/<int:item_id>", methods=["GET", "PUT", "DELETE"])
@grades.route("/courses/<course_id>/lineitems/<int:item_id>/lineitem", methods=["GET", "PUT", "DELETE"])
def line_item(course_id: str, item_id: int) -> Response:
    """One column: look, change, take away."""
    reading = request.method == "GET"
    refused = _refusal({LINE_ITEMS_SCOPE, LINE_ITEMS_READ_SCOPE} if reading else {LINE_ITEMS_SCOPE})
    if refused is not None:
        return refused
    gradebook = the_platform().gradebook
    try:
        item = gradebook.find(course_id, item_id)
        if request.method == "DELETE":
            gradebook.remove(item)
            return Response(status=204)
        if request.method == "PUT":
            gradebook.change(item, _sent(_ITEM))
    except LookupError:
        return said(404, "There is no such line item.")
    except GradeRefused as error:
        return said(error.status, str(error))
    return _answer(_row(item), _ITEM)


@grades.post("/courses/<course_id>/lineitems/<int:item_id>/scores")
@grades.post("/courses/<course_id>/lineitems/<int:item_id>/lineitem/scores")
def scores(course_id: str, item_id: int) -> Response:
    """Take a score. Moodle answers 200 with nothing in it, the others 204."""
    refused = _refusal({SCORES_SCOPE})
    if refused is not None:
        return refused
    platform = the_platform()
    if platform.flavour == "moodle" and request.args.get("type_id") != "1":
        return said(404, "The query of the line item’s address is missing.")
    try:
        item = platform.gradebook.find(course_id, item_id)
        known = {member.person.id for member in platform.members(course_id)}
        platform.gradebook.score(item, _sent(_SCORE), known)
    except LookupError:
        return said(404, "There is no such line item.")
    except GradeRefused as error:
        return said(error.status, str(error))
    return Response(status=200, content_type=_SCORE) if platform.flavour == "moodle" else Response(status=204)


def _refusal(scopes: set[str]) -> Response | None:
    """What a request gets that has no good token, or that meets a fault."""
    platform = the_platform()
    token = platform.tokens.find(request.headers.get("Authorization", ""), platform.now())
    if token is None:
        return said(401, "The access token is missing, wrong or over.")
    if not token.scopes & scopes:
        return said(403, "The access token has no scope for this.")
    fault = platform.faults.strike("grades")
    if fault == "gone":
        return said(404, "There is no such line item.")
    return broken_answer(fault)


def _sent(kind: str) -> dict[str, Any]:
    if request.mimetype != kind:
        raise GradeRefused(f"the content type must be {kind}", 415)
    try:
        body = json.loads(request.get_data())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise GradeRefused("the body must be a JSON object")
    return body


def _row(item: LineItem, fault: str | None = None) -> dict[str, Any]:
    platform = the_platform()
    told = row(platform.flavour, platform.server_url, item)
    if fault == "foreign_item":
        told["id"] = platform.faults.foreign_url
    return told


def _answer(body: Any, kind: str, status: int = 200) -> Response:
    answer = jsonify(body)
    answer.status_code = status
    answer.content_type = f"{kind}; charset=utf-8"
    return answer
