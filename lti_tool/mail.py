"""Mail: one function a mail, and the outbox that carries them.

A mail is a row in the transaction that causes it, so it is sent if and only if that commits, and the
worker delivers it at least once. A crash between the mail server's yes and our note of it sends the
same message again, with the same Message-ID, by which mailboxes tell that it is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import make_msgid
from urllib.parse import urlsplit

import msgspec
from flask import current_app
from flask_babel import get_timezone
from sqlalchemy import ColumnElement, Index, ScalarSelect, delete, func, or_, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.database import Base, among, db, insert_many, now, ring
from lti_tool.delivery import Letter, Outcome
from lti_tool.sealing import seal, seal_all

# A delivery that began this long ago and neither ended nor failed was cut off.
CUT_OFF_AFTER = timedelta(minutes=5)
# Waits between tries; after the last one the mail is given up and shown as such.
RETRIES = [timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720, 1440)]


class OutboxMail(Base):
    """One mail to send. What it says and to whom is sealed, and erased once it is delivered."""

    __tablename__ = "outbox_mail"
    __table_args__ = (
        # With many due at once their order is read, not sorted.
        Index("ix_outbox_mail_due", "due_at", "id"),
        Index("ix_outbox_mail_part", "part_of", "due_at", "id"),
        # What is delivered or given up, for forgetting it.
        Index(
            "ix_outbox_mail_over",
            "created_at",
            sqlite_where=text("due_at IS NULL"),
            postgresql_where=text("due_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    # "invitation", "sign_in", …: which mail it is.
    kind: Mapped[str]
    # What it is about, as "invitation:12"; whoever shows that thing finds the state of its mail here.
    about: Mapped[str] = mapped_column(default="", index=True)
    # The deed that queued it with many others, as "batch:3"; those wait behind single mails.
    part_of: Mapped[str] = mapped_column(default="")
    message_id: Mapped[str] = mapped_column(unique=True)
    sealed: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    # When to try next; None: delivered or given up.
    due_at: Mapped[datetime | None] = mapped_column(default=now)
    claimed_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    # When a mail server on the way sent it back for good, as a returned message told (see bounces.py).
    bounced_at: Mapped[datetime | None]
    # The mail server's codes or the kind of failure, never its words (they repeat addresses).
    last_error: Mapped[str] = mapped_column(default="")


@dataclass(frozen=True)
class Addressed:
    """One of many mails that differ in this; the arguments of `queue_invitation`."""

    to: str
    name: str
    courses: Sequence[tuple[str, str]]
    role: str
    link: str
    about: str
    locale: str


def queue_invitation(
    *,
    to: str,
    name: str,
    sender: str,
    account: str,
    courses: list[tuple[str, str]],
    role: str,
    link: str,
    expires: datetime,
    about: str,
    locale: str,
    again: bool = False,
) -> OutboxMail:
    """Ask somebody new whether it is them; `courses` are (name, summary).

    `again`: once more, some days before it expires.
    """
    return _queue("reminder" if again else "invitation", to, about, locale, vars=locals())


def queue_added(
    *,
    to: str,
    name: str,
    sender: str,
    account: str,
    courses: list[tuple[str, str]],
    role: str,
    link: str,
    about: str,
    locale: str,
) -> OutboxMail:
    """Tell somebody who has an account that they were put on a course's list."""
    return _queue("added", to, about, locale, vars=locals())


def queue_declined(*, to: str, name: str, account: str, invited: str, about: str, locale: str) -> OutboxMail:
    """Tell the inviter that the invited person said "It's not me"."""
    return _queue("declined", to, about, locale, vars=locals())


def queue_sign_in(
    *, to: str, name: str, account: str, link: str, code: str, about: str, locale: str
) -> OutboxMail:
    """The one-use link and the six digits."""
    return _queue("sign_in", to, about, locale, vars=locals())


def queue_link_code(*, to: str, asker: str, account: str, code: str, about: str, locale: str) -> OutboxMail:
    """Six digits by which `asker`, who came another way, proves that this mailbox is theirs."""
    return _queue("link_code", to, about, locale, vars=locals())


def queue_new_sign_in(
    *, to: str, name: str, account: str, browser: str, at: datetime, link: str, about: str, locale: str
) -> OutboxMail:
    """Tell an admin that somebody signed in as them in a new browser."""
    return _queue("new_sign_in", to, about, locale, vars=locals())


def rehearse_sign_in(*, to: str, link: str, code: str) -> None:
    """What `queue_sign_in` does, for nobody: how long the answer takes shall not tell who is known."""
    _seal("sign_in", to, "", {"name": to, "account": to, "link": link, "code": code})
    # As many statements; this one finds nothing, since no mail is about nobody.
    db.session.execute(delete(OutboxMail).where(OutboxMail.about == "nobody"))
    ring("mail")


def queue_invitations(
    letters: Sequence[Addressed], *, sender: str, account: str, expires: datetime, part_of: str
) -> None:
    """`queue_invitation` for many people at once, in one statement."""
    _queue_many("invitation", letters, {"sender": sender, "account": account, "expires": expires}, part_of)


def queue_additions(letters: Sequence[Addressed], *, sender: str, account: str, part_of: str) -> None:
    """`queue_added` for many people at once, in one statement."""
    _queue_many("added", letters, {"sender": sender, "account": account}, part_of)


def _queue(kind: str, to: str, about: str, locale: str, *, vars: Mapping[str, object]) -> OutboxMail:
    sealed = _seal(kind, to, locale, vars)
    row = OutboxMail(kind=kind, about=about, message_id=_new_message_ids(1)[0], sealed=sealed)
    db.session.add(row)
    db.session.flush()
    ring("mail")
    return row


def _queue_many(kind: str, letters: Sequence[Addressed], every: Mapping[str, object], part_of: str) -> None:
    if not letters:
        return
    at, zone = now(), _zone()
    times = {name: value for name, value in every.items() if isinstance(value, datetime)}
    facts = {name: value for name, value in every.items() if name not in times}

    def written(letter: Addressed) -> str:
        own = {"name": letter.name, "courses": letter.courses, "role": letter.role, "link": letter.link}
        return _JSON.encode(Letter(kind, letter.to, letter.locale, zone, own | facts, times)).decode()

    insert_many(
        OutboxMail.__table__,
        {
            "about": [letter.about for letter in letters],
            "message_id": _new_message_ids(len(letters)),
            "sealed": seal_all("outbox", map(written, letters)),
        },
        {"kind": kind, "part_of": part_of, "created_at": at, "due_at": at},
    )
    ring("mail")


def _new_message_ids(count: int) -> list[str]:
    host = urlsplit(current_app.config["PUBLIC_URL"]).hostname or "localhost"
    return [make_msgid(domain=host) for _ in range(count)]


def _seal(kind: str, to: str, locale: str, vars: Mapping[str, object]) -> str:
    times = {name: value for name, value in vars.items() if isinstance(value, datetime)}
    facts = {name: value for name, value in vars.items() if name not in _ENVELOPE and name not in times}
    return seal("outbox", _JSON.encode(Letter(kind, to, locale, _zone(), facts, times)).decode())


def _zone() -> str:
    """The zone of whoever causes a mail: its days are told as they see them."""
    return str(get_timezone() or "")


# What a letter has anyway.
_ENVELOPE = {"to", "about", "locale"}
_JSON = msgspec.json.Encoder()


def cancel(*abouts: str) -> None:
    """What waits to be sent about these things is not sent any more; one being sent now may still arrive."""
    db.session.execute(
        delete(OutboxMail).where(
            among(OutboxMail.about, abouts), OutboxMail.due_at.is_not(None), OutboxMail.claimed_at.is_(None)
        )
    )


def claim_due() -> OutboxMail | None:
    """Take the next due mail for this worker; the caller commits before it delivers."""
    due = or_(OutboxMail.claimed_at.is_(None), OutboxMail.claimed_at < now() - CUT_OFF_AFTER)

    def first(*conditions: ColumnElement[bool]) -> ScalarSelect[int]:
        return (
            select(OutboxMail.id)
            .where(OutboxMail.due_at <= now(), due, *conditions)
            .order_by(OutboxMail.due_at, OutboxMail.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )

    # Who waits for a code does not stand behind ten thousand invitations.
    chosen = func.coalesce(first(OutboxMail.part_of == ""), first())
    return db.session.scalar(
        update(OutboxMail)
        .where(OutboxMail.id == chosen, OutboxMail.due_at <= now(), due)
        .values(claimed_at=now(), attempts=OutboxMail.attempts + 1)
        .returning(OutboxMail)
        .execution_options(populate_existing=True, synchronize_session=False)
    )


def release_claims() -> None:
    """What a dead worker had claimed is due again at once; only for a worker that is alone."""
    db.session.execute(
        update(OutboxMail)
        .where(OutboxMail.claimed_at.is_not(None), OutboxMail.due_at.is_not(None))
        .values(claimed_at=None)
    )


def settle(row: OutboxMail, outcome: Outcome) -> None:
    """Note in the outbox what became of a try: sent, to be tried again later, or given up."""
    row.claimed_at = None
    if row.bounced_at is None:
        row.last_error = outcome.error
    if not outcome.error:
        row.sent_at, row.due_at, row.sealed = now(), None, ""
    elif outcome.final or row.attempts > len(RETRIES):
        row.failed_at, row.due_at, row.sealed = now(), None, ""
    else:
        row.due_at = now() + RETRIES[row.attempts - 1]


def note_return(message_id: str, code: str, *, final: bool) -> bool:
    """A returned message says that a mail of ours came back (`final`) or is held up; do we know that mail?

    Anybody can send one, so it is only ever shown: nothing is sent, deleted or tried again for it.
    """
    known = db.session.execute(
        update(OutboxMail)
        .where(
            OutboxMail.message_id == message_id,
            OutboxMail.attempts > 0,
            OutboxMail.failed_at.is_(None),
            OutboxMail.bounced_at.is_(None),
        )
        .values(last_error=code, bounced_at=now() if final else None)
        .returning(OutboxMail.id)
        .execution_options(synchronize_session=False)
    ).first()
    return known is not None


def latest_about(abouts: list[str]) -> dict[str, OutboxMail]:
    """The newest mail about each thing that has one."""
    rows = db.session.scalars(select(OutboxMail).where(OutboxMail.about.in_(abouts)).order_by(OutboxMail.id))
    return {row.about: row for row in rows}


@dataclass(frozen=True)
class Progress:
    """How far the mails of one deed have come."""

    total: int
    sent: int
    refused: int

    @property
    def waiting(self) -> int:
        """Neither accepted by the mail server yet, nor given up."""
        return self.total - self.sent - self.refused


def progress_of(part_of: str) -> Progress:
    """How many mails a deed caused, how many were accepted and how many given up."""
    row = db.session.execute(
        select(
            func.count().label("total"),
            func.count(OutboxMail.sent_at).label("sent"),
            func.count(OutboxMail.failed_at).label("refused"),
        ).where(OutboxMail.part_of == part_of)
    ).one()
    return Progress(row.total, row.sent, row.refused)
