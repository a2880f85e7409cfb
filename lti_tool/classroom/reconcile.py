"""Writing a roster's difference, set-based, and taking it back. syncs.py says when."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import String, Table, and_, bindparam, func, select, type_coerce, update

from lti_tool.classroom import audit, linking, search
from lti_tool.classroom.accounts import Identity, Role, Status, User, email_key
from lti_tool.classroom.courses import Context, Enrollment, Source
from lti_tool.classroom.difference import Held, Row, SyncPlan, launch_role_after, role_after
from lti_tool.classroom.roster import refresh_person
from lti_tool.database import db, fold, insert_many, new_ids, now

# Parameters of one statement: SQLite takes 32,766, older ones 999.
_CHUNK = 500


def held_rows(context: Context) -> dict[str, Held]:
    """Every LMS enrollment of the context, ended ones included, by each subject its person has there."""
    e = cast(Table, Enrollment.__table__).c
    # Few roles stand in many rows: read as text, each is made a Role once.
    roles: dict[str | None, Role | None] = {None: None, **{str(role): role for role in Role}}
    found = db.session.execute(
        select(
            Enrollment.id,
            Enrollment.user_id,
            func.coalesce(Identity.subject, Enrollment.subject),
            User.name,
            *(type_coerce(e[name], String) for name in ("role", "launch_role", "roster_role")),
            Enrollment.digest,
            Enrollment.since,
            Enrollment.ended_at.is_not(None),
        )
        .join(User, User.id == Enrollment.user_id)
        .outerjoin(
            Identity,
            and_(
                Identity.user_id == Enrollment.user_id,
                # The + 0 keeps databases off the index of whole registrations, which PostgreSQL prefers
                # as long as it has not counted the rows, and then reads whole for every member.
                Identity.registration_id + 0 == context.deployment.registration_id,
            ),
        )
        .where(Enrollment.context_id == context.id)
    )
    return {
        subject: Held(one, user, subject, name, cast(Role, roles[role]), roles[launch], roles[list_], *rest)
        for one, user, subject, name, role, launch, list_, *rest in found
    }


def write(context: Context, plan: SyncPlan) -> dict[str, Any]:
    """Write `plan` in the caller's one transaction; what was there before, for `take_back`, as JSON.

    People before enrollments, as in a launch: two writers in the same order wait instead of locking
    each other out.
    """
    registration_id = context.deployment.registration_id
    known = _known_users(context.account_id, registration_id, [row.subject for row in plan.added])
    newcomers = [(row.subject, row.email) for row in plan.added if row.subject not in known]
    known |= linking.link_members(context.account_id, registration_id, context.id, newcomers)
    renamed, raised = _refresh_people(
        context, {h.user_id: row for h, row in [*plan.changed, *plan.restamped]} | _by_user(plan.added, known)
    )
    strangers = [row for row in plan.added if row.subject not in known]
    user_ids = known | _add_people(context, registration_id, strangers)
    before: dict[str, Any] = {
        "added": _add_enrollments(context, _by_user(plan.added, user_ids)),
        "changed": _remember([h.id for h, _ in plan.changed]),
        "ended": [h.id for h in plan.ended],
        "raised": raised,
        "renamed": renamed,
    }
    _change_enrollments(plan)
    _end_enrollments([h.id for h in plan.ended])
    return before


def _by_user(rows: Iterable[Row], user_ids: Mapping[str, int]) -> dict[int, Row]:
    """Each person once, with the higher of their rows."""
    chosen: dict[int, Row] = {}
    for row in rows:
        user_id = user_ids.get(row.subject)
        if user_id is None:
            continue
        if user_id not in chosen or row.role.rank > chosen[user_id].role.rank:
            chosen[user_id] = row
    return chosen


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))


def _known_users(account_id: int, registration_id: int, subjects: Sequence[str]) -> dict[str, int]:
    known: dict[str, int] = {}
    for chunk in _chunks(subjects):
        found = db.session.execute(
            select(Identity.subject, Identity.user_id).where(
                Identity.account_id == account_id,
                Identity.registration_id == registration_id,
                Identity.subject.in_(chunk),
            )
        )
        known |= {row.subject: row.user_id for row in found}
    return known


def _refresh_people(
    context: Context, rows: Mapping[int, Row]
) -> tuple[list[tuple[str, str, str]], list[tuple[int, Role]]]:
    """Newer names and addresses; a higher course role shows on the person. Who was renamed and raised."""
    renamed, raised = [], []
    for chunk in _chunks(sorted(rows)):
        mine = (User.account_id == context.account_id, User.id.in_(chunk))
        for user in db.session.scalars(select(User).where(*mine).order_by(User.id)):
            row, called = rows[user.id], user.name
            refresh_person(user, row.name, row.email)
            if called and user.name != called:
                renamed.append((row.subject, called, user.name))
            if row.role.rank > user.role.rank:
                raised.append((user.id, user.role))
                audit.record(
                    context.account_id,
                    "role.changed",
                    f"user:{user.id}",
                    source="lms",
                    before={"role": user.role},
                    after={"role": row.role},
                )
                user.role = row.role
    db.session.flush()
    return renamed, raised


def _add_people(context: Context, registration_id: int, rows: Sequence[Row]) -> dict[str, int]:
    """Users and identities for members never seen before, each in one statement."""
    if not rows:
        return {}
    at = now()
    user_ids = dict(zip((row.subject for row in rows), new_ids(User.__table__, len(rows)), strict=True))
    with search.in_bulk():
        insert_many(
            User.__table__,
            {
                "id": list(user_ids.values()),
                "name": [row.name for row in rows],
                "name_key": [fold(row.name or row.email) for row in rows],
                "email": [row.email for row in rows],
                "email_key": [email_key(row.email) for row in rows],
                "role": [row.role for row in rows],
            },
            {
                "account_id": context.account_id,
                "status": Status.REGISTERED,
                "created_at": at,
                "registered_at": at,
            },
        )
    insert_many(
        Identity.__table__,
        {"subject": list(user_ids), "user_id": list(user_ids.values())},
        {"account_id": context.account_id, "registration_id": registration_id, "created_at": at},
    )
    return user_ids


def _add_enrollments(context: Context, by_user: Mapping[int, Row]) -> list[int]:
    if not by_user:
        return []
    ids, rows = new_ids(Enrollment.__table__, len(by_user)), by_user.values()
    insert_many(
        Enrollment.__table__,
        {
            "id": ids,
            "user_id": list(by_user),
            "subject": [row.subject for row in rows],
            "role": [row.role for row in rows],
            "roster_role": [row.role for row in rows],
            "roster_roles": [row.roles for row in rows],
            "role_unsaid": [row.unsaid for row in rows],
            "digest": [row.digest for row in rows],
        },
        {
            "account_id": context.account_id,
            "course_id": context.course_id,
            "context_id": context.id,
            "source": Source.LMS,
            "since": now(),
        },
    )
    return list(ids)


_REMEMBERED = ("role", "launch_role", "roster_role", "roster_roles", "role_unsaid", "since", "ended_at")


def _remember(ids: Sequence[int]) -> list[dict[str, Any]]:
    """These enrollments as they are, as JSON."""
    columns = [getattr(Enrollment, name) for name in ("id", *_REMEMBERED)]
    return [
        {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row._mapping.items()
        }
        for chunk in _chunks(ids)
        for row in db.session.execute(select(*columns).where(Enrollment.id.in_(chunk)))
    ]


def _update(changes: Sequence[dict[str, Any]]) -> None:
    """One UPDATE for many rows; each change has `b_id` and the same columns."""
    if not changes:
        return
    table = cast(Table, Enrollment.__table__)
    db.session.connection().execute(
        update(table)
        .where(table.c.id == bindparam("b_id"))
        .values({column: bindparam(column) for column in changes[0] if column != "b_id"}),
        sorted(changes, key=lambda change: change["b_id"]),
    )


def _change_enrollments(plan: SyncPlan) -> None:
    at = now()
    _update(
        [
            {
                "b_id": h.id,
                "role": role_after(h, row),
                "launch_role": launch_role_after(h, row),
                "roster_role": row.role,
                "roster_roles": list(row.roles),
                "role_unsaid": row.unsaid,
                "digest": row.digest,
            }
            for h, row in [*plan.changed, *plan.restamped]
        ]
    )
    _update([{"b_id": h.id, "since": at, "ended_at": None} for h, _ in plan.changed if h.ended])


def _end_enrollments(ids: Sequence[int]) -> None:
    at = now()
    _update([{"b_id": one, "ended_at": at, "digest": None} for one in ids])


def take_back(account_id: int, before: Mapping[str, Any]) -> None:
    """Undo what `write` did to enrollments and roles; people stay known, newer names stay."""
    _end_enrollments(before["added"])
    _update([{"b_id": one, "ended_at": None, "digest": None} for one in before["ended"]])
    _update([_recalled(row) for row in before["changed"]])
    for user_id, role in before["raised"]:
        user = db.session.scalar(select(User).filter_by(account_id=account_id, id=user_id))
        # Somebody made an admin since then stays one.
        if user is not None and user.role is Role.INSTRUCTOR:
            user.role = Role(role)


def _recalled(row: Mapping[str, Any]) -> dict[str, Any]:
    def at(name: str) -> datetime | None:
        return datetime.fromisoformat(row[name]) if row[name] else None

    def role(name: str) -> Role | None:
        return Role(row[name]) if row[name] else None

    return {
        "b_id": row["id"],
        "role": Role(row["role"]),
        "launch_role": role("launch_role"),
        "roster_role": role("roster_role"),
        "roster_roles": row["roster_roles"],
        "role_unsaid": row["role_unsaid"],
        "since": at("since"),
        "ended_at": at("ended_at"),
        "digest": None,
    }
