"""The demo page's switches for trouble: what they are called, and what they turn on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .people import Course, Person
from .platform import Platform

_CLOCK_OFF = 600.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One switch: its name in forms, its words, whether it is on, and how it turns."""

    name: str
    words: str
    is_on: Callable[[Platform], bool]
    turn: Callable[[Platform, bool], None]


def _set_clock(platform: Platform, on: bool) -> None:
    platform.clock_offset = _CLOCK_OFF if on else 0.0


def _withhold(platform: Platform, on: bool) -> None:
    for registration in platform.registrations:
        registration.names = registration.emails = not on


def _is_withheld(platform: Platform) -> bool:
    return any(not registration.names for registration in platform.registrations)


def _list_launched_only(platform: Platform, on: bool) -> None:
    platform.only_launched_listed = on


def _fault(name: str, words: str, endpoint: str, fault: str) -> Trouble:
    def is_on(platform: Platform) -> bool:
        return bool(getattr(platform.faults, endpoint) == fault)

    def turn(platform: Platform, on: bool) -> None:
        setattr(platform.faults, endpoint, fault if on else None)

    return Trouble(name, words, is_on, turn)


TROUBLES = (
    Trouble("clock", "Clock 10 minutes off", lambda platform: platform.clock_offset != 0, _set_clock),
    _fault("half", "Half a roster", "roster", "half"),
    Trouble("withhold", "Withhold names", _is_withheld, _withhold),
    Trouble(
        "launched",
        "List only who has launched",
        lambda platform: platform.only_launched_listed,
        _list_launched_only,
    ),
    Trouble(
        "storage",
        "Keep values for tools",
        lambda platform: platform.storage_target is not None,
        lambda platform, on: setattr(platform, "storage_target", "_parent" if on else None),
    ),
    _fault("empty", "Empty roster", "roster", "empty"),
    _fault("endless", "Roster without end", "roster", "endless"),
    _fault("foreign", "Roster leads elsewhere", "roster", "foreign_next"),
    _fault("slow", "Slow roster", "roster", "slow"),
    _fault("down", "Roster answers 500", "roster", "500"),
    _fault("token", "No access tokens", "token", "500"),
    _fault("keys", "Keys cannot be read", "jwks", "503"),
    _fault("signed-out", "Not signed in", "auth", "login_required"),
)


def toggle(platform: Platform, name: str) -> None:
    """Turns one switch over; raises LookupError for one that does not exist."""
    for trouble in TROUBLES:
        if trouble.name == name:
            trouble.turn(platform, not trouble.is_on(platform))
            return
    raise LookupError(f"no trouble is called {name!r}")


def make_peace(platform: Platform) -> None:
    """Turns every switch off."""
    for trouble in TROUBLES:
        if trouble.is_on(platform):
            trouble.turn(platform, False)


def move(platform: Platform, course: Course, person: Person) -> None:
    """Takes a person off a course, or puts them on it in their usual role."""
    if platform.is_enrolled(course, person):
        platform.withdraw(course, person)
    else:
        platform.enroll(course, person, person.role)
