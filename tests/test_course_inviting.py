"""Instructors invite students to their own courses, where the account lets them; what they learn by it."""

from collections.abc import Callable
from datetime import timedelta
from html import unescape
from urllib.parse import urlsplit

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select
from test_invitations import KHAI, invite, path_in, user_with

from lti_tool.classroom import guests
from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.database import db, now
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
Move = Callable[[timedelta], None]
PART = {"HX-Request": "true"}


def let_instructors_invite(app: Flask, cast: Cast, *, yes: bool = True) -> None:
    with app.app_context():
        db.session.get_one(Account, cast.account).instructors_invite = yes
        db.session.commit()


def ask(browser: Browser, course: int, people: str, **options: object) -> object:
    return browser.post(f"/courses/{course}/invite", {"people": people}, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n \t\n", []),
        ("a@b.org", [("", "a@b.org")]),
        ("Sam Whitfield <sam@b.org>", [("Sam Whitfield", "sam@b.org")]),
        ('"Whitfield, Sam" <sam@b.org>,', [("Whitfield, Sam", "sam@b.org")]),
        ("Sam Whitfield; sam@b.org", [("Sam Whitfield", "sam@b.org")]),
        ("sam@b.org\tSam  Whitfield", [("Sam Whitfield", "sam@b.org")]),
        ("Sam\r\na@b.org", [("Sam", ""), ("", "a@b.org")]),
        ("李思远 <li@b.org>\x00", [("李思远", "li@b.org")]),
    ],
)
def test_a_line_is_read_as_people_write_it(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(line.name, line.address) for line in guests.read_lines(text)] == expected


def test_an_instructor_invites_students_to_his_course_and_sees_them_wait(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    let_instructors_invite(app, cast)
    ivan = browse(cast.ivan)
    roster = f"/courses/{cast.geology}/roster"
    assert f'href="/courses/{cast.geology}/invite"' in ivan.get(roster).text
    page = ivan.get(f"/courses/{cast.geology}/invite")
    assert "<title>Invite students" in page.text
    dialog = ivan.get(f"/courses/{cast.geology}/invite", headers=PART)
    assert dialog.text.lstrip().startswith("<dialog")
    assert "HX-Request" in dialog.headers["Vary"]
    done = ask(ivan, cast.geology, f"Nguyễn Thị Minh Khai <{KHAI}>")
    assert done.status_code == 303
    work()
    mail = mailbox.wait_for(KHAI)
    assert mail.subject == "Ivan Petrović invited you to Introduction to Structural Geology"
    shown = unescape(ivan.get(roster).text)
    assert "by Ivan Petrović, waiting" in shown
    user = user_with(app, KHAI)
    assert user is not None
    guest = f"/courses/{cast.geology}/invited/{user.id}"
    assert f'action="{guest}/resend"' in shown
    again = ivan.post(f"{guest}/resend", headers=PART)
    assert again.status_code == 200
    assert again.headers["HX-Trigger"] == "roster-changed"
    work()
    new = urlsplit(mailbox.wait_for(KHAI, count=2).links[0]).path
    assert browse(None).post(f"{new}/accept").status_code == 303
    assert ivan.post(f"{guest}/withdraw").status_code == 404, "answered"
    with app.app_context():
        enrolled = db.session.scalars(select(Enrollment).filter_by(user_id=user.id)).one()
        assert (enrolled.role, enrolled.source, enrolled.added_by_id) == (
            Role.STUDENT,
            Source.INVITATION,
            cast.ivan,
        )
        actions = db.session.scalars(select(AuditEvent.action).filter_by(actor_id=cast.ivan)).all()
        assert actions == ["user.invited", "enrollment.added", "invitation.resent"]


def test_every_line_gets_its_answer_and_what_was_not_taken_stays(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    let_instructors_invite(app, cast)
    with app.app_context():
        blocked = db.session.get_one(User, cast.tess)
        blocked.blocked_at = now()
        db.session.add(
            User(
                account_id=cast.account,
                name="Known Elsewhere",
                name_key="known elsewhere",
                email="known@example.org",
                email_key="known@example.org",
                mailbox_proven=True,
            )
        )
        db.session.commit()
    ivan = browse(cast.ivan)
    lines = [
        "Fresh <fresh@example.org>",
        "known@example.org",
        "FRESH@example.org",
        "nobody at all",
        "ada@@example.org",
        "x" * 201 + " <long@example.org>",
        "tess@example.org",
    ]
    answer = ask(ivan, cast.statics, "\n".join(lines))
    assert answer.status_code == 422
    text = unescape(answer.text)
    said = [text.index(words) for words in ("2 students invited.", "fresh@example.org", "known@example.org")]
    assert said == sorted(said)
    assert text.count("Invited</div>") == 2
    assert "Known Elsewhere" not in text, "who has the address is not told"
    for words in ("twice; once counts", "longer than 200 characters", "ask an admin", "4 lines are left"):
        assert words in text
    assert text.count("No e-mail address; look for a typing error") == 2
    field = text[text.index("<textarea") : text.index("</textarea>")]
    assert 'aria-invalid="true"' in field
    assert "nobody at all" in field
    assert "fresh@example.org" not in field
    twice = ask(ivan, cast.statics, "known@example.org")
    assert twice.status_code == 200
    assert "On the course’s list already" in unescape(twice.text)
    work()
    assert len(mailbox.sent_to("fresh@example.org")) == 1
    assert mailbox.sent_to("known@example.org")[0].subject == "You were added to Statics"
    assert mailbox.sent_to("tess@example.org") == []
    for wrong in ("", "   \n ", "\n".join(f"a{n}@example.org" for n in range(51)), "x" * 20_001):
        refused = ask(ivan, cast.statics, wrong)
        assert refused.status_code == 422
        assert 'id="guests-error"' in refused.text
    work()
    assert len(mailbox.mails) == 2


def test_an_instructor_takes_back_only_what_he_invited_himself(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    let_instructors_invite(app, cast)
    ada, ivan = browse(cast.ada), browse(cast.ivan)
    invite(ada, cast)
    user = user_with(app, KHAI)
    assert user is not None
    theirs = f"/courses/{cast.geology}/invited/{user.id}"
    assert f"{theirs}/withdraw" not in ivan.get(f"/courses/{cast.geology}/roster").text
    for deed in ("resend", "withdraw"):
        assert ivan.post(f"{theirs}/{deed}").status_code == 403
    # In his other course too, then out of that again: Ada's invitation stands.
    assert ask(ivan, cast.statics, KHAI).status_code == 303
    assert ivan.post(f"/courses/{cast.statics}/invited/{user.id}/withdraw").status_code == 303
    assert user_with(app, KHAI) is not None
    assert "Ada Okonkwo" in ada.get("/users/invitations?state=waiting").text
    # Whom he alone invited, and nowhere else, is gone with it.
    assert ask(ivan, cast.statics, "own@example.org").status_code == 303
    work()
    path = path_in(mailbox, "own@example.org")
    own = user_with(app, "own@example.org")
    assert own is not None
    assert ivan.post(f"/courses/{cast.statics}/invited/{own.id}/withdraw").status_code == 303
    assert user_with(app, "own@example.org") is None
    assert "ask Ivan Petrović" in unescape(browse(None).get(path).text)


def test_a_day_has_a_limit_that_withdrawing_does_not_give_back(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, move_clock: Move
) -> None:
    let_instructors_invite(app, cast)
    app.config["INSTRUCTOR_INVITES"] = 3
    ivan = browse(cast.ivan)
    assert "You may invite 3 more people" in ivan.get(f"/courses/{cast.geology}/invite").text
    over = ask(ivan, cast.geology, "\n".join(f"a{number}@example.org" for number in range(4)))
    assert over.status_code == 422
    assert "3 students invited." in over.text
    assert "more than one may invite in 24 hours" in over.text
    first = user_with(app, "a0@example.org")
    second = user_with(app, "a1@example.org")
    assert first is not None
    assert second is not None
    assert ivan.post(f"/courses/{cast.geology}/invited/{first.id}/withdraw").status_code == 303
    again = ivan.post(f"/courses/{cast.geology}/invited/{second.id}/resend")
    assert again.status_code == 429
    assert 'data-error="too_many_invited"' in again.text
    assert ask(ivan, cast.geology, "a9@example.org").status_code == 422
    move_clock(timedelta(hours=24, minutes=1))
    assert ask(browse(cast.ivan), cast.geology, "a9@example.org").status_code == 303


def test_nobody_else_invites_to_a_course(app: Flask, cast: Cast, browse: Browse) -> None:
    invite(browse(cast.ada), cast)
    user = user_with(app, KHAI)
    assert user is not None
    addresses = (
        f"/courses/{cast.geology}/invite",
        f"/courses/{cast.geology}/invited/{user.id}/resend",
        f"/courses/{cast.geology}/invited/{user.id}/withdraw",
    )
    ivan = browse(cast.ivan)
    assert "/invite" not in ivan.get(f"/courses/{cast.geology}/roster").text
    assert ivan.get(addresses[0]).status_code == 403
    assert [ivan.post(url, {"people": KHAI}).status_code for url in addresses] == [403, 403, 403]
    let_instructors_invite(app, cast)
    sam, eve = browse(cast.sam), browse(cast.eve)
    assert sam.get(addresses[0]).status_code == 403
    assert eve.get(addresses[0]).status_code == 404
    assert [sam.post(url, {"people": KHAI}).status_code for url in addresses] == [403, 403, 403]
    assert [eve.post(url, {"people": KHAI}).status_code for url in addresses] == [404, 404, 404]
    assert ivan.post(f"/courses/{cast.geology}/invited/{cast.sam}/resend").status_code == 404
    assert ivan.post(f"/courses/{cast.geology}/invited/{cast.eve}/withdraw").status_code == 404
    assert ivan.post(f"/courses/{cast.geology}/invited/2147483647/withdraw").status_code == 404
