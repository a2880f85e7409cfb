"""The demo: tool, worker, practice LMS and a mailbox in one process on loopback."""

import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask_migrate import upgrade
from werkzeug.serving import make_server

from lti_tool import jobs, settings
from lti_tool.classroom import accounts, plans, sessions
from lti_tool.classroom.accounts import Role
from lti_tool.database import db, now
from lti_tool.lti import registrations
from lti_tool.practice_lms import Mailbox, Platform, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.gradebook import GRADEBOOK_SCOPES
from lti_tool.practice_lms.messages import MEMBERSHIPS_SCOPE

CLIENT_ID = "doorlist-demo"


@dataclass
class Demo:
    """Everything that runs, and where to find it."""

    tool: str
    lms: str
    mailbox: str
    sign_in: str
    stop: Callable[[], None]


def free_port(wish: int) -> int:
    """`wish` if nobody listens there, else any free port of 127.0.0.1."""
    for port in (wish, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")


def start(
    create_app: Callable[..., Flask],
    *,
    secret: str,
    folder: Path | None = None,
    tool_port: int = 8000,
    lms_port: int = 8001,
    **overrides: Any,
) -> Demo:
    """Start all of it. The platform is at 127.0.0.1 and the tool at localhost, which browsers hold to be
    two different sites: launches meet the same cookie rules as between a real LMS and a real tool."""
    folder = folder or Path(tempfile.mkdtemp(prefix="doorlist-demo-"))
    mailbox = Mailbox()
    mailbox.start()
    platform = Platform(name="Practice LMS")
    lms = serve(create_lms(platform, mailbox), port=free_port(lms_port))
    port = free_port(tool_port)
    url = f"http://localhost:{port}"
    app = create_app(
        **{
            "SECRET_KEY": secret,
            "PUBLIC_URL": url,
            "DATABASE_URL": f"sqlite:///{folder / 'doorlist.sqlite'}",
            "QUEUE_FILE": str(folder / "queue.sqlite"),
            "REDIS_URL": "",
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": mailbox.port,
            "MAIL_DEFAULT_SENDER": "Doorlist <doorlist@example.org>",
            "ALLOW_PRIVATE_PLATFORMS": True,
            **overrides,
        }
    )
    platform.connect_tool(
        CLIENT_ID,
        ("1",),
        login_url=f"{url}/lti/login",
        launch_url=f"{url}/lti/launch",
        scopes=(MEMBERSHIPS_SCOPE, *GRADEBOOK_SCOPES),
        # From server to server: not every machine resolves localhost to where we listen.
        jwks_url=f"http://127.0.0.1:{port}/lti/jwks.json",
    )
    with app.app_context():
        upgrade(directory=str(settings.PACKAGE / "migrations"))
        sign_in = _furnish(platform, url)
    http = make_server("127.0.0.1", port, app, threaded=True)
    threading.Thread(target=http.serve_forever, name="tool", daemon=True).start()
    jobs.take_over(app)
    consumer = jobs.make_consumer(app)
    # Signals are for whoever runs the demo.
    consumer._set_signal_handlers = lambda: None
    consumer.start()

    def stop() -> None:
        consumer.stop(graceful=True)
        http.shutdown()
        http.server_close()
        lms.stop()
        mailbox.stop()
        with app.app_context():
            db.session.remove()
            db.engine.dispose()

    return Demo(tool=url, lms=lms.url, mailbox=f"{lms.url}/mailbox", sign_in=sign_in, stop=stop)


def _furnish(platform: Platform, url: str) -> str:
    """An account with its owner, the practice LMS connected and free plans; the owner's sign-in link."""
    account = accounts.find_account("default")
    if account is None:
        account = accounts.add_account("default", "Linden Polytechnic")
        accounts.add_user(
            account.id,
            name="Þórdís Guðmundsdóttir",
            email="owner@example.org",
            role=Role.OWNER,
            mailbox_proven=True,
        )
        for name, seats, days in (("Autumn 40", 40, 90), ("Year 100", 100, 300)):
            plans.grant(account, seats=seats, name=name, until=now() + timedelta(days=days))
    try:
        registration = registrations.add_registration(
            name="Practice LMS",
            issuer=platform.issuer,
            client_id=CLIENT_ID,
            auth_url=platform.auth_url,
            token_url=platform.token_url,
            jwks_url=platform.jwks_url,
        )
    except registrations.RegistrationExists:
        pass
    else:
        connection = accounts.connect(account, registration)
        accounts.approve(connection, registrations.note_deployment(registration, "1"))
    link = sessions.mint_link(accounts.owners(account.id)[0], public_url=url)
    db.session.commit()
    return link
