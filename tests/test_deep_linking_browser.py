"""The pages of choosing rooms and of moving LMS courses, looked at closely, and a copied course."""

from collections.abc import Callable

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_accessibility import Look
from test_walk_browser import press, see, tells, wait

from lti_tool.commands.demonstration import Demo

pytestmark = pytest.mark.browser


def in_frame(driver: Chrome, running: Demo, person: str, course: str, button: str) -> None:
    """Press a button of the LMS's page; ends inside the frame."""
    driver.switch_to.default_content()
    driver.get(f"{running.lms}/?person={person}&course={course}")
    press(driver, button)
    driver.switch_to.frame("tool")


def test_choosing_copying_and_moving_look_well_and_a_copied_course_opens(
    running: Demo, chromium: Callable[..., Chrome], shot: Callable[[Chrome, str], None]
) -> None:
    ivan = chromium()
    in_frame(ivan, running, "ivan", "statics", "Launch in the frame")
    see(ivan, "main[data-gate]")

    # The frame's pages as a window of their own, looked at closely.
    look = Look(ivan)
    ivan.switch_to.default_content()
    ivan.get(f"{running.lms}/launch?person=ivan&course=geology&kind=deep-linking&where=window")
    see(ivan, "#new").click()
    look.at("choose")
    shot(ivan, "picking-choose-1280")
    press(ivan, "Add to the course")
    see(ivan, "#name-error")
    look.at("choose, name missing", "422")
    ivan.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 1400, "deviceScaleFactor": 1, "mobile": False},
    )
    shot(ivan, "picking-choose-360")
    ivan.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    see(ivan, "#name").send_keys("Field trip")
    press(ivan, "Add to the course")
    wait(ivan, tells("h1", "Added to the course"), "the LMS did not get the rooms")

    in_frame(ivan, running, "ivan", "geology", "Copy the course")
    ivan.switch_to.default_content()
    wait(ivan, lambda d: "copy-1" in d.current_url, "not copied")
    shot(ivan, "picking-copied-in-the-lms")
    # The link of the copy says where it comes from; one without a room would not.
    ivan.find_elements(By.NAME, "link")[2].send_keys(Keys.ENTER)
    ivan.switch_to.frame("tool")
    wait(ivan, tells("h1", "Geology copy 1"), "the copied link does not open the copy")

    # What the admin sees of it.
    ada = chromium()
    ada.get(running.sign_in)
    press(ada, "Sign in")
    press(ada, "Geology")
    press(ada, "Settings")
    see(ada, "#lms-courses")
    look_at_admin = Look(ada)
    look_at_admin.at("settings")
    shot(ada, "lms-courses-1280")
    press(ada, "Move")
    see(ada, "input[name=course]").click()
    look_at_admin.at("move")
    shot(ada, "lms-course-move-1280")
    press(ada, "Move the LMS course")
    wait(ada, tells("#lms-courses", "Moved here from Geology"), "not moved")
    shot(ada, "lms-course-moved-1280")
    press(ada, "Move back")
    wait(ada, lambda d: "Moved here from Geology" not in d.page_source, "not moved back")
    see(ada, "#summary").send_keys("Rocks and how they fold")
    press(ada, "Save")
    ada.get(f"{running.tool}/courses")
    press(ada, "Geology copy 1")
    wait(ada, lambda d: "copied from Geology" in see(d, "main").text, "nothing is offered")
    look_at_admin.at("a copied course")
    press(ada, "See what")
    see(ada, "#thing-summary").click()
    look_at_admin.at("what a copy takes over")
    press(ada, "Take over")
    wait(ada, lambda d: see(d, "#thing-error"), "nothing ticked is taken for an answer")
    look_at_admin.at("nothing to take over ticked", "422")
    assert look.wrong + look_at_admin.wrong == []
