"""Chromiums that one test after another uses: starting one costs more than a test's pages.

A test gets an empty window of one, as if just started: nothing is left of the test before but the process.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    # A picture that moves; encoding more of it is only work.
    "--use-fake-device-for-media-stream=fps=5",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--window-size=1280,900",
)
# What a profile begins with: third-party cookies (0 allowed, 1 blocked), and two hosts, the second of whose
# pages lets the first keep nothing in a frame, as Safari does.
Profile = tuple[int, str]


class Chromiums:
    """Those that run, by their profile."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="doorlist-chromiums-"))
        self.started = 0
        self.idle: dict[Profile, list[Chrome]] = {}
        self.used: list[tuple[Profile, Chrome]] = []

    def open(self, *, cookies: int = 1, block: str = "") -> Chrome:
        """A browser that shows an empty page and knows nothing."""
        hosts = ",".join(urlsplit(url).hostname or "" for url in block.split(",")) if block else ""
        profile = (cookies, hosts)
        waiting = self.idle.setdefault(profile, [])
        driver = waiting.pop() if waiting else self._start(*profile)
        self.used.append((profile, driver))
        return driver

    def take_back(self) -> None:
        """The test is over: make its browsers as new. One that does not obey is closed."""
        while self.used:
            profile, driver = self.used.pop()
            if driver.service.process is None or driver.service.process.poll() is not None:
                # Closed by the test.
                continue
            try:
                _forget(driver)
            except WebDriverException:
                driver.quit()
            else:
                self.idle[profile].append(driver)

    def close(self) -> None:
        """Close every one."""
        self.take_back()
        for driver in (one for waiting in self.idle.values() for one in waiting):
            driver.quit()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, cookies: int, hosts: str) -> Chrome:
        self.started += 1
        options = ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (*ARGUMENTS, f"--user-data-dir={self.folder / str(self.started)}"):
            options.add_argument(argument)
        preferences: dict[str, Any] = {
            "profile.cookie_controls_mode": cookies,
            "intl.accept_languages": "en",
        }
        if hosts:
            preferences["profile.content_settings.exceptions.cookies"] = {hosts: {"setting": 2}}
        options.add_experimental_option("prefs", preferences)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=Service(CHROMEDRIVER))
        # On a machine that is busy with much else a page takes its time.
        driver.set_page_load_timeout(90)
        driver.set_script_timeout(60)
        return driver


def _forget(driver: Chrome) -> None:
    """Leave one new tab: what was emulated, injected or open goes with the tabs it was for."""
    handles = driver.window_handles
    driver.switch_to.window(handles[0])
    driver.switch_to.new_window("tab")
    fresh = driver.current_window_handle
    for handle in handles:
        driver.switch_to.window(handle)
        driver.close()
    driver.switch_to.window(fresh)
    # Those of every partition.
    driver.execute_cdp_cmd("Storage.clearCookies", {})
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.execute_cdp_cmd("Browser.resetPermissions", {})
    # What was said before is said once.
    driver.get_log("browser")
