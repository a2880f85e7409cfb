"""Forgetting somebody's personal data wherever it was copied to. people.erase then deletes the person.

Rows that belong to the person go with them by foreign keys. What is left are copies: mail that waits,
the receipts of syncs, lists that were uploaded, and who did what in the audit log.
"""

import json
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

from sqlalchemy import String, cast, func, or_, select
from sqlalchemy.orm import undefer

from lti_tool import mail
from lti_tool.classroom import audit
from lti_tool.classroom.accounts import Identity, Role, User, email_key
from lti_tool.classroom.batches import Batch, BatchRow
from lti_tool.classroom.courses import Context, Enrollment, Source
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.syncs import SyncRun
from lti_tool.database import db
from lti_tool.lti.registrations import Deployment

# What holds people in receipts, as lists that begin with subject and name; "renamed" has both names.
_LISTS = ("added", "changed", "ended", "skipped", "renamed")


def cancel_mail(user: User) -> None:
    """What waits to be mailed to somebody is not sent any more."""
    invited = db.session.scalars(select(Invitation).filter_by(user_id=user.id))
    for about in [f"user:{user.id}", *(invitation.topic for invitation in invited)]:
        mail.cancel(about)


def forget(user: User) -> None:
    """Take the person's name, address and subjects out of every copy."""
    audit.forget_actor(user)
    _forget_events(user)
    _forget_syncs(user)
    _forget_batches(user)


def _forget_events(user: User) -> None:
    """The log holds no names of people; should one have slipped in, it goes."""
    for event in db.session.scalars(
        select(audit.AuditEvent).where(
            audit.AuditEvent.account_id == user.account_id, audit.AuditEvent.target == f"user:{user.id}"
        )
    ):
        event.before, event.after = _nameless(event.before), _nameless(event.after)


def _nameless(said: Any) -> Any:
    if not isinstance(said, dict) or not said.keys() & {"name", "email"}:
        return said
    return {key: value for key, value in said.items() if key not in ("name", "email")}


def _forget_syncs(user: User) -> None:
    identities = db.session.scalars(
        select(Identity).where(Identity.account_id == user.account_id, Identity.user_id == user.id)
    ).all()
    held = db.session.execute(
        select(Enrollment.context_id, Enrollment.course_id, Enrollment.subject, Enrollment.source).where(
            Enrollment.account_id == user.account_id, Enrollment.user_id == user.id
        )
    ).all()
    subjects = {one.subject for one in identities} | {row.subject for row in held if row.subject}
    if subjects:
        registrations = {one.registration_id for one in identities}
        contexts = {row.context_id for row in held if row.context_id is not None}
        for run in _runs(_naming(user, subjects, registrations, contexts)):
            _rewrite(run, subjects)
    # Those who were added here are named by one of them.
    by_hand = {row.course_id for row in held if row.source is not Source.LMS}
    if by_hand and user.name:
        kept = SyncRun.receipt["kept_name"].as_string() == user.name
        ids = db.session.scalars(select(SyncRun.id).where(SyncRun.course_id.in_(by_hand), kept)).all()
        for run in _runs(ids):
            run.receipt = {**(run.receipt or {}), "kept_name": ""}
    db.session.flush()


def _naming(
    user: User, subjects: Iterable[str], registrations: Iterable[int], contexts: Iterable[int]
) -> Sequence[int]:
    """The runs whose receipts name one of `subjects`: of the contexts, and of skipped members elsewhere."""
    behind = (
        select(Context.id)
        .join(Deployment, Deployment.id == Context.deployment_id)
        .where(
            Context.account_id == user.account_id,
            or_(Context.id.in_(contexts), Deployment.registration_id.in_(registrations)),
        )
    )
    texts = [cast(column, String) for column in (SyncRun.receipt, SyncRun.before, SyncRun.footprint)]
    named = [text.contains(json.dumps(one), autoescape=True) for text in texts for one in subjects]
    return db.session.scalars(
        select(SyncRun.id).where(SyncRun.context_id.in_(behind), or_(*named)).order_by(SyncRun.id)
    ).all()


def _runs(ids: Iterable[int]) -> Iterator[SyncRun]:
    """One after the other, since a receipt may name a hundred thousand people."""
    for one in ids:
        whole = [undefer(SyncRun.before), undefer(SyncRun.footprint)]
        run = db.session.get_one(SyncRun, one, options=whole)
        yield run
        db.session.flush()
        db.session.expire(run)


def _rewrite(run: SyncRun, subjects: Set[str]) -> None:
    for name in ("receipt", "before", "footprint"):
        said = getattr(run, name)
        if not isinstance(said, dict):
            continue
        lists = {key: _without(key, said[key], subjects) for key in _LISTS if isinstance(said.get(key), list)}
        setattr(run, name, {**said, **lists})


def _without(kind: str, people: list[Any], subjects: Set[str]) -> list[Any]:
    """A receipt's list; in `before`, lists of ids bear the same names."""
    if kind == "renamed":
        return [one for one in people if one[0] not in subjects]
    return [["", "", *one[2:]] if isinstance(one, list) and one[0] in subjects else one for one in people]


def _forget_batches(user: User) -> None:
    """What uploaded lists say of the person; a row that still waits finds no address and says so."""
    mine = select(Batch.id).where(Batch.account_id == user.account_id)
    about = [BatchRow.user_id == user.id]
    if user.email:
        written = func.lower(cast(BatchRow.words, String))
        about.append(written.contains(json.dumps(user.email_key)[1:-1], autoescape=True))
    for row in db.session.scalars(
        select(BatchRow).where(BatchRow.batch_id.in_(mine), BatchRow.words.is_not(None), or_(*about))
    ):
        theirs = isinstance(row.words, dict) and email_key(str(row.words.get("email", ""))) == user.email_key
        if row.user_id == user.id or theirs:
            # The rest is about nobody, and a list that still waits is read by it.
            said = row.words if isinstance(row.words, dict) else {}
            kept = {"role": said.get("role") if said.get("role") in list(Role) else ""}
            row.words = {"name": "", "email": "", "courses": said.get("courses", []), **kept}
    db.session.flush()
