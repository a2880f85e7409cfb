"""Our tool and platforms that nobody here wrote: their code signs, we check; we sign, their code checks."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
import requests
from conftest import TOOL, Browser, missing, new_client, platform_key
from flask import Flask
from interop.lti1p3 import Lti1p3Platform
from interop.openedx import Consumer, OpenEdx
from interop.people import COURSE, INES, OLU, PEOPLE, Person, Refused
from sqlalchemy import select
from werkzeug.test import TestResponse

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.syncs import SyncRun
from lti_tool.database import db, now
from lti_tool.lti import keys, registrations
from lti_tool.lti.claims import Gradebook
from lti_tool.lti.grades import GradebookService, LineItem, LineItemGone, Score
from lti_tool.lti.memberships import fetch_roster
from lti_tool.lti.registrations import Platform, Registration
from lti_tool.lti.scopes import LINE_ITEMS, ROSTER, SCORES
from lti_tool.practice_lms import serve
from lti_tool.practice_lms.keys import new_key

CONSUMER = os.environ.get("LTI_TOOL_TEST_CONSUMER", "")
Browse = Callable[[int | None], Browser]
AnyPlatform = Lti1p3Platform | OpenEdx


@pytest.fixture(scope="session")
def consumer() -> Iterator[Consumer]:
    """The second engine, in one process for all tests."""
    if not CONSUMER:
        missing("consumer", "set LTI_TOOL_TEST_CONSUMER (tests/interop/README.md)")
    process = Consumer(CONSUMER)
    yield process
    process.close()


@pytest.fixture(params=["lti1p3platform", "openedx"])
def platform(request: pytest.FixtureRequest, app: Flask) -> Iterator[AnyPlatform]:
    """A platform on loopback, connected to the account "default"; it fetches our keys over HTTP."""
    pair = {"private_key": platform_key().private_pem, "public_key": platform_key().public_pem}
    if request.param == "openedx":
        other: AnyPlatform = OpenEdx(request.getfixturevalue("consumer"), **pair)
    else:
        other = Lti1p3Platform(**pair)
    with serve(other.app) as web, serve(app) as tool:
        other.open(web.url, tool=TOOL, key_set_url=f"{tool.url}/lti/jwks.json")
        with app.app_context():
            account = accounts.add_account("default", "Linden Polytechnic")
            registration = registrations.add_registration(
                name=other.name,
                issuer=web.url,
                client_id=other.client_id,
                auth_url=f"{web.url}/auth",
                token_url=f"{web.url}/token",
                jwks_url=f"{web.url}/jwks",
            )
            connection = accounts.connect(account, registration)
            accounts.approve(connection, registrations.note_deployment(registration, other.deployment_id))
            db.session.commit()
        yield other


def launch(platform: AnyPlatform, browser: Browser, person: Person, **said: Any) -> TestResponse:
    """From the click in the platform to the tool's answer, as a browser goes."""
    begun = browser.get(platform.login_url(person, choose=said.get("choose", False)))
    found = re.search(r'data-authorize="([^"]+)"', begun.text)
    assert found, begun.text
    address = urlsplit(unescape(found[1]))
    assert address.geturl().startswith(f"{platform.url}/auth?")
    form = platform.launch_form(dict(parse_qsl(address.query)), person, **said)
    return browser.client.post("/lti/launch", data=form, headers={"Sec-Fetch-Dest": "iframe"})


def test_its_teacher_and_student_meet_in_one_course_and_its_list_comes_whole(
    platform: AnyPlatform, app: Flask, browse: Browse, work: Callable[[], None]
) -> None:
    ines, olu = browse(None), browse(None)
    arrived = launch(platform, ines, INES)
    assert arrived.status_code == 303, arrived.text
    assert launch(platform, olu, OLU).location == arrived.location
    page = ines.get(arrived.location)
    assert page.status_code == 200
    assert "Rocks &amp; Rivers" in page.text
    assert "Inês Duarte" in page.text
    # She teaches, he does not.
    assert ines.get(f"{arrived.location}/roster").status_code == 200
    assert olu.get(f"{arrived.location}/roster").status_code in (403, 404)

    assert ines.post(f"{arrived.location}/roster/sync").status_code == 303
    work()
    with app.app_context():
        assert [run.error for run in db.session.scalars(select(SyncRun))] == [""]
        rows = db.session.execute(
            select(Enrollment.subject, Enrollment.role, User.name, User.email)
            .join(User, User.id == Enrollment.user_id)
            .where(Enrollment.ended_at.is_(None))
        ).all()
    assert {tuple(row) for row in rows} == {
        (one.id, Role.INSTRUCTOR if one.role == "Instructor" else Role.STUDENT, one.name, one.email)
        for one in PEOPLE
    }


def test_its_list_comes_page_by_page_for_our_signature_alone(platform: AnyPlatform, app: Flask) -> None:
    with app.app_context():
        registration = db.session.scalars(select(Registration)).one()
        pages: list[int] = []
        members = fetch_roster(
            registration,
            f"{platform.url}/members",
            limit=10,
            on_page=lambda page, count: pages.append(count),
        ).members
        assert members is not None
        assert pages == ([10, 20, 25] if platform.pages else [25])
        kid = keys.current_key().kid
    assert [member.subject for member in members] == [person.id for person in PEOPLE]
    # It does look at who asks: the same request, signed by somebody else.
    assertion = jwt.encode(
        {"iss": platform.client_id, "sub": platform.client_id, "aud": f"{platform.url}/token"},
        new_key().private_pem,
        algorithm="RS256",
        headers={"kid": kid},
    )
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
        "scope": ROSTER,
    }
    assert requests.post(f"{platform.url}/token", data=form, timeout=20).status_code == 401


def test_what_is_chosen_here_it_takes_and_the_link_opens_that_room(
    platform: AnyPlatform, app: Flask, browse: Browse
) -> None:
    ines = browse(None)
    page = launch(platform, ines, INES, choose=True)
    assert page.status_code == 200, page.text
    sealed = re.search(r'name="launch" value="([^"]+)"', page.text)
    assert sealed, page.text
    with app.app_context():
        own = db.session.scalars(select(Course.id)).one()
    answered = new_client(app).post(
        "/lti/deep-link",
        data={"launch": unescape(sealed[1]), "room": [str(own), "new"], "name": "Field trip"},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert f'action="{platform.url}/chosen"' in answered.text
    token = re.search(r'name="JWT" value="([^"]+)"', answered.text)
    assert token, answered.text
    items = platform.chosen(unescape(token[1]))
    assert [(item["type"], item["title"]) for item in items] == [
        ("ltiResourceLink", COURSE[1]),
        ("ltiResourceLink", "Field trip"),
    ]
    said = jwt.decode(unescape(token[1]), options={"verify_signature": False})
    forged = jwt.encode(said, new_key().private_pem, algorithm="RS256", headers={"kid": "interop"})
    with pytest.raises(Refused):
        platform.chosen(forged)

    with app.app_context():
        trip = db.session.scalars(select(Course.id).where(Course.name == "Field trip")).one()
    there = launch(platform, ines, INES, custom=items[1]["custom"])
    assert there.location.endswith(f"/courses/{trip}")
    assert launch(platform, ines, INES, custom=items[0]["custom"]).location.endswith(f"/courses/{own}")


@pytest.mark.parametrize("platform", ["lti1p3platform"], indirect=True)
def test_its_gradebook_takes_our_column_and_our_scores(platform: Lti1p3Platform, app: Flask) -> None:
    with app.app_context():
        registration = db.session.scalars(select(Registration)).one()
        gradebook = Gradebook(f"{platform.url}/columns", None, (LINE_ITEMS, SCORES))
        service = GradebookService(Platform.of(registration), gradebook)
        made = service.create_item(
            LineItem("", "Attendance", 100, resource_id="attendance-1", tag="attendance")
        )
        assert service.find_item(resource_id="attendance-1") == made
        service.update_item(replace(made, label="Attendance: Rocks & Rivers"))
        assert [item.label for item in service.list_items()] == ["Attendance: Rocks & Rivers"]
        service.post_score(made.url, Score(OLU.id, now(), given=80, maximum=100, comment="4 of 5"))
        (column,) = platform.columns.values()
        score = column["scores"][OLU.id]
        assert (score["scoreGiven"], score["scoreMaximum"], score["comment"]) == (80, 100, "4 of 5")
        assert (score["activityProgress"], score["gradingProgress"]) == ("Completed", "FullyGraded")
        service.delete_item(made)
        with pytest.raises(LineItemGone):
            service.post_score(made.url, Score(OLU.id, now(), given=90, maximum=100))
    assert platform.columns == {}
