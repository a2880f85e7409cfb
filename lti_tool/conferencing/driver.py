"""What every live-room backend offers: its features, and admitting, removing and ending.

The order on every entry is fixed: the door said yes, the meeting is open, the seat is taken; only then
is a backend asked. It is told who somebody is and never decides it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Feature(StrEnum):
    """What a backend can do; declared, never assumed."""

    CHAT = "chat"
    HANDS = "hands"
    SCREEN = "screen"
    KICK = "kick"


@dataclass(frozen=True, slots=True)
class Sitting:
    """A meeting, as far as a backend need know it."""

    key: str
    course_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was let in, as the server knows them."""

    id: int
    name: str
    role: str
    moderates: bool


class Line(Protocol):
    """One window's way to the others in its meeting, through our own server."""

    def tell(self, peer: str, message: dict[str, Any]) -> None:
        """Send `message` to one other window of the meeting; an unknown `peer` is told nothing."""

    def tell_all(self, message: dict[str, Any]) -> None:
        """Send `message` to every window of the meeting, this one included."""

    def tell_me(self, message: dict[str, Any]) -> None:
        """Send `message` to this window, after what it was sent before."""

    def pump(self, socket: Any) -> None:
        """Carry what the others send into `socket` until the line is hung up."""

    def hang_up(self) -> None:
        """The window is gone, or shall be."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The way in: an address at the backend, or a line through our own server."""

    address: str = ""
    line: Line | None = None


class RoomDriver(Protocol):
    """One live-room backend."""

    features: frozenset[Feature]

    def ensure(self, sitting: Sitting) -> None:
        """Make sure that the room is there; a second time changes nothing."""

    def join(self, sitting: Sitting, person: Person, peer: str) -> Admission:
        """Let `person` in from the window `peer`; their older windows are told that the seat moved."""

    def kick(self, sitting: Sitting, person_id: int, reason: str) -> None:
        """Put a person out of the room, saying why."""

    def end(self, sitting: Sitting) -> None:
        """Tell everyone that the meeting is over, and let them go."""
