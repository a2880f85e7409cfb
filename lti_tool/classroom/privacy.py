"""All that is held about one person, for them to take away.

A new column that names a user must be in a section here or in LEFT_OUT: tests/test_privacy.py looks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select

from lti_tool.classroom.accounts import Account, Identity, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.batches import Batch, BatchRow
from lti_tool.classroom.connecting import RegistrationLink
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.invitations import Invitation, InvitationLink
from lti_tool.classroom.linking import LinkRefusal
from lti_tool.classroom.merging import Merge
from lti_tool.classroom.rooms import Attendance, ChatMessage, Meeting
from lti_tool.classroom.sessions import Session, SignInCode
from lti_tool.classroom.syncs import SyncRun
from lti_tool.database import db, now
from lti_tool.lti.registrations import Registration
from lti_tool.mail import OutboxMail

PERSON = (
    "id",
    "name",
    "name_by_hand",
    "email",
    "mailbox_proven",
    "role",
    "status",
    "is_test",
    "locale",
    "timezone",
    "created_at",
    "registered_at",
    "last_seen_at",
    "blocked_at",
)


@dataclass(frozen=True)
class Section:
    """Rows of a table that are the person's by `column`, and what of them is told."""

    name: str
    table: Any
    column: str
    tells: tuple[str, ...]


# First what was done with the person, then what the person did. Tokens and their hashes are nobody's to
# take away, and other people are not told here.
SECTIONS = (
    Section(
        "known_to_lms", Identity, "user_id", ("registration_id", "subject", "created_at", "last_launch_at")
    ),
    Section(
        "courses",
        Enrollment,
        "user_id",
        (
            "course_id",
            "role",
            "source",
            "since",
            "ended_at",
            "subject",
            "launch_role",
            "launch_roles",
            "roster_role",
            "roster_roles",
            "role_unsaid",
        ),
    ),
    Section(
        "invitations",
        Invitation,
        "user_id",
        ("created_at", "sent_at", "reminded_at", "expires_at", "answered_at", "answer"),
    ),
    Section(
        "signed_in_browsers",
        Session,
        "user_id",
        (
            "kind",
            "label",
            "registration_id",
            "course_id",
            "framed",
            "locale",
            "created_at",
            "seen_at",
            "expires_at",
        ),
    ),
    Section("sign_ins_asked_for", SignInCode, "user_id", ("created_at", "expires_at", "used_at", "tries")),
    Section(
        "attendance",
        Attendance,
        "user_id",
        ("meeting_id", "role", "moderates", "joined_at", "seen_at", "left_at", "hand_at"),
    ),
    Section("messages", ChatMessage, "user_id", ("meeting_id", "at", "text")),
    Section("uploaded_rows", BatchRow, "user_id", ("batch_id", "number", "words", "outcome")),
    Section("merged_people", User, "merged_into_id", PERSON),
    Section("merges_into_you", Merge, "into_id", ("at",)),
    Section("merges_of_you", Merge, "other_id", ("at",)),
    Section("people_you_said_you_are_not", LinkRefusal, "user_id", ("other_id",)),
    Section("meetings_you_opened", Meeting, "started_by_id", ("course_id", "started_at", "ended_at")),
    Section("enrollments_you_made", Enrollment, "added_by_id", ("course_id", "role", "source", "since")),
    Section(
        "invitations_you_sent",
        Invitation,
        "invited_by_id",
        ("created_at", "sent_at", "answered_at", "answer"),
    ),
    Section("invitations_you_withdrew", Invitation, "withdrawn_by_id", ("created_at", "answered_at")),
    Section("invitation_mails_you_sent", InvitationLink, "by_id", ("created_at", "reminder")),
    Section("plans_you_asked_for", Course, "asked_by_id", ("id", "name", "asked_at")),
    Section("syncs_you_asked_for", SyncRun, "asked_by_id", ("course_id", "created_at", "state")),
    Section("bulk_changes_you_made", Batch, "by_id", ("deed", "state", "total", "created_at", "ended_at")),
    Section("merges_you_made", Merge, "by_id", ("at",)),
    Section("lms_links_you_made", RegistrationLink, "made_by_id", ("kind", "created_at", "used_at")),
)

# Columns that name a user and are left out, and why.
LEFT_OUT = {
    "audit_event.actor_id": "The log has sections of its own: what was done to you, and what you did.",
    "link_refusal.other_id": "Somebody else said that they are not you: that is theirs.",
}


def export(user: User) -> dict[str, Any]:
    """Everything held about `user`, as JSON for people to read."""
    account = db.session.get_one(Account, user.account_id)
    told: dict[str, Any] = {
        "institution": account.name,
        "exported_at": now().isoformat(),
        "person": _tell(user, PERSON, {}),
    }
    found = {section.name: _rows(section, user) for section in SECTIONS}
    names = _Names(user.account_id, [row for rows in found.values() for row in rows])
    for section in SECTIONS:
        told[section.name] = [_tell(row, section.tells, names) for row in found[section.name]]
    told["mails"] = _mails(user)
    told["log_about_you"] = _events(AuditEvent.target == f"user:{user.id}", user, ("before", "after"))
    told["log_of_what_you_did"] = _events(AuditEvent.actor_id == user.id, user, ("target",))
    return told


def _rows(section: Section, user: User) -> list[Any]:
    table = section.table
    key = [column.key for column in table.__table__.primary_key]
    query = select(table).where(getattr(table, section.column) == user.id)
    if section.table is Session:
        query = query.where(Session.expires_at > now())
    return list(db.session.scalars(query.order_by(*(getattr(table, name) for name in key))).unique())


class _Names(dict[tuple[str, int], Any]):
    """What ids in rows stand for, so that people can read it: courses, meetings' courses, LMSs."""

    def __init__(self, account_id: int, rows: Iterable[Any]) -> None:
        super().__init__()
        rows = list(rows)
        meetings = self._wanted(rows, "meeting_id")
        courses = self._wanted(rows, "course_id")
        held = {
            row.id: row.course_id
            for row in db.session.execute(
                select(Meeting.id, Meeting.course_id).where(
                    Meeting.account_id == account_id, Meeting.id.in_(meetings)
                )
            )
        }
        called = {
            row.id: row.name
            for row in db.session.execute(
                select(Course.id, Course.name).where(
                    Course.account_id == account_id, Course.id.in_(courses | set(held.values()))
                )
            )
        }
        self.update({("course_id", one): name for one, name in called.items()})
        self.update({("meeting_id", one): called.get(course, "") for one, course in held.items()})
        for row in db.session.execute(
            select(Registration.id, Registration.name).where(
                Registration.id.in_(self._wanted(rows, "registration_id"))
            )
        ):
            self["registration_id", row.id] = row.name

    def _wanted(self, rows: Iterable[Any], column: str) -> set[int]:
        ids = (getattr(row, column, None) for row in rows)
        return {one for one in ids if one is not None}


_READABLE = {"course_id": "course", "meeting_id": "session_in_course", "registration_id": "lms"}


def _tell(row: Any, columns: Iterable[str], names: dict[tuple[str, int], Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for column in columns:
        value = getattr(row, column)
        if column in _READABLE and value is not None:
            told[_READABLE[column]] = names.get((column, value), "")
        told[column] = _plain(value)
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, StrEnum) else value


def _mails(user: User) -> list[dict[str, Any]]:
    """What was mailed and when; what mails say is forgotten once they are delivered."""
    invited = db.session.scalars(
        select(Invitation.id).where(Invitation.account_id == user.account_id, Invitation.user_id == user.id)
    )
    about = [f"user:{user.id}", *(f"invitation:{one}" for one in invited)]
    rows = db.session.scalars(select(OutboxMail).where(OutboxMail.about.in_(about)).order_by(OutboxMail.id))
    return [_tell(row, ("kind", "created_at", "sent_at", "failed_at"), {}) for row in rows]


def _events(which: Any, user: User, more: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = db.session.scalars(
        select(AuditEvent)
        .where(AuditEvent.account_id == user.account_id, which)
        .order_by(AuditEvent.at, AuditEvent.id)
    )
    return [_tell(row, ("at", "action", "source", *more), {}) for row in rows]
