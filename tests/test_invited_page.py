"""The list of invitations, the history of each, and the one reminder before it is too late."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from urllib.parse import urlsplit

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select, update
from test_invitations import KHAI, invite, invited, path_in, user_with

from lti_tool import jobs
from lti_tool.classroom import accounts, invitations
from lti_tool.classroom.accounts import Account, Role, Status, User
from lti_tool.classroom.invitations import Invitation, InvitationLink
from lti_tool.database import db, now
from lti_tool.mail import OutboxMail
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
Move = Callable[[timedelta], None]
PART = {"HX-Request": "true", "HX-Target": "list"}


def people_in(page: str) -> list[str]:
    """The rows of the list, as text."""
    page = page[page.index("<tbody>") : page.index("</tbody>")] if "<tbody>" in page else ""
    rows = page.split("<tr ")[1:]
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", row.partition(">")[2])).split()) for row in rows]


def sweep(app: Flask) -> None:
    with app.app_context():
        jobs.sweep()


def fill(app: Flask, account_id: int, by: int, count: int) -> None:
    """Many invitations, as a list of them would be written."""
    with app.app_context():
        for number in range(count):
            user = accounts.add_user(
                account_id,
                name=f"Guest {number:03}",
                email=f"guest{number}@example.net",
                role=Role.STUDENT,
                status=Status.PENDING,
                mailbox_proven=True,
            )
            one = Invitation(
                account_id=account_id,
                user_id=user.id,
                invited_by_id=by,
                expires_at=now() + timedelta(days=14),
            )
            db.session.add(one)
            db.session.flush()
            invitations.new_links([one.id], replace=False)
        db.session.commit()


# --- the list ----------------------------------------------------------------------------


def test_the_list_shows_every_state_and_can_be_narrowed(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    ada = browse(cast.ada)
    assert "Nobody was invited yet" in ada.get("/users/invitations").text
    invite(ada, cast, name="Early Bird", email="early@example.com")
    move_clock(timedelta(days=20))
    ada = browse(cast.ada)
    paths = {}
    for name in ("Wim Waits", "Ann Accepts", "Dee Declines", "Tom Takenback"):
        address = f"{name.split()[0].lower()}@example.com"
        paths[name] = invited(ada, cast, work, mailbox, name=name, email=address)
    assert browse(None).post(f"{paths['Ann Accepts']}/accept").status_code == 303
    assert browse(None).post(f"{paths['Dee Declines']}/decline").status_code == 200
    tom = user_with(app, "tom@example.com")
    assert tom is not None
    assert ada.post(f"/users/{tom.id}/invitation/withdraw").status_code == 303

    # In another browser: this one still has to say what was done.
    ada = browse(cast.ada)
    whole = ada.get("/users/invitations")
    assert "HX-Request" in whole.headers["Vary"]
    rows = people_in(whole.text)
    # Newest first. Of the declined and the withdrawn only courses, inviter and time are kept.
    begin = [row.split(" Introduction")[0] for row in rows]
    assert begin == [
        "Not kept",
        "Not kept",
        "AA Ann Accepts ann@example.com",
        "WW Wim Waits wim@example.com",
        "EB Early Bird early@example.com",
    ]
    assert all("Introduction to Structural Geology" in row and "Ada Okonkwo" in row for row in rows)
    assert "Dee" not in whole.text
    assert "tom@example.com" not in whole.text
    found = {
        state: people_in(ada.get(f"/users/invitations?state={state}", headers=PART).text)
        for state in ("waiting", "trouble", "expired", "accepted", "declined", "withdrawn", "nonsense")
    }
    assert {state: len(held) for state, held in found.items()} == {
        "waiting": 1,
        "trouble": 0,
        "expired": 1,
        "accepted": 1,
        "declined": 1,
        "withdrawn": 1,
        "nonsense": 5,
    }
    assert "Wim Waits" in found["waiting"][0]
    assert "Early Bird" in found["expired"][0]
    assert "1 invitation expired without an answer." in whole.text
    for query, expected in (
        ("q=wim", 1),
        ("q=WAITS+wim", 1),
        ("q=early%40", 1),
        ("q=dee", 0),
        (f"by={cast.ada}", 5),
        (f"by={cast.ivan}", 0),
        ("by=99999999999999", 5),
        ("by=x&after=x&before=99999999999", 5),
    ):
        assert len(people_in(ada.get(f"/users/invitations?{query}").text)) == expected, query


def test_pages_of_the_list_go_on_where_they_ended_and_cost_the_same(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    fill(app, cast.account, cast.ada, 60)
    ada = browse(cast.ada)
    seen: list[str] = []
    url = "/users/invitations"
    counts = []
    for _ in range(3):
        statements.clear()
        page = ada.get(url).text
        counts.append(len([one for one in statements if not one.startswith(("BEGIN", "SAVEPOINT"))]))
        seen += people_in(page)
        following = re.search(r'id="page-after" href="([^"]+)"', page)
        url = unescape(following[1]) if following else ""
    assert not url
    assert [row.split()[2] for row in seen] == [f"{number:03}" for number in reversed(range(60))]
    assert max(counts) <= 10, counts
    back = re.search(r'id="page-before" href="([^"]+)"', page)
    assert back
    again = people_in(ada.get(unescape(back[1])).text)
    assert again == seen[25:50]


def test_sending_again_and_withdrawing_work_from_the_list(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    old = invited(ada, cast, work, mailbox)
    part = ada.post("/users/invitations/1/resend?back=list", headers={"HX-Request": "true"})
    assert part.status_code == 200
    assert 'id="invitation-1"' in part.text
    assert "The old link no longer works." in part.text
    work()
    new = urlsplit(mailbox.wait_for(KHAI, count=2).links[0]).path
    assert 'data-error="invitation_replaced"' in browse(None).get(old).text
    gone = ada.post("/users/invitations/1/withdraw?back=list&state=waiting")
    assert gone.status_code == 303
    assert gone.location == "/users/invitations?state=waiting"
    assert 'data-error="invitation_withdrawn"' in browse(None).get(new).text
    details = unescape(ada.get("/users/invitations/1").text)
    happened = ["Invited by Ada Okonkwo", "Sent again by Ada Okonkwo", "Withdrawn by Ada Okonkwo"]
    assert [words in details for words in happened] == [True, True, True]
    assert "Who this was is not kept" in details
    assert "Introduction to Structural Geology" in details
    for deed in ("resend", "withdraw"):
        late = ada.post(f"/users/invitations/1/{deed}")
        assert late.status_code == 409
        assert 'data-error="invitation_over"' in late.text
    work()
    assert len(mailbox.sent_to(KHAI)) == 2
    with app.app_context():
        assert db.session.scalars(select(OutboxMail.sealed).distinct()).all() == [""]


def test_all_expired_ones_are_sent_again_after_a_yes(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    ada = browse(cast.ada)
    for number in range(3):
        invite(ada, cast, name="Late", email=f"late{number}@example.com")
    work()
    move_clock(timedelta(days=15))
    ada = browse(cast.ada)
    invite(ada, cast, name="Fresh", email="fresh@example.com")
    asked = ada.post("/users/invitations/resend-expired")
    assert asked.status_code == 303
    draft = ada.get(asked.location)
    assert draft.status_code == 200
    work()
    assert len(mailbox.sent_to("late1@example.com")) == 1, "nothing before the yes"
    assert ada.post(f"{asked.location}/confirm").status_code == 303
    work()
    assert [len(mailbox.sent_to(f"late{number}@example.com")) for number in range(3)] == [2, 2, 2]
    assert len(mailbox.sent_to("fresh@example.com")) == 1
    assert people_in(ada.get("/users/invitations?state=expired").text) == []
    with app.app_context():
        assert not db.session.scalars(select(Invitation).where(Invitation.expires_at <= now())).all(), (
            "they work again"
        )


def test_another_accounts_admin_and_those_who_are_none_see_no_invitation(cast: Cast, browse: Browse) -> None:
    invite(browse(cast.ada), cast)
    eve = browse(cast.eve)
    assert people_in(eve.get("/users/invitations").text) == []
    assert eve.get("/users/invitations/1").status_code == 404
    for deed in ("resend", "withdraw"):
        assert eve.post(f"/users/invitations/1/{deed}").status_code == 404
    for user in (cast.ivan, cast.sam):
        other = browse(user)
        assert other.get("/users/invitations").status_code == 403
        assert other.get("/users/invitations/1").status_code == 403
        for deed in ("1/resend", "1/withdraw", "resend-expired"):
            assert other.post(f"/users/invitations/{deed}").status_code == 403
    assert browse(None).get("/users/invitations").status_code == 303
    assert browse(cast.ada).get("/users/invitations/77").status_code == 404


def test_an_admin_cannot_touch_the_invitation_of_somebody_above(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    with app.app_context():
        admin = accounts.add_user(
            cast.account, name="Ana", email="ana@example.org", role=Role.ADMIN, mailbox_proven=True
        )
        db.session.commit()
        admin_id = admin.id
    fill(app, cast.account, cast.ada, 1)
    with app.app_context():
        db.session.scalars(select(User).filter_by(name="Guest 000")).one().role = Role.OWNER
        db.session.commit()
    ana = browse(admin_id)
    assert "/users/invitations/1/resend" not in ana.get("/users/invitations").text
    for deed in ("resend", "withdraw"):
        assert ana.post(f"/users/invitations/1/{deed}").status_code == 403


# --- pages behind links ------------------------------------------------------------------


def test_a_link_without_a_course_left_and_one_of_a_blocked_person_say_so(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    path = invited(ada, cast, work, mailbox)
    user = user_with(app, KHAI)
    assert user is not None
    assert ada.post(f"/users/{user.id}/courses/{cast.geology}/remove").status_code == 303
    page = browse(None).get(path)
    assert page.status_code == 200
    assert 'data-invitation="no_course"' in page.text
    assert "No course waits for you at the moment." in page.text
    with app.app_context():
        db.session.get_one(User, user.id).blocked_at = now()
        db.session.commit()
    for blocked in (browse(None).get(path), *(browse(None).post(f"{path}/{d}") for d in ("accept", "renew"))):
        assert blocked.status_code == 403
        assert 'data-error="blocked"' in blocked.text
    work()
    assert len(mailbox.sent_to(KHAI)) == 1


def test_deleting_somebody_ends_their_invitation_and_leaves_no_trace_of_them(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    ada = browse(cast.ada)
    path = invited(ada, cast, work, mailbox)
    user = user_with(app, KHAI)
    assert user is not None
    form = {"confirm": "Nguyễn Thị Minh Khai"}
    assert ada.post(f"/users/{user.id}/delete", form).status_code == 303
    assert 'data-error="invitation_withdrawn"' in browse(None).get(path).text
    assert [row[:8] for row in people_in(ada.get("/users/invitations?state=withdrawn").text)] == ["Not kept"]
    with app.app_context():
        account = db.session.get_one(Account, cast.account)
        db.session.delete(account)
        db.session.commit()
        assert db.session.scalars(select(InvitationLink)).all() == []
    assert 'data-error="invitation_unknown"' in browse(None).get(path).text


# --- reminders ---------------------------------------------------------------------------


def test_who_does_not_answer_is_reminded_once_and_both_links_work(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    path = invited(browse(cast.ada), cast, work, mailbox)
    move_clock(timedelta(days=10, hours=23))
    sweep(app)
    assert len(mailbox.sent_to(KHAI)) == 1
    move_clock(timedelta(hours=2))
    sweep(app)
    reminder = mailbox.wait_for(KHAI, count=2)
    assert "your invitation to Introduction to Structural Geology" in reminder.subject
    assert "no other reminder follows" in reminder.text
    for hours in (1, 24, 24):
        move_clock(timedelta(hours=hours))
        sweep(app)
    assert len(mailbox.sent_to(KHAI)) == 2
    assert mailbox.sent_to("ada@example.org") == []
    assert "Reminder sent" in browse(cast.ada).get("/users/invitations/1").text
    second = path_in(mailbox, KHAI)
    assert second != path
    assert browse(None).get(second).status_code == 200
    assert browse(None).post(f"{path}/accept").status_code == 303
    assert 'data-error="invitation_used"' in browse(None).get(second).text


def test_nobody_is_reminded_whose_mail_did_not_arrive_or_who_answered_or_is_blocked(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    ada = browse(cast.ada)
    mailbox.refused.add("refused@example.com")
    names = ("refused", "came.back", "answered", "withdrawn", "blocked", "fine")
    for name in names:
        invite(ada, cast, name=name, email=f"{name}@example.com")
    work()
    assert browse(None).post(f"{path_in(mailbox, 'answered@example.com')}/accept").status_code == 303
    with app.app_context():
        people = {user.name: user for user in db.session.scalars(select(User).where(User.name.in_(names)))}
        people["blocked"].blocked_at = now()
        one = select(Invitation.id).filter_by(user_id=people["came.back"].id)
        letter = db.session.scalars(
            select(OutboxMail).filter_by(about=f"invitation:{db.session.scalar(one)}")
        ).one()
        letter.bounced_at, letter.last_error = now(), "5.1.1"
        withdrawn = people["withdrawn"].id
        db.session.commit()
    ada.post(f"/users/{withdrawn}/invitation/withdraw")
    mailbox.clear()
    mailbox.refused.clear()
    move_clock(timedelta(days=12))
    for days in (0, -1, 3):
        app.config["INVITATION_REMINDER_DAYS"] = days
        sweep(app)
        assert sorted(mail.to[0] for mail in mailbox.mails) == (["fine@example.com"] if days == 3 else [])


def test_a_sweep_reminds_a_part_and_the_next_goes_on(
    app: Flask, cast: Cast, mailbox: Mailbox, move_clock: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lti_tool.classroom.reminders.PART", 3)
    fill(app, cast.account, cast.ada, 7)
    with app.app_context():
        for one in db.session.scalars(select(Invitation)):
            db.session.add(
                OutboxMail(
                    kind="invitation",
                    about=one.topic,
                    message_id=f"<{one.id}@x>",
                    sealed="",
                    sent_at=now(),
                )
            )
        db.session.flush()
        db.session.execute(update(OutboxMail).values(due_at=None))
        db.session.commit()
    move_clock(timedelta(days=12))
    counts = []
    for _ in range(4):
        sweep(app)
        counts.append(len(mailbox.mails))
    assert counts == [3, 6, 7, 7]
    assert len({mail.to for mail in mailbox.mails}) == 7
