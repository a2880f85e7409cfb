"""Delivering: a sealed letter becomes a mail in its language and is handed to the mail server."""

import re
import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from flask import current_app, g, render_template
from flask_babel import force_locale
from flask_mail import BadHeaderError, Connection, Mail, Message
from jinja2 import TemplateError

from lti_tool import logs
from lti_tool.sealing import SealBroken, unseal

mailer = Mail()

# RFC 3463: class, subject, detail.
ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?![\d.])")


@dataclass(frozen=True)
class Letter:
    """What is sealed in a row: whom the mail goes to, and what its words are made of at delivery."""

    kind: str
    to: str
    locale: str
    # In which its times are told.
    zone: str
    facts: dict[str, Any]
    times: dict[str, datetime]


@dataclass(frozen=True)
class _Written:
    """What version 0.1 sealed instead: the mail as it reads. Such may still wait when it is upgraded."""

    to: str
    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class Outcome:
    """What became of one try: `error` is the server's code or the kind of failure, empty if accepted."""

    error: str = ""
    # No use in trying again.
    final: bool = False


def deliver(sealed: str, message_id: str) -> Outcome:
    """Hand one mail to the mail server. Touches no table, so that no transaction waits meanwhile."""
    try:
        message = _open(unseal("outbox", sealed))
    except (SealBroken, msgspec.DecodeError):
        return Outcome("seal_broken", final=True)
    except TemplateError as broken:
        # Our own mistake, which a newer version mends; meanwhile it must not hold up the others.
        logs.log.error("mail_unwritten", exc_info=broken)
        return Outcome(type(broken).__name__)
    message.msgId = message_id
    try:
        with _Connection(current_app.extensions["mail"]) as connection:
            connection.send(message)
    except smtplib.SMTPRecipientsRefused as refused:
        code, why = next(iter(refused.recipients.values()))
        return Outcome(_codes(code, why), final=500 <= code < 600)
    except smtplib.SMTPResponseException as answer:
        code, said = answer.smtp_code, answer.smtp_error
        return Outcome(_codes(code, said), final=500 <= code < 600)
    except (UnicodeError, BadHeaderError):
        # Platforms may claim anything as an address; what cannot be one must not hold up the others.
        return Outcome("address_wrong", final=True)
    except (smtplib.SMTPException, OSError) as failure:
        return Outcome(type(failure).__name__)
    return Outcome()


def _codes(code: int, said: bytes | str) -> str:
    """A mail server's no, as "550 5.1.1" where it gives the second, finer code."""
    text = said.decode("ascii", "replace") if isinstance(said, bytes) else said
    finer = ENHANCED_CODE.match(text)
    return f"{code} {finer[0]}" if finer else str(code)


def _open(content: str) -> Message:
    """Raises msgspec.DecodeError, jinja2.TemplateError."""
    try:
        return _compose(msgspec.json.decode(content, type=Letter))
    except msgspec.ValidationError:
        old = msgspec.json.decode(content, type=_Written)
        return Message(old.subject, recipients=[old.to], body=old.text, html=old.html)


def _compose(letter: Letter) -> Message:
    """The mail as it reads: in the language and zone it was queued for."""
    language = choose_language(letter.locale)
    words = {**letter.facts, **letter.times, "to": letter.to, "locale": language.replace("_", "-")}
    # A context of its own, so that neither zone nor language outlasts the mail.
    with current_app.app_context(), force_locale(language):
        g.mail_zone = letter.zone
        return Message(
            _one_line(render_template(f"mail/{letter.kind}.subject.txt", **words)),
            recipients=[letter.to],
            body=_airy(render_template(f"mail/{letter.kind}.txt", **words)),
            html=render_template(f"mail/{letter.kind}.html", **words),
        )


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
