"""Our keys: sealed, rotated by the clock and by hand, kept by platforms; theirs, when they change; clocks."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import Lms, new_client
from flask import Flask
from sqlalchemy import select, text
from test_launch_forgeries import Tab, arrives, assert_refused
from test_roster_page import text_of

from lti_tool import jobs
from lti_tool.classroom.accounts import Connection
from lti_tool.database import db
from lti_tool.lti import keys, scopes, tokens
from lti_tool.lti.claims import clock_offset
from lti_tool.lti.keys import KEPT, OVERLAP, KeyUnreadable, ToolKey
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.registrations import Platform, Registration
from lti_tool.lti.tokens import TokenRefused
from lti_tool.practice_lms.keys import new_key

MoveClock = Callable[[timedelta], None]


class Caching:
    """A platform that keeps our key set until it is told to look again."""

    def __init__(self, app: Flask, lms: Lms) -> None:
        self.app, self.lms = app, lms
        self.look_again()

    def look_again(self) -> None:
        held = new_client(self.app).get("/lti/jwks.json").get_json()
        self.lms.platform.registration().jwks = lambda: held

    def grants(self) -> bool:
        """A real grant; our own kept token is left out."""
        registration = db.session.scalars(select(Registration)).one()
        try:
            tokens.access_token(Platform.of(registration), scopes.ROSTER, renew=True)
        except TokenRefused as refused:
            return refused.error != "invalid_client"
        return True


@pytest.fixture
def caching(app: Flask, lms: Lms) -> Caching:
    return Caching(app, lms)


def kids(app: Flask) -> list[str]:
    return [key["kid"] for key in new_client(app).get("/lti/jwks.json").get_json()["keys"]]


def test_no_private_key_lies_readable_in_the_database(app: Flask, lms: Lms) -> None:
    with app.app_context():
        keys.rotate()
        db.session.commit()
        for row in db.session.execute(text("SELECT * FROM tool_key")):
            written = " ".join(map(str, row))
            assert "PRIVATE KEY" not in written
            assert "MII" not in written
            # Only the public half is published: n and e.
            assert '"d":' not in written
        key = db.session.scalars(select(ToolKey)).first()
        assert key is not None
        assert key.open().startswith("-----BEGIN PRIVATE KEY-----")
        # Read once in a process: it takes longer than all else that a token request does.
        held = key.signer()
        db.session.expire_all()
        assert key.signer() is held
    for key in new_client(app).get("/lti/jwks.json").get_json()["keys"]:
        assert set(key) == {"kty", "n", "e", "kid", "alg", "use"}


def test_a_platform_that_keeps_our_old_keys_works_on_while_they_are_rotated(
    app: Flask, lms: Lms, caching: Caching, move_clock: MoveClock
) -> None:
    before = kids(app)
    with app.app_context():
        new = keys.rotate()
        db.session.commit()
        assert kids(app) == [*before, new.kid]
        # Not looked again yet: the old key signs until everybody can have.
        assert caching.grants()
        move_clock(OVERLAP - timedelta(minutes=1))
        lms.platform.clock_offset = OVERLAP.total_seconds() - 60
        assert caching.grants()
        caching.look_again()
        move_clock(timedelta(minutes=2))
        lms.platform.clock_offset += 120
        assert keys.current_key().kid == new.kid
        assert caching.grants()
        # A day after it signed last the old one leaves the set.
        assert kids(app) == [*before, new.kid]
        move_clock(KEPT)
        assert kids(app) == [new.kid]


def test_a_stolen_key_is_gone_at_once(app: Flask, lms: Lms, caching: Caching) -> None:
    before = kids(app)
    answer = app.test_cli_runner().invoke(args=["keys", "rotate", "--at-once", "--json"])
    assert answer.exit_code == 0, answer.output
    assert not set(before) & set(kids(app))
    with app.app_context():
        assert not caching.grants()
        caching.look_again()
        assert caching.grants()


def test_a_key_is_renewed_by_the_clock(app: Flask, lms: Lms, move_clock: MoveClock) -> None:
    def sweep() -> int:
        with app.app_context():
            jobs.sweep()
        return len(kids(app))

    assert sweep() == 1
    move_clock(timedelta(days=89))
    assert sweep() == 1
    move_clock(timedelta(days=1, minutes=1))
    assert sweep() == 2
    assert sweep() == 2
    move_clock(timedelta(days=2))
    assert sweep() == 1
    app.config["KEY_DAYS"] = 0
    move_clock(timedelta(days=500))
    assert sweep() == 1


def test_of_two_workers_one_renews_the_key(app: Flask, lms: Lms, move_clock: MoveClock) -> None:
    move_clock(timedelta(days=91))
    start = threading.Barrier(2)
    made: list[bool] = []

    def work() -> None:
        with app.app_context():
            start.wait()
            made.append(keys.rotate_if_due(90) is not None)
            db.session.commit()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(made) == [False, True]
    assert len(kids(app)) == 2


def test_a_changed_secret_is_named_and_a_new_key_mends_it(
    app: Flask, lms: Lms, caching: Caching, move_clock: MoveClock
) -> None:
    with app.app_context():
        keys.current_key().signer()
    app.config["SECRET_KEY"] = "another secret that is long enough to start with"
    with app.app_context():
        # Not even one that was read with the right secret before.
        with pytest.raises(KeyUnreadable):
            keys.current_key().signer()
        with pytest.raises(PlatformUnavailable, match="own_key_unreadable"):
            caching.grants()
        # Another worker may have the right secret: the clock alone throws no key away.
        move_clock(timedelta(days=91))
        lms.platform.clock_offset = 91 * 86_400
        assert keys.rotate_if_due(90) is None
    answer = app.test_cli_runner().invoke(args=["keys", "rotate"])
    assert answer.exit_code == 0, answer.output
    with app.app_context():
        caching.look_again()
        # There is nothing to overlap with.
        assert caching.grants()


class TestTheirs:
    """A platform's own keys, as launches and the doctor meet them."""

    def test_47_a_check_asks_no_address_inside(self, app: Flask, lms: Lms) -> None:
        app.config["ALLOW_PRIVATE_PLATFORMS"] = False
        with app.app_context():
            connection = db.session.scalars(select(Connection)).one()
            connection.registration.jwks_url = "https://169.254.169.254/latest/meta-data"
            db.session.commit()
            found = {one.code: one.facts.get("reason") for one in jobs.examine(connection)}
        assert found["keys_unavailable"] == "address_private"
        assert found["token_unavailable"] == "not_https"
        assert lms.platform.requests_to("/") == []

    def test_short_and_missing_keys_are_named(self, app: Flask, lms: Lms) -> None:
        short = new_key(1024)
        for held, found in (
            ([short], {"keys_weak"}),
            ([short, lms.platform.key], {"keys_some_weak"}),
            ([], {"keys_unavailable"}),
        ):
            lms.platform.jwks = lambda held=held: {"keys": [key.jwk for key in held]}  # type: ignore[method-assign]
            with app.app_context():
                connection = db.session.scalars(select(Connection)).one()
                assert {one.code for one in jobs.examine(connection) if one.code.startswith("keys")} == found

    def test_a_key_that_changed_twice_within_30_seconds_is_said_so(
        self, app: Flask, lms: Lms, move_clock: MoveClock
    ) -> None:
        platform = lms.platform

        def launched(**signing: Any) -> Any:
            return Tab(platform, new_client(app)).begin().post_claims(**signing)

        assert arrives(launched())
        move_clock(timedelta(seconds=31))
        platform.clock_offset = 31
        # A forger's kid uses up the question; the platform changes its key right after it.
        assert_refused(launched(headers={"kid": "made-up"}), "key_unknown")
        platform.rotate_key()
        asked = len(platform.requests_to("/jwks.json"))
        refused = launched()
        assert_refused(refused, "key_unknown")
        assert "Doorlist asks for them at most every 30 seconds" in text_of(refused)
        assert "Open the activity again in half a minute." in text_of(refused)
        assert len(platform.requests_to("/jwks.json")) == asked
        move_clock(timedelta(seconds=31))
        platform.clock_offset = 62
        assert arrives(launched())
        # The old one is still in the set, and still good.
        assert arrives(launched())


# --- clocks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issued", "begun", "moment", "offset"),
    [
        # made between the login and now: the clocks agree as far as anybody can tell
        (1000, 1000, 1000.4, 0.0),
        (1001, 1000, 1001.9, 0.0),
        # a whole second is the second's beginning
        (1000, 1001, 1001.2, 0.0),
        # waited four minutes on its way: nothing wrong with the clock
        (1000, 999, 1240.0, 0.0),
        # from the future, and from before it was asked for
        (1094, 1000, 1000.0, 94.0),
        (1094, 1000, 1000.4, 93.6),
        (905, 999, 1000.0, -93.0),
    ],
)
def test_a_launch_tells_the_clocks_apart(issued: int, begun: int, moment: float, offset: float) -> None:
    assert clock_offset(issued, begun, moment) == offset
