"""The receipt of a sync: what it did, or would do, with every person by name."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.difference import Held, Row, SyncPlan, role_after
from lti_tool.database import db


def write(course_id: int, plan: SyncPlan, renamed: Sequence[Any]) -> dict[str, Any]:
    """The receipt as JSON; `renamed` is who has another name since (subject, before, after)."""
    kept, kept_name = _kept(course_id)
    return {
        "added": [[row.subject, row.name, row.role, row.unsaid] for row in sorted(plan.added, key=_nameless)],
        "changed": [
            [h.subject, r.name or h.name, h.role, role_after(h, r), list(r.roles), h.ended]
            for h, r in plan.changed
        ],
        "ended": [[h.subject, h.name] for h in sorted(plan.ended, key=_nameless)],
        "skipped": [list(s) for s in plan.skipped],
        "renamed": list(renamed),
        "kept": kept,
        "kept_name": kept_name,
        "unchanged": plan.unchanged + len(plan.restamped),
        "active_before": plan.active_before,
    }


def write_unchanged(course_id: int, skipped: Sequence[Any], active: int) -> dict[str, Any]:
    """The receipt of a list that came exactly as last time, with the members it skips again."""
    kept, kept_name = _kept(course_id)
    nothing: dict[str, Any] = {"added": [], "changed": [], "ended": [], "renamed": []}
    return {
        **nothing,
        "skipped": list(skipped),
        "kept": kept,
        "kept_name": kept_name,
        "unchanged": active,
        "active_before": active,
    }


def _nameless(one: Row | Held) -> bool:
    """Sorts those who have a name before those who have none."""
    return not one.name


def _kept(course_id: int) -> tuple[int, str]:
    """Enrollments that no sync touches, by invitation and by hand: how many, and one of them by name."""
    many, name = db.session.execute(
        select(func.count(), func.min(User.name))
        .select_from(Enrollment)
        .join(User, User.id == Enrollment.user_id)
        .where(
            Enrollment.course_id == course_id,
            Enrollment.source != Source.LMS,
            Enrollment.ended_at.is_(None),
        )
    ).one()
    return many, name or ""
