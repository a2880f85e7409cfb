"""The roster page: how it stands with the LMS, receipts, the list of people, and who may see them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Browser, Cast, LiveServer, Lms, sign_in_token
from flask import Flask
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from lti_tool.classroom import accounts, courses, syncs
from lti_tool.classroom.accounts import Role
from lti_tool.classroom.courses import Course, Enrollment, Source
from lti_tool.database import db, now
from lti_tool.pages import visitor
from lti_tool.practice_lms import Person

Browse = Callable[[int | None], Browser]
Work = Callable[[], None]
FRAGMENT = {"HX-Request": "true", "HX-Target": "sync"}


class RosterPage:
    """A course of the practice LMS, in the browser of its teacher."""

    def __init__(self, lms: Lms, browser: Browser, course: str, person: str, work: Work) -> None:
        self.lms, self.browser, self.slug, self.work = lms, browser, course, work
        self.path = str(lms.launch(browser, person, course).headers["Location"])
        self.course_id = int(self.path.rsplit("/", 1)[1])
        self.roster = f"{self.path}/roster"

    def show(self, query: str = "") -> TestResponse:
        return self.browser.get(self.roster + query)

    def sync(self) -> TestResponse:
        """Press Sync now, wait, look."""
        asked = self.browser.post(f"{self.roster}/sync")
        assert asked.status_code == 303, asked.text
        assert asked.headers["Location"] == self.roster
        self.work()
        return self.show()

    def deed(self, name: str) -> str:
        """The address behind one of the sheet's buttons."""
        found = re.search(rf'action="({re.escape(self.roster)}/syncs/\d+/{name})"', self.show().text)
        assert found, self.show().text
        return found[1]


@pytest.fixture
def geology(cast: Cast, lms: Lms, browse: Browse, work: Work) -> RosterPage:
    return RosterPage(lms, browse(None), "geology", "ivan", work)


@pytest.fixture
def statics(cast: Cast, lms: Lms, browse: Browse, work: Work) -> RosterPage:
    """40 people, with a teacher of theirs."""
    return RosterPage(lms, browse(None), "statics", "designer", work)


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """The statements sent meanwhile."""
    seen: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            seen.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", listen)


def text_of(page: TestResponse) -> str:
    """What a person reads, in one line."""
    without = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page.text, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", without))


def test_a_roster_that_was_never_synced_says_so(geology: RosterPage) -> None:
    said = text_of(geology.show())
    assert "Never synced with Moodle" in said
    assert "Sync now" in said


def test_a_sync_shows_its_receipt_and_everybody(geology: RosterPage) -> None:
    said = text_of(geology.sync())
    assert "In step with Moodle" in said
    assert "Tess Okafor and Sam Rivera as students" in said
    assert "took" in said
    assert "for 3 members" in said
    assert said.index("Ivan Petrov")
    assert "In the course" in said


def test_a_roster_of_2000_from_the_course_page_with_progress_and_a_receipt(
    app: Flask, cast: Cast, lms: Lms, browse: Browse, work: Work
) -> None:
    big = RosterPage(lms, browse(None), "big", "tess", work)
    tile = {"HX-Request": "true", "HX-Target": "roster-tile"}
    started = big.browser.post(f"{big.roster}/sync", headers=tile)
    assert 'hx-trigger="every 1s"' in started.text
    assert 'id="roster-tile"' in started.text
    assert "until the whole list is here" in text_of(started)
    assert big.browser.get(f"{big.roster}/tile", headers=tile).status_code == 200
    work()
    done = big.browser.get(f"{big.roster}/tile", headers=tile)
    assert done.status_code == 286
    assert "2,000 people, in step with Moodle" in text_of(done)
    assert "1,999 added" in text_of(done) or "1999 added" in text_of(done)
    with counted(app) as statements:
        page = big.show()
    assert len(statements) <= 10, "\n".join(statements)
    assert "See all 1,99" in page.text
    assert len(page.data) < 100_000
    said = text_of(big.sync())
    assert "nothing was different" in said


def test_while_a_sync_is_under_way_the_page_asks_again_and_then_stops(geology: RosterPage) -> None:
    started = geology.browser.post(f"{geology.roster}/sync", headers=FRAGMENT)
    poll = re.search(r'hx-get="([^"]+/syncs/\d+)" hx-trigger="every 1s"', started.text)
    assert poll, started.text
    assert '<noscript><meta http-equiv="refresh"' in geology.show().text
    waiting = geology.browser.get(poll[1], headers=FRAGMENT)
    assert waiting.status_code == 200
    assert "every 1s" in waiting.text
    geology.work()
    done = geology.browser.get(poll[1], headers=FRAGMENT)
    assert done.status_code == 286
    assert "every 1s" not in done.text
    assert done.headers["HX-Trigger"] == "roster-changed"
    assert "HX-Request" in done.headers["Vary"]
    assert "In step with Moodle" in text_of(done)


def test_sync_now_twice_is_one_sync(app: Flask, geology: RosterPage) -> None:
    geology.browser.post(f"{geology.roster}/sync")
    geology.browser.post(f"{geology.roster}/sync")
    geology.work()
    with app.app_context():
        course = db.session.get_one(Course, geology.course_id)
        assert len(syncs.earlier_runs(course)) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", "Moodle did not answer, so nothing was changed."),
        ("half", "Page 2 of the list ended in a fault of its own (500), three times."),
        ("endless", "The list has no end: there was always one more page."),
        ("html", "It sent a web page instead of a list"),
        ("403", "Doorlist may not read this course’s list (403)"),
    ],
)
def test_a_failed_sync_changes_nothing_and_says_why(
    app: Flask, statics: RosterPage, fault: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lti_tool.lti.services.BACKOFF", (0.0, 0.0))
    app.config["ROSTER_MAX_PAGES"] = 5
    assert "In step with Moodle" in text_of(statics.sync())
    statics.lms.withdraw("statics", "nobody")
    statics.lms.faults.roster = fault
    page = text_of(statics.sync())
    assert said in page
    assert "so nothing was changed" in page
    assert "stays in force" in page
    assert "Try now" in page
    assert re.search(r"R-\d+-[a-z_]+", page)
    tile = text_of(statics.browser.get(statics.path))
    assert "so nothing was changed" in tile
    statics.lms.faults.clear()
    assert "Moodle user 7 is no longer in the course" in text_of(statics.sync())


def test_somebody_gone_is_named_and_stands_at_the_end_of_the_list(geology: RosterPage) -> None:
    geology.sync()
    geology.lms.withdraw("geology", "sam")
    said = text_of(geology.sync())
    assert "Sam Rivera is no longer in the course" in said
    assert said.rindex("Sam Rivera") > said.rindex("Tess Okafor")
    assert "Ended" in said


def test_skipped_members_are_named_with_the_reason(geology: RosterPage) -> None:
    geology.lms.enroll("geology", "ada", "administrator")
    geology.lms.enroll("geology", "nobody", "student", status="Inactive")
    said = text_of(geology.sync())
    assert "Ada Lindqvist has no role in this course" in said
    assert "Sent only person#Administrator" in said
    assert "Moodle user 7 is not active in the course" in said


def test_a_changed_role_is_shown_with_what_the_lms_sends(geology: RosterPage) -> None:
    geology.sync()
    geology.lms.enroll("geology", "sam", "instructor")
    said = text_of(geology.sync())
    assert re.search(r"Sam Rivera student → ?is now instructor", said)
    assert "Moodle now sends Instructor" in said


def test_two_roles_that_disagree_are_shown(geology: RosterPage) -> None:
    geology.lms.launch(geology.browser, "tess", "geology")
    geology.sync()
    said = text_of(geology.show())
    assert "Two roles disagree" in said
    assert "Instructor at launch, Student in the list; the higher counts" in said


# --- brake and undo ----------------------------------------------------------------------


@pytest.fixture
def held(geology: RosterPage) -> RosterPage:
    for number in range(5000, 5030):
        person = Person(str(number), f"s{number}", "Student", f"No{number}")
        geology.lms.enroll("geology", person, "student")
    geology.sync()
    for number in range(5000, 5031 - 1):
        geology.lms.withdraw("geology", str(number))
    geology.sync()
    return geology


def test_a_sync_that_would_end_many_asks_and_names_them(held: RosterPage) -> None:
    said = text_of(held.show())
    assert "This sync would remove 30 of 33 people, so it waits for your yes." in said
    assert "Yes, end 30 enrollments" in said
    assert "No, keep the roster as it is" in said
    assert "and 25 more" in said
    assert "See all 30" in said
    assert "A sync waits for your answer" in text_of(held.browser.get(held.path))
    everybody = re.search(r'href="([^"]+/ended)"', held.show().text)
    assert everybody
    assert "Student No5029" in text_of(held.browser.get(everybody[1]))


def test_yes_ends_them_and_undo_brings_them_back(held: RosterPage) -> None:
    assert held.browser.post(held.deed("yes")).status_code == 303
    held.work()
    said = text_of(held.show())
    assert "In step with Moodle" in said
    assert "and 25 more are no longer in the course" in said
    undo = held.deed("undo")
    assert held.browser.post(undo).status_code == 303
    said = text_of(held.show())
    assert "Sync undone" in said
    assert "brought back" in said
    assert "Student No5000" in said
    assert held.browser.post(undo).status_code == 409


def test_no_keeps_the_roster(held: RosterPage) -> None:
    yes = held.deed("yes")
    answer = held.browser.post(held.deed("no"), headers=FRAGMENT)
    assert answer.status_code == 200
    assert "The roster was kept as it is" in text_of(answer)
    assert held.browser.post(yes).status_code == 409


# --- the list ----------------------------------------------------------------------------


def fill(app: Flask, course_id: int, many: int) -> None:
    with app.app_context():
        course = db.session.get_one(Course, course_id)
        for number in range(many):
            user = accounts.add_user(course.account_id, name=f"Person {number:04}")
            db.session.add(
                Enrollment(
                    account_id=course.account_id,
                    course_id=course_id,
                    user_id=user.id,
                    role=Role.STUDENT,
                    source=Source.MANUAL,
                    ended_at=now() if number % 10 == 0 else None,
                )
            )
        db.session.commit()


def test_the_pages_of_the_list_hold_everybody_once_and_lead_back(
    app: Flask, cast: Cast, browse: Browse
) -> None:
    fill(app, cast.statics, 130)
    ada = browse(cast.ada)
    url: str | None = f"/courses/{cast.statics}/roster"
    seen: list[str] = []
    pages: list[str] = []
    while url:
        page = ada.get(url).text
        pages.append(url)
        seen += re.findall(r'<bdi class="name clip">([^<]+)</bdi>', page)
        found = re.search(r'href="([^"]+)"[^>]*aria-label="Next page"', page)
        url = found[1].replace("&amp;", "&") if found else None
    assert len(seen) == len(set(seen)) == 131
    assert seen[0] == "Ivan Petrović"
    assert seen[-13:] == sorted(seen[-13:])
    assert all(name.endswith("0") for name in seen[-13:])
    last = ada.get(pages[-1]).text
    found = re.search(r'href="([^"]+)"[^>]*aria-label="Previous page"', last)
    assert found
    back = re.findall(r'<bdi class="name clip">([^<]+)</bdi>', ada.get(found[1].replace("&amp;", "&")).text)
    assert back == seen[100:125]


def test_the_list_is_searched_by_name_and_address_without_accents(cast: Cast, browse: Browse) -> None:
    ada = browse(cast.ada)
    part = {"HX-Request": "true", "HX-Target": "people"}
    found = ada.get(f"/courses/{cast.geology}/roster?q=petrovic", headers=part)
    assert "Ivan Petrović" in found.text
    assert "Sam Whitfield" not in found.text
    assert "<html" not in found.text
    assert "Sam Whitfield" in ada.get(f"/courses/{cast.geology}/roster?q=SAM@").text
    assert "Nobody called “zz”" in ada.get(f"/courses/{cast.geology}/roster?q=zz").text


def test_a_page_takes_at_most_ten_statements(app: Flask, cast: Cast, browse: Browse) -> None:
    fill(app, cast.geology, 60)
    for who in (cast.ada, cast.ivan):
        browser = browse(who)
        browser.get(f"/courses/{cast.geology}/roster")
        with counted(app) as statements:
            assert browser.get(f"/courses/{cast.geology}/roster").status_code == 200
        assert len(statements) <= 10, "\n".join(statements)


def test_names_are_text_and_not_markup(app: Flask, cast: Cast, browse: Browse) -> None:
    with app.app_context():
        sam = db.session.get_one(accounts.User, cast.sam)
        accounts.rename(sam, name="<img src=x onerror=alert(1)>", email=sam.email)
        db.session.commit()
    page = browse(cast.ada).get(f"/courses/{cast.geology}/roster")
    assert "<img" not in page.text
    assert "&lt;img" in page.text


# --- who may -----------------------------------------------------------------------------


def roster_addresses(course_id: int, run_id: int) -> list[tuple[str, str]]:
    roster = f"/courses/{course_id}/roster"
    return [
        ("GET", roster),
        ("GET", f"{roster}/tile"),
        ("GET", f"{roster}/syncs"),
        ("GET", f"{roster}/syncs/{run_id}"),
        ("GET", f"{roster}/syncs/{run_id}/added"),
        ("POST", f"{roster}/sync"),
        ("POST", f"{roster}/syncs/{run_id}/yes"),
        ("POST", f"{roster}/syncs/{run_id}/no"),
        ("POST", f"{roster}/syncs/{run_id}/undo"),
    ]


def test_eve_of_another_account_finds_nothing(geology: RosterPage, cast: Cast, browse: Browse) -> None:
    geology.sync()
    eve = browse(cast.eve)
    for method, url in roster_addresses(geology.course_id, 1):
        answer = eve.get(url) if method == "GET" else eve.post(url)
        assert answer.status_code == 404, url


def test_a_student_may_not_and_a_stranger_of_the_account_finds_nothing(cast: Cast, browse: Browse) -> None:
    sam = browse(cast.sam)
    for method, url in roster_addresses(cast.geology, 1):
        assert (sam.get(url) if method == "GET" else sam.post(url)).status_code == 403, url
    for method, url in roster_addresses(cast.statics, 1):
        assert (sam.get(url) if method == "GET" else sam.post(url)).status_code == 404, url
    assert browse(None).get(f"/courses/{cast.geology}/roster").status_code == 303


def test_a_sync_of_another_course_is_not_found(geology: RosterPage, cast: Cast, browse: Browse) -> None:
    geology.sync()
    ada = browse(cast.ada)
    roster = f"/courses/{cast.statics}/roster"
    for url in (f"{roster}/syncs/1", f"{roster}/syncs/1/added"):
        assert ada.get(url).status_code == 404
    for deed in ("yes", "no", "undo"):
        assert ada.post(f"{roster}/syncs/1/{deed}").status_code == 404


def test_a_course_from_no_lms_says_so_and_cannot_be_synced(cast: Cast, browse: Browse) -> None:
    ivan = browse(cast.ivan)
    page = text_of(ivan.get(f"/courses/{cast.geology}/roster"))
    assert "This course comes from no LMS" in page
    assert "Sync now" not in page
    assert ivan.post(f"/courses/{cast.geology}/roster/sync").status_code == 409
    assert "Sync now" not in text_of(ivan.get(f"/courses/{cast.geology}"))


def test_an_lms_that_offers_no_list_is_told_how_to(app: Flask, geology: RosterPage, cast: Cast) -> None:
    with app.app_context():
        context = db.session.scalars(select(courses.Context).filter_by(course_id=geology.course_id)).one()
        context.memberships_url = ""
        db.session.commit()
    said = text_of(geology.show())
    assert "Moodle has not offered its member list" in said
    assert "IMS LTI Names and Role Provisioning" in said


# --- in a browser ------------------------------------------------------------------------


def test_a_sync_in_a_browser_shows_progress_and_then_its_receipt_without_a_reload(
    geology: RosterPage,
    cast: Cast,
    server: LiveServer,
    chromium: Callable[..., WebDriver],
    shot: Callable[[WebDriver, str], None],
) -> None:
    geology.lms.faults.roster = "slow"
    geology.lms.faults.delay = 3.0
    driver = chromium()
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd(
        "Network.setCookie",
        {
            "name": visitor.OWN_COOKIE,
            "value": sign_in_token(server.app, cast.ada),
            "url": server.url,
            "secure": True,
            "path": "/",
        },
    )
    driver.get(f"{server.url}{geology.path}")
    driver.execute_script("window.same = true")
    driver.find_element("css selector", "#roster-tile button").click()
    wait = WebDriverWait(driver, 20, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda d: "Reading the list" in d.find_element("id", "roster-tile").text)
    assert driver.find_elements("css selector", "#roster-tile progress")
    wait.until(lambda d: "in step with Moodle" in d.find_element("id", "roster-tile").text)
    assert driver.execute_script("return window.same")
    geology.lms.faults.clear()
    driver.find_element("link text", "See receipt").click()
    wait.until(lambda d: "Tess Okafor and Sam Rivera as students" in d.find_element("id", "sync").text)
    geology.lms.withdraw("geology", "sam")
    driver.execute_script("window.same = true")
    driver.find_element("xpath", "//div[@id='sync']//button[contains(., 'Sync now')]").send_keys("\n")
    wait.until(lambda d: "Sam Rivera is no longer in the course" in d.find_element("id", "sync").text)
    wait.until(lambda d: d.find_element("id", "people-count").text == "2")
    wait.until(lambda d: "Ended" in d.find_element("id", "people").text)
    assert driver.execute_script("return window.same")
    shot(driver, "roster-synced")
    assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
