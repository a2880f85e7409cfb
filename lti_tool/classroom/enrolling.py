"""Putting people on the lists of courses, by invitation or by hand."""

from collections.abc import Sequence

from sqlalchemy import case

from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.courses import Course, Enrollment, Source, role_in
from lti_tool.database import db, insert, now


def enroll(course: Course, user: User, role: Role, source: Source, *, by: User) -> bool:
    """Enroll one person; False if that changed nothing. A higher role, wherever from, stays."""
    there = role_in(course, user)
    if there is not None and there.rank >= role.rank:
        return False
    enroll_many(course.account_id, [(user.id, course.id, role)], source, by=by)
    audit.record(
        course.account_id,
        "enrollment.added",
        f"user:{user.id}",
        by=by,
        after={"course": course.id, "role": role},
    )
    return True


def enroll_many(
    account_id: int, wanted: Sequence[tuple[int, int, Role]], source: Source, *, by: User
) -> None:
    """Enroll each (user, course, role), not from an LMS; nothing goes into the log.

    Who was on the list once from the same source is on it again; of two who add the same person at once
    there is one row. The caller has made sure that nobody has as high a role there, wherever from.
    """
    if not wanted:
        return
    new, table = insert(Enrollment.__table__), Enrollment.__table__.c
    over = table.ended_at.is_not(None)
    at = now()
    db.session.execute(
        new.on_conflict_do_update(
            index_elements=["course_id", "user_id", "source"],
            index_where=table.context_id.is_(None),
            set_={
                "role": new.excluded.role,
                "ended_at": None,
                "since": case((over, new.excluded.since), else_=table.since),
                "added_by_id": case((over, new.excluded.added_by_id), else_=table.added_by_id),
            },
        ),
        [
            {
                "account_id": account_id,
                "user_id": user_id,
                "course_id": course_id,
                "role": role,
                "source": source,
                "since": at,
                "added_by_id": by.id,
                "role_unsaid": False,
            }
            for user_id, course_id, role in wanted
        ],
    )
