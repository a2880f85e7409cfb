"""The mailbox on a page: what the SMTP catcher holds."""

from __future__ import annotations

import re

from flask import Blueprint, Response, abort, current_app, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from .mailbox import Mail, Mailbox, split_links

mail_pages = Blueprint("mail_pages", __name__)

# A mail brings its own style and may bring anything else: nothing of it runs, and links leave the frame.
_MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; "
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
)
_DOCTYPE = re.compile(r"\s*<!doctype[^>]*>", re.IGNORECASE)


def _mailbox() -> Mailbox:
    mailbox: Mailbox | None = current_app.extensions["practice_mailbox"]
    if mailbox is None:
        abort(404)
    return mailbox


def _mail(number: int) -> Mail:
    try:
        return _mailbox().mail(number)
    except LookupError:
        abort(404)


@mail_pages.get("/mailbox")
def list_mails() -> str:
    """All mails, newest first."""
    return render_template("practice_lms/mailbox.html", mails=list(reversed(_mailbox().mails)))


@mail_pages.get("/mailbox/<int:number>")
def show_mail(number: int) -> str:
    """One mail: its plain part with links to follow, and its HTML part in a sandbox."""
    mail = _mail(number)
    return render_template("practice_lms/mail.html", mail=mail, pieces=split_links(mail.text))


@mail_pages.get("/mailbox/<int:number>/html")
def show_html(number: int) -> Response:
    """The HTML part alone, for the frame."""
    mail = _mail(number)
    if not mail.html:
        abort(404)
    # After the doctype, which must stay first for the mail to look as it should.
    end = found.end() if (found := _DOCTYPE.match(mail.html)) else 0
    page = f'{mail.html[:end]}<base target="_blank">{mail.html[end:]}'
    answer = Response(page, content_type="text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = _MAIL_POLICY
    return answer


@mail_pages.get("/mailbox/<int:number>/raw")
def show_raw(number: int) -> Response:
    """The mail as it came over the wire."""
    return Response(_mail(number).raw, content_type="text/plain; charset=utf-8")


@mail_pages.post("/mailbox/clear")
def clear() -> AnyResponse:
    """Throws all mails away."""
    _mailbox().clear()
    return redirect(url_for("mail_pages.list_mails"), 303)
