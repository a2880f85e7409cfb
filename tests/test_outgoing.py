"""What we ask of platforms: attacks 47–52, rebinding, and how seldom we ask for keys."""

import socket
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Lms, new_client
from flask import Flask
from flask.testing import FlaskClient
from test_launch_forgeries import Tab, arrives, assert_refused, error_of
from werkzeug.test import TestResponse

from lti_tool import database
from lti_tool.lti.outgoing import Limits, Outgoing, PlatformUnavailable, is_public
from lti_tool.practice_lms import Platform
from lti_tool.practice_lms.keys import new_key


@pytest.fixture
def lms(lms: Lms) -> Platform:
    return lms.platform


QUICK = Limits(connect=1.0, read=0.4, total=1.2, size=10_000)


class Listener:
    """A server on loopback that answers each connection by a script of our own."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        self.connections = 0
        self.requests: list[bytes] = []
        self.chunks: list[tuple[float, bytes]] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.requests.append(connection.recv(65_536))
                for wait, chunk in self.chunks:
                    time.sleep(wait)
                    connection.sendall(chunk)
            except OSError:
                return

    def close(self) -> None:
        self.socket.close()
        for connection in self._open:
            connection.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


def reason_of(url: str, *, allow_private: bool = True, limits: Limits = QUICK) -> str:
    with (
        Outgoing(limits, allow_private=allow_private) as session,
        pytest.raises(PlatformUnavailable) as raised,
    ):
        session.get(url)
    return raised.value.reason


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.88.99.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001::1",
    ],
)
def test_47_inward_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_47_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://lms.example.org/keys", "not_https"),
        ("ftp://lms.example.org/keys", "not_https"),
        ("file:///etc/passwd", "url_malformed"),
        ("gopher://lms.example.org:25/", "not_https"),
        ("https:///keys", "url_malformed"),
        ("https://user:secret@lms.example.org/", "url_malformed"),
        ("https://lms.example.org:22/", "port_refused"),
        ("https://lms.example.org:port/", "url_malformed"),
        ("https://[::1/", "url_malformed"),
        ("https://127.0.0.1/", "address_private"),
        ("https://127.0.0.1:8443/", "address_private"),
        ("https://2130706433/", "address_private"),
        ("https://0x7f.1/", "address_private"),
        ("https://[::1]/", "address_private"),
        ("https://[::ffff:127.0.0.1]/", "address_private"),
        ("https://169.254.169.254/latest/meta-data/", "address_private"),
        ("https://localhost/", "address_private"),
    ],
)
def test_47_addresses_that_lead_inward_are_not_asked(url: str, reason: str) -> None:
    assert reason_of(url, allow_private=False) == reason


def test_47_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, [["93.184.216.34", "10.0.0.7"]])
    assert reason_of("https://lms.example.org/", allow_private=False) == "address_private"


def test_47_the_address_that_was_checked_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch, listener: Listener
) -> None:
    """Rebinding: the name is public when checked, and ours a moment later."""
    asked = resolve(monkeypatch, [["93.184.216.34"], ["127.0.0.1"]])
    went: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        went.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    port = listener.socket.getsockname()[1]
    assert reason_of(f"https://lms.example.org:{port}/", allow_private=False) == "connection_refused"
    assert went == [("93.184.216.34", port)]
    assert asked == ["lms.example.org"]
    assert listener.connections == 0


def resolve(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> list[str]:
    """Names lead to these addresses, one list after the other; who was asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_48_proxies_and_passwords_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, listener: Listener, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    listener.chunks = [(0, answer(b"{}", b"Set-Cookie: a=b"))]
    with Outgoing(QUICK, allow_private=True) as session:
        assert session.get(listener.url).content == b"{}"
        assert session.get(listener.url).content == b"{}"
    sent = b"".join(listener.requests).lower()
    assert b"authorization" not in sent
    assert b"cookie" not in sent
    assert b"user-agent: doorlist/" in sent


def test_50_a_platform_that_hangs_is_given_up(listener: Listener) -> None:
    start = time.monotonic()
    listener.chunks = [(30, b"")]
    assert reason_of(listener.url) == "timeout"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", answer(b"x" * 500)[:-500]], ids=["head", "body"])
def test_50_a_platform_that_drips_is_given_up(listener: Listener, head: bytes) -> None:
    """Each byte comes in time, the whole never does."""
    start = time.monotonic()
    listener.chunks = [(0, head), *[(0.2, b"x")] * 60]
    assert reason_of(listener.url) == "timeout"
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("status", [b"301 M", b"302 F", b"303 S", b"307 T", b"308 P", b"304 N"])
def test_51_a_redirect_is_not_followed(listener: Listener, status: bytes) -> None:
    listener.chunks = [(0, answer(b"", b"Location: " + listener.url.encode() + b"inner", status=status))]
    assert reason_of(listener.url) == "redirected"
    assert listener.connections == 1


def test_52_an_answer_without_end_is_cut(listener: Listener) -> None:
    listener.chunks = [(0, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), *[(0, b"x" * 65_536)] * 480]
    assert reason_of(listener.url) == "too_large"


def test_52_an_answer_that_grows_when_unpacked_is_cut(listener: Listener) -> None:
    packed = zlib.compress(b"x" * 5_000_000, wbits=31)
    listener.chunks = [(0, answer(packed, b"Content-Encoding: gzip"))]
    assert len(packed) < QUICK.size
    assert reason_of(listener.url) == "too_large"


@pytest.mark.parametrize(
    "chunk", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort", b"not http\r\n\r\n"]
)
def test_a_cut_or_broken_answer_is_named(listener: Listener, chunk: bytes) -> None:
    listener.chunks = [(0, chunk)]
    assert reason_of(listener.url) == "connection_cut"


def test_a_closed_port_and_an_unknown_name_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert reason_of(f"http://127.0.0.1:{port}/") == "connection_refused"
    assert reason_of("http://no-such-name.invalid/") == "name_unknown"


def test_tls_must_hold(listener: Listener) -> None:
    listener.chunks = [(0, b"this is no TLS")]
    assert reason_of(listener.url.replace("http:", "https:")) == "tls_failed"


class TestKeys:
    """How often the platform's key set is asked for, and what happens when it fails."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch, lms: Platform) -> "Clock":
        return Clock(monkeypatch, lms)

    def test_a_warm_launch_asks_for_no_keys(self, lms: Platform, client: FlaskClient) -> None:
        for _ in range(3):
            assert arrives(Tab(lms, client).begin().post_claims())
        assert len(lms.requests_to("/jwks.json")) == 1

    def test_49_a_flood_of_unknown_kids_asks_once_in_30_seconds(
        self, lms: Platform, client: FlaskClient, clock: "Clock"
    ) -> None:
        tab = Tab(lms, client).begin()
        assert arrives(tab.post_claims())
        tab.begin()
        clock.move(seconds=31)
        for _ in range(5):
            assert_refused(tab.post_claims(headers={"kid": "unknown"}), "key_unknown")
        assert len(lms.requests_to("/jwks.json")) == 2
        assert arrives(tab.post_claims())

    def test_a_rotated_key_is_found(self, lms: Platform, client: FlaskClient, clock: "Clock") -> None:
        assert arrives(Tab(lms, client).begin().post_claims())
        lms.rotate_key()
        clock.move(seconds=31)
        assert arrives(Tab(lms, client).begin().post_claims())

    @pytest.mark.parametrize("fault", ["503", "500", "redirect", "huge", "html", "garbage"])
    def test_49_a_failed_answer_never_counts_as_keys(
        self, lms: Platform, client: FlaskClient, clock: "Clock", fault: str
    ) -> None:
        tab = Tab(lms, client).begin()
        lms.faults.jwks = fault
        assert_refused(tab.post_claims(), "keys_unavailable")
        lms.faults.jwks = None
        clock.move(seconds=6)
        assert arrives(tab.post_claims())

    def test_50_a_key_set_that_hangs_refuses_in_seconds(self, lms: Platform, client: FlaskClient) -> None:
        tab = Tab(lms, client).begin()
        lms.faults.jwks, lms.faults.delay = "slow", 8.0
        start = time.monotonic()
        assert_refused(tab.post_claims(), "keys_unavailable")
        assert time.monotonic() - start < 5

    def test_keys_serve_on_while_the_platform_is_down(
        self, lms: Platform, client: FlaskClient, clock: "Clock"
    ) -> None:
        assert arrives(Tab(lms, client).begin().post_claims())
        lms.faults.jwks = "503"
        clock.move(hours=5)
        assert arrives(Tab(lms, client).begin().post_claims())
        assert len(lms.requests_to("/jwks.json")) == 2
        # But not for ever: the key may have been withdrawn.
        clock.move(hours=20)
        assert error_of(Tab(lms, client).begin().post_claims()) == "keys_unavailable"

    def test_a_withdrawn_key_ends_with_the_next_fetch(
        self, lms: Platform, client: FlaskClient, clock: "Clock"
    ) -> None:
        old = lms.key
        assert arrives(Tab(lms, client).begin().post_claims())
        lms.rotate_key(keep_old=False)
        clock.move(hours=5)
        assert_refused(Tab(lms, client).begin().post_claims(key=old), "key_unknown")

    def test_many_first_launches_at_once_ask_once(self, app: Flask, lms: Platform) -> None:
        tabs = [Tab(lms, new_client(app)).begin() for _ in range(6)]
        lms.faults.jwks, lms.faults.delay = "slow", 0.5
        answers: list[TestResponse] = []
        threads = [threading.Thread(target=lambda tab=tab: answers.append(tab.post_claims())) for tab in tabs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [arrives(answer) for answer in answers] == [True] * 6
        assert len(lms.requests_to("/jwks.json")) == 1

    def test_another_platforms_slowness_holds_nobody_up(
        self, app: Flask, lms: Platform, client: FlaskClient
    ) -> None:
        """While keys are fetched no transaction is open: others write meanwhile."""
        assert arrives(Tab(lms, client).begin().post_claims())
        slow, quick = Tab(lms, new_client(app)).begin(), Tab(lms, new_client(app)).begin()
        lms.faults.jwks, lms.faults.delay = "slow", 2.0
        foreign = new_key()
        app.extensions["lti.platform_keys"].clear()
        done: list[bool] = []

        def wait_for_keys() -> None:
            slow.post_claims(key=foreign)
            done.append(True)

        waiting = threading.Thread(target=wait_for_keys)
        asked = len(lms.requests_to("/jwks.json"))
        waiting.start()
        while len(lms.requests_to("/jwks.json")) == asked and waiting.is_alive():
            time.sleep(0.02)
        with app.app_context():
            database.db.session.execute(
                database.insert(database.Base.metadata.tables["tool_key"]).values(
                    kid="x", private_key="", public_jwk="{}", created_at=database.now()
                )
            )
            database.db.session.rollback()
        assert not done, "the other had to wait for the keys"
        waiting.join()
        assert done
        assert quick.query


class Clock:
    """Ours and the platform's, moved together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lms: Platform) -> None:
        self.ahead = timedelta(0)
        self.lms = lms
        monkeypatch.setattr(database, "clock", lambda: datetime.now(UTC) + self.ahead)

    def move(self, **by: float) -> None:
        self.ahead += timedelta(**by)
        self.lms.clock_offset = self.ahead.total_seconds()
