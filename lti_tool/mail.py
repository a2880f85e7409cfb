"""Mail: one function a mail, and the outbox that carries them.

A mail is a row in the transaction that causes it, so it is sent if and only if that commits, and the
worker delivers it at least once. A crash between the mail server's yes and our note of it sends the
same message again, with the same Message-ID, by which mailboxes tell that it is the same.
"""

import re
import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import make_msgid
from urllib.parse import urlsplit

import msgspec
from flask import current_app, render_template
from flask_babel import force_locale
from flask_mail import BadHeaderError, Connection, Mail, Message
from sqlalchemy import Index, delete, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from lti_tool.database import Base, db, now, ring
from lti_tool.sealing import SealBroken, seal, unseal

mailer = Mail()

# A delivery that began this long ago and neither ended nor failed was cut off.
CUT_OFF_AFTER = timedelta(minutes=5)
# Waits between tries; after the last one the mail is given up and shown as such.
RETRIES = [timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720, 1440)]


class OutboxMail(Base):
    """One mail to send. Address and words are sealed, and erased once it is delivered."""

    __tablename__ = "outbox_mail"
    __table_args__ = (Index("ix_outbox_mail_due", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    # "invitation", "sign_in", …: which mail it is.
    kind: Mapped[str]
    # What it is about, as "invitation:12"; whoever shows that thing finds the state of its mail here.
    about: Mapped[str] = mapped_column(default="", index=True)
    message_id: Mapped[str] = mapped_column(unique=True)
    sealed: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    # When to try next; None: delivered or given up.
    due_at: Mapped[datetime | None] = mapped_column(default=now)
    claimed_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    # The mail server's code or the kind of failure, never its words (they repeat addresses).
    last_error: Mapped[str] = mapped_column(default="")


@dataclass(frozen=True)
class _Words:
    """What is sealed in a row."""

    to: str
    subject: str
    text: str
    html: str


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
) -> OutboxMail:
    """Ask somebody new whether it is them; `courses` are (name, summary)."""
    return _queue("invitation", to, about, locale, vars=locals())


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


def rehearse_sign_in(*, to: str, link: str, code: str) -> None:
    """What `queue_sign_in` does, for nobody: how long the answer takes shall not tell who is known."""
    _write("sign_in", to, "", vars={"name": to, "account": to, "link": link, "code": code})
    ring("mail")


def _queue(kind: str, to: str, about: str, locale: str, *, vars: dict[str, object]) -> OutboxMail:
    sealed = _write(kind, to, locale, vars=vars)
    host = urlsplit(current_app.config["PUBLIC_URL"]).hostname or "localhost"
    row = OutboxMail(kind=kind, about=about, message_id=make_msgid(domain=host), sealed=sealed)
    db.session.add(row)
    db.session.flush()
    ring("mail")
    return row


def _write(kind: str, to: str, locale: str, *, vars: dict[str, object]) -> str:
    """The mail's words, sealed."""
    language = choose_language(locale)
    vars = vars | {"locale": language.replace("_", "-")}
    with force_locale(language):
        words = _Words(
            to=to,
            subject=_one_line(render_template(f"mail/{kind}.subject.txt", **vars)),
            text=_airy(render_template(f"mail/{kind}.txt", **vars)),
            html=render_template(f"mail/{kind}.html", **vars),
        )
    return seal("outbox", msgspec.json.encode(words).decode())


def choose_language(wish: str) -> str:
    """The language of ours that is nearest to `wish`, as people and LMSs write it; else the first."""
    languages: list[str] = current_app.config["LANGUAGES"]
    asked = wish.replace("_", "-").lower()
    for language in languages:
        if language.replace("_", "-").lower() == asked:
            return language
    for language in languages:
        if language.replace("_", "-").split("-")[0].lower() == asked.split("-")[0]:
            return language
    return languages[0]


def _one_line(text: str) -> str:
    """A header's value: names in it can neither begin another header nor hide in control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _airy(text: str) -> str:
    """The text part with single empty lines, whatever the template's branches left."""
    return re.sub(r"\n\s*\n", "\n\n", text).strip() + "\n"


def cancel(about: str) -> None:
    """What waits to be sent about something is not sent any more; one being sent now may still arrive."""
    db.session.execute(
        delete(OutboxMail).where(
            OutboxMail.about == about, OutboxMail.due_at.is_not(None), OutboxMail.claimed_at.is_(None)
        )
    )


def claim_due() -> OutboxMail | None:
    """Take the next due mail for this worker; the caller commits before it delivers."""
    due = or_(OutboxMail.claimed_at.is_(None), OutboxMail.claimed_at < now() - CUT_OFF_AFTER)
    chosen = (
        select(OutboxMail.id)
        .where(OutboxMail.due_at <= now(), due)
        .order_by(OutboxMail.due_at, OutboxMail.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
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


@dataclass(frozen=True)
class Outcome:
    """What became of one try: `error` is the server's code or the kind of failure, empty if accepted."""

    error: str = ""
    # No use in trying again.
    final: bool = False


def deliver(sealed: str, message_id: str) -> Outcome:
    """Hand one mail to the mail server. Touches no table, so that no transaction waits meanwhile."""
    try:
        words = msgspec.json.decode(unseal("outbox", sealed), type=_Words)
    except SealBroken:
        return Outcome("seal_broken", final=True)
    message = Message(words.subject, recipients=[words.to], body=words.text, html=words.html)
    message.msgId = message_id
    try:
        with _Connection(current_app.extensions["mail"]) as connection:
            connection.send(message)
    except smtplib.SMTPRecipientsRefused as refused:
        code = next(iter(refused.recipients.values()))[0]
        return Outcome(str(code), final=500 <= code < 600)
    except smtplib.SMTPResponseException as answer:
        return Outcome(str(answer.smtp_code), final=500 <= answer.smtp_code < 600)
    except (UnicodeError, BadHeaderError):
        # Platforms may claim anything as an address; what cannot be one must not hold up the others.
        return Outcome("address_wrong", final=True)
    except (smtplib.SMTPException, OSError) as failure:
        return Outcome(type(failure).__name__)
    return Outcome()


def settle(row: OutboxMail, outcome: Outcome) -> None:
    """Note in the outbox what became of a try: sent, to be tried again later, or given up."""
    row.claimed_at, row.last_error = None, outcome.error
    if not outcome.error:
        row.sent_at, row.due_at, row.sealed = now(), None, ""
    elif outcome.final or row.attempts > len(RETRIES):
        row.failed_at, row.due_at, row.sealed = now(), None, ""
    else:
        row.due_at = now() + RETRIES[row.attempts - 1]


class _Connection(Connection):
    """Flask-Mail's connection with a time limit, verified TLS, and a goodbye that cannot fail."""

    def configure_host(self) -> smtplib.SMTP:
        timeout = current_app.config["MAIL_TIMEOUT"]
        tls = ssl.create_default_context()
        host: smtplib.SMTP
        if self.mail.use_ssl:
            host = smtplib.SMTP_SSL(self.mail.server, self.mail.port or 465, timeout=timeout, context=tls)
        else:
            host = smtplib.SMTP(self.mail.server, self.mail.port or 25, timeout=timeout)
        if self.mail.use_tls:
            host.starttls(context=tls)
        if self.mail.username and self.mail.password:
            host.login(self.mail.username, self.mail.password)
        return host

    def __exit__(self, *exception: object) -> None:
        # The message is accepted before QUIT: a connection that dies here lost nothing.
        if isinstance(self.host, smtplib.SMTP):
            with suppress(smtplib.SMTPException, OSError):
                self.host.quit()
            self.host.close()


def latest_about(abouts: list[str]) -> dict[str, OutboxMail]:
    """The newest mail about each thing that has one."""
    rows = db.session.scalars(select(OutboxMail).where(OutboxMail.about.in_(abouts)).order_by(OutboxMail.id))
    return {row.about: row for row in rows}
