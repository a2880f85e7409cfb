"""What a course page weighs, at a first visit and again, and how many statements pages take."""

import gzip
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from lti_tool.classroom import sessions
from lti_tool.classroom.accounts import User
from lti_tool.classroom.sessions import Kind
from lti_tool.database import db
from lti_tool.pages import visitor

from .measuring import Line
from .stage import furnish, make_app, new_database, new_source, settings_for

_NEEDED = re.compile(
    r'<(?:link rel="(?:stylesheet|icon)"|script)[^>]*?(?:href|src)="([^"]+)"|<use href="([^"#]+)'
)
_FACE = re.compile(r"@font-face\s*{[^}]*}")
PAGES = {
    "student": ("/courses", "/courses/{course}"),
    "instructor": ("/courses/{course}", "/courses/{course}/roster"),
    "owner": ("/courses", "/courses/{course}", "/courses/{course}/roster", "/users", "/plans", "/lms"),
}


def measure(folder: Path) -> Iterator[Line]:
    """The page of a student in its own window; bytes as a proxy with gzip sends them."""
    with new_source(folder / "weight-source") as source, new_database("sqlite", folder, "weight") as database:
        app = make_app(settings_for(database, folder))
        with app.app_context():
            ids = furnish(source.platform)
        page = f"/courses/{ids['course']}"
        client = _browser(app, ids["student"])
        raw, packed = _weight(client, page)
        yield Line(
            "weight",
            "course page, first visit",
            packed / 1000,
            "KB",
            at_most=150,
            of=f"{raw / 1000:.0f} KB before gzip",
        )
        answer = client.get(page)
        yield Line(
            "weight",
            "course page, again",
            len(gzip.compress(answer.data)) / 1000,
            "KB",
            at_most=15,
            of=f"{len(answer.data) / 1000:.1f} KB before gzip",
        )
        yield from _statements(app, ids)
        with app.app_context():
            db.engine.dispose()


def _browser(app: Flask, user_id: int) -> FlaskClient:
    client = app.test_client()
    with app.app_context():
        _, token = sessions.start(db.session.get_one(User, user_id), Kind.OWN, lifetime=timedelta(hours=1))
        db.session.commit()
    client.set_cookie(visitor.OWN_COOKIE, token, domain="localhost", secure=False)
    return client


def _weight(client: FlaskClient, page: str) -> tuple[int, int]:
    """The page with everything it makes a browser fetch: bytes as they are, and as gzip sends them."""
    sizes = []
    answer = client.get(page)
    wanted = [urljoin(page, found) for pair in _NEEDED.findall(answer.text) for found in pair if found]
    sizes.append(_sizes(answer.data, page))
    for address in dict.fromkeys(wanted):
        got = client.get(address)
        if got.status_code != 200:
            raise RuntimeError(f"{address} answered {got.status_code}")
        sizes.append(_sizes(got.data, address))
        if urlsplit(address).path.endswith(".css"):
            sizes += [
                _sizes(client.get(urljoin(address, font)).data, font)
                for font in _fonts(got.text, answer.text)
            ]
    return sum(raw for raw, _ in sizes), sum(packed for _, packed in sizes)


def _sizes(body: bytes, address: str) -> tuple[int, int]:
    return len(body), len(body) if ".woff2" in address else len(gzip.compress(body, 6))


def _fonts(style: str, text: str) -> Iterator[str]:
    """Fonts whose range has a character of the page."""
    letters = set(map(ord, re.sub(r"<[^>]*>", "", text)))
    for face in _FACE.findall(style):
        address = re.search(r"url\(['\"]?([^'\")]+)", face)
        reach = re.search(r"unicode-range:([^;}]+)", face)
        if address and (reach is None or any(_holds(part, letters) for part in reach[1].split(","))):
            yield address[1]


def _holds(part: str, letters: set[int]) -> bool:
    low, _, high = part.strip().upper().removeprefix("U+").partition("-")
    first, last = int(low.replace("?", "0"), 16), int((high or low).replace("?", "F"), 16)
    return any(first <= letter <= last for letter in letters)


def _statements(app: Flask, ids: dict[str, int]) -> Iterator[Line]:
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", note)
    for who, pages in PAGES.items():
        client = _browser(app, ids[who])
        for page in pages:
            address = page.format(**ids)
            # The first visit compiles statements and looks up languages.
            client.get(address)
            seen.clear()
            status = client.get(address).status_code
            if status != 200:
                yield Line("weight", f"{who}: {page} answered", status, "")
                continue
            yield Line("weight", f"statements, {who}: {page}", len(seen), "", at_most=10)
