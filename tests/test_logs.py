"""Logs hold ids and codes, never what lets somebody in, names a mailbox or quotes a message."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from conftest import Browser, Cast, Lms
from flask import Flask

from lti_tool import logs


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LOG_LEVEL": "INFO"}


@pytest.fixture
def lines(app: Flask) -> Iterator[list[str]]:
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    keep = Keep()
    keep.setFormatter(logs.JsonLines())
    logging.getLogger().addHandler(keep)
    logs.log.addHandler(keep)
    yield written
    logging.getLogger().removeHandler(keep)
    logs.log.removeHandler(keep)


def test_a_launch_an_invitation_and_a_sync_leave_no_secret_in_the_log(
    app: Flask, cast: Cast, lms: Lms, browse: Callable[[int | None], Browser], work, mailbox, lines: list[str]
) -> None:
    browser = browse(None)
    course = lms.launch(browser, "ivan", "geology").location
    browser.post(f"{course}/roster/sync")
    ada = browse(cast.ada)
    ada.post("/users/invite", {"name": "Guest", "email": "guest@example.org", "role": "student"})
    work()
    link = mailbox.wait_for("guest@example.org").links[0]
    browse(None).get(link)
    lms.launch(browse(None), "sam", "geology", claims={"nonce": "another"})
    log = "\n".join(lines)
    assert '"launch"' in log
    assert '"mail"' in log
    assert '"sync"' in log
    for line in lines:
        assert json.loads(line)["event"]
    token = link.rpartition("/")[2]
    for secret in ("eyJ", token, "guest@example.org", lms.person("ivan").email, lms.person("ivan").name):
        assert secret not in log, secret


@pytest.mark.parametrize(
    "text",
    [
        "id_token=eyJhbGciOi.eyJpc3Mi.c2ln&state=abc",
        "Authorization: Bearer abc.def",
        "GET /invitations/AbCdEf0123 HTTP/1.1",
        "user sam.whitfield@example.org came",
        "client_assertion=xyz",
        "POST /sign-in/link/AbCdEf0123",
    ],
)
def test_what_slips_into_a_message_is_taken_out(text: str) -> None:
    shown = logs.redact(text)
    for secret in ("eyJ", "abc.def", "AbCdEf", "whitfield", "xyz", "=abc"):
        assert secret not in shown
