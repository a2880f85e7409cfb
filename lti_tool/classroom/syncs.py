"""Syncs: keeping a course's roster in step with its LMS.

A sync is all pages first, then a difference, then one transaction. A fetch that is not complete changes
nothing; the same roster twice writes nothing; a sync that would end many waits for a person's yes.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, Select, func, select, text, update
from sqlalchemy.orm import Mapped, aliased, mapped_column, relationship

from lti_tool.classroom import audit, receipts, reconcile, role_changes
from lti_tool.classroom.accounts import Connection, User, stored
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.classroom.difference import SyncPlan, plan_sync, read_members
from lti_tool.classroom.role_maps import policy_of
from lti_tool.classroom.roster import find_connection_of
from lti_tool.database import Base, db, insert, is_id, now, ring
from lti_tool.lti.memberships import PageSeen, Roster
from lti_tool.lti.registrations import Deployment, Registration

# A run that said nothing for this long has lost its worker. One page may take three minutes, with its
# second and third try and a platform that asks for patience (lti/memberships.py).
SILENT_AFTER = timedelta(minutes=5)
MAX_ATTEMPTS = 3


class SyncState(StrEnum):
    """Where a sync stands; all but the first two are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    # A held one that somebody said no, or yes to; after a yes a new run reads the list again.
    REFUSED = "refused"
    CONFIRMED = "confirmed"
    UNDONE = "undone"


BUSY = (SyncState.QUEUED, SyncState.RUNNING)


class SyncImpossible(Exception):
    """The course has no roster to ask for: no LMS course, or the LMS offers no such service."""


class SyncNotHeld(Exception):
    """The sync does not wait for an answer (any more)."""


class NothingToUndo(Exception):
    """Only the newest applied sync of an LMS course can be undone, while no other is under way."""


class SyncRun(Base):
    """One sync of one LMS course's roster: asked for, run, and its receipt."""

    __tablename__ = "sync_run"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "course_id"], ["course.account_id", "course.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["context_id", "course_id"],
            ["context.id", "context.course_id"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
        Index("ix_sync_run_course", "course_id", "id"),
        Index("ix_sync_run_context", "context_id", "id"),
        Index("ix_sync_run_at", "account_id", "created_at"),
        # One sync at a time of each LMS course.
        Index(
            "uq_sync_run_busy",
            "context_id",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    course_id: Mapped[int]
    context_id: Mapped[int]
    state: Mapped[SyncState] = mapped_column(stored(SyncState), default=SyncState.QUEUED)
    asked_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    # Written while it runs; silence means that the worker died.
    seen_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    pages: Mapped[int] = mapped_column(default=0)
    members: Mapped[int] = mapped_column(default=0)
    # How many of them came without a name, and without an address.
    nameless: Mapped[int] = mapped_column(default=0)
    mailless: Mapped[int] = mapped_column(default=0)
    # A person's yes to a held sync: as many enrollments may be ended.
    may_end: Mapped[int] = mapped_column(default=0)
    # Code and safe facts, for example "roster_refused status 500 page 2".
    error: Mapped[str] = mapped_column(default="")
    receipt: Mapped[Any | None] = mapped_column(JSON)
    # What was there before, for undo.
    before: Mapped[Any | None] = mapped_column(JSON, deferred=True)
    # What this run read and left behind: if both are the same again, nothing need be read.
    footprint: Mapped[Any | None] = mapped_column(JSON, deferred=True)

    context: Mapped[Context] = relationship(
        foreign_keys="SyncRun.context_id", primaryjoin="SyncRun.context_id == Context.id"
    )
    asked_by: Mapped[User | None] = relationship()

    @property
    def busy(self) -> bool:
        """Still to be run, or running?"""
        return self.state in BUSY


# --- asking ------------------------------------------------------------------------------


def asked_contexts(course: Course) -> list[Context]:
    """The LMS courses whose lists a sync reads, the one launched last in front. Raises SyncImpossible."""
    contexts = list(
        db.session.scalars(
            select(Context)
            .where(Context.course_id == course.id, Context.memberships_url != "")
            .order_by(Context.last_launch_at.desc(), Context.id)
        )
    )
    if not contexts:
        raise SyncImpossible
    return contexts


def asked_context(course: Course) -> Context:
    """The first of `asked_contexts`: all there is, but for courses that several LMS courses share."""
    return asked_contexts(course)[0]


def ask_for_sync(course: Course, *, by: User | None = None) -> SyncRun:
    """Queue a sync of each LMS course behind `course`, or find those under way; the first of them.

    Raises SyncImpossible.
    """
    first, *others = asked_contexts(course)
    run = _queue(first, by=by)
    for context in others:
        _queue(context, by=by)
    return run


def _queue(context: Context, *, by: User | None, may_end: int = 0) -> SyncRun:
    busy = select(SyncRun).where(SyncRun.context_id == context.id, SyncRun.state.in_(BUSY))
    while True:
        # Of two who ask at once, one writes the row and both get it.
        db.session.execute(
            insert(SyncRun)
            .values(
                account_id=context.account_id,
                course_id=context.course_id,
                context_id=context.id,
                state=SyncState.QUEUED,
                asked_by_id=by.id if by else None,
                may_end=may_end,
                created_at=now(),
                attempts=0,
                pages=0,
                members=0,
                nameless=0,
                mailless=0,
                error="",
            )
            .on_conflict_do_nothing()
        )
        run = db.session.scalar(busy)
        # None: the one that was in the way has ended this very moment.
        if run is not None:
            run.may_end = max(run.may_end, may_end)
            ring("rosters")
            return run


def answer_held(run: SyncRun, yes: bool, *, by: User) -> SyncRun | None:
    """A person's word on a held sync. Yes reads the list anew and may end as many. Raises SyncNotHeld."""
    db.session.refresh(run, with_for_update=True)
    newer = select(SyncRun.id).where(SyncRun.context_id == run.context_id, SyncRun.id > run.id)
    if run.state is not SyncState.HELD or db.session.scalar(newer.limit(1)) is not None:
        raise SyncNotHeld
    run.state = SyncState.CONFIRMED if yes else SyncState.REFUSED
    audit.record(run.account_id, "roster.answered", f"course:{run.course_id}", by=by, after={"yes": yes})
    if not yes:
        return None
    return _queue(run.context, by=by, may_end=len(run.receipt["ended"]) if run.receipt else 0)


def undo_sync(run: SyncRun, *, by: User) -> None:
    """Bring back what the newest applied sync changed. Raises NothingToUndo."""
    db.session.refresh(run, with_for_update=True)
    newest = latest_in_force(run.context_id)
    if run.state is not SyncState.APPLIED or newest is None or newest.id != run.id or not run.before:
        raise NothingToUndo
    if db.session.scalar(
        select(SyncRun.id).where(SyncRun.context_id == run.context_id, SyncRun.state.in_(BUSY))
    ):
        raise NothingToUndo
    reconcile.take_back(run.account_id, run.before)
    connection = find_connection_of(run.context.deployment_id)
    if connection is not None and connection.account_id == run.account_id:
        role_changes.read_again(connection)
    run.state = SyncState.UNDONE
    audit.record(run.account_id, "roster.undone", f"course:{run.course_id}", by=by)


# --- finding -----------------------------------------------------------------------------


def find_run(course: Course, run_id: int) -> SyncRun | None:
    """A sync of this course; another course's is None."""
    return db.session.scalar(select(SyncRun).filter_by(course_id=course.id, id=run_id))


def latest_run(course: Course) -> SyncRun | None:
    """The newest sync of the course, whatever became of it."""
    return db.session.scalar(
        select(SyncRun).filter_by(course_id=course.id).order_by(SyncRun.id.desc()).limit(1)
    )


def latest_in_force(context_id: int) -> SyncRun | None:
    """The newest sync of an LMS course after which the roster is as it is."""
    return db.session.scalars(_newest_in_force(context_id)).one_or_none()


def _newest_in_force(context_id: int) -> Select[Any]:
    ends = (SyncState.APPLIED, SyncState.UNCHANGED, SyncState.UNDONE)
    return (
        select(SyncRun)
        .where(SyncRun.context_id == context_id, SyncRun.state.in_(ends))
        .order_by(SyncRun.id.desc())
        .limit(1)
    )


def earlier_runs(course: Course, *, before: int | None = None, limit: int = 25) -> list[SyncRun]:
    """The course's latest syncs, or those before one of them, newest first."""
    query = select(SyncRun).filter_by(course_id=course.id).order_by(SyncRun.id.desc()).limit(limit)
    return list(db.session.scalars(query.where(SyncRun.id < before) if before and is_id(before) else query))


class Standing(NamedTuple):
    """How the list of one LMS course stands: its newest sync, None if there was none."""

    context: Context
    registration: Registration
    run: SyncRun | None


def standings(course: Course) -> list[Standing]:
    """Each LMS course behind `course`, in one statement."""
    other = aliased(SyncRun)
    newest = select(db.func.max(other.id)).where(other.context_id == Context.id).correlate(Context)
    rows = db.session.execute(
        select(Context, Registration, SyncRun)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .join(Registration, Registration.id == Deployment.registration_id)
        .outerjoin(SyncRun, SyncRun.id == newest.scalar_subquery())
        .where(Context.course_id == course.id)
        .order_by(Context.id)
    )
    return [Standing(*row) for row in rows]


# --- running -----------------------------------------------------------------------------


def claim_next() -> SyncRun | None:
    """Take the oldest queued run for this worker; the caller commits before it fetches."""
    chosen = (
        select(SyncRun.id)
        .where(SyncRun.state == SyncState.QUEUED)
        .order_by(SyncRun.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return db.session.scalar(
        update(SyncRun)
        .where(SyncRun.id == chosen, SyncRun.state == SyncState.QUEUED)
        .values(
            state=SyncState.RUNNING,
            started_at=now(),
            seen_at=now(),
            attempts=SyncRun.attempts + 1,
            pages=0,
            members=0,
        )
        .returning(SyncRun)
        .execution_options(populate_existing=True, synchronize_session=False)
    )


def still_mine(run_id: int, attempt: int) -> SyncRun | None:
    """The run, locked, if the worker that claimed it as `attempt` still has it."""
    run = db.session.get(SyncRun, run_id, with_for_update=True, populate_existing=True)
    mine = run is not None and run.state is SyncState.RUNNING and run.attempts == attempt
    return run if mine else None


def note_progress(run_id: int, attempt: int, pages: int, members: int) -> None:
    """How far the fetch has come; also the sign that its worker lives."""
    db.session.execute(
        update(SyncRun)
        .where(SyncRun.id == run_id, SyncRun.state == SyncState.RUNNING, SyncRun.attempts == attempt)
        .values(pages=pages, members=members, seen_at=now())
        .execution_options(synchronize_session=False)
    )


def is_approved(context: Context) -> bool:
    """Does the LMS course's deployment still belong to the account whose list this is?"""
    connection = find_connection_of(context.deployment_id)
    return connection is not None and connection.account_id == context.account_id


def fail(run: SyncRun, error: str) -> None:
    """The list did not come, or not whole: nothing was changed, and the page says so."""
    run.state, run.error, run.finished_at = SyncState.FAILED, error, now()


def try_again(run: SyncRun, error: str) -> None:
    """Somebody wrote the same rows in this very moment: read the list again, but not for ever."""
    if run.attempts >= MAX_ATTEMPTS:
        fail(run, error)
        return
    run.state = SyncState.QUEUED
    ring("rosters")


def known_pages(context: Context) -> list[PageSeen]:
    """The pages of the newest sync after which the roster is as it is."""
    _, _, footprint = _last_read(context.id)
    return [PageSeen(*page) for page in footprint["pages"]] if footprint else []


def _last_read(context_id: int) -> tuple[int, dict[str, Any], Any]:
    """Id, counts and footprint of `latest_in_force`, without its receipt, which may name thousands."""
    found = db.session.execute(
        _newest_in_force(context_id).with_only_columns(
            SyncRun.id, SyncRun.members, SyncRun.nameless, SyncRun.mailless, SyncRun.footprint
        )
    ).one_or_none()
    if found is None:
        return 0, {}, None
    one, members, nameless, mailless, footprint = found
    return one, {"members": members, "nameless": nameless, "mailless": mailless}, footprint


def finish(run: SyncRun, roster: Roster, *, share: float, minimum: int) -> SyncPlan:
    """With the whole list at hand: find the difference, ask the brake, write it. The caller commits."""
    context = run.context
    connection = find_connection_of(context.deployment_id)
    if connection is None or connection.account_id != context.account_id:
        fail(run, "deployment_not_approved")
        return SyncPlan()
    run.pages, members = len(roster.pages), roster.members
    if members is None:
        _finish_unread(run, connection)
        return SyncPlan()
    rows, skipped = read_members(members, policy_of(connection))
    plan = plan_sync(rows, skipped, reconcile.held_rows(context), asked_at=run.started_at)
    run.finished_at, run.members, run.error = now(), plan.listed, ""
    run.nameless = sum(not (one.name or one.given_name or one.family_name) for one in members)
    run.mailless = sum(not one.email for one in members)
    if plan.needs_yes(share=share, minimum=minimum, may_end=run.may_end):
        run.state = SyncState.HELD
    elif not plan.writes:
        run.state = SyncState.UNCHANGED
    else:
        run.before = reconcile.write(context, plan)
        run.state = SyncState.APPLIED
    renamed = run.before["renamed"] if run.state is SyncState.APPLIED and run.before else []
    run.receipt = receipts.write(run.course_id, plan, renamed)
    if run.state is SyncState.APPLIED and (plan.added or plan.changed or plan.ended):
        audit.record(
            run.account_id,
            "roster.synced",
            f"course:{run.course_id}",
            by=run.asked_by,
            source="lms",
            after={"added": len(plan.added), "changed": len(plan.changed), "ended": len(plan.ended)},
        )
    if run.state is not SyncState.HELD and not plan.newer:
        run.footprint = {
            "pages": roster.pages,
            "standing": _standing_now(context, connection),
            "skipped": plan.skipped,
        }
    return plan


def _finish_unread(run: SyncRun, connection: Connection) -> None:
    """The same pages as last time: nothing is different, if nothing here is."""
    last, counted, footprint = _last_read(run.context_id)
    standing = _standing_now(run.context, connection)
    if not footprint or footprint["standing"] != standing:
        # Somebody launched, was removed, or is read differently now: the list must be read after all.
        db.session.execute(update(SyncRun).where(SyncRun.id == last).values(footprint=None))
        try_again(run, "too_busy")
        return
    run.state, run.finished_at, run.error = SyncState.UNCHANGED, now(), ""
    run.members, run.nameless, run.mailless = counted["members"], counted["nameless"], counted["mailless"]
    run.footprint = footprint
    run.receipt = receipts.write_unchanged(run.course_id, footprint["skipped"], standing["stamped"])


def _standing_now(context: Context, connection: Connection) -> dict[str, Any]:
    """What a roster's meaning depends on here: how roles are read, and which enrollments it stamped."""
    active, stamped = db.session.execute(
        select(func.count(), func.count(Enrollment.digest)).where(
            Enrollment.context_id == context.id, Enrollment.ended_at.is_(None)
        )
    ).one()
    return {"active": active, "stamped": stamped, "policy": policy_of(connection).stamp}


def recover(*, alone: bool) -> None:
    """Queue again what dead workers left; all that runs, if this worker is `alone`."""
    silent = SyncRun.state == SyncState.RUNNING
    if not alone:
        silent &= SyncRun.seen_at < now() - SILENT_AFTER
    db.session.execute(
        update(SyncRun)
        .where(silent, SyncRun.attempts >= MAX_ATTEMPTS)
        .values(state=SyncState.FAILED, error="worker_lost", finished_at=now())
        .execution_options(synchronize_session=False)
    )
    db.session.execute(
        update(SyncRun)
        .where(silent, SyncRun.attempts < MAX_ATTEMPTS)
        .values(state=SyncState.QUEUED)
        .execution_options(synchronize_session=False)
    )
