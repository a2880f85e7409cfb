"""An SMTP server on loopback that delivers nowhere and shows what it caught."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

# A link ends before punctuation that belongs to the sentence around it.
_LINK = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]]")


def split_links(text: str) -> list[tuple[str, bool]]:
    """A text cut into pieces, each said to be a link or not."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for found in _LINK.finditer(text):
        pieces += [(text[end : found.start()], False), (found.group(), True)]
        end = found.end()
    return [*pieces, (text[end:], False)]


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it was caught; `to` is whom it was sent to, whatever its headers say."""

    number: int
    sender: str
    to: tuple[str, ...]
    received_at: datetime
    message: EmailMessage = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def subject(self) -> str:
        """The subject, decoded."""
        return str(self.message.get("Subject", ""))

    @property
    def text(self) -> str:
        """The plain part; empty if there is none."""
        return self._part("plain")

    @property
    def html(self) -> str:
        """The HTML part; empty if there is none."""
        return self._part("html")

    @property
    def links(self) -> list[str]:
        """The addresses in the plain part, in order."""
        return _LINK.findall(self.text)

    def _part(self, kind: str) -> str:
        part = self.message.get_body(preferencelist=(kind,))
        return str(part.get_content()) if part is not None else ""


class Mailbox:
    """The mails caught, and switches for mail servers having a bad day.

    `refused` holds addresses that do not exist here (550). `busy_once` answers the next mail with 451.
    `drop_after_data` keeps the mail but hangs up before saying so, which is how mails arrive twice.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.refused: set[str] = set()
        self.busy_once = False
        self.drop_after_data = False
        self._changed = threading.Condition()
        self._mails: list[Mail] = []
        self._caught = 0
        self._running: _OwnSocketController | None = None

    def start(self) -> Mailbox:
        """Begins to listen; port 0 becomes the port that was free."""
        listening = socket.create_server((self.host, self.port))
        self.port = int(listening.getsockname()[1])
        self._running = _OwnSocketController(self, listening)
        self._running.start()
        return self

    def stop(self) -> None:
        """Stops listening; the mails stay readable."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def __enter__(self) -> Mailbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def mails(self) -> list[Mail]:
        """All mails, oldest first."""
        with self._changed:
            return list(self._mails)

    def sent_to(self, address: str) -> list[Mail]:
        """The mails for one address, oldest first."""
        wanted = address.casefold()
        return [mail for mail in self.mails if wanted in (to.casefold() for to in mail.to)]

    def mail(self, number: int) -> Mail:
        """One mail by its number; raises LookupError."""
        for mail in self.mails:
            if mail.number == number:
                return mail
        raise LookupError(f"no mail has the number {number}")

    def wait_for(self, address: str, timeout: float = 5.0, *, count: int = 1) -> Mail:
        """The newest mail for an address once `count` have come; raises TimeoutError saying what came."""
        until = time.monotonic() + timeout
        with self._changed:
            while True:
                found = self.sent_to(address)
                if len(found) >= count:
                    return found[-1]
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    others = ", ".join(f"{mail.subject!r} to {', '.join(mail.to)}" for mail in self._mails)
                    raise TimeoutError(f"{len(found)} of {count} mails for {address}; caught: {others}")

    def clear(self) -> None:
        """Forgets all mails; numbers go on."""
        with self._changed:
            self._mails.clear()

    def _keep(self, envelope: Envelope) -> None:
        content = envelope.content or b""
        raw = content.encode() if isinstance(content, str) else content
        message = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
        with self._changed:
            self._caught += 1
            self._mails.append(
                Mail(
                    self._caught,
                    str(envelope.mail_from or ""),
                    tuple(envelope.rcpt_tos),
                    datetime.now(UTC),
                    message,
                    raw,
                )
            )
            self._changed.notify_all()

    # Hooks that aiosmtpd calls by these names

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Takes a recipient unless the address is refused."""
        if address.casefold() in {refused.casefold() for refused in self.refused}:
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keeps the mail."""
        if self.busy_once:
            self.busy_once = False
            return "451 4.3.0 Busy, try again later"
        self._keep(envelope)
        if self.drop_after_data and isinstance(server.transport, asyncio.WriteTransport):
            server.transport.abort()
            await asyncio.sleep(0)
        return "250 OK"


class _OwnSocketController(Controller):
    """A controller over a socket that listens already, so that the free port it got cannot be lost."""

    def __init__(self, mailbox: Mailbox, listening: socket.socket) -> None:
        super().__init__(mailbox, hostname=mailbox.host, port=mailbox.port)
        self._listening = listening

    def _create_server(self) -> Awaitable[asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self._listening)
