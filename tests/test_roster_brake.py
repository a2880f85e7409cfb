"""The brake of a sync that would end many, and the undo of the last one."""

import pytest
import test_roster_sync
from test_roster_sync import Stage, add_students

from lti_tool.classroom.syncs import NothingToUndo, SyncNotHeld, SyncState

# Fixtures are found by their names here.
stage = test_roster_sync.stage


# --- the brake ---------------------------------------------------------------------------


@pytest.fixture
def braked(stage: Stage) -> tuple[Stage, int]:
    """23 people in step, 8 of whom left the list: the sync waits."""
    add_students(stage.lms, "geology", 20)
    stage.sync()
    for number in range(5000, 5008):
        stage.lms.withdraw("geology", str(number))
    run = stage.sync()
    assert run.state is SyncState.HELD
    return stage, run.id


def test_a_sync_that_would_end_many_waits_and_changes_nothing(braked: tuple[Stage, int]) -> None:
    stage, run_id = braked
    assert all(active for _, active in stage.people().values())
    receipt = stage.run(run_id).receipt
    assert receipt
    assert len(receipt["ended"]) == 8
    assert receipt["active_before"] == 23


def test_a_yes_ends_them(braked: tuple[Stage, int]) -> None:
    stage, run_id = braked
    stage.answer(run_id, yes=True)
    assert stage.newest().state is SyncState.APPLIED
    assert sum(not active for _, active in stage.people().values()) == 8
    with pytest.raises(SyncNotHeld):
        stage.answer(run_id, yes=False)


def test_a_yes_does_not_hold_for_more_than_it_was_said_for(braked: tuple[Stage, int]) -> None:
    stage, run_id = braked
    for number in range(5008, 5012):
        stage.lms.withdraw("geology", str(number))
    stage.answer(run_id, yes=True)
    assert stage.newest().state is SyncState.HELD
    assert all(active for _, active in stage.people().values())


def test_a_no_keeps_everybody(braked: tuple[Stage, int]) -> None:
    stage, run_id = braked
    stage.answer(run_id, yes=False)
    assert stage.newest().state is SyncState.REFUSED
    assert all(active for _, active in stage.people().values())


def test_a_newer_sync_takes_the_question_away(braked: tuple[Stage, int]) -> None:
    stage, run_id = braked
    stage.sync()
    with pytest.raises(SyncNotHeld):
        stage.answer(run_id, yes=True)


def test_an_empty_list_waits_however_small_the_course(stage: Stage) -> None:
    stage.sync()
    stage.lms.faults.roster = "empty"
    assert stage.sync().state is SyncState.HELD
    assert all(active for _, active in stage.people().values())


# --- undo --------------------------------------------------------------------------------


def test_undo_brings_back_what_was(stage: Stage) -> None:
    stage.launch("tess")
    stage.lms.enroll("geology", "tess", "instructor")
    stage.sync()
    before = stage.people()
    stage.lms.withdraw("geology", "sam")
    stage.lms.enroll("geology", "designer", "designer")
    stage.lms.enroll("geology", "tess", "assistant")
    run = stage.sync()
    assert run.receipt
    assert [len(run.receipt[k]) for k in ("added", "changed", "ended")] == [1, 1, 1]
    stage.undo(run.id)
    assert stage.people() == before | {"Dora Novák": ("instructor", False)}
    with pytest.raises(NothingToUndo):
        stage.undo(run.id)
    # The next one does the same again.
    assert stage.sync().state is SyncState.APPLIED
    assert stage.people()["Sam Rivera"] == ("student", False)


def test_only_the_newest_sync_can_be_undone(stage: Stage) -> None:
    first = stage.sync()
    stage.lms.withdraw("geology", "sam")
    stage.sync()
    with pytest.raises(NothingToUndo):
        stage.undo(first.id)
