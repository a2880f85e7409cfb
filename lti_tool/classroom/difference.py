"""The difference between an LMS's list and ours. Pure: computing it changes nothing."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from lti_tool.classroom.accounts import Role
from lti_tool.classroom.role_maps import Reading, RolePolicy, higher, read_roles
from lti_tool.lti.memberships import Member


class Row(msgspec.Struct, frozen=True, gc=False):
    """One member as a row of ours. (A Struct, as memberships.Member is: there are hundreds of thousands.)"""

    subject: str
    role: Role
    roles: tuple[str, ...]
    unsaid: bool
    name: str
    email: str
    digest: str


class Skipped(NamedTuple):
    """A member who gets no place from this list, and why: `not_active`, `test_user`, `no_course_role`."""

    subject: str
    name: str
    reason: str
    roles: tuple[str, ...]


class Held(msgspec.Struct, frozen=True, gc=False):
    """One LMS enrollment of the context as it is stored."""

    id: int
    user_id: int
    subject: str
    name: str
    role: Role
    launch_role: Role | None
    roster_role: Role | None
    digest: str | None
    since: datetime
    ended: bool


@dataclass(slots=True)
class SyncPlan:
    """What would have to be written so that we say what the LMS says."""

    added: list[Row] = field(default_factory=list)
    changed: list[tuple[Held, Row]] = field(default_factory=list)
    ended: list[Held] = field(default_factory=list)
    # Same role as before, but name or address is new, or the row was never stamped.
    restamped: list[tuple[Held, Row]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    unchanged: int = 0
    active_before: int = 0
    # Not on the list, but here since after it was asked for.
    newer: int = 0
    # How many members the list has, skipped ones included.
    listed: int = 0

    @property
    def writes(self) -> bool:
        """Is there anything to do at all?"""
        return bool(self.added or self.changed or self.ended or self.restamped)

    def needs_yes(self, *, share: float, minimum: int, may_end: int) -> bool:
        """The brake: would this end so many that a person should look first?

        A list with nobody on it always waits: somebody launched, so somebody is in the course.
        """
        ends = len(self.ended)
        if not ends or ends <= may_end:
            return False
        return self.listed == 0 or (ends >= minimum and ends > share * self.active_before)


def read_members(members: Iterable[Member], policy: RolePolicy) -> tuple[list[Row], list[Skipped]]:
    """Members as rows of ours, and those left out with the reason."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    readings: dict[tuple[str, ...], Reading] = {}
    for member in members:
        reading = readings.get(member.roles)
        if reading is None:
            reading = readings[member.roles] = read_roles(member.roles, policy)
        name = member.name or " ".join(filter(None, (member.given_name, member.family_name)))
        if not member.active:
            skipped.append(Skipped(member.subject, name, "not_active", member.roles))
        elif reading.test:
            skipped.append(Skipped(member.subject, name, "test_user", member.roles))
        elif reading.role is None:
            skipped.append(Skipped(member.subject, name, "no_course_role", member.roles))
        else:
            rows.append(
                Row(
                    member.subject,
                    reading.role,
                    member.roles,
                    reading.unsaid,
                    name,
                    member.email or "",
                    _digest(member, name, reading),
                )
            )
    return rows, skipped


def _digest(member: Member, name: str, reading: Reading) -> str:
    parts = (member.subject, sorted(member.roles), name, member.email, reading.role, reading.unsaid)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def plan_sync(
    rows: Sequence[Row],
    skipped: Sequence[Skipped],
    held: Mapping[str, Held],
    *,
    asked_at: datetime | None = None,
) -> SyncPlan:
    """What would have to change so that `held` (by subject) says what `rows` says. Pure.

    `asked_at`: enrollments that began later are newer than the list, which cannot end them.
    """
    plan = SyncPlan(skipped=list(skipped), listed=len(rows) + len(skipped))
    ours = {h.id: h for h in held.values()}
    plan.active_before = sum(not h.ended for h in ours.values())
    # Two subjects may be one person here (merged by an admin); the higher of their rows counts.
    found: dict[int, tuple[Held, Row]] = {}
    for row in rows:
        there = held.get(row.subject)
        if there is None:
            plan.added.append(row)
        elif there.id not in found or row.role.rank > found[there.id][1].role.rank:
            found[there.id] = (there, row)
    for there, row in found.values():
        if there.ended:
            plan.changed.append((there, row))
        elif there.digest == row.digest:
            plan.unchanged += 1
        elif role_after(there, row) is not there.role:
            plan.changed.append((there, row))
        else:
            plan.restamped.append((there, row))
    spared = _spared(skipped, held)
    unlisted = [h for h in ours.values() if not h.ended and h.id not in found and h.id not in spared]
    plan.ended = [h for h in unlisted if asked_at is None or h.since < asked_at]
    plan.newer = len(unlisted) - len(plan.ended)
    return plan


def _spared(skipped: Iterable[Skipped], held: Mapping[str, Held]) -> set[int]:
    """Enrollments by launch of members whom the list names without a course role of its own."""
    spared = set()
    for member in skipped:
        there = held.get(member.subject)
        if there is None or member.reason == "not_active":
            continue
        # A role that the roster gave once and gives no more is taken back.
        if member.reason == "test_user" or (there.launch_role and not there.roster_role):
            spared.add(there.id)
    return spared


def launch_role_after(held: Held, row: Row) -> Role | None:
    """A roster that takes back a role it gave is newer than any launch; one that never gave it is not."""
    if held.roster_role is not None and row.role.rank < held.roster_role.rank:
        return None
    return None if held.ended else held.launch_role


def role_after(held: Held, row: Row) -> Role:
    """The higher of what launch and roster say holds; never silently demoted."""
    return higher(row.role, launch_role_after(held, row))
