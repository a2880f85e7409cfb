"""Browsers launch from a frame: by cookie, by what the LMS's page keeps for us, else in a window.

The tool is at localhost, the LMS at 127.0.0.1 (two sites for a browser), its authorization endpoint and its
storage frame on a third host where it plays Canvas. SECURITY.md has the table of browsers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import LiveServer, connect, missing, platform_key
from flask import Flask
from marionette import FIREFOX, Firefox
from selenium.webdriver import Chrome
from test_accessibility import Look
from test_walk_browser import press, see, wait

from lti_tool.practice_lms import Platform, serve
from lti_tool.practice_lms import create_app as create_lms

pytestmark = pytest.mark.browser

Open = Callable[..., Chrome]
Shot = Callable[[Chrome, str], None]


@dataclass
class Stage:
    """The tool and an LMS, connected, on ports of their own."""

    tool: str
    lms: Platform

    @property
    def block(self) -> str:
        """The pair for which a Chromium of ours withholds every cookie and storage."""
        return f"{self.tool},{self.lms.browser_url}"


# How many values each tool has in the LMS's page.
KEPT = "return [...stores.values()].map((store) => store.size)"
# For another name of the subjects than the standard's.
KEEPS_VALUES_LIKE_BRIGHTSPACE = """
const kept = new Map();
addEventListener("message", ({ data: { subject, message_id, key, value }, origin, source }) => {
  if (!subject?.startsWith("org.imsglobal.lti.")) return;
  const said = { subject: `${subject}.response`, message_id, key };
  if (subject.endsWith("put_data")) kept.set(origin + key, value);
  if (subject.endsWith("get_data")) said.value = kept.get(origin + key);
  if (subject.endsWith("capabilities")) {
    const names = ["put_data", "get_data"];
    said.supported_messages = names.map((name) => ({ subject: `org.imsglobal.lti.${name}` }));
  }
  source.postMessage(said, origin);
});
"""


@pytest.fixture
def stage(app: Flask, server: LiveServer) -> Iterator[Callable[..., Stage]]:
    """stage("_parent") keeps values for tools in the page, stage("a_frame") in a frame of the auth host."""
    running = []

    def start(target: str | None) -> Stage:
        platform = Platform(
            key=platform_key(), storage_target=target, flavour="canvas" if target else "moodle"
        )
        lms = serve(create_lms(platform))
        running.append(lms)
        if target not in (None, "_parent"):
            platform.auth_base = f"http://sso.localhost:{lms.port}"
        platform.connect_tool(
            "doorlist", login_url=f"{server.url}/lti/login", launch_url=f"{server.url}/lti/launch"
        )
        with app.app_context():
            connect(platform, "doorlist")
        return Stage(server.url, platform)

    yield start
    for lms in running:
        lms.stop()


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Callable[..., Firefox]]:
    """firefox(**preferences) opens a Firefox."""
    if not FIREFOX:
        missing("firefox", "install firefox-esr")
    opened: list[Firefox] = []

    def open_browser(**preferences: Any) -> Firefox:
        opened.append(Firefox(tmp_path / f"firefox-{len(opened)}", **preferences))
        return opened[-1]

    yield open_browser
    for driver in opened:
        driver.quit()


def launch(driver: Chrome, stage: Stage, script: str = "") -> None:
    """A click in the LMS, on whose page a script runs; ends inside the frame."""
    driver.switch_to.default_content()
    driver.get(f"{stage.lms.browser_url}/?person=sam&course=geology")
    driver.execute_script(script)
    press(driver, "Launch in the frame")
    driver.switch_to.frame("tool")


def picture(driver: Chrome, shot: Shot, name: str) -> None:
    driver.switch_to.default_content()
    shot(driver, name)
    driver.switch_to.frame("tool")


def into_own_window(driver: Chrome) -> None:
    before = set(driver.window_handles)
    press(driver, "Open in its own window")
    wait(driver, lambda d: set(d.window_handles) - before, "no window opened")
    driver.switch_to.window((set(driver.window_handles) - before).pop())


def told(driver: Chrome, css: str) -> Any:
    return see(driver, css).text


@pytest.mark.parametrize(
    "cookies", [0, 1], ids=["third-party-cookies-allowed", "third-party-cookies-blocked"]
)
def test_where_cookies_hold_the_course_opens_in_the_frame(
    cookies: int, stage: Callable[..., Stage], chromium: Open, shot: Shot
) -> None:
    running = stage("_parent")
    driver = chromium(cookies=cookies)
    launch(driver, running)
    assert "Signed in as Sam Rivera" in told(driver, "main[data-gate]")
    assert driver.execute_script("return location.pathname").startswith("/courses/")
    picture(driver, shot, f"storage-cookies-{cookies}")


@pytest.mark.parametrize("target", ["_parent", "post_message_forwarding"])
def test_where_no_cookie_holds_the_lmss_storage_opens_the_door_and_its_own_window(
    target: str,
    stage: Callable[..., Stage],
    chromium: Open,
    shot: Shot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = stage(target)
    driver = chromium(block=running.block)
    launch(driver, running)
    door = told(driver, "main[data-gate=course_inactive]")
    assert driver.execute_script("return location.pathname") == "/lti/launch"
    assert "Signed in as Sam Rivera" in door
    picture(driver, shot, f"storage-door-{target}")
    if target == "_parent":
        look = Look(driver)
        look.at("the door in a frame without cookies")
        assert look.wrong == []
        driver.switch_to.default_content()
        assert driver.execute_script(KEPT) == [0], "what served its turn was forgotten"
        driver.switch_to.frame("tool")
    frame = driver.current_window_handle
    into_own_window(driver)
    assert "Geology" in told(driver, "main[data-gate=course_inactive]")
    assert driver.execute_script("return location.pathname").startswith("/courses/")
    shot(driver, f"storage-own-window-{target}")
    driver.switch_to.window(frame)
    driver.switch_to.frame("tool")
    assert "open the activity in your LMS again" in told(driver, "#opened")
    assert not see(driver, ".door-act button").is_enabled()
    picture(driver, shot, f"storage-door-opened-{target}")
    if target == "_parent":
        running.lms.storage_target = None
        named = partial(running.lms.login_parameters, lti_storage_target="_parent")
        monkeypatch.setattr(running.lms, "login_parameters", named)
        launch(driver, running, KEEPS_VALUES_LIKE_BRIGHTSPACE)
        assert "Signed in as Sam Rivera" in told(driver, "main[data-gate=course_inactive]")
    else:
        no_other_page_hears_the_proof(driver, running)


def no_other_page_hears_the_proof(driver: Chrome, stage: Stage) -> None:
    """The page around the frame is not of the authorization origin, so it is told no secret."""
    stage.lms.storage_target = "_parent"
    launch(driver, stage, "window.heard = []; addEventListener('message', e => heard.push(e.data))")
    see(driver, "#blocked")
    look = Look(driver)
    look.at("nothing is kept in the frame")
    assert look.wrong == []
    proof = driver.execute_script("return document.querySelector('main').dataset.proof")
    driver.switch_to.default_content()
    heard = driver.execute_script("return heard")
    assert {message["subject"] for message in heard} >= {"lti.capabilities"}
    assert proof
    assert proof not in str(heard)


def launch_in_firefox(driver: Firefox, stage: Stage) -> None:
    driver.get(f"{stage.lms.browser_url}/?person=sam&course=geology")
    driver.press("Launch in the frame")
    driver.enter_frame("tool")


def picture_of_firefox(driver: Firefox, shot: Shot, name: str) -> None:
    driver.leave_frame()
    shot(driver, name)
    driver.enter_frame("tool")


def test_firefox_as_it_comes_keeps_the_cookie_in_the_frame(
    stage: Callable[..., Stage], firefox: Callable[..., Firefox], shot: Shot
) -> None:
    driver = firefox()
    launch_in_firefox(driver, stage("_parent"))
    assert "Signed in as Sam Rivera" in driver.text("main[data-gate]")
    assert driver.run("return location.pathname").startswith("/courses/")
    picture_of_firefox(driver, shot, "storage-firefox-cookie")


def test_firefox_without_third_party_cookies_takes_the_lmss_storage_else_a_window(
    stage: Callable[..., Stage],
    firefox: Callable[..., Firefox],
    shot: Shot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = stage("post_message_forwarding")
    # Some logins name a frame that is not there: the LMS's page says which one is.
    named = partial(running.lms.login_parameters, lti_storage_target="lti_storage_frame")
    monkeypatch.setattr(running.lms, "login_parameters", named)
    driver = firefox(**{"network.cookie.cookieBehavior": 1})
    launch_in_firefox(driver, running)
    door = driver.text("main[data-gate=course_inactive]")
    assert driver.run("return location.pathname") == "/lti/launch"
    assert "Signed in as Sam Rivera" in door
    picture_of_firefox(driver, shot, "storage-firefox-door")
    outside = driver.command("WebDriver:GetWindowHandle")
    before = driver.windows()
    driver.press("Open in its own window")
    driver.enter_new_window(before)
    assert "Geology" in driver.text("main[data-gate=course_inactive]")
    shot(driver, "storage-firefox-own-window")
    driver.command("WebDriver:SwitchToWindow", handle=outside)

    monkeypatch.undo()
    running.lms.storage_target = None
    launch_in_firefox(driver, running)
    assert "window of its own" in driver.text("#blocked")
    picture_of_firefox(driver, shot, "storage-firefox-blocked")
    before = driver.windows()
    driver.press("Open in its own window")
    driver.enter_new_window(before)
    assert "Geology" in driver.text("main[data-gate=course_inactive]")
