"""Deep linking: a teacher chooses rooms, the LMS gets signed links, and each link opens its room."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import jwt
import pytest
from conftest import TOOL, Browser, Cast, Lms, new_client
from flask import Flask
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from lti_tool.classroom import courses
from lti_tool.classroom.accounts import Identity, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Context, Course, Enrollment
from lti_tool.classroom.syncs import SyncRun
from lti_tool.database import db
from lti_tool.lti import deep_linking
from lti_tool.practice_lms.deep_linking import content_items, place

Browse = Callable[[int | None], Browser]
LTI = "https://purl.imsglobal.org/spec/lti/claim/"
DL = "https://purl.imsglobal.org/spec/lti-dl/claim/"
SETTINGS = DL + "deep_linking_settings"


def ask(
    lms: Lms, browser: Browser, person: str = "ivan", course: str = "geology", **said: Any
) -> TestResponse:
    """A deep linking launch; `said` goes into its settings, None takes one out."""
    settings = lms.claims(person, course, message_type="LtiDeepLinkingRequest")[SETTINGS] | said
    claims = {SETTINGS: {name: value for name, value in settings.items() if value is not None}}
    return lms.launch(browser, person, course, message_type="LtiDeepLinkingRequest", claims=claims)


def sealed(page: TestResponse) -> str:
    found = re.search(r'name="launch" value="([^"]+)"', page.text)
    assert found, page.text
    return unescape(found[1])


def choose(page: TestResponse, app: Flask, path: str = "", **fields: Any) -> TestResponse:
    """Send the page's form as a browser does that keeps no cookie of ours."""
    return new_client(app).post(
        f"/lti/deep-link{path}",
        data={"launch": sealed(page), **fields},
        headers={"Sec-Fetch-Site": "same-origin"},
    )


def answer_of(page: TestResponse, lms: Lms) -> dict[str, Any]:
    """The claims of the answer, checked as the LMS checks them."""
    found = re.search(r'name="JWT" value="([^"]+)"', page.text)
    assert found, page.text
    token = unescape(found[1])
    keys = lms.registration().fetch_keys()
    content_items(token, keys, "doorlist-client", ("1",), lms.issuer)
    return jwt.decode(token, options={"verify_signature": False})


def items_of(page: TestResponse, lms: Lms) -> list[dict[str, Any]]:
    return list(answer_of(page, lms)[DL + "content_items"])


def course_ids(app: Flask) -> dict[str, int]:
    with app.app_context():
        return {course.name: course.id for course in db.session.scalars(select(Course))}


def test_a_teacher_places_the_courses_own_room(app: Flask, browse: Browse, lms: Lms) -> None:
    page = ask(lms, browse(None), data="opaque §", accept_multiple=False)
    assert page.status_code == 200
    assert "Add a room" in page.text
    assert "To Geology in Moodle" in page.text
    assert 'type="radio"' in page.text
    assert "Attendance column" not in page.text
    assert f"form-action 'self' {lms.issuer}" in page.headers["Content-Security-Policy"]
    assert f"frame-ancestors 'self' {lms.issuer}" in page.headers["Content-Security-Policy"]
    geology = course_ids(app)["Geology"]
    assert f'value="{geology}" checked' in page.text
    answered = choose(page, app, room=str(geology))
    assert answered.status_code == 200, answered.text
    assert f'action="{lms.browser_url}/deep-link-return?course=2"' in answered.text
    said = answer_of(answered, lms)
    assert (said["iss"], said["aud"], said[LTI + "deployment_id"]) == ("doorlist-client", [lms.issuer], "1")
    assert said[DL + "data"] == "opaque §"
    (item,) = said[DL + "content_items"]
    assert (item["type"], item["url"], item["title"]) == ("ltiResourceLink", f"{TOOL}/lti/launch", "Geology")
    assert item["custom"]["room"] == str(geology)
    assert "lineItem" not in item
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Context)) == 1


def test_several_rooms_at_once_a_new_one_among_them_and_each_link_opens_its_own(
    app: Flask, browse: Browse, lms: Lms, work: Callable[[], None]
) -> None:
    lms.launch(browse(None), "ivan", "statics")
    page = ask(lms, browse(None), accept_lineitem=True)
    ids = course_ids(app)
    assert 'type="checkbox"' in page.text
    assert "Statics" in page.text
    answered = choose(
        page, app, room=[str(ids["Geology"]), str(ids["Statics"]), "new"], name=" Field trip ", attendance="y"
    )
    items = items_of(answered, lms)
    assert [item["title"] for item in items] == ["Geology", "Statics", "Field trip"]
    ids = course_ids(app)
    assert items[2]["lineItem"] == {
        "scoreMaximum": 100,
        "label": "Attendance: Field trip",
        "resourceId": f"attendance-{ids['Field trip']}",
        "tag": "attendance",
    }
    assert DL + "data" not in answer_of(answered, lms)

    links = place(lms.platform, "geology", items)
    browser = browse(None)
    for link, name in zip(links, ("Geology", "Statics", "Field trip"), strict=True):
        arrived = lms.launch(browser, "sam", "geology", link=link)
        assert arrived.location.endswith(f"/courses/{ids[name]}"), name
    # A launch that names no room comes to the main one, as before.
    assert lms.launch(browser, "sam", "geology").location.endswith(f"/courses/{ids['Geology']}")
    # Everybody of the LMS course comes on the lists of the rooms placed there.
    work()
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Course)) == 3
        for name in ("Statics", "Field trip"):
            tie = db.session.scalars(
                select(Context).where(Context.course_id == ids[name], ~Context.main)
            ).one()
            held = select(func.count()).where(Enrollment.context_id == tie.id)
            assert db.session.scalar(held) == len(lms.members("geology")), name
        runs = {run.course_id for run in db.session.scalars(select(SyncRun))}
        assert {ids["Statics"], ids["Field trip"]} <= runs
        placed = db.session.scalars(select(AuditEvent).filter_by(action="room.placed")).all()
        assert {event.target for event in placed} == {f"course:{ids[n]}" for n in ("Statics", "Field trip")}


def test_the_same_form_sent_twice_makes_one_room(app: Flask, browse: Browse, lms: Lms) -> None:
    page = ask(lms, browse(None))
    first = items_of(choose(page, app, room="new", name="Field trip"), lms)
    again = items_of(choose(page, app, room="new", name="Field trip"), lms)
    assert first == again
    assert sorted(course_ids(app)) == ["Field trip", "Geology"]
    # Another page is another wish.
    choose(ask(lms, browse(None)), app, room="new", name="Field trip")
    with app.app_context():
        assert db.session.scalar(select(func.count()).where(Course.name == "Field trip")) == 2


def test_who_makes_a_room_is_in_it_at_once(app: Flask, browse: Browse, lms: Lms) -> None:
    browser = browse(None)
    choose(ask(lms, browser), app, room="new", name="Field trip")
    with app.app_context():
        ivan = db.session.scalars(select(User).where(User.name == "Ivan Petrov")).one()
        assert {held.role for held in db.session.scalars(select(Enrollment).filter_by(user_id=ivan.id))} == {
            "instructor"
        }
    lms.launch(browser, "ivan", "geology")
    assert "Field trip" in browser.get("/courses").text


def test_a_choice_that_lacks_something_comes_back(app: Flask, browse: Browse, lms: Lms) -> None:
    page = ask(lms, browse(None), accept_multiple=False)
    lacking: list[tuple[dict[str, Any], str]] = [
        ({}, "Choose a room."),
        ({"room": "new"}, "Give the new room a name."),
        ({"room": "new", "name": "x" * 201}, "At most 200 characters."),
        ({"room": ["new", "1"], "name": "Two"}, "Choose one room."),
    ]
    for fields, words in lacking:
        answered = choose(page, app, **fields)
        assert answered.status_code == 422, fields
        assert words in answered.text
        assert 'aria-invalid="true"' in answered.text
        # What was typed is still there, and so is the way on.
        assert f'value="{fields.get("name", "")}"' in answered.text
        assert sealed(answered) == sealed(page)
    assert list(course_ids(app)) == ["Geology"]
    assert choose(answered, app, room="new", name="Better").status_code == 200


def test_an_address_to_return_to_writes_nothing_else_into_our_headers(browse: Browse, lms: Lms) -> None:
    for host in ("evil.example; script-src *; frame-ancestors *; x", "[::1];script-src *"):
        page = ask(lms, browse(None), deep_link_return_url=f"https://{host}/back")
        policy = page.headers["Content-Security-Policy"]
        assert page.status_code == 200
        assert "script-src" not in policy
        assert policy.count("frame-ancestors") == 1


def test_a_choice_of_very_many_comes_back_like_any_that_is_too_much(
    app: Flask, browse: Browse, lms: Lms
) -> None:
    many = [str(number) for number in range(1, 70_000)]
    page = ask(lms, browse(None))
    for path, status in (("", 422), ("/search", 200)):
        assert choose(page, app, path, room=many).status_code == status


def test_only_teachers_choose_and_the_lms_is_told(app: Flask, browse: Browse, lms: Lms) -> None:
    refused = ask(lms, browse(None), "sam", data="d")
    assert refused.status_code == 403
    assert 'data-error="picking_not_allowed"' in refused.text
    said = answer_of(refused, lms)
    assert said[DL + "content_items"] == []
    assert said[DL + "data"] == "d"
    assert "Only teachers" in said[DL + "errormsg"]
    assert lms.issuer in refused.headers["Content-Security-Policy"].partition("form-action")[2]
    # An administrator of the LMS without a role in the course may.
    page = ask(lms, browse(None), "ada")
    assert page.status_code == 200
    with app.app_context():
        assert not db.session.scalars(select(Identity).filter_by(subject=lms.person("sam").id)).all()


def test_cancelling_takes_nothing_back(app: Flask, browse: Browse, lms: Lms) -> None:
    answered = choose(ask(lms, browse(None)), app, "/cancel", room="new", name="Not made")
    assert items_of(answered, lms) == []
    assert "Nothing was chosen" in answered.text
    assert "Not made" not in course_ids(app)


def test_an_lms_that_takes_no_tool_links_is_told_so(browse: Browse, lms: Lms) -> None:
    types: Any
    for types in (["file", "html"], [], None, "ltiResourceLink"):
        refused = ask(lms, browse(None), accept_types=types)
        assert refused.status_code == 400, types
        assert 'data-error="deep_linking_unsupported"' in refused.text


def test_a_teacher_is_offered_only_what_he_teaches_and_an_admin_everything(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    lms.launch(browse(None), "ivan", "statics")
    page = ask(lms, browse(None), "tess")
    # Courses that neither Tess nor her LMS courses know.
    assert "Structural Geology" not in page.text
    for wish in (cast.geology, 424242, "geology", "-1", "99999999999"):
        assert choose(page, app, room=str(wish)).status_code == 404
    found = choose(page, app, "/search", q="geolog", room="new")
    assert "No course called “geolog”" in found.text
    admins = ask(lms, browse(None), "ada")
    assert "Structural Geology" in admins.text
    found = choose(admins, app, "/search", q="structural", room=[str(cast.statics), "new"], name="Kept")
    assert "Structural Geology" in found.text
    # What was chosen stays.
    assert f'value="{cast.statics}" checked' in found.text
    assert 'value="new" id="new" checked' in found.text
    assert 'value="Kept"' in found.text
    part = new_client(app).post(
        "/lti/deep-link/search",
        data={"launch": sealed(admins), "q": "statics"},
        headers={"HX-Request": "true"},
    )
    assert "<html" not in part.text
    assert "HX-Request" in part.headers["Vary"]
    assert choose(admins, app, room=str(cast.geology)).status_code == 200


def test_the_page_goes_stale_and_cannot_be_forged(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, move_clock: Callable[[timedelta], None]
) -> None:
    page = ask(lms, browse(None))
    for launch in ("", "x", sealed(page)[:-4], sealed(page).swapcase()):
        forged = new_client(app).post(
            "/lti/deep-link", data={"launch": launch, "room": "new", "name": "Forged"}
        )
        assert forged.status_code == 410
        assert 'data-error="picking_stale"' in forged.text
    move_clock(timedelta(minutes=61))
    assert choose(page, app, room="new", name="Late").status_code == 410
    assert set(course_ids(app)) & {"Forged", "Late"} == set()


def test_who_is_no_teacher_any_more_places_nothing(app: Flask, browse: Browse, lms: Lms) -> None:
    page = ask(lms, browse(None))
    lms.launch(browse(None), "ivan", "geology", claims={"roles": ["Learner"]})
    refused = choose(page, app, room="new", name="Too late")
    assert refused.status_code == 403
    assert "Too late" not in course_ids(app)


def test_another_persons_cookie_does_not_place_in_his_name(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    page = ask(lms, browse(None))
    eve = browse(cast.eve)
    answered = eve.client.post(
        "/lti/deep-link", data={"launch": sealed(page), "room": "new", "name": "Ivans"}
    )
    assert answered.status_code == 200
    with app.app_context():
        room = db.session.scalars(select(Course).filter_by(name="Ivans")).one()
        assert room.account_id == cast.account
        added = db.session.scalars(select(AuditEvent).filter_by(action="course.added")).one()
        assert db.session.get_one(User, added.actor_id).name == "Ivan Petrov"
    assert eve.get(f"/courses/{room.id}").status_code == 404


def test_a_launch_by_a_picked_link_costs_no_more_statements(
    app: Flask, browse: Browse, lms: Lms, statements: list[str]
) -> None:
    items = items_of(choose(ask(lms, browse(None)), app, room="new", name="Field trip"), lms)
    (link,) = place(lms.platform, "geology", items)
    counts = []
    for options in ({}, {"link": link}):
        browser = browse(None)
        for _ in range(2):
            statements.clear()
            lms.launch(browser, "ivan", "geology", **options)
        counts.append([s for s in statements if s.split()[0] in ("SELECT", "INSERT", "UPDATE")])
    assert len(counts[1]) <= len(counts[0]), "\n".join(counts[1])


def test_nonsense_for_a_room_opens_the_main_one(app: Flask, browse: Browse, lms: Lms) -> None:
    for room in (
        "",
        "0",
        "-1",
        "1.5",
        "٣",
        "abc123",
        "99999999999",
        "2147483648",
        "$Canvas.x",
        7,
        None,
        ["1"],
    ):
        arrived = lms.launch(browse(None), "sam", "geology", claims={"custom": {"room": room}})
        assert arrived.status_code == 303, arrived.text
    assert list(course_ids(app)) == ["Geology"]


def test_another_accounts_room_is_never_opened(app: Flask, cast: Cast, browse: Browse, lms: Lms) -> None:
    browse(cast.eve).post("/courses/new", {"name": "Eves"})
    eves = course_ids(app)["Eves"]
    arrived = lms.launch(browse(None), "ivan", "geology", claims={"custom": {"room": str(eves)}})
    assert not arrived.location.endswith(f"/{eves}")
    page = ask(lms, browse(None), "ada")
    assert "Eves" not in page.text
    assert choose(page, app, room=str(eves)).status_code == 404


def test_a_room_typed_in_by_hand_opens_nobody_elses_course(
    app: Flask, cast: Cast, browse: Browse, lms: Lms
) -> None:
    # A course of the account that no LMS course leads to.
    arrived = lms.launch(browse(None), "mentor", "statics", claims={"custom": {"room": str(cast.geology)}})
    assert not arrived.location.endswith(f"/{cast.geology}")


def test_pages_take_few_statements_however_many_rows(
    app: Flask, cast: Cast, browse: Browse, lms: Lms, statements: list[str]
) -> None:
    with app.app_context():
        for n in range(60):
            courses.add_course(cast.account, f"Course {n}")
        db.session.commit()
    page = ask(lms, browse(None), "ada")
    statements.clear()
    assert choose(page, app, "/search", q="course").text.count("Course ") == 20
    asked = [s for s in statements if s.split()[0] in ("SELECT", "INSERT", "UPDATE")]
    assert len(asked) <= 10, "\n".join(asked)
    choose(page, app, room=["new", *(str(cast.geology + n) for n in range(2))], name="Field trip")
    ada, geology = browse(cast.ada), course_ids(app)["Geology"]
    with app.app_context():
        tie = db.session.scalars(select(Context.id).filter_by(course_id=geology)).one()
    for path in (f"/courses/{geology}/settings", f"/courses/{geology}/lms-courses/{tie}/move"):
        ada.get(path)
        statements.clear()
        assert ada.get(path).status_code == 200
        asked = [s for s in statements if s.split()[0] in ("SELECT", "INSERT", "UPDATE")]
        assert len(asked) <= 10, "\n".join(asked)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (None, ()),
        ("", ()),
        ("7", ("7",)),
        (" 7, 5 ,7,", ("7", "5")),
        ("a%2Cb,c%20d", ("a,b", "c d")),
        ("x" * 256, ()),
        # PostgreSQL cannot be asked for it.
        ("a%00b,7", ("7",)),
    ],
)
def test_histories_are_read_as_the_standard_writes_them(said: str | None, read: tuple[str, ...]) -> None:
    assert deep_linking.read_history(said) == read
