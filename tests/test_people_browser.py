"""The pages about people in real browsers: by keyboard alone, without script, narrow, dark, right to left.

The tool is at localhost, the LMS at 127.0.0.1. SQLite alone: what a browser shows does not depend on it.
"""

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from conftest import Browser, Cast, LiveServer, connect, platform_key
from flask import Flask
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import func, select, update
from test_accessibility import FOCUSED, MEASURE, Look
from test_room_browser import sign_in
from test_walk_browser import press, see, tells, wait
from werkzeug.serving import make_server

from lti_tool.classroom import accounts
from lti_tool.classroom.accounts import Account, Role, User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.invitations import Invitation
from lti_tool.database import db, now
from lti_tool.practice_lms import Mailbox, Platform, serve
from lti_tool.practice_lms import create_app as create_lms

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Open = Callable[..., Chrome]
Shot = Callable[[Chrome, str], None]
Browse = Callable[[int | None], Browser]
# The stylesheet of right-to-left pages, and all that follows the direction.
TURN = """
const [direction, done] = arguments;
const sheet = document.querySelector('link[href*="/bootstrap."]');
const name = direction === 'rtl' ? 'bootstrap.rtl.min' : 'bootstrap.min';
document.documentElement.dir = direction;
sheet.addEventListener('load', () => done(), {once: true});
sheet.href = sheet.href.replace(/bootstrap\\.(rtl\\.)?min/, name);
"""


@pytest.fixture
def settings() -> dict[str, Any]:
    """All browsers come from one address."""
    return {"LIMIT_SIGN_IN": "1000 per minute"}


@pytest.fixture
def crowd(app: Flask, cast: Cast) -> None:
    """Enough people for three pages, with names from everywhere."""
    names = (
        "Amélie Dubois",
        "李思远",
        "محمد بن عبد الله",
        "Þórdís Guðmundsdóttir",
        "Wolfeschlegelsteinhausenberger",
    )
    with app.app_context():
        for number in range(60):
            one = accounts.add_user(
                cast.account,
                name=f"{names[number % 5]} {number:02}",
                email=f"person{number:02}@example.net",
                mailbox_proven=number % 3 > 0,
            )
            if number % 2:
                db.session.add(
                    Enrollment(
                        account_id=cast.account,
                        course_id=cast.geology,
                        user_id=one.id,
                        role=Role.STUDENT,
                        source=Source.MANUAL,
                    )
                )
        db.session.commit()


@pytest.fixture
def still(app: Flask) -> Iterator[LiveServer]:
    """The tool without a worker: what is under way stays so until a test says otherwise."""
    http = make_server("127.0.0.1", 0, app, threaded=True)
    url = f"http://localhost:{http.server_port}"
    app.config["PUBLIC_URL"] = url
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield LiveServer(app, url)
    http.shutdown()
    http.server_close()


@pytest.fixture
def campus(app: Flask, cast: Cast) -> Iterator[Callable[[LiveServer], Platform]]:
    """campus(server) is an LMS that browsers reach, connected."""
    running = []

    def begin(server: LiveServer) -> Platform:
        platform = Platform(key=platform_key())
        lms = serve(create_lms(platform))
        running.append(lms)
        platform.connect_tool(
            "doorlist", login_url=f"{server.url}/lti/login", launch_url=f"{server.url}/lti/launch"
        )
        with app.app_context():
            connect(platform, "doorlist")
        return platform

    yield begin
    for lms in running:
        lms.stop()


class CloseLook(Look):
    """Also from right to left; keeps a picture of each page, wide and narrow."""

    def __init__(self, driver: Chrome, shot: Shot) -> None:
        super().__init__(driver)
        self.shot = shot

    def at(self, name: str, *expected: str) -> None:
        """All of `Look`, then the narrowest phone from right to left."""
        super().at(name, *expected)
        picture = "people-" + re.sub(r"\W+", "-", name.lower())
        self.shot(self.driver, f"{picture}-1280")
        self._window("light", 360)
        self.shot(self.driver, f"{picture}-360")
        self.driver.execute_async_script(TURN, "rtl")
        found = self.driver.execute_script(MEASURE) + self._axe("target-size")
        self.driver.execute_async_script(TURN, "ltr")
        self._window("light", 1280)
        self.wrong += [f"{name}, right to left: {what}" for what in found]

    def go(self, name: str, url: str, *expected: str) -> None:
        self.driver.get(url)
        self.at(name, *expected)


def keys(driver: Chrome, *pressed: str) -> None:
    ActionChains(driver).send_keys(*pressed).perform()


def tab_to(driver: Chrome, words: str, *, back: bool = False) -> None:
    """Press Tab until what holds the focus says `words`."""
    passed = []
    for _ in range(45):
        if back:
            ActionChains(driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
        else:
            keys(driver, Keys.TAB)
        passed.append(driver.execute_script(FOCUSED))
        if words in passed[-1]:
            return
    pytest.fail(f"Tab never came to {words!r}: {passed}")


def pick(driver: Chrome, course: str) -> None:
    """In the course picker that holds the focus: type, and take what is offered."""
    keys(driver, course[:5])
    wait(driver, tells(".ts-dropdown .option.active", course), "the course is not offered")
    keys(driver, Keys.ENTER)
    wait(driver, tells(".ts-control .item", course), "the course is not taken")


def token_in(mailbox: Mailbox, address: str) -> str:
    return mailbox.wait_for(address, 20).links[0].rpartition("/")[2]


def in_course(app: Flask, course: int) -> int:
    with app.app_context():
        here = select(func.count()).select_from(Enrollment).filter_by(course_id=course, ended_at=None)
        return db.session.scalar(here) or 0


def test_an_admin_changes_many_people_with_the_keyboard_alone(
    app: Flask, cast: Cast, crowd: None, server: LiveServer, chromium: Open, shot: Shot
) -> None:
    ada = chromium()
    sign_in(ada, server, cast.ada)
    ada.get(f"{server.url}/users")
    tab_to(ada, "q")
    keys(ada, "person")
    wait(ada, tells("#pager", "1 – 25 of 60"), "not searched")
    tab_to(ada, "All roles")
    keys(ada, "Stu")
    wait(ada, lambda d: "role=student" in d.current_url, "not filtered")
    tab_to(ada, "page-all")
    keys(ada, Keys.SPACE)
    wait(ada, tells("#bulk", "25 selected"), "the page is not selected")
    tab_to(ada, "page-after", back=True)
    keys(ada, Keys.ENTER)
    wait(ada, tells("#pager", "26 – 50 of 60"), "no second page")
    wait(ada, lambda d: d.execute_script(FOCUSED) == "page-after", "the focus is lost")
    tab_to(ada, "pick-")
    keys(ada, Keys.SPACE)
    wait(ada, tells("#bulk", "26 selected"), "the first page is forgotten")
    shot(ada, "people-keyboard-selected")
    tab_to(ada, "Add to course", back=True)
    keys(ada, Keys.ENTER)
    wait(ada, tells("h1", "Add 26 people to a course"), "no draft")
    draft = ada.current_url

    before = in_course(app, cast.statics)
    tab_to(ada, "courses-ts-control")
    pick(ada, "Statics")
    tab_to(ada, "role")
    tab_to(ada, "Yes, add 26 people")
    keys(ada, Keys.ENTER)
    wait(ada, tells("#batch h2", "Done"), "not done")
    assert "added\n26" in see(ada, ".tally").text
    assert in_course(app, cast.statics) == before + 26
    shot(ada, "people-keyboard-receipt")
    tab_to(ada, "Undo")
    keys(ada, Keys.ENTER)
    wait(ada, lambda d: d.current_url != draft and tells("#batch h2", "Done")(d), "not taken back")
    assert in_course(app, cast.statics) == before

    # Back to the list, as it was left: found, paged and ticked.
    for _ in range(5):
        ada.back()
        if "/users?" in ada.current_url:
            break
    wait(ada, tells("#pager", "26 – 50 of 60"), "another page")
    assert see(ada, "#q").get_attribute("value") == "person"
    wait(ada, tells("#bulk", "26 selected"), "what was ticked is forgotten")
    # The panel opens over it, and closes to where one was.
    tab_to(ada, "user-")
    held = ada.execute_script(FOCUSED)
    keys(ada, Keys.ENTER)
    wait(ada, lambda d: d.execute_script(FOCUSED) == "person", "the panel has not the focus")
    keys(ada, Keys.ESCAPE)
    wait(ada, lambda d: d.execute_script(FOCUSED) == held, "the focus does not come back")
    assert "26 selected" in see(ada, "#bulk").text


LIST = """Li Wei; li.wei@example.net
Grace Hopper; grace@example.net; Instructor; Statics
No One; nowhere
Chef; chef@example.net; Chef
Basket; basket@example.net; Student; Basket weaving
=1+1; sum@example.net
Li Wei; LI.WEI@example.net
""" + "".join(f"guest{n}@example.net\n" for n in range(5))


def test_people_are_invited_and_one_of_them_comes_by_mail_and_from_the_lms(
    app: Flask,
    cast: Cast,
    server: LiveServer,
    campus: Callable[[LiveServer], Platform],
    chromium: Open,
    shot: Shot,
    mailbox: Mailbox,
) -> None:
    lms = campus(server)
    ada = chromium()
    sign_in(ada, server, cast.ada)
    ada.get(f"{server.url}/users")
    press(ada, "Invite users")
    see(ada, "dialog #name").send_keys("Nguyễn Thị Minh Khai")
    see(ada, "dialog #email").send_keys("khai@example.com")
    see(ada, "dialog #courses-ts-control").click()
    pick(ada, "Introduction to Structural Geology")
    keys(ada, Keys.ESCAPE)
    see(ada, "dialog #more").click()
    ada.find_element(By.CSS_SELECTOR, "dialog form").submit()
    wait(ada, tells("dialog .note", "kept for the next person"), "the dialog did not stay")
    wait(ada, lambda d: d.execute_script(FOCUSED) == "name", "the focus is not in the name")
    shot(ada, "people-invite-more")
    keys(ada, "Sam Rivera", Keys.TAB, "sam@example.test")
    see(ada, "dialog #more").click()
    keys(ada, Keys.ENTER)
    wait(ada, lambda d: not d.find_elements(By.TAG_NAME, "dialog"), "the dialog stays")
    mailbox.wait_for("khai@example.com", 20)

    # Twelve more from a list, of which five are not taken.
    ada.get(f"{server.url}/users/invite-many")
    see(ada, "#people").send_keys(LIST)
    press(ada, "Go on")
    wait(ada, tells("h1", "What is in the columns?"), "no columns")
    press(ada, "Check the rows")
    wait(ada, tells("h1", "Check before anything is sent"), "not checked")
    said = see(ada, ".tablewrap").text
    for verdict in ("“nowhere”", "No role “Chef”", "Basket weaving", "formula", "row 1"):
        assert verdict in said, said
    shot(ada, "people-list-checked")
    assert not mailbox.sent_to("grace@example.net"), "nothing is sent before the yes"
    press(ada, "Invite 7 people")
    wait(ada, tells("#mails", "Mailed 7 of 7."), "the mails did not go out")
    assert len(mailbox.sent_to("li.wei@example.net")) == 1

    # By mail, then out again everywhere.
    sam = chromium()
    look = CloseLook(sam, shot)
    sam.get(mailbox.wait_for("sam@example.test", 20).links[0])
    press(sam, "It’s me")
    see(sam, ".course-card")
    sam.get(f"{server.url}/me")
    press(sam, "Sign out everywhere, here too")
    see(sam, "#email")
    sam.get(f"{server.url}/courses")
    see(sam, "#email")

    # From the LMS, where he is somebody else until he proves the mailbox.
    sam.get(f"{lms.browser_url}/launch?person=sam&course=geology&where=window")
    wait(sam, tells("main", "You were invited as s…@example.test. Is that you?"), "not offered")
    look.at("link offer")
    press(sam, "That’s me, mail a code")
    see(sam, "#code")
    look.at("link code")
    found = re.search(
        r"^\s*(\d{6})\s*$", mailbox.wait_for("sam@example.test", 20, count=2).text, re.MULTILINE
    )
    assert found
    see(sam, "#code").send_keys(found[1], Keys.ENTER)
    wait(sam, lambda d: "Linked." in d.find_element(By.TAG_NAME, "body").text, "not linked")
    shot(sam, "people-linked")
    with app.app_context():
        named = select(func.count(User.id)).filter_by(account_id=cast.account, name="Sam Rivera", listed=True)
        assert db.session.scalar(named) == 1
    assert not look.wrong, "\n".join(look.wrong)


def test_two_people_are_merged_and_parted_and_one_is_blocked_and_let_in(
    app: Flask,
    cast: Cast,
    server: LiveServer,
    campus: Callable[[LiveServer], Platform],
    chromium: Open,
    shot: Shot,
) -> None:
    lms = campus(server)
    ada, sam = chromium(), chromium()
    launch = f"{lms.browser_url}/launch?person=sam&course=geology&where=window"
    sam.get(launch)
    see(sam, "main[data-gate]")
    sign_in(ada, server, cast.ada)
    ada.get(f"{server.url}/users")
    press(ada, "Sam Whitfield")
    wait(ada, lambda d: d.execute_script(FOCUSED) == "person", "no panel")
    press(ada, "Merge with another person")
    see(ada, "#q").send_keys("rivera")
    press(ada, "Sam Rivera")
    wait(ada, tells("h1", "Merge two people"), "no preview")
    assert "1 way in from an LMS moves" in see(ada, ".receipt").text
    press(ada, "Merge into Sam Whitfield")
    wait(ada, tells("#side", "was merged into this person by Ada Okonkwo"), "not merged")
    shot(ada, "people-merged")
    sam.get(launch)
    see(sam, "main[data-gate]")
    sam.get(f"{server.url}/me")
    assert "sam@example.org" in see(sam, ".pagehead").text, "a launch signs in somebody else"
    press(ada, "Undo")
    wait(ada, lambda d: "was merged into this person" not in d.page_source, "not parted")

    ada.get(f"{server.url}/users?q=example.test")
    press(ada, "Sam Rivera")
    wait(ada, tells("#side h2", "Sam Rivera"), "no panel")
    press(ada, "Block")
    wait(ada, tells("#side .note", "Block Sam Rivera at Linden Polytechnic?"), "not asked")
    see(ada, ".side-foot .btn-stop").click()
    wait(ada, tells("#side", "Blocked since"), "not blocked")
    wait(ada, tells("#list", "Blocked"), "the list does not say so")
    shot(ada, "people-blocked")
    look = CloseLook(sam, shot)
    sam.get(launch)
    see(sam, "[data-error=blocked]")
    look.at("blocked launch", "403")
    press(ada, "Unblock")
    wait(ada, lambda d: "Blocked since" not in see(d, "#side").text, "still blocked")
    sam.get(launch)
    see(sam, "main[data-gate]")
    assert not look.wrong, "\n".join(look.wrong)


def test_without_script_the_list_the_panel_and_bulk_changes_work(
    app: Flask, cast: Cast, crowd: None, server: LiveServer, chromium: Open, shot: Shot
) -> None:
    ada = chromium()
    sign_in(ada, server, cast.ada)
    ada.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    ada.get(f"{server.url}/users")
    see(ada, "#q").send_keys("person")
    press(ada, "Show")
    wait(ada, tells("#pager", "1 – 25 of 60"), "not searched")
    see(ada, "#page-after").click()
    wait(ada, tells("#pager", "26 – 50 of 60"), "no second page")
    shot(ada, "people-no-script")
    boxes = ada.find_elements(By.NAME, "user")[:3]
    for box in boxes:
        box.click()
    press(ada, "Add to course")
    wait(ada, tells("h1", "Add 3 people to a course"), "no draft")
    see(ada, "#courses option:last-of-type").click()
    press(ada, "Look what will happen")
    wait(ada, tells("#check", "Yes, add"), "not checked")
    shot(ada, "people-no-script-check")
    press(ada, "Yes, add")
    see(ada, "#batch")

    def done(driver: Chrome) -> bool:
        driver.refresh()
        return tells("#batch h2", "Done")(driver)

    wait(ada, done, "not done")
    ada.get(f"{server.url}/users")
    press(ada, "Sam Whitfield")
    name = see(ada, "#person-name")
    name.clear()
    name.send_keys("Sam W.")
    press(ada, "Save")
    wait(ada, tells("#person", "Sam W."), "not saved")
    see(ada, "#side [data-panel-close]").click()
    wait(ada, lambda d: not d.find_elements(By.ID, "person"), "the panel stays")


def test_every_page_about_people_passes(
    app: Flask,
    cast: Cast,
    crowd: None,
    still: LiveServer,
    browse: Browse,
    chromium: Open,
    shot: Shot,
    work: Callable[[], None],
) -> None:
    driver = chromium()
    sign_in(driver, still, cast.ada)
    look, url, ada = CloseLook(driver, shot), still.url, browse(cast.ada)
    look.go("users", f"{url}/users")
    see(driver, "#page-all").click()
    see(driver, "#bulk [data-clear]")
    look.at("users selected")
    look.go("nobody found", f"{url}/users?q=nobody&status=pending")
    look.go("panel", f"{url}/users/{cast.sam}?q=sam")
    look.go("delete", f"{url}/users/{cast.sam}/delete?q=sam")
    look.go("block", f"{url}/users/{cast.sam}/block?q=sam")
    look.go("merge found", f"{url}/users/{cast.sam}/merge?q=person1")
    look.go("merge preview", f"{url}/users/{cast.sam}/merge/{cast.tess}")

    # Bulk changes: before the yes, under way, and over.
    with app.app_context():
        some = list(db.session.scalars(select(User.id).filter_by(account_id=cast.account).limit(12)))
    batch = ada.post("/users/batches/new/add_to_course", {"user": some}).location
    look.go("batch check", f"{url}{batch}?chosen=1&courses={cast.statics}&role=student")
    ada.post(f"{batch}/confirm", {"chosen": "1", "courses": [str(cast.statics)], "role": "student"})
    look.go("batch under way", f"{url}{batch}")
    delete = ada.post("/users/batches/new/delete", {"user": some[5:9]}).location
    look.go("batch delete", f"{url}{delete}")
    work()
    look.go("batch receipt", f"{url}{batch}")
    look.go("batches", f"{url}/users/batches")

    look.go("invite", f"{url}/users/invite")
    look.go("invite many", f"{url}/users/invite-many")
    columns = ada.post("/users/invite-many", {"people": LIST, "role": "student"}).location
    look.go("invite many columns", f"{url}{columns}")
    named = {f"column-{n}": name for n, name in enumerate(("name", "email", "role", "course"))}
    look.go("invite many check", f"{url}{ada.post(columns, named).location}")
    look.go("audit", f"{url}/audit")
    look.go("settings", f"{url}/settings")
    assert not look.wrong, "\n".join(look.wrong)


def test_every_page_of_those_who_are_invited_passes(
    app: Flask,
    cast: Cast,
    still: LiveServer,
    browse: Browse,
    chromium: Open,
    shot: Shot,
    mailbox: Mailbox,
    work: Callable[[], None],
) -> None:
    driver, ada, url = chromium(), browse(cast.ada), still.url
    mailbox.refused.add("refused@example.com")
    form = {"name": "Nguyễn Thị Minh Khai", "role": "student", "courses": [str(cast.geology)]}
    for who in ("waits", "declines", "late", "withdrawn", "refused"):
        assert ada.post("/users/invite", {**form, "email": f"{who}@example.com"}).status_code == 303
    work()
    tokens = {
        who: token_in(mailbox, f"{who}@example.com") for who in ("waits", "declines", "late", "withdrawn")
    }
    with app.app_context():
        ids = dict(db.session.execute(select(User.email, Invitation.id).join(Invitation.user)).all())
        late = update(Invitation).filter_by(id=ids["late@example.com"])
        db.session.execute(late.values(expires_at=now() - timedelta(days=1)))
        db.session.get_one(Account, cast.account).instructors_invite = True
        db.session.commit()
    ada.post(f"/users/invitations/{ids['withdrawn@example.com']}/withdraw")

    # Whoever holds the link.
    look = CloseLook(driver, shot)
    look.go("invitation", f"{url}/invitations/{tokens['waits']}")
    press(driver, "It’s me")
    see(driver, ".course-card")
    look.go("invitation spent", f"{url}/invitations/{tokens['waits']}", "410")
    look.go("invitation expired", f"{url}/invitations/{tokens['late']}", "410")
    press(driver, "Send me a new invitation")
    wait(driver, lambda d: "/renew" in d.current_url, "not renewed")
    look.at("invitation renewed")
    look.go("invitation withdrawn", f"{url}/invitations/{tokens['withdrawn']}", "410")
    look.go("invitation unknown", f"{url}/invitations/nobody-issued-this", "404")
    driver.get(f"{url}/invitations/{tokens['declines']}")
    press(driver, "It’s not me")
    wait(driver, tells("h1", "The invitation is withdrawn"), "not declined")
    look.at("invitation declined")
    look.go("me", f"{url}/me")
    look.go("privacy", f"{url}/privacy")
    driver.execute_cdp_cmd("Storage.clearCookies", {})
    look.go("sign in", f"{url}/sign-in")
    see(driver, "#email").send_keys("ada@example.org", Keys.ENTER)
    see(driver, "#code")
    look.at("sign in code")

    # Who sent it.
    sign_in(driver, still, cast.ada)
    look.go("invitations", f"{url}/users/invitations")
    look.go("invitations none", f"{url}/users/invitations?q=nobody")
    look.go("invitation refused", f"{url}/users/invitations/{ids['refused@example.com']}")
    look.go("batches none", f"{url}/users/batches")
    sign_in(driver, still, cast.ivan)
    look.go("course invite", f"{url}/courses/{cast.geology}/invite")
    assert not look.wrong, "\n".join(look.wrong)
