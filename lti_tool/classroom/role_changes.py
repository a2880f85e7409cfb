"""Changing how an LMS's roles are read: what it would do, doing it to everybody known, taking it back.

Launches and syncs to come follow the connection's policy by themselves; who is on a roster already is read
anew from the roles they were last sent with, set-based, so that nobody waits for the next sync.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import JSON, ColumnElement, Row, String, and_, cast, func, literal, or_, select, update

from lti_tool.classroom import audit, platforms
from lti_tool.classroom.accounts import Connection, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.carried_roles import in_force
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.role_maps import Reading, RolePolicy, higher, policy_of, read_roles
from lti_tool.database import UTCDateTime, db, insert, insert_many, now

SWITCHES = ("makes_admins", "assistants_teach", "designers_teach")
MOST_OVERRIDES = 100
# Changes of the map that are looked through for who made one.
MOST_REMEMBERED = 100
# Groups of people in one statement.
_CHUNK = 50


class RoleMapMoved(Exception):
    """Somebody changed the role map since the page that asks was made."""


# --- what a change would do --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """How many people another policy would make what, from one moment to the next."""

    instructors: int = 0
    students: int = 0
    # Those who would no longer be admins.
    admins: int = 0


# What a group of enrollments has in common; JSON is compared as the text that was stored.
_LAUNCH, _ROSTER = cast(Enrollment.launch_roles, String), cast(Enrollment.roster_roles, String)
_SHARED: tuple[Any, ...] = (
    _LAUNCH,
    _ROSTER,
    Enrollment.launch_role,
    Enrollment.roster_role,
    Enrollment.role,
    Enrollment.role_unsaid,
)


class _Change(NamedTuple):
    """Enrollments that a policy reads otherwise: which, and what they become."""

    which: ColumnElement[bool]
    before: Role
    role: Role
    launch_role: Role | None
    roster_role: Role | None
    unsaid: bool


def foresee(connection: Connection, policy: RolePolicy) -> Effect:
    """Whom `policy` would make what. Nothing is changed."""
    changes = list(_changes(connection, policy_of(connection), policy))
    admins = 0
    if connection.makes_admins and not policy.makes_admins:
        admins = (
            db.session.scalar(
                select(func.count(User.id)).where(
                    User.account_id == connection.account_id,
                    User.made_admin_by_id == connection.registration_id,
                )
            )
            or 0
        )
    return Effect(
        _count_people(connection, [c for c in changes if c.role.rank > c.before.rank]),
        _count_people(connection, [c for c in changes if c.role.rank < c.before.rank]),
        admins,
    )


def _count_people(connection: Connection, changes: Sequence[_Change]) -> int:
    """People in any of the groups; beyond one statement's worth somebody may be counted twice."""
    return sum(
        db.session.scalar(
            select(func.count(Enrollment.user_id.distinct()))
            .join(User, User.id == Enrollment.user_id)
            .where(*in_force(connection), User.is_test.is_(False), or_(*(c.which for c in chunk)))
        )
        or 0
        for chunk in _chunks(changes)
    )


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))


def _changes(connection: Connection, before: RolePolicy, policy: RolePolicy) -> Iterator[_Change]:
    """The groups that `policy` reads otherwise. People who were sent the same roles are one group."""
    groups = db.session.execute(select(*_SHARED).where(*in_force(connection)).group_by(*_SHARED)).all()
    for group in groups:
        change = _read_group(group, before, policy)
        if change is not None:
            yield change


def _read_group(group: Row[Any], before: RolePolicy, policy: RolePolicy) -> _Change | None:
    launch_role, roster_role, role, unsaid = tuple(group)[2:]
    new_launch, new_roster = _readings(group, policy)
    old_launch, old_roster = _readings(group, before)
    launch = _role_of(new_launch) if new_launch else launch_role
    roster = _role_of(new_roster) if new_roster else roster_role
    was, will_be = _all_unsaid(old_launch, old_roster), _all_unsaid(new_launch, new_roster)
    said = unsaid if was == will_be else will_be
    after = higher(launch, roster)
    if (launch, roster, after, said) == (launch_role, roster_role, role, unsaid):
        return None
    which = and_(*(column.is_not_distinct_from(value) for column, value in zip(_SHARED, group, strict=True)))
    return _Change(which, role, after, launch, roster, said)


def _readings(group: Row[Any], policy: RolePolicy) -> tuple[Reading | None, Reading | None]:
    """How launch and list are read; None for one that says nothing now."""
    launch_text, roster_text, launch_role, roster_role = tuple(group)[:4]
    return (
        _read(launch_text, policy) if launch_role is not None else None,
        _read(roster_text, policy) if roster_role is not None else None,
    )


def _read(text: str | None, policy: RolePolicy) -> Reading | None:
    roles = msgspec.json.decode(text) if text else None
    return read_roles(roles, policy) if isinstance(roles, list) else None


def _role_of(reading: Reading) -> Role:
    """Who is on the list already stays on it, whatever the roles no longer say."""
    return reading.role or Role.STUDENT


def _all_unsaid(*readings: Reading | None) -> bool:
    found = [reading for reading in readings if reading]
    return bool(found) and all(reading.unsaid or reading.role is None for reading in found)


# --- changing ----------------------------------------------------------------------------


def change(connection: Connection, policy: RolePolicy, *, by: User) -> None:
    """Read this LMS's roles by `policy` from now on, and everybody known anew. Raises NoAdminLeft."""
    before = policy_of(connection)
    if policy == before:
        return
    # Two who change it at once come one after the other.
    db.session.refresh(connection, with_for_update=True)
    if policy_of(connection) != before:
        raise RoleMapMoved
    target = f"registration:{connection.registration_id}"
    for switch in SWITCHES:
        old, new = getattr(before, switch), getattr(policy, switch)
        if old != new:
            audit.record(
                connection.account_id,
                "platform.switched",
                target,
                by=by,
                before={switch: old},
                after={switch: new},
            )
            setattr(connection, switch, new)
    if before.overrides != policy.overrides:
        audit.record(
            connection.account_id,
            "platform.roles_mapped",
            target,
            by=by,
            before={"overrides": dict(before.overrides)},
            after={"overrides": dict(policy.overrides)},
        )
        connection.role_overrides = dict(policy.overrides)
    raised = _read_anew(connection, before, policy)
    if before.makes_admins and not policy.makes_admins:
        platforms.take_admins_back(connection)
    connection.roles_before = {"policy": asdict(before), "raised": raised}
    db.session.flush()


def undo(connection: Connection, stamp: str, *, by: User) -> None:
    """Read roles as before the last change, which left the map as `stamp` says.

    Raises RoleMapMoved, NoAdminLeft.
    """
    held = connection.roles_before
    if not held or policy_of(connection).stamp != stamp:
        raise RoleMapMoved
    said = held["policy"]
    overrides = {sent: Role(role) for sent, role in said["overrides"].items()}
    change(connection, RolePolicy(**(said | {"overrides": overrides})), by=by)
    _lower(connection, held["raised"])
    connection.roles_before = None


def let_make_admins(connection: Connection, on: bool, *, by: User) -> None:
    """May this LMS's administrators be admins here? Off takes it from those who are. Raises NoAdminLeft."""
    change(connection, replace(policy_of(connection), makes_admins=on), by=by)


def let_assistants_teach(connection: Connection, on: bool, *, by: User) -> None:
    """Are this LMS's teaching assistants instructors here?"""
    change(connection, replace(policy_of(connection), assistants_teach=on), by=by)


def let_designers_teach(connection: Connection, on: bool, *, by: User) -> None:
    """Are this LMS's course designers and managers instructors here?"""
    change(connection, replace(policy_of(connection), designers_teach=on), by=by)


def read_again(connection: Connection) -> None:
    """Read what is stored by the policy in use; an undone sync brings back what an older one made of it."""
    policy = policy_of(connection)
    _read_anew(connection, policy, policy)


def _read_anew(connection: Connection, before: RolePolicy, policy: RolePolicy) -> list[int]:
    """Write what the stored roles say by `policy`; ids of those who became instructors of the account by it.

    People before enrollments, as in a launch and a sync: writers in the same order wait for each other.
    """
    changes = list(_changes(connection, before, policy))
    raised = _raise(connection, [c for c in changes if c.role is Role.INSTRUCTOR])
    for one in changes:
        if one.role is not one.before:
            _note_courses(connection, one)
        db.session.execute(
            update(Enrollment)
            .where(*in_force(connection), one.which)
            .values(
                role=one.role,
                launch_role=one.launch_role,
                roster_role=one.roster_role,
                role_unsaid=one.unsaid,
                # The LMS's next word counts as news.
                digest=None,
            )
            .execution_options(synchronize_session=False)
        )
    return raised


def _raise(connection: Connection, changes: Sequence[_Change]) -> list[int]:
    """A higher course role shows on the person, as after a launch or a sync."""
    raised: list[int] = []
    for chunk in _chunks(changes):
        theirs = select(Enrollment.user_id).where(*in_force(connection), or_(*(c.which for c in chunk)))
        raised += db.session.scalars(
            update(User)
            .where(User.account_id == connection.account_id, User.role == Role.STUDENT, User.id.in_(theirs))
            .values(role=Role.INSTRUCTOR)
            .returning(User.id)
            .execution_options(synchronize_session=False)
        )
    _note(connection, ((one, {"role": Role.STUDENT}, {"role": Role.INSTRUCTOR}) for one in raised))
    return raised


def _lower(connection: Connection, ids: Sequence[int]) -> None:
    """Those whom a change had raised, and who teach nowhere now, are students of the account again."""
    teaches = select(Enrollment.id).where(
        Enrollment.user_id == User.id, Enrollment.role == Role.INSTRUCTOR, Enrollment.ended_at.is_(None)
    )
    for chunk in _chunks(ids):
        lowered = db.session.scalars(
            update(User)
            .where(
                User.account_id == connection.account_id,
                User.id.in_(chunk),
                User.role == Role.INSTRUCTOR,
                ~teaches.exists(),
            )
            .values(role=Role.STUDENT)
            .returning(User.id)
            .execution_options(synchronize_session=False)
        ).all()
        _note(connection, ((one, {"role": Role.INSTRUCTOR}, {"role": Role.STUDENT}) for one in lowered))


def _note_courses(connection: Connection, one: _Change) -> None:
    """One line of the audit log for each enrollment whose role is about to change, in one statement."""
    written: dict[str, ColumnElement[Any]] = {
        "account_id": literal(connection.account_id),
        "at": literal(now(), UTCDateTime()),
        "source": literal("lms"),
        "action": literal("role.changed"),
        "target": literal("user:") + cast(Enrollment.user_id, String),
        "course_id": Enrollment.__table__.c.course_id,
        "before": _course_role(one.before),
        "after": _course_role(one.role),
    }
    rows = select(*written.values()).where(*in_force(connection), one.which)
    db.session.execute(insert(AuditEvent.__table__).from_select(list(written), rows))


def _course_role(role: Role) -> ColumnElement[Any]:
    """What the log says of one enrollment, put together by the database."""
    said = literal('{"course": ') + cast(Enrollment.course_id, String) + literal(f', "role": "{role}"}}')
    # SQLite keeps JSON as text, and would make a number of what is cast to it.
    return cast(said, JSON) if db.session.get_bind().dialect.name == "postgresql" else said


def _note(connection: Connection, changed: Iterator[tuple[int, Any, Any]]) -> None:
    """One line of the audit log for each person whose role changed."""
    lines = list(changed)
    insert_many(
        AuditEvent.__table__,
        {
            "target": [f"user:{user_id}" for user_id, _, _ in lines],
            "before": [before for _, before, _ in lines],
            "after": [after for _, _, after in lines],
        },
        {"account_id": connection.account_id, "at": now(), "source": "lms", "action": "role.changed"},
    )


# --- who changed it ----------------------------------------------------------------------


class Said(NamedTuple):
    """Since when an override is as it is, and who said so (None: deleted since)."""

    at: datetime
    by: User | None


def overridden_by(connection: Connection) -> dict[str, Said]:
    """Override → who set it to what it is, from the latest changes in the audit log."""
    rows = db.session.execute(
        select(AuditEvent, User)
        .outerjoin(User, User.id == AuditEvent.actor_id)
        .where(
            AuditEvent.account_id == connection.account_id,
            AuditEvent.target == f"registration:{connection.registration_id}",
            AuditEvent.action == "platform.roles_mapped",
        )
        .order_by(AuditEvent.id.desc())
        .limit(MOST_REMEMBERED)
    )
    found: dict[str, Said] = {}
    for event, by in rows:
        was: dict[str, Any] = event.before or {}
        became: dict[str, Any] = event.after or {}
        before, after = was.get("overrides", {}), became.get("overrides", {})
        for sent, role in after.items():
            if before.get(sent) != role:
                found.setdefault(sent, Said(event.at, by))
    return {sent: said for sent, said in found.items() if sent in (connection.role_overrides or {})}
