"""Syncs of a course's roster through the real job, against the practice LMS and its troubles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Browser, Lms
from flask import Flask
from sqlalchemy import event, func, select, update

from lti_tool import jobs
from lti_tool.classroom import courses, syncs
from lti_tool.classroom.accounts import Connection, Identity, Role, Status, Tenancy, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Context, Course, Enrollment, Source
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db
from lti_tool.practice_lms import Person

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]

MENTOR = "http://purl.imsglobal.org/vocab/lis/v2/membership#Mentor"
INSTITUTION_STUDENT = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#Student"


class Stage:
    """One LMS course opened by its teacher, so that we know where its roster is asked for."""

    def __init__(self, app: Flask, lms: Lms, browser: Browser, course: str, person: str) -> None:
        self.app, self.lms, self.browser, self.slug = app, lms, browser, course
        arrived = lms.launch(browser, person, course)
        assert arrived.status_code == 303, arrived.text
        self.course_id = int(arrived.headers["Location"].rsplit("/", 1)[1])

    def launch(self, person: str) -> None:
        arrived = self.lms.launch(self.browser, person, self.slug)
        assert arrived.status_code == 303, arrived.text

    def sync(self) -> SyncRun:
        """Ask, work, and give the run as it ended."""
        with self.app.app_context():
            run_id = syncs.ask_for_sync(db.session.get_one(Course, self.course_id)).id
            db.session.commit()
            jobs.run_queued_syncs()
        return self.run(run_id)

    def run(self, run_id: int) -> SyncRun:
        with self.app.app_context():
            run = db.session.get_one(SyncRun, run_id)
            # Read while the session lives.
            _ = run.receipt, run.before
            db.session.expunge_all()
            return run

    def people(self) -> dict[str, tuple[str, bool]]:
        """Name → (role, in the course?) of the LMS enrollments."""
        with self.app.app_context():
            rows = db.session.execute(
                select(User.name, Enrollment.role, Enrollment.ended_at)
                .join(User, User.id == Enrollment.user_id)
                .where(Enrollment.course_id == self.course_id, Enrollment.source == Source.LMS)
            )
            return {name: (role.value, ended is None) for name, role, ended in rows}

    def answer(self, run_id: int, yes: bool) -> None:
        with self.app.app_context():
            by = db.session.scalars(select(User).limit(1)).one()
            syncs.answer_held(db.session.get_one(SyncRun, run_id), yes, by=by)
            db.session.commit()
            jobs.run_queued_syncs()

    def undo(self, run_id: int) -> None:
        with self.app.app_context():
            by = db.session.scalars(select(User).limit(1)).one()
            syncs.undo_sync(db.session.get_one(SyncRun, run_id), by=by)
            db.session.commit()

    def newest(self) -> SyncRun:
        with self.app.app_context():
            run = syncs.latest_run(db.session.get_one(Course, self.course_id))
            assert run is not None
            run_id = run.id
        return self.run(run_id)


@pytest.fixture
def stage(app: Flask, lms: Lms, browse: Browse) -> Stage:
    """Geology: Ivan teaches, Tess assists, Sam studies; Ivan has opened it."""
    return Stage(app, lms, browse(None), "geology", "ivan")


@pytest.fixture
def statics(app: Flask, lms: Lms, browse: Browse) -> Stage:
    """Statics: 40 people, opened by Sam."""
    return Stage(app, lms, browse(None), "statics", "sam")


@contextmanager
def written(app: Flask) -> Iterator[list[str]]:
    """The statements that changed people or enrollments meanwhile."""
    seen: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        words = statement.split(None, 3)
        if words[0].upper() in ("INSERT", "UPDATE", "DELETE") and any(
            f" {table} " in f" {statement} ".replace('"', "").replace("(", " ")
            for table in ("enrollment", "user", "identity")
        ):
            seen.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", listen)


def add_students(lms: Lms, course: str, count: int, first: int = 5000) -> None:
    for number in range(first, first + count):
        lms.enroll(course, Person(str(number), f"s{number}", "Student", f"No{number}"), "student")


# --- in step -----------------------------------------------------------------------------


def test_a_sync_brings_everybody_on_the_list_and_says_who(stage: Stage) -> None:
    run = stage.sync()
    assert run.state is SyncState.APPLIED
    assert run.members == 3
    assert run.pages == 1
    assert stage.people() == {
        "Ivan Petrov": ("instructor", True),
        "Sam Rivera": ("student", True),
        "Tess Okafor": ("student", True),
    }
    assert run.receipt
    assert sorted(name for _, name, _, _ in run.receipt["added"]) == ["Sam Rivera", "Tess Okafor"]


def test_a_roster_of_2000_comes_in_whole_and_the_same_again_writes_nothing(
    app: Flask, lms: Lms, browse: Browse
) -> None:
    stage = Stage(app, lms, browse(None), "big", "tess")
    run = stage.sync()
    assert run.state is SyncState.APPLIED
    assert run.members == 2000
    assert run.receipt
    assert len(run.receipt["added"]) == 1999
    with app.app_context():
        counted = db.session.scalar(select(func.count(Enrollment.id)).filter_by(course_id=stage.course_id))
    assert counted == 2000
    with written(app) as statements:
        again = stage.sync()
    assert again.state is SyncState.UNCHANGED
    assert again.receipt
    assert again.receipt["unchanged"] == 2000
    assert statements == []


def test_somebody_gone_from_the_list_is_ended_and_comes_back_with_it(stage: Stage) -> None:
    stage.sync()
    stage.lms.withdraw("geology", "sam")
    run = stage.sync()
    assert run.receipt
    assert run.receipt["ended"] == [["5", "Sam Rivera"]]
    assert stage.people()["Sam Rivera"] == ("student", False)
    stage.lms.enroll("geology", "sam", "student")
    run = stage.sync()
    assert run.receipt
    assert run.receipt["changed"][0][1] == "Sam Rivera"
    assert stage.people()["Sam Rivera"] == ("student", True)


def test_only_enrollments_from_that_lms_course_end(stage: Stage) -> None:
    with stage.app.app_context():
        course = db.session.get_one(Course, stage.course_id)
        for name, source in (("By Hand", Source.MANUAL), ("Invited Guest", Source.INVITATION)):
            user = User(account_id=course.account_id, name=name, name_key=name.casefold())
            db.session.add(user)
            db.session.flush()
            db.session.add(
                Enrollment(
                    account_id=course.account_id,
                    course_id=course.id,
                    user_id=user.id,
                    role=Role.STUDENT,
                    source=source,
                )
            )
        db.session.commit()
    run = stage.sync()
    assert run.receipt
    assert run.receipt["kept"] == 2
    assert run.receipt["ended"] == []
    with stage.app.app_context():
        ended = db.session.scalar(select(func.count(Enrollment.id)).where(Enrollment.ended_at.is_not(None)))
    assert ended == 0


def test_two_lms_courses_of_one_course_are_synced_each_for_itself(
    app: Flask, lms: Lms, browse: Browse
) -> None:
    geology = Stage(app, lms, browse(None), "geology", "ivan")
    statics = Stage(app, lms, browse(None), "statics", "designer")
    with app.app_context():
        db.session.execute(
            update(Context).where(Context.course_id == statics.course_id).values(course_id=geology.course_id)
        )
        db.session.execute(
            update(Enrollment)
            .where(Enrollment.course_id == statics.course_id)
            .values(course_id=geology.course_id)
        )
        db.session.commit()
    geology.sync()
    with app.app_context():
        runs = [s.run for s in syncs.standings(db.session.get_one(Course, geology.course_id))]
        assert [run.state for run in runs if run] == [SyncState.APPLIED, SyncState.APPLIED]
        sam = db.session.scalars(
            select(Enrollment.context_id)
            .join(Identity, Identity.user_id == Enrollment.user_id)
            .where(Identity.subject == "5", Enrollment.ended_at.is_(None))
        ).all()
    assert len(sam) == 2
    lms.withdraw("geology", "sam")
    geology.sync()
    with app.app_context():
        left = db.session.scalars(
            select(Enrollment.context_id)
            .join(Identity, Identity.user_id == Enrollment.user_id)
            .where(Identity.subject == "5", Enrollment.ended_at.is_(None))
        ).all()
    assert len(left) == 1


# --- roles -------------------------------------------------------------------------------


def test_a_moodle_assistant_who_teaches_at_launch_stays_instructor_though_the_list_says_learner(
    stage: Stage,
) -> None:
    stage.launch("tess")
    stage.sync()
    assert stage.people()["Tess Okafor"] == ("instructor", True)
    with stage.app.app_context():
        tess = db.session.scalars(select(Enrollment).filter_by(subject="4")).one()
        assert tess.roles_disagree
        assert (tess.launch_role, tess.roster_role) == (Role.INSTRUCTOR, Role.STUDENT)
        assert tess.roster_roles == ["Learner"]
    assert stage.sync().state is SyncState.UNCHANGED


def test_a_role_the_list_gave_and_takes_back_ends(stage: Stage) -> None:
    stage.lms.enroll("geology", "sam", "instructor")
    stage.launch("sam")
    stage.sync()
    assert stage.people()["Sam Rivera"] == ("instructor", True)
    stage.lms.enroll("geology", "sam", "student")
    run = stage.sync()
    assert stage.people()["Sam Rivera"] == ("student", True)
    assert run.receipt
    assert run.receipt["changed"][0][2:5] == ["instructor", "student", ["Learner"]]


def test_members_without_a_role_here_are_skipped_by_name_and_reason(stage: Stage) -> None:
    stage.lms.enroll("geology", "manager", INSTITUTION_STUDENT)
    stage.lms.enroll("geology", "mentor", "student", status="Inactive")
    run = stage.sync()
    assert run.receipt
    assert {(s[1], s[2]) for s in run.receipt["skipped"]} == {
        ("Max Moreau", "no_course_role"),
        ("María Rivera", "not_active"),
    }


def test_a_member_whose_status_becomes_inactive_loses_the_course(stage: Stage) -> None:
    stage.sync()
    stage.lms.enroll("geology", "sam", "student", status="Deleted")
    stage.sync()
    assert stage.people()["Sam Rivera"] == ("student", False)


def test_a_teacher_by_launch_whom_the_list_names_only_as_administrator_is_not_ended(stage: Stage) -> None:
    stage.lms.enroll("geology", "ada", "administrator")
    stage.launch("ada")
    run = stage.sync()
    assert run.receipt
    assert run.receipt["skipped"][0][2] == "no_course_role"
    assert stage.people()["Ada Lindqvist"] == ("instructor", True)


def test_a_raised_role_is_in_the_audit_log(stage: Stage) -> None:
    stage.sync()
    stage.lms.enroll("geology", "sam", "instructor")
    stage.sync()
    with stage.app.app_context():
        sam = db.session.scalars(select(Identity.user_id).filter_by(subject="5")).one()
        recorded = db.session.scalars(
            select(AuditEvent).filter_by(action="role.changed", target=f"user:{sam}")
        ).one()
        assert (recorded.source, recorded.before, recorded.after) == (
            "lms",
            {"role": "student"},
            {"role": "instructor"},
        )


# --- names -------------------------------------------------------------------------------


def test_names_follow_the_list_but_an_absent_one_changes_nothing_and_one_set_by_hand_stays(
    stage: Stage,
) -> None:
    stage.sync()
    stage.lms.add_person(Person("5", "sam", "Sami", "Rivera", "sami@example.test"))
    run = stage.sync()
    assert run.receipt
    assert run.receipt["renamed"] == [["5", "Sam Rivera", "Sami Rivera"]]
    assert "Sami Rivera" in stage.people()
    stage.lms.registration().names = False
    stage.sync()
    assert "Sami Rivera" in stage.people()
    with stage.app.app_context():
        user = db.session.scalars(select(User).filter_by(name="Sami Rivera")).one()
        user.name, user.name_by_hand = "Sam the Great", True
        db.session.commit()
    stage.lms.registration().names = True
    stage.sync()
    assert "Sam the Great" in stage.people()
    assert "Sami Rivera" not in stage.people()


def test_a_member_without_name_and_address_is_enrolled_all_the_same(statics: Stage) -> None:
    assert statics.sync().state is SyncState.APPLIED
    with statics.app.app_context():
        nobody = db.session.scalars(select(User).join(Identity).where(Identity.subject == "7")).one()
        assert (nobody.name, nobody.email, nobody.status) == ("", "", Status.REGISTERED)


def test_two_subjects_that_are_one_person_here_are_one_enrollment(stage: Stage) -> None:
    with stage.app.app_context():
        ivan = db.session.scalars(select(Identity).filter_by(subject="3")).one()
        for subject in ("5", "4"):
            db.session.add(
                Identity(
                    account_id=ivan.account_id,
                    registration_id=ivan.registration_id,
                    subject=subject,
                    user_id=ivan.user_id,
                )
            )
        db.session.commit()
    assert stage.sync().state is SyncState.APPLIED
    assert stage.people() == {"Ivan Petrov": ("instructor", True)}
    assert stage.sync().state is SyncState.UNCHANGED


# --- troubles ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("500", "roster_refused status 500 page 1"),
        ("403", "roster_refused status 403 page 1"),
        ("half", "roster_refused status 500 page 2"),
        ("truncated", "not_json page 2"),
        ("self", "pages_in_circles page 1"),
        ("foreign_next", "foreign_next page 1"),
        ("html", "html_answer page 1"),
        ("garbage", "not_json page 1"),
    ],
)
def test_a_list_that_does_not_come_whole_changes_nothing(
    statics: Stage, fault: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lti_tool.lti.services.BACKOFF", (0.0, 0.0))
    statics.sync()
    before = statics.people()
    statics.lms.withdraw("statics", "nobody")
    statics.lms.faults.roster = fault
    with written(statics.app) as statements:
        run = statics.sync()
    assert (run.state, run.error) == (SyncState.FAILED, error)
    assert statements == []
    assert statics.people() == before
    statics.lms.faults.clear()
    assert statics.sync().state is SyncState.APPLIED


def test_a_list_without_end_changes_nothing(statics: Stage) -> None:
    statics.app.config["ROSTER_MAX_PAGES"] = 5
    statics.lms.faults.roster = "endless"
    run = statics.sync()
    assert (run.state, run.error) == (SyncState.FAILED, "too_many_pages page 5")


def test_no_access_token_no_change(stage: Stage) -> None:
    stage.lms.faults.token = "401"
    run = stage.sync()
    assert (run.state, run.error) == (SyncState.FAILED, "token_refused status 401 page 1")


def test_an_lms_whose_deployment_is_no_longer_approved_is_not_asked(stage: Stage) -> None:
    with stage.app.app_context():
        db.session.query(Tenancy).delete()
        db.session.commit()
    asked = len(stage.lms.requests)
    run = stage.sync()
    assert (run.state, run.error) == (SyncState.FAILED, "deployment_not_approved")
    assert len(stage.lms.requests) == asked


def test_a_deployment_that_went_to_another_account_does_not_fill_the_old_course(stage: Stage) -> None:
    with stage.app.app_context():
        other = courses.Account(slug="elsewhere", name="Elsewhere")
        db.session.add(other)
        db.session.flush()
        tie = Connection(account_id=other.id, registration_id=stage.lms.registration_id)
        db.session.add(tie)
        db.session.flush()
        db.session.execute(update(Tenancy).values(connection_id=tie.id))
        db.session.commit()
    assert stage.sync().error == "deployment_not_approved"
