"""kill -9 in the middle of a change to many people: nobody is left out, and nobody's turn comes twice."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import func, select
from test_inviting_many import checked, upload
from test_kill import environment, wait_until, worker

from lti_tool.classroom import accounts
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.batches import Batch, BatchRow, BatchState
from lti_tool.classroom.courses import Enrollment
from lti_tool.database import db, insert_many, now
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Mailbox

# The fixture of the other kills.
assert environment

PEOPLE, KILLS = 400, 2
GUESTS = 120


@pytest.mark.timeout(300)
def test_a_killed_worker_leaves_nobody_out_and_does_nothing_twice(
    app: Flask,
    cast: Cast,
    browse: Callable[[int | None], Browser],
    environment: dict[str, str],
) -> None:
    with app.app_context():
        names = [f"person {n:04}" for n in range(PEOPLE)]
        insert_many(
            accounts.User.__table__,
            {"name": names, "name_key": names},
            {"account_id": cast.account, "created_at": now(), "email": "", "email_key": ""}
            | {"role": "student", "status": "registered"},
        )
        db.session.commit()
    ada = browse(cast.ada)
    draft = ada.post("/users/batches/new/add_to_course", {"all": "1", "q": "person"}).location
    ada.post(f"{draft}/confirm", {"chosen": "1", "courses": cast.statics, "role": "student"})

    def waiting() -> int:
        with app.app_context():
            return db.session.scalar(select(func.count()).where(BatchRow.outcome == "")) or 0

    def state() -> BatchState:
        with app.app_context():
            return db.session.scalars(select(Batch.state)).one()

    chance, interrupted = random.Random(74), 0
    for _ in range(KILLS):
        before = waiting()
        with worker(environment) as process:
            # Until it is at work, and then somewhere in the middle of a part.
            assert wait_until(lambda before=before: waiting() < before, 60), "no worker took it"
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        interrupted += waiting() > 0
        if not waiting():
            break
    assert interrupted, "it was over before it was killed"
    with worker(environment):
        assert wait_until(lambda: state() is BatchState.DONE, 120)
    with app.app_context():
        assert db.session.scalars(select(Batch.outcomes)).one() == {"added": PEOPLE}
        enrolled = db.session.scalars(select(Enrollment.user_id).filter_by(course_id=cast.statics)).all()
        assert len(enrolled) == len(set(enrolled)) == PEOPLE + 1
        events = Counter(db.session.scalars(select(AuditEvent.target).filter_by(action="enrollment.added")))
        assert set(events.values()) == {1}, "somebody was added twice"
        assert len(events) == PEOPLE


@pytest.mark.timeout(300)
def test_of_a_list_whose_worker_is_killed_everybody_is_mailed_one_invitation(
    app: Flask,
    cast: Cast,
    browse: Callable[[int | None], Browser],
    mailbox: Mailbox,
    environment: dict[str, str],
) -> None:
    addresses = [f"guest{n:03}@example.org" for n in range(GUESTS)]
    ada = browse(cast.ada)
    lines = "".join(f"Guest {n};{address}\n" for n, address in enumerate(addresses))
    check = checked(ada, upload(ada, f"Name;Email\n{lines}"))
    assert not mailbox.mails
    assert ada.post(check.replace("/check", "/send")).status_code == 303

    def mailed() -> int:
        with app.app_context():
            return db.session.scalar(select(func.count()).where(OutboxMail.sent_at.is_not(None))) or 0

    chance = random.Random(11)
    for turn in range(KILLS + 1):
        before = mailed()
        with worker(environment) as process:
            # The first is killed anywhere from its start to its first mails, the others among the mails.
            if turn:
                assert wait_until(lambda before=before: mailed() > before, 60), "no worker took it"
            time.sleep(chance.uniform(0, 0.3) if turn else chance.uniform(1, 2))
            process.send_signal(signal.SIGKILL)
    assert mailed() < GUESTS, "it was over before it was killed"
    with worker(environment):
        assert wait_until(lambda: mailed() == GUESTS, 120)
    told = Counter(address for mail in mailbox.mails for address in mail.to)
    assert sorted(told) == addresses, "somebody was forgotten"
    # A kill between the mail server's yes and our note of it: the same mail once more, by its Message-ID.
    assert sum(told.values()) - GUESTS <= KILLS + 1
    assert len({mail.message["Message-ID"] for mail in mailbox.mails}) == GUESTS
    with app.app_context():
        invited = db.session.scalars(select(AuditEvent.target).filter_by(action="user.invited")).all()
        assert len(invited) == len(set(invited)) == GUESTS
        assert db.session.scalars(select(Batch.outcomes)).one() == {"invited": GUESTS}
