"""Students whom instructors invite to their own courses, where the account lets them.

The rule is the one of every invitation. What an instructor is told of each address is no more than what the
course's roster shows: whether somebody has an account elsewhere does not appear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from lti_tool.classroom import access, answers, audit, guest_lists, invitations
from lti_tool.classroom.accounts import PersonBlocked, Role, Status, User, email_key, find_known
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course, Enrollment, Source, role_in
from lti_tool.classroom.invitations import AddressWrong, NothingNew
from lti_tool.database import db, is_id, now

# Lines that one form takes.
MOST_LINES = 50
LONGEST_NAME = 200
A_DAY = timedelta(hours=24)
# What counts towards the limit of a day: each mails somebody.
_COUNTED = ("enrollment.added", "invitation.resent")


class Result(StrEnum):
    """What became of a line."""

    INVITED = "invited"
    ALREADY = "already"
    TWICE = "twice"
    NO_ADDRESS = "no_address"
    TOO_LONG = "too_long"
    LIMIT = "limit"
    # An admin shut the person out, or the like: not the instructor's to know or to change.
    ASK_ADMIN = "ask_admin"


class TooManyToday(Exception):
    """The instructor has invited as many people as one may within a day."""


@dataclass
class Line:
    """One line of what an instructor typed: a person, and what became of them."""

    text: str
    name: str
    address: str
    result: Result | None = None

    @property
    def done(self) -> bool:
        """Is there nothing left to do about it?"""
        return self.result in (Result.INVITED, Result.ALREADY, Result.TWICE)


def read_lines(text: str) -> list[Line]:
    """A person a line, as “Name <a@b>”, “Name; a@b” or “a@b”; empty lines are left out."""
    lines = []
    for line in text.replace("\t", ";").splitlines():
        whole = " ".join("".join(c if c.isprintable() else " " for c in line).split())
        cells = [cell.strip() for cell in whole.split(";") if cell.strip()]
        if not cells:
            continue
        address, name = guest_lists.split_address(next((cell for cell in cells if "@" in cell), whole))
        spare = next((cell for cell in cells if "@" not in cell), "")
        lines.append(Line(whole, name or spare, address if "@" in address else ""))
    return lines


def count_invited(by: User) -> int:
    """How many mails the person had sent by inviting within the last 24 hours."""
    return (
        db.session.scalar(
            select(func.count())
            .select_from(AuditEvent)
            .where(
                AuditEvent.account_id == by.account_id,
                AuditEvent.actor_id == by.id,
                AuditEvent.at > now() - A_DAY,
                AuditEvent.action.in_(_COUNTED),
            )
        )
        or 0
    )


def invite(
    course: Course, lines: Sequence[Line], *, by: User, limit: int, lifetime: timedelta, public_url: str
) -> None:
    """Invite each line's person to the course as a student; every line gets its result."""
    _line_up(by)
    left = limit - count_invited(by)
    seen: set[str] = set()
    for line in lines:
        line.result = _judge(line, seen)
        if line.result is not None:
            continue
        if left <= 0:
            line.result = Result.LIMIT
            continue
        if _is_waiting(course, line):
            # To be mailed again has a button of its own, whose mails are counted.
            line.result = Result.ALREADY
            continue
        try:
            with db.session.begin_nested():
                invitations.invite(
                    course.account,
                    name=line.name,
                    email=line.address,
                    role=Role.STUDENT,
                    courses=[course],
                    by=by,
                    lifetime=lifetime,
                    public_url=public_url,
                )
        except NothingNew:
            line.result = Result.ALREADY
        except PersonBlocked:
            line.result = Result.ASK_ADMIN
        else:
            line.result = Result.INVITED
            left -= 1


def _judge(line: Line, seen: set[str]) -> Result | None:
    """What can be said of a line without asking who has its address."""
    if not line.address:
        return Result.NO_ADDRESS
    try:
        line.address = invitations.check_address(line.address)
    except AddressWrong:
        return Result.NO_ADDRESS
    if len(line.name) > LONGEST_NAME:
        return Result.TOO_LONG
    if email_key(line.address) in seen:
        return Result.TWICE
    seen.add(email_key(line.address))
    return None


def _is_waiting(course: Course, line: Line) -> bool:
    """Was the line's person invited to this course before, and has not answered?"""
    user = find_known(course.account_id, line.address)
    if user is None or user.status is not Status.PENDING or user.blocked_at is not None:
        return False
    return role_in(course, user) is not None


def _line_up(by: User) -> None:
    """Two forms sent at once count one after the other."""
    db.session.execute(select(User.id).where(User.id == by.id).with_for_update(key_share=True))


def find_guest(course: Course, user_id: int) -> Enrollment | None:
    """How somebody who has not answered yet is invited to the course."""
    if not is_id(user_id):
        return None
    return db.session.scalar(
        select(Enrollment)
        .join(User, User.id == Enrollment.user_id)
        .where(
            Enrollment.account_id == course.account_id,
            Enrollment.course_id == course.id,
            Enrollment.user_id == user_id,
            Enrollment.source == Source.INVITATION,
            Enrollment.ended_at.is_(None),
            User.status == Status.PENDING,
        )
    )


def inviters_of(enrollments: Sequence[Enrollment]) -> dict[int, User]:
    """Enrollment id → who added that person, in one statement."""
    adders = {one.added_by_id for one in enrollments if one.added_by_id is not None}
    if not adders:
        return {}
    known = {user.id: user for user in db.session.scalars(select(User).where(User.id.in_(adders)))}
    return {one.id: known[one.added_by_id] for one in enrollments if one.added_by_id in known}


def send_again(held: Enrollment, *, by: User, limit: int, lifetime: timedelta, public_url: str) -> User:
    """Mail the invited person again. Raises TooManyToday."""
    _line_up(by)
    if count_invited(by) >= limit:
        raise TooManyToday
    user = db.session.get_one(User, held.user_id)
    invitations.resend(user, by=by, lifetime=lifetime, public_url=public_url)
    return user


def take_back(held: Enrollment, *, by: User) -> str:
    """Take the person off this course; the invitation goes too if it led nowhere else and was `by`'s own.

    The label of who it was.
    """
    user = db.session.get_one(User, held.user_id, options=[joinedload(User.account)])
    label = user.label
    held.ended_at = now()
    audit.record(
        user.account_id, "enrollment.ended", f"user:{user.id}", by=by, before={"course": held.course_id}
    )
    db.session.flush()
    invitation = invitations.find_pending(user)
    elsewhere = invitations.courses_offered(user)
    if (
        invitation is not None
        and invitation.invited_by_id == by.id
        and access.can_withdraw_own(by, user)
        and not elsewhere
    ):
        answers.withdraw(user, by=by)
    return label
