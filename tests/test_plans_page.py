"""Plans: the overview, giving, moving and freeing them, and who may."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import Browser, Cast
from flask import Flask
from sqlalchemy import select
from test_roster_page import counted, text_of

from lti_tool.classroom import accounts, courses, plans
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course
from lti_tool.database import db, now

Browse = Callable[[int | None], Browser]


@pytest.fixture
def ada(cast: Cast, browse: Browse) -> Browser:
    return browse(cast.ada)


@pytest.fixture
def sam(cast: Cast, browse: Browse) -> Browser:
    return browse(cast.sam)


def grant(app: Flask, cast: Cast, name: str, **wish: Any) -> int:
    with app.app_context():
        account = db.session.get_one(accounts.Account, cast.account)
        plan = plans.grant(account, name=name, **{"seats": 40, **wish})
        db.session.commit()
        return plan.id


def plan_of(app: Flask, course_id: int) -> int | None:
    with app.app_context():
        return db.session.get_one(Course, course_id).plan_id


def recorded(app: Flask, *actions: str) -> list[tuple[str, str, Any, Any]]:
    with app.app_context():
        events = db.session.scalars(
            select(AuditEvent).where(AuditEvent.action.in_(actions)).order_by(AuditEvent.id)
        )
        return [(e.action, e.target, e.before, e.after) for e in events]


# --- giving ------------------------------------------------------------------------------


def test_an_admin_gives_a_course_a_plan_and_its_students_find_the_door_open(
    app: Flask, cast: Cast, ada: Browser, sam: Browser
) -> None:
    door = f"/courses/{cast.geology}/door"
    assert 'data-gate="course_inactive"' in sam.get(door).text
    page = ada.get(f"/courses/{cast.geology}/plan")
    assert "Autumn 40-1" in page.text
    assert "40 seats in the room at once" in text_of(page)
    given = ada.post(f"/courses/{cast.geology}/plan", {"plan": cast.plan})
    assert given.status_code == 303
    assert given.headers["Location"] == f"/courses/{cast.geology}"
    assert "Students can come in" in text_of(ada.get(f"/courses/{cast.geology}"))
    assert 'data-gate="no_meeting"' in sam.get(door).text
    assert recorded(app, "plan.given") == [
        ("plan.given", f"course:{cast.geology}", {"plan": None}, {"plan": cast.plan})
    ]


def test_the_plans_to_choose_from_come_as_a_dialog_for_htmx(cast: Cast, ada: Browser) -> None:
    asked = {"HX-Request": "true", "HX-Target": "dialog"}
    part = ada.get(f"/courses/{cast.geology}/plan", headers=asked)
    assert part.text.lstrip().startswith("<dialog")
    assert "<html" not in part.text
    assert "HX-Request" in part.headers["Vary"]


def test_without_a_choice_the_form_says_so(app: Flask, cast: Cast, ada: Browser) -> None:
    answer = ada.post(f"/courses/{cast.geology}/plan", {})
    assert answer.status_code == 422
    assert 'aria-describedby="plan-error"' in answer.text
    assert "Choose a plan." in answer.text
    assert plan_of(app, cast.geology) is None


def test_a_plan_that_is_on_another_course_is_not_given_twice(app: Flask, cast: Cast, ada: Browser) -> None:
    ada.post(f"/courses/{cast.geology}/plan", {"plan": cast.plan})
    answer = ada.post(f"/courses/{cast.statics}/plan", {"plan": cast.plan})
    assert answer.status_code == 409
    assert "This plan is on another course by now" in answer.text
    assert plan_of(app, cast.statics) is None


def test_a_plan_that_is_over_is_not_given(app: Flask, cast: Cast, ada: Browser) -> None:
    old = grant(app, cast, "Old", starts_at=now() - timedelta(days=9), until=now() - timedelta(days=1))
    answer = ada.post(f"/courses/{cast.geology}/plan", {"plan": old})
    assert answer.status_code == 409
    assert "This plan is over" in answer.text


def test_freeing_closes_the_door(app: Flask, cast: Cast, ada: Browser, sam: Browser) -> None:
    ada.post(f"/courses/{cast.geology}/plan", {"plan": cast.plan})
    freed = ada.post(f"/courses/{cast.geology}/plan/free", {"next": "/plans"})
    assert (freed.status_code, freed.headers["Location"]) == (303, "/plans")
    assert 'data-gate="course_inactive"' in sam.get(f"/courses/{cast.geology}/door").text
    assert [action for action, *_ in recorded(app, "plan.given", "plan.freed")] == [
        "plan.given",
        "plan.freed",
    ]


def test_a_form_cannot_send_people_elsewhere(cast: Cast, ada: Browser) -> None:
    freed = ada.post(f"/courses/{cast.geology}/plan/free", {"next": "https://evil.example/"})
    assert freed.headers["Location"] == "/courses"


# --- moving ------------------------------------------------------------------------------


def test_moving_a_plan_closes_one_door_and_opens_the_other_in_one_go(
    app: Flask, cast: Cast, ada: Browser
) -> None:
    ada.post(f"/courses/{cast.geology}/plan", {"plan": cast.plan})
    page = text_of(ada.get(f"/plans/{cast.plan}/give"))
    assert "It is on Introduction to Structural Geology now." in page
    assert ada.post(f"/plans/{cast.plan}/give", {"course": cast.statics}).status_code == 303
    assert plan_of(app, cast.geology) is None
    assert plan_of(app, cast.statics) == cast.plan
    assert [(a, t) for a, t, *_ in recorded(app, "plan.given", "plan.freed")] == [
        ("plan.given", f"course:{cast.geology}"),
        ("plan.freed", f"course:{cast.geology}"),
        ("plan.given", f"course:{cast.statics}"),
    ]


def test_moving_a_plan_that_is_over_leaves_it_where_it_was(
    app: Flask, cast: Cast, ada: Browser, move_clock: Callable[[timedelta], None]
) -> None:
    trial = grant(app, cast, "Trial", until=now() + timedelta(hours=1))
    ada.post(f"/courses/{cast.geology}/plan", {"plan": trial})
    move_clock(timedelta(minutes=59))
    ada.get("/plans")
    move_clock(timedelta(minutes=2))
    assert ada.post(f"/plans/{trial}/give", {"course": cast.statics}).status_code == 409
    assert plan_of(app, cast.geology) == trial


def test_a_course_is_found_by_name_and_one_that_asked_comes_first(
    app: Flask, cast: Cast, ada: Browser, browse: Browse
) -> None:
    browse(cast.ivan).post(f"/courses/{cast.statics}/ask")
    page = text_of(ada.get(f"/plans/{cast.plan}/give"))
    assert page.index("Statics") < page.index("Introduction to Structural Geology")
    assert "Asked for by Ivan Petrović" in page
    found = ada.get(
        f"/plans/{cast.plan}/give?q=GEOLOGY", headers={"HX-Request": "true", "HX-Target": "found"}
    )
    assert "Structural Geology" in found.text
    assert "Statics" not in found.text


def test_a_course_has_to_be_chosen(cast: Cast, ada: Browser) -> None:
    answer = ada.post(f"/plans/{cast.plan}/give", {})
    assert answer.status_code == 422
    assert "Choose a course." in answer.text


# --- the overview ------------------------------------------------------------------------


def test_the_overview_shows_seats_period_and_course(app: Flask, cast: Cast, ada: Browser) -> None:
    grant(app, cast, "Year 20", seats=20, until=now() + timedelta(days=200))
    ada.post(f"/courses/{cast.geology}/plan", {"plan": cast.plan})
    page = text_of(ada.get("/plans"))
    assert "2 in force, 1 free." in page
    assert "Introduction to Structural Geology" in page
    assert "without end" in page
    assert "What lapses when" in page


def test_a_plan_that_ends_soon_is_pointed_out_with_the_free_one_that_could_follow(
    app: Flask, cast: Cast, ada: Browser
) -> None:
    trial = grant(app, cast, "Trial 40", until=now() + timedelta(days=3, hours=1))
    small = grant(app, cast, "Small", seats=10)
    ada.post(f"/courses/{cast.geology}/plan", {"plan": trial})
    page = ada.get("/plans")
    assert "closes for students in 3 days" in text_of(page)
    assert "Move it to “Autumn 40-1”" in text_of(page)
    assert f"“{small}”" not in page.text
    found = re.search(r'<input type="hidden" name="plan" value="(\d+)">', page.text)
    assert found
    moved = ada.post(f"/courses/{cast.geology}/plan", {"plan": found[1], "next": "/plans"})
    assert moved.headers["Location"] == "/plans"
    assert plan_of(app, cast.geology) == cast.plan


def test_a_plan_that_is_over_is_shown_apart(app: Flask, cast: Cast, ada: Browser) -> None:
    grant(app, cast, "Old one", starts_at=now() - timedelta(days=9), until=now() - timedelta(days=1))
    page = text_of(ada.get("/plans"))
    assert page.index("Old one") > page.index("Over")


def test_without_plans_the_page_says_where_they_come_from(cast: Cast, browse: Browse) -> None:
    page = text_of(browse(cast.eve).get("/plans"))
    assert "No plans yet" in page
    assert "plan grant --account other" in page


def test_the_overview_of_many_plans_takes_few_statements(app: Flask, cast: Cast, ada: Browser) -> None:
    for number in range(30):
        grant(app, cast, f"Plan {number}", until=now() + timedelta(days=30 + number))
    ada.get("/plans")
    with counted(app) as statements:
        assert ada.get("/plans").status_code == 200
    assert len(statements) <= 10, "\n".join(statements)


# --- who may -----------------------------------------------------------------------------


def addresses(cast: Cast) -> list[tuple[str, str]]:
    return [
        ("GET", f"/courses/{cast.geology}/plan"),
        ("POST", f"/courses/{cast.geology}/plan"),
        ("POST", f"/courses/{cast.geology}/plan/free"),
        ("GET", f"/plans/{cast.plan}/give"),
        ("POST", f"/plans/{cast.plan}/give"),
    ]


def test_eve_of_another_account_finds_nothing(app: Flask, cast: Cast, browse: Browse) -> None:
    eve = browse(cast.eve)
    for method, url in addresses(cast):
        data = {"plan": cast.plan, "course": cast.geology}
        answer = eve.get(url) if method == "GET" else eve.post(url, data)
        assert answer.status_code == 404, url
    assert "Autumn 40-1" not in eve.get("/plans").text


def test_eve_can_neither_take_a_plan_nor_give_hers_to_a_course_of_others(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    with app.app_context():
        theirs = courses.add_course(cast.other_account, "Oak studies").id
        plan = plans.grant(db.session.get_one(accounts.Account, cast.other_account), seats=9).id
        db.session.commit()
    eve = browse(cast.eve)
    assert eve.post(f"/courses/{theirs}/plan", {"plan": cast.plan}).status_code == 404
    assert eve.post(f"/plans/{plan}/give", {"course": cast.geology}).status_code == 404
    assert plan_of(app, theirs) is None


def test_only_admins_give_plans(cast: Cast, browse: Browse) -> None:
    for who in (cast.ivan, cast.sam):
        browser = browse(who)
        assert browser.get("/plans").status_code == 403
        for method, url in addresses(cast):
            assert (browser.get(url) if method == "GET" else browser.post(url)).status_code == 403, url
