"""What the clock and the queue start: due mail, due syncs, housekeeping (Huey).

Rows in the database are the work; a queued task is only the doorbell. A sweep each minute finds what a
lost bell or a crash left behind, so nothing depends on the queue's memory.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask, current_app
from huey import RedisHuey, SqliteHuey, crontab
from huey.api import Huey
from huey.consumer import Consumer
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from lti_tool import database, delivery, logs, mail
from lti_tool.classroom import (
    batches,
    bulk,
    checkups,
    doctor,
    linking,
    people,
    reminders,
    retention,
    rooms,
    sessions,
    syncs,
    unmerging,
)
from lti_tool.classroom.accounts import Connection
from lti_tool.classroom.checkups import Finding, Kind
from lti_tool.classroom.courses import Context, Course
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db
from lti_tool.lti import handshake, keys
from lti_tool.lti.memberships import PageSeen, Roster, RosterIncomplete, fetch_roster
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.mail import OutboxMail

# Members asked for at once; platforms that give fewer at most do so.
PAGE = 1000
# Seconds between two parts of a bulk change, long enough for whoever waits for SQLite's lock to find it free.
BREATH = 0.1
# Seconds for which a sweep may forget what is too old.
FORGET_SECONDS = 20
# Seconds between two notes of how far a fetch has come.
NOTED_EVERY = 0.25


def init_app(app: Flask) -> None:
    """Give `app` its queue, its tasks and the doorbells that commits ring."""
    huey = _make_queue(app)
    app.extensions["huey"] = huey

    def in_app(work: Any) -> Any:
        def task() -> None:
            with app.app_context():
                work()

        return task

    mails = huey.task(name="deliver_mail")(in_app(deliver_due_mail))
    rosters = huey.task(name="run_syncs")(in_app(run_queued_syncs))
    checks = huey.task(name="run_checks")(in_app(run_queued_checks))
    changes = huey.task(name="run_batches")(in_app(run_queued_batches))
    huey.periodic_task(crontab(), name="sweep")(in_app(sweep))
    app.extensions["doorbells"] = {"mail": mails, "rosters": rosters, "checks": checks, "batches": changes}


def _make_queue(app: Flask) -> Huey:
    if app.config["REDIS_URL"]:
        return RedisHuey("doorlist", url=app.config["REDIS_URL"], results=False)
    url = make_url(app.config["DATABASE_URL"])
    if app.config["QUEUE_FILE"]:
        file = Path(app.config["QUEUE_FILE"])
    elif url.get_backend_name() == "sqlite" and url.database:
        # As Flask-SQLAlchemy reads the same setting: relative means inside the instance folder.
        file = Path(app.instance_path) / f"{url.database}-queue"
    else:
        file = Path(app.instance_path) / "queue.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    return SqliteHuey("doorlist", filename=str(file), results=False)


def make_consumer(app: Flask) -> Consumer:
    """The worker: takes tasks from the queue and keeps the clock."""
    return Consumer(app.extensions["huey"], workers=3, initial_delay=0.05, backoff=1.2, max_delay=0.5)


def take_over(app: Flask) -> None:
    """At a worker's start: what died with the one before it is due again.

    On the embedded queue there is only one worker, so everything unfinished is a leftover.
    """
    with app.app_context():
        alone = not app.config["REDIS_URL"]
        syncs.recover(alone=alone)
        if alone:
            mail.release_claims()
            checkups.recover()
            batches.recover()
        db.session.commit()
        for ring in app.extensions["doorbells"].values():
            ring()


def run_due() -> None:
    """Everything that is due, now and here, until nothing is."""
    deliver_due_mail()
    run_queued_syncs()
    run_queued_checks()
    run_queued_batches()
    # What a bulk change wrote.
    deliver_due_mail()


def deliver_due_mail() -> int:
    """Deliver what is due, one claim at a time; how many were accepted."""
    accepted = 0
    while True:
        row = mail.claim_due()
        if row is None:
            db.session.commit()
            return accepted
        row_id, sealed, message_id = row.id, row.sealed, row.message_id
        # The mail server may take its time: no transaction is open meanwhile.
        db.session.commit()
        outcome = delivery.deliver(sealed, message_id)
        row = db.session.get_one(OutboxMail, row_id)
        mail.settle(row, outcome)
        kind, about = row.kind, row.about
        db.session.commit()
        accepted += not outcome.error
        logs.event("mail", kind=kind, about=about, error=outcome.error)


def run_queued_syncs() -> int:
    """Run every queued sync; how many there were."""
    done = 0
    while True:
        run = syncs.claim_next()
        claimed = (run.id, run.attempts) if run else None
        db.session.commit()
        if claimed is None:
            return done
        run_sync(*claimed)
        done += 1


def run_sync(run_id: int, attempt: int) -> None:
    """Fetch the whole list, then apply the difference in one transaction, or note why not."""
    run = db.session.get_one(SyncRun, run_id)
    roster = Roster([], [])
    error = ""
    if not syncs.is_approved(run.context):
        error = "deployment_not_approved"
    else:
        try:
            known = syncs.known_pages(run.context)
            roster = _fetch(run.context, known, on_page=_Progress(run_id, attempt))
        except (PlatformUnavailable, RosterIncomplete) as failure:
            error = str(failure)
    # Nothing read before the fetch is believed after it.
    db.session.rollback()
    try:
        state = _end_sync(run_id, attempt, roster, error)
        db.session.commit()
    except (IntegrityError, OperationalError):
        # Somebody on the list launched for the first time in this very moment, or locked the same rows.
        db.session.rollback()
        again = syncs.still_mine(run_id, attempt)
        if again is not None:
            syncs.try_again(again, "too_busy")
        state = again.state if again else None
        db.session.commit()
    logs.event("sync", run=run_id, state=state, pages=len(roster.pages), error=error)


def _end_sync(run_id: int, attempt: int, roster: Roster, error: str) -> SyncState | None:
    run = syncs.still_mine(run_id, attempt)
    if run is None:
        # Taken for dead and given to another worker, or its course is gone.
        return None
    if error:
        syncs.fail(run, error)
    else:
        syncs.finish(run, roster, **_brake())
    return run.state


def _fetch(
    context: Context, known: Sequence[PageSeen] = (), on_page: Callable[[int, int], None] | None = None
) -> Roster:
    url, link = context.memberships_url, context.resource_link_id
    registration = context.deployment.registration
    db.session.expunge(registration)
    # The key we sign with must be published before a platform looks for it.
    keys.current_key()
    # Neither a lock nor a snapshot is held while a platform takes its time.
    db.session.commit()
    with database.read_only():
        roster = fetch_roster(
            registration, url, resource_link_id=link or None, limit=PAGE, known=known, on_page=on_page
        )
        db.session.rollback()
    return roster


class _Progress:
    """Notes how far a fetch has come, for the page that waits; now and then, since a commit is not free."""

    def __init__(self, run_id: int, attempt: int) -> None:
        self.run_id, self.attempt = run_id, attempt
        self.noted_at = -NOTED_EVERY

    def __call__(self, pages: int, members: int) -> None:
        if time.monotonic() - self.noted_at < NOTED_EVERY:
            return
        database.begin_reading(False)
        db.session.rollback()
        syncs.note_progress(self.run_id, self.attempt, pages, members)
        db.session.commit()
        database.begin_reading(True)
        self.noted_at = time.monotonic()


def _brake() -> dict[str, Any]:
    return {
        "share": current_app.config["BRAKE_SHARE"],
        "minimum": current_app.config["BRAKE_MINIMUM"],
    }


def sweep() -> None:
    """Each minute: what a crash left behind is due again, what is over is forgotten."""
    syncs.recover(alone=False)
    rooms.close_silent(timedelta(seconds=current_app.config["PRESENCE_SECONDS"]))
    sessions.sweep()
    linking.sweep()
    for done in unmerging.over():
        people.erase(unmerging.settle(done), by=None)
    handshake.sweep()
    checkups.ask_due()
    batches.sweep()
    renewed = keys.rotate_if_due(current_app.config["KEY_DAYS"])
    kid = renewed.kid if renewed else ""
    reminders.remind(
        current_app.config["INVITATION_REMINDER_DAYS"], public_url=current_app.config["PUBLIC_URL"]
    )
    db.session.commit()
    if kid:
        logs.event("key_rotated", kid=kid)
    run_due()
    forget_due()


def forget_due() -> int:
    """Forget what accounts no longer keep, a part in each transaction; in how many parts.

    What is left when the time is over waits for the next sweep: mail and syncs do not stand behind it.
    """
    until = time.monotonic() + FORGET_SECONDS
    parts = 0
    while time.monotonic() < until and retention.forget_next():
        db.session.commit()
        parts += 1
    db.session.commit()
    return parts


# --- checks of LMSs ----------------------------------------------------------------------


def run_queued_checks() -> int:
    """Run every check that was asked for; how many there were."""
    done = 0
    while True:
        checkup = checkups.claim_next()
        claimed = (checkup.connection_id, checkup.attempts) if checkup else None
        lost = checkup is not None and checkups.is_lost(checkup)
        db.session.commit()
        if claimed is None:
            return done
        run_check(*claimed, lost=lost)
        done += 1


def run_check(connection_id: int, attempt: int, *, lost: bool = False) -> None:
    """Ask the platform, look at what is here, and keep what was found."""
    found = [Finding("check_lost", Kind.LOOK)] if lost else []
    connection = None if lost else db.session.get(Connection, connection_id)
    if connection is not None:
        found = examine(connection, partial(_note_step, connection_id, attempt))
    kept = checkups.finish(connection_id, attempt, found)
    db.session.commit()
    if kept:
        logs.event("check", connection=connection_id, codes=[one.code for one in found])


def examine(connection: Connection, on_step: Callable[[str], None] = lambda step: None) -> list[Finding]:
    """Everything the doctor finds at an LMS of an account, asked now."""
    connection_id = connection.id
    patient = doctor.prepare(connection)
    # Neither a lock nor a snapshot is held while a platform takes its time.
    db.session.commit()
    with database.read_only():
        found = doctor.ask_platform(patient, on_step)
        db.session.rollback()
    still = db.session.get(Connection, connection_id)
    return doctor.sum_up(found + doctor.look_here(still)) if still is not None else []


def _note_step(connection_id: int, attempt: int, step: str) -> None:
    database.begin_reading(False)
    db.session.rollback()
    checkups.note_step(connection_id, attempt, step)
    db.session.commit()
    database.begin_reading(True)


# --- deeds done to many people -----------------------------------------------------------


def run_queued_batches() -> int:
    """Work through every bulk change that somebody said yes to; how many there were."""
    done = 0
    while True:
        batch = batches.claim_next()
        claimed = (batch.id, batch.attempts) if batch else None
        db.session.commit()
        if claimed is None:
            return done
        run_batch(*claimed)
        done += 1


def run_batch(batch_id: int, attempt: int) -> None:
    """Part after part, each in a transaction of its own, until it is done or stopped."""
    try:
        while _run_part(batch_id, attempt):
            # SQLite has one writer: between two parts others get their turn, launches above all.
            if db.engine.dialect.name == "sqlite":
                time.sleep(BREATH)
    except (IntegrityError, OperationalError):
        # Somebody locked the same people the other way round.
        db.session.rollback()
        batches.release(batch_id, attempt)
        db.session.commit()
        logs.event("batch", batch=batch_id, error="too_busy")


def _run_part(batch_id: int, attempt: int) -> bool:
    """Do one part; is there another?"""
    batch = batches.still_mine(batch_id, attempt)
    if batch is None:
        # Stopped, or taken for dead and given to another worker.
        db.session.rollback()
        return False
    lifetime = timedelta(days=current_app.config["INVITATION_DAYS"])
    more = bulk.do_part(batch, bulk.Mails(lifetime, current_app.config["PUBLIC_URL"]))
    outcomes = batch.outcomes
    db.session.commit()
    if not more:
        logs.event("batch", batch=batch_id, outcomes=outcomes)
    return more


# --- previews and results of syncs -------------------------------------------------------


def preview_sync(course: Course) -> dict[str, Any]:
    """What a sync of `course` would do now, done in a transaction that is taken back.

    Raises SyncImpossible.
    """
    context = syncs.asked_context(course)
    run = SyncRun(
        account_id=course.account_id, course_id=course.id, context_id=context.id, state=SyncState.HELD
    )
    try:
        roster = _fetch(context)
        db.session.add(run)
        db.session.flush()
        syncs.finish(run, roster, **_brake())
    except (PlatformUnavailable, RosterIncomplete) as failure:
        syncs.fail(run, str(failure))
    result = sync_result(run)
    db.session.rollback()
    return result


def sync_result(run: SyncRun) -> dict[str, Any]:
    """A sync's outcome in the shape that commands print."""
    receipt = run.receipt or {}
    return {
        "state": run.state.value,
        "added": len(receipt.get("added", [])),
        "changed": len(receipt.get("changed", [])),
        "ended": len(receipt.get("ended", [])),
        "kept": receipt.get("kept", 0),
        "skipped": [{"subject": s[0], "reason": s[2]} for s in receipt.get("skipped", [])],
        "error": run.error or None,
    }
