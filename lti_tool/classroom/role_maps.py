"""What an LMS's roles mean here: which of them decides, by which rule, and what an account may change of it.

Pure. Roles of the course decide; those of the institution and the system only matter for admins, unless
an account says otherwise of one role by its name.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from lti_tool.classroom.accounts import Connection, Role
from lti_tool.lti import roles as lti_roles
from lti_tool.lti.roles import RoleName


class Rule(StrEnum):
    """Why a role counts as it does."""

    TEACHES = "teaches"
    # Administrator of the course itself: an instructor, and nothing in the account.
    COURSE_ADMINISTRATOR = "course_administrator"
    # Decided by the account's switches.
    ASSISTANT = "assistant"
    DESIGNER = "designer"
    LEARNS = "learns"
    # Sees the course and never leads it: mentors, observers, auditors, guests, mere members.
    ONLOOKER = "onlooker"
    # A sub-role that makes less of its core role than that says: Grader, GuestInstructor.
    LIMITED = "limited"
    # Platforms send the plain core role beside its sub-role: the sub-role is what they mean.
    COMPANION = "companion"
    # The account said so of exactly this role.
    OVERRIDE = "override"
    # No role of the vocabulary: said about the course, and never raises anybody.
    UNKNOWN = "unknown"
    # Of the institution or the system: says nothing about the course.
    OUTSIDE = "outside"
    ADMINISTRATOR = "administrator"
    TEST_USER = "test_user"


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """What an account lets the roles of one LMS mean."""

    makes_admins: bool = True
    assistants_teach: bool = True
    # ContentDeveloper and Manager.
    designers_teach: bool = True
    # A role exactly as it is sent → instructor or student; never more than that.
    overrides: Mapping[str, Role] = field(default_factory=dict, hash=False)

    @property
    def stamp(self) -> str:
        """The same for the same policy: by it a form knows that nobody changed it meanwhile."""
        switches = (self.makes_admins, self.assistants_teach, self.designers_teach)
        said = (*switches, sorted(self.overrides.items()))
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One role as sent, and how it was read."""

    sent: str
    # None: not of the vocabulary.
    name: RoleName | None
    rule: Rule
    # What it makes of somebody in the course; None: it says nothing about that.
    counts: Role | None

    @property
    def about_course(self) -> bool:
        """Was it said about the course, known to us or not?"""
        return self.name is None or self.name.scope == "context"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a list of role URIs means here."""

    # None: the LMS gave no role in the course.
    role: Role | None
    # The LMS named no course role that we know; student, and staff are told.
    unsaid: bool
    admin: bool
    test: bool
    # Each role as it was read, in the order sent.
    verdicts: tuple[Verdict, ...] = ()
    # The one that made the course role; None where none did.
    decisive: Verdict | None = None


_ASSISTANTS = {
    "TeachingAssistant",
    "TeachingAssistantGroup",
    "TeachingAssistantOffering",
    "TeachingAssistantSection",
    "TeachingAssistantSectionAssociation",
    "TeachingAssistantTemplate",
}
_LIMITED = {"Grader", "GuestInstructor"}
_OBSERVERS = {"Observer", "ExternalObserver"}
_GUESTS = {"GuestLearner", "NonCreditLearner", "ExternalLearner"}


def policy_of(connection: Connection) -> RolePolicy:
    """What the account lets this LMS's roles mean."""
    return RolePolicy(
        connection.makes_admins,
        connection.assistants_teach,
        connection.designers_teach,
        {sent: Role(role) for sent, role in (connection.role_overrides or {}).items()},
    )


def read_roles(roles: Iterable[str], policy: RolePolicy) -> Reading:
    """What these roles mean together. Context roles alone decide the course role, the highest of them.

    Admins are made only where the account allows it, and by no override.
    """
    named = {role: lti_roles.parse(role) for role in roles}
    narrowed = {name.core for name in named.values() if name and name.scope == "context" and name.sub}
    verdicts = tuple(_judge(sent, name, policy, narrowed) for sent, name in named.items())
    test = any(verdict.rule is Rule.TEST_USER for verdict in verdicts)
    admin = policy.makes_admins and not test and any(_administers(verdict.name) for verdict in verdicts)
    decisive = _highest(verdict for verdict in verdicts if verdict.about_course)
    unknown = any(verdict.rule is Rule.UNKNOWN for verdict in verdicts)
    if decisive is None and not unknown:
        # Only overrides are left that could say something.
        decisive = _highest(verdicts)
    if decisive is not None:
        return Reading(decisive.counts, False, admin, test, verdicts, decisive)
    if unknown or test or not verdicts:
        return Reading(Role.STUDENT, True, admin, test, verdicts)
    return Reading(None, False, admin, test, verdicts)


def _highest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The first of those that make most of somebody."""
    counting = (verdict for verdict in verdicts if verdict.counts is not None)
    return max(counting, key=lambda verdict: higher(verdict.counts).rank, default=None)


def _administers(name: RoleName | None) -> bool:
    """Administrator of the institution or the system, or SysAdmin."""
    return name is not None and name.scope != "context" and name.core in ("Administrator", "SysAdmin")


def _judge(sent: str, name: RoleName | None, policy: RolePolicy, narrowed: set[str]) -> Verdict:
    if name == RoleName("system", "TestUser"):
        return Verdict(sent, name, Rule.TEST_USER, None)
    override = policy.overrides.get(sent.strip())
    if override is not None:
        return Verdict(sent, name, Rule.OVERRIDE, override)
    if name is None:
        return Verdict(sent, None, Rule.UNKNOWN, None)
    if name.scope != "context":
        return Verdict(sent, name, Rule.ADMINISTRATOR if _administers(name) else Rule.OUTSIDE, None)
    if name.sub is None and name.core in narrowed:
        return Verdict(sent, name, Rule.COMPANION, None)
    rule = _rule_of(name)
    teaches = {
        Rule.TEACHES: True,
        Rule.COURSE_ADMINISTRATOR: True,
        Rule.ASSISTANT: policy.assistants_teach,
        Rule.DESIGNER: policy.designers_teach,
    }.get(rule, False)
    return Verdict(sent, name, rule, Role.INSTRUCTOR if teaches else Role.STUDENT)


def _rule_of(name: RoleName) -> Rule:
    """What the vocabulary's course roles mean here (LTI 1.3 core, appendix A.2.3)."""
    if name.core == "Instructor":
        if name.sub in _ASSISTANTS:
            return Rule.ASSISTANT
        return Rule.LIMITED if name.sub in _LIMITED else Rule.TEACHES
    if name.core == "Administrator":
        return Rule.COURSE_ADMINISTRATOR
    if name.core == "ContentDeveloper" or (name.core == "Manager" and name.sub not in _OBSERVERS):
        return Rule.DESIGNER
    return Rule.LEARNS if name.core == "Learner" and name.sub not in _GUESTS else Rule.ONLOOKER


def higher(*roles: Role | None) -> Role:
    """The highest of those that are known; student if none is."""
    return max((r for r in roles if r is not None), key=lambda r: r.rank, default=Role.STUDENT)
