"""The role map of an LMS: table, preview, saving, undoing, trying roles, preview accounts, and who may."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import TOOL, Browser, Cast, LiveServer, Lms, sign_in_token
from flask import Flask
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from sqlalchemy import select, update
from test_accessibility import Look
from test_lms_page import recorded, tie_of
from test_roles import CELLS, TEST_USER
from test_roster_page import counted, text_of
from werkzeug.test import TestResponse

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import Connection, Role, User
from lti_tool.classroom.courses import Enrollment
from lti_tool.database import db
from lti_tool.pages import visitor
from lti_tool.practice_lms.people import Person

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]

V2 = "http://purl.imsglobal.org/vocab/lis/v2/"
TEACHER, LEARNER = V2 + "membership#Instructor", V2 + "membership#Learner"
ASSISTANT = V2 + "membership/Instructor#TeachingAssistant"
DESIGNER = V2 + "membership#ContentDeveloper"
ADMINISTRATOR = V2 + "institution/person#Administrator"
TUTOR = "urn:linden:roles#Tutor"
HTMX = {"HX-Request": "true"}


class RoleMap:
    """The role map's page as Ada sees it: what she edits goes along with every button."""

    def __init__(self, browser: Browser, registration_id: int) -> None:
        self.browser, self.url = browser, f"/lms/{registration_id}/roles"

    def show(self) -> str:
        return text_of(self.browser.get(self.url))

    def form(self, rules: dict[str, str] | None = None, **switches: bool) -> dict[str, Any]:
        """The map as the page shows it, with these changes."""
        page = self.browser.get(self.url).text
        seen = re.search(r'name="seen" value="(\w+)"', page)
        assert seen
        names = ("makes_admins", "assistants_teach", "designers_teach")
        on = {name: bool(re.search(rf'name="{name}"[^>]* checked', page)) for name in names} | switches
        rows = dict(
            re.findall(
                r'-role" value="([^"]*)"><select.*?<option value="">[^<]*</option>'
                r'.*?(?:<option value="(?:student|instructor)" selected>(\w+)|</select>)',
                page,
                re.S,
            )
        )
        chosen = {sent: becomes.lower() for sent, becomes in rows.items()} | (rules or {})
        made: dict[str, Any] = {"seen": seen[1]} | {name: "1" for name, yes in on.items() if yes}
        for number, (sent, becomes) in enumerate(chosen.items()):
            made |= {f"rows-{number}-role": sent, f"rows-{number}-becomes": becomes}
        return made

    def preview(self, rules: dict[str, str] | None = None, **switches: bool) -> str:
        target = HTMX | {"HX-Target": "effect"}
        return text_of(self.post("/preview", self.form(rules, **switches), headers=target))

    def save(self, rules: dict[str, str] | None = None, **switches: bool) -> TestResponse:
        return self.post("", self.form(rules, **switches))

    def post(self, path: str, form: dict[str, Any], **options: Any) -> TestResponse:
        return self.browser.post(self.url + path, form, **options)

    def attempt(self, pasted: str, rules: dict[str, str] | None = None, **switches: bool) -> str:
        form = self.form(rules, **switches) | {"pasted": pasted}
        return text_of(self.post("/try", form, headers=HTMX | {"HX-Target": "simout"}))

    def undo(self) -> TestResponse:
        """Press Undo in the confirmation."""
        stamp = re.search(r'name="stamp" value="(\w+)"', self.browser.get(self.url).text)
        assert stamp
        return self.post("/undo", {"stamp": stamp[1]})


@pytest.fixture
def moodle(cast: Cast, lms: Lms) -> Lms:
    """The practice LMS, after the cast made its account."""
    return lms


@pytest.fixture
def roles(cast: Cast, moodle: Lms, browse: Browse) -> RoleMap:
    return RoleMap(browse(cast.ada), moodle.registration_id)


def arrive(moodle: Lms, browse: Browse, course: str, **people: list[str]) -> None:
    """Each launches once, with these roles at launch and in the list."""
    for slug, sent in people.items():
        moodle.enroll(course, slug, sent)
        assert moodle.launch(browse(None), slug, course).status_code == 303


def roles_in(app: Flask) -> dict[str, Role]:
    """Name → role of everybody whom the LMS put on a course's list."""
    with app.app_context():
        rows = db.session.execute(
            select(User.name, Enrollment.role)
            .join(User, User.id == Enrollment.user_id)
            .where(Enrollment.context_id.is_not(None))
        )
        return {name.split()[0]: role for name, role in rows}


def account_role(app: Flask, name: str) -> Role:
    with app.app_context():
        return db.session.scalars(select(User.role).where(User.name.startswith(name))).one()


# --- every platform's roles, as launches and as lists ---------------------------------------


def test_roles_of_every_platform_arrive_by_launch_and_by_list(
    app: Flask, moodle: Lms, browse: Browse, work: Work
) -> None:
    course = moodle.add_course("77", "Petrology")
    for number, (sent, *_) in enumerate(CELLS.values()):
        moodle.enroll(course, Person(f"c{number}", f"c{number}", f"Cell{number}", "Test"), sent)
    moodle.enroll(course, "tess", ["Learner"])
    # A Moodle assistant: Instructor at launch, Learner in the list.
    page = moodle.launch(browse(None), "tess", "77", claims={"roles": [TEACHER]}).location
    some = range(0, len(CELLS), 4)
    for number in some:
        sent, role, *_, admin = list(CELLS.values())[number]
        answer = moodle.launch(browse(None), f"c{number}", "77")
        assert answer.status_code == (303 if role or admin else 403), list(CELLS)[number]
    ivan = browse(None)
    moodle.enroll(course, "ivan", [TEACHER])
    moodle.launch(ivan, "ivan", "77")
    ivan.post(f"{page}/roster/sync")
    work()
    with app.app_context():
        held = {e.subject: e for e in db.session.scalars(select(Enrollment))}
        for number, (who, (sent, role, *_, admin)) in enumerate(CELLS.items()):
            one = held.get(f"c{number}")
            if role is None or (TEST_USER in sent and number not in some):
                assert one is None, who
                continue
            assert one is not None, who
            assert one.role == role, who
            if TEST_USER not in sent:
                assert (one.roster_roles, one.roster_role) == (sent, role), who
                assert one.role_unsaid is (not sent)
            if number in some:
                assert (one.launch_roles, one.launch_role) == (sent, role), who
                assert one.user.role == (Role.ADMIN if admin else role)
        tess = held["4"]
        assert (tess.launch_role, tess.roster_role, tess.role) == ("instructor", "student", "instructor")
    roster = text_of(ivan.get(f"{page}/roster?q=tess"))
    assert "Two roles disagree" in roster
    assert f"Roles as sentMoodle · At the last launch{TEACHER}Moodle · In the listLearner" in roster


# --- the map ------------------------------------------------------------------------------


def test_the_map_lists_what_people_carry_and_changes_nothing_before_it_is_saved(
    app: Flask, moodle: Lms, roles: RoleMap, browse: Browse, work: Work
) -> None:
    arrive(moodle, browse, "geology", ivan=[TEACHER], sam=["Learner", TUTOR], tess=[TUTOR])
    arrive(moodle, browse, "statics", sam=[TUTOR])
    page = roles.show()
    assert f"{TUTOR} unknown As usual: Student (not said)StudentInstructor 2" in page
    assert "Learner course As usual: StudentStudentInstructor 1" in page
    with counted(app) as statements:
        roles.browser.get(roles.url)
    assert len(statements) <= 10, "\n".join(statements)
    # Sam is one person, in two courses.
    assert "2 people become instructors Not saved yet" in roles.preview({TUTOR: "instructor"})
    assert "1 person becomes an instructor, 1 person becomes a student" in roles.preview(
        {TEACHER: "student", "Learner": "instructor"}
    )
    assert "Nobody’s course role changes now" in roles.preview({"urn:nobody": "instructor"})
    assert roles.preview().strip() == ""
    whole = roles.post("/preview", roles.form({TUTOR: "instructor"}))
    assert "2 people become instructors" in text_of(whole)
    assert 'value="instructor" selected' in whole.text
    assert roles_in(app) == {"Ivan": Role.INSTRUCTOR, "Sam": Role.STUDENT, "Tess": Role.STUDENT}
    assert recorded(app, "platform.roles_mapped") == []


def test_a_rule_for_a_role_is_saved_counts_at_once_and_is_undone(
    app: Flask, cast: Cast, moodle: Lms, roles: RoleMap, browse: Browse, work: Work
) -> None:
    sam = browse(None)
    moodle.enroll("geology", "sam", ["Learner", TUTOR])
    room = moodle.launch(sam, "sam", "geology").location
    arrive(moodle, browse, "geology", tess=[TUTOR], ivan=[TEACHER])
    roster = sam.get(f"{room}/roster")
    assert roster.status_code == 403
    assert roles.save({TUTOR: "instructor"}).status_code == 303
    assert roles_in(app) == dict.fromkeys(("Ivan", "Sam", "Tess"), Role.INSTRUCTOR)
    assert account_role(app, "Tess O") is Role.INSTRUCTOR
    assert sam.get(f"{room}/roster").status_code == 200
    assert recorded(app, "platform.roles_mapped") == [
        ({"overrides": {}}, {"overrides": {TUTOR: "instructor"}})
    ]
    written = recorded(app, "role.changed")
    assert written.count(({"role": "student"}, {"role": "instructor"})) == 2
    with app.app_context():
        course_id = db.session.scalars(select(Enrollment.course_id).filter_by(subject="5")).one()
        tess = db.session.scalars(select(Enrollment).filter_by(subject="4")).one()
        assert (tess.launch_role, tess.role_unsaid, tess.digest) == ("instructor", False, None)
    assert (
        {"course": course_id, "role": "student"},
        {"course": course_id, "role": "instructor"},
    ) in written
    # The next sync agrees, and a change of that rule is told from who made it.
    sam.post(f"{room}/roster/sync")
    work()
    assert roles_in(app) == dict.fromkeys(("Ivan", "Sam", "Tess"), Role.INSTRUCTOR)
    page = roles.show()
    assert "The role map of Moodle is saved.Undo" in page
    assert "changed by Ada Okonkwo" in page

    assert roles.save({TUTOR: "student"}).status_code == 303
    assert roles_in(app) == {"Ivan": Role.INSTRUCTOR, "Sam": Role.STUDENT, "Tess": Role.STUDENT}
    assert roles.undo().status_code == 303
    assert "Roles of Moodle are read as before" in roles.show()
    assert tie_of(app, moodle).role_overrides == {TUTOR: "instructor"}
    assert roles_in(app) == dict.fromkeys(("Ivan", "Sam", "Tess"), Role.INSTRUCTOR)
    # Taken away: as usual again.
    assert roles.save({TUTOR: ""}).status_code == 303
    assert tie_of(app, moodle).role_overrides == {}
    assert roles_in(app)["Tess"] is Role.STUDENT
    assert len(recorded(app, "platform.roles_mapped")) == 4


def test_undoing_takes_back_what_a_rule_made_of_people_in_the_account(
    app: Flask, moodle: Lms, roles: RoleMap, browse: Browse
) -> None:
    arrive(moodle, browse, "geology", sam=["Learner"])
    with app.app_context():
        # Tess was made an instructor by hand, whatever an LMS says.
        db.session.execute(update(User).where(User.name.startswith("Tess")).values(role=Role.INSTRUCTOR))
        db.session.commit()
    roles.save({"Learner": "instructor"})
    assert account_role(app, "Sam R") is Role.INSTRUCTOR
    roles.undo()
    assert account_role(app, "Sam R") is Role.STUDENT
    assert account_role(app, "Tess v") is Role.INSTRUCTOR
    assert roles_in(app) == {"Sam": Role.STUDENT}
    again = roles.post("/undo", {"stamp": roles.form()["seen"]})
    assert again.status_code == 409
    assert 'data-error="role_map_moved"' in again.text


def test_two_who_edit_at_once_do_not_overwrite_each_other(
    app: Flask, moodle: Lms, roles: RoleMap, browse: Browse
) -> None:
    mine = roles.form({TUTOR: "instructor"})
    roles.save({"urn:other": "student"})
    stale = roles.post("", mine)
    assert stale.status_code == 409
    assert "Nothing was changed" in stale.text
    assert tie_of(app, moodle).role_overrides == {"urn:other": "student"}
    said = text_of(roles.post("/preview", mine, headers=HTMX | {"HX-Target": "effect"}))
    assert "This role map was changed meanwhile" in said
    same = roles.save()
    assert same.status_code == 303
    assert "says that already" in roles.show()


def test_the_switches_stand_on_the_map_too_and_are_previewed(
    app: Flask, cast: Cast, moodle: Lms, roles: RoleMap, browse: Browse
) -> None:
    arrive(moodle, browse, "geology", tess=[ASSISTANT, TEACHER], designer=[DESIGNER], ivan=[TEACHER])
    boss = browse(None)
    moodle.enroll("geology", "ada", [ADMINISTRATOR, TEACHER])
    moodle.launch(boss, "ada", "geology")
    assert boss.get("/lms").status_code == 200
    said = roles.preview(assistants_teach=False, designers_teach=False, makes_admins=False)
    assert "2 people become students" in said
    assert "1 person is no longer an admin and is signed out." in said
    assert roles.save(assistants_teach=False, designers_teach=False, makes_admins=False).status_code == 303
    tie = tie_of(app, moodle)
    assert (tie.makes_admins, tie.assistants_teach, tie.designers_teach) == (False, False, False)
    assert roles_in(app) == {
        "Tess": Role.STUDENT, "Dora": Role.STUDENT, "Ivan": Role.INSTRUCTOR, "Ada": Role.INSTRUCTOR,
    }  # fmt: skip
    assert boss.get("/lms").status_code == 303
    assert recorded(app, "platform.switched") == [
        ({name: True}, {name: False}) for name in ("makes_admins", "assistants_teach", "designers_teach")
    ]
    roles.undo()
    tie = tie_of(app, moodle)
    assert (tie.makes_admins, tie.assistants_teach, tie.designers_teach) == (True, True, True)
    assert roles_in(app)["Tess"] is Role.INSTRUCTOR
    roles.save(makes_admins=False)
    assert "become admins when they next open Doorlist there" in roles.preview(makes_admins=True)
    assert text_of(browse(cast.ada).get("/lms")).count("Teaching assistants are instructors here") == 1


def test_the_last_admins_cannot_lose_it_by_the_map(
    app: Flask, cast: Cast, moodle: Lms, browse: Browse
) -> None:
    boss = browse(None)
    moodle.launch(boss, "ada", "geology")
    with app.app_context():
        db.session.get_one(User, cast.ada).role = Role.STUDENT
        db.session.commit()
    theirs = RoleMap(boss, moodle.registration_id)
    answer = theirs.save({TUTOR: "student"}, makes_admins=False)
    assert answer.status_code == 409
    assert "Nobody would be left to manage this account" in answer.text
    assert tie_of(app, moodle).makes_admins
    assert tie_of(app, moodle).role_overrides == {}


@pytest.mark.parametrize(
    ("role", "becomes", "said"),
    [
        (TEST_USER, "instructor", "This marks a preview account, and stays that."),
        ("x" * 501, "student", "No LMS sends a role as long as this."),
        ("Tu\ttor", "student", "There is a character in it that no role has."),
        (TUTOR, "owner", "It cannot become that."),
        (TUTOR, "admin", "It cannot become that."),
    ],
)
def test_a_rule_that_cannot_be_comes_back_filled_with_the_error_beside_it(
    app: Flask, moodle: Lms, roles: RoleMap, role: str, becomes: str, said: str
) -> None:
    answer = roles.post("", roles.form({role: becomes}))
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert 'aria-invalid="true" aria-describedby="another-error"' in answer.text
    assert tie_of(app, moodle).role_overrides == {}
    assert roles.post("/preview", roles.form({role: becomes}), headers=HTMX).status_code == 422


def test_a_row_whose_number_is_none_is_refused(moodle: Lms, roles: RoleMap) -> None:
    for number in ("²", "9" * 5000):
        assert roles.post("/preview", roles.form({}) | {f"rows-{number}-role": "x"}).status_code == 400


def test_roles_of_the_institution_with_a_rule_let_people_in(
    app: Flask, moodle: Lms, roles: RoleMap, browse: Browse
) -> None:
    staff = V2 + "institution/person#Staff"
    moodle.enroll("geology", "tess", [staff])
    assert moodle.launch(browse(None), "tess", "geology").status_code == 403
    roles.save({staff: "student"})
    assert moodle.launch(browse(None), "tess", "geology").status_code == 303
    roles.save({staff: ""})
    # Who is on the list stays on it, and staff are told that no role was said.
    with app.app_context():
        held = db.session.scalars(select(Enrollment).filter_by(subject="4")).one()
        assert (held.role, held.role_unsaid, held.ended_at) == (Role.STUDENT, True, None)
    assert moodle.launch(browse(None), "tess", "geology").status_code == 403


def test_an_undone_sync_brings_back_people_and_not_an_older_map(
    app: Flask, moodle: Lms, roles: RoleMap, browse: Browse, work: Work
) -> None:
    ivan = browse(None)
    path = moodle.launch(ivan, "ivan", "geology").location
    moodle.enroll("geology", "tess", [ASSISTANT])
    ivan.post(f"{path}/roster/sync")
    work()
    moodle.withdraw("geology", "tess")
    moodle.enroll("geology", "sam", [ASSISTANT])
    moodle.enroll("geology", "designer", [DESIGNER])
    ivan.post(f"{path}/roster/sync")
    work()
    roles.save(assistants_teach=False)
    assert roles_in(app)["Sam"] is Role.STUDENT
    pressed = re.search(r'action="([^"]+/undo)"', ivan.get(f"{path}/roster").text)
    assert pressed
    assert ivan.post(pressed[1]).status_code == 303
    # Tess is back, and Sam was a student before that sync; both as the map says now.
    assert roles_in(app)["Tess"] is Role.STUDENT
    assert roles_in(app)["Sam"] is Role.STUDENT


# --- trying roles -------------------------------------------------------------------------


def test_pasted_roles_show_what_they_would_become_with_the_map_as_edited(
    app: Flask, moodle: Lms, roles: RoleMap
) -> None:
    pasted = f"{V2}institution/person#Staff\n{LEARNER}\n{ASSISTANT}\n{TEACHER}\n{TUTOR}"
    said = roles.attempt(pasted)
    assert "Says nothing about the course." in said
    assert "Sent beside a more exact role" in said
    assert "Not a role that we know." in said
    assert "In the courseInstructorDecided by Instructor · TeachingAssistant" in said
    assert "In the accountInstructor" in said
    assert "The door of an active course, with the room openOpen" in said
    assert "The door of an inactive courseOpen, to prepare" in said
    # Not saved, and still what counts here.
    edited = roles.attempt(f"{LEARNER}\n{ASSISTANT}", assistants_teach=False)
    assert "those are students here" in edited
    assert "In the courseStudentDecided by Learner" in edited
    assert "Closed: course inactiveOn the course" in edited
    assert "Your rule for this role: instructor." in roles.attempt(TUTOR, {TUTOR: "instructor"})
    assert "Staff see “Role not said”." in roles.attempt(TUTOR)
    outside = roles.attempt(V2 + "institution/person#Staff")
    assert "In the courseNo role" in outside
    assert "gave no role in the course. Nobody is enrolled." in outside
    assert "The door of" not in outside
    admin = roles.attempt(ADMINISTRATOR)
    assert "In the accountAdmin" in admin
    assert "An admin of the account enters every room." in admin
    assert "In the accountNobody" in roles.attempt(ADMINISTRATOR, makes_admins=False)
    assert "Marked as a preview account." in roles.attempt(f"{LEARNER}\n{TEST_USER}")
    assert tie_of(app, moodle).assistants_teach


def test_a_whole_launch_is_read_and_nothing_of_it_is_kept(
    app: Flask, moodle: Lms, roles: RoleMap, caplog: pytest.LogCaptureFixture
) -> None:
    claims = moodle.claims("tess", "geology", roles=[ASSISTANT], name="Zelda Quist", email="zq@example.test")
    form = roles.form()
    with counted(app) as statements:
        answer = roles.post("/try", form | {"pasted": moodle.sign(claims)})
    said = text_of(answer)
    assert "Zelda Quist · GeologyThe token’s signature was not checked." in re.sub(
        r"(?<=y) (?=The)", "", said
    )
    assert "Decided by Instructor · TeachingAssistant" in said
    assert not [s for s in statements if s.startswith(("INSERT", "UPDATE", "DELETE"))]
    assert "zq@example.test" not in said
    said = text_of(roles.post("/try", form | {"pasted": json.dumps(claims)}, headers=HTMX))
    assert "Zelda Quist · Geology" in said
    assert "signature" not in said
    assert "Zelda" not in caplog.text
    wrong = roles.post("/try", form | {"pasted": "eyJhbGciOiJSUzI1NiJ9.cut"}, headers=HTMX)
    assert (wrong.status_code, "Copy all three parts of it." in text_of(wrong)) == (422, True)
    whole = roles.post("/try", form | {"pasted": '{"roles": 5}'})
    assert whole.status_code == 422
    assert "There is no list of roles in it." in text_of(whole)
    assert 'aria-invalid="true"' in whole.text
    assert roles.post("/try", form | {"pasted": "x" * 100_001}).status_code == 422
    with app.app_context():
        assert not db.session.scalars(select(User).where(User.name.startswith("Zelda"))).all()


def test_somebody_known_is_tried_by_launch_and_list(
    app: Flask, cast: Cast, moodle: Lms, roles: RoleMap, browse: Browse, work: Work
) -> None:
    moodle.enroll("geology", "tess", ["Learner"])
    moodle.launch(browse(None), "sam", "geology")
    ivan = browse(None)
    path = moodle.launch(ivan, "ivan", "geology").location
    moodle.launch(browse(None), "tess", "geology", claims={"roles": [ASSISTANT]})
    ivan.post(f"{path}/roster/sync")
    work()
    form = roles.form()
    found = roles.post("/try", form | {"who": "okaf"})
    assert "Tess Okafor · Geology" in text_of(found)
    assert "Sam Rivera ·" not in text_of(found)
    assert "Nobody of this LMS is called “Zelda”" in text_of(roles.post("/try", form | {"who": "Zelda"}))
    chosen = re.search(r'name="told" value="(\d+)"', found.text)
    assert chosen
    said = text_of(roles.post("/try", form | {"told": chosen[1]}, headers=HTMX))
    assert "Tess Okafor · Geology" in said
    assert "At the last launch: courseInstructor · TeachingAssistant" in said
    assert "In the list: courseLearner" in said
    assert "the higher of launch and list holds" in said
    with app.app_context():
        by_hand = db.session.scalars(select(Enrollment.id).filter_by(user_id=cast.sam)).first()
    for stranger in (by_hand, 999_999, 2**40):
        assert roles.post("/try", form | {"told": str(stranger)}).status_code == 404


# --- who may ------------------------------------------------------------------------------


def test_eve_of_another_account_finds_nothing_and_only_admins_may(
    app: Flask, cast: Cast, moodle: Lms, roles: RoleMap, browse: Browse
) -> None:
    form = roles.form({TUTOR: "instructor"})
    posts = [roles.url, *(f"{roles.url}/{deed}" for deed in ("preview", "try", "undo"))]
    for who, status in ((cast.eve, 404), (cast.ivan, 403), (cast.sam, 403)):
        browser = browse(who)
        assert browser.get(roles.url).status_code == status
        for url in posts:
            assert browser.post(url, form | {"pasted": TUTOR, "stamp": form["seen"]}).status_code == status
    assert tie_of(app, moodle).role_overrides == {}


def test_eve_cannot_try_somebody_of_another_account(
    app: Flask, cast: Cast, moodle: Lms, roles: RoleMap, browse: Browse
) -> None:
    moodle.launch(browse(None), "sam", "geology")
    with app.app_context():
        # Both accounts share the registration, as on a hosted LMS.
        other = db.session.get_one(accounts.Account, cast.other_account)
        tie = db.session.scalars(select(Connection)).one()
        accounts.connect(other, tie.registration)
        sam = db.session.scalars(select(Enrollment.id).where(Enrollment.context_id.is_not(None))).one()
        db.session.commit()
    eves = RoleMap(browse(cast.eve), moodle.registration_id)
    assert LEARNER not in eves.show()
    form = eves.form()
    assert eves.post("/try", form | {"told": str(sam)}).status_code == 404
    assert "Nobody of this LMS" in text_of(eves.post("/try", form | {"who": "sam"}))
    eves.save({LEARNER: "instructor"})
    assert roles_in(app) == {"Sam": Role.STUDENT}
    with app.app_context():
        overrides = dict(db.session.execute(select(Connection.account_id, Connection.role_overrides)).all())
        assert overrides == {cast.account: {}, cast.other_account: {LEARNER: "instructor"}}


# --- in a browser -------------------------------------------------------------------------


def test_in_a_browser_the_preview_and_the_trial_follow_what_is_edited(
    app: Flask,
    cast: Cast,
    moodle: Lms,
    browse: Browse,
    server: LiveServer,
    chromium: Callable[..., webdriver.Chrome],
    shot: Callable[[webdriver.Chrome, str], None],
) -> None:
    app.config["PUBLIC_URL"] = TOOL
    arrive(moodle, browse, "geology", sam=[LEARNER, TUTOR], tess=[TUTOR, V2 + "institution/person#Staff"])
    arrive(moodle, browse, "geology", ivan=[TEACHER], designer=[DESIGNER])
    app.config["PUBLIC_URL"] = server.url
    driver = chromium()
    wait = WebDriverWait(driver, 20)

    def said(selector: str) -> str:
        return driver.find_element(By.CSS_SELECTOR, selector).text

    driver.get(server.url + "/sign-in")
    token = sign_in_token(app, cast.ada)
    driver.add_cookie({"name": visitor.OWN_COOKIE, "value": token, "secure": True, "sameSite": "Lax"})
    driver.get(f"{server.url}/lms/{moodle.registration_id}/roles")
    driver.find_element(By.ID, "pasted").send_keys(f"{TUTOR}\n{LEARNER}")
    wait.until(lambda d: "Decided by Learner" in said("#simout"))
    tutors = Select(driver.find_element(By.CSS_SELECTOR, f"[aria-label='{TUTOR} becomes']"))
    tutors.select_by_value("instructor")
    wait.until(lambda d: "2 people become instructors" in said("#effect"))
    wait.until(lambda d: "Your rule for this role: instructor." in said("#simout"))
    shot(driver, "role-map")
    driver.find_element(By.ID, "who").send_keys("tess")
    wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#simout [name=told]"))
    driver.find_element(By.CSS_SELECTOR, "#simout [name=told]").click()
    wait.until(lambda d: "At the last launch" in said("#simout"))
    assert "Your rule for this role: instructor." in said("#simout")
    tutors.select_by_value("student")
    wait.until(lambda d: "Your rule for this role: student." in said("#simout"))
    assert "Tess Okafor · Geology" in said("#simout")
    tutors.select_by_value("instructor")
    wait.until(lambda d: "Your rule for this role: instructor." in said("#simout"))
    look = Look(driver)
    look.at("role map")
    assert look.wrong == []
    for dark in (False, True):
        look._window("dark" if dark else "light", 360)
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 2600, "deviceScaleFactor": 1, "mobile": False},
        )
        shot(driver, f"role-map-360{'-dark' if dark else ''}")
    look._window("light", 1280)
    driver.find_element(By.CSS_SELECTOR, "#effect button").click()
    wait.until(lambda d: "The role map of Moodle is saved." in said("#toasts"))
    assert roles_in(app)["Sam"] is Role.INSTRUCTOR
    shot(driver, "role-map-saved")
    driver.find_element(By.CSS_SELECTOR, "#toasts form button").click()
    wait.until(lambda d: "are read as before" in said("#toasts"))
    assert roles_in(app)["Sam"] is Role.STUDENT
