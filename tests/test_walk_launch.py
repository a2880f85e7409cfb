"""Walk 1: from a click in the LMS to the course page, and who one is there."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from conftest import TOOL, Browser, Cast, Lms, new_client
from flask import Flask
from sqlalchemy import select

from lti_tool.classroom.accounts import Connection, Identity, Role, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.database import db
from lti_tool.pages import visitor

Browse = Callable[[int | None], Browser]


def test_an_instructor_launches_into_his_course(browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    arrived = lms.launch(browser, "ivan", "geology")
    assert arrived.status_code == 303, arrived.text
    page = browser.get(arrived.location)
    assert page.status_code == 200
    assert "Geology" in page.text
    assert 'data-gate="open"' in page.text
    assert "Enter to prepare" in page.text
    assert "Ask for activation" in page.text


def test_a_student_meets_the_closed_door_with_its_reason(browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    page = browser.get(lms.launch(browser, "sam", "geology").location)
    assert 'data-gate="course_inactive"' in page.text
    assert "the course has no plan" in page.text
    assert "Roster" not in page.text
    assert "Ask for activation" not in page.text


def test_an_lms_administrator_is_an_admin_and_says_who_made_him(app: Flask, browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    lms.launch(browser, "ada", "geology")
    assert browser.get("/users").status_code == 200
    with app.app_context():
        ada = db.session.scalars(select(User).filter_by(role=Role.ADMIN)).one()
        event = db.session.scalars(select(AuditEvent).filter_by(action="role.changed")).one()
        assert (event.target, event.source) == (f"user:{ada.id}", "lms")


def test_an_lms_makes_nobody_an_admin_where_the_account_forbids_it(
    app: Flask, browse: Browse, lms: Lms
) -> None:
    with app.app_context():
        db.session.scalars(select(Connection)).one().makes_admins = False
        db.session.commit()
    browser = browse(None)
    page = browser.get(lms.launch(browser, "ada", "geology").location)
    assert page.status_code == 200
    assert browser.get("/users").status_code == 403


def test_an_admin_by_the_lms_is_one_only_as_long_as_it_says_so(app: Flask, browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    lms.launch(browser, "ada", "geology")
    assert browser.get("/users").status_code == 200
    lms.launch(browser, "ada", "geology", claims={"roles": ["Instructor"]})
    assert browser.get("/users").status_code == 403


def test_a_course_role_that_the_lms_changes_is_written_down(app: Flask, browse: Browse, lms: Lms) -> None:
    lms.launch(browse(None), "sam", "geology")
    lms.launch(browse(None), "sam", "geology", claims={"roles": ["Instructor"]})
    with app.app_context():
        held = db.session.scalars(select(Enrollment)).one()
        assert held.role is Role.INSTRUCTOR
        written = db.session.scalars(select(AuditEvent).filter_by(action="role.changed")).all()
        of_course = next(event for event in written if "course" in event.after)
        assert (of_course.before["role"], of_course.after["role"]) == ("student", "instructor")
        assert of_course.source == "lms"


def test_the_second_launch_finds_the_same_person_course_and_enrollment(
    app: Flask, browse: Browse, lms: Lms
) -> None:
    for _ in range(2):
        lms.launch(browse(None), "sam", "geology")
    with app.app_context():
        for table in (Identity, User, Course, Context, Enrollment):
            assert len(db.session.scalars(select(table)).all()) == 1, table


def test_one_mail_address_on_two_platforms_is_two_people(app: Flask, cast: Cast, browse, lms: Lms) -> None:
    lms.launch(browse(None), "sam", "geology", claims={"email": "sam@example.org"})
    with app.app_context():
        sams = db.session.scalars(select(User).filter_by(email_key="sam@example.org")).all()
        assert len(sams) == 2
        invited = db.session.get_one(User, cast.sam)
        assert invited.mailbox_proven
        assert not next(user for user in sams if user.id != cast.sam).mailbox_proven


def test_only_institution_roles_arrive_at_a_page_that_says_so(app: Flask, browse: Browse, lms: Lms) -> None:
    person = "http://purl.imsglobal.org/vocab/lis/v2/institution/person#Student"
    answer = lms.launch(browse(None), "sam", "geology", claims={"roles": [person]})
    assert answer.status_code == 403
    assert 'data-error="no_course_role"' in answer.text
    assert f"frame-ancestors 'self' {lms.issuer}" in answer.headers["Content-Security-Policy"]
    with app.app_context():
        assert db.session.scalars(select(Enrollment)).all() == []


def test_an_unknown_role_arrives_as_student_and_is_marked(app: Flask, browse: Browse, lms: Lms) -> None:
    answer = lms.launch(browse(None), "sam", "geology", claims={"roles": ["urn:x:Zookeeper"]})
    assert answer.status_code == 303
    with app.app_context():
        held = db.session.scalars(select(Enrollment)).one()
        assert (held.role, held.role_unsaid) == (Role.STUDENT, True)


def test_an_unknown_deployment_is_refused_noted_and_shown_to_the_admin(
    cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.connect_tool(
        "doorlist-client",
        ("1", "77"),
        login_url=f"{TOOL}/lti/login",
        launch_url=f"{TOOL}/lti/launch",
        jwks=lambda: {"keys": []},
    )
    answer = lms.launch(browse(None), "sam", "geology", deployment_id="77")
    assert answer.status_code == 403
    assert 'data-error="deployment_pending"' in answer.text
    assert f"frame-ancestors 'self' {lms.issuer}" in answer.headers["Content-Security-Policy"]
    assert "77" in browse(cast.ada).get("/lms").text


def test_the_sessions_cookie_is_for_frames_and_only_its_hash_is_kept(
    app: Flask, browse: Browse, lms: Lms
) -> None:
    browser = browse(None)
    set_cookies = lms.launch(browser, "sam", "geology").headers.getlist("Set-Cookie")
    cookie = next(c for c in set_cookies if c.startswith(visitor.LAUNCH_COOKIE))
    for attribute in ("Secure", "HttpOnly", "SameSite=None", "Partitioned", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie
    token = cookie.partition("=")[2].partition(";")[0]
    with app.app_context():
        dump = [str(row) for row in db.session.execute(select(db.metadata.tables["session"])).all()]
    assert len(dump) == 1
    assert token not in dump[0]


def test_a_token_that_was_there_before_is_not_taken_over(app: Flask, browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    planted = "p" * 43
    browser.client.set_cookie(visitor.LAUNCH_COOKIE, planted, domain=urlsplit(TOOL).hostname, secure=True)
    lms.launch(browser, "sam", "geology")
    stranger = browse(None)
    stranger.client.set_cookie(visitor.LAUNCH_COOKIE, planted, domain=urlsplit(TOOL).hostname, secure=True)
    assert stranger.get("/courses").status_code == 303


def test_a_session_ends_when_it_idles_and_when_it_is_old(
    browse: Browse, lms: Lms, move_clock: Callable[[timedelta], None]
) -> None:
    browser = browse(None)
    course = lms.launch(browser, "sam", "geology").location
    for _ in range(15):
        move_clock(timedelta(minutes=50))
        if browser.get(course).status_code != 200:
            break
    else:
        pytest.fail("the session never grew old")


def test_an_idle_session_is_over(cast: Cast, browse: Browse, move_clock: Callable[[timedelta], None]) -> None:
    sam = browse(cast.sam)
    assert sam.get("/courses").status_code == 200
    move_clock(timedelta(minutes=61))
    assert sam.get("/courses").status_code == 303


def test_another_person_in_the_same_browser_takes_over_visibly(browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    lms.launch(browser, "ivan", "geology")
    lms.launch(browser, "sam", "geology")
    page = browser.get("/courses", headers={"Sec-Fetch-Dest": "document"})
    assert lms.person("sam").name in page.text
    assert lms.person("ivan").name not in page.text.partition("<main")[0]


def test_a_launch_does_not_touch_somebody_signed_in_here(cast: Cast, browse: Browse, lms: Lms) -> None:
    browser = browse(cast.ada)
    lms.launch(browser, "sam", "geology")
    assert browser.get("/users").status_code == 403
    browser.client.delete_cookie(visitor.LAUNCH_COOKIE, domain=urlsplit(TOOL).hostname)
    assert browser.get("/users").status_code == 200


def test_in_a_frame_the_bar_is_left_out_and_the_platform_may_frame_us(browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    course = lms.launch(browser, "ivan", "geology").location
    framed = browser.get(course, headers={"Sec-Fetch-Dest": "iframe"})
    assert 'class="topbar"' not in framed.text
    assert f"frame-ancestors 'self' {lms.issuer}" in framed.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in framed.headers
    window = browser.get(course, headers={"Sec-Fetch-Dest": "document"})
    assert 'class="topbar"' in window.text


def test_the_login_page_asks_whether_the_cookie_came_back(app: Flask, lms: Lms) -> None:
    client = new_client(app)
    page = client.post("/lti/login", data=lms.login_parameters("sam", "geology"))
    assert lms.issuer in page.headers["Content-Security-Policy"]
    cookie = page.headers["Set-Cookie"].partition("=")[0]
    assert f"/lti/cookie/{cookie}" in page.text
    assert client.get(f"/lti/cookie/{cookie}").json == {"held": True}
    assert new_client(app).get(f"/lti/cookie/{cookie}").json == {"held": False}
    assert client.get("/lti/cookie/__Host-doorlist").json == {"held": False}


def test_a_login_writes_nothing(app: Flask, lms: Lms, statements: list[str]) -> None:
    new_client(app).post("/lti/login", data=lms.login_parameters("sam", "geology"))
    assert statements
    assert not [s for s in statements if s.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))]


def test_a_warm_launch_asks_the_platform_for_nothing(browse: Browse, lms: Lms) -> None:
    lms.launch(browse(None), "ivan", "geology")
    before = len(lms.requests)
    lms.launch(browse(None), "sam", "geology")
    assert len(lms.requests) == before


def test_too_many_launches_from_one_address_are_asked_to_wait(
    app: Flask, lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "LIMIT_LAUNCH", "3 per minute")
    client = new_client(app)
    statuses = [client.post("/lti/launch", data={}).status_code for _ in range(4)]
    assert statuses == [403, 403, 403, 429]
