"""Rosters when two ask at once, workers die, and people launch while a list is read."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import test_roster_sync
from flask import Flask
from sqlalchemy import func, select
from test_roster_sync import Stage, Work

from lti_tool import jobs
from lti_tool.classroom import reconcile, syncs
from lti_tool.classroom.courses import Context, Course
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db, now

# Fixtures are found by their names here.
stage = test_roster_sync.stage


# --- workers -----------------------------------------------------------------------------


def test_two_who_ask_at_once_get_one_sync(stage: Stage) -> None:
    with stage.app.app_context():
        course = db.session.get_one(Course, stage.course_id)
        first = syncs.ask_for_sync(course).id
        db.session.commit()
        assert syncs.ask_for_sync(course).id == first
        db.session.commit()
        assert db.session.scalar(select(func.count(SyncRun.id))) == 1


def test_a_sync_whose_worker_died_is_run_again_and_given_up_after_three_times(
    stage: Stage, move_clock: Callable[[timedelta], None]
) -> None:
    with stage.app.app_context():
        run_id = syncs.ask_for_sync(db.session.get_one(Course, stage.course_id)).id
        db.session.commit()
    for attempt in (1, 2, 3):
        with stage.app.app_context():
            claimed = syncs.claim_next()
            assert claimed is not None
            assert claimed.attempts == attempt
            db.session.commit()
            syncs.recover(alone=False)
            db.session.commit()
            assert stage.run(run_id).state is SyncState.RUNNING
        move_clock(timedelta(minutes=6))
        with stage.app.app_context():
            syncs.recover(alone=False)
            db.session.commit()
    run = stage.run(run_id)
    assert (run.state, run.error) == (SyncState.FAILED, "worker_lost")


def test_a_worker_that_was_given_up_writes_nothing_any_more(
    stage: Stage, move_clock: Callable[[timedelta], None]
) -> None:
    with stage.app.app_context():
        syncs.ask_for_sync(db.session.get_one(Course, stage.course_id))
        db.session.commit()
        slow = syncs.claim_next()
        assert slow is not None
        slow_id, attempt = slow.id, slow.attempts
        db.session.commit()
    move_clock(timedelta(minutes=6))
    with stage.app.app_context():
        syncs.recover(alone=False)
        assert syncs.claim_next() is not None
        db.session.commit()
        before = stage.people()
        jobs.run_sync(slow_id, attempt)
    assert stage.people() == before
    assert stage.run(slow_id).state is SyncState.RUNNING


def test_somebody_who_launches_while_the_list_is_read_is_not_ended_by_it(stage: Stage) -> None:
    """The list was made before the LMS enrolled them."""
    with stage.app.app_context():
        syncs.ask_for_sync(db.session.get_one(Course, stage.course_id))
        db.session.commit()
        run = syncs.claim_next()
        assert run is not None
        run_id, attempt = run.id, run.attempts
        db.session.commit()
    stage.launch("designer")
    assert not stage.lms.is_enrolled("geology", "designer")
    with stage.app.app_context():
        jobs.run_sync(run_id, attempt)
    assert stage.people()["Dora Novák"] == ("instructor", True)
    stage.sync()
    assert stage.people()["Dora Novák"][1] is False


def test_a_course_that_goes_while_its_list_is_read_leaves_nothing_behind(stage: Stage) -> None:
    with stage.app.app_context():
        syncs.ask_for_sync(db.session.get_one(Course, stage.course_id))
        db.session.commit()
        run = syncs.claim_next()
        assert run is not None
        run_id, attempt = run.id, run.attempts
        db.session.commit()
        jobs_fetch_then_delete(run_id, attempt, stage.course_id)
        assert db.session.scalar(select(func.count(SyncRun.id))) == 0


def jobs_fetch_then_delete(run_id: int, attempt: int, course_id: int) -> None:
    db.session.delete(db.session.get_one(Course, course_id))
    db.session.commit()
    assert syncs.still_mine(run_id, attempt) is None
    db.session.rollback()


def test_what_a_lost_bell_left_queued_the_sweep_runs(stage: Stage, work: Work) -> None:
    with stage.app.app_context():
        run_id = syncs.ask_for_sync(db.session.get_one(Course, stage.course_id)).id
        db.session.commit()
        jobs.sweep()
    run = stage.run(run_id)
    assert run.state is SyncState.APPLIED
    assert run.finished_at is not None
    assert run.finished_at <= now()


def in_threads(app: Flask, *deeds: Callable[[], None]) -> None:
    """Do all at once, each with a session of its own."""
    ready = threading.Barrier(len(deeds))

    def run(deed: Callable[[], None]) -> None:
        with app.app_context():
            ready.wait(20)
            deed()

    with ThreadPoolExecutor(len(deeds)) as pool:
        for begun in [pool.submit(run, deed) for deed in deeds]:
            begun.result(60)


def test_four_who_press_at_the_same_moment_get_one_sync(stage: Stage) -> None:
    found: set[int] = set()

    def press() -> None:
        found.add(syncs.ask_for_sync(db.session.get_one(Course, stage.course_id)).id)
        db.session.commit()

    in_threads(stage.app, press, press, press, press)
    assert len(found) == 1


def test_two_workers_run_a_sync_once(stage: Stage) -> None:
    with stage.app.app_context():
        run_id = syncs.ask_for_sync(db.session.get_one(Course, stage.course_id)).id
        db.session.commit()
    done: list[int] = []
    in_threads(stage.app, *[lambda: done.append(jobs.run_queued_syncs())] * 3)
    assert sorted(done) == [0, 0, 1]
    assert stage.run(run_id).state is SyncState.APPLIED
    assert stage.run(run_id).attempts == 1


def test_a_first_launch_in_the_moment_of_writing_makes_the_sync_read_again(stage: Stage) -> None:
    """On PostgreSQL both see that Sam is new; on SQLite one waits for the other."""
    launched = threading.Event()
    held_rows = reconcile.held_rows

    def slowly(context: Context) -> Any:
        rows = held_rows(context)
        if db.engine.dialect.name == "postgresql" and not launched.is_set():
            with ThreadPoolExecutor() as pool:
                pool.submit(stage.launch, "sam").result(30)
            launched.set()
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconcile, "held_rows", slowly)
        run = stage.sync()
    assert run.state is SyncState.APPLIED
    assert run.attempts == (2 if launched.is_set() else 1)
    assert stage.people()["Sam Rivera"] == ("student", True)
