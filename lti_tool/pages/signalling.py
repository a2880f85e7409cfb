"""The conversation with one window in a live room, over its WebSocket.

The window says what it wishes; who it is, in which meeting it sits and what of its wishes comes true is
the server's to say. No transaction is open while the socket is waited for.
"""

import json
import re
import secrets
import threading
import time
import unicodedata
from datetime import datetime
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from simple_websocket import ConnectionClosed, Server

from lti_tool import database, logs
from lti_tool.classroom import access, accounts, courses, rooms, sessions
from lti_tool.classroom.accounts import User
from lti_tool.classroom.rooms import Attendance, ChatMessage, Showing
from lti_tool.conferencing.driver import Line, Person, RoomDriver, Sitting
from lti_tool.database import db, now
from lti_tool.sealing import fingerprint

BEAT_SECONDS = 10
# Of one message; a description of three streams takes about 10,000.
MESSAGE_BYTES = 64 * 1024
# How long we wait for a word before looking whether a beat is due.
PATIENCE_SECONDS = 2

_PAGE = re.compile(r"[\w-]{8,64}\Z")


class Bucket:
    """How many messages of a kind a window may send: `burst` at once, `rate` a second after that."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left = rate, burst, burst
        self._at = time.monotonic()

    def take(self) -> bool:
        """One more: is it within the limit?"""
        at = time.monotonic()
        self._left = min(self._burst, self._left + (at - self._at) * self._rate)
        self._at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Refused(Exception):
    """A message that is not taken, with a code that says why."""


class Gone(Exception):
    """The window has no seat any more; `message` tells it why, None lets it reconnect."""

    def __init__(self, message: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.message = message


def page_token(wish: str) -> str:
    """The window's own name for itself: tells a renewed connection from a new window."""
    return wish if _PAGE.match(wish) else secrets.token_hex(8)


def called(user: User | None) -> str:
    """How somebody is called in the room; a preview account is told from people."""
    if user is None:
        return ""
    return _("%(name)s (preview account)", name=user.label) if user.is_test else user.label


def of_seat(seat: Attendance) -> dict[str, Any]:
    """What everyone in the room is told about one person in it."""
    return {
        "peer": seat.peer,
        "seat": seat.id,
        "id": seat.user_id or 0,
        "name": called(seat.user),
        "role": str(seat.role),
        "moderates": seat.moderates,
        "microphone": seat.microphone,
        "camera": seat.camera,
        "screen": seat.screen,
        "hand": _written(seat.hand_at),
    }


def of_message(message: ChatMessage) -> dict[str, Any]:
    """One line of the chat."""
    return {
        "number": message.id,
        "id": message.user_id or 0,
        "name": called(message.user),
        "at": _written(message.at),
        "words": message.text,
    }


def _written(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None


def ice_servers() -> list[dict[str, Any]]:
    """STUN and TURN servers as browsers want them."""
    return [s if isinstance(s, dict) else {"urls": s} for s in current_app.config["ICE_SERVERS"]]


class Conversation:
    """One window's stay in the room, from taking the seat to leaving it."""

    def __init__(self, socket: Server, driver: RoomDriver, session_id: int, user_id: int) -> None:
        self.socket, self.driver = socket, driver
        self.session_id, self.user_id = session_id, user_id
        self.window = secrets.token_urlsafe(16)
        self.line: Line | None = None
        self._pump: threading.Thread | None = None
        self.meeting_id = 0
        self._told: list[dict[str, Any]] = []
        self._buckets = {"signal": Bucket(100, 1500), "show": Bucket(3, 20), "say": Bucket(1, 8)}
        # How many refusals a window gets before it is hung up.
        self._patience = Bucket(5, 200)

    def hold(self, account_id: int, course_id: int, page: str) -> None:
        """Enter, talk until the window leaves or is put out, leave."""
        self.peer = fingerprint(f"{self.user_id}:{page}")[:20]
        try:
            self._enter(account_id, course_id)
            self._talk()
        except Gone as gone:
            db.session.rollback()
            if gone.message:
                (self._tell_me if self.line else self._send)(gone.message)
        except ConnectionClosed:
            pass
        finally:
            self._leave()

    def _enter(self, account_id: int, course_id: int) -> None:
        """Ask the gate once more, open the meeting if the person may, take the seat."""
        user = accounts.find_user(account_id, self.user_id)
        course = courses.find_course(account_id, course_id)
        if user is None or course is None:
            raise Gone({"kind": "closed"})
        rooms.line_up(course)
        gate = access.room_gate(user, course)
        if not gate.open or gate.role is None:
            raise Gone({"kind": "closed"})
        meeting = rooms.open_meeting(course, by=user) if gate.moderates else rooms.find_open(course)
        if meeting is None:
            # It ended between the gate's answer and here.
            raise Gone({"kind": "closed"})
        given_up = [seat.peer for seat in rooms.present(meeting) if seat.user_id == user.id]
        seat = rooms.take_seat(
            meeting, user, gate.role, moderates=gate.moderates, window=self.window, peer=self.peer
        )
        self.meeting_id, self.course_id, self.account_id = meeting.id, course.id, account_id
        self.sitting = Sitting(meeting.room_key, course.id, course.name)
        person = Person(user.id, user.label, gate.role, gate.moderates)
        mine = of_seat(seat)
        db.session.commit()
        logs.event("room_entered", meeting=meeting.id, user=user.id)
        db.session.remove()

        self.driver.ensure(self.sitting)
        self.line = self.driver.join(self.sitting, person, self.peer).line
        assert self.line is not None, "a window of ours talks to the embedded room only"
        with database.read_only():
            self._welcome(mine)
        for peer in given_up:
            if peer != self.peer:
                self.line.tell_all({"kind": "left", "peer": peer})
        self.line.tell_all({"kind": "joined", "person": mine})
        self._pump = threading.Thread(
            target=self.line.pump, args=(self.socket,), name="room-line", daemon=True
        )
        self._pump.start()

    def _welcome(self, mine: dict[str, Any]) -> None:
        meeting = db.session.get_one(rooms.Meeting, self.meeting_id)
        self._told = [of_seat(seat) for seat in rooms.present(meeting)]
        welcome = {
            "kind": "welcome",
            "you": mine,
            "people": self._told,
            "history": [of_message(message) for message in rooms.history(meeting)],
            "started": _written(meeting.started_at),
            "now": _written(now()),
            "ice": ice_servers(),
            "cameras": current_app.config["ROOM_CAMERAS"],
        }
        db.session.remove()
        self._send(welcome)

    def _talk(self) -> None:
        beat_at = time.monotonic() + BEAT_SECONDS
        while True:
            text = self.socket.receive(timeout=PATIENCE_SECONDS)
            if text is not None:
                try:
                    if self._hear(text):
                        return
                except Refused as refused:
                    db.session.remove()
                    if not self._patience.take():
                        # Whoever goes on after so many refusals is not our page.
                        raise Gone(None) from None
                    self._tell_me({"kind": "refused", "why": str(refused)})
            elif not self.socket.thread.is_alive():
                # What reads the socket stumbled over something it did not know.
                return
            if time.monotonic() >= beat_at:
                self._beat()
                beat_at = time.monotonic() + BEAT_SECONDS

    def _hear(self, text: str | bytes) -> bool:
        """Do what a message asks for; True: the window leaves. Raises Refused."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise Refused("unreadable") from None
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "leave":
            return True
        if not isinstance(kind, str) or kind not in self._buckets:
            raise Refused("unknown")
        if not self._buckets[kind].take():
            raise Refused("too_many")
        {"signal": self._relay, "show": self._show, "say": self._say}[kind](message)
        return False

    def _relay(self, message: dict[str, Any]) -> None:
        """An offer, answer or candidate for one other window of this meeting; we only set the sender."""
        to, description, candidate = message.get("to"), message.get("description"), message.get("candidate")
        if not isinstance(to, str) or to == self.peer:
            raise Refused("unreadable")
        if isinstance(description, dict):
            parts = {key: description.get(key) for key in ("type", "sdp")}
            if not all(isinstance(part, str) for part in parts.values()):
                raise Refused("unreadable")
            self._line.tell(to, {"kind": "signal", "description": parts})
        elif isinstance(candidate, dict):
            keys = ("candidate", "sdpMid", "sdpMLineIndex", "usernameFragment")
            self._line.tell(
                to, {"kind": "signal", "candidate": {k: candidate[k] for k in keys if k in candidate}}
            )
        else:
            raise Refused("unreadable")

    def _show(self, message: dict[str, Any]) -> None:
        """Microphone, camera, screen and hand, as far as they are granted; everyone is told."""
        wish = Showing(*(message.get(key) is True for key in ("microphone", "camera", "screen", "hand")))
        seat = self._my_seat()
        changed = rooms.show(seat, wish, cameras=current_app.config["ROOM_CAMERAS"])
        told = [of_seat(seat) for seat in changed]
        db.session.commit()
        db.session.remove()
        for person in told:
            self._line.tell_all({"kind": "shown", "person": person})
        if wish.camera and not told[0]["camera"]:
            raise Refused("cameras")
        if wish.screen and not told[0]["screen"]:
            raise Refused("screen")

    def _say(self, message: dict[str, Any]) -> None:
        """Keep a line of the chat, then everyone reads it."""
        words = message.get("words")
        if not isinstance(words, str) or len(words) > rooms.LONGEST_MESSAGE:
            raise Refused("words")
        # Control characters and half characters: not every database takes them.
        words = "".join(
            c for c in words if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")
        ).strip()
        if not words:
            raise Refused("words")
        seat = self._my_seat()
        assert seat.user is not None, "whose account was deleted has no seat"
        said = rooms.say(seat.meeting, seat.user, words)
        told = of_message(said)
        db.session.commit()
        db.session.remove()
        self._line.tell_all({"kind": "said", "message": told})

    def _beat(self) -> None:
        """Keep the seat, look whether the person may still have it, mend what the window believes.

        A meeting in progress is not cut when the plan ends; being taken off the course's list, signing
        out, and losing or gaining the moderator's role count at once.
        """
        if not rooms.keep_seats([self.window]):
            raise self._lost()
        session = sessions.keep(self.session_id)
        user = accounts.find_user(self.account_id, self.user_id)
        course = courses.find_course(self.account_id, self.course_id)
        if session is None or user is None:
            raise Gone({"kind": "removed", "reason": "signed_out"})
        if course is None or not access.can_see_course(user, course):
            raise Gone({"kind": "removed", "reason": "not_enrolled"})
        seat = self._my_seat()
        if seat.meeting.ended_at is not None:
            raise Gone({"kind": "ended"})
        if seat.moderates != access.can_moderate(user, course):
            # The page is asked anew, and shows what this person is now.
            raise Gone({"kind": "closed"})
        people = [of_seat(other) for other in rooms.present(seat.meeting)]
        db.session.commit()
        db.session.remove()
        if people != self._told:
            self._told = people
            self._tell_me({"kind": "people", "people": people})

    def _lost(self) -> Gone:
        """Why this window's seat is gone."""
        meeting = db.session.get(rooms.Meeting, self.meeting_id)
        over = meeting is None or meeting.ended_at is not None
        elsewhere = meeting is not None and any(
            seat.user_id == self.user_id for seat in rooms.present(meeting)
        )
        db.session.rollback()
        if over:
            return Gone({"kind": "ended"})
        return Gone({"kind": "moved"} if elsewhere else None)

    def _my_seat(self) -> Attendance:
        seat = rooms.find_seat(self.window)
        if seat is None:
            raise self._lost()
        return seat

    @property
    def _line(self) -> Line:
        assert self.line is not None
        return self.line

    def _tell_me(self, message: dict[str, Any]) -> None:
        """To this window, in order with what the others send it."""
        self._line.tell_me(message)

    def _send(self, message: dict[str, Any]) -> None:
        """To this window, while nobody else writes to its socket."""
        self.socket.send(json.dumps(message))

    def _leave(self) -> None:
        """The seat is free; the others see it, unless the person sits elsewhere by now."""
        db.session.rollback()
        if not self.meeting_id:
            return
        left = rooms.leave_seat(self.meeting_id, self.window)
        db.session.commit()
        db.session.remove()
        if left:
            logs.event("room_left", meeting=self.meeting_id, user=self.user_id)
        if self.line is None:
            return
        self.line.hang_up()
        if left:
            self.line.tell_all({"kind": "left", "peer": self.peer})
        if self._pump is not None:
            # Its last word shall be heard before the socket is closed.
            self._pump.join(timeout=2)
