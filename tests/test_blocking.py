"""Blocking somebody: every door shuts at once, lists stay, and only those above may do it."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from conftest import Browser, Cast, LiveServer, Lms
from flask import Flask
from sqlalchemy import func, select
from test_deep_linking import ask, choose
from test_invitations import KHAI, invited
from test_signalling import Enter
from test_signalling import enter as enter
from test_user_panel import actions, make

from lti_tool.classroom import access, courses, people, sessions
from lti_tool.classroom.accounts import Identity, Role, User
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.people import LastOwner
from lti_tool.classroom.sessions import Kind, Session, SignInCode, Ticket
from lti_tool.database import db
from lti_tool.lti.handshake import BurnedNonce
from lti_tool.mail import OutboxMail
from lti_tool.pages import signalling
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]


def blocked(app: Flask, user_id: int) -> bool:
    with app.app_context():
        return db.session.get_one(User, user_id).blocked_at is not None


def count(app: Flask, table: type, **values: object) -> int:
    with app.app_context():
        return db.session.scalar(select(func.count()).select_from(table).filter_by(**values)) or 0


def test_a_blocked_person_is_out_at_once_and_in_again_when_unblocked(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    ada, sam = browse(cast.ada), browse(cast.sam)
    assert sam.get("/courses").status_code == 200
    asked = ada.get(f"/users/{cast.sam}/block")
    assert "Block Sam Whitfield at Linden Polytechnic?" in asked.text
    assert not blocked(app, cast.sam), "asking changes nothing"
    assert sam.post("/tickets", {"next": "/courses"}).status_code == 200
    done = ada.post(f"/users/{cast.sam}/block")
    assert done.status_code == 303
    assert sam.get("/courses").status_code == 303
    assert (count(app, Session, user_id=cast.sam), count(app, Ticket)) == (0, 0)
    panel = ada.get(f"/users/{cast.sam}").text
    assert "Blocked since" in panel
    assert "Unblock" in panel
    # Still on the list, which says so, and still with every fact.
    roster = ada.get(f"/courses/{cast.geology}/roster").text
    assert "Sam Whitfield" in roster
    assert "since" in roster
    assert "Blocked" in roster
    assert count(app, Enrollment, user_id=cast.sam, ended_at=None) == 1
    assert ada.post(f"/users/{cast.sam}/unblock").status_code == 303
    assert browse(cast.sam).get("/courses").status_code == 200
    assert actions(app, cast.sam) == ["user.blocked", "user.unblocked"]


def test_no_session_of_a_blocked_person_counts_however_it_came_to_be(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    """Blocking and signing in at the same moment: the session is written after the others were ended."""
    assert browse(cast.ada).post(f"/users/{cast.sam}/block").status_code == 303
    assert browse(cast.sam).get("/courses").status_code == 303
    with app.app_context():
        sam = db.session.get_one(User, cast.sam)
        session, _ = sessions.start(sam, Kind.OWN, lifetime=timedelta(hours=1))
        assert sessions.keep(session.id) is None


def test_a_blocked_persons_launch_is_refused_with_its_own_page(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    browser = browse(None)
    assert lms.launch(browser, "sam", "geology").status_code == 303
    with app.app_context():
        user_id = db.session.scalars(select(Identity)).one().user_id
    assert browse(cast.ada).post(f"/users/{user_id}/block").status_code == 303
    before = count(app, BurnedNonce)
    refused = lms.launch(browser, "sam", "geology")
    assert refused.status_code == 403
    assert 'data-error="blocked"' in refused.text
    assert "You are blocked at Linden Polytechnic" in refused.text
    assert "An admin of Doorlist at your institution can mend this." in refused.text
    assert count(app, BurnedNonce) == before + 1, "the refused launch cannot be sent again"
    assert count(app, Session, user_id=user_id) == 0
    # Another person of the same course is let in as ever.
    assert lms.launch(browse(None), "ivan", "geology").status_code == 303
    assert browse(cast.ada).post(f"/users/{user_id}/unblock").status_code == 303
    assert lms.launch(browser, "sam", "geology").status_code == 303


def test_signing_in_mails_a_blocked_person_nothing_and_says_the_same(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    anybody = browse(None)
    assert anybody.post("/sign-in", {"email": "sam@example.org"}).status_code == 303
    work()
    link = urlsplit(mailbox.wait_for("sam@example.org").links[0]).path
    assert browse(cast.ada).post(f"/users/{cast.sam}/block").status_code == 303
    assert count(app, SignInCode, user_id=cast.sam) == 0
    assert anybody.post(link).status_code == 410
    waiting = len(mailbox.mails)
    again = browse(None).post("/sign-in", {"email": "sam@example.org"})
    nobody = browse(None).post("/sign-in", {"email": "nobody@example.org"})
    assert (again.status_code, again.location) == (nobody.status_code, nobody.location)
    work()
    assert len(mailbox.mails) == waiting


def test_a_blocked_invitation_cannot_be_accepted_and_its_mail_is_not_sent(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    path = invited(ada, cast, work, mailbox)
    with app.app_context():
        khai = db.session.scalars(select(User).filter_by(email=KHAI)).one().id
    assert ada.post(f"/users/{khai}/invitation/resend").status_code == 303
    assert ada.post(f"/users/{khai}/block").status_code == 303
    with app.app_context():
        waiting = select(OutboxMail).where(OutboxMail.due_at.is_not(None))
        assert db.session.scalars(waiting).all() == []
    ada.post(f"/users/{khai}/invitation/resend")
    with app.app_context():
        assert db.session.scalars(waiting).all() == []
    assert ada.post(f"/users/{khai}/unblock").status_code == 303
    assert ada.post(f"/users/{khai}/invitation/resend").status_code == 303
    work()
    path = urlsplit(mailbox.wait_for(KHAI, count=2).links[0]).path
    assert ada.post(f"/users/{khai}/block").status_code == 303
    refused = browse(None).post(f"{path}/accept")
    assert refused.status_code == 403
    assert 'data-error="blocked"' in refused.text


@pytest.mark.parametrize("role", [Role.STUDENT, Role.INSTRUCTOR, Role.ADMIN, Role.OWNER])
def test_the_door_is_shut_for_whoever_is_blocked_and_says_why(app: Flask, cast: Cast, role: Role) -> None:
    with app.app_context():
        sam = db.session.get_one(User, cast.sam)
        ada = db.session.get_one(User, cast.ada)
        sam.role = role
        people.block(sam, by=ada)
        course = courses.find_course(cast.account, cast.geology)
        assert course is not None
        gate = access.room_gate(sam, course)
        assert (gate.name, gate.open) == (access.GateName.NOT_ENROLLED, False)
        assert [str(reason) for reason in gate.because] == ["Blocked by an admin of the account."]
        assert not access.can_see_course(sam, course)
        assert not access.can_moderate(sam, course)
        assert not access.can_manage_users(sam)
        db.session.rollback()


def test_nobody_blocks_someone_above_or_himself_and_an_owner_is_always_left(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    admin = make(app, cast, "Thordis", Role.ADMIN)
    thordis = browse(admin)
    for address in (f"/users/{cast.ada}/block", f"/users/{admin}/block", f"/users/{cast.ada}/unblock"):
        assert thordis.post(address).status_code == 403
    assert thordis.get(f"/users/{admin}/block").status_code == 403
    assert browse(cast.ivan).post(f"/users/{cast.sam}/block").status_code == 403
    eve = browse(cast.eve)
    for address in (f"/users/{cast.sam}/block", f"/users/{cast.sam}/unblock"):
        assert eve.post(address).status_code == 404
    assert eve.get(f"/users/{cast.sam}/block").status_code == 404
    assert not any(blocked(app, one) for one in (cast.ada, admin, cast.sam))
    with app.app_context():
        ada, second = db.session.get_one(User, cast.ada), db.session.get_one(User, admin)
        with pytest.raises(LastOwner):
            people.block(ada, by=second)
        second.role = Role.OWNER
        people.block(second, by=ada)
        # One who is blocked looks after nothing, so Ada is the last one.
        for deed in (people.block, people.erase):
            with pytest.raises(LastOwner):
                deed(ada, by=None)
        with pytest.raises(LastOwner):
            people.change_role(ada, Role.ADMIN)
        db.session.rollback()


def test_a_blocked_persons_frame_cannot_place_rooms_any_more(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    """A deep linking form speaks for itself, without a session that blocking could end."""
    page = ask(lms, browse(None))
    with app.app_context():
        ivan = db.session.scalars(select(Identity)).one().user_id
    assert browse(cast.ada).post(f"/users/{ivan}/block").status_code == 303
    answer = choose(page, app, room="new", name="Mine")
    assert answer.status_code == 410
    assert 'data-error="picking_stale"' in answer.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_blocked_person_is_put_out_of_the_room_at_the_next_beat(
    server: LiveServer, cast: Cast, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signalling, "BEAT_SECONDS", 1)
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    sam = enter(cast.sam)
    peer = sam.wait("welcome")["you"]["peer"]
    with server.app.app_context():
        people.block(db.session.get_one(User, cast.sam), by=db.session.get_one(User, cast.ada))
        db.session.commit()
    assert sam.wait("removed")["reason"] == "signed_out"
    assert sam.hung_up()
    assert ivan.wait("left")["peer"] == peer
