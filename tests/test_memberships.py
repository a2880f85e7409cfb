"""Rosters over names and roles: whole or not at all, from a platform that misbehaves on order."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Lms
from flask import Flask, Response, request

from lti_tool import database
from lti_tool.database import db
from lti_tool.lti import keys, scopes, services, tokens
from lti_tool.lti.memberships import Member, RosterIncomplete, fetch_roster
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registrations import Platform as PlatformFacts
from lti_tool.lti.registrations import Registration, add_registration
from lti_tool.lti.services import find_next
from lti_tool.practice_lms import Platform, Server, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.messages import Flavour

Fetch = Callable[..., list[Member]]


@pytest.fixture
def lms(lms: Lms) -> Platform:
    return lms.platform


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "BACKOFF", (0.01, 0.02))


@pytest.fixture
def fetch(app: Flask, lms: Platform) -> Fetch:
    """Fetch a course's members as a job does: registration loaded, nothing else open."""

    def run(course: str = "geology", url: str = "", **asked: Any) -> list[Member]:
        with app.app_context():
            registration = db.session.scalars(select_registration(lms)).one()
            return fetch_roster(registration, url or lms.memberships_url(course), **asked).members or []

    return run


def select_registration(lms: Platform) -> Any:
    return db.select(Registration).filter_by(issuer=lms.issuer)


class FakeService:
    """A names and roles service that answers each request from a list: body, headers, status."""

    def __init__(self) -> None:
        self.pages: list[tuple[Any, dict[str, str], int]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        app = Flask("fake")
        app.add_url_rule("/<path:path>", view_func=self._answer, methods=["GET", "POST"])
        self.server: Server = serve(app)
        self.url = f"{self.server.url}/members"

    def _answer(self, path: str) -> Response:
        self.asked.append((request.full_path.rstrip("?"), dict(request.headers)))
        body, headers, status = self.pages[min(len(self.asked), len(self.pages)) - 1]
        text = body if isinstance(body, str) else json.dumps(body)
        return Response(text, status=status, headers=headers, content_type="application/json")

    def says(self, body: Any, status: int = 200, **headers: str) -> None:
        self.pages.append((body, {name.replace("_", "-"): value for name, value in headers.items()}, status))

    def lists(self, *members: dict[str, Any], next: str = "") -> None:
        self.says({"id": "x", "members": list(members)}, **({"Link": next} if next else {}))


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.server.stop()


def reason(raised: pytest.ExceptionInfo[Any]) -> str:
    return str(raised.value.reason)


class TestWholeRosters:
    def test_everybody_comes_with_names_roles_and_address(self, fetch: Fetch) -> None:
        by_subject = {member.subject: member for member in fetch()}
        sam = by_subject["5"]
        assert (sam.name, sam.given_name, sam.email) == ("Sam Rivera", "Sam", "sam@example.test")
        assert sam.roles == ("Learner",)
        assert sam.active

    @pytest.mark.parametrize("limit", [None, 7, 40])
    def test_pages_of_any_size_give_the_same_roster(self, fetch: Fetch, lms: Platform, limit: int) -> None:
        heard: list[tuple[int, int]] = []
        found = fetch("statics", limit=limit, on_page=lambda pages, members: heard.append((pages, members)))
        assert {m.subject for m in found} == {m.person.id for m in lms.members("statics")}
        assert heard[-1] == (len(heard), 40)
        assert len(heard) == (6 if limit == 7 else 1)

    def test_two_thousand_come_with_one_token(self, fetch: Fetch, lms: Platform) -> None:
        assert len(fetch("big", limit=500)) == 2000
        assert len(fetch("big", limit=1000)) == 2000
        assert len(lms.requests_to("/token")) == 1

    def test_the_resource_link_is_asked_for(self, fetch: Fetch, lms: Platform) -> None:
        fetch(resource_link_id="a&b", limit=2)
        queries = [asked.query for asked in lms.requests_to("/courses/")]
        assert all("rlid=a%26b" in query for query in queries)
        assert len(queries) == 2

    def test_moodles_escaped_names_are_read(self, app: Flask, fetch: Fetch, lms: Platform) -> None:
        set_family(app, lms, "moodle")
        assert "Stone & Hill" in {member.family_name for member in fetch("big")}
        set_family(app, lms, "")
        assert "Stone &amp; Hill" in {member.family_name for member in fetch("big")}

    def test_withheld_names_and_addresses_are_absent(self, fetch: Fetch, lms: Platform) -> None:
        registration = lms.registration()
        registration.names = registration.emails = False
        assert {(m.name, m.given_name, m.email) for m in fetch()} == {(None, None, None)}

    def test_an_empty_roster_is_a_roster(self, fetch: Fetch, lms: Platform) -> None:
        lms.faults.roster = "empty"
        assert fetch() == []


class TestMembersAsTheyCome:
    @pytest.mark.parametrize(
        ("status", "active"),
        [
            (None, True),
            ("Active", True),
            ("active", True),
            ("Inactive", False),
            ("Deleted", False),
            ("http://purl.imsglobal.org/vocab/lis/v2/status#Inactive", False),
            ("unheard", True),
        ],
    )
    def test_a_missing_status_is_active(
        self, fetch: Fetch, service: FakeService, status: str | None, active: bool
    ) -> None:
        member = {"user_id": "1", "roles": ["Learner"], **({"status": status} if status else {})}
        service.lists(member)
        assert fetch(url=service.url) == [Member("1", ("Learner",), active=active)]

    def test_a_person_listed_twice_is_one_with_all_roles(self, fetch: Fetch, service: FakeService) -> None:
        service.lists({"user_id": "1", "roles": ["Learner"]}, next=f'<{service.url}?p=2>; rel="next"')
        service.lists({"user_id": "1", "roles": ["Instructor", "Learner"], "name": "Ivan"})
        assert fetch(url=service.url) == [Member("1", ("Learner", "Instructor"), name="Ivan")]

    @pytest.mark.parametrize("swapped", [False, True])
    def test_roles_of_an_ended_entry_do_not_live_on(
        self, fetch: Fetch, service: FakeService, swapped: bool
    ) -> None:
        both = [
            {"user_id": "1", "roles": ["Instructor"], "status": "Deleted", "email": "i@example.test"},
            {"user_id": "1", "roles": ["Learner"], "status": "Active"},
        ]
        service.lists(*(both[::-1] if swapped else both))
        assert fetch(url=service.url) == [Member("1", ("Learner",), email="i@example.test")]

    def test_odd_values_are_absent_not_broken(self, fetch: Fetch, service: FakeService) -> None:
        service.lists(
            {"user_id": 7, "roles": "Learner", "name": "  ", "email": "$Person.email.primary"},
            {"user_id": "8", "roles": None, "name": ["x"], "given_name": 5, "email": "x" * 300 + "@y.z"},
            {"user_id": "9", "name": "a\x00b" + "c" * 500, "picture": {"a": [1]}, "email": ""},
        )
        seven, eight, nine = fetch(url=service.url)
        assert seven == Member("7", ("Learner",))
        assert eight == Member("8", (), given_name="5")
        assert nine.name is not None
        assert nine.name.startswith("a b")
        assert len(nine.name) == 200

    @pytest.mark.parametrize("user_id", [None, "", "x" * 256, ["1"], "a\x00", 1.5, True])
    def test_a_member_without_an_id_makes_the_roster_doubtful(
        self, fetch: Fetch, service: FakeService, user_id: Any
    ) -> None:
        service.lists({"user_id": "1", "roles": []}, {"user_id": user_id, "roles": ["Learner"]})
        with pytest.raises(RosterIncomplete, match="member_"):
            fetch(url=service.url)

    @pytest.mark.parametrize("roles", [{"a": 1}, [1], [["x"]], ["x" * 501], ["x"] * 101, ["\x00"], 5])
    def test_roles_that_are_no_texts_make_the_roster_doubtful(
        self, fetch: Fetch, service: FakeService, roles: Any
    ) -> None:
        service.lists({"user_id": "1", "roles": roles})
        with pytest.raises(RosterIncomplete, match="roles_malformed"):
            fetch(url=service.url)

    @pytest.mark.parametrize(
        "body", ["", "[]", "7", "null", "{}", '{"members": 7}', '{"members": [7]}', "<html>"]
    )
    def test_a_page_that_is_no_container_makes_the_roster_doubtful(
        self, fetch: Fetch, service: FakeService, body: str
    ) -> None:
        service.says(body)
        with pytest.raises(RosterIncomplete) as raised:
            fetch(url=service.url)
        assert reason(raised) == ("html_answer" if body == "<html>" else "not_json")


class TestNextPage:
    """RFC 8288, and what platforms make of it."""

    BASE = "https://lms.example/members?limit=2"

    @pytest.mark.parametrize(
        ("header", "found"),
        [
            ("", None),
            (
                '<https://lms.example/a?page=bookmark:WyJB>; rel="next"',
                "https://lms.example/a?page=bookmark:WyJB",
            ),
            ("<https://lms.example/CourseSection/2>; rel=next", "https://lms.example/CourseSection/2"),
            ('<https://lms.example/a>; rel="NEXT"', "https://lms.example/a"),
            ('<https://lms.example/a>;rel="last next"', "https://lms.example/a"),
            ('<https://lms.example/a>; title="x"; rel="next"', "https://lms.example/a"),
            ('<https://lms.example/a>; title="<x>; rel=next"; rel="prev"', None),
            (
                '<https://l/1>; rel="current",<https://lms.example/2>; rel="next",<https://l/>; rel="last"',
                "https://lms.example/2",
            ),
            (
                '<https://lms.example/1,2>; rel="first", <https://lms.example/3,4>; rel="next"',
                "https://lms.example/3,4",
            ),
            ('<https://lms.example/a>; rel="nextish"', None),
            ('<https://lms.example/a>; rel="differences"', None),
            ('<https://lms.example/a>; xrel="next"', None),
            ("</members?from=2>; rel=next", "https://lms.example/members?from=2"),
            ("<?from=2>; rel=next", "https://lms.example/members?from=2"),
            # Moodle's line items
            ("<https://lms.example/a?x=1&amp;from=1>; rel=“next”", "https://lms.example/a?x=1&from=1"),
            ("<https://lms.example/a>; rel=“next”".encode().decode("latin-1"), "https://lms.example/a"),
            ("https://lms.example/a; rel=next", None),
            ("<" * 5000, None),
            ('<a>; rel="' * 2000, None),
        ],
    )
    def test_the_next_address_is_found_with_its_case(self, header: str, found: str | None) -> None:
        assert find_next(header, self.BASE) == found

    @pytest.mark.parametrize("flavour", ["canvas", "brightspace", "moodle"])
    def test_every_platforms_pages_are_followed(self, app: Flask, flavour: Flavour) -> None:
        platform, server = another_lms(app, flavour)
        with server, app.app_context():
            registration = db.session.scalars(select_registration(platform)).one()
            found = fetch_roster(registration, platform.memberships_url("big"), limit=300).members or []
        assert len(found) == 2000

    def test_48_a_next_page_on_another_host_never_sees_the_token(
        self, fetch: Fetch, lms: Platform, service: FakeService
    ) -> None:
        lms.faults.roster = "foreign_next"
        lms.faults.foreign_url = service.url
        with pytest.raises(RosterIncomplete) as raised:
            fetch()
        assert reason(raised) == "foreign_next"
        assert service.asked == []

    @pytest.mark.parametrize(
        "where", ["https://127.0.0.1/", "http://127.0.0.1:1/", "//elsewhere.example/", "ftp:x"]
    )
    def test_48_another_scheme_or_port_is_another_host(
        self, fetch: Fetch, service: FakeService, where: str
    ) -> None:
        service.lists({"user_id": "1"}, next=f"<{where}>; rel=next")
        with pytest.raises(RosterIncomplete, match="foreign_next"):
            fetch(url=service.url)
        assert len(service.asked) == 1

    def test_73_pages_in_circles_are_no_roster(self, fetch: Fetch, lms: Platform) -> None:
        lms.faults.roster = "self"
        with pytest.raises(RosterIncomplete, match="pages_in_circles"):
            fetch()

    def test_73_a_roster_without_end_is_no_roster(self, app: Flask, fetch: Fetch, lms: Platform) -> None:
        app.config["ROSTER_MAX_PAGES"] = 5
        lms.faults.roster = "endless"
        with pytest.raises(RosterIncomplete, match="too_many_pages"):
            fetch()
        assert len(lms.requests_to("/courses/")) == 5

    def test_73_pages_that_name_nobody_new_are_given_up_early(self, fetch: Fetch, lms: Platform) -> None:
        lms.faults.roster = "endless"
        with pytest.raises(RosterIncomplete, match="too_many_pages"):
            fetch()
        assert len(lms.requests_to("/courses/")) < 30

    def test_73_a_roster_larger_than_we_take_is_no_roster(self, app: Flask, fetch: Fetch) -> None:
        app.config["ROSTER_MAX_MEMBERS"] = 30
        with pytest.raises(RosterIncomplete, match="too_many_members"):
            fetch("statics", limit=7)


class TestTrouble:
    @pytest.mark.parametrize("fault", ["half", "truncated", "html", "garbage", "403", "500"])
    def test_half_a_roster_is_none(self, fetch: Fetch, lms: Platform, fault: str) -> None:
        lms.faults.roster = fault
        with pytest.raises((RosterIncomplete, PlatformUnavailable)) as raised:
            fetch("statics")
        assert "Something" not in str(raised.value)

    @pytest.mark.parametrize("fault", ["500 once", "503 once", "401 once"])
    def test_trouble_that_passes_is_waited_out(self, fetch: Fetch, lms: Platform, fault: str) -> None:
        lms.faults.roster = fault
        assert len(fetch()) == 3
        lms.tokens.revoke_all()
        lms.faults.token = "503 once"
        assert len(fetch()) == 3

    def test_a_server_that_stays_down_is_asked_three_times(self, fetch: Fetch, lms: Platform) -> None:
        lms.faults.roster = "500"
        with pytest.raises(PlatformUnavailable) as raised:
            fetch()
        assert (raised.value.reason, raised.value.status, raised.value.page) == ("roster_refused", 500, 1)
        assert len(lms.requests_to("/courses/")) == 3

    def test_a_platform_that_asks_for_patience_gets_it(self, fetch: Fetch, service: FakeService) -> None:
        service.says({}, 429, Retry_After="0")
        service.lists({"user_id": "1"})
        assert len(fetch(url=service.url)) == 1

    @pytest.mark.parametrize("after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
    def test_a_platform_that_asks_for_an_hour_is_left_for_later(
        self, fetch: Fetch, service: FakeService, after: str
    ) -> None:
        service.says({}, 429, Retry_After=after)
        with pytest.raises(PlatformUnavailable) as raised:
            fetch(url=service.url)
        assert raised.value.status == 429
        assert len(service.asked) == 1

    def test_a_token_that_ended_early_is_renewed_once(self, fetch: Fetch, lms: Platform) -> None:
        fetch()
        lms.tokens.revoke_all()
        assert len(fetch()) == 3
        assert len(lms.requests_to("/token")) == 2
        lms.faults.roster = "401"
        with pytest.raises(PlatformUnavailable) as raised:
            fetch()
        assert raised.value.status == 401
        assert len(lms.requests_to("/token")) == 3

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("401", "token_refused"),
            ("403", "token_refused"),
            ("500", "token_service_failed"),
            ("html", "html_answer"),
            ("empty", "not_json"),
        ],
    )
    def test_no_token_no_roster(self, fetch: Fetch, lms: Platform, fault: str, expected: str) -> None:
        lms.faults.token = fault
        with pytest.raises(PlatformUnavailable) as raised:
            fetch()
        assert reason(raised) == expected
        assert lms.requests_to("/courses/") == []

    def test_47_an_address_that_leads_inward_is_not_asked_nor_a_token_for_it(
        self, app: Flask, fetch: Fetch, lms: Platform
    ) -> None:
        app.config["ALLOW_PRIVATE_PLATFORMS"] = False
        app.extensions.pop("lti.outgoing", None)
        with pytest.raises(PlatformUnavailable, match="not_https"):
            fetch()
        with pytest.raises(PlatformUnavailable, match=r"address_private|not_https"):
            fetch(url="https://127.0.0.1:8443/members")
        assert lms.requests_to("/") == []

    def test_an_address_that_is_none_is_named(self, fetch: Fetch) -> None:
        for url in ("javascript:alert(1)", "http://[::1", "nothing", "http://"):
            with pytest.raises(PlatformUnavailable, match=r"url_malformed|not_https"):
                fetch(url=url, limit=5)


class TestTokens:
    def test_a_token_is_renewed_before_it_ends(
        self, fetch: Fetch, lms: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch()
        later = datetime.now(UTC) + timedelta(minutes=59, seconds=5)
        monkeypatch.setattr(database, "clock", lambda: later)
        lms.clock_offset = 59 * 60 + 5
        fetch()
        assert len(lms.requests_to("/token")) == 2

    def test_68_no_token_crosses_registrations(self, app: Flask, fetch: Fetch, lms: Platform) -> None:
        lms.connect_tool("second", ["1"], jwks=lms.registration().fetch_keys)
        fetch()
        with app.app_context():
            registration = add(lms, "second")
            db.session.commit()
            assert len(fetch_roster(registration, lms.memberships_url("geology")).members or []) == 3
        authorizations = {asked.headers["Authorization"] for asked in lms.requests_to("/courses/")}
        assert len(authorizations) == 2

    def test_68_a_registration_that_inherits_a_removed_ones_id_inherits_no_token(
        self, app: Flask, lms: Platform
    ) -> None:
        lms.connect_tool("second", ["1"], jwks=lms.registration().fetch_keys)
        with app.app_context():
            facts = PlatformFacts.of(db.session.scalars(select_registration(lms)).one())
            one = tokens.access_token(facts, scopes.ROSTER)
            heir = PlatformFacts(
                **{**{name: getattr(facts, name) for name in facts.__slots__}, "client_id": "second"}
            )
            assert tokens.access_token(facts, scopes.ROSTER) == one
            assert tokens.access_token(heir, scopes.ROSTER) != one

    def test_the_audience_may_differ_from_the_token_address(self, app: Flask) -> None:
        audience = "https://api.brightspace.com/auth/token"
        platform, server = another_lms(app, "brightspace", token_audience=audience)
        with server, app.app_context():
            registration = db.session.scalars(select_registration(platform)).one()
            with pytest.raises(PlatformUnavailable, match="token_refused"):
                fetch_roster(registration, platform.memberships_url("geology"))
            registration.token_audience = audience
            db.session.commit()
            assert len(fetch_roster(registration, platform.memberships_url("geology")).members or []) == 3

    @pytest.mark.parametrize(
        "grant",
        [
            {"access_token": ""},
            {"access_token": "a\nb"},
            {"access_token": "é"},
            {"access_token": "x" * 20_000},
        ],
    )
    def test_a_token_that_would_break_a_header_is_none(
        self, app: Flask, fetch: Fetch, lms: Platform, service: FakeService, grant: dict[str, str]
    ) -> None:
        service.says(grant)
        with app.app_context():
            db.session.scalars(select_registration(lms)).one().token_url = service.url
            db.session.commit()
        with pytest.raises(PlatformUnavailable, match="token_malformed"):
            fetch()

    @pytest.mark.parametrize("seconds", ["3600", None, "soon", -5, 10**30])
    def test_any_lifetime_is_understood(
        self, app: Flask, fetch: Fetch, lms: Platform, service: FakeService, seconds: Any
    ) -> None:
        service.says({"access_token": "abc", "expires_in": seconds})
        with app.app_context():
            db.session.scalars(select_registration(lms)).one().token_url = service.url
            db.session.commit()
        with pytest.raises(PlatformUnavailable):
            fetch()

    def test_a_rotated_key_of_ours_works(self, app: Flask, fetch: Fetch) -> None:
        with app.app_context():
            before = keys.current_key().kid
            keys.rotate()
            db.session.commit()
            # Published, but not signing yet.
            assert keys.current_key().kid == before
            assert len(keys.jwks()["keys"]) == 2
        assert len(fetch()) == 3

    def test_a_stolen_key_of_ours_ends_at_once(self, app: Flask, fetch: Fetch) -> None:
        with app.app_context():
            before = keys.current_key().kid
            keys.rotate()
            keys.rotate(at_once=True)
            db.session.commit()
            assert [key["kid"] for key in keys.jwks()["keys"]] == [keys.current_key().kid]
            assert keys.current_key().kid != before
        assert len(fetch()) == 3

    def test_an_old_key_of_ours_signs_a_while_and_is_shown_a_day(
        self, app: Flask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with app.app_context():
            old = keys.current_key().kid
            new = keys.rotate().kid
            for minutes, signing, shown in ((10, old, [old, new]), (20, new, [old, new]), (1500, new, [new])):
                moment = datetime.now(UTC) + timedelta(minutes=minutes)
                monkeypatch.setattr(database, "clock", lambda moment=moment: moment)
                assert keys.current_key().kid == signing
                assert [key["kid"] for key in keys.jwks()["keys"]] == shown

    def test_our_key_set_shows_no_private_half_and_the_database_no_readable_one(self, app: Flask) -> None:
        with app.app_context():
            (key,) = keys.jwks()["keys"]
            assert set(key) == {"kty", "n", "e", "kid", "alg", "use"}
            stored = keys.current_key()
            assert "PRIVATE KEY" not in stored.private_key
            assert "PRIVATE KEY" in stored.open()
            db.session.rollback()


def test_69_no_token_and_no_name_reaches_the_log(
    fetch: Fetch, lms: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fetch("statics", limit=7)
    for fault in ("500", "html", "truncated"):
        lms.faults.roster = fault
        with pytest.raises((PlatformUnavailable, RosterIncomplete)) as raised:
            fetch("statics")
        caplog.handler.format(logging.makeLogRecord({"exc_info": raised._excinfo}))
        logging.getLogger("test").exception("failed", exc_info=raised.value)
    token = lms.requests_to("/courses/")[0].headers["Authorization"].removeprefix("Bearer ")
    for secret in (token, "client_assertion", "Rivera", "@example", "Something went wrong"):
        assert secret not in caplog.text


def test_no_transaction_is_open_while_the_platform_is_asked(app: Flask, fetch: Fetch, lms: Platform) -> None:
    """SQLite has one writer: a slow roster must not keep it."""
    open_then: list[bool] = []
    lms_answers = lms.listed_members

    def listed(course: Any) -> Any:
        with app.app_context():
            db.session.execute(
                database.insert(keys.ToolKey.__table__).values(
                    kid="x", private_key="", public_jwk="{}", created_at=database.now()
                )
            )
            db.session.rollback()
        open_then.append(True)
        return lms_answers(course)

    lms.listed_members = listed  # type: ignore[method-assign]
    assert len(fetch()) == 3
    assert open_then == [True]


def set_family(app: Flask, lms: Platform, family: str) -> None:
    with app.app_context():
        db.session.scalars(select_registration(lms)).one().family = family
        db.session.commit()


def add(lms: Platform, client_id: str) -> Registration:
    return add_registration(
        name="Another",
        issuer=lms.issuer,
        client_id=client_id,
        auth_url=lms.auth_url,
        token_url=lms.token_url,
        jwks_url=lms.jwks_url,
    )


def another_lms(app: Flask, flavour: Flavour, **made: Any) -> tuple[Platform, Server]:
    """A platform of its own kind, connected."""
    platform = Platform(flavour=flavour, **made)
    server = serve(create_lms(platform))

    def published() -> dict[str, Any]:
        with app.app_context():
            return keys.jwks()

    platform.connect_tool("tool", ["1"], jwks=published)
    with app.app_context():
        add(platform, "tool")
        db.session.commit()
    return platform, server
