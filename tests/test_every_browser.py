"""Every flow between an LMS and the tool, walked once in each way that browsers treat a frame's cookies.

The tool is at localhost, the LMS at 127.0.0.1 (two sites for a browser), and each way has an LMS of its own
kind: what one of them never does, another does first.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest
from conftest import Cast, LiveServer, platform_key, sign_in_token
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from test_walk_browser import press, see, tells, wait

from lti_tool.pages import visitor
from lti_tool.practice_lms import Platform, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.messages import Flavour
from lti_tool.practice_lms.registration import Registry

Open = Callable[..., Chrome]
Shot = Callable[[Chrome, str], None]
# What a script of the tool's page finds kept.
KEPT = "return navigator.cookieEnabled ? document.cookie : ''"


@dataclass(frozen=True)
class Way:
    """How a browser treats the tool's cookies under the LMS, and which LMS is tried in it."""

    name: str
    flavour: Flavour
    # As the page that connects an LMS calls it, and as its pages do then.
    kind: str
    product: str
    # Chromium's setting for third-party cookies: 0 allows, 1 blocks them.
    cookies: int
    # Not one cookie of the tool is kept under the LMS.
    blocked: bool = False
    # Where the LMS keeps values for tools.
    storage: str | None = None
    # New tools wait until the LMS's admin switches them on.
    activates: bool = True
    # Which way its clock goes wrong.
    ahead: int = 1


WAYS = [
    Way("allowed", "brightspace", "other", "Brightspace", cookies=0, storage="_parent"),
    Way("third-party-blocked", "moodle", "moodle", "Moodle", cookies=1, activates=False, ahead=-1),
    Way(
        "all-blocked",
        "canvas",
        "canvas",
        "Canvas",
        cookies=1,
        blocked=True,
        storage="post_message_forwarding",
    ),
]


@dataclass
class Walk:
    """One way's LMS, the tool's admin in a browser of her own, and whoever sits at the LMS in another."""

    way: Way
    tool: str
    lms: Platform
    registry: Registry
    ada: Chrome
    campus: Chrome
    shot: Shot
    shots: int = 0

    def picture(self, driver: Chrome, name: str, *, framed: str = "", phone: bool = False) -> None:
        """What stands there now, the LMS around it too; back in its frame afterwards."""
        self.shots += 1
        driver.switch_to.default_content()
        title = f"every-{self.way.name}-{self.shots:02}-{name}"
        self.shot(driver, title)
        if phone:
            size = {"width": 360, "height": 1500, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            self.shot(driver, f"{title}-360")
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        if framed:
            driver.switch_to.frame(framed)

    def open(self, person: str, course: str, button: str = "Launch in the frame") -> Chrome:
        """A person presses a button on a course's page in the LMS; ends inside the frame."""
        self.campus.switch_to.default_content()
        self.campus.get(f"{self.lms.browser_url}/?person={person}&course={course}")
        press(self.campus, button)
        self.campus.switch_to.frame("tool")
        return self.campus

    def arrive(self, person: str, course: str, title: str, button: str = "Launch in the frame") -> Chrome:
        """The same, up to the room's door, told by its title."""
        frame = self.open(person, course, button)
        assert see(frame, "main[data-gate] h1").text == title
        return frame


def press_inside(driver: Chrome, words: str) -> None:
    """Press in a frame by key: a click goes by places, and the page around the frame may scroll under it."""
    xpath = f"//*[self::button or self::a][contains(normalize-space(.), '{words}')]"

    def shown(browser: Chrome) -> WebElement | None:
        found = browser.find_elements(By.XPATH, xpath)
        return next((button for button in found if button.is_displayed()), None)

    wait(driver, shown, f"no button {words!r}").send_keys(Keys.ENTER)


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def walk(
    request: pytest.FixtureRequest, server: LiveServer, cast: Cast, chromium: Open, shot: Shot
) -> Iterator[Walk]:
    """The LMS knows no tool yet, and Ada has opened nothing."""
    way: Way = request.param
    platform = Platform(key=platform_key(), flavour=way.flavour, storage_target=way.storage)
    app = create_lms(platform)
    registry: Registry = app.extensions["practice_registry"]
    registry.activates = way.activates
    running = serve(app)
    if way.storage not in (None, "_parent"):
        # As Canvas has it: its authorization endpoint and its storage are on another host.
        platform.auth_base = f"http://sso.localhost:{running.port}"
    browser = partial(
        chromium, cookies=way.cookies, block=f"{server.url},{running.url}" if way.blocked else ""
    )
    ada = browser()
    ada.get(f"{server.url}/sign-in")
    token = sign_in_token(server.app, cast.ada)
    ada.add_cookie({"name": visitor.OWN_COOKIE, "value": token, "secure": True, "path": "/"})
    yield Walk(way, server.url, platform, registry, ada, browser(), shot)
    running.stop()


def test_every_flow_from_connecting_an_lms_to_its_gradebook(
    walk: Walk, move_clock: Callable[[timedelta], None]
) -> None:
    registered(walk)
    approved(walk)
    placed(walk)
    opened_by_a_student(walk)
    signed_with_a_new_key(walk, move_clock)
    with_a_clock_that_is_wrong(walk)
    looked_at_closely(walk)


def registered(walk: Walk) -> None:
    """A link made in one window connects the LMS from inside its frame in another."""
    ada, way = walk.ada, walk.way
    ada.get(f"{walk.tool}/lms/connect?lms={way.kind}")
    walk.picture(ada, "before-a-link")
    press(ada, "Make a link")
    link = see(ada, "#link-address").text
    assert "Works once" in see(ada, "#link").text
    expected = "your LMS" if way.kind == "other" else way.product
    assert f"Waiting for {expected}" in see(ada, "#link-state").text
    assert "Not opened yet" in see(ada, "#open-links").text
    walk.picture(ada, "link")
    ours = ada.current_window_handle

    ada.switch_to.new_window("window")
    ada.get(f"{walk.lms.browser_url}/install")
    see(ada, "#link").send_keys(link)
    press(ada, "Add the tool")
    ada.switch_to.frame("registering")
    assert "Linden Polytechnic" in see(ada, "main").text
    walk.picture(ada, "asked-in-frame", framed="registering", phone=way.blocked)
    theirs = ada.current_window_handle

    ada.switch_to.window(ours)
    wait(ada, tells("#link-state", "Opened at 127.0.0.1"), "the page did not notice")
    ada.switch_to.window(theirs)
    ada.switch_to.frame("registering")
    press_inside(ada, "Connect")
    wait(ada, tells("h1", "Doorlist is connected"), "not connected")
    if not way.activates:
        assert "press Activate" in see(ada, "main").text
    walk.picture(ada, "agreed-in-frame", framed="registering", phone=way.blocked)
    press_inside(ada, "Close this window")
    ada.switch_to.default_content()
    wait(ada, lambda d: not d.find_elements(By.CSS_SELECTOR, "iframe"), "the frame did not close")
    if not way.activates:
        press(ada, "Activate")
    wait(ada, tells("main .receipt", "active"), "not switched on")
    walk.picture(ada, "closed")
    ada.close()

    ada.switch_to.window(ours)
    wait(ada, tells("#link-state", f"{way.product} · 127.0.0.1 is connected"), "the page did not move on")
    walk.picture(ada, "connected")
    press(ada, "To the LMS page")
    press(ada, "Details")
    (card,) = walk.registry.cards
    facts = see(ada, "dl.facts").text
    assert walk.lms.issuer in facts
    assert card.client_id in facts
    assert (card.deployment_id in facts) == (way.flavour != "canvas")


def approved(walk: Walk) -> None:
    """Canvas says no deployment when it registers a tool, so the first launch waits for an admin."""
    if walk.way.flavour == "canvas":
        frame = walk.open("ivan", "statics")
        refused = see(frame, "main[data-error]")
        assert refused.get_attribute("data-error") == "deployment_pending"
        assert "An admin of your institution has to approve it" in refused.text
        walk.picture(frame, "waits-for-approval", phone=True)
        walk.ada.get(f"{walk.tool}/lms")
        assert "A deployment waits for your approval" in see(walk.ada, "main").text
        walk.picture(walk.ada, "admin-asked")
        press(walk.ada, "Approve")
        wait(walk.ada, tells("body", "is approved"), "not approved")
    walk.arrive("ivan", "statics", "Statics")
    walk.picture(walk.campus, "teacher-in-his-course")


def placed(walk: Walk) -> None:
    """The teacher makes a room and takes the course's own, both from inside the frame."""
    frame = walk.open("ivan", "geology", "Add content to the course")
    see(frame, "input[name=room]:checked")
    assert not frame.find_element(By.ID, "name").is_displayed()
    frame.find_element(By.ID, "q").send_keys("zzz")
    wait(frame, tells("#found", "No course called “zzz”"), "the search found something")
    frame.find_element(By.ID, "new").click()
    see(frame, "#name").send_keys("Field trip")
    if walk.way.blocked:
        assert frame.execute_script(KEPT) == ""
    walk.picture(frame, "choose", framed="tool", phone=walk.way.blocked)
    press_inside(frame, "Add to the course")
    wait(frame, tells("h1", "Added to the course"), "the LMS did not get the rooms")
    assert {one.text for one in frame.find_elements(By.CSS_SELECTOR, "li bdi")} == {"Geology", "Field trip"}
    walk.picture(frame, "added", framed="tool", phone=walk.way.blocked)
    press_inside(frame, "To the practice LMS")
    frame.switch_to.default_content()
    links = wait(frame, lambda d: d.find_elements(By.CSS_SELECTOR, "button[name=link]"), "no links")
    assert {link.text for link in links} == {"Geology", "Field trip"}
    walk.arrive("ivan", "geology", "Field trip", "Field trip")


def opened_by_a_student(walk: Walk) -> None:
    """A placed link leads to its own room's door; without cookies on into a window."""
    frame = walk.arrive("sam", "geology", "Field trip", "Field trip")
    assert see(frame, "main").get_attribute("data-gate") == "course_inactive"
    assert "Signed in as Sam Rivera" in see(frame, "main").text
    in_course = frame.execute_script("return location.pathname").startswith("/courses/")
    assert in_course != walk.way.blocked
    walk.picture(frame, "door", framed="tool", phone=walk.way.blocked)
    if not walk.way.blocked:
        return
    lms = frame.current_window_handle
    before = set(frame.window_handles)
    press_inside(frame, "Open in its own window")
    wait(frame, lambda d: set(d.window_handles) - before, "no window opened")
    frame.switch_to.window((set(frame.window_handles) - before).pop())
    assert see(frame, "main[data-gate=course_inactive] h1").text == "Field trip"
    assert frame.execute_script("return location.pathname").startswith("/courses/")
    walk.picture(frame, "own-window", phone=True)
    frame.close()
    frame.switch_to.window(lms)


def signed_with_a_new_key(walk: Walk, move_clock: Callable[[timedelta], None]) -> None:
    """The LMS changes its key: half a minute after the tool asked for keys it may ask again."""
    campus = walk.campus
    campus.switch_to.default_content()
    campus.get(f"{walk.lms.browser_url}/?trouble=open")
    old = walk.lms.key.kid
    press(campus, "New signing key")
    wait(campus, lambda d: walk.lms.key.kid != old, "the key is the old one")
    move_clock(timedelta(seconds=31))
    walk.lms.clock_offset = 31
    walk.arrive("sam", "statics", "Statics")
    walk.picture(campus, "after-a-new-key")


def with_a_clock_that_is_wrong(walk: Walk) -> None:
    """Seconds do no harm; with minutes the page says how many, and who can mend it."""
    good, ahead = walk.lms.clock_offset, walk.way.ahead
    walk.lms.clock_offset = good + ahead * 20
    walk.arrive("sam", "geology", "Geology")
    walk.lms.clock_offset = good + ahead * 300
    refused = see(walk.open("sam", "geology"), "main[data-error]")
    assert refused.get_attribute("data-error") == ("token_early" if ahead > 0 else "token_expired")
    # Between the two clocks lies the time that the launch took.
    off = f"The LMS’s clock is 5 minutes {'ahead of' if ahead > 0 else 'behind'} ours"
    assert re.search(off, refused.text)
    assert "The clocks do not agree" in refused.text
    assert "your LMS administrator should check the clock of the LMS server" in refused.text
    assert "Your LMS administrator can mend this" in refused.text
    walk.picture(walk.campus, "clock-is-wrong", phone=walk.way.blocked)
    walk.lms.clock_offset = good


def looked_at_closely(walk: Walk) -> None:
    """The admin has the LMS checked: its gradebook answers, and the refused launch is in sight."""
    ada = walk.ada
    ada.get(f"{walk.tool}/lms")
    press(ada, "Details")
    (card,) = walk.registry.cards
    assert card.deployment_id in see(ada, "dl.facts").text
    press(ada, "Check")
    # The page asks for it again each second, so no part of it stays.
    wait(ada, tells("[data-finding=grades_good][data-sign=added]", "Grades service is on"), "not checked")
    wait(ada, lambda d: not d.find_elements(By.CSS_SELECTOR, "[aria-busy=true]"), "the check does not end")
    assert "LMS’s clock is 5 minutes" in see(ada, "main").text
    walk.picture(ada, "checked")
