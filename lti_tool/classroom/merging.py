"""Merging: two people turn out to be one. Everything of `other` moves to `into`, and can be taken back.

Who proved a mailbox stays, since signing in hangs on it (`in_order`); of two such the other's mailbox no
longer signs in. What somebody is afterwards:

    by linking (linking.py says who may)    what the mailbox person is: proving an address raises nobody
    by an admin                             the higher of the two roles. One that only an LMS's word gave is
                                            by the admin's hand from now on, as soon as a mailbox belongs to
                                            the person.

Neither ever ties an LMS that may not make admins to an admin (`reason_against`).

`other` stays as a row that nobody sees and nobody can sign in as, until 30 days have passed: so long
unmerging.py brings both back as they were. What came meanwhile stays with `into`, but an LMS's subject
takes its enrollments along, and nobody is put back into a room. The newest merge into somebody is undone
first. A new column that names a user must be named below, too: tests/test_merging.py looks.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lti_tool.classroom import answers, audit, linking, sessions
from lti_tool.classroom.accounts import Identity, Role, Status, User, rename, stored
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.invitations import Answer, Invitation
from lti_tool.classroom.rooms import Attendance
from lti_tool.classroom.sessions import SignInCode
from lti_tool.database import Base, db, now

UNDO_FOR = timedelta(days=30)

# What happens to each column that names a user. Moved at once, and remembered for `undo`:
MOVED = {"attendance.user_id", "enrollment.user_id", "identity.user_id", "invitation.user_id"}
# Who did something: stays with `other` while a merge can be undone, then follows.
FOLLOWING = {
    "audit_event.actor_id",
    "batch.by_id",
    "batch_row.user_id",
    "chat_message.user_id",
    "course.asked_by_id",
    "enrollment.added_by_id",
    "invitation.invited_by_id",
    "invitation.withdrawn_by_id",
    "invitation_link.by_id",
    "meeting.started_by_id",
    "merge.by_id",
    "registration_link.made_by_id",
    "sync_run.asked_by_id",
}
# Ended or forgotten: they let a browser in as `other`, or are about asking again.
DROPPED = {"session.user_id", "sign_in_code.user_id", "link_refusal.user_id", "link_refusal.other_id"}
# Of merges themselves; they go with `other`.
OWN = {"user.merged_into_id", "merge.into_id", "merge.other_id"}


class Because(StrEnum):
    """Why two people cannot be merged."""

    SAME = "same"
    # Merged or deleted already.
    GONE = "gone"
    PREVIEW_ACCOUNT = "preview_account"
    # One of them is blocked, and what holds for both has to be said first.
    BLOCKED = "blocked"
    # One is an admin, and an LMS that may not make admins knows the other.
    ADMIN_DOOR = "admin_door"


class MergeRefused(Exception):
    """These two cannot be merged; `.because` says why."""

    def __init__(self, because: Because) -> None:
        super().__init__(because)
        self.because = because


class Merge(Base):
    """One person became another."""

    __tablename__ = "merge"
    __table_args__ = (
        # Two of one account, whatever a page is told.
        ForeignKeyConstraint(["account_id", "into_id"], ["user.account_id", "user.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["account_id", "other_id"], ["user.account_id", "user.id"], ondelete="CASCADE"),
        Index("ix_merge_into", "into_id", "id"),
        Index("ix_merge_other", "other_id"),
        Index("ix_merge_at", "at"),
        Index(
            "uq_merge_other",
            "other_id",
            unique=True,
            sqlite_where=text("undone_at IS NULL"),
            postgresql_where=text("undone_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    into_id: Mapped[int]
    other_id: Mapped[int]
    # None: the person themselves linked them.
    by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    at: Mapped[datetime] = mapped_column(default=now)
    undone_at: Mapped[datetime | None]
    # What `other` was, and is again after `undo`.
    other_role: Mapped[Role] = mapped_column(stored(Role))
    # Everything that `undo` needs: which rows moved, and what was there before.
    moved: Mapped[Any | None] = mapped_column(JSON, deferred=True)

    into: Mapped[User] = relationship(
        foreign_keys="Merge.into_id", primaryjoin="Merge.into_id == User.id", viewonly=True
    )
    other: Mapped[User] = relationship(
        foreign_keys="Merge.other_id", primaryjoin="Merge.other_id == User.id", viewonly=True
    )
    by: Mapped[User | None] = relationship(foreign_keys="Merge.by_id", viewonly=True)

    @property
    def undo_until(self) -> datetime:
        """From then on the other person is forgotten."""
        return self.at + UNDO_FOR


# --- before it is done -------------------------------------------------------------------


def in_order(one: User, two: User) -> tuple[User, User]:
    """Who stays and who is merged into them: a proven mailbox stays, else the one named first."""
    return (two, one) if two.mailbox_proven and not one.mailbox_proven else (one, two)


def reason_against(into: User, other: User) -> Because | None:
    """Why these two cannot be merged, if they cannot."""
    if into.id == other.id or into.account_id != other.account_id:
        return Because.SAME
    if into.merged_into_id is not None or other.merged_into_id is not None:
        return Because.GONE
    if into.is_test or other.is_test:
        return Because.PREVIEW_ACCOUNT
    if (into.blocked_at is None) is not (other.blocked_at is None):
        return Because.BLOCKED
    if higher_of(into, other).role.rank >= Role.ADMIN.rank:
        # Nobody who is an admin already becomes one by this.
        raised = [user for user in (into, other) if user.role.rank < Role.ADMIN.rank]
        if not all(linking.opens_admin_doors(user) for user in raised):
            return Because.ADMIN_DOOR
    return None


def higher_of(into: User, other: User) -> User:
    return other if other.role.rank > into.role.rank else into


# --- doing it ----------------------------------------------------------------------------

# Of each of the two, what a merge may change.
_OF_INTO = (
    "name",
    "name_key",
    "email",
    "email_key",
    "role",
    "made_admin_by_id",
    "status",
    "registered_at",
)
_OF_OTHER = ("role", "made_admin_by_id", "mailbox_proven", "listed", "merged_into_id")
_OF_ENROLLMENT = (
    "role",
    "since",
    "ended_at",
    "added_by_id",
    "subject",
    "launch_role",
    "launch_roles",
    "roster_role",
    "roster_roles",
    "role_unsaid",
    "digest",
)


def merge(into: User, other: User, *, by: User | None = None) -> Merge:
    """Make one person of two; `by` an admin, or nobody: they proved it themselves. Raises MergeRefused.

    Whoever is signed in as `other` is signed out. Of two who merge the same person at once one wins.
    """
    hold(into, other)
    because = reason_against(into, other)
    if because is not None:
        raise MergeRefused(because)
    moved: dict[str, Any] = {
        "into": _remember(into, _OF_INTO),
        "other": _remember(other, _OF_OTHER),
        "answered": _answer_invitations(into, other, by=by),
    }
    moved |= _move_enrollments(into, other)
    _leave_rooms(other)
    for table in (Identity, Attendance, Invitation):
        moved[str(table.__tablename__)] = _move(table, other, into)
    sessions.end_all(other)
    for dropped in (
        delete(SignInCode).where(SignInCode.user_id == other.id),
        delete(linking.LinkRefusal).where(
            (linking.LinkRefusal.user_id == other.id) | (linking.LinkRefusal.other_id == other.id)
        ),
    ):
        db.session.execute(dropped)
    _become_one(into, other, by=by)
    moved["after"] = _remember(into, _OF_INTO)
    done = Merge(
        account_id=into.account_id,
        into_id=into.id,
        other_id=other.id,
        by_id=by.id if by else None,
        at=now(),
        other_role=Role(moved["other"]["role"]),
        moved=moved,
    )
    db.session.add(done)
    db.session.flush()
    audit.record(
        into.account_id,
        "user.merged",
        f"user:{into.id}",
        by=by or into,
        before={"role": moved["into"]["role"], "other": moved["other"]["role"]},
        after={"merge": done.id, "role": into.role, "user": other.id},
    )
    db.session.flush()
    db.session.expire_all()
    return done


def hold(*users: User) -> None:
    """Keep everybody else off these people until the commit, and read them anew. Raises MergeRefused."""
    ids = {user.id for user in users}
    held = db.session.scalars(
        select(User)
        .where(User.id.in_(ids))
        .order_by(User.id)
        .with_for_update(of=User)
        .execution_options(populate_existing=True)
    ).all()
    if len(held) < len(ids):
        raise MergeRefused(Because.GONE)


def _become_one(into: User, other: User, *, by: User | None) -> None:
    higher = higher_of(into, other)
    role, made_by = into.role, into.made_admin_by_id
    if by is not None:
        role = higher.role
        makers = (into.made_admin_by_id, other.made_admin_by_id)
        by_hand = into.mailbox_proven or (into.role is other.role and None in makers)
        made_by = None if by_hand else higher.made_admin_by_id
    registered = Status.REGISTERED in (into.status, other.status)
    if into.status is Status.PENDING and registered:
        into.status, into.registered_at = Status.REGISTERED, other.registered_at or now()
    # The name, if it is missing; an address never takes the place of one.
    rename(into, name=into.name or other.name, email=into.email or other.email)
    into.role, into.made_admin_by_id = role, made_by
    # A ghost counts nowhere as an owner, and holds no mailbox against anybody.
    other.role, other.made_admin_by_id = Role.STUDENT, None
    other.mailbox_proven, other.listed, other.merged_into_id = False, False, into.id
    db.session.flush()


def _remember(row: Any, names: Sequence[str]) -> dict[str, Any]:
    """These columns as JSON."""
    return {name: plain(getattr(row, name)) for name in names}


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.isoformat() if isinstance(value, datetime) else value


def _move(table: type[Any], away: User, to: User) -> list[int]:
    """Give all rows of one person to another; which they were."""
    moved = db.session.scalars(
        update(table)
        .where(table.user_id == away.id)
        .values(user_id=to.id)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return sorted(moved)


def _move_enrollments(into: User, other: User) -> dict[str, Any]:
    """Theirs become `into`'s, but where both are in a course by the same source one row says both."""
    theirs = db.session.scalars(select(Enrollment).where(Enrollment.user_id == other.id)).all()
    ours = {
        _place(row): row
        for row in db.session.scalars(select(Enrollment).where(Enrollment.user_id == into.id)).all()
    }
    moving, absorbed = [row.id for row in theirs if _place(row) not in ours], []
    for row in theirs:
        ours_there = ours.get(_place(row))
        if ours_there is None:
            continue
        before = [_remember(one, _OF_ENROLLMENT) for one in (ours_there, row)]
        _absorb(ours_there, row)
        after = [_remember(one, _OF_ENROLLMENT) for one in (ours_there, row)]
        absorbed.append({"ids": [ours_there.id, row.id], "before": before, "after": after})
    db.session.flush()
    hand_over(Enrollment, moving, other, into)
    return {"enrollment": moving, "absorbed": absorbed}


def _place(row: Enrollment) -> tuple[Any, ...]:
    return ("lms", row.context_id) if row.source is Source.LMS else (row.course_id, row.source)


def _absorb(ours: Enrollment, theirs: Enrollment) -> None:
    """Ours says what both said; theirs is over, and no LMS's list finds it any more."""
    if theirs.ended_at is None and ours.ended_at is not None:
        for name in _OF_ENROLLMENT:
            setattr(ours, name, getattr(theirs, name))
    elif theirs.ended_at is None:
        ours.since = min(ours.since, theirs.since)
        for role, roles in (("launch_role", "launch_roles"), ("roster_role", "roster_roles")):
            said = getattr(theirs, role)
            held = getattr(ours, role)
            if said is not None and (held is None or said.rank > held.rank):
                setattr(ours, role, said)
                setattr(ours, roles, getattr(theirs, roles))
        if theirs.role.rank > ours.role.rank:
            ours.role, ours.role_unsaid = theirs.role, theirs.role_unsaid
    if ours.source is Source.LMS:
        # The LMS's next word counts as news.
        ours.digest = theirs.digest = theirs.subject = None
    theirs.ended_at = theirs.ended_at or now()


def hand_over(table: type[Any], ids: Sequence[int], away: User, to: User) -> None:
    """Of these rows those that are still one person's become another's."""
    for start in range(0, len(ids), 500):
        db.session.execute(
            update(table)
            .where(table.id.in_(ids[start : start + 500]), table.user_id == away.id)
            .values(user_id=to.id)
            .execution_options(synchronize_session=False)
        )


def _leave_rooms(user: User) -> None:
    """Signed out everywhere: the seat would stand beside the one that `into` may have."""
    db.session.execute(
        update(Attendance)
        .where(Attendance.user_id == user.id, Attendance.left_at.is_(None))
        .values(left_at=now())
        .execution_options(synchronize_session=False)
    )


def _answer_invitations(into: User, other: User, *, by: User | None) -> list[int]:
    """Invitations that no longer wait; which they were.

    Who linked themselves has accepted their own. After an admin's merge the mailed link would sign in as more
    than was invited, so it stops working.
    """
    over = {other.id} | ({into.id} if Status.REGISTERED in (into.status, other.status) else set())
    waiting = db.session.scalars(
        select(Invitation).where(Invitation.user_id.in_(over), Invitation.answer.is_(None))
    ).all()
    for invitation in waiting:
        own = by is None and invitation.user_id == into.id
        answers.settle(invitation, Answer.ACCEPTED if own else Answer.WITHDRAWN)
        invitation.withdrawn_by_id = None if own or by is None else by.id
    db.session.flush()
    return [invitation.id for invitation in waiting]
