"""A course's live room: its door, the check of camera and microphone, the room itself, its socket."""

import socket as socket_options
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, current_app, g, make_response, redirect, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_sock import Sock
from simple_websocket import Server
from werkzeug.exceptions import Forbidden

from lti_tool import database
from lti_tool.classroom import access, rooms
from lti_tool.classroom.access import Gate
from lti_tool.classroom.courses import Course
from lti_tool.conferencing.builtin import BuiltinDriver
from lti_tool.conferencing.driver import Feature, RoomDriver, Sitting
from lti_tool.database import db
from lti_tool.pages import signalling, visitor
from lti_tool.pages.limits import limiter
from lti_tool.pages.room_words import room_words
from lti_tool.pages.visitor import allowed, signed_in

pages = Blueprint("rooms", __name__)
sock = Sock()


def driver() -> RoomDriver:
    """The live-room backend of this application."""
    held: RoomDriver = current_app.extensions["room_driver"]
    return held


@pages.record
def _prepare(state: BlueprintSetupState) -> None:
    app = state.app
    app.extensions["room_driver"] = BuiltinDriver(app.config["REDIS_URL"])
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": signalling.BEAT_SECONDS,
        "max_message_size": signalling.MESSAGE_BYTES,
    }


@pages.get("/courses/<int:course_id>/room")
@allowed(signed_in)
def room(course_id: int) -> ResponseReturnValue:
    """The closed door with its reason (403), or the way in (200), which is always its own window."""
    course = visitor.find_any_course(course_id)
    gate = access.room_gate(g.user, course)
    facts = _door_facts(course, gate)
    if not gate.open:
        return render_template("rooms/door.html", **facts), 403
    if visitor.is_framed():
        return render_template("rooms/door.html", **facts)
    facts["may_share"] = gate.moderates and Feature.SCREEN in driver().features
    facts["words"] = room_words()
    return render_template("rooms/room.html", **facts)


@pages.get("/courses/<int:course_id>/room/door")
@allowed(signed_in)
def door(course_id: int) -> ResponseReturnValue:
    """The closed door asks this every few seconds; once it is open, the page moves on by itself."""
    course = visitor.find_any_course(course_id)
    gate = access.room_gate(g.user, course)
    if not visitor.wants_fragment():
        return redirect(url_for(".room", course_id=course_id))
    response = make_response(
        "" if gate.open else render_template("courses/_door.html", **_door_facts(course, gate))
    )
    if gate.open:
        response.headers["HX-Refresh"] = "true"
    response.vary.add("HX-Request")
    return response


@pages.post("/courses/<int:course_id>/room/end")
@allowed(access.can_moderate)
def end(course_id: int) -> ResponseReturnValue:
    """End the session for everyone."""
    course = visitor.find_course(course_id)
    meeting = rooms.find_open(course)
    if meeting is not None:
        sitting = Sitting(meeting.room_key, course.id, course.name)
        rooms.end_meeting(meeting, by=g.user)
        db.session.commit()
        driver().end(sitting)
    return redirect(url_for("courses.show", course_id=course_id), 303)


@pages.before_request
def _refuse_foreign_sockets() -> None:
    """A browser sends our cookie along with any site's socket, and no rule of its own forbids it."""
    if request.endpoint == "rooms.socket":
        ours = urlsplit(current_app.config["PUBLIC_URL"])
        if request.headers.get("Origin") != f"{ours.scheme}://{ours.netloc}":
            raise Forbidden("cross-site")
        visitor.find_any_course((request.view_args or {})["course_id"])
        # Each entry is a row and takes the seat from the window before.
        user_id = g.user.id
        with limiter.limit("60 per minute", key_func=lambda: f"user {user_id}"):
            pass


@sock.route("/courses/<int:course_id>/room/socket", bp=pages)  # type: ignore[untyped-decorator] # flask-sock has no types
def socket(line: Server, course_id: int) -> None:
    """One window's stay in the room; who it is was read from its cookie just now."""
    account_id, user_id, session_id = g.account.id, g.user.id, g.session.id
    # It lasts for hours: nothing of the request's transaction or objects is kept.
    g.user = g.session = g.account = None
    g.pop("found_courses", None)
    db.session.remove()
    database.begin_reading(False)
    if hasattr(socket_options, "TCP_USER_TIMEOUT"):
        # A window that vanished while we were sending to it must not hold its thread for long.
        line.sock.setsockopt(socket_options.IPPROTO_TCP, socket_options.TCP_USER_TIMEOUT, 20_000)
    talk = signalling.Conversation(line, driver(), session_id, user_id)
    talk.hold(account_id, course_id, signalling.page_token(request.args.get("page", "")))


def _door_facts(course: Course, gate: Gate) -> dict[str, Any]:
    meeting = rooms.find_open(course) if gate.role else None
    return {
        "course": course,
        "gate": gate,
        "people": rooms.present(meeting) if meeting and gate.open else [],
        "room_name": _("room-%(id)s", id=course.id),
        "ask_again": None if gate.open else url_for(".door", course_id=course.id),
    }
