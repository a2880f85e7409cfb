"""Role URIs in every spelling that platforms use, read as each platform means them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
