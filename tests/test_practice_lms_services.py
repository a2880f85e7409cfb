"""The practice LMS's rosters, and the faults that it shows when told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
import test_practice_lms
from test_practice_lms import MEMBERSHIP, Tool

from lti_tool.practice_lms import Person, Platform, create_app, serve
from lti_tool.practice_lms.keys import SigningKey

# Fixtures are found by their names here.
any_tool = test_practice_lms.any_tool
key = test_practice_lms.key
platform = test_practice_lms.platform
tool = test_practice_lms.tool


# Names and roles


def test_the_roster_wants_a_good_token(tool: Tool) -> None:
    assert tool.page("geology", {}).status_code == 401
    assert tool.page("geology", {"Authorization": "Bearer guessed"}).status_code == 401
    headers = tool.bearer()
    assert tool.page("geology", headers).status_code == 200
    tool.platform.tokens.revoke_all()
    assert tool.page("geology", headers).status_code == 401
    headers = tool.bearer()
    tool.platform.clock_offset = 3700
    assert tool.page("geology", headers).status_code == 401


def test_a_token_without_the_scope_opens_no_roster(platform: Platform, key: SigningKey) -> None:
    tool = Tool(platform, key)
    platform.registration().scopes = frozenset({"https://other.example.test/scope"})
    token = tool.ask_token(scope="https://other.example.test/scope").json()["access_token"]
    assert tool.page("geology", {"Authorization": f"Bearer {token}"}).status_code == 403


def test_the_roster_speaks_its_media_type_and_knows_its_courses(tool: Tool) -> None:
    headers = tool.bearer()
    answer = tool.page("geology", headers)
    assert answer.headers["Content-Type"].startswith(
        "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"
    )
    assert tool.page("geology", headers | {"Accept": "text/html"}).status_code == 406
    assert (
        requests.get(
            f"{tool.platform.server_url}/courses/77/memberships", headers=headers, timeout=5
        ).status_code
        == 404
    )


def test_paging_reaches_all_two_thousand(any_tool: Tool) -> None:
    pages = any_tool.walk("big", limit=100)
    size = {"moodle": 100, "canvas": 50, "brightspace": 100}[any_tool.platform.flavour]
    assert {len(page) for page in pages} == {size}
    everyone = [member["user_id"] for page in pages for member in page]
    assert len(everyone) == len(set(everyone)) == 2000


def test_without_a_limit_moodle_sends_everyone_and_canvas_fifty(any_tool: Tool) -> None:
    pages = any_tool.walk("big")
    assert len(pages) == {"moodle": 1, "canvas": 40, "brightspace": 10}[any_tool.platform.flavour]
    assert sum(map(len, pages)) == 2000


def test_courses_have_three_forty_and_two_thousand_members() -> None:
    first, second = Platform(), Platform()
    assert [len(first.members(course)) for course in first.courses] == [3, 40, 2000]
    assert first.members("big") == second.members("big")
    big = [member.person for member in first.members("big")]
    assert any(not person.email for person in big)
    assert any(not person.name for person in big)
    assert all(person.email.endswith((".org", ".test")) for person in big if person.email)


@pytest.mark.parametrize("flavour", ["canvas", "brightspace"])
def test_a_cursor_in_another_case_is_no_cursor(flavour: Any, key: SigningKey) -> None:
    platform = Platform(flavour=flavour)
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        headers = tool.bearer()
        following = tool.page("statics", headers, limit=10).links["next"]["url"]
        path, _, cursor = following.partition("bookmark:")
        assert cursor != cursor.lower()
        assert requests.get(following, headers=headers, timeout=20).status_code == 200
        wrong = requests.get(f"{path}bookmark:{cursor.lower()}", headers=headers, timeout=20)
        assert wrong.status_code == 400


def test_canvas_names_other_pages_before_the_next_one(key: SigningKey) -> None:
    platform = Platform(flavour="canvas")
    with serve(create_app(platform)):
        link = Tool(platform, key).page("statics", limit=10).headers["Link"]
    assert [part.rpartition("rel=")[2] for part in link.split(",")] == ['"current"', '"first"', '"next"']
    assert "page=bookmark:" in link


def test_moodles_next_link_forgets_the_role_and_keeps_the_resource_link(tool: Tool) -> None:
    answer = tool.page("statics", role=MEMBERSHIP + "Learner", limit=5, rlid="301")
    assert {role for member in answer.json()["members"] for role in member["roles"]} == {"Learner"}
    assert answer.json()["members"][0]["message"]
    following = answer.links["next"]["url"]
    assert "role=" not in following
    assert "rlid=301" in following
    assert tool.page("statics", role="Instructor").json()["members"][0]["roles"] == ["Instructor"]


def test_who_leaves_between_two_pages_shifts_nobody_out(key: SigningKey) -> None:
    platform = Platform(flavour="canvas")
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        headers = tool.bearer()
        first = tool.page("statics", headers, limit=20)
        for member in first.json()["members"][:5]:
            platform.withdraw("statics", member["user_id"])
        second = requests.get(first.links["next"]["url"], headers=headers, timeout=20)
    assert len(second.json()["members"]) == 20
    assert "next" not in second.links


def test_the_roster_follows_enrollments(tool: Tool) -> None:
    platform = tool.platform
    platform.withdraw("geology", "sam")
    platform.enroll("geology", Person("99", "lena", "Lena", "O'Hara & Co", "lena@example.org"), "student")
    platform.enroll("geology", "nobody", ["urn:lti:role:ims/lis/Learner"], status="Inactive")
    rows = {row["user_id"]: row for row in tool.page("geology").json()["members"]}
    assert set(rows) == {"3", "4", "99", "7"}
    assert rows["99"]["name"] == "Lena O&#039;Hara &amp; Co"
    assert rows["7"]["roles"] == ["urn:lti:role:ims/lis/Learner"]
    assert rows["7"]["status"] == "Inactive"
    assert rows["4"]["roles"] == ["Learner"]  # Tess is Instructor at launch


def test_names_and_addresses_can_be_withheld(tool: Tool) -> None:
    registration = tool.platform.registration()
    registration.names = registration.emails = False
    for row in [*tool.page("geology").json()["members"], tool.platform.claims("sam", "geology")]:
        assert not {"name", "given_name", "family_name", "email"} & row.keys()


def test_brightspace_may_list_only_who_has_launched(key: SigningKey) -> None:
    platform = Platform(flavour="brightspace")
    platform.only_launched_listed = True
    with serve(create_app(platform)):
        tool = Tool(platform, key)
        assert tool.page("geology").json()["members"] == []
        platform.authorize(tool.auth_query(platform.login_parameters("sam", "geology")))
        assert [row["user_id"] for row in tool.page("geology").json()["members"]] == ["5"]


def test_a_course_can_be_added(tool: Tool) -> None:
    tool.platform.add_course("70", "Tides", 7)
    assert len(tool.page("70").json()["members"]) == 7
    with pytest.raises(LookupError):
        tool.platform.course("71")


# Faults


def test_a_fault_nobody_knows_is_refused(platform: Platform) -> None:
    with pytest.raises(ValueError, match="no fault"):
        platform.faults.roster = "hlaf"


def test_half_a_roster_breaks_after_the_first_page(any_tool: Tool) -> None:
    any_tool.platform.faults.roster = "half"
    headers = any_tool.bearer()
    first = any_tool.page("geology", headers)
    assert len(first.json()["members"]) == 2
    assert requests.get(first.links["next"]["url"], headers=headers, timeout=20).status_code == 500


def test_a_truncated_roster_is_no_json_after_the_first_page(any_tool: Tool) -> None:
    any_tool.platform.faults.roster = "truncated"
    headers = any_tool.bearer()
    second = requests.get(any_tool.page("statics", headers).links["next"]["url"], headers=headers, timeout=20)
    assert second.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        second.json()


def test_an_endless_roster_always_has_another_next_page(any_tool: Tool) -> None:
    any_tool.platform.faults.roster = "endless"
    headers = any_tool.bearer()
    answer, seen = any_tool.page("geology", headers), set()
    for _ in range(5):
        following = answer.links["next"]["url"]
        assert following not in seen
        seen.add(following)
        answer = requests.get(following, headers=headers, timeout=20)
        assert answer.status_code == 200


def test_a_roster_may_point_to_itself_or_elsewhere(tool: Tool) -> None:
    tool.platform.faults.roster = "self"
    answer = tool.page("geology", limit=2)
    assert answer.links["next"]["url"] == answer.url
    tool.platform.faults.roster = "foreign_next"
    tool.platform.faults.foreign_url = "https://trap.example.test/next"
    assert tool.page("geology").links["next"]["url"] == "https://trap.example.test/next"


def test_other_faults_of_the_roster(tool: Tool) -> None:
    headers = tool.bearer()
    for fault, status in (
        ("500", 500),
        ("503", 503),
        ("429", 429),
        ("403", 403),
        ("html", 200),
        ("garbage", 200),
    ):
        tool.platform.faults.roster = fault
        answer = tool.page("geology", headers)
        assert answer.status_code == status
        assert "user_id" not in answer.text
    tool.platform.faults.roster = "empty"
    assert tool.page("geology", headers).json()["members"] == []
    tool.platform.faults.roster = "401 once"
    assert [tool.page("geology", headers).status_code for _ in range(2)] == [401, 200]


def test_slow_endpoints_take_their_time(tool: Tool) -> None:
    tool.platform.faults.delay = 0.3
    headers = tool.bearer()
    tool.platform.faults.roster = tool.platform.faults.token = tool.platform.faults.jwks = "slow"
    for ask in (
        lambda: tool.page("geology", headers),
        tool.ask_token,
        lambda: requests.get(tool.platform.jwks_url, timeout=20),
    ):
        begun = time.monotonic()
        assert ask().status_code == 200
        assert time.monotonic() - begun >= 0.3


def test_faults_of_the_token_endpoint(tool: Tool) -> None:
    tool.platform.faults.token = "500"
    assert tool.ask_token().status_code == 500
    tool.platform.faults.token = "401 once"
    assert [tool.ask_token().status_code for _ in range(2)] == [401, 200]
    tool.platform.faults.token = "html"
    assert "<" in tool.ask_token().text
    tool.platform.faults.token = "empty"
    assert tool.ask_token().json() == {}


def test_faults_of_the_key_set(tool: Tool) -> None:
    faults, url = tool.platform.faults, tool.platform.jwks_url
    faults.jwks = "503"
    assert requests.get(url, timeout=20).status_code == 503
    faults.jwks = "redirect"
    assert requests.get(url, timeout=5, allow_redirects=False).status_code == 302
    assert requests.get(url, timeout=20).json() == tool.platform.jwks()
    faults.jwks = "huge"
    body = requests.get(url, timeout=30).content
    assert len(body) > 30_000_000
    assert json.loads(body)["keys"] == tool.platform.jwks()["keys"]
    faults.clear()
    assert requests.get(url, timeout=20).json() == tool.platform.jwks()


def test_the_platform_can_say_that_nobody_is_signed_in(tool: Tool) -> None:
    tool.platform.faults.auth = "login_required once"
    query = tool.auth_query(tool.platform.login_parameters("sam", "geology"))
    form = tool.platform.authorize(query)
    assert (form["error"], form["state"]) == ("login_required", "a-state")
    assert "id_token" in tool.platform.authorize(query)


def test_a_wrong_clock_shows_in_the_token(tool: Tool) -> None:
    tool.platform.clock_offset = 600
    assert tool.platform.claims("sam", "geology")["iat"] > time.time() + 590


def test_requests_are_on_record(tool: Tool) -> None:
    tool.page("geology", limit=2)
    assert [request.method for request in tool.platform.requests_to("/token")] == ["POST"]
    (request,) = tool.platform.requests_to("/courses/")
    assert request.query == "limit=2"
    assert request.headers["Authorization"].startswith("Bearer ")
