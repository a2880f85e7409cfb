"""The integration doctor: what it finds at an LMS, in its words; refused launches; clocks; who may look."""

import json
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import TOOL, Browser, Cast, LiveServer, Lms, new_client, sign_in_token
from flask import Flask
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy import select
from test_accessibility import Look
from test_roster_page import counted, text_of

from lti_tool import jobs
from lti_tool.classroom import accounts, checkups, doctor, outcomes
from lti_tool.classroom.accounts import Connection, Role
from lti_tool.classroom.checkups import Checkup, Finding, Kind
from lti_tool.classroom.courses import Context
from lti_tool.classroom.outcomes import LaunchOutcome
from lti_tool.database import db
from lti_tool.lti import registrations
from lti_tool.lti.registrations import Registration
from lti_tool.pages import doctor_mends, doctor_words, visitor
from lti_tool.practice_lms.gradebook import GRADEBOOK_SCOPES, SCORES_SCOPE
from lti_tool.practice_lms.messages import MEMBERSHIPS_SCOPE

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
ALL_SCOPES = frozenset({MEMBERSHIPS_SCOPE}) | GRADEBOOK_SCOPES


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lti_tool.lti.services.BACKOFF", (0.0, 0.0))


@pytest.fixture
def ada(cast: Cast, browse: Browse) -> Browser:
    return browse(cast.ada)


@pytest.fixture
def moodle(cast: Cast, lms: Lms) -> Lms:
    """The practice LMS, after the cast made its account; every service is granted."""
    lms.platform.registration().scopes = ALL_SCOPES
    return lms


class Desk:
    """An admin at the LMS's page."""

    def __init__(self, lms: Lms, browser: Browser, work: Work) -> None:
        self.lms, self.browser, self.work = lms, browser, work
        self.path = f"/lms/{lms.registration_id}"

    def check(self) -> dict[str, str]:
        """Press Check again, wait; finding → kind."""
        asked = self.browser.post(f"{self.path}/check?whole=1")
        assert (asked.status_code, asked.headers["Location"]) == (303, self.path), asked.text
        self.work()
        return self.findings()

    def findings(self) -> dict[str, str]:
        kinds = {"added": "good", "skipped": "look", "ended": "mend"}
        found = re.findall(r'data-finding="(\w+)" data-sign="(\w+)"', self.browser.get(self.path).text)
        return {code: kinds[sign] for code, sign in found}

    @property
    def text(self) -> str:
        return text_of(self.browser.get(self.path))


@pytest.fixture
def desk(moodle: Lms, ada: Browser, work: Work) -> Desk:
    return Desk(moodle, ada, work)


def launch(app: Flask, lms: Lms, person: str = "ivan", course: str = "geology") -> str:
    """Somebody opens the course; the address where they arrive, or the code of the refusal."""
    answer = lms.launch(new_client(app), person, course)
    refused = re.search(r'data-error="([^"]*)"', answer.text)
    return refused[1] if refused else str(answer.headers["Location"])


# --- the check ---------------------------------------------------------------------------


def test_an_lms_that_is_well_is_said_to_be(app: Flask, desk: Desk) -> None:
    assert "Not checked yet" in text_of(desk.browser.get("/lms"))
    course = launch(app, desk.lms)
    teacher = new_client(app)
    desk.lms.launch(teacher, "ivan", "geology")
    Browser(teacher).post(f"{course}/roster/sync")
    assert desk.check() == {
        "keys_good": "good",
        "token_good": "good",
        "roster_service_good": "good",
        "grades_good": "good",
        "clock_good": "good",
        "rosters_good": "good",
        "people_told": "good",
    }
    overview = desk.browser.get("/lms")
    assert 'data-lamp="open"' in overview.text
    assert "All well" in text_of(overview)
    # Nothing to read where all is well.
    assert "data-finding" not in overview.text
    # What a roster does not say is missing, though we know it from before.
    desk.lms.platform.registration().emails = False
    Browser(teacher).post(f"{course}/roster/sync")
    assert desk.check()["emails_withheld"] == "mend"
    assert "3 of 3 people came without." in desk.text


def test_what_is_wrong_is_named_with_the_mend_in_the_lms_own_words(app: Flask, desk: Desk) -> None:
    platform = desk.lms.platform
    tool = platform.registration()
    tool.scopes, tool.names, tool.emails = frozenset({SCORES_SCOPE}), False, False
    launch(app, desk.lms)
    platform.faults.jwks = "503"
    found = desk.check()
    assert found["keys_unavailable"] == found["roster_scope_missing"] == "mend"
    assert found["names_withheld"] == found["emails_withheld"] == "mend"
    assert found["grades_scope_missing"] == "look"
    assert "roster_service_good" not in found
    said = desk.text
    assert "The grades service is only half on" in said
    assert "It answered with status 503." in said
    assert "Manage tools › Doorlist › Edit. Services › “IMS LTI Names and Role Provisioning”" in said
    assert "Privacy › “Share launcher’s email with tool”: Always." in said
    overview = desk.browser.get("/lms")
    assert "4 things to mend" in text_of(overview)
    assert 'data-lamp="wait"' in overview.text
    # What goes to the LMS's admin names the tool and nobody.
    letter = re.search(r'<pre[^>]*emails_withheld">([^<]*)</pre>', overview.text)
    assert letter
    assert "doorlist-client" in letter[1]
    assert f"{TOOL}/lti/jwks.json" in letter[1]
    assert "Ivan" not in letter[1]
    # Canvas has other menus for the same.
    with app.app_context():
        registration = db.session.get_one(Registration, desk.lms.registration_id)
        registration.family = "canvas"
        db.session.commit()
    assert "Additional Settings › “Privacy Level”: Public" in desk.text
    assert "Canvas withholds e-mail addresses" in desk.text


@pytest.mark.parametrize(
    ("token", "code", "said"),
    [
        ("500", "token_unavailable", "token service does not answer"),
        ("html", "token_unavailable", "It sent a web page"),
        ("client", "token_refused", "does not know this client or cannot confirm our signature"),
        ("401", "token_refused", "It answered with status 401."),
    ],
)
def test_a_token_that_does_not_come_is_named_with_the_platforms_reason(
    app: Flask, desk: Desk, token: str, code: str, said: str
) -> None:
    if token == "client":
        desk.lms.platform.registration().jwks = lambda: {"keys": []}
    else:
        desk.lms.platform.faults.token = token
    found = desk.check()
    assert found[code] == "mend"
    assert "grades_good" not in found
    assert said in desk.text


def test_a_gradebook_that_fails_and_short_keys_are_named(app: Flask, desk: Desk) -> None:
    launch(app, desk.lms)
    desk.lms.platform.faults.grades = "500"
    assert desk.check()["grades_failed"] == "look"
    assert "Attendance cannot go there." in desk.text
    desk.lms.platform.faults.grades = "foreign_next"
    assert desk.check()["grades_failed"] == "look"
    assert "another host, which never gets our access token" in desk.text


def test_rosters_that_failed_wait_or_grew_old_are_named_with_their_courses(
    app: Flask, desk: Desk, browse: Browse, move_clock: Callable[[timedelta], None]
) -> None:
    teacher = browse(None)
    paths = {}
    for course in ("geology", "statics"):
        paths[course] = desk.lms.launch(teacher, "ivan", course).headers["Location"]
        teacher.post(f"{paths[course]}/roster/sync")
    desk.work()
    launch(app, desk.lms, "ivan", "big")
    desk.lms.platform.faults.roster = "403"
    teacher = browse(None)
    desk.lms.launch(teacher, "ivan", "geology")
    teacher.post(f"{paths['geology']}/roster/sync")
    desk.work()
    move_clock(timedelta(hours=25))
    desk.lms.platform.clock_offset = 25 * 3600
    # The browser's session ended meanwhile.
    desk.browser = browse(app_admin(app))
    found = desk.check()
    assert (found["rosters_failed"], found["rosters_old"], found["rosters_never"]) == ("mend", "look", "look")
    page = desk.browser.get(desk.path)
    assert "1 roster could not be read" in text_of(page)
    failed = page.text.split('data-finding="rosters_failed"')[1].split("</li>")[0]
    assert f'href="{paths["geology"]}/roster"' in failed
    assert "GEO201" in failed
    assert "Doorlist may have been removed from the course" in text_of(page)
    assert "never" in text_of(page)


def app_admin(app: Flask) -> int:
    with app.app_context():
        return db.session.scalars(select(accounts.User.id).filter_by(name="Ada Okonkwo")).one()


def test_a_deployment_that_waits_and_our_own_key_are_found_too(app: Flask, desk: Desk) -> None:
    with app.app_context():
        registrations.note_deployment_id(desk.lms.registration_id, "summer", "Summer School")
        db.session.commit()
    app.config["SECRET_KEY"] = "another secret that is long enough to start with"
    with app.app_context():
        connection = db.session.scalars(select(Connection)).one()
        found = {one.code: one for one in jobs.examine(connection)}
        assert found["deployments_waiting"].facts == {"count": 1}
        said = doctor_words.say(found["own_key_unreadable"], connection.registration)
    assert "keys rotate" in said.mend
    assert said.copy == ""


def test_a_page_waits_without_asking_the_network_itself(
    app: Flask, desk: Desk, move_clock: Callable[[timedelta], None]
) -> None:
    fragment = {"HX-Request": "true"}
    asked = desk.browser.post(f"{desk.path}/check", headers=fragment)
    assert desk.lms.platform.requests_to("/jwks.json") == []
    assert 'hx-trigger="every 1s"' in asked.text
    assert "The check is waiting for its turn" in text_of(asked)
    assert "<html" not in asked.text
    assert "HX-Request" in asked.headers["Vary"]
    assert (
        desk.browser.get(f"{desk.path}/checkup")
        .headers["Location"]
        .endswith(f"/lms#lms-{desk.lms.registration_id}")
    )
    with app.app_context():
        # A worker takes it and dies; another takes over, three times, then that is said.
        for attempt in range(1, 5):
            claimed = checkups.claim_next()
            assert claimed is not None
            assert claimed.attempts == attempt
            db.session.commit()
            assert checkups.claim_next() is None
            db.session.commit()
            assert "Asking for its keys" in text_of(
                desk.browser.get(f"{desk.path}/checkup", headers=fragment)
            )
            move_clock(checkups.SILENT_AFTER + timedelta(seconds=1))
            desk.lms.platform.clock_offset += checkups.SILENT_AFTER.total_seconds() + 1
    desk.work()
    ended = desk.browser.get(f"{desk.path}/checkup", headers=fragment)
    assert 'hx-trigger="every 1s"' not in ended.text
    assert 'hx-swap-oob="true"' in ended.text
    assert "The check did not finish" in text_of(ended)
    # A second press while one waits changes nothing; the next check is a whole one again.
    desk.browser.post(f"{desk.path}/check")
    desk.browser.post(f"{desk.path}/check")
    desk.work()
    assert desk.findings()["token_good"] == "good"


def test_what_launches_is_checked_after_its_first_launch_and_every_day(
    app: Flask, desk: Desk, move_clock: Callable[[timedelta], None]
) -> None:
    def queued() -> list[str]:
        with app.app_context():
            checkups.ask_due()
            db.session.commit()
            return [str(one.state) for one in db.session.scalars(select(Checkup))]

    assert queued() == []
    desk.check()
    assert queued() == ["done"]
    launch(app, desk.lms)
    assert queued() == ["queued"]
    desk.work()
    assert queued() == ["done"]
    move_clock(checkups.EVERY + timedelta(minutes=1))
    assert queued() == ["queued"]


def test_an_operator_checks_on_the_command_line(app: Flask, cast: Cast, moodle: Lms) -> None:
    run = app.test_cli_runner().invoke
    answer = run(args=["registration", "check", str(moodle.registration_id), "--json"])
    assert answer.exit_code == 0, answer.output
    rows = json.loads(answer.stdout)
    assert {row["code"] for row in rows} >= {"keys_good", "token_good", "nobody_launched"}
    assert set(rows[0]) >= {"registration", "account", "kind", "code", "title", "text", "mend", "facts"}
    assert len(json.loads(run(args=["registration", "check", "--json"]).stdout)) == len(rows)
    with app.app_context():
        assert len(db.session.scalars(select(Checkup)).one().findings) == len(rows)
    refused = run(args=["registration", "check", "77"])
    assert (refused.exit_code, refused.stdout) == (1, "")


CODES = sorted(set(re.findall(r'Finding\("(\w+)"', __import__("inspect").getsource(doctor))) | {"check_lost"})


def test_every_finding_has_its_words() -> None:
    assert len(CODES) > 20
    for code in [*CODES, "names_withheld", "emails_withheld", "names_some_missing", "emails_some_missing"]:
        assert code in doctor_words._FINDINGS, code
    for code in doctor_mends.THEIRS:
        assert code in doctor_words._FINDINGS, code


def test_a_finding_of_another_release_shows_its_code(app: Flask, moodle: Lms) -> None:
    with app.app_context():
        registration = db.session.get_one(Registration, moodle.registration_id)
        said = doctor_words.say(Finding("found_later", Kind.LOOK), registration)
    assert (said.title, said.text, said.copy) == ("found_later", "", "")


# --- clocks ------------------------------------------------------------------------------


def test_a_clock_that_is_off_is_said_with_its_seconds(
    app: Flask, desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("doorlist")
    monkeypatch.setattr(log, "propagate", True)
    log.setLevel("INFO")
    desk.lms.platform.clock_offset = 94
    with caplog.at_level("INFO", logger="doorlist"):
        refused = desk.lms.launch(new_client(app), "sam", "geology")
    assert 'data-error="token_early"' in refused.text
    said = re.search(r"The LMS’s clock is (\d+) seconds ahead of ours\.", text_of(refused))
    assert said
    assert 92 <= int(said[1]) <= 95
    facts = [record.facts for record in caplog.records if record.message == "launch_refused"]  # type: ignore[attr-defined]
    assert 91 < facts[0]["clock_offset"] < 95
    desk.lms.platform.clock_offset = -200
    refused = desk.lms.launch(new_client(app), "sam", "geology")
    assert 'data-error="token_expired"' in refused.text
    assert "The LMS’s clock is 3 minutes behind ours." in text_of(refused)
    found = desk.check()
    assert found["refusals"] == "look"
    page = desk.text
    assert "token_early iat" in page
    assert "minutes behind ours" in page
    # The keys are not to blame for what the clock does.
    assert found["clock_off"] == "mend"
    assert "token_refused" not in found
    assert found["token_waits_for_clock"] == "look"
    assert "Mend the clock first, then check again." in page
    assert "public keyset URL" not in page
    # Mended: the next launch shows it.
    desk.lms.platform.clock_offset = 20
    assert launch(app, desk.lms).startswith("/courses/")
    found = desk.check()
    assert "clock_off" not in found
    assert found["clock_drifts"] == "look"


def test_a_launch_that_arrives_writes_no_more_for_all_this(
    app: Flask, moodle: Lms, move_clock: Callable[[timedelta], None]
) -> None:
    launch(app, moodle)
    with counted(app) as statements:
        launch(app, moodle)
    writes = [s for s in statements if s.lstrip().upper().startswith(("UPDATE", "INSERT", "DELETE"))]
    # The nonce and the session.
    assert len(writes) == 2, "\n".join(writes)
    with app.app_context():
        assert db.session.scalars(select(LaunchOutcome)).all() == []
        registration = db.session.get_one(Registration, moodle.registration_id)
        assert abs(registration.clock_offset or 0) < 2
    # A clock that moved is noted a minute later, not with every launch.
    moodle.platform.clock_offset = 15
    with counted(app) as statements:
        launch(app, moodle)
    assert not [s for s in statements if s.startswith("UPDATE registration")]
    move_clock(timedelta(seconds=61))
    moodle.platform.clock_offset = 76
    with counted(app) as statements:
        launch(app, moodle)
    assert len([s for s in statements if s.startswith("UPDATE registration")]) == 1
    with app.app_context():
        registration = db.session.get_one(Registration, moodle.registration_id)
        assert 12 < (registration.clock_offset or 0) < 16


def test_where_the_gradebook_is_comes_with_the_launch(app: Flask, moodle: Lms) -> None:
    launch(app, moodle)
    with app.app_context():
        context = db.session.scalars(select(Context)).one()
        assert context.lineitems_url == f"{moodle.platform.server_url}/courses/2/lineitems?type_id=1"
        assert context.lineitem_url == ""
        assert context.service_scopes == sorted(GRADEBOOK_SCOPES)
    moodle.platform.registration().scopes = frozenset({MEMBERSHIPS_SCOPE})
    launch(app, moodle)
    with app.app_context():
        context = db.session.scalars(select(Context)).one()
        assert (context.lineitems_url, context.service_scopes) == ("", None)


# --- refused launches --------------------------------------------------------------------


def rows(app: Flask) -> list[tuple[str, str, str, int]]:
    with app.app_context():
        found = db.session.scalars(select(LaunchOutcome).order_by(LaunchOutcome.id))
        return [(one.deployment_id, one.code, one.detail, one.times) for one in found]


def state_of(lms: Lms, client: Any) -> str:
    begun = client.post("/lti/login", data=lms.platform.login_parameters("sam", "geology"))
    found = re.search(r"state=([a-z2-7]+)", begun.text)
    assert found
    return found[1]


def test_refusals_are_counted_and_nothing_of_an_attack_is_kept(app: Flask, moodle: Lms, desk: Desk) -> None:
    client = new_client(app)
    token = moodle.platform.sign(moodle.platform.claims("sam", "geology", nonce="<script>evil"))
    for _ in range(3):
        client.post("/lti/launch", data={"state": state_of(moodle, client), "id_token": token})
    for error in ("drop_table_users", "server_error"):
        client.post("/lti/launch", data={"state": state_of(moodle, client), "error": error})
    # Nobody knows whose these are.
    client.post("/lti/launch", data={"state": "evil", "id_token": token})
    client.post("/lti/launch", data={"error": "evil"})
    assert rows(app) == [
        ("", "nonce_wrong", "", 3),
        ("", "platform_error", "", 1),
        ("", "platform_error", "server_error", 1),
    ]
    page = desk.text
    assert "nonce_wrongnot known3" in page
    assert "This did not come from your LMS" in page
    assert "evil" not in page


def test_a_flood_of_forgeries_writes_a_few_rows_a_minute(app: Flask, moodle: Lms) -> None:
    client = new_client(app)
    state = state_of(moodle, client)
    with counted(app) as statements:
        for _ in range(outcomes.MOST_OF_ONE + 8):
            client.post("/lti/launch", data={"state": state, "id_token": "a.b.c"})
    assert len([s for s in statements if s.startswith("INSERT INTO launch_outcome")]) == outcomes.MOST_OF_ONE
    assert [row[3] for row in rows(app)] == [outcomes.MOST_OF_ONE]
    with app.app_context():
        for number in range(outcomes.KEPT + 5):
            app.extensions["launch_outcomes"].written.clear()
            outcomes.note(moodle.registration_id, "1", "claim_malformed", f"claim {number}")
        db.session.commit()
        kept = [one.detail for one in db.session.scalars(select(LaunchOutcome))]
    assert len(kept) == outcomes.KEPT
    assert f"claim {outcomes.KEPT + 4}" in kept
    assert "claim 0" not in kept


def test_launches_that_hold_but_may_not_come_in_are_noted(app: Flask, cast: Cast, moodle: Lms) -> None:
    moodle.connect_tool(
        "doorlist-client",
        ("1", "summer"),
        login_url=f"{TOOL}/lti/login",
        launch_url=f"{TOOL}/lti/launch",
        jwks=moodle.platform.registration().jwks,
    )
    client = new_client(app)
    moodle.launch(client, "sam", "geology", deployment_id="summer")
    moodle.launch(client, "sam", "geology", claims={"context": None})
    moodle.launch(
        client,
        "sam",
        "geology",
        claims={"roles": ["http://purl.imsglobal.org/vocab/lis/v2/institution/person#Student"]},
    )
    assert rows(app) == [
        ("summer", "deployment_pending", "", 1),
        ("1", "context_missing", "", 1),
        ("1", "no_course_role", "", 1),
    ]


def test_of_a_shared_registration_each_account_sees_its_own_deployments(
    app: Flask, cast: Cast, moodle: Lms, ada: Browser, browse: Browse
) -> None:
    with app.app_context():
        other = db.session.get_one(accounts.Account, cast.other_account)
        registration = db.session.get_one(Registration, moodle.registration_id)
        accounts.approve(
            accounts.connect(other, registration), registrations.note_deployment(registration, "oak")
        )
        outcomes.note(registration.id, "1", "target_wrong")
        outcomes.note(registration.id, "oak", "roles_malformed")
        outcomes.note(registration.id, "", "nonce_wrong")
        db.session.commit()
    path = f"/lms/{moodle.registration_id}"
    ours, theirs = text_of(ada.get(path)), text_of(browse(cast.eve).get(path))
    assert "target_wrong" in ours
    assert "target_wrong" not in theirs
    assert "roles_malformed" in theirs
    assert "roles_malformed" not in ours
    assert "nonce_wrong" not in ours + theirs


# --- who may -----------------------------------------------------------------------------


def test_only_the_accounts_own_admins_look_at_its_lms(cast: Cast, moodle: Lms, browse: Browse) -> None:
    path = f"/lms/{moodle.registration_id}"
    for person, status in ((cast.eve, 404), (cast.ivan, 403), (cast.sam, 403)):
        browser = browse(person)
        assert browser.get(path).status_code == status
        assert browser.get(f"{path}/checkup").status_code == status
        assert browser.post(f"{path}/check").status_code == status
    assert browse(None).get(path).status_code == 303


def test_checks_are_asked_for_only_so_often(
    app: Flask, cast: Cast, moodle: Lms, browse: Browse, ada: Browser
) -> None:
    app.config["LIMIT_CHECK"] = "2 per minute"
    path = f"/lms/{moodle.registration_id}/check"
    assert [ada.post(path).status_code for _ in range(3)] == [303, 303, 429]
    # The account's, whichever of its admins asks; another account has a count of its own.
    with app.app_context():
        db.session.get_one(accounts.User, cast.ivan).role = Role.ADMIN
        registration = db.session.get_one(Registration, moodle.registration_id)
        accounts.connect(db.session.get_one(accounts.Account, cast.other_account), registration)
        db.session.commit()
    assert browse(cast.ivan).post(path).status_code == 429
    assert browse(cast.eve).post(path).status_code == 303


def test_the_pages_take_few_statements_however_much_there_is(app: Flask, desk: Desk) -> None:
    for course in ("geology", "statics", "big"):
        launch(app, desk.lms, "ivan", course)
    with app.app_context():
        for number in range(20):
            app.extensions["launch_outcomes"] = outcomes._Minute()
            outcomes.note(desk.lms.registration_id, "1", "claim_malformed", f"claim {number}")
        db.session.commit()
    desk.check()
    for path in ("/lms", desk.path):
        with counted(app) as statements:
            assert desk.browser.get(path).status_code == 200
        assert len(statements) <= 10, "\n".join(statements)


# --- in a browser ------------------------------------------------------------------------


def test_a_check_shows_what_it_finds_by_itself(
    server: LiveServer,
    cast: Cast,
    moodle: Lms,
    chromium: Callable[..., WebDriver],
    shot: Callable[[WebDriver, str], None],
) -> None:
    app = server.app
    driver = chromium()
    look = Look(driver)
    driver.get(server.url + "/sign-in")
    # As signing in would have set it, but over plain http.
    driver.add_cookie(
        {"name": visitor.OWN_COOKIE, "value": sign_in_token(app, cast.ada), "path": "/", "secure": True}
    )
    tool = moodle.platform.registration()
    tool.emails, tool.launch_url = False, f"{server.url}/lti/launch"
    tool.redirect_uris = (tool.launch_url,)
    launch(app, moodle)
    moodle.platform.clock_offset = 94
    launch(app, moodle)
    driver.get(server.url + "/lms")
    driver.find_element("css selector", "button[id^=check-]").click()
    wait = WebDriverWait(driver, 20)
    wait.until(lambda d: d.find_elements("css selector", "[data-finding=emails_withheld]"))
    wait.until(lambda d: "to mend" in d.find_element("css selector", ".lamp").text)
    assert driver.find_elements("css selector", "[aria-busy=true]") == []
    # The keyboard is where it was.
    assert driver.switch_to.active_element.get_attribute("id").startswith("check-")
    driver.find_element("css selector", "[data-finding=emails_withheld] summary").click()
    assert "doorlist-client" in driver.find_element("css selector", "pre[id$=emails_withheld]").text
    look.at("the LMS page with findings")
    shot(driver, "lms-doctor")
    driver.find_element("css selector", f"a[href='/lms/{moodle.registration_id}']").click()
    wait.until(lambda d: d.find_elements("css selector", "#refused"))
    look.at("the page of one LMS")
    shot(driver, "lms-details")
    assert look.wrong == []
