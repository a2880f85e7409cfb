"""The directory, a course with its door, its settings, and windows of one's own."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select

from lti_tool.classroom import courses, plans
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.database import db

Browse = Callable[[int | None], Browser]


def activate(app: Flask, cast: Cast) -> None:
    with app.app_context():
        course = db.session.get_one(Course, cast.geology)
        courses.activate(course, plans.find_plan(cast.account, cast.plan))  # type: ignore[arg-type]
        db.session.commit()


def test_nobody_we_know_is_sent_to_sign_in(browse: Browse) -> None:
    answer = browse(None).get("/courses")
    assert answer.status_code == 303
    assert answer.location == "/sign-in?next=/courses"


def test_in_a_frame_nobody_we_know_is_told_to_open_the_course_again(browse: Browse) -> None:
    answer = browse(None).get("/courses", headers={"Sec-Fetch-Dest": "iframe"})
    assert answer.status_code == 401
    assert 'data-error="signed_out"' in answer.text


def test_an_admin_sees_active_and_inactive_courses_apart(app: Flask, cast: Cast, browse: Browse) -> None:
    activate(app, cast)
    page = browse(cast.ada).get("/courses").text
    active, _, inactive = page.partition('id="inactive"')
    assert "Structural Geology" in active
    assert "Statics" in inactive
    assert "Add course" in page


def test_a_student_sees_only_his_courses_and_why_one_is_closed(cast: Cast, browse: Browse) -> None:
    page = browse(cast.sam).get("/courses").text
    assert "Structural Geology" in page
    assert "Statics" not in page
    assert "Closed: the course has no plan now" in page
    assert "Add course" not in page
    assert "/users" not in page


def test_the_directory_finds_by_any_part_of_the_name(cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    assert "Statics" not in ada.get("/courses?q=geolog").text
    nothing = ada.get("/courses?q=zzz").text
    assert "No course called “zzz”" in nothing
    fragment = ada.get("/courses?q=stat", headers={"HX-Request": "true", "HX-Target": "cards"})
    assert "<html" not in fragment.text
    assert "Statics" in fragment.text


def test_the_door_opens_by_itself_when_the_plan_comes(app: Flask, cast: Cast, browse: Browse) -> None:
    sam = browse(cast.sam)
    door = f"/courses/{cast.geology}/door"
    assert 'data-gate="course_inactive"' in sam.get(door).text
    activate(app, cast)
    assert 'data-gate="no_meeting"' in sam.get(door).text


def test_an_instructor_asks_for_activation_and_the_admin_sees_who_asked(cast: Cast, browse: Browse) -> None:
    ivan = browse(cast.ivan)
    assert ivan.post(f"/courses/{cast.geology}/ask").status_code == 303
    assert "You asked for activation" in ivan.get(f"/courses/{cast.geology}").text
    assert "Asked for by Ivan Petrović" in browse(cast.ada).get("/courses").text
    assert browse(cast.sam).post(f"/courses/{cast.geology}/ask").status_code == 403


def test_a_course_is_added_by_an_admin_only_and_bad_input_comes_back_filled(
    cast: Cast, browse: Browse
) -> None:
    ada = browse(cast.ada)
    refused = ada.post("/courses/new", {"name": "", "summary": "Kept"})
    assert refused.status_code == 422
    assert "Give the course a name." in refused.text
    assert "Kept" in refused.text
    too_long = ada.post("/courses/new", {"name": "Maps", "summary": "x" * 151})
    assert too_long.status_code == 422
    assert 'aria-invalid="true"' in too_long.text
    added = ada.post("/courses/new", {"name": "Cartography", "summary": "Maps"})
    assert added.status_code == 303
    assert "Cartography" in ada.get(added.location).text
    assert browse(cast.ivan).post("/courses/new", {"name": "Mine"}).status_code == 403


def test_settings_are_changed_and_written_to_the_audit_log(app: Flask, cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    url = f"/courses/{cast.geology}/settings"
    assert ada.post(url, {"name": "Geology I", "summary": "Rocks"}).status_code == 303
    assert "Geology I" in ada.get(f"/courses/{cast.geology}").text
    with app.app_context():
        event = db.session.execute(select(db.metadata.tables["audit_event"])).all()[-1]
        assert event.action == "course.described"
        assert event.before["name"] == "Introduction to Structural Geology"
    assert browse(cast.ivan).get(url).status_code == 403


@pytest.mark.parametrize("path", ["", "/door", "/settings", "/room", "/roster", "/plan"])
def test_another_accounts_course_is_not_there(cast: Cast, browse: Browse, path: str) -> None:
    assert browse(cast.eve).get(f"/courses/{cast.geology}{path}").status_code == 404
    assert browse(cast.eve).get(f"/courses/999999{path}").status_code == 404


@pytest.mark.parametrize("path", ["/ask", "/plan", "/plan/free", "/roster/sync"])
def test_another_accounts_course_is_not_changed(cast: Cast, browse: Browse, path: str) -> None:
    assert browse(cast.eve).post(f"/courses/{cast.geology}{path}", {"plan": cast.plan}).status_code == 404


def test_a_course_one_is_not_in_is_not_there_either(cast: Cast, browse: Browse) -> None:
    assert browse(cast.sam).get(f"/courses/{cast.statics}").status_code == 404


def test_pages_take_few_statements_however_many_rows(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    with app.app_context():
        for n in range(60):
            courses.add_course(cast.account, f"Course {n}")
        db.session.commit()
    ada = browse(cast.ada)
    for path in ("/courses", f"/courses/{cast.geology}", f"/courses/{cast.geology}/door"):
        ada.get(path)
        statements.clear()
        assert ada.get(path).status_code == 200
        asked = [s for s in statements if s.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE"))]
        assert len(asked) <= 10, "\n".join(asked)


# --- windows of one's own ----------------------------------------------------------------


def ticket_of(browser: Browser, following: str) -> str:
    page = browser.post("/tickets", {"next": following}).text
    found = re.search(r'name="ticket" value="([^"]+)"', page)
    assert found, page
    return found[1]


def test_a_ticket_opens_one_window_once(cast: Cast, browse: Browse) -> None:
    ticket = ticket_of(browse(cast.sam), f"/courses/{cast.geology}")
    window = browse(None)
    opened = window.client.post("/ticket", data={"ticket": ticket, "next": f"/courses/{cast.geology}"})
    assert (opened.status_code, opened.location) == (303, f"/courses/{cast.geology}")
    assert "Sam Whitfield" in window.get("/courses").text
    again = browse(None).client.post("/ticket", data={"ticket": ticket})
    assert again.status_code == 403
    assert 'data-error="ticket_spent"' in again.text


def test_a_ticket_goes_stale_after_thirty_seconds(
    cast: Cast, browse: Browse, move_clock: Callable[[timedelta], None]
) -> None:
    ticket = ticket_of(browse(cast.sam), "/courses")
    move_clock(timedelta(seconds=31))
    assert browse(None).client.post("/ticket", data={"ticket": ticket}).status_code == 403


def test_a_ticket_for_scripts_is_json(cast: Cast, browse: Browse) -> None:
    answer = browse(cast.sam).post("/tickets", {"next": "/courses"}, headers={"Accept": "application/json"})
    assert set(answer.json) == {"ticket", "spend", "next"}


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil"])
def test_a_ticket_leads_nowhere_else(cast: Cast, browse: Browse, elsewhere: str) -> None:
    ticket = ticket_of(browse(cast.sam), elsewhere)
    answer = browse(None).client.post("/ticket", data={"ticket": ticket, "next": elsewhere})
    assert answer.location == "/courses"


def test_nobody_we_know_gets_no_ticket(browse: Browse) -> None:
    assert browse(None).post("/tickets", {"next": "/courses"}).status_code == 401


# --- what holds for every page -----------------------------------------------------------


def test_a_form_without_its_token_is_refused(cast: Cast, browse: Browse) -> None:
    answer = browse(cast.ada).client.post("/courses/new", data={"name": "Forged"})
    assert answer.status_code == 400
    assert 'data-error="form_stale"' in answer.text


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil"}]
)
def test_a_post_from_elsewhere_is_refused(cast: Cast, browse: Browse, headers: dict[str, str]) -> None:
    ada = browse(cast.ada)
    token = re.search(r'csrf-token" content="([^"]+)"', ada.get("/courses").text)[1]  # type: ignore[index]
    data = {"name": "Forged", "csrf_token": token}
    assert ada.client.post("/courses/new", data=data, headers=headers).status_code == 403


def test_every_page_says_what_it_may_load_and_who_may_frame_it(cast: Cast, browse: Browse) -> None:
    headers = browse(cast.ada).get("/courses").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'self'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" in headers


def test_names_are_escaped_wherever_they_are_shown(app: Flask, cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    added = ada.post("/courses/new", {"name": "<img src=x onerror=alert(1)>", "summary": "<b>bold</b>"})
    for path in (added.location, "/courses"):
        text = ada.get(path).text
        assert "<img src=x" not in text
        assert "<b>bold" not in text


def test_an_error_page_has_a_code_and_the_requests_id(cast: Cast, browse: Browse) -> None:
    answer = browse(cast.ada).get("/courses/424242")
    assert answer.status_code == 404
    assert 'data-error="not_found"' in answer.text
    assert answer.headers["X-Request-Id"] in answer.text


def test_static_files_may_be_kept_until_they_change(cast: Cast, browse: Browse) -> None:
    page = browse(cast.ada).get("/courses").text
    stylesheet = re.search(r'href="(/static/doorlist\.css\?v=[0-9a-f]+)"', page)[1]  # type: ignore[index]
    with browse(None).get(stylesheet) as answer:
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("number", ["2147483648", "99999999999999999999"])
def test_an_id_no_database_holds_is_not_found(cast: Cast, browse: Browse, number: str) -> None:
    assert browse(cast.ada).get(f"/courses/{number}").status_code == 404


def test_text_no_database_takes_gives_no_500(cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    assert ada.get("/courses?q=a%00b").status_code == 200
    assert ada.post("/courses/new", {"name": "a\0b"}).status_code == 400


def test_a_student_of_many_courses_costs_no_more_statements(
    app: Flask, cast: Cast, browse: Browse, statements: list[str]
) -> None:
    with app.app_context():
        for n in range(40):
            course = courses.add_course(cast.account, f"Course {n}")
            db.session.add(
                Enrollment(
                    account_id=cast.account,
                    course_id=course.id,
                    user_id=cast.sam,
                    role=Role.STUDENT,
                    source=Source.MANUAL,
                )
            )
        db.session.commit()
    sam = browse(cast.sam)
    sam.get("/courses")
    statements.clear()
    assert sam.get("/courses").text.count("Closed: the course has no plan now") == 41
    assert len([s for s in statements if s.lstrip().upper().startswith("SELECT")]) <= 10
