"""Linking: one person, however they come, and nobody by an address alone (attacks 61, 62)."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import TOOL, Browser, Cast, Lms, connect, platform_key, sign_in_token
from flask import Flask
from sqlalchemy import delete, func, select

from lti_tool import jobs
from lti_tool.classroom import accounts, linking, syncs
from lti_tool.classroom.accounts import Connection, Identity, Role, Status, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course, Enrollment, Source, courses_of
from lti_tool.classroom.invitations import Answer, Invitation
from lti_tool.classroom.linking import LinkCode
from lti_tool.classroom.merging import Merge
from lti_tool.classroom.sessions import Session
from lti_tool.database import db, now
from lti_tool.pages import visitor
from lti_tool.practice_lms import Mailbox, Platform, serve
from lti_tool.practice_lms import create_app as create_lms

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
SAM = "sam@example.org"
ASKED = "You were invited as s…@example.org. Is that you?"


@pytest.fixture
def settings() -> dict[str, Any]:
    """All tests come from one address."""
    return {"LIMIT_SIGN_IN": "1000 per minute"}


def come(lms: Lms, browser: Browser, person: str = "sam", email: str = SAM, **login: Any) -> str:
    """Launch into Geology with this claimed address; the course page's path."""
    arrived = lms.launch(browser, person, "geology", claims={"email": email}, **login)
    assert arrived.status_code == 303, arrived.text
    return str(arrived.location)


def code_in(mailbox: Mailbox, address: str = SAM, count: int = 1) -> str:
    found = re.search(r"^\s*(\d{6})\s*$", mailbox.wait_for(address, count=count).text, re.MULTILINE)
    assert found
    return found[1]


def wrong(code: str, by: int = 1) -> str:
    return f"{(int(code) + by) % 10**6:06d}"


def who(app: Flask, lms: Lms, subject: str = "5") -> int:
    """The user's id behind a subject of the LMS."""
    with app.app_context():
        return db.session.scalars(
            select(Identity.user_id).filter_by(registration_id=lms.registration_id, subject=subject)
        ).one()


def change(app: Flask, kind: type[Any], row_id: int, **values: Any) -> None:
    with app.app_context():
        row = db.session.get_one(kind, row_id)
        for name, value in values.items():
            setattr(row, name, value)
        db.session.commit()


def switch(app: Flask, **values: bool) -> None:
    with app.app_context():
        connection = db.session.scalars(select(Connection)).one()
        for name, value in values.items():
            setattr(connection, name, value)
        db.session.commit()


def token_of(browser: Browser, cookie: str = visitor.LAUNCH_COOKIE) -> str:
    found = browser.client.get_cookie(cookie, domain=urlsplit(TOOL).hostname or "")
    assert found is not None
    return found.value


# --- the offer and the code --------------------------------------------------------------


def test_whoever_comes_from_the_lms_proves_the_invited_mailbox_and_is_one_person(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work, statements: list[str]
) -> None:
    browser = browse(None)
    course = come(lms, browser)
    arrived = who(app, lms)
    assert arrived != cast.sam, "an address alone links nobody"
    statements.clear()
    page = browser.get(course)
    assert ASKED in page.text
    assert len([one for one in statements if one.startswith("SELECT")]) <= 10
    assert SAM not in page.text

    assert browser.post("/link/ask").location == "/link/code"
    work()
    code = code_in(mailbox)
    assert "Sam Rivera" in mailbox.wait_for(SAM).text, "the mailbox's owner reads who asks"
    page = browser.post("/link/code", {"code": wrong(code)})
    assert page.status_code == 422
    assert "4 tries left" in page.text
    before = token_of(browser)
    done = browser.post("/link/code", {"code": f"{code[:3]} {code[3:]}"})
    assert (done.status_code, done.location) == (303, course)

    assert token_of(browser) != before, "the session is a new one"
    page = browser.get(course)
    assert "Linked." in page.text
    assert ASKED not in page.text
    assert who(app, lms) == cast.sam
    with app.app_context():
        assert db.session.scalar(select(func.count(Session.id)).filter_by(user_id=arrived)) == 0
        sam = db.session.get_one(User, cast.sam)
        names = {c.name for c, _ in courses_of(sam)}
        assert names == {"Geology", "Introduction to Structural Geology"}
        assert sam.email == SAM
        merge = db.session.scalars(select(Merge)).one()
        assert (merge.into_id, merge.other_id, merge.by_id) == (cast.sam, arrived, None)
        assert not db.session.get_one(User, arrived).listed
    # The next launch signs in the same person, and so does a mailed link.
    other = browse(None)
    come(lms, other)
    assert who(app, lms) == cast.sam
    with app.app_context():
        assert db.session.scalar(select(func.count(User.id)).filter_by(account_id=cast.account)) == 5
        assert "user.merged" in db.session.scalars(select(AuditEvent.action)).all()


def test_an_invited_person_who_comes_from_the_lms_is_registered_and_the_invitation_answered(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work
) -> None:
    ada = browse(cast.ada)
    ada.post(
        "/users/invite",
        {"name": "Mira Holt", "email": "mira@example.net", "role": "student", "courses": [cast.statics]},
    )
    work()
    invitation = urlsplit(mailbox.wait_for("mira@example.net").links[0]).path
    browser = browse(None)
    course = come(lms, browser, email="Mira@Example.net")
    # A forwarded invitation links nobody: it asks who one is, and signs in as the invited person alone.
    assert "Is that you?" in browser.get(course).text
    browser.get(invitation)
    assert who(app, lms) != find(app, cast, "mira@example.net")
    browser.post("/link/ask")
    work()
    done = browser.post("/link/code", {"code": code_in(mailbox, "mira@example.net", 2)})
    assert done.location == course
    assert who(app, lms) == find(app, cast, "mira@example.net")
    with app.app_context():
        mira = db.session.get_one(User, who(app, lms))
        assert (mira.status, mira.name) == (Status.REGISTERED, "Mira Holt")
        assert db.session.scalars(select(Invitation.answer)).all() == [Answer.ACCEPTED]
    assert browse(None).post(f"{invitation}/accept").status_code == 410, "its link is spent"


def find(app: Flask, cast: Cast, email: str) -> int:
    with app.app_context():
        user = accounts.find_by_mailbox(cast.account, email)
        assert user is not None
        return user.id


def test_a_code_has_five_tries_works_once_and_only_in_the_session_that_asked(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work, move_clock: Any
) -> None:
    browser, thief = browse(None), browse(None)
    course = come(lms, browser)
    come(lms, thief, "tess", "sam@example.org")
    browser.post("/link/ask")
    work()
    code = code_in(mailbox)
    assert thief.post("/link/code", {"code": code}).status_code == 410, "the thief asked for none"
    thief.post("/link/ask")
    assert thief.post("/link/code", {"code": code}).status_code == 422, "and it is not theirs"
    for left in (4, 3, 2, 1):
        assert f"{left} tr" in browser.post("/link/code", {"code": wrong(code, left)}).text
    assert "last try" in browser.post("/link/code", {"code": wrong(code)}).text
    spent = browser.post("/link/code", {"code": code})
    assert (spent.status_code, 'data-error="link_code_spent"' in spent.text) == (410, True)
    assert browser.get("/link/code").location == course
    # A newer code takes the place of the older, and is good for a quarter of an hour.
    browser.post("/link/ask")
    work()
    again = code_in(mailbox, count=3)
    move_clock(timedelta(minutes=16))
    assert browser.post("/link/code", {"code": again}).status_code == 410
    assert who(app, lms) not in (cast.sam, who(app, lms, "4"))
    with app.app_context():
        jobs.sweep()
        assert db.session.scalar(select(func.count(LinkCode.session_id))) == 0


def test_codes_are_limited_for_each_person_and_each_address(
    cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work
) -> None:
    browser, other = browse(None), browse(None)
    come(lms, browser)
    come(lms, other, "tess", SAM)
    answers = [browser.post("/link/ask").status_code for _ in range(6)]
    assert answers == [303] * 5 + [429]
    assert other.post("/link/ask").status_code == 429, "the address has had its five"
    typed = [other.post("/link/mailbox", {"email": f"x{n}@example.net"}).status_code for n in range(6)]
    assert typed == [303] * 5 + [429]


def test_who_says_not_me_is_never_asked_again(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, move_clock: Any
) -> None:
    browser = browse(None)
    course = come(lms, browser)
    assert ASKED in browser.get(course).text
    assert browser.post("/link/not-me").location == course
    assert ASKED not in browser.get(course).text
    assert browser.post("/link/ask").status_code == 404
    again = browse(None)
    assert ASKED not in again.get(come(lms, again)).text


def test_nobody_is_asked_whose_address_does_not_match_or_who_is_shut_out(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    browser = browse(None)
    assert "Is that you?" not in browser.get(come(lms, browser, email="sam@example.net")).text
    assert browser.post("/link/ask").status_code == 404
    # The address of somebody in another account is nobody's here.
    assert "Is that you?" not in browser.get(come(lms, browser, email="eve@example.org")).text
    change(app, User, cast.sam, blocked_at=now())
    assert "Is that you?" not in browser.get(come(lms, browser)).text
    assert "Is that you?" not in browse(cast.tess).get(f"/courses/{cast.geology}").text


# --- admins ------------------------------------------------------------------------------


def test_an_lms_that_may_not_make_admins_is_never_linked_to_one(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work
) -> None:
    browser = browse(None)
    switch(app, makes_admins=False)
    course = come(lms, browser, email="ada@example.org")
    assert "Is that you?" not in browser.get(course).text
    # Nor by typing the address, though the code is right.
    browser.post("/link/mailbox", {"email": "ada@example.org"})
    work()
    refused = browser.post("/link/code", {"code": code_in(mailbox, "ada@example.org")})
    assert (refused.status_code, 'data-error="link_refused"' in refused.text) == (409, True)
    assert who(app, lms) != cast.ada
    # One that may make admins signs in an owner who proved it.
    switch(app, makes_admins=True)
    assert "Is that you?" in browser.get(course).text
    browser.post("/link/ask")
    work()
    browser.post("/link/code", {"code": code_in(mailbox, "ada@example.org", 2)})
    assert who(app, lms) == cast.ada
    assert browser.get("/users").status_code == 200
    # When it may no longer, its launches open no admin's door; her mailbox still does.
    switch(app, makes_admins=False)
    assert browser.get("/users").status_code == 303, "not even who is inside stays one"
    shut = lms.launch(browse(None), "sam", "geology")
    assert (shut.status_code, 'data-error="admin_door_shut"' in shut.text) == (403, True)


def test_an_lms_makes_no_admin_of_a_person_with_a_mailbox_of_their_own(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work
) -> None:
    administrator = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#Administrator"
    roles = "https://purl.imsglobal.org/spec/lti/claim/roles"
    browser = browse(None)
    course = come(lms, browser, "ada")
    assert who(app, lms, "2") != cast.sam
    # An admin by the LMS's word would lose that, or give it to a mailbox: not asked.
    assert "Is that you?" not in browser.get(course).text
    assert browser.post("/link/mailbox", {"email": SAM}).status_code == 409
    assert "Prove" not in browser.get("/link/mailbox").text
    # Nor does the LMS raise whom it is linked to later.
    student = browse(None)
    come(lms, student)
    student.post("/link/ask")
    work()
    student.post("/link/code", {"code": code_in(mailbox)})
    launched = lms.launch(student, "sam", "geology", claims={roles: [administrator, "Instructor"]})
    assert launched.status_code == 303
    assert student.get("/users").status_code == 403
    with app.app_context():
        assert db.session.get_one(User, cast.sam).role is Role.INSTRUCTOR


# --- other proofs ------------------------------------------------------------------------


def test_both_sign_ins_of_one_browser_link_by_a_button_while_they_are_fresh(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, move_clock: Any
) -> None:
    browser = browse(cast.tess)
    course = come(lms, browser, email="somebody@example.net")
    page = browser.get(course)
    assert "Link Sam Rivera (Moodle) with tess@example.org" in page.text
    assert "Link Sam Rivera (Moodle) with tess@example.org" in browser.get("/courses").text
    assert browser.post("/link/own").location == course
    assert who(app, lms) == cast.tess
    assert "signed in twice" not in browser.get(course).text
    # Somebody else may sit there later.
    late = browse(cast.sam)
    move_clock(timedelta(minutes=16))
    lms.platform.clock_offset += 16 * 60
    course = come(lms, late, "tess", "x@example.net")
    assert "signed in twice" not in late.get(course).text
    assert late.post("/link/own").status_code == 409
    # And nobody of another account.
    eve = browse(cast.eve)
    assert "signed in twice" not in eve.get(come(lms, eve, "ivan", "y@example.net")).text
    assert eve.post("/link/own").status_code == 409


def test_a_typed_address_that_nobody_has_becomes_a_way_to_sign_in(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work
) -> None:
    browser = browse(None)
    course = come(lms, browser, email="")
    assert browser.get("/link/mailbox").status_code == 200
    for nonsense in ("", "sam@", "x" * 300):
        page = browser.post("/link/mailbox", {"email": nonsense})
        assert page.status_code == 422
        assert 'aria-invalid="true"' in page.text
    unknown = browser.post("/link/mailbox", {"email": "own@example.net"})
    work()
    code = code_in(mailbox, "own@example.net")
    known = browser.post("/link/mailbox", {"email": SAM})
    assert (unknown.status_code, unknown.location) == (known.status_code, known.location)
    assert browser.post("/link/code", {"code": code}).status_code == 422, "the newer one holds"
    browser.post("/link/mailbox", {"email": "own@example.net"})
    work()
    assert browser.post("/link/code", {"code": code_in(mailbox, "own@example.net", 2)}).location == course
    assert find(app, cast, "own@example.net") == who(app, lms)
    assert browser.get("/link/mailbox").status_code == 409, "one mailbox is enough"
    mail = browse(None)
    assert mail.post("/sign-in", {"email": "own@example.net"}).status_code == 303
    work()
    mailed = code_in(mailbox, "own@example.net", 3)
    assert mail.post("/sign-in/code", {"code": mailed}).status_code == 303


def test_strangers_reach_none_of_these_pages(cast: Cast, browse: Browse) -> None:
    nobody = browse(None)
    for path in ("/link/code", "/link/mailbox"):
        assert nobody.get(path).status_code == 303
    for path in ("/link/ask", "/link/code", "/link/mailbox", "/link/own", "/link/not-me"):
        assert nobody.post(path).status_code == 401
    # Somebody with a mailbox has nothing to prove.
    assert browse(cast.sam).post("/link/ask").status_code == 404


# --- a trusted LMS -----------------------------------------------------------------------


def test_a_trusted_lms_links_below_admin_at_the_first_launch(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    switch(app, trusts_addresses=True)
    change(app, User, cast.tess, status=Status.PENDING)
    browser = browse(None)
    assert "Is that you?" not in browser.get(come(lms, browser)).text
    assert who(app, lms) == cast.sam
    come(lms, browse(None), "tess", "tess@example.org")
    assert who(app, lms, "4") == cast.tess
    # A second subject with the same address, an admin's address, an admin, nonsense: two people each.
    for person, subject, email in (
        ("nobody", "7", SAM),
        ("ivan", "3", "ada@example.org"),
        ("ada", "2", "ivan@example.org"),
        ("mentor", "6", "sam@"),
    ):
        come(lms, browse(None), person, email)
        assert who(app, lms, subject) not in (cast.sam, cast.ada, cast.ivan, cast.tess)
    with app.app_context():
        assert db.session.get_one(User, cast.tess).status is Status.REGISTERED
        linked = select(AuditEvent.source).filter_by(action="identity.linked")
        assert db.session.scalars(linked).all() == ["lms", "lms"]
    # Coming by another way does not let in who is blocked.
    change(app, User, cast.ivan, blocked_at=now())
    blocked = lms.launch(browse(None), "designer", "statics", claims={"email": "ivan@example.org"})
    assert blocked.status_code == 403


def test_a_trusted_lms_links_newcomers_of_its_list_with_one_statement_a_chunk(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, statements: list[str]
) -> None:
    change(app, User, cast.sam, email="sam@example.test", email_key="sam@example.test")
    change(app, User, cast.ada, email="tess@example.test", email_key="tess@example.test")
    course_id = int(come(lms, browse(None), "ivan", "x@example.net").rsplit("/", 1)[1])

    def sync() -> list[str]:
        with app.app_context():
            syncs.ask_for_sync(db.session.get_one(Course, course_id))
            db.session.commit()
            statements.clear()
            jobs.run_queued_syncs()
            return [one for one in statements if "mailbox_proven" in one and "email_key IN" in one]

    with app.app_context():
        db.session.execute(delete(Enrollment).filter_by(course_id=course_id))
        db.session.commit()
    switch(app, trusts_addresses=True)
    assert len(sync()) == 1
    assert who(app, lms) == cast.sam
    assert who(app, lms, "4") != cast.ada, "never an admin"
    with app.app_context():
        assert db.session.scalar(
            select(Enrollment.role).filter_by(course_id=course_id, user_id=cast.sam, source=Source.LMS)
        )
        assert db.session.get_one(User, cast.sam).name == "Sam Rivera"


def test_an_lms_that_is_not_trusted_links_nobody_by_its_list(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    change(app, User, cast.sam, email="sam@example.test", email_key="sam@example.test")
    course_id = int(come(lms, browse(None), "ivan", "x@example.net").rsplit("/", 1)[1])
    with app.app_context():
        syncs.ask_for_sync(db.session.get_one(Course, course_id))
        db.session.commit()
        jobs.run_queued_syncs()
    assert who(app, lms) != cast.sam


# --- two LMSs ----------------------------------------------------------------------------


def test_two_lmss_sign_in_one_person_and_each_keeps_its_own_roster(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, mailbox: Mailbox, work: Work
) -> None:
    platform = Platform(key=platform_key())
    server = serve(create_lms(platform))
    platform.connect_tool("second", ("1",), login_url=f"{TOOL}/lti/login", launch_url=f"{TOOL}/lti/launch")
    with app.app_context():
        second = Lms(platform, connect(platform, "second"))
    browsers = browse(None), browse(None)
    for count, (which, browser) in enumerate(zip((lms, second), browsers, strict=True), 1):
        come(which, browser)
        browser.post("/link/ask")
        work()
        browser.post("/link/code", {"code": code_in(mailbox, count=count)})
        assert who(app, which) == cast.sam
    teacher = browse(None)
    come(lms, teacher, "ivan", "x@example.net")
    courses = [int(come(which, browse(None)).rsplit("/", 1)[1]) for which in (lms, second)]
    with app.app_context():
        for course_id in courses:
            syncs.ask_for_sync(db.session.get_one(Course, course_id))
        db.session.commit()
        jobs.run_queued_syncs()
        held = select(Enrollment.course_id, Enrollment.ended_at).filter_by(
            user_id=cast.sam, source=Source.LMS
        )
        assert sorted(db.session.execute(held).all()) == [(course_id, None) for course_id in sorted(courses)]
    roster = teacher.get(f"/courses/{courses[0]}/roster").text
    # Whoever comes last says the name; by hand it would stay.
    assert len(re.findall(r'<bdi class="name clip">Sam Rivera</bdi>', roster)) == 1
    server.stop()


def test_who_may_be_linked_is_as_the_table_says(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    come(lms, browse(None))
    arrived_id = who(app, lms)
    table = {
        # (arrived, mailbox person, the LMS may make admins): yes?
        (Role.STUDENT, Role.STUDENT, False): True,
        (Role.INSTRUCTOR, Role.STUDENT, False): True,
        (Role.STUDENT, Role.ADMIN, False): False,
        (Role.STUDENT, Role.ADMIN, True): True,
        (Role.STUDENT, Role.OWNER, False): False,
        (Role.STUDENT, Role.OWNER, True): True,
        (Role.ADMIN, Role.INSTRUCTOR, True): False,
        (Role.ADMIN, Role.ADMIN, True): True,
        (Role.ADMIN, Role.ADMIN, False): False,
        (Role.OWNER, Role.ADMIN, True): False,
        (Role.OWNER, Role.OWNER, True): True,
    }
    with app.app_context():
        arrived, other = (db.session.get_one(User, one) for one in (arrived_id, cast.sam))
        connection = db.session.scalars(select(Connection)).one()
        for (theirs, mailbox_role, makes), may in table.items():
            arrived.role, other.role, connection.makes_admins = theirs, mailbox_role, makes
            db.session.flush()
            assert linking.may_link(arrived, other) is may, (theirs, mailbox_role, makes)
        assert not linking.may_link(other, arrived)
        assert not linking.may_link(arrived, db.session.get_one(User, cast.eve))
        arrived.is_test = True
        assert not linking.may_link(arrived, other)


def test_a_token_set_before_linking_stays_worthless(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    browser = browse(cast.tess)
    come(lms, browser, email="z@example.net")
    old = token_of(browser)
    browser.post("/link/own")
    thief = browse(None)
    thief.client.set_cookie(visitor.LAUNCH_COOKIE, old, domain=urlsplit(TOOL).hostname or "", secure=True)
    assert thief.get("/courses").status_code == 303
    assert sign_in_token(app, cast.tess) != old
