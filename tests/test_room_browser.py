"""The live room in real browsers: they see each other, write to each other, and notice who goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, LiveServer, sign_in_token
from flask import Flask
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from lti_tool.classroom import courses, plans
from lti_tool.database import db
from lti_tool.pages import visitor

# Several browsers encode and decode video at once: a small machine takes its time, one room after another.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(480), pytest.mark.xdist_group("rooms")]

Open = Callable[..., Chrome]


def activate(app: Flask, cast: Cast) -> None:
    with app.app_context():
        course = courses.find_course(cast.account, cast.geology)
        plan = plans.find_plan(cast.account, cast.plan)
        assert course is not None
        assert plan is not None
        courses.activate(course, plan)
        db.session.commit()


def sign_in(driver: Chrome, server: LiveServer, user: int) -> None:
    driver.execute_cdp_cmd(
        "Network.setCookie",
        {
            "name": visitor.OWN_COOKIE,
            "value": sign_in_token(server.app, user),
            "url": server.url,
            "secure": True,
            "httpOnly": True,
            "sameSite": "Lax",
            "path": "/",
        },
    )


def visit(driver: Chrome, server: LiveServer, user: int, course: int) -> None:
    """To the check before the room, as `user`."""
    sign_in(driver, server, user)
    driver.get(f"{server.url}/courses/{course}/room")


def until(driver: Chrome, condition: Callable[[Chrome], Any], seconds: float = 20) -> Any:
    """Wait for `condition`; if it never comes true, say what the console said."""
    try:
        return WebDriverWait(driver, seconds, poll_frequency=0.1).until(condition)
    except Exception:
        print([entry["message"] for entry in driver.get_log("browser")])
        raise


def shrink(driver: Chrome) -> None:
    """A phone; the window itself cannot be made this narrow."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": False},
    )


def ready(driver: Chrome) -> None:
    """The self view of the check runs."""
    until(driver, lambda d: d.execute_script("return document.getElementById('self').videoWidth") > 0)


def enter(driver: Chrome, button: str = "enter") -> None:
    if button == "enter":
        ready(driver)
    driver.execute_script("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", button)
    driver.find_element(By.ID, button).click()
    until(driver, lambda d: d.execute_script("return window.doorlistRoom.people.size") > 0)


def tile_names(driver: Chrome) -> list[str]:
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('#stage .seat .tagline bdi')].map((e) => e.textContent)"
    )
    return sorted(found)


SEES = """
const name = arguments[0], done = arguments[arguments.length - 1];
const person = [...window.doorlistRoom.people.values()].find((one) => one.name === name);
const tile = person && document.querySelector(`#stage .seat[data-peer="${person.peer}"]:not(.seat-wide)`);
const video = tile?.querySelector("video");
if (!video || video.hidden || !video.videoWidth) return done(null);
window.doorlistRoom.links.stats(person.peer).then((report) => {
  let frames = 0;
  report?.forEach((one) => {
    if (one.type === "inbound-rtp" && one.kind === "video") frames += one.framesDecoded ?? 0;
  });
  done({ width: video.videoWidth, time: video.currentTime, frames });
});
"""

HEAR_NOTICES = """
window.notices = [];
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) window.notices.push(node.textContent);
}).observe(document.getElementById("notice"), { childList: true });
"""


def sees(driver: Chrome, name: str) -> None:
    """Is there a moving picture of `name`, decoded from what came over the network?"""
    first = until(driver, lambda d: decoded(d, name), 40)

    def moved(d: Chrome) -> bool:
        later = decoded(d, name)
        return bool(later and later["time"] > first["time"] and later["frames"] > first["frames"])

    until(driver, moved, 40)


def decoded(driver: Chrome, name: str) -> dict[str, float] | None:
    """How far the picture of `name` has come, once there is one."""
    found: dict[str, float] | None = driver.execute_async_script(SEES, name)
    return found if found and found["frames"] > 0 else None


def press(driver: Chrome, action: str) -> None:
    driver.find_element(By.CSS_SELECTOR, f"#controls [data-do={action}]").click()


def said(driver: Chrome) -> list[str]:
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('#chat p')].map((e) => e.textContent)"
    )
    return found


def test_two_people_see_each_other_write_and_part(
    server: LiveServer, cast: Cast, chromium: Open, shot: Callable[[Chrome, str], None]
) -> None:
    activate(server.app, cast)
    teacher, student = chromium(), chromium()
    visit(teacher, server, cast.ivan, cast.geology)
    ready(teacher)
    shot(teacher, "room-check-1280")
    visit(student, server, cast.sam, cast.geology)
    assert student.find_element(By.ID, "main").get_attribute("data-gate") == "no_meeting"
    enter(teacher)
    # The door opens by itself.
    until(student, lambda d: d.find_elements(By.ID, "enter"))
    enter(student)
    sees(teacher, "Sam Whitfield")
    sees(student, "Ivan Petrović")
    assert tile_names(teacher) == ["Ivan Petrović (you)", "Sam Whitfield"]
    assert tile_names(student) == ["Ivan Petrović", "Sam Whitfield (you)"]

    press(student, "chat")
    student.find_element(By.ID, "words").send_keys("Is <b>this</b> the right room?\n")
    until(teacher, lambda d: said(d) == ["Is <b>this</b> the right room?"])
    shot(teacher, "room-teacher-1280")
    shot(student, "room-student-1280")

    press(student, "leave")
    until(teacher, lambda d: tile_names(d) == ["Ivan Petrović (you)"])
    assert student.find_element(By.ID, "over").get_attribute("data-why") == "left"


def test_three_people_see_each_other_and_what_each_does(
    server: LiveServer, cast: Cast, chromium: Open, shot: Callable[[Chrome, str], None]
) -> None:
    activate(server.app, cast)
    ivan, sam, tess = chromium(), chromium(), chromium()
    shrink(tess)
    visit(ivan, server, cast.ivan, cast.geology)
    enter(ivan)
    visit(sam, server, cast.sam, cast.geology)
    enter(sam)
    visit(tess, server, cast.tess, cast.geology)
    ready(tess)
    shot(tess, "room-check-360")
    enter(tess)
    for driver, others in (
        (ivan, ("Sam Whitfield", "Tess van der Meulen")),
        (sam, ("Ivan Petrović", "Tess van der Meulen")),
        (tess, ("Ivan Petrović", "Sam Whitfield")),
    ):
        for name in others:
            sees(driver, name)
    shot(ivan, "room-three-1280")
    shot(tess, "room-three-360")

    # Muting, by key; a camera off; a hand up.
    sam.find_element(By.TAG_NAME, "body").send_keys("m")
    press(sam, "hand")
    press(tess, "camera")
    until(ivan, lambda d: tile(d, "Sam Whitfield", ".is-muted:not([hidden])"))
    until(ivan, lambda d: tile(d, "Sam Whitfield", ".up:not([hidden])"))
    until(ivan, lambda d: not tile(d, "Tess van der Meulen", "video:not([hidden])"))
    assert sam.find_element(By.CSS_SELECTOR, "[data-do=hand]").get_attribute("aria-pressed") == "true"
    assert ivan.find_element(By.ID, "hands-count").text == "1"
    sees(ivan, "Sam Whitfield")
    # And on again, without another offer.
    press(tess, "camera")
    sees(ivan, "Tess van der Meulen")

    # On the phone, people and chat are a sheet.
    assert not tess.find_element(By.ID, "side").is_displayed()
    press(tess, "people")
    until(tess, lambda d: d.find_element(By.ID, "side").is_displayed())
    shot(tess, "room-people-360")
    tess.find_element(By.CSS_SELECTOR, "[data-do=close-side]").click()
    press(tess, "chat")
    # Letters that are typed are not commands.
    tess.find_element(By.ID, "words").send_keys("mv مرحبا https://example.org/mohr-circle.\n")
    until(ivan, lambda d: said(d) == ["mv مرحبا example.org/mohr-circle."])
    assert (
        tess.find_element(By.CSS_SELECTOR, "#chat a").get_attribute("href")
        == "https://example.org/mohr-circle"
    )
    shot(tess, "room-chat-360")
    tess.find_element(By.CSS_SELECTOR, "[data-do=close-side]").click()

    # A window that dies says nothing; the others see it go all the same.
    sam.quit()
    until(ivan, lambda d: tile_names(d) == ["Ivan Petrović (you)", "Tess van der Meulen"])
    assert "Sam Whitfield left" in ivan.execute_script(
        "return document.getElementById('announce').textContent"
    )

    # The moderator shares a screen, then ends the session for everyone.
    share_a_fake_screen(ivan)
    press(ivan, "screen")
    until(tess, lambda d: d.execute_script(WIDE) > 0)
    shot(tess, "room-screen-360")
    shot(ivan, "room-screen-1280")
    press(ivan, "end")
    shot(ivan, "room-end-1280")
    ivan.find_element(By.CSS_SELECTOR, "#end .btn-stop").click()
    for driver in (ivan, tess):
        until(driver, lambda d: d.find_element(By.ID, "over").get_attribute("data-why") == "ended")
    shot(tess, "room-over-360")


WIDE = "return document.querySelector('#stage .seat-wide video')?.videoWidth ?? 0"


def tile(driver: Chrome, name: str, part: str) -> bool:
    """Does the tile of `name` show `part`?"""
    return bool(
        driver.execute_script(
            "return [...document.querySelectorAll('#stage .seat')].some((seat) =>"
            " seat.querySelector('.tagline bdi')?.textContent === arguments[0]"
            " && seat.querySelector(arguments[1]))",
            name,
            part,
        )
    )


def share_a_fake_screen(driver: Chrome) -> None:
    """A headless browser has no screen to choose; a drawn one goes the same way from there."""
    driver.execute_script(
        "navigator.mediaDevices.getDisplayMedia = async () => {"
        " const canvas = document.createElement('canvas'); canvas.width = 960; canvas.height = 600;"
        " const pen = canvas.getContext('2d'); let n = 0;"
        " setInterval(() => { pen.fillStyle = '#fbfaf7'; pen.fillRect(0, 0, 960, 600);"
        "  pen.fillStyle = '#162027';"
        "  pen.font = '48px sans-serif'; pen.fillText('Anticline and syncline ' + n++, 80, 120); }, 100);"
        " return canvas.captureStream(10); };"
    )


def test_a_second_window_takes_over_and_the_first_says_so(
    server: LiveServer, cast: Cast, chromium: Open, shot: Callable[[Chrome, str], None]
) -> None:
    activate(server.app, cast)
    first, second = chromium(), chromium()
    visit(first, server, cast.ivan, cast.geology)
    enter(first)
    visit(second, server, cast.ivan, cast.geology)
    enter(second)
    until(first, lambda d: d.find_element(By.ID, "over").get_attribute("data-why") == "moved")
    assert first.find_element(By.ID, "over-title").text == "You are inside in another window"
    assert first.switch_to.active_element.get_attribute("id") == "over-title"
    # Camera and microphone of the first window are off.
    assert first.execute_script("return window.doorlistRoom.links.media('x', 'camera')") is None
    shot(first, "room-moved-1280")
    assert tile_names(second) == ["Ivan Petrović (you)"]


def test_who_has_no_camera_goes_in_without_and_sees_the_others(
    server: LiveServer, cast: Cast, chromium: Open, shot: Callable[[Chrome, str], None]
) -> None:
    activate(server.app, cast)
    ivan, sam = chromium(), chromium()
    visit(ivan, server, cast.ivan, cast.geology)
    enter(ivan)
    sam.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {
            "source": "navigator.mediaDevices.getUserMedia ="
            " async () => { throw new DOMException('no', 'NotAllowedError'); };"
        },
    )
    visit(sam, server, cast.sam, cast.geology)
    until(sam, lambda d: d.find_elements(By.CSS_SELECTOR, "#trouble .note"))
    assert "did not let us use" in sam.find_element(By.ID, "trouble").text
    shot(sam, "room-check-blocked-1280")
    enter(sam, "enter-without")
    sees(sam, "Ivan Petrović")
    assert tile(ivan, "Sam Whitfield", ".is-muted:not([hidden])")
    assert not tile(ivan, "Sam Whitfield", "video:not([hidden])")


def test_a_line_that_breaks_is_mended_and_the_picture_comes_back(
    server: LiveServer, cast: Cast, chromium: Open
) -> None:
    activate(server.app, cast)
    ivan, sam = chromium(), chromium()
    visit(ivan, server, cast.ivan, cast.geology)
    enter(ivan)
    visit(sam, server, cast.sam, cast.geology)
    enter(sam)
    sees(ivan, "Sam Whitfield")
    # The next notice, that the other is back too, may follow at once.
    sam.execute_script(HEAR_NOTICES)
    # As when a server stops: every line is hung up without a reason.
    server.app.extensions["room_driver"].hang_up_all()
    until(sam, lambda d: "Connected again" in d.execute_script("return window.notices.join()"))
    sees(ivan, "Sam Whitfield")
    sees(sam, "Ivan Petrović")
    assert tile_names(ivan) == ["Ivan Petrović (you)", "Sam Whitfield"]


def test_cameras_beyond_the_limit_stay_off_and_it_is_said(
    server: LiveServer, cast: Cast, chromium: Open
) -> None:
    activate(server.app, cast)
    server.app.config["ROOM_CAMERAS"] = 1
    ivan, sam = chromium(), chromium()
    visit(ivan, server, cast.ivan, cast.geology)
    enter(ivan)
    until(ivan, lambda d: tile(d, "Ivan Petrović (you)", "video:not([hidden])"))
    visit(sam, server, cast.sam, cast.geology)
    enter(sam)
    until(sam, lambda d: "1 cameras are on already" in d.find_element(By.ID, "notice").text)
    assert not tile(sam, "Sam Whitfield (you)", "video:not([hidden])")
    camera = sam.find_element(By.CSS_SELECTOR, "#controls [data-do=camera]")
    assert camera.get_attribute("aria-label") == "Turn camera on"
    sees(sam, "Ivan Petrović")


def test_nothing_in_the_room_breaks_the_content_security_policy(
    server: LiveServer, cast: Cast, chromium: Open
) -> None:
    activate(server.app, cast)
    ivan = chromium()
    visit(ivan, server, cast.ivan, cast.geology)
    enter(ivan)
    complaints = [entry["message"] for entry in ivan.get_log("browser") if entry["level"] == "SEVERE"]
    assert complaints == []


def test_when_two_browsers_cannot_reach_each_other_it_is_said(
    server: LiveServer, cast: Cast, chromium: Open, shot: Callable[[Chrome, str], None]
) -> None:
    activate(server.app, cast)
    ivan, sam = chromium(), chromium()
    # Sam's network lets nothing through: no candidate of his, none for him.
    sam.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {
            "source": "const Real = RTCPeerConnection; window.RTCPeerConnection = class extends Real {"
            " constructor(how) { super({ ...how, iceTransportPolicy: 'relay' }); }"
            " async addIceCandidate() {} };"
        },
    )
    visit(ivan, server, cast.ivan, cast.geology)
    enter(ivan)
    visit(sam, server, cast.sam, cast.geology)
    enter(sam)
    failed = "#stage .seat[data-link=failed] .seat-note strong"
    until(ivan, lambda d: d.find_elements(By.CSS_SELECTOR, failed), 60)
    assert (
        ivan.find_element(By.CSS_SELECTOR, failed).text == "Connection failed between you and Sam Whitfield"
    )
    shot(ivan, "room-unreachable-1280")
    # The chat goes through us and works.
    press(sam, "chat")
    sam.find_element(By.ID, "words").send_keys("I cannot see you\n")
    until(ivan, lambda d: said(d) == ["I cannot see you"])


AXE = """
const done = arguments[arguments.length - 1];
axe.run("main", { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
  .then((report) => done(report.violations.map((v) => v.id + " " + v.nodes.map((n) => n.html).join(" | "))));
"""


def complaints_of_axe(driver: Chrome) -> list[str]:
    driver.execute_script((Path(__file__).parent / "vendor" / "axe.min.js").read_text("utf-8"))
    found: list[str] = driver.execute_async_script(AXE)
    return found


def test_door_check_room_and_end_pass_axe_in_light_and_dark_and_work_by_keyboard(
    server: LiveServer, cast: Cast, chromium: Open, shot: Callable[[Chrome, str], None]
) -> None:
    activate(server.app, cast)
    driver = chromium()
    visit(driver, server, cast.sam, cast.geology)
    assert complaints_of_axe(driver) == []
    shot(driver, "room-door-1280")
    driver.delete_all_cookies()
    visit(driver, server, cast.ivan, cast.geology)
    ready(driver)
    assert complaints_of_axe(driver) == []
    for scheme in ("dark", "light"):
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        assert complaints_of_axe(driver) == []
        shot(driver, f"room-check-{scheme}-1280")
    driver.find_element(By.ID, "enter").send_keys(Keys.ENTER)
    until(driver, lambda d: d.execute_script("return window.doorlistRoom.people.size") > 0)
    assert complaints_of_axe(driver) == []
    # From the controls to the chat and back by keys alone.
    driver.find_element(By.CSS_SELECTOR, "#controls [data-do=chat]").send_keys(Keys.ENTER)
    assert driver.switch_to.active_element.get_attribute("id") == "words"
    driver.switch_to.active_element.send_keys("By keys\n")
    until(driver, lambda d: said(d) == ["By keys"])
    assert complaints_of_axe(driver) == []
    driver.find_element(By.ID, "tab-chat").send_keys(Keys.ARROW_LEFT)
    assert driver.switch_to.active_element.get_attribute("id") == "tab-people"
    muted = driver.find_element(By.CSS_SELECTOR, "#controls [data-do=microphone]")
    driver.switch_to.active_element.send_keys("m")
    until(driver, lambda d: "Unmute" in muted.text)
    press(driver, "end")
    assert complaints_of_axe(driver) == []
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not driver.find_element(By.ID, "end").is_displayed()
    press(driver, "end")
    driver.find_element(By.CSS_SELECTOR, "#end [data-do=leave]").click()
    until(driver, lambda d: d.find_element(By.ID, "over").get_attribute("data-why") == "left")
    assert complaints_of_axe(driver) == []
