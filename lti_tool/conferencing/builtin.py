"""The embedded live room: browsers send pictures and sound to each other, and find each other through us.

What a window needs to know of the others goes over its line: who is there, what they show, and the
offers and candidates of WebRTC, which are relayed unread. State that must outlive a process is in the
database; here are only the open lines.
"""

import json
import queue
import secrets
import threading
from typing import Any

from simple_websocket import ConnectionClosed

from lti_tool.conferencing.driver import Admission, Feature, Person, Sitting
from lti_tool.conferencing.exchange import Exchange, ManyProcesses, OneProcess

# A window that lets this many messages pile up has stopped reading.
BACKLOG = 2000


class BuiltinLine:
    """A window's line; what is sent to it waits in `_outbox` until its socket takes it."""

    def __init__(self, driver: "BuiltinDriver", key: str, person_id: int, peer: str) -> None:
        self.id = secrets.token_hex(8)
        self.key, self.person_id, self.peer = key, person_id, peer
        self._driver = driver
        self._outbox: queue.Queue[str | None] = queue.Queue(BACKLOG)

    def tell(self, peer: str, message: dict[str, Any]) -> None:
        """Send to one other window of this meeting, with the sender set by us."""
        self._driver.publish(self.key, {"to": peer, "message": {**message, "from": self.peer}})

    def tell_all(self, message: dict[str, Any]) -> None:
        """Send to every window of this meeting, this one included."""
        self._driver.publish(self.key, {"message": message})

    def tell_me(self, message: dict[str, Any]) -> None:
        """Send to this window alone."""
        self.put(message)

    def put(self, message: dict[str, Any] | None) -> None:
        """Add to what waits; None hangs up when everything before it was sent."""
        try:
            self._outbox.put_nowait(None if message is None else json.dumps(message))
        except queue.Full:
            # It stopped reading: let it reconnect and be told everything anew.
            while True:
                try:
                    self._outbox.get_nowait()
                except queue.Empty:
                    break
            self._outbox.put_nowait(None)

    def pump(self, socket: Any) -> None:
        """Carry the outbox into `socket` until hung up; meant for a thread of its own."""
        try:
            while (text := self._outbox.get()) is not None:
                socket.send(text)
            socket.close()
        except (ConnectionClosed, OSError):
            # The thread that reads the socket notices too, and leaves the seat.
            return

    def hang_up(self) -> None:
        """Out of the room; the socket is closed once what waits was sent."""
        self._driver.forget(self)
        self.put(None)


class BuiltinDriver:
    """The embedded room of one application."""

    features = frozenset({Feature.CHAT, Feature.HANDS, Feature.SCREEN, Feature.KICK})

    def __init__(self, redis_url: str = "") -> None:
        self._lock = threading.Lock()
        self._rooms: dict[str, dict[str, BuiltinLine]] = {}
        self._exchange: Exchange = (
            ManyProcesses(redis_url, self._deliver, self.hang_up_all)
            if redis_url
            else OneProcess(self._deliver)
        )

    def ensure(self, sitting: Sitting) -> None:
        """Nothing has to be made; from now on this process hears what is said in rooms."""
        self._exchange.listen()

    def join(self, sitting: Sitting, person: Person, peer: str) -> Admission:
        """A line for this window; older windows of the same person hear that the seat moved."""
        line = BuiltinLine(self, sitting.key, person.id, peer)
        with self._lock:
            self._rooms.setdefault(sitting.key, {})[line.id] = line
        self.publish(
            sitting.key,
            {"person": person.id, "not": line.id, "message": {"kind": "moved"}, "last": True},
        )
        return Admission(line=line)

    def kick(self, sitting: Sitting, person_id: int, reason: str) -> None:
        """Every window of the person hears why, and is hung up."""
        message = {"kind": "removed", "reason": reason}
        self.publish(sitting.key, {"person": person_id, "message": message, "last": True})

    def end(self, sitting: Sitting) -> None:
        """Every window hears that it is over, and is hung up."""
        self.publish(sitting.key, {"message": {"kind": "ended"}, "last": True})

    def publish(self, key: str, envelope: dict[str, Any]) -> None:
        """Hand over what is for the windows of a room, wherever they are."""
        self._exchange.publish(key, envelope)

    def forget(self, line: BuiltinLine) -> None:
        """The line takes no more."""
        with self._lock:
            lines = self._rooms.get(line.key, {})
            lines.pop(line.id, None)
            if not lines:
                self._rooms.pop(line.key, None)

    def hang_up_all(self) -> None:
        """Close every line of this process; the windows reconnect."""
        with self._lock:
            lines = [line for room in self._rooms.values() for line in room.values()]
        for line in lines:
            line.hang_up()

    def _deliver(self, key: str, envelope: dict[str, Any]) -> None:
        with self._lock:
            lines = list(self._rooms.get(key, {}).values())
        for line in lines:
            if (
                envelope.get("to", line.peer) != line.peer
                or envelope.get("person", line.person_id) != line.person_id
                or envelope.get("not") == line.id
            ):
                continue
            line.put(envelope["message"])
            if envelope.get("last"):
                line.hang_up()
