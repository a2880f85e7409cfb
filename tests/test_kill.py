"""kill -9 at any moment of an invitation or a sync: nothing is lost and nothing is doubled.

The application runs in processes of its own; each is killed at a random moment while it works, and
started again, until the work is done.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import SECRET, TOOL, Browser, Cast, Lms, sign_in_token
from flask import Flask
from sqlalchemy import func, select

from lti_tool.classroom.accounts import Identity, User
from lti_tool.classroom.courses import Context, Enrollment
from lti_tool.classroom.invitations import Invitation
from lti_tool.classroom.syncs import SyncRun, SyncState
from lti_tool.database import db
from lti_tool.mail import OutboxMail
from lti_tool.pages import visitor
from lti_tool.practice_lms import Mailbox

ROOT = Path(__file__).parent.parent
ROUNDS = 8


@pytest.fixture
def environment(app: Flask, mailbox: Mailbox, tmp_path: Path) -> dict[str, str]:
    """The same installation, for other processes."""
    return {
        **os.environ,
        "LTI_TOOL_SECRET_KEY": SECRET,
        "LTI_TOOL_PUBLIC_URL": TOOL,
        "LTI_TOOL_DATABASE_URL": app.config["DATABASE_URL"],
        "LTI_TOOL_QUEUE_FILE": str(tmp_path / "queue.sqlite"),
        "LTI_TOOL_MAIL_SERVER": "127.0.0.1",
        "LTI_TOOL_MAIL_PORT": str(mailbox.port),
        "LTI_TOOL_ALLOW_PRIVATE_PLATFORMS": "true",
        "LTI_TOOL_LOG_LEVEL": "WARNING",
    }


@contextmanager
def worker(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`flask worker` as an operator runs it; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "worker"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def web(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The web process as an operator runs it, and its address; killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4"),
            *("--bind", f"127.0.0.1:{port}", "wsgi:app"),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health/live", timeout=1).ok
    except requests.RequestException:
        return False


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return true()


def count(app: Flask, query: Any) -> int:
    with app.app_context():
        found: int = db.session.scalar(query) or 0
        return found


@pytest.mark.timeout(300)
def test_a_killed_worker_loses_no_invitation_and_doubles_none(
    app: Flask,
    cast: Cast,
    browse: Callable[[int | None], Browser],
    mailbox: Mailbox,
    environment: dict[str, str],
) -> None:
    ada = browse(cast.ada)
    addresses = [f"guest{n}@example.org" for n in range(ROUNDS)]
    chance = random.Random(20261123)
    for address in addresses:
        answer = ada.post(
            "/users/invite", {"name": "A guest", "email": address, "role": "student", "courses": cast.geology}
        )
        assert answer.status_code in (200, 303), answer.text
        with worker(environment) as process:
            # From before the worker is up until well after it has delivered.
            time.sleep(chance.uniform(0.5, 2.5))
            process.send_signal(signal.SIGKILL)
    undelivered = select(func.count(OutboxMail.id)).where(OutboxMail.sent_at.is_(None))
    with worker(environment):
        assert wait_until(lambda: count(app, undelivered) == 0, 60)
    for address in addresses:
        mails = mailbox.sent_to(address)
        assert mails, f"no mail to {address}"
        # Should a kill fall between the mail server's yes and our note of it, the same message comes
        # again: the same Message-ID tells mailboxes so, and the same link works once.
        assert len({mail.message["Message-ID"] for mail in mails}) == 1
        links = {re.search(r"/invitations/([\w-]+)", mail.text)[1] for mail in mails}  # type: ignore[index]
        assert len(links) == 1
    assert count(app, select(func.count(Invitation.id))) == ROUNDS
    assert count(app, select(func.count(User.id)).where(User.email_key.like("guest%"))) == ROUNDS
    again = Counter(mail.to for mail in mailbox.mails)
    assert sum(again.values()) - len(again) <= ROUNDS


@pytest.mark.timeout(300)
def test_a_web_process_killed_while_it_invites_leaves_each_invitation_whole_or_not_there(
    app: Flask, cast: Cast, mailbox: Mailbox, environment: dict[str, str]
) -> None:
    token = sign_in_token(app, cast.ada)
    chance = random.Random(61)
    promised: list[str] = []
    for turn in range(ROUNDS // 2):
        with web(environment) as (process, url):
            assert wait_until(lambda url=url: answers(url), 30), "the web process did not start"
            ada = requests.Session()
            # Set by hand: the cookies are Secure, and this is plain http on loopback.
            page = ada.get(f"{url}/courses", headers={"Cookie": f"{visitor.OWN_COOKIE}={token}"})
            form = page.headers["Set-Cookie"].partition(";")[0]
            found = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
            assert found, page.text
            headers = {
                "Cookie": f"{visitor.OWN_COOKIE}={token}; {form}",
                "X-CSRFToken": unescape(found[1]),
                "Sec-Fetch-Site": "same-origin",
            }
            threading.Timer(
                chance.uniform(0.02, 0.6), lambda pid=process.pid: os.killpg(pid, signal.SIGKILL)
            ).start()
            for number in range(50):
                address = f"guest{turn}x{number}@example.org"
                data = {"name": "A guest", "email": address, "role": "student", "courses": cast.geology}
                try:
                    answer = requests.post(
                        f"{url}/users/invite", data=data, headers=headers, timeout=10, allow_redirects=False
                    )
                except requests.RequestException:
                    break
                if answer.status_code in (200, 303):
                    promised.append(address)
    with app.app_context():
        guests = db.session.scalars(select(User).where(User.email_key.like("guest%"))).all()
        invited = {guest.email for guest in guests}
        assert set(promised) <= invited, "an invitation that was confirmed is lost"
        for guest in guests:
            kept = db.session.scalars(select(Invitation).filter_by(user_id=guest.id)).all()
            assert len(kept) == 1
            waiting = db.session.scalars(select(OutboxMail).filter_by(about=kept[0].topic)).all()
            assert len(waiting) == 1
            enrolled = db.session.scalars(select(Enrollment).filter_by(user_id=guest.id)).all()
            assert len(enrolled) == 1
    undelivered = select(func.count(OutboxMail.id)).where(OutboxMail.sent_at.is_(None))
    with worker(environment):
        assert wait_until(lambda: count(app, undelivered) == 0, 90)
    assert {address for mail in mailbox.mails for address in mail.to} == invited


@pytest.mark.timeout(300)
def test_a_killed_worker_leaves_a_roster_whole_or_untouched(
    app: Flask,
    cast: Cast,
    browse: Callable[[int | None], Browser],
    lms: Lms,
    environment: dict[str, str],
) -> None:
    ivan = browse(None)
    arrived = lms.launch(ivan, "ivan", "big")
    course_url = arrived.location
    members = len(lms.members("big"))
    chance = random.Random(1123)
    enrolled = (
        select(func.count(Enrollment.id))
        .join(Context, Context.id == Enrollment.context_id)
        .where(Context.context_id == lms.course("big").id)
    )
    before = count(app, enrolled)
    for _ in range(ROUNDS):
        ivan.post(f"{course_url}/roster/sync")
        with worker(environment) as process:
            time.sleep(chance.uniform(0.5, 3.0))
            process.send_signal(signal.SIGKILL)
        now_there = count(app, enrolled)
        assert now_there == before or now_there >= members, f"{now_there} of {members}: half a roster"
    finished = select(func.count(SyncRun.id)).where(
        SyncRun.state.in_([SyncState.APPLIED, SyncState.UNCHANGED])
    )
    busy = select(func.count(SyncRun.id)).where(SyncRun.state.in_([SyncState.QUEUED, SyncState.RUNNING]))
    with worker(environment):
        assert wait_until(lambda: count(app, busy) == 0, 60)
        ivan.post(f"{course_url}/roster/sync")
        assert wait_until(lambda: count(app, busy) == 0, 60)
    assert count(app, finished) >= 1
    listed = {member.person.id for member in lms.listed_members("big")}
    subjects = select(Identity.subject)
    with app.app_context():
        held = db.session.scalars(subjects).all()
        active = db.session.scalars(
            select(Enrollment.subject)
            .join(Context, Context.id == Enrollment.context_id)
            .where(Context.context_id == lms.course("big").id, Enrollment.ended_at.is_(None))
        ).all()
    assert len(held) == len(set(held)), "somebody was doubled"
    assert len(active) == len(set(active))
    assert listed - {"10"} <= set(active)
