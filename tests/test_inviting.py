"""The invitation form: what it refuses, keeps and knows, and whom it may raise."""

import threading
from collections.abc import Callable
from html import unescape

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask
from sqlalchemy import select
from test_invitations import KHAI, invite, user_with

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import Identity, Role, Status, User
from lti_tool.classroom.courses import Enrollment
from lti_tool.classroom.invitations import Invitation
from lti_tool.database import db, now
from lti_tool.pages import typing_errors
from lti_tool.practice_lms import Mailbox

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"email": "nobody"}, "This is no e-mail address."),
        ({"email": "a@b\r\nBcc: eve@example.org"}, "This is no e-mail address."),
        ({"email": ""}, "Write the address the invitation goes to."),
        ({"name": " "}, "Write the person’s name."),
        ({"name": "x" * 201}, "At most 200 characters."),
        ({"role": "king"}, "Invalid"),
    ],
)
def test_bad_input_comes_back_filled_with_the_reason_beside_the_field(
    app: Flask, cast: Cast, browse: Browse, changes: dict[str, str], said: str
) -> None:
    refused = invite(browse(cast.ada), cast, **changes)
    assert refused.status_code == 422
    page = unescape(refused.text)
    assert said in page
    assert 'aria-invalid="true"' in page
    assert f'<option value="{cast.geology}"' in page
    assert "selected" in page[page.index(f'<option value="{cast.geology}"') :].split(">")[0]
    with app.app_context():
        assert db.session.scalars(select(Invitation)).all() == []


def test_invite_more_users_keeps_role_and_courses(cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    part = ada.post(
        "/users/invite",
        {
            "name": "A B",
            "email": "ab@example.net",
            "role": "instructor",
            "courses": [cast.statics],
            "more": "y",
        },
        headers={"HX-Request": "true"},
    )
    assert part.status_code == 200
    assert part.headers["HX-Trigger"] == "users-changed"
    assert "Invited A B." in part.text
    assert '<option value="instructor" selected' in part.text
    assert 'value="ab@example.net"' not in part.text
    assert "selected" in part.text[part.text.index(f'<option value="{cast.statics}"') :].split(">")[0]
    plain = invite(ada, cast, more="y")
    assert plain.status_code == 303
    page = ada.get(plain.location).text
    assert "checked" in page
    chosen = page[page.index(f'<option value="{cast.geology}"') :].split(">")[0]
    assert "selected" in chosen


def test_an_admin_is_invited_without_courses_and_by_mailbox_alone(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox, lms: Lms
) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        claimed = db.session.scalars(
            select(User).join(Identity, Identity.user_id == User.id).filter(~User.mailbox_proven)
        ).one()
        address, claimed_id = claimed.email, claimed.id
        account = db.session.get_one(accounts.Account, cast.account)
        connection = accounts.find_connection(account, lms.registration_id)
        assert connection is not None
        connection.trusts_addresses = True
        db.session.commit()
    ada = browse(cast.ada)
    assert invite(ada, cast, email=address, role="admin").status_code == 303
    with app.app_context():
        assert db.session.get_one(User, claimed_id).role is Role.STUDENT
        fresh = db.session.scalars(select(User).filter_by(email=address, mailbox_proven=True)).one()
        assert (fresh.role, fresh.status) == (Role.ADMIN, Status.PENDING)
        assert db.session.scalars(select(Enrollment).filter_by(user_id=fresh.id)).all() == []


def test_an_address_an_lms_merely_claims_is_nobodys(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        claimed = db.session.scalars(
            select(User).join(Identity, Identity.user_id == User.id).filter(~User.mailbox_proven)
        ).one()
        address = claimed.email
    ada = browse(cast.ada)
    shown = unescape(ada.get("/users/known", query_string={"email": address}).text)
    assert "An LMS says this address is Sam Rivera’s. Inviting makes a second person" in shown
    assert invite(ada, cast, email=address).status_code == 303
    with app.app_context():
        assert len(db.session.scalars(select(User).filter_by(email=address)).all()) == 2


def test_eve_invites_nobody_to_another_accounts_course(app: Flask, cast: Cast, browse: Browse) -> None:
    assert invite(browse(cast.eve), cast).status_code == 404
    assert user_with(app, KHAI) is None


def test_the_same_mailbox_may_be_invited_by_two_accounts(
    app: Flask, cast: Cast, browse: Browse, work: Work, mailbox: Mailbox
) -> None:
    assert invite(browse(cast.ada), cast, email="eve@example.org").status_code == 303
    with app.app_context():
        assert len(db.session.scalars(select(User).filter_by(email="eve@example.org")).all()) == 2
        assert db.session.get_one(User, cast.eve).status is Status.REGISTERED


def test_two_who_invite_the_same_address_at_once_make_one_person(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    browsers = [browse(cast.ada) for _ in range(3)]
    for browser in browsers:
        # Nothing but the form's token, which is fetched before the race.
        assert browser.post("/nowhere").status_code == 404
    statuses: list[int] = []
    begin = threading.Barrier(len(browsers))

    def press(browser: Browser) -> None:
        begin.wait()
        statuses.append(invite(browser, cast).status_code)

    threads = [threading.Thread(target=press, args=(browser,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [303, 303, 303]
    with app.app_context():
        assert len(db.session.scalars(select(User).filter_by(email=KHAI)).all()) == 1
        assert len(db.session.scalars(select(Invitation)).all()) == 1


def test_a_slip_in_a_well_known_domain_is_told_and_nothing_else_is_guessed(
    cast: Cast, browse: Browse
) -> None:
    ada = browse(cast.ada)

    def shown(address: str) -> str:
        return unescape(ada.get("/users/known", query_string={"email": address}).text)

    assert "Did you mean pat@gmail.com?" in shown("pat@gmial.com")
    assert "Did you mean" not in shown("pat@ymail.com")
    for slip, meant in (
        ("a@Hotmial.com", "a@hotmail.com"),
        ("a@gmail.con", "a@gmail.com"),
        ("a@b.con", "a@b.com"),
    ):
        assert typing_errors.mended(slip) == meant
    for right in ("a@gmail.com", "a@mail.com", "a@b.co", "a@b", "@gmial.com", "gmial.com", ""):
        assert typing_errors.mended(right) == ""
    assert ada.get("/users/known", query_string={"email": "ivan@example.org"}).text.count("Ivan") == 1
    assert browse(cast.ivan).get("/users/known?email=sam@example.org").status_code == 403
    assert "Sam" not in browse(cast.eve).get("/users/known?email=sam@example.org").text


def test_who_is_blocked_is_not_invited(app: Flask, cast: Cast, browse: Browse) -> None:
    with app.app_context():
        db.session.get_one(User, cast.sam).blocked_at = now()
        db.session.commit()
    ada = browse(cast.ada)
    assert "Blocked" in ada.get("/users/known?email=sam@example.org").text
    refused = invite(ada, cast, email="sam@example.org", courses=[cast.statics])
    assert refused.status_code == 422
    assert "Sam Whitfield is blocked here." in unescape(refused.text)
    with app.app_context():
        assert not db.session.scalars(
            select(Enrollment).filter_by(user_id=cast.sam, course_id=cast.statics)
        ).all()


def test_a_name_keeps_the_joiners_that_shape_its_letters(app: Flask, cast: Cast, browse: Browse) -> None:
    name = "علی\u200cرضا"
    assert invite(browse(cast.ada), cast, name=name).status_code == 303
    with app.app_context():
        assert db.session.scalars(select(User.name).filter_by(email=KHAI)).one() == name
