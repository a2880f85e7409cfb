"""A Firefox for the tests, spoken to in its own protocol: Debian packages no geckodriver.

Marionette is JSON over TCP, `length:[0, id, command, parameters]` and `length:[1, id, error, result]`; the
commands are WebDriver's (Firefox source docs, testing/marionette).
"""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
SECONDS = 60
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

# Nothing of its own on the network, no first-run pages.
_QUIET = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "intl.accept_languages": "en",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class FirefoxError(Exception):
    """Firefox answered a command with an error."""


class Firefox:
    """A headless Firefox with a profile of its own, and what `preferences` say beyond its defaults."""

    def __init__(self, profile: Path, **preferences: Any) -> None:
        profile.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        wanted = {**_QUIET, **preferences, "marionette.port": port}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in wanted.items()]
        (profile / "user.js").write_text("\n".join(lines), "utf-8")
        self._process = subprocess.Popen(
            [FIREFOX or "firefox", "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._count = 0
        try:
            self._socket = self._connect(port)
            self._stream = self._socket.makefile("rb")
            self._receive()
            self.command(
                "WebDriver:NewSession", capabilities={"alwaysMatch": {"timeouts": {"pageLoad": 30_000}}}
            )
            self.command("WebDriver:SetWindowRect", width=1280, height=900)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _connect(self, port: int) -> socket.socket:
        end = time.monotonic() + SECONDS
        while True:
            try:
                connected = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.1)
            else:
                return connected

    def _receive(self) -> Any:
        length = b""
        while (digit := self._stream.read(1)) != b":":
            if not digit:
                raise FirefoxError("Firefox is gone")
            length += digit
        return json.loads(self._stream.read(int(length)))

    def command(self, name: str, **parameters: Any) -> Any:
        """One WebDriver command and its result."""
        self._count += 1
        message = json.dumps([0, self._count, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._receive()
        if error:
            raise FirefoxError(f"{name}: {error['error']}: {error['message']}")
        return result["value"] if isinstance(result, dict) and set(result) == {"value"} else result

    def get(self, url: str) -> None:
        """Go there."""
        self.command("WebDriver:Navigate", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.command("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def see(self, css: str) -> Any:
        """The element shown under this selector, waited for while pages come and go."""
        script = "return [...document.querySelectorAll(arguments[0])].find(e => e.checkVisibility()) ?? null"
        return self.wait(lambda: self.run(script, css), f"{css} was not shown")

    def text(self, css: str) -> str:
        """What is written in what is shown under this selector."""
        return str(self.command("WebDriver:GetElementText", id=self.see(css)[_ELEMENT]))

    def press(self, words: str) -> None:
        """Press the button or link with these words, as a person does."""
        script = """return [...document.querySelectorAll('button, a')].find(
            e => e.textContent.includes(arguments[0]) && e.checkVisibility()) ?? null"""
        found = self.wait(lambda: self.run(script, words), f"no button {words!r}")
        self.command("WebDriver:ElementClick", id=found[_ELEMENT])

    def enter_frame(self, name: str) -> None:
        """Look into a frame from now on."""
        found = self.see(f"iframe[name={name}]")
        self.command("WebDriver:SwitchToFrame", element=found[_ELEMENT], focus=True)

    def leave_frame(self) -> None:
        """Look at the whole page again."""
        self.command("WebDriver:SwitchToFrame", id=None)

    def windows(self) -> set[str]:
        """Every window that is open."""
        return set(self.command("WebDriver:GetWindowHandles"))

    def enter_new_window(self, before: set[str]) -> None:
        """Look at the window that was not there before."""
        opened = self.wait(lambda: self.windows() - before, "no window opened")
        self.command("WebDriver:SwitchToWindow", handle=opened.pop(), focus=True)

    def save_screenshot(self, path: str) -> None:
        """A picture of what is shown."""
        picture = self.command("WebDriver:TakeScreenshot", full=False)
        Path(path).write_bytes(base64.b64decode(picture))

    def wait(self, true: Callable[[], Any], otherwise: str) -> Any:
        """Wait as a person would, while the page changes underneath."""
        end = time.monotonic() + SECONDS
        last: object = ""
        while time.monotonic() < end:
            try:
                found = true()
            except FirefoxError as error:
                last = error
            else:
                if found:
                    return found
            time.sleep(0.1)
        raise AssertionError(f"{otherwise} {last}\n{self.run('return document.body.innerText')}")

    def quit(self) -> None:
        """Close it."""
        try:
            self.command("Marionette:Quit", flags=["eForceQuit"])
        except (OSError, FirefoxError):
            self._process.kill()
        self._stream.close()
        self._socket.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Firefox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.quit()
