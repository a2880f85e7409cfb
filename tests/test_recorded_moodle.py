"""What a real Moodle 4.5.6 sent (tests/recorded), signed anew with a test key and read by lti/."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import TOOL, Lms
from flask import Flask, Response, request

from lti_tool.database import db
from lti_tool.lti import launch as lti
from lti_tool.lti import roles
from lti_tool.lti.launch import Launch, LaunchRefused, Refusal
from lti_tool.lti.memberships import Member, fetch_members
from lti_tool.lti.registrations import Registration
from lti_tool.practice_lms import Platform, serve

RECORDED = Path(__file__).parent / "recorded" / "moodle-4.5"
LTI = "https://purl.imsglobal.org/spec/lti/claim/"
LAUNCHES = sorted(path.stem for path in RECORDED.glob("id_token-*.json"))


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text("utf-8"))


def claims_of(name: str) -> dict[str, Any]:
    said: dict[str, Any] = recorded(name)
    return dict(said.get("id_token", said))


@pytest.fixture
def lms(lms: Lms) -> Platform:
    return lms.platform


@pytest.fixture
def replay(app: Flask, lms: Platform) -> Callable[[str], Launch]:
    """The recorded message as it would come today: times, nonce, tenant and target are ours."""

    def run(name: str) -> Launch:
        with app.app_context():
            said = recorded(name)
            asked = said.get("login_request") or said.get("login") or {"login_hint": "33"}
            asked = {
                **asked,
                "iss": lms.issuer,
                "client_id": "doorlist-client",
                "target_link_uri": f"{TOOL}/lti/launch",
            }
            login = lti.begin(asked, tool_url=TOOL)
            query = dict(parse_qsl(urlsplit(login.authorization_url).query))
            # Moodle wants its hint back letter for letter.
            assert query.get("lti_message_hint") == asked.get("lti_message_hint")
            now = int(lms.now())
            ours = {
                "iss": lms.issuer,
                "aud": "doorlist-client",
                "nonce": query["nonce"],
                "iat": now,
                "exp": now + 60,
                LTI + "target_link_uri": f"{TOOL}/lti/launch",
            }
            token = lms.sign({**claims_of(name), **ours})
            form = {"id_token": token, "state": login.state}
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


def test_the_recorded_deep_linking_request_is_understood_and_declined(
    replay: Callable[[str], Launch],
) -> None:
    with pytest.raises(LaunchRefused) as raised:
        replay("deeplink-1")
    assert raised.value.code is Refusal.DEEP_LINKING_UNSUPPORTED


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
        page = next(page for page in self.pages if self._here(page["url"]) == request.url)
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
            members = fetch_members(registration, recording.url)
        assert recording.asked == len(recording.pages)
        return members

    yield run
    for recording in running:
        recording.server.stop()


@pytest.mark.parametrize("name", ["nrps-bio-all", "nrps-bio-limit10", "nrps-bio-rlid1-limit10"])
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
