"""Where an invitation and its mail stand, in words: for the list, the details and the person's panel."""

from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext

from lti_tool.classroom.invitations import Invitation, State
from lti_tool.classroom.invited import Event, Happened, Shown
from lti_tool.mail import OutboxMail
from lti_tool.pages.words import day, moment

SHOWN = {
    Shown.WAITING: lazy_gettext("Waiting"),
    Shown.TROUBLE: lazy_gettext("Mail trouble"),
    Shown.EXPIRED: lazy_gettext("Expired"),
    Shown.ACCEPTED: lazy_gettext("Accepted"),
    Shown.DECLINED: lazy_gettext("Declined"),
    Shown.WITHDRAWN: lazy_gettext("Withdrawn"),
}

# What mail servers mean by the codes that people meet most (RFC 3463, RFC 5321), longest match first.
REASONS = {
    "5.1.1": lazy_gettext("there is no such mailbox"),
    "5.1.2": lazy_gettext("there is no such mail domain"),
    "5.1.3": lazy_gettext("the address is not written as the mail server expects"),
    "5.1.6": lazy_gettext("the mailbox has moved"),
    "5.1.8": lazy_gettext("it does not take mail from our sender address"),
    "5.1.10": lazy_gettext("the domain takes no mail at all"),
    "5.2.1": lazy_gettext("the mailbox is switched off"),
    "5.2.2": lazy_gettext("the mailbox is full"),
    "5.4.1": lazy_gettext("the domain’s mail server does not answer"),
    "5.4.4": lazy_gettext("no way leads to the domain’s mail server"),
    "5.4.7": lazy_gettext("it was tried for days without success"),
    "5.7": lazy_gettext("the mail server’s rules do not let our mail in"),
    "4.2.2": lazy_gettext("the mailbox is full at the moment"),
    "4.4": lazy_gettext("the domain’s mail server cannot be reached at the moment"),
    "4.7": lazy_gettext("the mail server lets strangers wait"),
    "552": lazy_gettext("the mailbox is full"),
    "550": lazy_gettext("the mail server knows no such mailbox, or does not let our mail in"),
    "551": lazy_gettext("the mailbox is somewhere else"),
    "553": lazy_gettext("the address is not written as the mail server expects"),
    "554": lazy_gettext("the mail server’s rules do not let our mail in"),
    "535": lazy_gettext("our own mail server does not take our password"),
    "530": lazy_gettext("our own mail server wants a password"),
    "421": lazy_gettext("the mail server is busy"),
    "450": lazy_gettext("the mail server lets strangers wait"),
    "451": lazy_gettext("the mail server lets strangers wait"),
    "452": lazy_gettext("the mailbox is full at the moment"),
    "address_wrong": lazy_gettext("no mail can be sent to such an address"),
    "seal_broken": lazy_gettext("what was to be sent can no longer be read on our side"),
    "returned": lazy_gettext("it gives no reason that we can read"),
    "held_up": lazy_gettext("it gives no reason that we can read"),
    "ConnectionRefusedError": lazy_gettext("our own mail server cannot be reached"),
    "TimeoutError": lazy_gettext("our own mail server does not answer"),
    "SMTPServerDisconnected": lazy_gettext("the mail server hung up"),
}


@dataclass(frozen=True)
class Said:
    """`status` is the mark before `label`, the short form; `kind` the colour of the note."""

    status: str
    label: str
    kind: str
    title: str
    text: str = ""
    icon: str = "mail"


def why(code: str) -> str:
    """What a mail server's code means; of "550 5.1.1" the finer one, else the first that is known."""
    for one in reversed(code.split()):
        parts = one.split(".")
        for length in range(len(parts), 0, -1):
            known = REASONS.get(".".join(parts[:length]))
            if known is not None:
                return str(known)
    return str(_("the mail server gives no reason that we know"))


def say(invitation: Invitation, letter: OutboxMail | None) -> Said:
    """Where an invitation stands, and its newest mail."""
    state = invitation.state
    if state is State.ACCEPTED:
        title = _("Accepted %(moment)s.", moment=moment(invitation.answered_at))
        return Said("registered", _("Accepted"), "open", title, icon="check-circle")
    if state is State.DECLINED:
        title = _("“It’s not me” was said %(moment)s.", moment=moment(invitation.answered_at))
        return Said("off", _("Declined"), "", title, _("Nothing about the person is kept."), "x")
    if state is State.WITHDRAWN:
        title = _("Withdrawn %(moment)s.", moment=moment(invitation.answered_at))
        return Said("off", _("Withdrawn"), "", title, _("Nothing about the person is kept."), "x")
    if letter is not None and letter.last_error:
        trouble = _say_trouble(letter)
        if trouble.kind == "stop" or state is State.WAITING:
            return trouble
    if state is State.EXPIRED:
        title = _("The invitation expired on %(day)s.", day=day(invitation.expires_at))
        return Said(
            "inactive", _("Expired"), "wait", title, _("Send it again if it is still meant."), "clock"
        )
    works = _("The invitation works until %(day)s.", day=day(invitation.expires_at))
    if letter is not None and letter.sent_at is None:
        return Said("pending", _("About to be sent"), "", _("The invitation is about to be sent."), works)
    if invitation.reminded_at is not None:
        works = _("Reminded %(moment)s.", moment=moment(invitation.reminded_at)) + " " + works
    title = _("Invited %(moment)s, no answer yet.", moment=moment(invitation.sent_at))
    return Said("pending", _("Waiting"), "", title, works)


def _say_trouble(letter: OutboxMail) -> Said:
    told = {"code": letter.last_error, "why": why(letter.last_error)}
    mend = _(
        "Look for a typing error in the address; if it is wrong, withdraw this invitation and invite the "
        "right one."
    )
    if letter.failed_at is not None:
        text = _("The mail server said no: %(why)s (%(code)s).", **told)
        title = _("The mail could not be delivered.")
        return Said("stop", _("Mail refused"), "stop", title, f"{text} {mend}", "alert")
    if letter.bounced_at is not None:
        text = _("A mail server on the way sent it back: %(why)s (%(code)s).", **told)
        return Said("stop", _("Mail came back"), "stop", _("The mail came back."), f"{text} {mend}", "alert")
    if letter.sent_at is not None:
        text = _("A mail server on the way still tries: %(why)s (%(code)s). Nothing is to be done.", **told)
        return Said("wait", _("Mail held up"), "wait", _("The mail is held up on its way."), text, "clock")
    text = _(
        "The mail server did not take it: %(why)s (%(code)s). It is tried again by itself, next %(moment)s.",
        moment=moment(letter.due_at),
        **told,
    )
    return Said("wait", _("Tried again"), "wait", _("The mail is not delivered yet."), text, "clock")


# What happened, with who did it and with nobody to name.
_HAPPENED: dict[Happened, tuple[Any, Any]] = {
    Happened.INVITED: (lazy_gettext("Invited by %(name)s"), lazy_gettext("Invited")),
    Happened.SENT_AGAIN: (lazy_gettext("Sent again by %(name)s"), lazy_gettext("Sent again")),
    Happened.ASKED_AGAIN: (
        "",
        lazy_gettext("Sent again, because somebody asked for it on the sign-in or link page"),
    ),
    Happened.REMINDED: ("", lazy_gettext("Reminder sent")),
    Happened.MAIL_TAKEN: ("", lazy_gettext("Mail taken by the mail server")),
    Happened.MAIL_REFUSED: ("", lazy_gettext("Mail refused")),
    Happened.MAIL_RETURNED: ("", lazy_gettext("Mail came back")),
    Happened.ACCEPTED: ("", lazy_gettext("“It’s me” was said")),
    Happened.DECLINED: ("", lazy_gettext("“It’s not me” was said; nothing about the person was kept")),
    Happened.WITHDRAWN: (lazy_gettext("Withdrawn by %(name)s"), lazy_gettext("Withdrawn")),
    Happened.EXPIRED: ("", lazy_gettext("Expired without an answer")),
}


def tell(event: Event) -> str:
    """One line of an invitation's history."""
    with_name, without = _HAPPENED[event.what]
    if event.code:
        return f"{without}: {why(event.code)} ({event.code})"
    return str(with_name) % {"name": event.by.label} if event.by and with_name else str(without)
