"""The difference between two lists, without a database: what is said of one member, and of any lists."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lti_tool.classroom.accounts import Role
from lti_tool.classroom.difference import (
    Held,
    Row,
    Skipped,
    SyncPlan,
    plan_sync,
    read_members,
    role_after,
)
from lti_tool.classroom.role_maps import RolePolicy
from lti_tool.lti.memberships import Member

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT = "http://purl.imsglobal.org/vocab/lis/v2/membership#"
PERSON = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#"


def read(*members: Member):  # type: ignore[no-untyped-def]
    return read_members(members, RolePolicy())


def held(row: Row, number: int, **said: object) -> Held:
    facts = {
        "id": number,
        "user_id": number,
        "subject": row.subject,
        "name": row.name,
        "role": row.role,
        "launch_role": None,
        "roster_role": row.role,
        "digest": row.digest,
        "since": LONG_AGO,
        "ended": False,
    }
    return Held(**(facts | said))  # type: ignore[arg-type]


def one(*roles: str, **said: object) -> Row:
    rows, _ = read(Member("5", roles, **said))  # type: ignore[arg-type]
    return rows[0]


# --- reading members ---------------------------------------------------------------------


def test_a_name_is_put_together_where_only_its_parts_are_told() -> None:
    assert one(CONTEXT + "Learner", given_name="Sam", family_name="Rivera").name == "Sam Rivera"
    assert one(CONTEXT + "Learner", family_name="Rivera").name == "Rivera"


def test_the_order_of_roles_is_no_difference() -> None:
    first = one(CONTEXT + "Learner", CONTEXT + "Mentor", name="Sam")
    second = one(CONTEXT + "Mentor", CONTEXT + "Learner", name="Sam")
    assert first.digest == second.digest


@pytest.mark.parametrize("other", [{"name": "Samuel"}, {"email": "s@example.test"}])
def test_another_name_or_address_is_a_difference(other: dict[str, str]) -> None:
    said = {"name": "Sam"} | other
    assert one(CONTEXT + "Learner", name="Sam").digest != one(CONTEXT + "Learner", **said).digest


def test_who_gets_no_place_is_told_with_the_reason() -> None:
    _, skipped = read(
        Member("1", (CONTEXT + "Learner",), name="Gone", active=False),
        Member("2", (PERSON + "Student",), name="Outside"),
        Member("3", ("http://purl.imsglobal.org/vocab/lti/system/person#TestUser",), name="Preview"),
    )
    assert [(s.name, s.reason) for s in skipped] == [
        ("Gone", "not_active"),
        ("Outside", "no_course_role"),
        ("Preview", "test_user"),
    ]


def test_an_unknown_role_is_a_student_whose_role_was_not_said() -> None:
    row = one("urn:example:wizard")
    assert (row.role, row.unsaid) == (Role.STUDENT, True)


# --- roles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launch", "before", "listed", "after"),
    [
        # Moodle: Instructor at launch, Learner in the list from the beginning.
        (Role.INSTRUCTOR, None, Role.STUDENT, Role.INSTRUCTOR),
        (Role.INSTRUCTOR, Role.STUDENT, Role.STUDENT, Role.INSTRUCTOR),
        # The list gave it and takes it back.
        (Role.INSTRUCTOR, Role.INSTRUCTOR, Role.STUDENT, Role.STUDENT),
        (None, Role.INSTRUCTOR, Role.STUDENT, Role.STUDENT),
        # The list raises somebody.
        (Role.STUDENT, Role.STUDENT, Role.INSTRUCTOR, Role.INSTRUCTOR),
        (None, None, Role.STUDENT, Role.STUDENT),
    ],
)
def test_the_higher_role_holds_unless_the_list_takes_it_back(
    launch: Role | None, before: Role | None, listed: Role, after: Role
) -> None:
    row = one(CONTEXT + ("Instructor" if listed is Role.INSTRUCTOR else "Learner"))
    there = held(row, 1, launch_role=launch, roster_role=before, digest=None)
    assert role_after(there, row) is after


def test_of_somebody_who_was_ended_only_the_list_counts() -> None:
    row = one(CONTEXT + "Learner")
    there = held(row, 1, launch_role=Role.INSTRUCTOR, roster_role=None, ended=True)
    assert role_after(there, row) is Role.STUDENT


# --- any lists ---------------------------------------------------------------------------

MEMBERS = st.lists(
    st.builds(
        Member,
        st.integers(1, 40).map(str),
        st.sampled_from([(CONTEXT + "Learner",), (CONTEXT + "Instructor",), (PERSON + "Student",), ()]),
        name=st.sampled_from(["Sam", "Tess", None]),
        active=st.booleans(),
    ),
    max_size=40,
    unique_by=lambda member: member.subject,
)


def written(plan: SyncPlan, before: dict[str, Held]) -> dict[str, Held]:
    """What would be stored after `plan`, as reconcile.py writes it."""
    after = dict(before)
    for there, row in [*plan.changed, *plan.restamped]:
        after[row.subject] = held(row, there.id, role=role_after(there, row))
    for there in plan.ended:
        after[there.subject] = Held(*[getattr(there, f) for f in Held.__slots__[:7]], None, LONG_AGO, True)
    for row in plan.added:
        after[row.subject] = held(row, 1000 + int(row.subject))
    return after


@given(first=MEMBERS, second=MEMBERS)
def test_after_a_sync_everybody_listed_is_in_and_nobody_else_and_the_same_again_is_nothing(
    first: list[Member], second: list[Member]
) -> None:
    rows, skipped = read(*first)
    ours = written(plan_sync(rows, skipped, {}), {})
    rows, skipped = read(*second)
    plan = plan_sync(rows, skipped, ours)
    ours = written(plan, ours)
    listed = {row.subject for row in rows}
    assert {subject for subject, there in ours.items() if not there.ended} == listed
    again = plan_sync(rows, skipped, ours)
    assert not again.writes
    assert again.unchanged == len(rows)


@given(members=MEMBERS)
def test_every_member_is_taken_or_skipped_and_never_both(members: list[Member]) -> None:
    rows, skipped = read(*members)
    assert sorted([row.subject for row in rows] + [s.subject for s in skipped]) == sorted(
        member.subject for member in members
    )


# --- who ends ----------------------------------------------------------------------------


def test_somebody_newer_than_the_list_is_not_ended_by_it() -> None:
    row = one(CONTEXT + "Learner")
    asked = LONG_AGO + timedelta(days=1)
    assert plan_sync([], [], {"5": held(row, 1)}, asked_at=asked).ended
    assert not plan_sync([], [], {"5": held(row, 1, since=asked)}, asked_at=asked).ended


def test_a_preview_account_that_launched_is_not_ended() -> None:
    row = one(CONTEXT + "Learner")
    skipped = [Skipped("5", "Preview", "test_user", row.roles)]
    assert not plan_sync([], skipped, {"5": held(row, 1)}).ended


@pytest.mark.parametrize(
    ("active", "ends", "listed", "may_end", "held_back"),
    [
        (100, 25, 75, 0, False),
        (100, 26, 74, 0, True),
        (100, 26, 74, 26, False),
        (100, 27, 73, 26, True),
        (8, 4, 4, 0, False),
        (8, 5, 3, 0, True),
        (3, 3, 0, 0, True),
        (3, 3, 0, 3, False),
        (0, 0, 0, 0, False),
    ],
)
def test_the_brake(active: int, ends: int, listed: int, may_end: int, held_back: bool) -> None:
    row = one(CONTEXT + "Learner")
    plan = SyncPlan(active_before=active, ended=[held(row, n) for n in range(ends)], listed=listed)
    assert plan.needs_yes(share=0.25, minimum=5, may_end=may_end) is held_back
