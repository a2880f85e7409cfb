"""Launches that must arrive, as in the 1EdTech certification (LTI 1.3 core, launch cases), and what is read.

Messages with and without names, e-mail, context, several, short, unknown or no roles. What becomes of each
(user, course, enrollment) is told in test_walk_launch.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import TOOL, Lms
from flask import Flask
from flask.testing import FlaskClient
from test_launch_forgeries import Tab, arrives, assert_refused, cookies_of, error_of

from lti_tool.database import db
from lti_tool.lti import launch as lti
from lti_tool.lti.handshake import BurnedNonce, sweep
from lti_tool.lti.launch import Launch
from lti_tool.lti.registrations import Deployment, Registration, note_deployment
from lti_tool.practice_lms import Platform

LTI = "https://purl.imsglobal.org/spec/lti/claim/"
V2 = "http://purl.imsglobal.org/vocab/lis/v2/"
MEMBERSHIPS = "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice"

Arrive = Callable[..., Launch]


@pytest.fixture
def lms(lms: Lms) -> Platform:
    return lms.platform


@pytest.fixture
def arrive(app: Flask, lms: Platform) -> Arrive:
    """What lti/ hands up for a token with these claims; None takes a claim away."""

    def run(
        person: str = "sam", course: str = "geology", *, begin: dict[str, Any] | None = None, **claims: Any
    ) -> Launch:
        with app.app_context():
            login = lti.begin(lms.login_parameters(person, course, **(begin or {})), tool_url=TOOL)
            nonce = dict(parse_qsl(urlsplit(login.authorization_url).query))["nonce"]
            token = lms.sign(lms.claims(person, course, **{"nonce": nonce, **claims}))
            cookies = {login.cookie_name: login.cookie_value}
            launch = lti.finish({"id_token": token, "state": login.state}, cookies, tool_url=TOOL)
            db.session.commit()
            return launch

    return run


def test_a_student_arrives_with_everything_the_platform_says(arrive: Arrive, lms: Platform) -> None:
    launch = arrive("sam", "geology")
    assert (launch.issuer, launch.client_id, launch.deployment_id) == (lms.issuer, "doorlist-client", "1")
    assert (launch.subject, launch.name, launch.email) == ("5", "Sam Rivera", "sam@example.test")
    assert (launch.given_name, launch.family_name) == ("Sam", "Rivera")
    assert launch.roles == (V2 + "membership#Learner",)
    assert (launch.context_id, launch.context_label, launch.context_title) == ("2", "GEO201", "Geology")
    assert (launch.resource_link_id, launch.resource_link_title) == ("201", "Live room")
    assert launch.memberships_url == lms.memberships_url("geology")
    assert launch.return_url == f"{lms.browser_url}/return?course=2"
    assert (launch.locale, launch.document_target) == ("en", "iframe")
    assert (launch.platform_family, launch.platform_name) == ("moodle", "Linden campus")
    assert launch.message_type == "LtiResourceLinkRequest"
    assert launch.target_link_uri == f"{TOOL}/lti/launch"
    assert abs((launch.issued_at - datetime.now(UTC)).total_seconds()) < 30


@pytest.mark.parametrize(
    ("gone", "read"),
    [
        (["name", "given_name", "family_name"], {"name": None, "given_name": None, "family_name": None}),
        (["email"], {"email": None}),
        (["name", "given_name", "family_name", "email"], {"name": None, "email": None}),
        (["given_name", "name"], {"name": None, "family_name": "Rivera"}),
        ([LTI + "context"], {"context_id": None, "context_title": None}),
        ([LTI + "launch_presentation"], {"return_url": None, "document_target": None, "locale": None}),
        ([LTI + "tool_platform"], {"platform_family": "", "platform_name": ""}),
        ([LTI + "custom"], {"custom": {}}),
        ([LTI + "lis"], {}),
        ([MEMBERSHIPS], {"memberships_url": None}),
    ],
    ids=lambda value: (
        None if isinstance(value, dict) else "+".join(name.rpartition("/")[2] for name in value)
    ),
)
def test_what_the_platform_may_leave_out_is_absent(
    arrive: Arrive, gone: list[str], read: dict[str, Any]
) -> None:
    launch = arrive(**dict.fromkeys(gone))
    assert {name: getattr(launch, name) for name in read} == read


@pytest.mark.parametrize(
    "roles",
    [
        [V2 + "membership#Instructor"],
        [V2 + "membership#Learner"],
        [
            V2 + "membership#Instructor",
            V2 + "institution/person#Administrator",
            V2 + "institution/person#Faculty",
        ],
        ["Instructor"],
        ["Learner", V2 + "membership#Mentor"],
        ["https://lms.example/roles#Unheard"],
        [V2 + "institution/person#Student"],
        [V2 + "system/person#None"],
        [],
    ],
)
def test_any_list_of_roles_is_handed_up_as_it_was_sent(arrive: Arrive, roles: list[str]) -> None:
    assert arrive(roles=roles).roles == tuple(roles)


def test_every_flavour_arrives_over_http(client: FlaskClient, lms: Platform) -> None:
    for flavour in ("moodle", "canvas", "brightspace"):
        lms.flavour = flavour
        for person in ("ivan", "sam"):
            answer = Tab(lms, client, person).begin().post_claims()
            assert arrives(answer), error_of(answer)


def test_login_may_be_a_get_and_may_leave_out_the_client(lms: Platform, client: FlaskClient) -> None:
    parameters = lms.login_parameters("sam", "geology", client_id=None, lti_deployment_id=None)
    del parameters["client_id"]
    answer = client.get("/lti/login", query_string=parameters)
    assert answer.status_code == 200
    assert "data-authorize" in answer.text


def test_the_binder_is_a_cookie_that_works_in_frames_and_dies_soon(
    lms: Platform, client: FlaskClient
) -> None:
    answer = client.post("/lti/login", data=lms.login_parameters("sam", "geology"))
    (cookie,) = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith("__Host-dl-state-")]
    for attribute in ("Secure", "HttpOnly", "SameSite=None", "Partitioned", "Max-Age=300", "Path=/"):
        assert attribute in cookie.split("; ")
    assert "Domain" not in cookie
    # And is cleared by the launch that used it, whether or not its person was let in.
    before = binders(client)
    for change in ({}, {LTI + "context": None}):
        tab = Tab(lms, client).begin()
        assert len(binders(client)) == len(before) + 1
        answer = tab.post_claims(tab.claims(**change))
        assert arrives(answer) is not bool(change)
        assert binders(client) == before
    # A forgery takes no cookie away from the login that waits for its answer.
    tab = Tab(lms, client).begin()
    tab.post(tab.lms.sign(tab.claims(nonce="another")))
    assert arrives(tab.post_claims())


def test_of_very_many_logins_the_oldest_are_forgotten(
    lms: Platform, client: FlaskClient, move_clock: Callable[[timedelta], None]
) -> None:
    tabs = []
    for _ in range(20):
        tabs.append(Tab(lms, client).begin())
        move_clock(timedelta(seconds=1))
    # What a browser sends with every request stays small.
    assert len(binders(client)) == 16
    assert sum(len(name) + len(value) for name, value in cookies_of(client)) < 2_500
    lms.clock_offset = 20
    assert_refused(tabs[3].post_claims(), "cookie_missing")
    assert arrives(tabs[4].post_claims())
    assert arrives(tabs[-1].post_claims())


def binders(client: FlaskClient) -> list[str]:
    return [name for name, _ in cookies_of(client) if name.startswith("__Host-dl-state-")]


def test_login_writes_nothing_to_the_database(app: Flask, lms: Platform) -> None:
    with app.app_context():
        login = lti.begin(lms.login_parameters("sam", "geology"), tool_url=TOOL)
        assert not db.session.new
        assert not db.session.dirty
        assert db.session.scalar(db.select(db.func.count()).select_from(BurnedNonce)) == 0
    assert re.fullmatch("[a-z2-7]+", login.state)


def test_the_authorization_request_is_what_the_standard_asks_for(app: Flask, lms: Platform) -> None:
    with app.app_context():
        registration = db.session.scalars(db.select(Registration)).one()
        registration.auth_url = f"{lms.auth_url}?tenant=7&x=a+b"
        db.session.commit()
        parameters = lms.login_parameters("sam", "geology")
        login = lti.begin(parameters, tool_url=TOOL)
    query = dict(parse_qsl(urlsplit(login.authorization_url).query))
    assert login.authorization_url.startswith(f"{lms.auth_url}?tenant=7&x=a+b&")
    assert {name: query.get(name) for name in ("scope", "response_type", "response_mode", "prompt")} == {
        "scope": "openid",
        "response_type": "id_token",
        "response_mode": "form_post",
        "prompt": "none",
    }
    assert query["redirect_uri"] == f"{TOOL}/lti/launch"
    assert query["login_hint"] == parameters["login_hint"]
    assert query["lti_message_hint"] == parameters["lti_message_hint"]
    assert len(query["nonce"]) == 64
    assert dict(login.parameters) == parameters


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("_parent", "_parent"),
        ("post_message_forwarding", "post_message_forwarding"),
        ('"><script>', None),
        ("", None),
    ],
)
def test_60_a_storage_target_is_a_frames_name_or_nothing(
    app: Flask, lms: Platform, target: str, kept: str | None
) -> None:
    with app.app_context():
        parameters = lms.login_parameters("sam", "geology", lti_storage_target=target)
        assert lti.begin(parameters, tool_url=TOOL).storage_target == kept


def test_values_nobody_substituted_are_absent(arrive: Arrive) -> None:
    launch = arrive(
        name="$Person.name.full",
        given_name="",
        family_name="  ",
        email="$Person.email.primary",
        context={"id": "$Context.id", "label": "", "title": "$5 a day"},
        custom={"a": "$Canvas.term.name", "b": "", "c": None, "d": 7, "e": "x", "f": ["x"]},
    )
    assert (launch.name, launch.given_name, launch.family_name, launch.email) == (None, None, None, None)
    assert (launch.context_id, launch.context_label, launch.context_title) == (None, None, "$5 a day")
    assert launch.custom == {"d": "7", "e": "x"}


def test_numbers_are_taken_for_ids_where_canvas_sends_them(arrive: Arrive) -> None:
    launch = arrive(context={"id": 5421, "title": "x"}, resource_link={"id": 77}, deployment_id=1)
    assert (launch.context_id, launch.resource_link_id, launch.deployment_id) == ("5421", "77", "1")


def test_long_names_are_cut_and_long_addresses_dropped(arrive: Arrive) -> None:
    launch = arrive(
        name="n" * 900, email="e" * 300 + "@example.test", context={"id": "1", "title": "t" * 900}
    )
    assert launch.name == "n" * 200
    assert launch.email is None
    assert launch.context_title == "t" * 200


@pytest.mark.parametrize("address", ["no address", "a b@example.test", "a\n@example.test"])
def test_an_address_that_is_none_is_absent(arrive: Arrive, address: str) -> None:
    assert arrive(email=address).email is None


@pytest.mark.parametrize("url", ["javascript:alert(1)", "nothing", "", 7])
def test_a_roster_address_is_judged_when_it_is_asked(arrive: Arrive, url: Any) -> None:
    launch = arrive(**{MEMBERSHIPS: {"context_memberships_url": url}})
    assert launch.memberships_url in (url, None)


def test_the_registration_remembers_what_its_platform_is(app: Flask, arrive: Arrive) -> None:
    arrive()
    with app.app_context():
        registration = db.session.scalars(db.select(Registration)).one()
        assert registration.family == "moodle"
        first = registration.last_launch_at
        assert first is not None
    arrive()
    with app.app_context():
        assert db.session.scalars(db.select(Registration)).one().last_launch_at == first
    arrive(tool_platform={"product_family_code": "Canvas"})
    with app.app_context():
        assert db.session.scalars(db.select(Registration)).one().family == "canvas"


def test_an_unknown_deployment_is_noted_once_with_where_it_came_from(app: Flask, arrive: Arrive) -> None:
    one = arrive(begin={"deployment_id": "new"}, deployment_id="new")
    two = arrive(begin={"deployment_id": "new"}, deployment_id="new")
    assert one == replace(two, issued_at=one.issued_at)
    with app.app_context():
        deployment = db.session.get_one(Deployment, one.deployment)
        assert (deployment.deployment_id, deployment.seen_title) == ("new", "Linden campus")
        registration = db.session.scalars(db.select(Registration)).one()
        assert note_deployment(registration, "new") is deployment


def test_burned_nonces_are_swept_when_their_states_are_long_dead(
    app: Flask, arrive: Arrive, move_clock: Callable[..., None]
) -> None:
    arrive()
    with app.app_context():
        assert sweep() == 0
        move_clock(timedelta(minutes=11))
        assert sweep() == 1
        db.session.commit()
