"""The cast and the stage: an application with a database of its own, and a real platform on loopback."""

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kept
import pytest
from chromiums import CHROMEDRIVER, CHROMIUM, Chromiums
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from selenium import webdriver
from sqlalchemy import Integer, create_engine, event, text
from sqlalchemy.engine import make_url
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from lti_tool import create_app, database, jobs
from lti_tool.classroom import accounts, courses, plans, sessions
from lti_tool.classroom.accounts import Role, User
from lti_tool.classroom.courses import Enrollment, Source
from lti_tool.classroom.sessions import Kind
from lti_tool.commands import demonstration
from lti_tool.commands.demonstration import Demo
from lti_tool.database import db
from lti_tool.lti import keys, registrations
from lti_tool.lti.keys import ToolKey
from lti_tool.pages import visitor
from lti_tool.practice_lms import Mailbox, Platform, serve
from lti_tool.practice_lms import create_app as create_lms
from lti_tool.practice_lms.keys import SigningKey, new_key

TOOL = "https://tool.example"
SECRET = "the-tests-secret-which-is-long-enough-for-anybody"
REQUIRED = set(os.environ.get("LTI_TOOL_TEST_REQUIRE", "").replace(",", " ").split())
POSTGRESQL = os.environ.get("LTI_TOOL_TEST_POSTGRESQL_URL", "")
# With several test processes each has a database of its own, beside the one that was named.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
REDIS = os.environ.get("LTI_TOOL_TEST_REDIS_URL", "")
SCREENSHOTS = Path(__file__).parent / "screenshots"
# What every test would make anew: compiled templates, an empty database with its tables.
KEPT = Path(tempfile.mkdtemp(prefix="doorlist-tests-"))
EMPTY_SQLITE = KEPT / "empty.sqlite"
kept.keep_routes()
kept.keep_people()
kept.keep_keys()


def pytest_unconfigure() -> None:
    shutil.rmtree(KEPT, ignore_errors=True)


def missing(what: str, how: str) -> None:
    """Skip, unless this run said that nothing may be skipped."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here: {how}")
    pytest.skip(f"no {what}: {how}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that touches the database runs on both; what a browser shows does not depend on it."""
    if "database_kind" in metafunc.fixturenames:
        browsers = {"chromium", "firefox"} & set(metafunc.fixturenames)
        kinds = ["sqlite"] if browsers else ["sqlite", "postgresql"]
        if metafunc.definition.get_closest_marker("postgresql"):
            kinds = ["postgresql"]
        metafunc.parametrize("database_kind", kinds)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever opens a Chromium is a browser test, and runs when nothing else does."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


# --- the application ---------------------------------------------------------------------


@pytest.fixture
def settings() -> dict[str, Any]:
    """A test module overrides this to change settings of `app`."""
    return {}


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path) -> Iterator[str]:
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'doorlist.sqlite'}"
        return
    if not POSTGRESQL:
        missing("postgresql", "set LTI_TOOL_TEST_POSTGRESQL_URL to an empty database")
    yield _own_postgresql()


@cache
def _own_postgresql() -> str:
    if not WORKER:
        return POSTGRESQL
    named = make_url(POSTGRESQL)
    own = named.set(database=f"{named.database}_{WORKER}")
    engine = create_engine(named, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{own.database}" WITH (FORCE)'))
        connection.execute(text(f'CREATE DATABASE "{own.database}"'))
    engine.dispose()
    return own.render_as_string(hide_password=False)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A real SMTP server that keeps what it is sent."""
    with Mailbox() as caught:
        yield caught


@pytest.fixture
def app(database_url: str, settings: dict[str, Any], mailbox: Mailbox, tmp_path: Path) -> Iterator[Flask]:
    """The application on a fresh database; its mail goes to `mailbox`."""
    settings = {
        "TESTING": True,
        "SECRET_KEY": SECRET,
        "PUBLIC_URL": TOOL,
        "DATABASE_URL": database_url,
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": mailbox.port,
        "MAIL_TIMEOUT": 20,
        "ALLOW_PRIVATE_PLATFORMS": True,
        "QUEUE_FILE": str(tmp_path / "queue.sqlite"),
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    if database_url.startswith("sqlite") and EMPTY_SQLITE.exists():
        shutil.copy(EMPTY_SQLITE, make_url(database_url).database or "")
    application = create_app(**settings)
    application.jinja_env.bytecode_cache = FileSystemBytecodeCache(str(KEPT))
    with application.app_context():
        kept.keep_statements(db.engine)
        if db.engine.dialect.name == "postgresql":
            _empty_postgresql()
        elif not EMPTY_SQLITE.exists():
            _make_sqlite()
        _give_key()
    yield application
    with application.app_context():
        db.session.remove()
        db.engine.dispose()


_key: dict[str, str] = {}


def _give_key() -> None:
    """The tool's own key, for the same reason made once."""
    if _key:
        db.session.add(ToolKey(**_key))
    else:
        made = keys.current_key()
        _key.update(kid=made.kid, private_key=made.private_key, public_jwk=made.public_jwk)
    db.session.commit()


_prepared: set[str] = set()


def _make_sqlite() -> None:
    """The tables, made once and then copied as a file."""
    db.metadata.create_all(db.engine)
    db.session.remove()
    with db.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    shutil.copy(db.engine.url.database or "", EMPTY_SQLITE)


def _empty_postgresql() -> None:
    url = str(db.engine.url)
    if url not in _prepared:
        with db.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        db.metadata.create_all(db.engine)
        _prepared.add(url)
    with db.engine.begin() as connection:
        # TRUNCATE makes new files for every table and takes five times as long.
        connection.exec_driver_sql(_emptying())


@cache
def _emptying() -> str:
    tables = db.metadata.sorted_tables
    deletes = [f'DELETE FROM "{table.name}"' for table in reversed(tables)]
    counters = [
        f"SELECT setval(pg_get_serial_sequence('\"{table.name}\"', 'id'), 1, false)"
        for table in tables
        if "id" in table.c and isinstance(table.c.id.type, Integer)
    ]
    return "; ".join(deletes + counters)


def empty_database(app: Flask) -> None:
    """Not even tables: as an operator finds it."""
    with app.app_context():
        if db.engine.dialect.name == "postgresql":
            with db.engine.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
            _prepared.discard(str(db.engine.url))
        else:
            db.drop_all()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser nobody has signed in."""
    return new_client(app)


def new_client(app: Flask) -> FlaskClient:
    browser = app.test_client()
    browser.environ_base = {**browser.environ_base, "HTTP_USER_AGENT": "tests"}
    original = browser.open

    def open_securely(*args: Any, **kwargs: Any) -> TestResponse:
        kwargs.setdefault("base_url", TOOL)
        return original(*args, **kwargs)

    browser.open = open_securely  # type: ignore[method-assign]
    return browser


@pytest.fixture
def work(app: Flask) -> Callable[[], None]:
    """Do everything that is due in the queue, now."""

    def run() -> None:
        with app.app_context():
            jobs.run_due()

    return run


@pytest.fixture
def move_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Move the one clock everybody asks."""
    real = database.clock
    offset = [timedelta(0)]

    def clock() -> datetime:
        return real() + offset[0]

    monkeypatch.setattr(database, "clock", clock)

    def move(by: timedelta) -> None:
        offset[0] += by

    return move


# --- the cast ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """Ids of the people and things that every test knows."""

    account: int
    other_account: int
    # Owner of the account, its instructor of both courses, its students; Eve owns the other account.
    ada: int
    ivan: int
    sam: int
    tess: int
    eve: int
    # Two courses without a plan: Ivan, Sam and Tess are in geology, only Ivan in statics.
    geology: int
    statics: int
    # A free plan of 40 seats.
    plan: int


@pytest.fixture
def cast(app: Flask) -> Cast:
    """Two accounts with their people, enrolled by hand."""
    with app.app_context():
        account = accounts.add_account("default", "Linden Polytechnic")
        other = accounts.add_account("other", "Oak College")

        def person(at: accounts.Account, name: str, role: Role) -> User:
            return accounts.add_user(
                at.id,
                name=name,
                email=f"{name.split()[0].lower()}@example.org",
                role=role,
                mailbox_proven=True,
            )

        ada = person(account, "Ada Okonkwo", Role.OWNER)
        ivan = person(account, "Ivan Petrović", Role.INSTRUCTOR)
        sam = person(account, "Sam Whitfield", Role.STUDENT)
        tess = person(account, "Tess van der Meulen", Role.STUDENT)
        eve = person(other, "Eve Mallory", Role.OWNER)
        geology = courses.add_course(account.id, "Introduction to Structural Geology")
        statics = courses.add_course(account.id, "Statics")
        for course, user, role in (
            (geology, ivan, Role.INSTRUCTOR),
            (geology, sam, Role.STUDENT),
            (geology, tess, Role.STUDENT),
            (statics, ivan, Role.INSTRUCTOR),
        ):
            db.session.add(
                Enrollment(
                    account_id=account.id,
                    course_id=course.id,
                    user_id=user.id,
                    role=role,
                    source=Source.MANUAL,
                )
            )
        plan = plans.grant(account, seats=40, name="Autumn 40-1")
        db.session.commit()
        return Cast(
            account.id, other.id, ada.id, ivan.id, sam.id, tess.id, eve.id, geology.id, statics.id, plan.id
        )


class Browser:
    """A test client that behaves like a browser on our pages: same origin, CSRF token at hand."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self._token = ""

    def get(self, url: str, **options: Any) -> TestResponse:
        return self.client.get(url, **options)

    def post(self, url: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        """Post as a form of ours does."""
        if not self._token:
            page = self.client.get("/sign-in")
            found = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
            assert found, page.text
            self._token = unescape(found[1])
        headers = {"Sec-Fetch-Site": "same-origin", "X-CSRFToken": self._token, **options.pop("headers", {})}
        return self.client.post(url, data=data, headers=headers, **options)


@pytest.fixture
def browse(app: Flask) -> Callable[[int | None], Browser]:
    """browse(cast.sam) is Sam's browser, signed in; browse(None) nobody's."""

    def open_browser(user_id: int | None) -> Browser:
        client = new_client(app)
        if user_id is not None:
            client.set_cookie(
                visitor.OWN_COOKIE, sign_in_token(app, user_id), domain=urlsplit(TOOL).hostname, secure=True
            )
        return Browser(client)

    return open_browser


def sign_in_token(app: Flask, user_id: int) -> str:
    """A session's token, as signing in would have set it."""
    with app.app_context():
        _, token = sessions.start(db.session.get_one(User, user_id), Kind.OWN, lifetime=timedelta(hours=12))
        db.session.commit()
        return token


# --- the platform ------------------------------------------------------------------------


@cache
def platform_key() -> SigningKey:
    """Making an RSA key takes longer than most tests: one serves them all."""
    return new_key()


class Lms:
    """The practice LMS, connected to the account "default"; passes everything else on to it."""

    def __init__(self, platform: Platform, registration_id: int) -> None:
        self.platform = platform
        self.registration_id = registration_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self.platform, name)

    def launch(
        self, browser: "Browser | FlaskClient", person: str, course: str, **login: Any
    ) -> TestResponse:
        """Login, authorization and launch as a browser does them; the answer to the launch."""
        client = browser.client if isinstance(browser, Browser) else browser
        begun = client.post("/lti/login", data=self.platform.login_parameters(person, course, **login))
        found = re.search(r'data-authorize="([^"]+)"', begun.text)
        assert found, begun.text
        query = dict(parse_qsl(urlsplit(unescape(found[1])).query))
        return client.post(
            "/lti/launch", data=self.platform.authorize(query), headers={"Sec-Fetch-Dest": "iframe"}
        )


def connect(platform: Platform, client_id: str) -> int:
    """Connect a platform to the account "default", its deployment 1 approved; the registration's id."""
    account = accounts.find_account("default") or accounts.add_account("default", "Linden Polytechnic")
    registration = registrations.add_registration(
        name="Linden campus",
        issuer=platform.issuer,
        client_id=client_id,
        auth_url=platform.auth_url,
        token_url=platform.token_url,
        jwks_url=platform.jwks_url,
    )
    connection = accounts.connect(account, registration)
    accounts.approve(connection, registrations.note_deployment(registration, "1"))
    db.session.commit()
    return registration.id


@pytest.fixture
def lms(app: Flask) -> Iterator[Lms]:
    """A Moodle-like platform on loopback, connected to the account "default" with deployment 1."""
    platform = Platform(key=platform_key())
    server = serve(create_lms(platform))
    tool = platform.connect_tool(
        "doorlist-client", ("1",), login_url=f"{TOOL}/lti/login", launch_url=f"{TOOL}/lti/launch"
    )
    tool.jwks = lambda: new_client(app).get("/lti/jwks.json").get_json()
    with app.app_context():
        registration_id = connect(platform, "doorlist-client")
    yield Lms(platform, registration_id)
    server.stop()


# --- browsers ----------------------------------------------------------------------------


@dataclass
class LiveServer:
    """The application on a port of its own, as `url` in browsers, with a worker beside it."""

    app: Flask
    url: str


@pytest.fixture
def server(app: Flask) -> Iterator[LiveServer]:
    """Serve `app` on http://localhost:PORT, and run its jobs as they fall due."""
    http = make_server("127.0.0.1", 0, app, threaded=True)
    url = f"http://localhost:{http.server_port}"
    app.config["PUBLIC_URL"] = url
    threading.Thread(target=http.serve_forever, daemon=True).start()
    consumer = jobs.make_consumer(app)
    consumer._set_signal_handlers = lambda: None
    consumer.start()
    yield LiveServer(app, url)
    consumer.stop(graceful=True)
    http.shutdown()
    http.server_close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Demo]:
    """The demo, as anybody starts it: tool at localhost, practice LMS at 127.0.0.1."""
    stage = demonstration.start(
        create_app, secret=SECRET, folder=tmp_path, tool_port=0, lms_port=0, LOG_LEVEL="WARNING"
    )
    yield stage
    stage.stop()


@pytest.fixture(scope="session")
def chromiums() -> Iterator[Chromiums]:
    """Every Chromium that runs."""
    running = Chromiums()
    yield running
    running.close()


@pytest.fixture
def chromium(chromiums: Chromiums) -> Iterator[Callable[..., webdriver.Chrome]]:
    """chromium() opens another Chromium: fake camera, third-party cookies blocked (cookies=0 allows).

    block="TOOL,PLATFORM" withholds every cookie and storage of the tool under the platform.
    """
    if not CHROMIUM or not CHROMEDRIVER:
        missing("browser", "install chromium and chromium-driver")
    yield chromiums.open
    chromiums.take_back()


@pytest.fixture
def shot() -> Callable[[webdriver.Chrome, str], None]:
    """Keep a picture of what the browser shows, to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)

    def take(driver: webdriver.Chrome, name: str) -> None:
        driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    return take


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """Every SQL statement that reaches the database, as it is sent."""
    seen: list[str] = []
    with app.app_context():
        engine = db.engine

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)
