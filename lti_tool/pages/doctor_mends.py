"""What mends a finding, in the words of each LMS's own menus."""

from typing import Any

from flask_babel import gettext, lazy_gettext

from lti_tool.classroom.checkups import Finding

_MOODLE = lazy_gettext(
    "Site administration › Plugins › Activity modules › External tool › Manage tools › Doorlist › Edit"
)
_CANVAS = lazy_gettext("Admin › your account › Developer Keys › Doorlist’s key › Edit")
_BLACKBOARD = lazy_gettext("Administrator Panel › Integrations › LTI Tool Providers › Doorlist › Edit")
_BRIGHTSPACE = lazy_gettext("Admin Tools › Manage Extensibility › LTI Advantage › Doorlist")
_SAKAI = lazy_gettext("Administration Workspace › External Tools › Doorlist › Edit")
_OPENEDX = lazy_gettext("Studio › the unit › Doorlist’s LTI Consumer block › Edit")

# As platforms name themselves in launches.
_PLACES = {
    "moodle": _MOODLE,
    "canvas": _CANVAS,
    "blackboardlearn": _BLACKBOARD,
    "desire2learn": _BRIGHTSPACE,
    "sakai": _SAKAI,
    "openedx": _OPENEDX,
}

# Code → platform → what to set at its place; "" where we do not know the LMS's menus.
_SETTINGS: dict[str, dict[str, Any]] = {
    "roster_scope_missing": {
        "moodle": lazy_gettext(
            "Services › “IMS LTI Names and Role Provisioning”: “Use this service to retrieve members’"
            " information as per privacy settings”"
        ),
        "canvas": lazy_gettext(
            "Scopes: turn on “Can retrieve user data associated with the context the tool is installed in”"
        ),
        "blackboardlearn": lazy_gettext("“Allow Membership Service Access”: Yes"),
        "desire2learn": lazy_gettext("Extensions: turn on “Names and Role Provisioning Services”"),
        "sakai": lazy_gettext("Turn on “Provide roster information to the external tool”"),
        "openedx": lazy_gettext(
            "“Enable LTI NRPS”: True. Its operator must also let the course share personal data"
        ),
        "": lazy_gettext(
            "On your LMS’s page for LTI 1.3 tools, let Doorlist use the names and roles service (NRPS)."
        ),
    },
    "grades_scope_missing": {
        "moodle": lazy_gettext(
            "Services › “IMS LTI Assignment and Grade Services”: “Use this service for grade sync and"
            " column management”"
        ),
        "canvas": lazy_gettext(
            "Scopes: turn on “Can create and view assignment data in the gradebook associated with the tool”"
            " and “Can create and update submission results for assignments associated with the tool”"
        ),
        "blackboardlearn": lazy_gettext("“Allow grade service access”: Yes"),
        "desire2learn": lazy_gettext("Extensions: turn on “Assignment and Grade Services”"),
        "sakai": lazy_gettext("Turn on “Allow External Tool to return grades” and to “create grade columns”"),
        "openedx": lazy_gettext("“LTI Assignment and Grades Service”: “Programmatic”"),
        "": lazy_gettext(
            "On your LMS’s page for LTI 1.3 tools, let Doorlist use the assignment and grade services (AGS)."
        ),
    },
    "names_withheld": {
        "moodle": lazy_gettext("Privacy › “Share launcher’s name with tool”: Always"),
        "canvas": lazy_gettext("Additional Settings › “Privacy Level”: Public"),
        "blackboardlearn": lazy_gettext("“User Fields to Send”: tick Name"),
        "desire2learn": lazy_gettext("Deployment › Security Settings: tick First Name and Last Name"),
        "sakai": lazy_gettext("Turn on “Send User Names to External Tool”"),
        "openedx": lazy_gettext(
            "“Request user’s full name”: True. Its operator must also let the course share personal data"
        ),
        "": lazy_gettext("On your LMS’s page for LTI 1.3 tools, let it send people’s names to Doorlist."),
    },
    "emails_withheld": {
        "moodle": lazy_gettext("Privacy › “Share launcher’s email with tool”: Always"),
        "canvas": lazy_gettext("Additional Settings › “Privacy Level”: Public"),
        "blackboardlearn": lazy_gettext("“User Fields to Send”: tick Email Address"),
        "desire2learn": lazy_gettext("Deployment › Security Settings: tick Email"),
        "sakai": lazy_gettext("Turn on “Send Email Addresses to External Tool”"),
        "openedx": lazy_gettext(
            "“Request user’s email”: True. Its operator must also let the course share personal data"
        ),
        "": lazy_gettext("On your LMS’s page for LTI 1.3 tools, let it send e-mail addresses to Doorlist."),
    },
    "token_refused": {
        "moodle": lazy_gettext(
            "“Public key type”: Keyset URL, and “Public keyset” must be Doorlist’s public keys. Compare the"
            " client ID"
        ),
        "canvas": lazy_gettext(
            "“JWK Method”: Public JWK URL, and the URL must be Doorlist’s public keys. The key’s State must"
            " be ON"
        ),
        "blackboardlearn": lazy_gettext("“Tool Status” must be Approved"),
        "desire2learn": lazy_gettext(
            "“Keyset URL” must be Doorlist’s public keys, and the tool must be enabled. The token audience on"
            " Doorlist’s side must be https://api.brightspace.com/auth/token"
        ),
        "sakai": lazy_gettext("“LTI 1.3 Tool Keyset URL” must be Doorlist’s public keys"),
        "openedx": lazy_gettext(
            "“Tool Public Key Mode”: Keyset URL, and “Tool Keyset URL” must be Doorlist’s public keys"
        ),
        "": lazy_gettext(
            "On your LMS’s page for LTI 1.3 tools, compare the client ID, and let it read our keys from"
            " Doorlist’s public keyset URL."
        ),
    },
}
_SETTINGS["roster_not_offered"] = _SETTINGS["roster_scope_missing"]

# What is the same wherever it happens.
_EVERYWHERE: dict[str, Any] = {
    "keys_weak": lazy_gettext("Make a new key pair of at least 2,048 bits in the LMS."),
    "keys_some_weak": lazy_gettext("Take the short keys out of the LMS’s key set."),
    "keys_unavailable": lazy_gettext(
        "The LMS’s public keyset URL must answer from the open internet with a certificate that holds."
        " Compare it with the address on Doorlist’s LMS page."
    ),
    "clock_off": lazy_gettext("Let the LMS’s server set its clock by a time server (NTP)."),
    "clock_drifts": lazy_gettext("Let the LMS’s server set its clock by a time server (NTP)."),
    "token_unavailable": lazy_gettext(
        "The LMS’s access token URL must answer from the open internet with a certificate that holds."
        " Compare it with the address on Doorlist’s LMS page."
    ),
    "own_key_unreadable": lazy_gettext(
        "Whoever runs Doorlist sets the former SECRET_KEY again, or makes a new key: flask --app wsgi keys"
        " rotate."
    ),
    "grades_failed": lazy_gettext("Try again in a while. If it stays, the LMS’s own log says more."),
    "refusals": lazy_gettext("Details show each reason."),
    "rosters_failed": lazy_gettext("Open the course’s roster here: it says why, and what to do."),
}

# Findings that only the LMS's admin can mend.
THEIRS = {*_SETTINGS, *_EVERYWHERE} - {"own_key_unreadable", "refusals", "rosters_failed"}


def mend_of(finding: Finding, family: str) -> str:
    """What to do about a finding at an LMS of this kind; empty where the finding says it all."""
    known = _SETTINGS.get(finding.code)
    if known is None:
        return str(_EVERYWHERE.get(finding.code, ""))
    family = family.lower()
    if family not in _PLACES or family not in known:
        return str(known[""])
    return str(gettext("%(place)s. %(setting)s.", place=_PLACES[family], setting=known[family]))
