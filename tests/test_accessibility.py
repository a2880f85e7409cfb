"""Every page, as each role meets it: axe in light and dark, the keyboard alone, a quiet console, no weight.

The demo serves, as in the walks: launches, syncs, mail and rooms are real.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_walk_browser import launch_in_frame, press, see, wait

from lti_tool.commands.demonstration import Demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RUN_AXE = """
const [rules, done] = arguments;
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const only = rules.length ? {type: 'rule', values: rules} : {type: 'tag', values: tags};
const next = () => new Promise(requestAnimationFrame);
// Colours of another scheme come in gently; what they are on the way is not measured.
const settled = () => Promise.allSettled(
  document.getAnimations().filter((a) => a instanceof CSSTransition).map((a) => a.finished));
next().then(next).then(settled).then(
  () => axe.run(document, {runOnly: only, resultTypes: ['violations']})
).then(
  (found) => done(found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 200)}`))),
  (error) => done([String(error)]));
"""
# What axe does not measure: targets a thumb can hit, nothing beside the page at this width.
MEASURE = """
const wide = document.documentElement.scrollWidth - innerWidth;
const small = [...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')]
  .filter((e) => e.checkVisibility() && getComputedStyle(e).display !== 'inline')
  .filter((e) => !e.matches('.skip, .visually-hidden, .ts-control > input, .ts-hidden-accessible'))
  .filter((e) => !e.labels?.length || e.matches('select'))
  .filter((e) => e.offsetWidth && Math.min(e.offsetWidth, e.offsetHeight) < 24)
  .map((e) => `small: ${e.outerHTML.slice(0, 160)}`);
return (wide > 0 ? [`${wide} px too wide`] : []).concat(small);
"""
FOCUSED = "const e = document.activeElement; return e.id || e.textContent.trim() || e.tagName"


class Look:
    """Looks at what a browser shows, and keeps what is wrong."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.wrong: list[str] = []
        driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": f"if (window === top) {{ {AXE} }}"}
        )

    def at(self, name: str, *expected: str) -> None:
        """All rules in light; in dark only colours can differ; then the narrowest phone."""
        self._window("dark", 1280)
        found = self._axe("color-contrast")
        self._window("light", 1280)
        found += self._axe()
        self._window("light", 360)
        found += self.driver.execute_script(MEASURE)
        self._window("light", 1280)
        heading = self.driver.execute_script(
            "return [...document.querySelectorAll('h1')].filter(h => h.checkVisibility()).length"
        )
        if heading != 1:
            found.append(f"{heading} headings of the first level")
        if not re.fullmatch(
            r".+ · (Doorlist|Practice LMS)", self.driver.execute_script("return document.title")
        ):
            found.append("no title")
        for entry in self.driver.get_log("browser"):
            if not any(words in entry["message"] for words in (*expected, "favicon")):
                found.append(f"console: {entry['message']}")
        self.wrong += [f"{name}: {what}" for what in found]

    def visit(self, *urls: str, expected: str = "never said") -> None:
        for url in urls:
            self.driver.get(url)
            self.at(url, expected)

    def _window(self, scheme: str, width: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": "prefers-color-scheme", "value": scheme},
                    {"name": "prefers-reduced-motion", "value": "reduce"},
                ]
            },
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )

    def _axe(self, *rules: str) -> list[str]:
        if not self.driver.execute_script("return 'axe' in window"):
            # A frame, or a page that stood before.
            self.driver.execute_script(AXE)
        found: list[str] = self.driver.execute_async_script(RUN_AXE, list(rules))
        return found


def sign_in(driver: Chrome, running: Demo) -> None:
    driver.get(running.sign_in)
    press(driver, "Sign in")
    see(driver, ".mainnav")


def launch_in_window(driver: Chrome, running: Demo, person: str, course: str) -> str:
    """Launch in a window of its own; the course's address."""
    driver.get(f"{running.lms}/launch?person={person}&course={course}&where=window")
    see(driver, "main[data-gate]")
    return driver.current_url


def make_trouble(driver: Chrome, running: Demo, words: str) -> None:
    driver.get(f"{running.lms}/?trouble=open")
    press(driver, words)


def synced(driver: Chrome, url: str, button: str, state: str) -> None:
    """Press a button of the roster and wait for what becomes of the sync."""
    driver.get(f"{url}/roster")
    press(driver, button)
    see(driver, f"[data-sync={state}]")
    wait(driver, lambda d: not d.find_elements(By.CSS_SELECTOR, "#sync[aria-busy]"), "still under way")


def tab_to(driver: Chrome, words: str, most: int = 30) -> list[str]:
    """Tab until what holds the focus says `words`; everything that was passed."""
    passed: list[str] = []
    for _ in range(most):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        passed.append(driver.execute_script(FOCUSED))
        if words in passed[-1]:
            return passed
    pytest.fail(f"Tab never came to {words!r}: {passed}")


def test_pages_for_nobody_and_for_guests_pass(running: Demo, chromium: Callable[..., Chrome]) -> None:
    owner, guest = chromium(), chromium()
    look = Look(guest)
    look.visit(f"{running.tool}/sign-in", running.sign_in)
    look.visit(f"{running.tool}/nowhere", f"{running.tool}/invitations/unknown", expected="404")
    guest.get(f"{running.tool}/sign-in")
    see(guest, "#email").send_keys("nobody")
    press(guest, "Send link and code")
    see(guest, "[aria-invalid]")
    look.at("sign-in refused", "422")
    see(guest, "#email").clear()
    see(guest, "#email").send_keys("nobody@example.org")
    press(guest, "Send link and code")
    see(guest, "#code")
    look.at("code")
    see(guest, "#code").send_keys("123456")
    press(guest, "Sign in")
    see(guest, "[aria-invalid]")
    look.at("code refused", "422")

    sign_in(owner, running)
    owner.get(f"{running.tool}/users/invite")
    see(owner, "#name").send_keys("Guest")
    see(owner, "#email").send_keys("guest@example.com")
    owner.find_element(By.XPATH, "//button[normalize-space(.)='Invite']").click()
    see(owner, ".users-table")
    wait(guest, lambda d: d.get(running.mailbox) or "guest@example.com" in d.page_source, "no mail came")
    press(guest, "invited")
    link = see(guest, "a[href*='/invitations/']").get_attribute("href")
    assert link
    look.visit(link)
    press(guest, "It’s not me")
    see(guest, "h1")
    look.at("declined")
    look.visit(link, expected="410")
    assert not look.wrong, "\n".join(look.wrong)


def test_pages_for_admins_pass(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ada, sam = chromium(), chromium()
    look = Look(ada)
    sign_in(ada, running)
    look.visit(f"{running.tool}/courses", f"{running.tool}/plans", f"{running.tool}/lms")
    geology = launch_in_window(sam, running, "sam", "geology")
    tool = running.tool
    look.visit(
        *(f"{tool}/{page}" for page in ("courses", "courses?q=none", "courses/new", "users?q=nobody")),
        *(f"{tool}/lms/connect?lms={kind}" for kind in ("moodle", "canvas", "other&cloud=blackboard")),
        *(f"{tool}/{page}" for page in ("lms", "lms/1", "lms/1/remove", "plans/1/give", "users/invite")),
        *(f"{geology}{page}" for page in ("", "/settings", "/roster", "/plan")),
    )
    see(ada, "input[name=plan]").click()
    press(ada, "Give this plan")
    see(ada, "main")
    look.visit(f"{geology}/plan", geology, f"{tool}/courses", f"{tool}/plans", f"{tool}/plans/1/give")
    ada.get(f"{tool}/users")
    look.at("users")
    press(ada, "Sam Rivera")
    see(ada, "#side h2")
    look.at("a person’s panel")
    press(ada, "Delete")
    see(ada, "#confirm")
    look.at("deleting somebody")
    ada.get(f"{tool}/users")
    press(ada, "Invite users")
    see(ada, "dialog[open]")
    look.at("inviting")
    ada.find_element(By.XPATH, "//dialog//button[normalize-space(.)='Invite']").click()
    see(ada, "dialog [aria-invalid]")
    look.at("inviting refused", "422")
    assert not look.wrong, "\n".join(look.wrong)


def test_pages_for_connecting_an_lms_pass(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ada, admin = chromium(), chromium()
    ours, theirs = Look(ada), Look(admin)
    sign_in(ada, running)
    ada.get(f"{running.tool}/lms/connect")
    press(ada, "Make a link")
    link = see(ada, "#link-address").text
    ours.at("the link")
    # The LMS's admin puts it into the frame there.
    admin.get(f"{running.lms}/install")
    see(admin, "#link").send_keys(link)
    press(admin, "Add the tool")
    theirs.at("installing a tool")
    admin.switch_to.frame("registering")
    see(admin, "form button")
    theirs.at("asked in the frame")
    press(admin, "Connect")
    see(admin, "[data-connected]")
    theirs.at("connected in the frame")
    wait(ada, lambda d: "is connected" in see(d, "#link-state").text, "the page did not move on")
    ours.at("connected")
    ours.visit(f"{running.tool}/lms/connect/1/state")
    ours.visit(f"{running.tool}/lms", f"{running.tool}/lms/2", f"{running.tool}/lms/2/roles")
    ours.visit(link, expected="404")
    assert not ours.wrong + theirs.wrong, "\n".join(ours.wrong + theirs.wrong)


def test_pages_for_instructors_pass(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ivan = chromium()
    look = Look(ivan)
    statics = launch_in_window(ivan, running, "ivan", "statics")
    look.at("inactive course")
    press(ivan, "Ask for activation")
    wait(ivan, lambda d: "You asked for activation" in d.page_source, "not asked")
    look.at("asked for activation")
    look.visit(f"{statics}/roster", f"{running.tool}/courses")
    synced(ivan, statics, "Sync now", "applied")
    look.at("receipt")
    press(ivan, "See all")
    look.at("names of a receipt")
    look.visit(statics)
    press(ivan, "Sync now")
    wait(ivan, lambda d: "nothing to change" in see(d, ".tiles").text, "not unchanged")
    make_trouble(ivan, running, "Roster leads elsewhere")
    synced(ivan, statics, "Sync now", "failed")
    look.at("failed sync")
    make_trouble(ivan, running, "Turn all off")
    make_trouble(ivan, running, "List only who has launched")
    synced(ivan, statics, "Try now", "held")
    look.at("held sync")
    synced(ivan, statics, "No, keep the roster", "refused")
    look.at("kept roster")
    look.visit(f"{statics}/roster/syncs", f"{statics}/roster?q=nobody")
    launch_in_frame(ivan, running, "ivan", "statics")
    look.at("course in a frame")
    look.visit(f"{running.lms}/", f"{running.lms}/install", f"{running.mailbox}")
    assert not look.wrong, "\n".join(look.wrong)


def test_pages_for_students_pass(running: Demo, chromium: Callable[..., Chrome]) -> None:
    sam, ada = chromium(), chromium()
    look = Look(sam)
    geology = launch_in_window(sam, running, "sam", "geology")
    look.at("closed door")
    see(sam, "summary#door-wrong").click()
    look.at("why it is closed")
    look.visit(f"{running.tool}/courses")
    look.visit(f"{geology}/room", f"{running.tool}/users", expected="403")
    sign_in(ada, running)
    ada.get(f"{geology}/plan")
    see(ada, "input[name=plan]").click()
    press(ada, "Give this plan")
    look.visit(geology)
    assert see(sam, ".door").get_attribute("data-gate") == "no_meeting"
    look.visit(f"{running.tool}/courses")
    launch_in_frame(sam, running, "sam", "geology")
    look.at("door in a frame")
    sam.switch_to.default_content()
    sam.get(f"{running.lms}/launch?person=sam&course=geology&kind=deep-linking&where=window")
    see(sam, "[data-error=picking_not_allowed]")
    look.at("only teachers add rooms", "403")
    assert not look.wrong, "\n".join(look.wrong)


def test_the_door_is_left_alone_until_it_says_something_new(
    running: Demo, chromium: Callable[..., Chrome]
) -> None:
    sam = chromium()
    launch_in_window(sam, running, "sam", "geology")
    see(sam, "#door-wrong").send_keys(Keys.ENTER)
    sam.execute_script(
        "window.asked = 0; document.addEventListener('htmx:beforeSwap', () => { window.asked += 1 })"
    )
    wait(sam, lambda d: d.execute_script("return window.asked") >= 2, "the door did not ask again")
    assert sam.execute_script(FOCUSED) == "door-wrong"
    assert sam.execute_script("return document.querySelector('.door details').open")


def test_the_room_is_entered_with_tab_and_enter_alone(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ivan = chromium()
    launch_in_window(ivan, running, "ivan", "geology")
    ivan.execute_script("document.activeElement.blur()")
    # The first stop is the skip link, and it skips.
    assert tab_to(ivan, "Skip to content") == ["Skip to content"]
    ActionChains(ivan).send_keys(Keys.ENTER).perform()
    assert ivan.execute_script(FOCUSED) == "main"
    passed = tab_to(ivan, "enter-room")
    assert not any("account menu" in stop for stop in passed), "the bar was not skipped"
    before = set(ivan.window_handles)
    ActionChains(ivan).send_keys(Keys.ENTER).perform()
    wait(ivan, lambda d: set(d.window_handles) - before, "no window opened")
    ivan.switch_to.window((set(ivan.window_handles) - before).pop())
    wait(ivan, lambda d: d.find_element(By.ID, "enter").is_enabled(), "the check did not finish")
    tab_to(ivan, "enter")
    while ivan.execute_script(FOCUSED) != "enter":
        ActionChains(ivan).send_keys(Keys.TAB).perform()
    ActionChains(ivan).send_keys(Keys.ENTER).perform()
    see(ivan, ".room .stage")


def test_escape_closes_the_invitation_and_gives_the_focus_back(
    running: Demo, chromium: Callable[..., Chrome]
) -> None:
    ada = chromium()
    sign_in(ada, running)
    ada.get(f"{running.tool}/users")
    for answered in (False, True):
        see(ada, ".pagehead .btn-primary").send_keys(Keys.ENTER)
        see(ada, "dialog[open]")
        wait(ada, lambda d: d.execute_script(FOCUSED) == "name", "the focus is not in the name")
        if answered:
            # A refused form is another dialog; the way back is the same.
            ActionChains(ada).send_keys("Somebody", Keys.ENTER).perform()
            see(ada, "dialog [aria-invalid]")
            wait(ada, lambda d: d.execute_script(FOCUSED) == "email", "the focus is not at what is wrong")
        ActionChains(ada).send_keys(Keys.ESCAPE).perform()
        wait(ada, lambda d: not d.find_elements(By.TAG_NAME, "dialog"), "the dialog stays")
        assert ada.execute_script(FOCUSED) == "Invite users"


def test_sorting_keeps_the_focus_and_copying_says_so(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ada = chromium()
    sign_in(ada, running)
    ada.get(f"{running.tool}/users")
    ada.find_element(By.ID, "sort-email").send_keys(Keys.ENTER)
    see(ada, ".c-email[aria-sort=ascending]")
    wait(ada, lambda d: d.execute_script(FOCUSED) == "sort-email", "the focus is lost")
    ada.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardSanitizedWrite"]})
    ada.get(f"{running.tool}/lms/connect?lms=canvas")
    press(ada, "Copy")
    wait(ada, lambda d: see(d, "[data-copy].is-copied").text == "Copied", "nothing says so")
    assert see(ada, "[role=status][data-said]").get_attribute("textContent") == "Copied"


def test_times_are_shown_in_the_zone_of_the_reader(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ivan = chromium()
    launch_in_frame(ivan, running, "ivan", "geology")
    held = [cookie for cookie in ivan.get_cookies() if cookie["name"] == "doorlist-zone"]
    assert [cookie["sameSite"] for cookie in held] == ["None"], "a frame does not keep the zone"
    ivan.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Pacific/Kiritimati"})
    launch_in_window(ivan, running, "ivan", "geology")
    ivan.get(f"{running.tool}/nowhere")
    there = datetime.now(ZoneInfo("Pacific/Kiritimati"))
    minutes = [f"today {at:%-I:%M}" for at in (there, there - timedelta(minutes=1))]
    assert any(minute in see(ivan, "#support-code").text for minute in minutes)


def test_the_first_visit_to_a_course_is_light(running: Demo, chromium: Callable[..., Chrome]) -> None:
    ivan = chromium()
    launch_in_window(ivan, running, "ivan", "geology")
    wait(ivan, lambda d: d.execute_script("return document.fonts.status") == "loaded", "fonts still load")
    weight: dict[str, Any] = ivan.execute_async_script(WEIGH)
    assert sum(weight.values()) <= 150_000, weight


WEIGH = """
const done = arguments[0];
const urls = [location.href, ...performance.getEntriesByType('resource').map((r) => r.name)];
Promise.all([...new Set(urls)].map(async (url) => {
  const answer = await fetch(url);
  const stream = /font/.test(answer.headers.get('content-type')) ? answer.body
    : answer.body.pipeThrough(new CompressionStream('gzip'));
  return [url, (await new Response(stream).arrayBuffer()).byteLength];
})).then((pairs) => done(Object.fromEntries(pairs)), (error) => done({[String(error)]: Infinity}));
"""
