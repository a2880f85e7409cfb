"""The main job in real browsers: from a click in the LMS to an open door, with third-party cookies blocked.

The demo, as anybody starts it: tool at localhost, practice LMS at 127.0.0.1 (two sites for a browser).
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from lti_tool.commands.demonstration import Demo

pytestmark = pytest.mark.browser

SECONDS = 30
PLAYING = """
return [...document.querySelectorAll('video')].filter(v => v.videoWidth > 0 && v.currentTime > 0).length
"""


def wait(driver: Chrome, true: Callable[[Chrome], Any], otherwise: str, seconds: int = SECONDS) -> Any:
    """Wait as a person would, while the page changes underneath."""
    waiting = WebDriverWait(
        driver,
        seconds,
        poll_frequency=0.1,
        ignored_exceptions=[
            StaleElementReferenceException,
            NoSuchElementException,
            # The page moved under the click, which was not made.
            ElementClickInterceptedException,
        ],
    )
    try:
        return waiting.until(true)
    except TimeoutException:
        shown = driver.execute_script("return document.body ? document.body.innerText : ''")
        pytest.fail(f"{otherwise}\n{driver.current_url}\n{shown[:1000]}")


def see(driver: Chrome, css: str, seconds: int = SECONDS) -> WebElement:
    """What is shown under this selector."""

    def shown(browser: Chrome) -> WebElement | None:
        found = browser.find_elements(By.CSS_SELECTOR, css)
        return next((element for element in found if element.is_displayed()), None)

    element: WebElement = wait(driver, shown, f"{css} was not shown", seconds)
    return element


def tells(css: str, words: str) -> Callable[[Chrome], bool]:
    """Does the part of the page under this selector say these words?"""
    return lambda driver: words in driver.find_element(By.CSS_SELECTOR, css).text


def press(driver: Chrome, words: str) -> None:
    """Press the button or link with these words."""
    xpath = f"//*[self::button or self::a][contains(normalize-space(.), '{words}')]"

    def pressed(browser: Chrome) -> bool:
        for button in browser.find_elements(By.XPATH, xpath):
            if button.is_displayed():
                browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
                button.click()
                return True
        return False

    wait(driver, pressed, f"no button {words!r}")


def launch_in_frame(driver: Chrome, running: Demo, person: str, course: str) -> None:
    """Pick a person and a course in the LMS and launch in the frame; ends inside the frame."""
    driver.get(f"{running.lms}/?person={person}&course={course}")
    press(driver, "Launch in the frame")
    driver.switch_to.frame("tool")
    see(driver, "main[data-gate]")


def enter_room(driver: Chrome) -> None:
    """From the door, wherever it is shown, into the room in its own window."""
    before = set(driver.window_handles)
    press(driver, "Enter")
    wait(driver, lambda d: set(d.window_handles) - before, "no window opened")
    driver.switch_to.window((set(driver.window_handles) - before).pop())
    see(driver, "#enter").click()
    see(driver, ".room .stage")


def test_from_a_click_in_the_lms_to_an_open_door(
    running: Demo,
    chromium: Callable[..., Chrome],
    shot: Callable[[Chrome, str], None],
) -> None:
    ada, ivan, sam = chromium(), chromium(), chromium()

    # An admin connects nothing and finds the practice LMS connected.
    ada.get(running.sign_in)
    press(ada, "Sign in")
    see(ada, ".mainnav")
    press(ada, "LMS")
    assert "Practice LMS" in see(ada, "main").text
    shot(ada, "walk-1-lms-connected")

    # The instructor launches into his course in a frame and sees it inactive.
    launch_in_frame(ivan, running, "ivan", "geology")
    assert "This course has no plan, so students cannot come in." in see(ivan, "main").text
    ivan.switch_to.default_content()
    shot(ivan, "walk-2-instructor-in-frame")
    ivan.switch_to.frame("tool")

    # He enters the room to prepare.
    enter_room(ivan)
    shot(ivan, "walk-3-instructor-prepares")

    # The student meets the closed door with the reason.
    launch_in_frame(sam, running, "sam", "geology")
    door = see(sam, ".door")
    assert door.get_attribute("data-gate") == "course_inactive"
    assert "the course has no plan" in door.text
    sam.switch_to.default_content()
    shot(sam, "walk-4-student-closed-door")
    sam.switch_to.frame("tool")

    # The admin gives a plan.
    press(ada, "Courses")
    press(ada, "Geology")
    press(ada, "Give a plan")
    shot(ada, "walk-5-admin-chooses-a-plan")
    see(ada, "input[name=plan]").click()
    press(ada, "Give")
    wait(ada, lambda d: "Active until" in d.find_element(By.TAG_NAME, "main").text, "not active")
    shot(ada, "walk-6-course-active")

    # The student's door opens by itself, within seconds.
    see(sam, ".door[data-gate=open]", seconds=20)
    sam.switch_to.default_content()
    shot(sam, "walk-7-student-open-door")
    sam.switch_to.frame("tool")

    # Both are in the room and each sees the other's camera.
    enter_room(sam)
    for driver in (ivan, sam):
        wait(driver, lambda d: d.execute_script(PLAYING) >= 2, "no picture")
    assert "Sam" in ivan.find_element(By.CSS_SELECTOR, ".stage").text
    assert "Ivan" in sam.find_element(By.CSS_SELECTOR, ".stage").text
    shot(ivan, "walk-8-instructor-sees-student")
    shot(sam, "walk-9-student-sees-instructor")


def test_a_roster_is_synced_from_the_course_page_with_a_receipt(
    running: Demo,
    chromium: Callable[..., Chrome],
    shot: Callable[[Chrome, str], None],
) -> None:
    ivan = chromium()
    launch_in_frame(ivan, running, "ivan", "big")
    press(ivan, "Sync now")
    wait(ivan, tells(".tiles", "2,000 people, in step with"), "no receipt in the tile")
    ivan.switch_to.default_content()
    shot(ivan, "roster-1-tile")
    ivan.switch_to.frame("tool")
    press(ivan, "Roster")
    assert re.search(r"added\s+1,999", see(ivan, ".tally").text)
    shot(ivan, "roster-2-receipt")
    press(ivan, "Sync now")
    # The old receipt has the word "unchanged" too: only the new sync says that nothing was different.
    wait(ivan, tells("#sync", "nothing was different"), "no word of unchanged")
    assert re.search(r"added\s+0\b", see(ivan, ".tally").text)
    ivan.switch_to.default_content()
    shot(ivan, "roster-3-unchanged")


def test_an_invited_guest_says_it_is_me(
    running: Demo,
    chromium: Callable[..., Chrome],
    shot: Callable[[Chrome, str], None],
) -> None:
    ada, guest = chromium(), chromium()
    ada.get(running.sign_in)
    press(ada, "Sign in")
    press(ada, "Users")
    press(ada, "Invite users")
    see(ada, "#name").send_keys("Nguyễn Thị Minh Khai")
    ada.find_element(By.ID, "email").send_keys("minhkhai@example.com")
    shot(ada, "invite-1-dialog")
    ada.find_element(By.XPATH, "//button[normalize-space(.)='Invite']").click()
    wait(ada, lambda d: "minhkhai@example.com" in d.page_source, "not invited")
    ada.get(f"{running.tool}/users")
    see(ada, ".status[data-status=pending]")
    shot(ada, "invite-2-pending")

    wait(guest, lambda d: d.get(running.mailbox) or "minhkhai@example.com" in d.page_source, "no mail came")
    shot(guest, "invite-3-mailbox")
    guest.find_element(By.PARTIAL_LINK_TEXT, "invited").click()
    link = see(guest, "a[href*='/invitations/']").get_attribute("href")
    assert link
    guest.get(link)
    shot(guest, "invite-4-is-this-you")
    ada.refresh()
    assert see(ada, ".status[data-status=pending]"), "opening the link changed something"
    press(guest, "It’s me")
    see(guest, ".mainnav")
    shot(guest, "invite-5-signed-in")
    ada.refresh()
    assert not ada.find_elements(By.CSS_SELECTOR, ".status[data-status=pending]")
    shot(ada, "invite-6-registered")
    guest.get(link)
    assert see(guest, "main").get_attribute("data-error") == "invitation_used"
    shot(guest, "invite-7-second-click")


def test_where_all_cookies_are_blocked_the_way_on_is_a_window(
    running: Demo,
    chromium: Callable[..., Chrome],
    shot: Callable[[Chrome, str], None],
) -> None:
    sam = chromium(block=f"{running.tool},{running.lms}")
    sam.get(f"{running.lms}/?person=sam&course=geology")
    press(sam, "Launch in the frame")
    sam.switch_to.frame("tool")
    assert "window of its own" in see(sam, "#blocked").text
    sam.switch_to.default_content()
    shot(sam, "cookies-blocked-in-frame")
    sam.switch_to.frame("tool")
    before = set(sam.window_handles)
    press(sam, "Open in its own window")
    wait(sam, lambda d: set(d.window_handles) - before, "no window opened")
    sam.switch_to.window((set(sam.window_handles) - before).pop())
    assert see(sam, "main[data-gate]").get_attribute("data-gate") == "course_inactive"
    shot(sam, "cookies-blocked-own-window")
