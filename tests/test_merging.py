"""Merging two people by an admin's hand, and taking it back exactly."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import IntegrityError

from lti_tool import jobs
from lti_tool.classroom import accounts, courses, linking, merging, people, rooms, syncs, unmerging
from lti_tool.classroom.accounts import Connection, Identity, Role, Status, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.classroom.invitations import Answer, Invitation
from lti_tool.classroom.merging import Because, Merge, MergeRefused
from lti_tool.classroom.rooms import Attendance
from lti_tool.classroom.unmerging import MergeStuck, Stuck
from lti_tool.database import db, now

Browse = Callable[[int | None], Browser]
# What happens to people besides, or only says that it happened.
NOT_COMPARED = {"audit_event", "merge", "session", "sign_in_code", "outbox_mail", "ticket"}


def dump(app: Flask) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a merge could touch."""
    with app.app_context():
        return {
            table.name: sorted(
                # When somebody was seen is not about the merge.
                (
                    tuple(row)
                    for row in db.session.execute(select(*(c for c in table.c if "seen_at" not in c.name)))
                ),
                key=repr,
            )
            for table in db.metadata.sorted_tables
            if table.name not in NOT_COMPARED
        }


def enroll(user_id: int, course_id: int, role: Role, source: Source = Source.MANUAL, **more: Any) -> int:
    course = db.session.get_one(Course, course_id)
    row = Enrollment(
        account_id=course.account_id, course_id=course_id, user_id=user_id, role=role, source=source, **more
    )
    db.session.add(row)
    db.session.flush()
    return row.id


def user(user_id: int) -> User:
    return db.session.get_one(User, user_id)


@pytest.fixture
def twins(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> tuple[int, int]:
    """Sam with his mailbox, and Sam as the LMS knows him, both with a history."""
    lms.launch(browse(None), "sam", "geology")
    lms.launch(browse(None), "ivan", "geology")
    with app.app_context():
        other = db.session.scalars(
            select(Identity.user_id).filter_by(registration_id=lms.registration_id, subject="5")
        ).one()
        # Both by hand in one course, the other higher and longer; each alone in another.
        enroll(other, cast.geology, Role.INSTRUCTOR, since=now() - timedelta(days=400))
        enroll(cast.sam, cast.statics, Role.STUDENT, ended_at=now() - timedelta(days=1))
        enroll(other, cast.statics, Role.STUDENT)
        enroll(other, cast.statics, Role.STUDENT, Source.INVITATION)
        over = rooms.open_meeting(db.session.get_one(Course, cast.geology), by=user(cast.ivan))
        for attendee in (cast.sam, other):
            rooms.take_seat(over, user(attendee), Role.STUDENT, moderates=False, window=f"w{attendee}")
        rooms.say(over, user(other), "Hello")
        rooms.end_meeting(over)
        invitation = Invitation(
            account_id=cast.account, user_id=other, expires_at=now(), answer=Answer.ACCEPTED
        )
        db.session.add(invitation)
        db.session.commit()
    return cast.sam, other


def merge(app: Flask, into: int, other: int, by: int | None = None) -> int:
    with app.app_context():
        done = merging.merge(user(into), user(other), by=user(by) if by else None)
        db.session.commit()
        return done.id


# --- the walk ----------------------------------------------------------------------------


def test_an_admin_finds_sees_merges_and_undoes(
    app: Flask, cast: Cast, browse: Browse, twins: tuple[int, int], statements: list[str]
) -> None:
    into, other = twins
    ada = browse(cast.ada)
    before = dump(app)
    found = ada.get(f"/users/{other}/merge?q=sam")
    assert f"/users/{other}/merge/{into}" in found.text
    assert f"/users/{other}/merge/{other}" not in found.text
    part = ada.get(f"/users/{other}/merge?q=sam", headers={"HX-Request": "true"})
    assert "<html" not in part.text
    assert part.headers["Vary"] == "HX-Request"
    statements.clear()
    page = ada.get(f"/users/{other}/merge/{into}")
    assert len([one for one in statements if one.startswith("SELECT")]) <= 10
    # Whoever proved a mailbox stays, wherever one began.
    assert f'action="/users/{into}/merge/{other}"' in page.text
    assert "The other way round" not in page.text
    assert dump(app) == before, "looking changes nothing"

    done = ada.post(f"/users/{into}/merge/{other}")
    assert (done.status_code, done.location) == (303, f"/users/{into}")
    panel = ada.get(done.location)
    assert "Sam Rivera was merged" in panel.text
    with app.app_context():
        assert db.session.scalars(select(Identity.user_id).filter_by(subject="5")).one() == into
        held = {
            (one.course_id, one.source, one.role)
            for one in db.session.scalars(select(Enrollment).filter_by(user_id=into, ended_at=None))
        }
        geology = {(cast.geology, Source.MANUAL, Role.INSTRUCTOR)}
        statics = {(cast.statics, source, Role.STUDENT) for source in (Source.MANUAL, Source.INVITATION)}
        assert geology | statics <= held
        assert len(held) == 4, "and the LMS's"
        assert db.session.scalar(select(func.count(Attendance.id)).filter_by(user_id=into)) == 2
        kept = db.session.scalars(
            select(Enrollment).filter_by(user_id=into, course_id=cast.geology, source=Source.MANUAL)
        ).one()
        assert kept.since < now() - timedelta(days=399)
    for gone in (f"/users/{other}", f"/users/{other}/merge", f"/users/{other}/merge/{into}"):
        assert ada.get(gone).status_code == 404
    assert "Sam Rivera" not in ada.get("/users").text
    roster = ada.get(f"/courses/{cast.geology}/roster").text
    assert roster.count('class="name clip">Sam') == 1, "the roster has one row"

    log = ada.get("/audit").text
    assert f'<a href="/users/{into}"><bdi>Sam Rivera</bdi></a> was merged into' in log
    with app.app_context():
        merge_id = db.session.scalars(select(Merge.id)).one()
    undone = ada.post(f"/merges/{merge_id}/undo")
    assert (undone.status_code, undone.location) == (303, f"/users/{into}")
    assert dump(app) == before
    assert "Sam Rivera" in ada.get("/users").text
    again = ada.post(f"/merges/{merge_id}/undo")
    assert "was undone already" in ada.get(again.location).text
    assert dump(app) == before
    with app.app_context():
        told = select(AuditEvent.action).where(AuditEvent.action.in_(["user.merged", "user.unmerged"]))
        assert db.session.scalars(told.order_by(AuditEvent.id)).all() == ["user.merged", "user.unmerged"]


def test_only_admins_merge_whom_they_may_change_and_nobody_of_another_account(
    app: Flask, cast: Cast, browse: Browse, twins: tuple[int, int]
) -> None:
    into, other = twins
    merge_id = merge(app, into, other, cast.ada)
    with app.app_context():
        clerk = accounts.add_user(cast.account, name="Cleo", role=Role.ADMIN).id
        db.session.commit()
    before = dump(app)
    eve, teacher, cleo, ada = (browse(one) for one in (cast.eve, cast.ivan, clerk, cast.ada))
    for get in (f"/users/{into}/merge", f"/users/{into}/merge/{cast.tess}"):
        assert eve.get(get).status_code == 404
        assert teacher.get(get).status_code == 403
    for one, two in ((into, cast.tess), (cast.eve, into), (into, cast.eve)):
        assert eve.post(f"/users/{one}/merge/{two}").status_code == 404
        assert teacher.post(f"/users/{one}/merge/{two}").status_code == 403
    assert ada.get(f"/users/{into}/merge/{cast.eve}").status_code == 404
    assert "Eve" not in ada.get(f"/users/{into}/merge?q=eve").text
    assert eve.post(f"/merges/{merge_id}/undo").status_code == 404
    assert teacher.post(f"/merges/{merge_id}/undo").status_code == 403
    # An admin is below the owner, and nobody merges himself away.
    assert cleo.post(f"/users/{cast.ada}/merge/{cast.tess}").status_code == 403
    assert cleo.post(f"/users/{cast.tess}/merge/{cast.ada}").status_code == 403
    assert cleo.post(f"/users/{cast.tess}/merge/{clerk}").status_code == 403
    assert ada.post(f"/users/{into}/merge/{into}").status_code in (403, 409)
    assert dump(app) == before


# --- what is true after ------------------------------------------------------------------


def test_the_higher_role_holds_after_an_admins_merge_and_never_after_linking(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        other_id = db.session.scalars(select(Identity.user_id)).one()
        registration = lms.registration_id
        db.session.commit()
        table = [
            # into, other, made admin by the LMS, by hand? → role, by whose word
            (Role.STUDENT, Role.INSTRUCTOR, False, True, Role.INSTRUCTOR, None),
            (Role.STUDENT, Role.INSTRUCTOR, False, False, Role.STUDENT, None),
            (Role.INSTRUCTOR, Role.STUDENT, False, True, Role.INSTRUCTOR, None),
            (Role.STUDENT, Role.ADMIN, True, True, Role.ADMIN, None),
            (Role.STUDENT, Role.ADMIN, True, False, Role.STUDENT, None),
            (Role.ADMIN, Role.ADMIN, True, True, Role.ADMIN, None),
            (Role.OWNER, Role.STUDENT, False, False, Role.OWNER, None),
            (Role.ADMIN, Role.OWNER, False, True, Role.OWNER, None),
            (Role.OWNER, Role.OWNER, False, True, Role.OWNER, None),
        ]
        for ours, theirs, by_lms, by_hand, role, maker in table:
            into, other = user(cast.sam), user(other_id)
            into.role, other.role = ours, theirs
            other.made_admin_by_id = registration if by_lms else None
            db.session.flush()
            merging.merge(into, other, by=user(cast.ada) if by_hand else None)
            assert (into.role, into.made_admin_by_id) == (role, maker), (ours, theirs, by_lms, by_hand)
            assert (other.role, other.made_admin_by_id) == (Role.STUDENT, None), "a ghost is no owner"
            db.session.rollback()
        # Two whom LMSs alone know: the LMS's word stays the LMS's.
        into, other = user(cast.tess), user(other_id)
        into.mailbox_proven, other.role, other.made_admin_by_id = False, Role.ADMIN, registration
        db.session.flush()
        merging.merge(into, other, by=user(cast.ada))
        assert (into.role, into.made_admin_by_id) == (Role.ADMIN, registration)
        db.session.rollback()


def test_what_cannot_be_merged_is_refused_with_its_reason(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        other_id = db.session.scalars(select(Identity.user_id)).one()

        def because(into_id: int, **changes: Any) -> Because:
            other = user(other_id)
            for name, value in changes.items():
                setattr(other, name, value)
            db.session.flush()
            with pytest.raises(MergeRefused) as refused:
                merging.merge(user(into_id), other, by=user(cast.ada))
            db.session.rollback()
            return refused.value.because

        assert because(other_id) is Because.SAME
        assert because(cast.eve) is Because.SAME
        assert because(cast.sam, is_test=True) is Because.PREVIEW_ACCOUNT
        assert because(cast.sam, blocked_at=now()) is Because.BLOCKED
        assert because(cast.sam, merged_into_id=cast.tess) is Because.GONE
        db.session.scalars(select(Connection)).one().makes_admins = False
        db.session.commit()
        assert because(cast.ada) is Because.ADMIN_DOOR
        # No page of ours could, and the database would not either.
        db.session.add(
            Merge(account_id=cast.account, into_id=cast.eve, other_id=other_id, other_role=Role.STUDENT)
        )
        with pytest.raises(IntegrityError):
            db.session.flush()
        db.session.rollback()
    page = browse(cast.ada).get(f"/users/{cast.ada}/merge/{other_id}")
    assert "may not make admins" in page.text
    assert f'action="/users/{cast.ada}/merge' not in page.text
    assert browse(cast.ada).post(f"/users/{cast.ada}/merge/{other_id}").status_code == 409


def test_a_pending_person_merged_with_a_registered_one_is_registered_and_the_mailed_link_is_dead(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    ada = browse(cast.ada)
    ada.post(
        "/users/invite",
        {"name": "Mira", "email": "mira@example.net", "role": "student", "courses": [cast.statics]},
    )
    with app.app_context():
        jobs.run_due()
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        mira = accounts.find_by_mailbox(cast.account, "mira@example.net")
        other = db.session.scalars(select(Identity.user_id)).one()
        assert mira is not None
        mira_id = mira.id
    before = dump(app)
    assert "no longer works" in ada.get(f"/users/{mira_id}/merge/{other}").text
    merge_id = merge(app, mira_id, other, cast.ada)
    with app.app_context():
        assert user(mira_id).status is Status.REGISTERED
        assert db.session.scalars(select(Invitation.answer)).all() == [Answer.WITHDRAWN]
    ada.post(f"/merges/{merge_id}/undo")
    assert dump(app) == before


# --- taking it back ----------------------------------------------------------------------


def test_what_came_meanwhile_stays_and_what_was_changed_meanwhile_is_kept(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, twins: tuple[int, int]
) -> None:
    into, other = twins
    ada = browse(cast.ada)
    merge_id = merge(app, into, other, cast.ada)
    launched = lms.launch(browse(None), "sam", "statics")
    with app.app_context():
        new = courses.add_course(cast.account, "New").id
        enroll(into, new, Role.STUDENT)
        people.name_by_hand(user(into), "Samuel", by=user(cast.ada))
        people.change_role(user(into), Role.ADMIN, by=user(cast.ada))
        geology = db.session.scalars(select(Course).filter_by(name="Geology")).one()
        syncs.ask_for_sync(geology)
        db.session.commit()
        jobs.run_queued_syncs()
    browser = browse(into)
    assert browser.get("/courses").status_code == 200
    ada.post(f"/merges/{merge_id}/undo")
    assert browser.get("/courses").status_code == 303, "both are signed out"
    with app.app_context():
        mine, theirs = (
            {
                one.course_id
                for one in db.session.scalars(select(Enrollment).filter_by(user_id=one, ended_at=None))
            }
            for one in (into, other)
        )
        assert new in mine
        # The LMS enrolled its own subject, which went back.
        assert int(launched.location.rsplit("/", 1)[1]) in theirs - mine
        assert (user(into).name, user(into).role) == ("Samuel", Role.ADMIN)
        assert (user(other).name, user(other).role) == ("Sam Rivera", Role.STUDENT)
        runs = select(func.count(Enrollment.id)).filter_by(user_id=other, source=Source.LMS)
        number = db.session.scalar(runs)
        syncs.ask_for_sync(db.session.scalars(select(Course).filter_by(name="Geology")).one())
        db.session.commit()
        jobs.run_queued_syncs()
        assert db.session.scalar(runs) == number, "the next sync finds everybody where they are"


def test_what_an_lms_said_of_the_other_meanwhile_goes_with_them(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, twins: tuple[int, int]
) -> None:
    _, other = twins
    with app.app_context():
        # Known by LMSs alone, so that one's word may make an admin.
        into = accounts.add_user(cast.account, name="Kim", email="kim@example.net").id
        db.session.commit()
    merge_id = merge(app, into, other, cast.ada)
    administrator = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#Administrator"
    roles = "https://purl.imsglobal.org/spec/lti/claim/roles"
    browser = browse(None)
    assert (
        lms.launch(browser, "sam", "geology", claims={roles: [administrator, "Learner"]}).status_code == 303
    )
    with app.app_context():
        assert (user(into).name, user(into).role) == ("Sam Rivera", Role.ADMIN)
    browse(cast.ada).post(f"/merges/{merge_id}/undo")
    with app.app_context():
        kim = user(into)
        assert (kim.name, kim.email, kim.role) == ("Kim", "kim@example.net", Role.STUDENT)
        assert (kim.name_key, kim.made_admin_by_id) == ("kim", None)


def test_the_newest_merge_is_undone_first_and_a_chain_from_its_end(
    app: Flask, cast: Cast, browse: Browse, twins: tuple[int, int]
) -> None:
    into, other = twins
    before = dump(app)
    first, second = merge(app, into, other, cast.ada), merge(app, into, cast.tess, cast.ada)
    third = merge(app, cast.ivan, into, cast.ada)
    ada = browse(cast.ada)
    for blocked in (first, second):
        answer = ada.post(f"/merges/{blocked}/undo")
        with app.app_context():
            assert db.session.get_one(Merge, blocked).undone_at is None
        assert answer.status_code == 303
    for merge_id in (third, second, first):
        if merge_id == second:
            panel = ada.get(f"/users/{into}").text
            assert f"/merges/{second}/undo" in panel
            assert f"/merges/{first}/undo" not in panel
        ada.post(f"/merges/{merge_id}/undo")
    assert dump(app) == before


def test_a_mailbox_that_somebody_else_has_by_now_keeps_a_merge_as_it_is(
    app: Flask, cast: Cast, twins: tuple[int, int]
) -> None:
    merge_id = merge(app, cast.sam, cast.tess, cast.ada)
    with app.app_context():
        assert accounts.find_by_mailbox(cast.account, "tess@example.org") is None, "it signs nobody in"
        accounts.add_user(cast.account, name="T", email="tess@example.org", mailbox_proven=True)
        db.session.commit()
        done = unmerging.find(cast.account, merge_id)
        assert done is not None
        with pytest.raises(MergeStuck) as stuck:
            unmerging.undo(done, by=user(cast.ada))
        assert stuck.value.because is Stuck.MAILBOX


def test_who_is_blocked_after_a_merge_does_not_come_back_in_as_the_other(
    app: Flask, cast: Cast, twins: tuple[int, int]
) -> None:
    into, other = twins
    merge_id = merge(app, into, other, cast.ada)
    with app.app_context():
        people.block(user(into), by=user(cast.ada))
        done = unmerging.find(cast.account, merge_id)
        assert done is not None
        unmerging.undo(done, by=user(cast.ada))
        assert user(other).blocked_at is not None


def test_after_thirty_days_the_other_is_forgotten_and_what_they_did_was_done_by_the_one(
    app: Flask, cast: Cast, browse: Browse, twins: tuple[int, int], move_clock: Any
) -> None:
    into, other = twins
    merge_id = merge(app, into, other, cast.ada)
    move_clock(timedelta(days=29))
    with app.app_context():
        jobs.sweep()
        assert db.session.get(User, other) is not None
    move_clock(timedelta(days=1, minutes=1))
    ada = browse(cast.ada)
    assert "was undone already, or its 30 days" in ada.get(ada.post(f"/merges/{merge_id}/undo").location).text
    with app.app_context():
        jobs.sweep()
        assert db.session.get(User, other) is None
        assert db.session.get(Merge, merge_id) is None
        assert db.session.scalars(select(rooms.ChatMessage.user_id)).all() == [into]
        assert db.session.scalar(select(func.count(Attendance.id)).filter_by(user_id=into)) == 2


def test_of_two_merges_of_one_person_at_once_one_wins(app: Flask, cast: Cast, twins: tuple[int, int]) -> None:
    _, other = twins
    start = threading.Barrier(2)

    def try_it(into: int) -> str:
        with app.app_context():
            one, two = user(into), user(other)
            db.session.rollback()
            start.wait(20)
            try:
                merging.merge(one, two)
                db.session.commit()
            except MergeRefused as refused:
                db.session.rollback()
                return refused.because
            return "merged"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(try_it, (cast.sam, cast.tess))) == [Because.GONE, "merged"]
    with app.app_context():
        assert db.session.scalar(select(func.count(Merge.id))) == 1


def test_two_subjects_of_one_lms_in_one_course_are_one_person_for_its_roster(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    launched = lms.launch(browse(None), "sam", "geology")
    course_id = int(launched.location.rsplit("/", 1)[1])
    lms.launch(browse(None), "ivan", "geology")
    with app.app_context():
        sam, ivan = (
            db.session.scalars(select(Identity.user_id).filter_by(subject=subject)).one()
            for subject in ("5", "3")
        )

    def sync() -> str:
        with app.app_context():
            run = syncs.ask_for_sync(db.session.get_one(Course, course_id))
            db.session.commit()
            jobs.run_queued_syncs()
            db.session.refresh(run)
            return run.state.value

    sync()
    before = dump(app)
    merge_id = merge(app, sam, ivan, cast.ada)
    sync()
    with app.app_context():
        held = db.session.scalars(select(Enrollment).filter_by(course_id=course_id)).all()
        assert [(one.user_id, one.role) for one in held if one.ended_at is None and one.user_id == sam] == [
            (sam, Role.INSTRUCTOR)
        ]
        assert [one.ended_at is None for one in held if one.user_id == ivan] == [False]
    assert sync() == "unchanged", "once said, it says nothing new"
    with app.app_context():
        done = unmerging.find(cast.account, merge_id)
        assert done is not None
        unmerging.undo(done, by=user(cast.ada))
        db.session.commit()
    sync()
    with app.app_context():
        roles = dict(
            db.session.execute(
                select(Enrollment.user_id, Enrollment.role).filter_by(course_id=course_id, ended_at=None)
            ).all()
        )
        assert (roles[sam], roles[ivan]) == (Role.STUDENT, Role.INSTRUCTOR)
    assert before["identity"] == dump(app)["identity"]


# --- no column forgotten -----------------------------------------------------------------


def test_every_column_that_names_a_user_has_its_place_in_a_merge(app: Flask) -> None:
    named = merging.MOVED | merging.FOLLOWING | merging.DROPPED | merging.OWN
    found = {
        f"{table.name}.{key.parent.name}"
        for table in db.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name == "user" and key.column.name == "id"
    }
    assert found - named == set(), "say in classroom/merging.py what becomes of it"
    assert named - found == set(), "no such column"
    assert linking.LinkCode.__tablename__ in inspect(db.metadata.tables["link_code"]).name
