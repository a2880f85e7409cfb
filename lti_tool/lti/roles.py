"""Role URIs as platforms write them → scope, core role, sub-role (LTI 1.3 core, appendix A.2).

Pure. What a role may do here is decided in classroom/roster.py. Every name is matched whole: a
role that merely contains the word Instructor is not one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Scope = Literal["context", "institution", "system"]


@dataclass(frozen=True, slots=True)
class RoleName:
    """One role as we read it, in the vocabulary's own spelling."""

    scope: Scope
    core: str
    sub: str | None = None


@dataclass(frozen=True, slots=True)
class RolesRead:
    """What the roles of one person in one context say."""

    # Context roles of the vocabulary, in the order sent, without repeats.
    context_roles: tuple[RoleName, ...]
    # Roles we do not know, as sent. They count as said in the context, and never raise anybody.
    unknown: tuple[str, ...]
    # Something was said about the context, known to us or not.
    has_context: bool
    # The platform's pretended student (Canvas Student View).
    is_test_user: bool
    # Administrator of the institution or the system, or SysAdmin.
    is_administrator: bool
    # The platform said nothing at all: no role of any scope.
    is_empty: bool


_CONTEXT = {
    "Administrator": "Administrator Developer ExternalDeveloper ExternalSupport ExternalSystemAdministrator"
    " Support SystemAdministrator",
    "ContentDeveloper": "ContentDeveloper ContentExpert ExternalContentExpert Librarian",
    "Instructor": "ExternalInstructor Grader GuestInstructor Instructor Lecturer PrimaryInstructor"
    " SecondaryInstructor TeachingAssistant TeachingAssistantGroup TeachingAssistantOffering"
    " TeachingAssistantSection TeachingAssistantSectionAssociation TeachingAssistantTemplate",
    "Learner": "ExternalLearner GuestLearner Instructor Learner NonCreditLearner",
    "Manager": "AreaManager CourseCoordinator ExternalObserver Manager Observer",
    "Member": "Member",
    "Mentor": "Advisor Auditor ExternalAdvisor ExternalAuditor ExternalLearningFacilitator ExternalMentor"
    " ExternalReviewer ExternalTutor LearningFacilitator Mentor Reviewer Tutor",
    "Officer": "Chair Communications Officer Secretary Treasurer Vice-Chair",
}
_INSTITUTION = (
    "Administrator Alumni Faculty Guest Instructor Learner Member Mentor None Observer Other"
    " ProspectiveStudent Staff Student"
)
_SYSTEM = "AccountAdmin Administrator Creator None SysAdmin SysSupport TestUser User"

_CORES = {core.lower(): core for core in _CONTEXT}
_SUBS = {core: {sub.lower(): sub for sub in subs.split()} for core, subs in _CONTEXT.items()}
_PERSONS: dict[Scope, dict[str, str]] = {
    "institution": {name.lower(): name for name in _INSTITUTION.split()},
    "system": {name.lower(): name for name in _SYSTEM.split()},
}
# Core roles of LTI 1.1 that became sub-roles, and sub-roles that platforms send alone.
_ALONE = {"teachingassistant": RoleName("context", "Instructor", "TeachingAssistant")}

_URL_PREFIXES = tuple(
    f"{scheme}://purl.imsglobal.org/vocab/{vocabulary}/"
    for scheme in ("http", "https")
    for vocabulary in ("lis/v2", "lti")
)
_PERSON_PATHS: dict[str, Scope] = {
    "institution/person": "institution",
    "system/person": "system",
    # Moodle's own in its membership service.
    "person": "institution",
}
_URN_PREFIXES: dict[str, Scope] = {
    "urn:lti:role:ims/lis/": "context",
    "urn:lti:instrole:ims/lis/": "institution",
    "urn:lti:sysrole:ims/lis/": "system",
}


@lru_cache(maxsize=1024)
def parse(role: str) -> RoleName | None:
    """The role in any of its spellings (URI, urn:lti:, bare name, any case); None if we do not know it."""
    role = role.strip()
    lower = role.lower()
    for prefix in _URL_PREFIXES:
        if lower.startswith(prefix):
            return _parse_path(role[len(prefix) :])
    for prefix, scope in _URN_PREFIXES.items():
        if lower.startswith(prefix):
            rest = role[len(prefix) :]
            return _context(rest.split("/")) if scope == "context" else _person(scope, rest)
    if lower.startswith(("person#", "institution/person#", "system/person#", "membership")):
        return _parse_path(role)
    # Bare names are context roles (LTI 1.3 core, 5.3.7).
    return _context(role.replace("#", "/").split("/"))


def _parse_path(path: str) -> RoleName | None:
    """What stands behind the vocabulary's address: `membership#…`, `membership/Core#Sub`, `…/person#…`."""
    where, _, name = path.partition("#")
    scope = _PERSON_PATHS.get(where.lower())
    if scope is not None:
        return _person(scope, name)
    vocabulary, slash, core = where.partition("/")
    if vocabulary.lower() != "membership":
        return None
    # Sakai writes membership#Instructor#TeachingAssistant.
    return _context([core, name]) if slash else _context(name.split("#"))


def _context(names: list[str]) -> RoleName | None:
    first, *rest = (name.lower() for name in names)
    if not rest and first in _ALONE:
        return _ALONE[first]
    core = "Instructor" if first in _ALONE else _CORES.get(first)
    if core is None or len(rest) > 1:
        return None
    if not rest:
        return RoleName("context", core)
    sub = _SUBS[core].get(rest[0])
    return RoleName("context", core, sub) if sub is not None else None


def _person(scope: Scope, name: str) -> RoleName:
    """A role outside the context. Unknown names keep their spelling: they say nothing about the context."""
    return RoleName(scope, _PERSONS[scope].get(name.lower(), name))


def read(roles: Iterable[str]) -> RolesRead:
    """What a launch's or a member's roles say, taken together."""
    context: dict[RoleName, None] = {}
    persons: set[RoleName] = set()
    unknown: dict[str, None] = {}
    empty = True
    for role in roles:
        empty = False
        name = parse(role)
        if name is None:
            unknown[role] = None
        elif name.scope == "context":
            context[name] = None
        else:
            persons.add(name)
    return RolesRead(
        context_roles=tuple(context),
        unknown=tuple(unknown),
        has_context=bool(context or unknown),
        is_test_user=RoleName("system", "TestUser") in persons,
        is_administrator=any(person.core in ("Administrator", "SysAdmin") for person in persons),
        is_empty=empty,
    )
