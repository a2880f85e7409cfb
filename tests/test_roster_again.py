"""The same list again: it is recognized by its bytes, and still read wherever something here is different."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Browser, Lms
from flask import Flask
from sqlalchemy import select, update
from test_roster_sync import Stage, written

from lti_tool.classroom.accounts import Connection, User
from lti_tool.classroom.people import erase
from lti_tool.classroom.syncs import SyncState
from lti_tool.database import db
from lti_tool.lti import memberships

Browse = Callable[[int | None], Browser]

ASSISTANT = "http://purl.imsglobal.org/vocab/lis/v2/membership/Instructor#TeachingAssistant"


@pytest.fixture
def stage(app: Flask, lms: Lms, browse: Browse) -> Stage:
    """Geology, its list read once."""
    opened = Stage(app, lms, browse(None), "geology", "ivan")
    assert opened.sync().state is SyncState.APPLIED
    return opened


@contextmanager
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The entries of lists that were read, not only recognized, meanwhile."""
    entries: list[Any] = []
    reading = memberships._read_member

    def count(entry: Any, *args: Any, **kwargs: Any) -> Any:
        entries.append(entry)
        return reading(entry, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(memberships, "_read_member", count)
        yield entries


def test_the_same_list_is_not_read_again_and_writes_nothing(
    stage: Stage, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with read(monkeypatch) as entries, written(app) as statements:
        for _ in range(2):
            again = stage.sync()
            assert (again.state, again.members, again.pages) == (SyncState.UNCHANGED, 3, 1)
            assert again.receipt["unchanged"] == 3
    assert not entries
    assert not statements


def test_a_list_too_big_to_be_held_unread_is_read_and_still_recognized(
    stage: Stage, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memberships, "MOST_UNREAD", 0)
    with read(monkeypatch) as entries, written(app) as statements:
        assert stage.sync().state is SyncState.UNCHANGED
    assert len(entries) == 3
    assert not statements


def test_members_who_are_left_out_stay_named(stage: Stage, lms: Lms) -> None:
    lms.enroll("geology", "manager", ["http://purl.imsglobal.org/vocab/lis/v2/institution/person#Student"])
    first = stage.sync()
    assert [skipped[2] for skipped in first.receipt["skipped"]] == ["no_course_role"]
    assert stage.sync().receipt["skipped"] == first.receipt["skipped"]


def test_one_changed_byte_and_the_whole_list_is_read(
    stage: Stage, lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    lms.enroll("geology", "mentor", "observer")
    with read(monkeypatch) as entries:
        assert stage.sync().state is SyncState.APPLIED
    assert len(entries) == 4
    assert stage.people()["María Rivera"] == ("student", True)


def test_somebody_who_launched_and_is_not_on_the_list_is_still_ended(stage: Stage) -> None:
    stage.launch("designer")
    assert stage.sync().state is SyncState.APPLIED
    assert stage.people()["Dora Novák"] == ("instructor", False)


def test_a_person_who_was_deleted_comes_back_with_the_list(stage: Stage, app: Flask) -> None:
    with app.app_context():
        sam = db.session.scalars(select(User).filter_by(name="Sam Rivera")).one()
        erase(sam, by=db.session.scalars(select(User).filter_by(name="Ivan Petrov")).one())
        db.session.commit()
    assert "Sam Rivera" not in stage.people()
    assert stage.sync().state is SyncState.APPLIED
    assert stage.people()["Sam Rivera"] == ("student", True)


def test_roles_that_are_read_differently_now_are_read(stage: Stage, app: Flask, lms: Lms) -> None:
    lms.enroll("geology", "tess", ASSISTANT)
    stage.sync()
    assert stage.people()["Tess Okafor"] == ("instructor", True)
    with app.app_context():
        db.session.execute(update(Connection).values(assistants_teach=False))
        db.session.commit()
    assert stage.sync().state is SyncState.APPLIED
    assert stage.people()["Tess Okafor"] == ("student", True)


def test_an_undone_sync_is_done_again_by_the_next(stage: Stage, lms: Lms) -> None:
    lms.enroll("geology", "mentor", "observer")
    run = stage.sync()
    stage.undo(run.id)
    assert stage.people()["María Rivera"][1] is False
    assert stage.sync().state is SyncState.APPLIED
    assert stage.people()["María Rivera"][1] is True
