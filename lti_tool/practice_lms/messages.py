"""What the platform says: launch claims and roster rows as Moodle, Canvas and Brightspace word them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .people import Course, Link, Membership, Person

Flavour = Literal["moodle", "canvas", "brightspace"]

CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"
MEMBERSHIPS_CLAIM = "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice"
MEMBERSHIPS_SCOPE = "https://purl.imsglobal.org/spec/lti-nrps/scope/contextmembership.readonly"
DEEP_LINKING_CLAIM = "https://purl.imsglobal.org/spec/lti-dl/claim/"
VOCABULARY = "http://purl.imsglobal.org/vocab/lis/v2/"

RESOURCE_LINK = "LtiResourceLinkRequest"
DEEP_LINKING = "LtiDeepLinkingRequest"

# Seconds between iat and exp; Moodle's sixty are the shortest known.
_LIFETIME: dict[Flavour, int] = {"moodle": 60, "canvas": 3600, "brightspace": 1200}
# The product and its version, as each names itself.
FAMILY: dict[Flavour, tuple[str, str]] = {
    "moodle": ("moodle", "2024100706"),
    "canvas": ("canvas", "cloud"),
    "brightspace": ("desire2learn", "20.24.11"),
}

_MEMBER = VOCABULARY + "membership#"
_INSTITUTION = VOCABULARY + "institution/person#"
_SYSTEM = VOCABULARY + "system/person#"
_ASSISTANT = VOCABULARY + "membership/Instructor#TeachingAssistant"

ROLES = (
    "administrator",
    "manager",
    "instructor",
    "assistant",
    "designer",
    "student",
    "observer",
    "test-student",
)

# A non-editing teacher is Instructor at a Moodle launch and Learner in its roster; both are seen running.
_LAUNCH_ROLES: dict[Flavour, dict[str, list[str]]] = {
    "moodle": {
        "administrator": [_INSTITUTION + "Administrator", _MEMBER + "Instructor", _SYSTEM + "Administrator"],
        "manager": [_MEMBER + "Instructor"],
        "instructor": [_MEMBER + "Instructor"],
        "assistant": [_MEMBER + "Instructor"],
        "designer": [_MEMBER + "Instructor"],
        "student": [_MEMBER + "Learner"],
        "observer": [_MEMBER + "Learner"],
        "test-student": [_MEMBER + "Learner"],
    },
    "canvas": {
        "administrator": [_INSTITUTION + "Administrator", _SYSTEM + "SysAdmin", _SYSTEM + "User"],
        "manager": [_INSTITUTION + "Administrator", _SYSTEM + "User"],
        "instructor": [_INSTITUTION + "Instructor", _MEMBER + "Instructor", _SYSTEM + "User"],
        "assistant": [_INSTITUTION + "Instructor", _ASSISTANT, _MEMBER + "Instructor", _SYSTEM + "User"],
        "designer": [_INSTITUTION + "Instructor", _MEMBER + "ContentDeveloper", _SYSTEM + "User"],
        "student": [_INSTITUTION + "Student", _MEMBER + "Learner", _SYSTEM + "User"],
        "observer": [_INSTITUTION + "Observer", _MEMBER + "Mentor", _SYSTEM + "User"],
        "test-student": [
            _MEMBER + "Learner",
            "http://purl.imsglobal.org/vocab/lti/system/person#TestUser",
        ],
    },
    # Brightspace sends what its administrator has mapped; what is not mapped arrives without a role.
    "brightspace": {
        "administrator": [_INSTITUTION + "Administrator"],
        "manager": [_MEMBER + "Instructor"],
        "instructor": [_MEMBER + "Instructor"],
        "assistant": [_ASSISTANT],
        "designer": [],
        "student": [_MEMBER + "Learner"],
        "observer": [],
        "test-student": [_MEMBER + "Learner"],
    },
}

_ROSTER_ROLES: dict[Flavour, dict[str, list[str]]] = {
    "moodle": {
        "administrator": [VOCABULARY + "person#Administrator"],
        "manager": ["Instructor"],
        "instructor": ["Instructor"],
        "assistant": ["Learner"],
        "designer": ["Instructor"],
        "student": ["Learner"],
        "observer": ["Learner"],
        "test-student": ["Learner"],
    },
    # The names and roles of Canvas carry course roles only.
    "canvas": {
        "administrator": [_MEMBER + "Instructor"],
        "manager": [_MEMBER + "Instructor"],
        "instructor": [_MEMBER + "Instructor"],
        "assistant": [_ASSISTANT, _MEMBER + "Instructor"],
        "designer": [_MEMBER + "ContentDeveloper"],
        "student": [_MEMBER + "Learner"],
        "observer": [_MEMBER + "Mentor"],
        "test-student": [_MEMBER + "Learner"],
    },
    "brightspace": _LAUNCH_ROLES["brightspace"],
}


@dataclass(frozen=True, slots=True)
class Sender:
    """The platform as it signs its messages: who it is and where it is found."""

    flavour: Flavour
    issuer: str
    browser_url: str
    name: str


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a registration lets the tool know of people."""

    names: bool = True
    emails: bool = True


def _spelled(table: Mapping[str, list[str]], roles: Iterable[str]) -> list[str]:
    """Role names as the table spells them; a string the table does not know goes out as it is."""
    found: list[str] = []
    for role in roles:
        found += [spelling for spelling in table.get(role, [role]) if spelling not in found]
    return found


def launch_roles(flavour: Flavour, roles: Iterable[str]) -> list[str]:
    """The roles claim of a launch."""
    return _spelled(_LAUNCH_ROLES[flavour], roles)


def roster_roles(flavour: Flavour, roles: Iterable[str]) -> list[str]:
    """The roles of a roster row, which are not always those of the launch."""
    return _spelled(_ROSTER_ROLES[flavour], roles)


def _names(person: Person, privacy: Privacy) -> dict[str, str]:
    """The name fields that are there and may be told."""
    if not privacy.names:
        return {}
    fields = {"name": person.name, "given_name": person.given_name, "family_name": person.family_name}
    return {field: value for field, value in fields.items() if value}


def _email(flavour: Flavour, person: Person, privacy: Privacy) -> dict[str, str]:
    if not privacy.emails:
        return {}
    # Brightspace sends an empty address where the others leave the field out.
    return {"email": person.email} if person.email or flavour == "brightspace" else {}


def _custom(sender: Sender, person: Person, course: Course, memberships_url: str) -> dict[str, Any]:
    if sender.flavour == "moodle":
        return {
            "context_start_date": "",
            "groups": "",
            "username": person.slug,
            "tz": "99",
            "resource_id": course.link_id,
            "context_memberships_url": memberships_url,
        }
    if sender.flavour == "canvas":
        # Canvas leaves a variable it does not know as it is, and sends some numbers as numbers.
        return {
            "canvas_course_id": int(course.id) if course.id.isdigit() else course.id,
            "term": "$Canvas.term.name",
        }
    return {"user_id": "$User.Id"}


def _context(flavour: Flavour, course: Course) -> dict[str, Any]:
    kind = {
        "moodle": "CourseSection",
        "canvas": VOCABULARY + "course#CourseOffering",
        "brightspace": VOCABULARY + "course#CourseOffering",
    }[flavour]
    return {"id": course.id, "label": course.label, "title": course.title, "type": [kind]}


def _filled(flavour: Flavour, custom: Mapping[str, str], course: Course, link: Link | None) -> dict[str, str]:
    """Custom parameters with their variables filled in; what the platform does not know stays as it is."""
    known = {"$Context.id.history": ",".join(course.history)}
    if flavour != "moodle":
        known["$ResourceLink.id.history"] = ",".join(link.history if link else ())
    filled = {name: known.get(value, value) for name, value in custom.items()}
    if flavour != "moodle":
        return filled
    # Moodle sends every one twice: as written, and in lower case with nothing but letters and digits.
    return {re.sub("[^a-z0-9]", "_", name.lower()): value for name, value in filled.items()} | filled


def _resource_link(flavour: Flavour, course: Course) -> dict[str, str]:
    if flavour == "canvas":
        # A launch from Canvas's course navigation names the course as its link.
        return {"id": course.id, "title": course.title}
    return {"title": "Live room", "description": "", "id": course.link_id}


def _deep_linking(sender: Sender, course: Course) -> dict[str, Any]:
    return {
        "accept_types": ["ltiResourceLink"],
        "accept_presentation_document_targets": ["frame", "iframe", "window"],
        "accept_multiple": True,
        "auto_create": False,
        "deep_link_return_url": f"{sender.browser_url}/deep-link-return?course={course.id}",
        "title": "Live room",
        "text": "",
    }


def launch_claims(
    sender: Sender,
    membership: Membership,
    course: Course,
    *,
    client_id: str,
    deployment_id: str,
    privacy: Privacy,
    nonce: str,
    target: str,
    memberships_url: str,
    now: int,
    message_type: str = RESOURCE_LINK,
    document_target: str = "iframe",
    link: Link | None = None,
    custom: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole id_token of a launch (LTI 1.3 core, section 5.3 and appendix C)."""
    flavour, person = sender.flavour, membership.person
    family, version = FAMILY[flavour]
    claims: dict[str, Any] = {
        "nonce": nonce,
        "iat": now,
        "exp": now + _LIFETIME[flavour],
        "iss": sender.issuer,
        "aud": client_id,
        "sub": person.id,
        **_names(person, privacy),
        **_email(flavour, person, privacy),
        CLAIM + "deployment_id": deployment_id,
        CLAIM + "target_link_uri": target,
        CLAIM + "message_type": message_type,
        CLAIM + "version": "1.3.0",
        CLAIM + "roles": launch_roles(flavour, membership.roles),
        CLAIM + "context": _context(flavour, course),
        CLAIM + "lis": {"person_sourcedid": "", "course_section_sourcedid": f"sis-{course.label}"},
        CLAIM + "launch_presentation": {
            "locale": "en",
            "document_target": document_target,
            "return_url": f"{sender.browser_url}/return?course={course.id}",
        },
        CLAIM + "tool_platform": {
            "product_family_code": family,
            "version": version,
            "guid": f"practice-{flavour}",
            "name": sender.name,
            "description": f"{sender.name}, a practice platform",
        },
        CLAIM + "custom": _custom(sender, person, course, memberships_url),
        MEMBERSHIPS_CLAIM: {
            "context_memberships_url": memberships_url,
            "service_versions": ["1.0", "2.0"] if flavour == "moodle" else ["2.0"],
        },
    }
    if message_type == DEEP_LINKING:
        claims[DEEP_LINKING_CLAIM + "deep_linking_settings"] = _deep_linking(sender, course)
    else:
        claims[CLAIM + "resource_link"] = _resource_link(flavour, course)
    claims[CLAIM + "custom"] |= _filled(flavour, custom or {}, course, link)
    if link is not None:
        claims[CLAIM + "resource_link"] = {"id": link.id, "title": link.title}
        claims[CLAIM + "custom"] |= _filled(flavour, link.custom, course, link)
    if flavour == "moodle":
        claims[CLAIM + "ext"] = {"user_username": person.slug, "lms": "moodle-2"}
    if flavour in ("canvas", "brightspace"):
        claims |= {"azp": client_id, "locale": "en"}
    if flavour == "canvas" and person.observes and "observer" in membership.roles:
        claims[CLAIM + "role_scope_mentor"] = list(person.observes)
    if flavour == "brightspace":
        claims["nbf"] = now
    return claims


def with_overrides(claims: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Claims changed for a test: short LTI names ("roles") are understood, None takes a claim away."""
    changed = dict(claims)
    for given, value in overrides.items():
        name = CLAIM + given if given in _SHORT_NAMES else given
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return changed


_SHORT_NAMES = {
    "context",
    "custom",
    "deployment_id",
    "ext",
    "launch_presentation",
    "lis",
    "message_type",
    "resource_link",
    "role_scope_mentor",
    "roles",
    "target_link_uri",
    "tool_platform",
    "version",
}


def roster_row(
    flavour: Flavour, membership: Membership, privacy: Privacy, *, with_message: bool = False
) -> dict[str, Any]:
    """One member as the names and roles service tells it (NRPS 2.0, section 2.2)."""
    person = membership.person
    names = _names(person, privacy)
    row: dict[str, Any] = {
        "status": membership.status,
        "user_id": person.id,
        "roles": roster_roles(flavour, membership.roles),
        **names,
        **_email(flavour, person, privacy),
    }
    if flavour == "moodle":
        # Moodle escapes names for HTML here, though not in the id_token.
        row |= {field: html.escape(value).replace("&#x27;", "&#039;") for field, value in names.items()}
        if privacy.names:
            row |= {"lis_person_sourcedid": "", "ext_user_username": person.slug}
    if with_message:
        row["message"] = [{CLAIM + "message_type": RESOURCE_LINK}]
    return row


def has_role(flavour: Flavour, membership: Membership, wanted: str) -> bool:
    """Whether the roster's `role` parameter lets a member through, given as a URI or a bare name."""
    bare = wanted.rpartition("#")[2]
    return any(role.rpartition("#")[2] == bare for role in roster_roles(flavour, membership.roles))
