"""The LMS page: connecting, deployments that wait, switches, letting an LMS go, and who may."""

import re
from collections.abc import Callable

import pytest
from conftest import TOOL, Browser, Cast, Lms
from flask import Flask
from sqlalchemy import func, select
from test_roster_page import counted, text_of

from lti_tool.classroom import accounts, syncs
from lti_tool.classroom.accounts import Connection, Identity, Role, Tenancy, User
from lti_tool.classroom.audit import AuditEvent
from lti_tool.classroom.courses import Course, Enrollment
from lti_tool.classroom.sessions import Session
from lti_tool.database import db
from lti_tool.lti import registrations
from lti_tool.lti.registrations import Deployment, Registration

Browse = Callable[[int | None], Browser]

VALUES = {
    "name": "Campus Moodle",
    "issuer": "https://moodle.linden.example",
    "client_id": "AbC123",
    "auth_url": "https://moodle.linden.example/mod/lti/auth.php",
    "token_url": "https://moodle.linden.example/mod/lti/token.php",
    "jwks_url": "https://moodle.linden.example/mod/lti/certs.php",
    "deployments": "1\n 2 \n\n1",
}
ASSISTANT = [
    "http://purl.imsglobal.org/vocab/lis/v2/membership/Instructor#TeachingAssistant",
    "http://purl.imsglobal.org/vocab/lis/v2/membership#Instructor",
]


@pytest.fixture
def ada(cast: Cast, browse: Browse) -> Browser:
    return browse(cast.ada)


@pytest.fixture
def moodle(cast: Cast, lms: Lms) -> Lms:
    """The practice LMS, after the cast made its account."""
    return lms


def recorded(app: Flask, action: str) -> list[tuple[object, object]]:
    with app.app_context():
        rows = db.session.scalars(select(AuditEvent).filter_by(action=action).order_by(AuditEvent.id))
        return [(row.before, row.after) for row in rows]


# --- connecting --------------------------------------------------------------------------


def test_an_admin_connects_an_lms_by_hand(app: Flask, cast: Cast, ada: Browser) -> None:
    answer = ada.post("/lms/connect", VALUES)
    assert answer.status_code == 303, text_of(answer)
    with app.app_context():
        registration = db.session.scalars(select(Registration)).one()
        assert (registration.issuer, registration.client_id) == (VALUES["issuer"], VALUES["client_id"])
        assert registration.token_audience is None
        approved = db.session.scalars(
            select(Deployment.deployment_id).join(Tenancy, Tenancy.deployment_id == Deployment.id)
        ).all()
        assert sorted(approved) == ["1", "2"]
        tie = db.session.scalars(select(Connection)).one()
        assert tie.account_id == cast.account
    page = text_of(ada.get("/lms"))
    assert "Campus Moodle" in page
    assert "moodle.linden.example" in page
    assert "nobody launched yet" in page
    assert len(recorded(app, "platform.connected")) == 1


def test_our_own_addresses_are_there_to_copy(ada: Browser) -> None:
    for kind in ("moodle", "canvas", "other"):
        page = ada.get(f"/lms/connect?lms={kind}")
        for path in ("/lti/login", "/lti/launch", "/lti/jwks.json"):
            assert f">{TOOL}{path}</code>" in page.text
        assert 'data-copy="#our-login"' in page.text
    assert "Manage tools" in ada.get("/lms/connect").text
    canvas = ada.get("/lms/connect?lms=canvas", headers={"HX-Request": "true", "HX-Target": "how"})
    assert "Developer Keys" in canvas.text
    assert "https://sso.canvaslms.com/api/lti/authorize_redirect" in canvas.text
    assert "<html" not in canvas.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": " "}, "Give it a name that your people know."),
        ({"issuer": "moodle.example"}, "This is not a whole address"),
        ({"auth_url": "ftp://moodle.example/auth"}, "The address must begin with https://."),
        ({"token_url": "https://user:secret@moodle.example/token"}, "This is not a whole address"),
        ({"jwks_url": "javascript:alert(1)"}, "This is not a whole address"),
        ({"client_id": "two words"}, "There is a space in it."),
        ({"deployments": "Ümlaut"}, "cannot be a deployment ID"),
        ({"deployments": "x" * 256}, "cannot be a deployment ID"),
    ],
)
def test_what_cannot_be_right_comes_back_filled_with_the_error_beside_it(
    app: Flask, ada: Browser, wrong: dict[str, str], said: str
) -> None:
    answer = ada.post("/lms/connect", VALUES | wrong)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert 'aria-invalid="true"' in answer.text
    assert 'value="AbC123"' in answer.text or "client_id" in wrong
    with app.app_context():
        assert db.session.scalar(select(func.count(Registration.id))) == 0


class TestInTheOpen:
    """Where platforms on private addresses are not allowed."""

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"ALLOW_PRIVATE_PLATFORMS": False}

    def test_plain_http_is_refused(self, ada: Browser) -> None:
        answer = ada.post("/lms/connect", VALUES | {"jwks_url": "http://moodle.linden.example/certs"})
        assert answer.status_code == 422
        assert "The address must begin with https://." in text_of(answer)


def test_a_registration_that_exists_is_never_overwritten(
    app: Flask, cast: Cast, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    same = VALUES | {"issuer": moodle.issuer, "client_id": "doorlist-client"}
    for browser in (ada, browse(cast.eve)):
        answer = browser.post("/lms/connect", same)
        assert answer.status_code == 422
        assert "are never overwritten" in text_of(answer)
    with app.app_context():
        kept = db.session.scalars(select(Registration)).one()
        assert kept.jwks_url == moodle.jwks_url
        assert db.session.scalar(select(func.count(Connection.id))) == 1


def test_no_account_asks_for_access_in_anothers_name(
    app: Flask, cast: Cast, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    """One key of ours signs for all accounts, so another's client ID would open another's rosters."""
    eve = browse(cast.eve)
    evil = {name: said.replace("moodle.linden.example", "evil.example") for name, said in VALUES.items()}
    stolen = evil | {"client_id": "doorlist-client"}
    for token_url in (moodle.token_url, "https://evil.example/token"):
        answer = eve.post("/lms/connect", stolen | {"token_url": token_url})
        assert answer.status_code == 422
        assert "another institution here" in text_of(answer)
    # Who has both registrations takes nobody's.
    assert ada.post("/lms/connect", stolen).status_code == 303
    # Some platforms only count: theirs meet by chance, but never at one token service.
    counted = VALUES | {"client_id": "10000000000001"}
    assert ada.post("/lms/connect", counted).status_code == 303
    theirs = evil | {"issuer": "https://oak.example", "client_id": "10000000000001"}
    assert eve.post("/lms/connect", theirs | {"token_url": counted["token_url"]}).status_code == 422
    assert eve.post("/lms/connect", theirs).status_code == 303


def test_an_audience_is_the_token_service_s_own(ada: Browser) -> None:
    """Else an assertion made for one platform would be good at another."""
    answer = ada.post("/lms/connect", VALUES | {"token_audience": "https://victim.example/token"})
    assert answer.status_code == 422
    assert "same host as the access token URL" in text_of(answer)
    brightspace = VALUES | {
        "token_url": "https://auth.brightspace.com/core/connect/token",
        "token_audience": "https://api.brightspace.com/auth/token",
    }
    assert ada.post("/lms/connect", brightspace).status_code == 303
    own = {"token_audience": "https://moodle.linden.example/aud", "client_id": "AbC124"}
    assert ada.post("/lms/connect", VALUES | own).status_code == 303


# --- deployments that wait ---------------------------------------------------------------


@pytest.fixture
def waiting(app: Flask, moodle: Lms, browse: Browse) -> int:
    """A second deployment of the LMS, which somebody tried."""
    moodle.connect_tool(
        "doorlist-client",
        ("1", "summer"),
        login_url=f"{TOOL}/lti/login",
        launch_url=f"{TOOL}/lti/launch",
    )
    refused = moodle.launch(browse(None), "sam", "geology", deployment_id="summer")
    assert refused.status_code == 403
    with app.app_context():
        return db.session.scalars(select(Deployment.id).filter_by(deployment_id="summer")).one()


def test_a_deployment_that_waits_is_approved_and_its_people_come_in(
    app: Flask, moodle: Lms, waiting: int, ada: Browser, browse: Browse
) -> None:
    page = text_of(ada.get("/lms"))
    assert "A deployment waits for your approval" in page
    assert "summer" in page
    assert ada.post(f"/lms/deployments/{waiting}/approve").status_code == 303
    assert moodle.launch(browse(None), "sam", "geology", deployment_id="summer").status_code == 303
    assert "waits for your approval" not in text_of(ada.get("/lms"))
    assert len(recorded(app, "deployment.approved")) == 1
    assert ada.post(f"/lms/deployments/{waiting}/approve").status_code == 404


def test_a_refused_deployment_asks_again_at_its_next_launch(
    app: Flask, moodle: Lms, waiting: int, ada: Browser, browse: Browse
) -> None:
    assert ada.post(f"/lms/deployments/{waiting}/refuse").status_code == 303
    assert "waits for your approval" not in text_of(ada.get("/lms"))
    assert moodle.launch(browse(None), "sam", "geology", deployment_id="summer").status_code == 403
    assert "waits for your approval" in text_of(ada.get("/lms"))


# --- switches ----------------------------------------------------------------------------


def tie_of(app: Flask, moodle: Lms) -> Connection:
    with app.app_context():
        tie = db.session.scalars(select(Connection).filter_by(registration_id=moodle.registration_id)).one()
        db.session.expunge(tie)
        return tie


@pytest.mark.parametrize(
    ("switch", "column"),
    [
        ("admins", "makes_admins"),
        ("addresses", "trusts_addresses"),
        ("assistants", "assistants_teach"),
        ("designers", "designers_teach"),
    ],
)
def test_each_switch_is_turned_by_itself_and_written_down(
    app: Flask, moodle: Lms, ada: Browser, switch: str, column: str
) -> None:
    before = getattr(tie_of(app, moodle), column)
    url = f"/lms/{moodle.registration_id}/{switch}"
    for on in (not before, before, before):
        assert ada.post(url, {"on": "1" if on else "0"}).status_code == 303
        assert getattr(tie_of(app, moodle), column) is on
    assert recorded(app, "platform.switched") == [
        ({column: before}, {column: not before}),
        ({column: not before}, {column: before}),
    ]
    shown = re.search(rf'{switch}".*?aria-checked="(true|false)"', ada.get("/lms").text, re.S)
    assert shown
    assert (shown[1] == "true") is before


def test_admins_by_the_lms_s_word_lose_that_with_the_switch_and_are_signed_out(
    app: Flask, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    theirs = browse(None)
    assert moodle.launch(theirs, "ada", "geology").status_code == 303
    assert theirs.get("/lms").status_code == 200
    assert "1 person is admin only by it" in text_of(ada.get("/lms"))
    ada.post(f"/lms/{moodle.registration_id}/admins", {"on": "0"})
    with app.app_context():
        made = db.session.scalars(select(User).filter_by(name="Ada Lindqvist")).one()
        assert (made.role, made.made_admin_by_id) == (Role.INSTRUCTOR, None)
        assert db.session.scalar(select(func.count(Session.id)).filter_by(user_id=made.id)) == 0
    assert theirs.get("/lms").status_code == 303
    moodle.launch(theirs, "ada", "geology")
    assert theirs.get("/lms").status_code == 403
    assert ({"role": "admin"}, {"role": "instructor"}) in recorded(app, "role.changed")


def test_the_last_admins_cannot_lose_it_by_a_switch(
    app: Flask, cast: Cast, moodle: Lms, browse: Browse
) -> None:
    theirs = browse(None)
    moodle.launch(theirs, "ada", "geology")
    with app.app_context():
        db.session.get_one(User, cast.ada).role = Role.STUDENT
        db.session.commit()
    for url in (f"/lms/{moodle.registration_id}/admins", f"/lms/{moodle.registration_id}/remove"):
        answer = theirs.post(url, {"on": "0"})
        assert answer.status_code == 409
        assert "Nobody would be left to manage this account" in answer.text
    assert theirs.get("/lms").status_code == 200


def test_assistants_are_read_anew_when_their_switch_turns(
    app: Flask, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    moodle.enroll("geology", "tess", ASSISTANT)
    moodle.launch(browse(None), "tess", "geology")

    def role() -> Role:
        with app.app_context():
            return db.session.scalars(select(Enrollment.role).filter_by(subject="4")).one()

    assert role() is Role.INSTRUCTOR
    ada.post(f"/lms/{moodle.registration_id}/assistants", {"on": "0"})
    assert role() is Role.STUDENT
    ada.post(f"/lms/{moodle.registration_id}/assistants", {"on": "1"})
    assert role() is Role.INSTRUCTOR


# --- letting go --------------------------------------------------------------------------


def test_removing_an_lms_says_what_happens_and_keeps_people_and_courses(
    app: Flask, moodle: Lms, ada: Browser, browse: Browse, work: Callable[[], None]
) -> None:
    ivan = browse(None)
    path = moodle.launch(ivan, "ivan", "geology").headers["Location"]
    ivan.post(f"{path}/roster/sync")
    work()
    asked = text_of(ada.get(f"/lms/{moodle.registration_id}/remove"))
    assert "Its enrollments in 1 course end" in asked
    assert "3 people and every course stay" in asked
    assert ada.post(f"/lms/{moodle.registration_id}/remove").status_code == 303
    with app.app_context():
        assert db.session.scalar(select(func.count(Connection.id))) == 0
        assert db.session.scalar(select(func.count(Tenancy.deployment_id))) == 0
        assert db.session.scalar(select(func.count(Identity.id))) == 3
        lms_ones = db.session.scalars(select(Enrollment).where(Enrollment.context_id.is_not(None))).all()
        assert lms_ones
        assert all(one.ended_at for one in lms_ones)
    assert ivan.get(path).status_code == 303
    assert moodle.launch(browse(None), "ivan", "geology").status_code == 403
    assert "No LMS connected yet" in text_of(ada.get("/lms"))


def test_connecting_it_again_brings_back_the_same_people(
    app: Flask, cast: Cast, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    moodle.launch(browse(None), "sam", "geology")
    ada.post(f"/lms/{moodle.registration_id}/remove")
    again = {
        "name": "Linden again",
        "issuer": moodle.issuer,
        "client_id": "doorlist-client",
        "auth_url": moodle.auth_url,
        "token_url": moodle.token_url,
        "jwks_url": moodle.jwks_url,
        "deployments": "1",
    }
    assert browse(cast.eve).post("/lms/connect", again).status_code == 422
    assert ada.post("/lms/connect", again).status_code == 303
    assert moodle.launch(browse(None), "sam", "geology").status_code == 303
    with app.app_context():
        assert len(db.session.scalars(select(User).filter_by(name="Sam Rivera")).all()) == 1
        assert db.session.scalars(select(Enrollment).filter_by(subject="5")).one().ended_at is None


def test_an_lms_that_nobody_ever_used_is_forgotten_whole(app: Flask, ada: Browser) -> None:
    ada.post("/lms/connect", VALUES)
    with app.app_context():
        registration_id = db.session.scalars(select(Registration.id)).one()
    ada.post(f"/lms/{registration_id}/remove")
    with app.app_context():
        assert db.session.scalar(select(func.count(Registration.id))) == 0


def test_a_registration_that_two_accounts_share_stays_for_the_other(
    app: Flask, cast: Cast, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    with app.app_context():
        other = db.session.get_one(accounts.Account, cast.other_account)
        registration = db.session.get_one(Registration, moodle.registration_id)
        accounts.approve(
            accounts.connect(other, registration), registrations.note_deployment(registration, "oak")
        )
        db.session.commit()
    ada.post(f"/lms/{moodle.registration_id}/remove")
    page = text_of(browse(cast.eve).get(f"/lms/{moodle.registration_id}"))
    assert "oak" in page
    assert "127.0.0.1" in page


def test_what_another_account_let_go_does_not_wait_for_this_ones_approval(
    app: Flask, cast: Cast, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    with app.app_context():
        other = db.session.get_one(accounts.Account, cast.other_account)
        registration = db.session.get_one(Registration, moodle.registration_id)
        connection = accounts.connect(other, registration)
        for one in ("oak", "never-launched"):
            accounts.approve(connection, registrations.note_deployment(registration, one))
        db.session.commit()
    assert moodle.launch(browse(None), "sam", "geology", deployment_id="oak").status_code == 303
    browse(cast.eve).post(f"/lms/{moodle.registration_id}/remove")
    assert "waits for your approval" not in text_of(ada.get("/lms"))
    # Nor when its people try again, or from another place of theirs.
    for one in ("oak", "oak-2"):
        assert moodle.launch(browse(None), "sam", "geology", deployment_id=one).status_code == 403
    assert "waits for your approval" not in text_of(ada.get("/lms"))
    with app.app_context():
        left = set(db.session.scalars(select(registrations.Deployment.deployment_id)))
        assert left == {"1", "oak", "oak-2"}
        waiting = db.session.scalar(select(registrations.Deployment.id).filter_by(deployment_id="oak"))
    assert ada.post(f"/lms/deployments/{waiting}/approve").status_code == 404


# --- the page and who may ----------------------------------------------------------------


def test_the_page_counts_courses_and_people(app: Flask, moodle: Lms, ada: Browser, browse: Browse) -> None:
    moodle.launch(browse(None), "sam", "geology")
    moodle.launch(browse(None), "sam", "statics")
    page = text_of(ada.get("/lms"))
    assert "Moodle" in page
    assert "2 courses · 1 person · last launch just now" in page
    ada.get("/lms")
    with counted(app) as statements:
        ada.get("/lms")
    assert len(statements) <= 10, "\n".join(statements)


def addresses(moodle: Lms, waiting: int) -> list[tuple[str, str]]:
    registration = moodle.registration_id
    return [
        ("POST", f"/lms/deployments/{waiting}/approve"),
        ("POST", f"/lms/deployments/{waiting}/refuse"),
        ("POST", f"/lms/{registration}/admins"),
        ("POST", f"/lms/{registration}/addresses"),
        ("POST", f"/lms/{registration}/assistants"),
        ("POST", f"/lms/{registration}/designers"),
        ("GET", f"/lms/{registration}/remove"),
        ("POST", f"/lms/{registration}/remove"),
    ]


def test_eve_of_another_account_finds_nothing(
    app: Flask, cast: Cast, moodle: Lms, waiting: int, browse: Browse
) -> None:
    eve = browse(cast.eve)
    for method, url in addresses(moodle, waiting):
        assert (eve.get(url) if method == "GET" else eve.post(url, {"on": "0"})).status_code == 404, url
    assert "No LMS connected yet" in text_of(eve.get("/lms"))
    assert tie_of(app, moodle).makes_admins


def test_only_admins_manage_the_lms(cast: Cast, moodle: Lms, waiting: int, browse: Browse) -> None:
    for who in (cast.ivan, cast.sam):
        browser = browse(who)
        for method, url in [("GET", "/lms"), ("GET", "/lms/connect"), *addresses(moodle, waiting)]:
            assert (browser.get(url) if method == "GET" else browser.post(url)).status_code == 403, url


def test_a_sync_after_the_lms_is_gone_says_so(
    app: Flask, moodle: Lms, ada: Browser, browse: Browse, work: Callable[[], None]
) -> None:
    path = moodle.launch(browse(None), "ivan", "geology").headers["Location"]
    ada.post(f"/lms/{moodle.registration_id}/remove")
    ada.post(f"{path}/roster/sync")
    work()
    assert "LMS is not connected any more, so nothing was changed." in text_of(ada.get(f"{path}/roster"))
    with app.app_context():
        run = syncs.latest_run(db.session.get_one(Course, int(path.rsplit("/", 1)[1])))
        assert run is not None
        assert run.error == "deployment_not_approved"
