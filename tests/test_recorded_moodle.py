"""What a real Moodle 4.5.6 sent (tests/recorded), signed anew with a test key and read by lti/."""

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import TOOL, Browser, Lms
from flask import Flask, Response, request
from sqlalchemy import select

from lti_tool import jobs
from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.database import db
from lti_tool.lti import launch as lti
from lti_tool.lti import roles
from lti_tool.lti.launch import Launch
from lti_tool.lti.memberships import Member, fetch_roster
from lti_tool.lti.registrations import Registration
from lti_tool.practice_lms import Platform, serve

RECORDED = Path(__file__).parent / "recorded" / "moodle-4.5"
LTI = "https://purl.imsglobal.org/spec/lti/claim/"
NRPS = "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice"
LAUNCHES = sorted(path.stem for path in RECORDED.glob("id_token-*.json"))


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text("utf-8"))


def claims_of(name: str) -> dict[str, Any]:
    said: dict[str, Any] = recorded(name)
    return dict(said.get("id_token", said))


def login_of(name: str, lms: Platform) -> dict[str, str]:
    said = recorded(name)
    asked = said.get("login_request") or said.get("login") or {"login_hint": "33"}
    ours = {
        "iss": lms.issuer,
        "client_id": "doorlist-client",
        "target_link_uri": f"{TOOL}/lti/launch",
    }
    return {**asked, **ours}


def token_of(name: str, lms: Platform, nonce: str, **claims: Any) -> str:
    now = int(lms.now())
    ours = {
        "iss": lms.issuer,
        "aud": "doorlist-client",
        "nonce": nonce,
        "iat": now,
        "exp": now + 60,
        LTI + "target_link_uri": f"{TOOL}/lti/launch",
    }
    return lms.sign({**claims_of(name), **ours, **claims})


@pytest.fixture
def lms(lms: Lms) -> Platform:
    return lms.platform


@pytest.fixture
def replay(app: Flask, lms: Platform) -> Callable[[str], Launch]:
    """The recorded message as it would come today: times, nonce, tenant and target are ours."""

    def run(name: str) -> Launch:
        with app.app_context():
            asked = login_of(name, lms)
            login = lti.begin(asked, tool_url=TOOL)
            query = dict(parse_qsl(urlsplit(login.authorization_url).query))
            # Moodle wants its hint back letter for letter.
            assert query.get("lti_message_hint") == asked.get("lti_message_hint")
            form = {"id_token": token_of(name, lms, query["nonce"]), "state": login.state}
            launch = lti.finish(form, {login.cookie_name: login.cookie_value}, tool_url=TOOL)
            db.session.commit()
            return launch

    return run


def test_there_is_something_to_replay() -> None:
    assert len(LAUNCHES) >= 12


@pytest.mark.parametrize("name", LAUNCHES)
def test_every_recorded_launch_arrives(replay: Callable[[str], Launch], name: str) -> None:
    launch, said = replay(name), claims_of(name)
    assert launch.subject == said["sub"]
    assert list(launch.roles) == said[LTI + "roles"]
    assert launch.context_id == said[LTI + "context"]["id"]
    assert launch.resource_link_id == said[LTI + "resource_link"]["id"]
    assert launch.name == said.get("name")
    assert launch.email == said.get("email")
    assert launch.platform_family == "moodle"
    assert launch.return_url == said[LTI + "launch_presentation"]["return_url"]
    assert roles.read(launch.roles).has_context


def test_names_with_markup_and_other_scripts_come_whole(replay: Callable[[str], Launch]) -> None:
    launch = replay("id_token-student28-cm4")
    assert launch.name == "Zoë 王 O’Brien-Łukasz & Co"
    assert launch.family_name == "O’Brien-Łukasz & Co"


def test_a_launch_without_address_has_none(replay: Callable[[str], Launch]) -> None:
    assert replay("id_token-student1-noemail").email is None


def test_moodles_admin_is_told_from_its_manager(replay: Callable[[str], Launch]) -> None:
    assert roles.read(replay("id_token-admin-cm4").roles).is_administrator
    assert not roles.read(replay("id_token-manager1-cm4").roles).is_administrator


def test_custom_parameters_come_in_both_spellings_and_empty_ones_not(replay: Callable[[str], Launch]) -> None:
    custom = replay("id_token-student1-cm4").custom
    assert (custom["mixedcase"], custom["MixedCase"], custom["room"]) == ("Yes", "Yes", "abc123")
    assert "when" not in custom


def test_the_recorded_deep_linking_request_is_understood(replay: Callable[[str], Launch]) -> None:
    asked = replay("deeplink-1").deep_linking
    assert asked is not None
    assert asked.return_url.endswith("/mod/lti/contentitem_return.php?course=2&id=1&sesskey=zCn1vHovSu")
    assert (asked.accept_multiple, asked.accept_line_item, asked.data) == (True, True, None)


class Recording:
    """Serves recorded roster pages, their links led to itself."""

    def __init__(self, name: str) -> None:
        self.pages = recorded(name)
        self.asked = 0
        app = Flask("recording")
        app.add_url_rule("/<path:path>", view_func=self._answer)
        self.server = serve(app)
        self.url = self._here(self.pages[0]["url"])

    def _here(self, url: str) -> str:
        return url.replace("https://moodle.localhost:8443", self.server.url)

    def _answer(self, path: str) -> Response:
        # A page with room for everybody is what Moodle sends without a limit.
        asked = request.url.replace(f"limit={jobs.PAGE}&", "")
        page = next((page for page in self.pages if self._here(page["url"]) == asked), None)
        assert page is not None, f"nothing was recorded for {request.url}"
        self.asked += 1
        link = page["headers"].get("Link")
        return Response(
            json.dumps(page["body"]),
            headers={"Link": self._here(link)} if link else None,
            content_type=page["headers"]["Content-Type"],
        )


@pytest.fixture
def fetch(app: Flask, lms: Platform) -> Iterator[Callable[[str], list[Member]]]:
    """The members of a recorded roster, as our Moodle's."""
    running: list[Recording] = []

    def run(name: str) -> list[Member]:
        recording = Recording(name)
        running.append(recording)
        with app.app_context():
            registration = db.session.scalars(db.select(Registration)).one()
            registration.family = "moodle"
            db.session.commit()
            members = fetch_roster(registration, recording.url).members or []
        assert recording.asked == len(recording.pages)
        return members

    yield run
    for recording in running:
        recording.server.stop()


@pytest.mark.parametrize(
    "name", ["nrps-bio-all", "nrps-limit0", "nrps-bio-limit10", "nrps-bio-rlid1", "nrps-bio-rlid1-limit10"]
)
def test_the_recorded_roster_is_the_same_in_one_page_and_in_four(
    fetch: Callable[[str], list[Member]], name: str
) -> None:
    members = {member.subject: member for member in fetch(name)}
    assert len(members) == 31
    assert all(member.active for member in members.values())
    # Escaped for HTML in the roster, not in the launch.
    assert members["33"].name == "Zoë 王 O’Brien-Łukasz & Co"
    # A teaching assistant is Instructor at launch and Learner here.
    assert members["4"].roles == ("Learner",)
    assert sum(member.roles == ("Instructor",) for member in members.values()) == 1


def test_a_recorded_roster_without_addresses_has_none(fetch: Callable[[str], list[Member]]) -> None:
    assert {member.email for member in fetch("nrps-noemail")} == {None}


def test_the_recorded_people_arrive_as_themselves_and_the_recorded_list_knows_them(
    app: Flask, lms: Platform, browse: Callable[[int | None], Browser], work: Callable[[], None]
) -> None:
    recording = Recording("nrps-bio-rlid1")
    roster = {NRPS: {"context_memberships_url": recording.url.partition("?")[0], "service_versions": ["2.0"]}}

    def click(name: str, **claims: Any) -> tuple[Browser, str]:
        browser = browse(None)
        begun = browser.client.post("/lti/login", data=login_of(name, lms))
        found = re.search(r'data-authorize="([^"]+)"', begun.text)
        assert found, begun.text
        query = dict(parse_qsl(urlsplit(unescape(found[1])).query))
        form = {"id_token": token_of(name, lms, query["nonce"], **claims), "state": query["state"]}
        arrived = browser.client.post("/lti/launch", data=form, headers={"Sec-Fetch-Dest": "iframe"})
        assert arrived.status_code == 303, arrived.text
        return browser, arrived.location

    def listed() -> dict[str, tuple[str, str | None, str]]:
        with app.app_context():
            rows = db.session.execute(
                select(Enrollment.subject, User.name, User.email, Enrollment.role)
                .join(User, User.id == Enrollment.user_id)
                .join(Course, Course.id == Enrollment.course_id)
                .where(Course.name == "Biology 101", Enrollment.ended_at.is_(None))
            )
            return {subject: (name, email, str(role)) for subject, name, email, role in rows}

    here = {name: click(name, **roster) for name in LAUNCHES if name.endswith("-cm4")}
    teacher, biology = here["id_token-teacher1-cm4"]
    assert {place for _, place in here.values()} == {biology}
    _, lecture = click("id_token-teacher1-cm5")
    assert lecture != biology
    assert "Big lecture (2,000 students)" in teacher.get(lecture).text
    launched = listed()
    assert launched == {
        "2": ("Admin User", "admin@example.test", "instructor"),
        "3": ("Terry Teacher", "teacher1@example.test", "instructor"),
        "4": ("Tasha Assistant", "ta1@example.test", "instructor"),
        "5": ("Mona Manager", "manager1@example.test", "instructor"),
        "6": ("Student Number1", "student1@example.test", "student"),
        "7": ("Student Hidden-Email", "student2@example.test", "student"),
        "33": ("Zoë 王 O’Brien-Łukasz & Co", "student28@example.test", "student"),
        "34": ("Student Number29", "student29@example.test", "student"),
    }

    assert teacher.post(f"{biology}/roster/sync").status_code == 303
    work()
    assert recording.asked == 1
    known = listed()
    assert len(known) == 31
    # Nobody is doubled or renamed, and the assistant, a Learner on the list, still teaches. Who is not
    # enrolled in Moodle is not on its list, and comes in again with the next launch.
    assert {subject: known.get(subject) for subject in launched} == launched | {"2": None, "5": None}
    click("id_token-admin-cm4", **roster)
    assert listed() == known | {"2": launched["2"]}
    recording.server.stop()
