"""Setting up and running: `init`, `demo`, `worker`, and what goes out (`mail …`, `keys …`)."""

import json
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext
from flask_migrate import upgrade
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from lti_tool import bounces, jobs, settings
from lti_tool.classroom import accounts, audit
from lti_tool.classroom.accounts import Role
from lti_tool.commands import demonstration
from lti_tool.commands.terminal import answers, read_address, sign_in_link
from lti_tool.database import db, now
from lti_tool.lti import keys
from lti_tool.mail import OutboxMail

mail_group = AppGroup("mail", help="The outbox.")
keys_group = AppGroup("keys", help="The keys we sign with.")


@click.command()
@click.option(
    "--account", "slug", default="default", show_default=True, help="Short name of the first account."
)
@click.option("--name", default="Our institution", show_default=True, help="What the institution is called.")
@click.option("--owner-email", default="owner@localhost.localdomain", show_default=True)
@click.option("--owner-name", default="Owner", show_default=True)
@with_appcontext
@answers
def init(slug: str, name: str, owner_email: str, owner_name: str) -> dict[str, str]:
    """Bring the database to the newest migration; first account and owner; a one-use sign-in link.

    Again on an installation that has them: only the migrations, and a new link for the owner.
    """
    upgrade(directory=str(settings.PACKAGE / "migrations"))
    account = accounts.find_account(slug) or accounts.add_account(slug, name)
    owner = next(iter(accounts.owners(account.id)), None)
    if owner is None:
        owner = accounts.add_user(
            account.id, name=owner_name, email=read_address(owner_email), role=Role.OWNER, mailbox_proven=True
        )
        audit.record(account.id, "user.added", f"user:{owner.id}", source="command")
    keys.current_key()
    link = sign_in_link(owner)
    db.session.commit()
    return {"account": slug, "sign_in": link}


@click.command()
@with_appcontext
def worker() -> None:
    """Run the job worker: mail, syncs, housekeeping."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    jobs.take_over(app)
    jobs.make_consumer(app).run()


@click.command()
@click.option("--port", default=8000, show_default=True, help="The tool's port; another if it is taken.")
@click.option("--lms-port", default=8001, show_default=True, help="The practice LMS's port.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep the data; without: nowhere.")
@with_appcontext
def demo(port: int, lms_port: int, folder: Path | None) -> None:
    """Everything in one process on loopback: tool, worker, practice LMS, and a mailbox for its mail."""
    running = demonstration.start(
        current_app.extensions["create_app"],
        secret=current_app.config["SECRET_KEY"],
        folder=folder,
        tool_port=port,
        lms_port=lms_port,
    )
    click.echo(
        f"""
Doorlist is running. Nothing here leaves this machine.

  Practice LMS   {running.lms}
                 Be a teacher, a student or an admin, and launch a course.
  Mailbox        {running.mailbox}
                 Every mail that Doorlist sends arrives here.
  Doorlist       {running.tool}
                 Sign in once as the owner: {running.sign_in}

Stop with Ctrl+C.
"""
    )
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    running.stop()


@mail_group.command("send-due")
@answers
def mail_send_due() -> dict[str, int]:
    """Deliver what is due, now."""
    return {"sent": jobs.deliver_due_mail()}


@mail_group.command("bounced")
@click.option("--json", "as_json", is_flag=True, help="Say whether it was about a mail of ours.")
def mail_bounced(as_json: bool) -> None:
    """Read a returned message from standard input, as a mail server's alias pipes it, and mark its mail.

    Silent, and exit status 0, whatever is sent here: what a mail server hears it may tell the sender.
    """
    raw = sys.stdin.buffer.read(bounces.LONGEST)
    try:
        noted = bounces.note(raw)
        db.session.commit()
    except OperationalError:
        # EX_TEMPFAIL: mail servers keep the message and try again.
        raise SystemExit(75) from None
    if as_json:
        click.echo(json.dumps({"noted": noted}))


@mail_group.command("list")
@answers
def mail_list() -> list[dict[str, Any]]:
    """The outbox, newest first. Addresses and words are sealed and not shown."""
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "about": row.about,
            "created": row.created_at.isoformat(),
            "due": row.due_at.isoformat() if row.due_at else None,
            "attempts": row.attempts,
            "sent": row.sent_at.isoformat() if row.sent_at else None,
            "error": row.last_error or None,
        }
        for row in db.session.scalars(select(OutboxMail).order_by(OutboxMail.id.desc()).limit(200))
    ]


@keys_group.command("rotate")
@click.option("--at-once", is_flag=True, help="Sign with the new key from this moment (a key leaked).")
@answers
def keys_rotate(at_once: bool) -> dict[str, Any]:
    """Make a new key to sign with; the old ones stay published while platforms may need them."""
    key = keys.rotate(at_once=at_once)
    db.session.commit()
    return {"kid": key.kid, "created": key.created_at.isoformat(), "at": now().isoformat()}
