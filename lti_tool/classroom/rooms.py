"""Meetings: who sat in a course's room, when, and what they wrote there."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, func, select, text, update
from sqlalchemy.orm import Mapped, joinedload, mapped_column, relationship

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Role, User, stored
from lti_tool.classroom.courses import Course
from lti_tool.database import Base, db, insert, now

# Characters of one line of the chat.
LONGEST_MESSAGE = 2000


class Meeting(Base):
    """One live sitting in a course's room. While it has no end, it is the open one."""

    __tablename__ = "meeting"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "course_id"], ["course.account_id", "course.id"], ondelete="CASCADE"
        ),
        Index(
            "uq_meeting_open",
            "course_id",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_meeting_course", "course_id", "started_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    course_id: Mapped[int]
    # What the live-room backend calls it; never guessable.
    room_key: Mapped[str] = mapped_column(unique=True, default=lambda: secrets.token_urlsafe(24))
    backend: Mapped[str] = mapped_column(default="builtin")
    started_at: Mapped[datetime] = mapped_column(default=now)
    started_by_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    ended_at: Mapped[datetime | None]

    course: Mapped[Course] = relationship(
        foreign_keys="Meeting.course_id", primaryjoin="Meeting.course_id == Course.id", viewonly=True
    )


class Attendance(Base):
    """One seat taken: from joining until leaving, or until the heartbeat stopped."""

    __tablename__ = "attendance"
    __table_args__ = (
        Index("ix_attendance_meeting", "meeting_id", "left_at"),
        # A person enters once; a second entry moves the seat to the new window.
        Index(
            "uq_attendance_seat",
            "meeting_id",
            "user_id",
            unique=True,
            sqlite_where=text("left_at IS NULL"),
            postgresql_where=text("left_at IS NULL"),
        ),
        # Of one person, for themselves; and by time, for forgetting who it was.
        Index("ix_attendance_user", "user_id"),
        Index(
            "ix_attendance_named",
            "joined_at",
            sqlite_where=text("user_id IS NOT NULL"),
            postgresql_where=text("user_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    meeting_id: Mapped[int] = mapped_column(ForeignKey("meeting.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    role: Mapped[Role] = mapped_column(stored(Role))
    moderates: Mapped[bool] = mapped_column(default=False)
    # A platform's preview account sits in the room and takes no seat of the plan.
    counted: Mapped[bool] = mapped_column(default=True)
    # Of the connection that holds the seat; random, known to the server alone.
    window: Mapped[str]
    # How the others' browsers address this window; the same again when its connection is renewed.
    peer: Mapped[str] = mapped_column(default="")
    # What the server lets this seat send to the others now.
    microphone: Mapped[bool] = mapped_column(default=False)
    camera: Mapped[bool] = mapped_column(default=False)
    screen: Mapped[bool] = mapped_column(default=False)
    # When the hand went up; None: it is down.
    hand_at: Mapped[datetime | None]
    joined_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    left_at: Mapped[datetime | None]

    meeting: Mapped[Meeting] = relationship()
    user: Mapped[User | None] = relationship()


@dataclass(frozen=True, slots=True)
class Showing:
    """What a person in the room wants the others to see and hear."""

    microphone: bool
    camera: bool
    screen: bool
    hand: bool


class ChatMessage(Base):
    """Something written in a meeting; kept with it."""

    __tablename__ = "chat_message"
    __table_args__ = (
        Index("ix_chat_message_meeting", "meeting_id", "id"),
        Index("ix_chat_message_user", "user_id"),
        Index(
            "ix_chat_message_named",
            "at",
            sqlite_where=text("user_id IS NOT NULL"),
            postgresql_where=text("user_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    meeting_id: Mapped[int] = mapped_column(ForeignKey("meeting.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    at: Mapped[datetime] = mapped_column(default=now)
    text: Mapped[str]

    user: Mapped[User | None] = relationship()


def find_open(course: Course) -> Meeting | None:
    """The course's meeting that goes on now."""
    return db.session.scalar(select(Meeting).filter_by(course_id=course.id, ended_at=None))


def last_ended(course: Course) -> Meeting | None:
    """The course's latest meeting that is over."""
    return db.session.scalar(
        select(Meeting)
        .where(Meeting.course_id == course.id, Meeting.ended_at.is_not(None))
        .order_by(Meeting.started_at.desc())
        .limit(1)
    )


def open_meeting(course: Course, *, by: User) -> Meeting:
    """The meeting that goes on, or a new one. Two who start at once get the same one."""
    meeting = find_open(course)
    if meeting is None:
        started = db.session.execute(
            insert(Meeting)
            .values(account_id=course.account_id, course_id=course.id, started_by_id=by.id)
            .on_conflict_do_nothing()
            .returning(Meeting.id)
        ).first()
        meeting = find_open(course)
        assert meeting is not None
        if started:
            audit.record(course.account_id, "meeting.started", f"course:{course.id}", by=by)
    return meeting


def line_up(course: Course) -> None:
    """Whoever enters this course's room waits for those before them, so that seats are counted right.

    SQLite has one writer at a time anyway; on PostgreSQL the course's row is held until the commit.
    """
    db.session.execute(select(Course.id).where(Course.id == course.id).with_for_update(key_share=True))


def take_seat(
    meeting: Meeting, user: User, role: Role, *, moderates: bool, window: str, peer: str = ""
) -> Attendance:
    """Seat `user`; a seat held from another window is given up for this one."""
    for seat in db.session.scalars(
        select(Attendance).filter_by(meeting_id=meeting.id, user_id=user.id, left_at=None)
    ):
        if seat.window == window:
            seat.seen_at = now()
            return seat
        seat.left_at = now()
    db.session.flush()
    seat = Attendance(
        meeting_id=meeting.id,
        user_id=user.id,
        role=role,
        moderates=moderates,
        counted=not user.is_test,
        window=window,
        peer=peer,
    )
    db.session.add(seat)
    db.session.flush()
    return seat


def find_seat(window: str) -> Attendance | None:
    """The seat that a connection holds; None once it was left, moved or closed."""
    return db.session.scalar(
        select(Attendance)
        .options(joinedload(Attendance.meeting), joinedload(Attendance.user))
        .filter_by(window=window, left_at=None)
    )


def show(seat: Attendance, wish: Showing, *, cameras: int) -> list[Attendance]:
    """Grant what `wish` asks for, as far as it may be had; the seats that changed, `seat` first.

    At most `cameras` people are seen at once, since every browser sends its picture to every other, but
    moderators always have a place. Only moderators share a screen, one at a time: who starts takes over.
    """
    camera = wish.camera
    if camera and not seat.camera and not seat.moderates:
        seen = db.session.scalar(
            select(func.count(Attendance.id)).where(
                Attendance.meeting_id == seat.meeting_id, Attendance.left_at.is_(None), Attendance.camera
            )
        )
        camera = (seen or 0) < cameras
    changed = [seat]
    screen = wish.screen and seat.moderates
    if screen and not seat.screen:
        for other in db.session.scalars(
            select(Attendance).where(
                Attendance.meeting_id == seat.meeting_id, Attendance.left_at.is_(None), Attendance.screen
            )
        ):
            other.screen = False
            changed.append(other)
    seat.microphone, seat.camera, seat.screen = wish.microphone, camera, screen
    if wish.hand != (seat.hand_at is not None):
        seat.hand_at = now() if wish.hand else None
    db.session.flush()
    return changed


def leave_seat(meeting_id: int, window: str) -> bool:
    """The window was closed; the seat is free again. False: it was not there, or left already."""
    left = db.session.execute(
        update(Attendance)
        .filter_by(meeting_id=meeting_id, window=window, left_at=None)
        .values(left_at=now())
        .returning(Attendance.id)
        .execution_options(synchronize_session=False)
    )
    return left.first() is not None


def keep_seats(windows: Sequence[str]) -> int:
    """Heartbeat: these windows are still open; how many of them still have their seat."""
    kept = db.session.execute(
        update(Attendance)
        .where(Attendance.window.in_(windows), Attendance.left_at.is_(None))
        .values(seen_at=now())
        .returning(Attendance.id)
        .execution_options(synchronize_session=False)
    )
    return len(kept.all())


def present(meeting: Meeting) -> list[Attendance]:
    """Who sits in the room now, those longest inside first."""
    return list(
        db.session.scalars(
            select(Attendance)
            .options(joinedload(Attendance.user))
            .filter_by(meeting_id=meeting.id, left_at=None)
            .order_by(Attendance.joined_at, Attendance.id)
        )
    )


def count_present(course_ids: Sequence[int]) -> dict[int, int]:
    """Course id → people in its open meeting; courses without one are left out."""
    rows = db.session.execute(
        select(Meeting.course_id, func.count(Attendance.id))
        .outerjoin(
            Attendance,
            (Attendance.meeting_id == Meeting.id) & Attendance.left_at.is_(None) & Attendance.counted,
        )
        .where(Meeting.course_id.in_(course_ids), Meeting.ended_at.is_(None))
        .group_by(Meeting.course_id)
    )
    return {row[0]: row[1] for row in rows}


def say(meeting: Meeting, user: User, words: str) -> ChatMessage:
    """Write `words` into the meeting's chat."""
    message = ChatMessage(meeting_id=meeting.id, user_id=user.id, text=words[:LONGEST_MESSAGE])
    db.session.add(message)
    db.session.flush()
    return message


def history(meeting: Meeting, *, limit: int = 200) -> list[ChatMessage]:
    """The latest of what was written in the meeting, oldest first."""
    latest = db.session.scalars(
        select(ChatMessage)
        .options(joinedload(ChatMessage.user))
        .filter_by(meeting_id=meeting.id)
        .order_by(ChatMessage.id.desc())
        .limit(limit)
    ).all()
    return list(reversed(latest))


def end_meeting(meeting: Meeting, *, by: User | None = None) -> None:
    """Everyone leaves; the meeting is over."""
    db.session.execute(
        update(Attendance).filter_by(meeting_id=meeting.id, left_at=None).values(left_at=now())
    )
    meeting.ended_at = now()
    audit.record(meeting.account_id, "meeting.ended", f"course:{meeting.course_id}", by=by)


def close_silent(after: timedelta) -> int:
    """Free the seats of windows silent for `after`, end meetings empty for as long; how many seats.

    Windows that died with their server left no word; they left when they were last seen.
    """
    limit = now() - after
    left = db.session.execute(
        update(Attendance)
        .where(Attendance.left_at.is_(None), Attendance.seen_at < limit)
        .values(left_at=Attendance.seen_at)
        .returning(Attendance.id)
        .execution_options(synchronize_session=False)
    ).all()
    somebody = select(Attendance.id).where(
        Attendance.meeting_id == Meeting.id,
        Attendance.left_at.is_(None) | (Attendance.left_at >= limit),
    )
    for meeting in db.session.scalars(
        select(Meeting).where(Meeting.ended_at.is_(None), Meeting.started_at < limit, ~somebody.exists())
    ):
        end_meeting(meeting)
    return len(left)
