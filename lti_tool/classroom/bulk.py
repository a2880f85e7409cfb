"""One deed done to many people: what it would do, counted before the yes, and doing a part of it.

One rule, `judge`, says why somebody is left out. It is asked before the yes about whoever is alike, so that
many people cost one statement, and again about each person when their turn comes.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, false, func, literal, select
from sqlalchemy.exc import IntegrityError

from lti_tool.classroom import access, audit, batches, directory, invitations, mass_invitations, people
from lti_tool.classroom.accounts import Account, Role, Status, User
from lti_tool.classroom.batches import Batch, BatchRow, Deed
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.classroom.people import LastOwner
from lti_tool.database import db, now

# Rows of one transaction, and for how long it may last: on SQLite nobody else can write meanwhile.
PART = 200
PART_SECONDS = 0.2

# What a row's outcome is when the deed was done.
DONE = {
    Deed.INVITE_AGAIN: "mailed",
    Deed.ADD_TO_COURSE: "added",
    Deed.REMOVE_FROM_COURSE: "removed",
    Deed.CHANGE_ROLE: "changed",
    Deed.DELETE: "deleted",
}
# Deeds that are done in courses.
IN_COURSES = (Deed.ADD_TO_COURSE, Deed.REMOVE_FROM_COURSE)

Outcome = tuple[str, Any]


@dataclass(frozen=True)
class Mails:
    """What mails need that the batch does not say."""

    lifetime: timedelta
    public_url: str


# --- judging -----------------------------------------------------------------------------


def judge(deed: Deed, terms: Mapping[str, Any], by: User, user: User, there: int) -> str:
    """Why the deed is not done to `user`, as an outcome; empty: it is.

    `there` is in how many of the courses they are already, and as no less than what is asked for.
    """
    if not user.listed:
        return "gone"
    if user.id == by.id and deed in (Deed.DELETE, Deed.CHANGE_ROLE):
        return "yourself"
    if not access.can_change(by, user) or (deed is Deed.DELETE and not access.can_remove(by, user)):
        return "above"
    if deed is Deed.CHANGE_ROLE:
        return _judge_role(terms, by, user)
    if deed is Deed.INVITE_AGAIN:
        return _judge_invitation(user)
    if "enrollments" in terms or deed not in IN_COURSES:
        return ""
    if deed is Deed.REMOVE_FROM_COURSE:
        return "" if there else "not_there"
    if user.role.rank >= Role.ADMIN.rank:
        return "admin"
    return "already" if there == len(terms["courses"]) else ""


def _judge_role(terms: Mapping[str, Any], by: User, user: User) -> str:
    role = Role(terms["role"])
    if "was" in terms and user.role is not Role(terms["was"]):
        return "moved_on"
    if user.role is role:
        return "already"
    return "" if access.can_give_role(by, role) else "role_above"


def _judge_invitation(user: User) -> str:
    if user.status is not Status.PENDING:
        return "registered"
    return "blocked" if user.blocked_at is not None else ""


def _there(batch: Batch, terms: Mapping[str, Any]) -> Any:
    """In how many of the courses a row's person is already, as a column."""
    if batch.deed not in IN_COURSES:
        return literal(0)
    held = _held(batch, terms)
    if batch.deed is Deed.ADD_TO_COURSE:
        enough = [role for role in Role if role.rank >= Role(terms["role"]).rank]
        held = held.where(Enrollment.role.in_(enough))
    return held.with_only_columns(func.count(func.distinct(Enrollment.course_id))).scalar_subquery()


def _listed_by_lms(batch: Batch, terms: Mapping[str, Any]) -> Any:
    """Does an LMS list a row's person in one of the courses, so that removing them does not last?"""
    if batch.deed is not Deed.REMOVE_FROM_COURSE:
        return false()
    return _held(batch, terms).where(Enrollment.source == Source.LMS).exists()


def _held(batch: Batch, terms: Mapping[str, Any]) -> Select[Any]:
    return (
        select(Enrollment.id)
        .where(
            Enrollment.account_id == batch.account_id,
            Enrollment.user_id == BatchRow.user_id,
            Enrollment.course_id.in_(terms.get("courses", [])),
            Enrollment.ended_at.is_(None),
        )
        .correlate(BatchRow)
    )


def forecast(batch: Batch, terms: Mapping[str, Any], *, by: User) -> dict[str, int]:
    """Outcome → how many rows would have it if `by` said yes to these terms now; in one statement."""
    alike = (
        select(
            User.role,
            User.status,
            User.listed,
            (User.id == by.id).label("asker"),
            User.blocked_at.is_not(None).label("blocked"),
            _there(batch, terms).label("there"),
            _listed_by_lms(batch, terms).label("by_lms"),
        )
        .select_from(BatchRow)
        .outerjoin(User, (User.id == BatchRow.user_id) & (User.account_id == batch.account_id))
        .where(BatchRow.batch_id == batch.id)
        .subquery()
    )
    counts: Counter[str] = Counter()
    for row in db.session.execute(select(*alike.c, func.count().label("rows")).group_by(*alike.c)):
        if row.role is None:
            counts["gone"] += row.rows
            continue
        # Nobody in particular: somebody like them.
        somebody = User(
            id=by.id if row.asker else 0,
            account_id=batch.account_id,
            role=row.role,
            status=row.status,
            listed=row.listed,
            blocked_at=now() if row.blocked else None,
        )
        outcome = judge(batch.deed, terms, by, somebody, row.there)
        counts[outcome or ("removed_returns" if row.by_lms else DONE[batch.deed])] += row.rows
    return dict(counts)


# --- doing -------------------------------------------------------------------------------


def do_part(batch: Batch, mails: Mails) -> bool:
    """Do the next part of a claimed batch, in the caller's transaction; is anything left?"""
    by = batch.by
    if by is None or not access.can_change_many(by):
        # Whoever asked was deleted, or lost the right, in between.
        batches.refuse_rest(batch, "asker")
    elif batch.stalls > batches.MOST_STALLS:
        batches.refuse_rest(batch, "broken")
    elif batch.deed is Deed.INVITE:
        # Set by set rather than row by row: the whole list is one part.
        mass_invitations.invite_waiting(batch, lifetime=mails.lifetime, public_url=mails.public_url)
    else:
        _do_rows(batch, batches.waiting_rows(batch, PART), by, mails)
    return not batches.note_part(batch)


def _do_rows(batch: Batch, rows: Sequence[BatchRow], by: User, mails: Mails) -> None:
    if batch.deed in (Deed.DELETE, Deed.CHANGE_ROLE):
        # Before any person is locked, as whoever deletes one person does.
        one = select(Account.id).where(Account.id == batch.account_id)
        db.session.execute(one.with_for_update(key_share=True))
    users = {
        user.id: user
        for user in db.session.scalars(
            select(User)
            .where(
                User.account_id == batch.account_id,
                User.id.in_([row.user_id for row in rows]),
                # Whoever was merged into somebody else meanwhile is not there any more.
                User.merged_into_id.is_(None),
            )
            .order_by(User.id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    }
    there = _places(batch, rows)
    courses = directory.find_courses(batch.account_id, batch.terms.get("courses", []))
    ends = time.monotonic() + PART_SECONDS
    for row in rows:
        user, terms = users.get(row.user_id or 0), batch.terms_of(row)
        outcome, changed = judge(batch.deed, terms, by, user, there[row.number]) if user else "gone", None
        if user is not None and not outcome:
            outcome, changed = _do(batch.deed, _Turn(user, by, terms, courses, mails))
        row.outcome, row.changed = outcome, changed
        if time.monotonic() > ends:
            return


def _places(batch: Batch, rows: Sequence[BatchRow]) -> dict[int, int]:
    """Row number → in how many of the courses its person is already."""
    if batch.deed not in IN_COURSES or batch.undoes_id is not None:
        return {row.number: 0 for row in rows}
    numbers = [row.number for row in rows]
    found = db.session.execute(
        select(BatchRow.number, _there(batch, batch.terms).label("there")).where(
            BatchRow.batch_id == batch.id, BatchRow.number.in_(numbers)
        )
    )
    return {row.number: row.there for row in found}


@dataclass(frozen=True)
class _Turn:
    """One person's turn."""

    user: User
    by: User
    terms: Mapping[str, Any]
    courses: Sequence[Course]
    mails: Mails


def _do(deed: Deed, turn: _Turn) -> Outcome:
    """The outcome, and what was changed so that it can be taken back."""
    try:
        # What is refused half-way leaves nothing behind, and the others go on.
        with db.session.begin_nested():
            return _DEEDS[deed](turn)
    except LastOwner:
        return "last_owner", None
    except IntegrityError:
        # Somebody else did the same to the same person in this very moment.
        return "moved_on", None


def _invite_again(turn: _Turn) -> Outcome:
    invitations.resend(turn.user, by=turn.by, lifetime=turn.mails.lifetime, public_url=turn.mails.public_url)
    return "mailed", None


def _add_to_courses(turn: _Turn) -> Outcome:
    if "enrollments" in turn.terms:
        return _bring_back(turn)
    if not turn.courses:
        return "course_gone", None
    role = Role(turn.terms["role"])
    before = _enrollments(turn)
    was_in = {held.course_id for held in before if held.ended_at is None}
    memory = {held.id: _state(held) for held in before}
    role_before = turn.user.role
    new = {course.id for course in turn.courses if people.add_to_course(turn.user, course, role, by=turn.by)}
    if not new:
        return "already", None
    changed: dict[str, Any] = {"enrollments": _difference(turn, memory)}
    if turn.user.role is not role_before:
        # Who teaches a course is an instructor in the account too.
        changed |= {"role": role_before, "was": turn.user.role}
    return "raised" if new <= was_in else "added", changed


def _remove_from_courses(turn: _Turn) -> Outcome:
    if "enrollments" in turn.terms:
        return _bring_back(turn)
    if not turn.courses:
        return "course_gone", None
    memory = {held.id: _state(held) for held in _enrollments(turn)}
    returns = [people.remove_from_course(turn.user, course, by=turn.by) for course in turn.courses]
    return "removed_returns" if any(returns) else "removed", {"enrollments": _difference(turn, memory)}


def _change_role(turn: _Turn) -> Outcome:
    user, before, made_by = turn.user, turn.user.role, turn.user.made_admin_by_id
    people.change_role(user, Role(turn.terms["role"]), by=turn.by)
    user.made_admin_by_id = turn.terms.get("made_admin_by")
    return "changed", {"role": before, "was": user.role, "made_admin_by": made_by}


def _delete(turn: _Turn) -> Outcome:
    people.erase(turn.user, by=turn.by)
    return "deleted", None


_DEEDS: dict[Deed, Callable[[_Turn], Outcome]] = {
    Deed.INVITE_AGAIN: _invite_again,
    Deed.ADD_TO_COURSE: _add_to_courses,
    Deed.REMOVE_FROM_COURSE: _remove_from_courses,
    Deed.CHANGE_ROLE: _change_role,
    Deed.DELETE: _delete,
}


# --- what changed in courses, and taking it back -----------------------------------------


def _enrollments(turn: _Turn) -> Sequence[Enrollment]:
    """Every reason, ended ones included, why the person is or was in the courses."""
    return db.session.scalars(
        select(Enrollment)
        .where(
            Enrollment.account_id == turn.user.account_id,
            Enrollment.user_id == turn.user.id,
            Enrollment.course_id.in_([course.id for course in turn.courses]),
        )
        .execution_options(populate_existing=True)
    ).all()


def _state(held: Enrollment) -> list[Any]:
    """What of an enrollment a bulk change may change: role, and whether it goes on."""
    return [held.role.value, held.ended_at is None]


def _difference(turn: _Turn, before: Mapping[int, Any]) -> list[Any]:
    """[id, state before, state after] of each enrollment that changed; a new one was ended before."""
    db.session.flush()
    found = [(held.id, _state(held)) for held in _enrollments(turn)]
    return [
        [one, before.get(one, [after[0], False]), after] for one, after in found if before.get(one) != after
    ]


def _bring_back(turn: _Turn) -> Outcome:
    """Set enrollments back to what they were; one that somebody changed since is left alone."""
    held = {
        one.id: one
        for one in db.session.scalars(
            select(Enrollment).where(
                Enrollment.account_id == turn.user.account_id,
                Enrollment.user_id == turn.user.id,
                Enrollment.id.in_([one for one, _, _ in turn.terms["enrollments"]]),
            )
        )
    }
    changed: list[Any] = []
    for one, (role, active), left in turn.terms["enrollments"]:
        if one not in held or _state(held[one]) != left:
            continue
        # Without its digest the LMS's next word about them counts as news.
        held[one].role, held[one].digest = Role(role), None
        held[one].ended_at = None if active else now()
        changed.append([one, left, [role, active]])
        audit.record(
            turn.user.account_id,
            "enrollment.added" if active else "enrollment.ended",
            f"user:{turn.user.id}",
            by=turn.by,
            after={"course": held[one].course_id, "role": role},
        )
    if not changed:
        return "moved_on", None
    memory: dict[str, Any] = {"enrollments": changed}
    if "was" in turn.terms and turn.user.role is Role(turn.terms["was"]):
        memory |= {"role": turn.terms["was"], "was": turn.terms["role"]}
        people.change_role(turn.user, Role(turn.terms["role"]), by=turn.by)
    return "restored", memory
