"""Role URIs in every spelling that platforms use, read as each platform means them."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lti_tool.classroom.accounts import Role
from lti_tool.classroom.role_maps import RolePolicy, Rule, read_roles
from lti_tool.lti.pasted import PastedUnreadable, read_pasted
from lti_tool.lti.roles import RoleName, parse, read

V2 = "http://purl.imsglobal.org/vocab/lis/v2/"
CONTEXT = V2 + "membership"
INSTRUCTOR = RoleName("context", "Instructor")
LEARNER = RoleName("context", "Learner")
ASSISTANT = RoleName("context", "Instructor", "TeachingAssistant")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        # as the standard writes them
        (CONTEXT + "#Instructor", INSTRUCTOR),
        (CONTEXT + "#Learner", LEARNER),
        (CONTEXT + "#ContentDeveloper", RoleName("context", "ContentDeveloper")),
        (CONTEXT + "#Administrator", RoleName("context", "Administrator")),
        (CONTEXT + "#Mentor", RoleName("context", "Mentor")),
        (CONTEXT + "#Manager", RoleName("context", "Manager")),
        (CONTEXT + "#Member", RoleName("context", "Member")),
        (CONTEXT + "#Officer", RoleName("context", "Officer")),
        (CONTEXT + "/Instructor#TeachingAssistant", ASSISTANT),
        (CONTEXT + "/Instructor#Grader", RoleName("context", "Instructor", "Grader")),
        (CONTEXT + "/Instructor#GuestInstructor", RoleName("context", "Instructor", "GuestInstructor")),
        (
            CONTEXT + "/Instructor#PrimaryInstructor",
            RoleName("context", "Instructor", "PrimaryInstructor"),
        ),
        (CONTEXT + "/Learner#GuestLearner", RoleName("context", "Learner", "GuestLearner")),
        (CONTEXT + "/Learner#NonCreditLearner", RoleName("context", "Learner", "NonCreditLearner")),
        # a learner, whatever the sub-role is called
        (CONTEXT + "/Learner#Instructor", RoleName("context", "Learner", "Instructor")),
        (CONTEXT + "/Manager#Observer", RoleName("context", "Manager", "Observer")),
        (CONTEXT + "/Mentor#Auditor", RoleName("context", "Mentor", "Auditor")),
        (V2 + "institution/person#Administrator", RoleName("institution", "Administrator")),
        (V2 + "institution/person#Faculty", RoleName("institution", "Faculty")),
        (V2 + "institution/person#Instructor", RoleName("institution", "Instructor")),
        (V2 + "system/person#SysAdmin", RoleName("system", "SysAdmin")),
        (V2 + "system/person#User", RoleName("system", "User")),
        # Open edX, Canvas without a login
        (V2 + "system/person#None", RoleName("system", "None")),
        (V2 + "institution/person#None", RoleName("institution", "None")),
        # Canvas Student View
        ("http://purl.imsglobal.org/vocab/lti/system/person#TestUser", RoleName("system", "TestUser")),
        # Moodle's roster and Sakai
        ("Instructor", INSTRUCTOR),
        ("Learner", LEARNER),
        ("Administrator", RoleName("context", "Administrator")),
        ("TeachingAssistant", ASSISTANT),
        ("Instructor/TeachingAssistant", ASSISTANT),
        # malformed: Moodle's roster, Sakai
        (V2 + "person#Administrator", RoleName("institution", "Administrator")),
        ("person#Administrator", RoleName("institution", "Administrator")),
        (CONTEXT + "#Instructor#TeachingAssistant", ASSISTANT),
        # LTI 1.1
        ("urn:lti:role:ims/lis/Instructor", INSTRUCTOR),
        ("urn:lti:role:ims/lis/Learner/NonCreditLearner", RoleName("context", "Learner", "NonCreditLearner")),
        ("urn:lti:role:ims/lis/TeachingAssistant", ASSISTANT),
        ("urn:lti:instrole:ims/lis/Administrator", RoleName("institution", "Administrator")),
        ("urn:lti:sysrole:ims/lis/SysAdmin", RoleName("system", "SysAdmin")),
        # other schemes and cases
        ("https://purl.imsglobal.org/vocab/lis/v2/membership#Instructor", INSTRUCTOR),
        ("HTTP://PURL.imsglobal.org/vocab/lis/v2/Membership#instructor", INSTRUCTOR),
        (CONTEXT + "/instructor#teachingassistant", ASSISTANT),
        ("learner", LEARNER),
        (" Instructor ", INSTRUCTOR),
        ("URN:LTI:ROLE:IMS/LIS/INSTRUCTOR", INSTRUCTOR),
    ],
)
def test_every_spelling_is_read(uri: str, name: RoleName) -> None:
    assert parse(uri) == name


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "NotAnInstructor",
        "InstructorX",
        "Former Instructor",
        "Instructor,Learner",
        CONTEXT + "#FormerInstructor",
        CONTEXT + "#",
        CONTEXT,
        CONTEXT + "/#Instructor",
        CONTEXT + "/Instructor#Unheard",
        CONTEXT + "/Unheard#Instructor",
        CONTEXT + "#Instructor#Unheard",
        CONTEXT + "#Learner#NonCreditLearner#Instructor",
        CONTEXT + "X#Instructor",
        "http://purl.imsglobal.org.evil.example/vocab/lis/v2/membership#Instructor",
        "https://evil.example/?http://purl.imsglobal.org/vocab/lis/v2/membership#Instructor",
        "urn:lti:role:ims/lis/Dean",
        "urn:lti:role:Instructor",
        "https://lms.example/roles#Instructor",
    ],
)
def test_a_role_that_only_contains_a_known_word_is_unknown(uri: str) -> None:
    assert parse(uri) is None
    assert read([uri]).context_roles == ()
    assert read([uri]).unknown == (uri,)
    assert read([uri]).has_context


@given(st.text(max_size=80))
def test_nothing_makes_the_parser_stumble(text: str) -> None:
    parse(text)
    parse(V2 + text)
    parse("urn:lti:role:ims/lis/" + text)
    assert read([text, text]).is_empty is False


# What each platform sends: its list → context roles, administrator, test user.
SENT = {
    "canvas teacher": (
        [V2 + "institution/person#Instructor", CONTEXT + "#Instructor", V2 + "system/person#User"],
        (INSTRUCTOR,),
        False,
    ),
    "canvas assistant": (
        [CONTEXT + "/Instructor#TeachingAssistant", CONTEXT + "#Instructor"],
        (ASSISTANT, INSTRUCTOR),
        False,
    ),
    "canvas observer": ([CONTEXT + "#Mentor"], (RoleName("context", "Mentor"),), False),
    "canvas designer": (
        [CONTEXT + "#ContentDeveloper"],
        (RoleName("context", "ContentDeveloper"),),
        False,
    ),
    "canvas admin": (
        [V2 + "institution/person#Administrator", V2 + "system/person#SysAdmin", V2 + "system/person#User"],
        (),
        True,
    ),
    "canvas group": (
        [CONTEXT + "#Member", CONTEXT + "#Manager"],
        (RoleName("context", "Member"), RoleName("context", "Manager")),
        False,
    ),
    "moodle teacher": ([CONTEXT + "#Instructor"], (INSTRUCTOR,), False),
    "moodle admin": (
        [
            V2 + "institution/person#Administrator",
            CONTEXT + "#Instructor",
            V2 + "system/person#Administrator",
        ],
        (INSTRUCTOR,),
        True,
    ),
    "moodle roster teacher": (["Instructor"], (INSTRUCTOR,), False),
    "moodle roster student": (["Learner"], (LEARNER,), False),
    "moodle roster admin": ([V2 + "person#Administrator"], (), True),
    "sakai assistant": ([CONTEXT + "#Instructor#TeachingAssistant"], (ASSISTANT,), False),
    "sakai teacher": (["Instructor", CONTEXT + "#Instructor"], (INSTRUCTOR,), False),
    "sakai admin": (
        [
            "Instructor",
            "Administrator",
            V2 + "institution/person#Administrator",
            V2 + "system/person#Administrator",
        ],
        (INSTRUCTOR, RoleName("context", "Administrator")),
        True,
    ),
    "open edx course admin": (
        [CONTEXT + "#Administrator", CONTEXT + "#Instructor"],
        (RoleName("context", "Administrator"), INSTRUCTOR),
        False,
    ),
    "open edx student": (
        [V2 + "system/person#None", V2 + "institution/person#None", CONTEXT + "#Learner"],
        (LEARNER,),
        False,
    ),
}


@pytest.mark.parametrize("who", SENT)
def test_what_each_platform_sends_is_read_as_the_table_says(who: str) -> None:
    sent, context_roles, administrator = SENT[who]
    said = read(sent)
    assert said.context_roles == context_roles
    assert said.is_administrator is administrator
    assert said.has_context is bool(context_roles)
    assert said.unknown == ()
    assert not said.is_empty


def test_canvas_student_view_is_marked() -> None:
    said = read([CONTEXT + "#Learner", "http://purl.imsglobal.org/vocab/lti/system/person#TestUser"])
    assert said.is_test_user
    assert said.context_roles == (LEARNER,)


def test_administrator_of_a_course_is_no_administrator() -> None:
    assert not read([CONTEXT + "#Administrator", V2 + "system/person#AccountAdmin"]).is_administrator


def test_no_role_is_told_from_roles_of_no_course() -> None:
    assert read([]).is_empty
    assert not read([]).has_context
    only_institution = read([V2 + "institution/person#Student", V2 + "institution/person#Unheard"])
    assert not only_institution.has_context
    assert not only_institution.is_empty
    assert only_institution.unknown == ()


def test_unknown_roles_are_kept_beside_known_ones_and_said_once() -> None:
    said = read(["Learner", "https://lms.example/roles#Tutor", "Learner", "https://lms.example/roles#Tutor"])
    assert said.context_roles == (LEARNER,)
    assert said.unknown == ("https://lms.example/roles#Tutor",)


# --- what the roles mean here: every cell of the table of platforms -----------------------

INSTITUTION, SYSTEM = V2 + "institution/person#", V2 + "system/person#"
TEACHER, STUDENT_URI = CONTEXT + "#Instructor", CONTEXT + "#Learner"
ASSISTANT_URI = CONTEXT + "/Instructor#TeachingAssistant"
DESIGNER, MENTOR = CONTEXT + "#ContentDeveloper", CONTEXT + "#Mentor"
TEST_USER = "http://purl.imsglobal.org/vocab/lti/system/person#TestUser"
I, S, NONE = "instructor", "student", None  # noqa: E741 — a table of many cells

# Who → what is sent, what that makes; with assistants, with designers switched off; an admin?
CELLS: dict[str, tuple[list[str], str | None, str | None, str | None, bool]] = {
    "canvas launch teacher": ([INSTITUTION + "Instructor", TEACHER, SYSTEM + "User"], I, I, I, False),
    "canvas launch assistant": (
        [INSTITUTION + "Instructor", ASSISTANT_URI, TEACHER, SYSTEM + "User"], I, S, I, False,
    ),
    "canvas launch student": ([INSTITUTION + "Student", STUDENT_URI, SYSTEM + "User"], S, S, S, False),
    "canvas launch observer": ([INSTITUTION + "Observer", MENTOR, SYSTEM + "User"], S, S, S, False),
    "canvas launch designer": ([INSTITUTION + "Instructor", DESIGNER, SYSTEM + "User"], I, I, S, False),
    "canvas launch admin": (
        [INSTITUTION + "Administrator", SYSTEM + "SysAdmin", SYSTEM + "User"], NONE, NONE, NONE, True,
    ),
    "canvas launch student who teaches elsewhere": (
        [INSTITUTION + "Instructor", INSTITUTION + "Student", STUDENT_URI], S, S, S, False,
    ),
    "canvas group leader": ([CONTEXT + "#Member", CONTEXT + "#Manager"], I, I, S, False),
    "canvas group member": ([CONTEXT + "#Member"], S, S, S, False),
    "canvas student view": ([STUDENT_URI, TEST_USER], S, S, S, False),
    "canvas without a login": ([SYSTEM + "None"], NONE, NONE, NONE, False),
    "canvas roster teacher": ([TEACHER], I, I, I, False),
    "canvas roster assistant": ([ASSISTANT_URI, TEACHER], I, S, I, False),
    "canvas roster student": ([STUDENT_URI], S, S, S, False),
    "canvas roster observer": ([MENTOR], S, S, S, False),
    "canvas roster designer": ([DESIGNER], I, I, S, False),
    "moodle launch teacher, assistant, designer or manager": ([TEACHER], I, I, I, False),
    "moodle launch student or observer": ([STUDENT_URI], S, S, S, False),
    "moodle launch admin": (
        [INSTITUTION + "Administrator", TEACHER, SYSTEM + "Administrator"], I, I, I, True,
    ),
    "moodle roster teacher or designer": (["Instructor"], I, I, I, False),
    "moodle roster assistant, student or observer": (["Learner"], S, S, S, False),
    "moodle roster admin": ([V2 + "person#Administrator"], NONE, NONE, NONE, True),
    "blackboard teacher, or assistant and designer before they are mapped": ([TEACHER], I, I, I, False),
    "blackboard assistant, mapped": ([ASSISTANT_URI], I, S, I, False),
    "blackboard designer, mapped": ([DESIGNER], I, I, S, False),
    "blackboard observer, mapped": ([CONTEXT + "/Manager#Observer"], S, S, S, False),
    "blackboard grader, mapped": ([CONTEXT + "/Instructor#Grader", TEACHER], S, S, S, False),
    "blackboard guest, mapped": ([CONTEXT + "/Learner#GuestLearner", STUDENT_URI], S, S, S, False),
    "blackboard student": ([STUDENT_URI, INSTITUTION + "Student"], S, S, S, False),
    "blackboard admin, mapped": ([INSTITUTION + "Administrator", TEACHER], I, I, I, True),
    "brightspace teacher": ([TEACHER], I, I, I, False),
    "brightspace assistant": ([ASSISTANT_URI], I, S, I, False),
    "brightspace student": ([STUDENT_URI], S, S, S, False),
    "brightspace observer, designer or anybody not mapped": ([], S, S, S, False),
    "brightspace admin": ([INSTITUTION + "Administrator"], NONE, NONE, NONE, True),
    "sakai teacher": (["Instructor", TEACHER], I, I, I, False),
    "sakai assistant": ([CONTEXT + "#Instructor#TeachingAssistant"], I, S, I, False),
    "sakai assistant with the plain name": (
        ["Instructor", CONTEXT + "#Instructor#TeachingAssistant"], I, S, I, False,
    ),
    "sakai student": (["Learner", STUDENT_URI], S, S, S, False),
    "sakai observer": ([MENTOR], S, S, S, False),
    "sakai designer": ([DESIGNER], I, I, S, False),
    "sakai admin": (
        ["Instructor", "Administrator", INSTITUTION + "Administrator", SYSTEM + "Administrator"],
        I, I, I, True,
    ),
    "open edx teacher": ([TEACHER], I, I, I, False),
    "open edx course admin": ([CONTEXT + "#Administrator", TEACHER], I, I, I, False),
    "open edx forum assistant": ([STUDENT_URI, CONTEXT + "/Learner#Instructor"], S, S, S, False),
    "open edx student": ([SYSTEM + "None", INSTITUTION + "None", STUDENT_URI], S, S, S, False),
    "open edx staff": (
        [SYSTEM + "Administrator", INSTITUTION + "Administrator", CONTEXT + "#Administrator"], I, I, I, True,
    ),
    "schoology teacher": ([TEACHER, INSTITUTION + "Instructor"], I, I, I, False),
    "schoology assistant": ([ASSISTANT_URI, TEACHER], I, S, I, False),
    "schoology student": ([STUDENT_URI, INSTITUTION + "Student"], S, S, S, False),
    "schoology parent": ([MENTOR, INSTITUTION + "Observer"], S, S, S, False),
    "schoology admin": ([INSTITUTION + "Administrator", SYSTEM + "SysAdmin"], NONE, NONE, NONE, True),
}  # fmt: skip


@pytest.mark.parametrize("who", CELLS)
def test_every_cell_of_the_platforms_table_means_what_the_policy_says(who: str) -> None:
    sent, role, without_assistants, without_designers, admin = CELLS[who]
    # What Canvas sends from the institution or a role sent twice, in another order, changes nothing.
    for order in (sent, sent[::-1], [*sent, *sent]):
        assert read_roles(order, RolePolicy()).role == role
        assert read_roles(order, RolePolicy(assistants_teach=False)).role == without_assistants
        assert read_roles(order, RolePolicy(designers_teach=False)).role == without_designers
        assert read_roles(order, RolePolicy()).admin is admin
        assert read_roles(order, RolePolicy(makes_admins=False)).admin is False
        # Not even an admin whose registration makes none gets more than an instructor.
        assert read_roles(order, RolePolicy(makes_admins=False)).role == role
    assert read_roles(sent, RolePolicy()).test is (TEST_USER in sent)


@pytest.mark.parametrize(
    ("sent", "role"),
    [
        (CONTEXT + "#Officer", S),
        (CONTEXT + "/Mentor#Auditor", S),
        (CONTEXT + "/Manager#Observer", S),
        (CONTEXT + "/Manager#CourseCoordinator", I),
        (CONTEXT + "/ContentDeveloper#Librarian", I),
        (CONTEXT + "/Learner#NonCreditLearner", S),
        (CONTEXT + "/Instructor#GuestInstructor", S),
        (CONTEXT + "/Instructor#PrimaryInstructor", I),
        ("urn:lti:role:ims/lis/TeachingAssistant", I),
    ],
)
def test_onlookers_never_lead_and_sub_roles_count_for_themselves(sent: str, role: str) -> None:
    assert read_roles([sent], RolePolicy()).role == role


def test_a_reading_says_which_role_decided_and_by_which_rule() -> None:
    reading = read_roles([INSTITUTION + "Staff", STUDENT_URI, ASSISTANT_URI, TEACHER], RolePolicy())
    assert [verdict.rule for verdict in reading.verdicts] == [
        Rule.OUTSIDE, Rule.LEARNS, Rule.ASSISTANT, Rule.COMPANION,
    ]  # fmt: skip
    assert reading.decisive is not None
    assert (reading.decisive.sent, reading.role) == (ASSISTANT_URI, I)
    unknown = read_roles(["urn:x:Zookeeper", INSTITUTION + "Faculty"], RolePolicy())
    assert (unknown.role, unknown.unsaid, unknown.decisive) == (S, True, None)
    assert read_roles([INSTITUTION + "Faculty"], RolePolicy()).role is None


def test_an_override_speaks_for_one_role_exactly_and_makes_no_admin() -> None:
    tutor = "urn:linden:roles#Tutor"
    policy = RolePolicy(
        overrides={
            tutor: Role.INSTRUCTOR,
            DESIGNER: Role.STUDENT,
            "Learner": Role.INSTRUCTOR,
            INSTITUTION + "Staff": Role.INSTRUCTOR,
            INSTITUTION + "Administrator": Role.INSTRUCTOR,
            TEST_USER: Role.INSTRUCTOR,
        }
    )
    assert read_roles([tutor], policy).role is Role.INSTRUCTOR
    assert not read_roles([tutor], policy).unsaid
    assert read_roles([f" {tutor} "], policy).role is Role.INSTRUCTOR
    assert read_roles([tutor + "2"], policy).unsaid
    assert read_roles([DESIGNER], policy).role is Role.STUDENT
    # Another spelling of the same role is another role as sent.
    assert (read_roles(["Learner"], policy).role, read_roles([STUDENT_URI], policy).role) == (I, S)
    # Of the institution, it counts only where nothing is said of the course.
    assert read_roles([INSTITUTION + "Staff"], policy).role is Role.INSTRUCTOR
    assert read_roles([INSTITUTION + "Staff", STUDENT_URI], policy).role is Role.STUDENT
    assert read_roles([INSTITUTION + "Staff", "urn:x:Zookeeper"], policy).unsaid
    # Whether an administrator is an admin is the switch's to say, either way.
    administrator = [INSTITUTION + "Administrator"]
    assert (read_roles(administrator, policy).admin, read_roles(administrator, policy).role) == (True, I)
    assert not read_roles(administrator, replace(policy, makes_admins=False)).admin
    assert read_roles([STUDENT_URI, TEST_USER], policy).role is Role.STUDENT
    assert read_roles([STUDENT_URI, TEST_USER, *administrator], policy).admin is False


def test_an_overridden_sub_role_is_what_its_plain_companion_means_too() -> None:
    policy = RolePolicy(overrides={ASSISTANT_URI: Role.STUDENT})
    assert read_roles([ASSISTANT_URI, TEACHER], policy).role is Role.STUDENT
    assert read_roles([TEACHER], policy).role is Role.INSTRUCTOR


@given(st.lists(st.sampled_from([*{role for cell in CELLS.values() for role in cell[0]}, "urn:x:Zookeeper"])))
def test_no_list_of_roles_leads_beyond_its_strongest_context_role(sent: list[str]) -> None:
    reading = read_roles(sent, RolePolicy(makes_admins=False))
    alone = [read_roles([role], RolePolicy(makes_admins=False)).role for role in sent]
    assert reading.role in (None, Role.STUDENT, Role.INSTRUCTOR)
    assert not reading.admin
    assert reading.role is not Role.INSTRUCTOR or Role.INSTRUCTOR in alone


# --- what a person pastes ----------------------------------------------------------------

CLAIMS = {
    "sub": "4",
    "name": "Tess Okafor",
    "email": "tess@example.test",
    "https://purl.imsglobal.org/spec/lti/claim/context": {"id": "2", "title": "Geology"},
    "https://purl.imsglobal.org/spec/lti/claim/roles": [ASSISTANT_URI, TEACHER],
}


def token_of(claims: object) -> str:
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.not-a-signature"


@pytest.mark.parametrize("dress", [json.dumps, token_of, lambda c: f"id_token={token_of(c)}&state=s.t",
                                   lambda c: json.dumps({"id_token": token_of(c)}),
                                   lambda c: f'"{token_of(c)}"\n'])  # fmt: skip
def test_a_pasted_launch_is_read_in_every_dress(dress: Callable[[object], str]) -> None:
    said = read_pasted(dress(CLAIMS))
    assert (said.roles, said.name, said.course) == ((ASSISTANT_URI, TEACHER), "Tess Okafor", "Geology")
    assert said.from_token is (dress is not json.dumps)


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        (f"  {TEACHER}\r\n\n Learner \n", (TEACHER, "Learner")),
        (f'"{TEACHER}",\n  "Learner"', (TEACHER, "Learner")),
        (json.dumps([TEACHER]), (TEACHER,)),
        ('{"user_id": "4", "roles": ["Learner"]}', ("Learner",)),
        ("", ()),
    ],
)
def test_pasted_roles_are_read_by_line_or_as_a_list(text: str, roles: tuple[str, ...]) -> None:
    assert read_pasted(text).roles == roles


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"roles": ["Learner"]', "not_json"),
        ("eyJhbGciOiJSUzI1NiJ9.cut-off", "not_token"),
        ("eyJhbGciOiJSUzI1NiJ9.bm90IGpzb24.x", "not_token"),
        (token_of([1]), "not_token"),
        ("id_token=&state=x", "not_token"),
        ('{"name": "Tess"}', "no_roles"),
        ('{"roles": "Learner"}', "no_roles"),
        ("[1, 2]", "no_roles"),
        ("\n".join(str(number) for number in range(101)), "too_many"),
        ("x" * 501, "too_many"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, reason: str) -> None:
    with pytest.raises(PastedUnreadable) as refused:
        read_pasted(text)
    assert refused.value.reason == reason


@given(st.text(max_size=200))
def test_nothing_pasted_makes_the_reader_stumble(text: str) -> None:
    for dressed in (text, "{" + text, "eyJ" + text, "id_token=" + text, f"eyJ.{text}.x"):
        with suppress(PastedUnreadable):
            read_pasted(dressed)
