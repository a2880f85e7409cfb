"""Putting many people whom the account knows on the lists of courses together, set by set."""

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, select, update

from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.database import among, db, insert, now


def enroll_by_invitation(account: Account, wanted: Sequence[tuple[int, int, Role]], *, by: User) -> None:
    """Enroll each (user, course, role), as `invitations.enroll_invited` would one by one.

    The caller has made sure that nobody has as high a role there, wherever from.
    """
    held = {
        (row.user_id, row.course_id): row
        for row in db.session.execute(
            select(Enrollment.id, Enrollment.user_id, Enrollment.course_id, Enrollment.ended_at).where(
                among(Enrollment.user_id, {user_id for user_id, _, _ in wanted}),
                Enrollment.source == Source.INVITATION,
            )
        )
    }
    fresh = [one for one in wanted if one[:2] not in held]
    if fresh:
        at = now()
        db.session.execute(
            insert(Enrollment).on_conflict_do_nothing(),
            [
                {
                    "account_id": account.id,
                    "user_id": user_id,
                    "course_id": course,
                    "role": role,
                    "source": Source.INVITATION,
                    "since": at,
                    "added_by_id": by.id,
                    "role_unsaid": False,
                }
                for user_id, course, role in fresh
            ],
        )
    again = [(held[one[:2]], one[2]) for one in wanted if one[:2] in held]
    if again:
        db.session.connection().execute(
            update(Enrollment)
            .where(Enrollment.__table__.c.id == bindparam("b_id"))
            .values(role=bindparam("role")),
            [{"b_id": row.id, "role": role} for row, role in again],
        )
    _begin_anew([row.id for row, _ in again if row.ended_at is not None], by)


def _begin_anew(ids: Collection[int], by: User) -> None:
    """Those who were on the list once are on it again."""
    if ids:
        db.session.execute(
            update(Enrollment)
            .where(among(Enrollment.id, ids))
            .values(ended_at=None, since=now(), added_by_id=by.id)
            .execution_options(synchronize_session=False)
        )
