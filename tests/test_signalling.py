"""The room's socket: the server says who is who; a window's word counts for nothing but its wishes."""

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from conftest import REDIS, SECRET, Cast, LiveServer, missing, sign_in_token
from flask import Flask
from simple_websocket import Client, ConnectionClosed
from sqlalchemy import select
from werkzeug.serving import make_server
from wsproto.utilities import LocalProtocolError

from lti_tool import create_app
from lti_tool.classroom import accounts, courses, plans
from lti_tool.classroom.rooms import Attendance, ChatMessage, Meeting
from lti_tool.database import db
from lti_tool.pages import signalling, visitor


class Window:
    """A browser window in the room, as far as the server can see."""

    def __init__(
        self, server: LiveServer, course: int, user: int | None, *, page: str = "", token: str = ""
    ) -> None:
        address = server.url.replace("http://", "ws://") + f"/courses/{course}/room/socket"
        token = token or sign_in_token(server.app, user or 0)
        headers = {"Origin": server.url, "Cookie": f"{visitor.OWN_COOKIE}={token}"}
        self.socket = Client(address + (f"?page={page}" if page else ""), headers=headers)

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def next(self, seconds: float = 20) -> dict[str, Any] | None:
        """The next message; None when the server hung up."""
        try:
            text = self.socket.receive(timeout=seconds)
        except ConnectionClosed:
            return None
        assert text is not None, f"nothing was said for {seconds} s"
        message: dict[str, Any] = json.loads(text)
        return message

    def wait(self, kind: str, seconds: float = 20) -> dict[str, Any]:
        """The next message of a kind; the others are passed over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            message = self.next(max(0.05, until - time.monotonic()))
            assert message is not None, f"hung up before {kind!r}"
            if message["kind"] == kind:
                return message
        raise AssertionError(f"no {kind!r} in {seconds} s")

    def quiet(self, kind: str, seconds: float = 1) -> bool:
        """Is nothing of this kind said for a while?"""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                text = self.socket.receive(timeout=left)
            except ConnectionClosed:
                return True
            if text is not None and json.loads(text)["kind"] == kind:
                return False
        return True

    def hung_up(self, seconds: float = 20) -> bool:
        """Does the server close the line?"""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                self.socket.receive(timeout=0.2)
            except ConnectionClosed:
                return True
        return False

    def close(self) -> None:
        if self.socket.connected:
            self.socket.close()


Enter = Callable[..., Window]


# The tests' own end of a line that is cut while it sends stumbles in its thread; that is no matter.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def enter(server: LiveServer, cast: Cast) -> Iterator[Enter]:
    """enter(cast.sam) is a window of Sam's in the active course's room."""
    give_plan(server.app, cast, cast.geology, cast.plan)
    opened: list[Window] = []

    def open_window(user: int | None, course: int = 0, **how: Any) -> Window:
        window = Window(server, course or cast.geology, user, **how)
        opened.append(window)
        return window

    yield open_window
    for window in opened:
        window.close()
    everybody_left()


def everybody_left() -> None:
    """Let the server finish with its lines before its database goes."""
    lines = ("room-line", "process_request_thread")
    assert eventually(lambda: not [t for t in threading.enumerate() if any(n in t.name for n in lines)])


def give_plan(app: Flask, cast: Cast, course: int, plan: int) -> None:
    with app.app_context():
        found, given = courses.find_course(cast.account, course), plans.find_plan(cast.account, plan)
        assert found is not None
        assert given is not None
        courses.activate(found, given)
        db.session.commit()


def seats(app: Flask) -> list[tuple[int | None, str, bool, bool]]:
    """(user, role, moderates, still inside) for every seat, in the order they were taken."""
    with app.app_context():
        return [
            (s.user_id, str(s.role), s.moderates, s.left_at is None)
            for s in db.session.scalars(select(Attendance).order_by(Attendance.id))
        ]


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_names_and_roles_are_the_servers_whatever_a_window_claims(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    assert ivan.wait("welcome")["you"]["moderates"] is True
    sam = enter(cast.sam)
    you = sam.wait("welcome")["you"]
    assert (you["name"], you["role"], you["moderates"]) == ("Sam Whitfield", "student", False)
    joined = ivan.wait("joined")["person"]
    while joined["name"] != "Sam Whitfield":
        joined = ivan.wait("joined")["person"]
    sam.send(
        kind="show", microphone=True, camera=True, screen=True, hand=True,
        name="Ivan Petrović", role="instructor", moderates=True, peer=joined["peer"], id=cast.ivan,
    )  # fmt: skip
    shown = ivan.wait("shown")["person"]
    assert (shown["id"], shown["name"], shown["role"], shown["moderates"]) == (
        cast.sam,
        "Sam Whitfield",
        "student",
        False,
    )
    assert shown["camera"] is True
    assert shown["screen"] is False
    assert shown["hand"]
    assert sam.wait("refused")["why"] == "screen"
    assert seats(server.app) == [
        (cast.ivan, "instructor", True, True),
        (cast.sam, "student", False, True),
    ]


def knock(server: LiveServer, course: int, **headers: str) -> int:
    """Ask for a socket; the status of the answer, 101 if it was given."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    }
    connection.request("GET", f"/courses/{course}/room/socket", headers=asked)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost", "null", ""])
def test_a_socket_from_another_site_is_refused_before_it_is_one(
    server: LiveServer, cast: Cast, origin: str
) -> None:
    cookie = f"{visitor.OWN_COOKIE}={sign_in_token(server.app, cast.ivan)}"
    headers = {"Origin": origin} if origin else {}
    assert knock(server, cast.geology, Cookie=cookie, **headers) == 403
    assert seats(server.app) == []
    # Only the origin was wrong.
    assert knock(server, cast.geology, Cookie=cookie, Origin=server.url) == 101
    assert eventually(lambda: seats(server.app) == [(cast.ivan, "instructor", True, False)])
    everybody_left()


def test_a_socket_without_a_session_is_refused(server: LiveServer, cast: Cast) -> None:
    for cookie in ({}, {"Cookie": f"{visitor.OWN_COOKIE}=made-up"}):
        assert knock(server, cast.geology, Origin=server.url, **cookie) == 303
    assert seats(server.app) == []


def test_a_socket_to_another_accounts_room_finds_nothing(server: LiveServer, cast: Cast) -> None:
    cookie = f"{visitor.OWN_COOKIE}={sign_in_token(server.app, cast.eve)}"
    assert knock(server, cast.geology, Origin=server.url, Cookie=cookie) == 404


def test_who_is_not_on_the_list_gets_no_seat(server: LiveServer, cast: Cast, enter: Enter) -> None:
    sam = enter(cast.sam, course=cast.statics)
    assert sam.next() == {"kind": "closed"}
    assert sam.hung_up()
    assert seats(server.app) == []


def test_a_student_opens_no_meeting(server: LiveServer, cast: Cast, enter: Enter) -> None:
    sam = enter(cast.sam)
    assert sam.next() == {"kind": "closed"}
    with server.app.app_context():
        assert db.session.scalar(select(Meeting)) is None


def test_two_students_do_not_share_the_last_seat(server: LiveServer, cast: Cast, enter: Enter) -> None:
    with server.app.app_context():
        account = accounts.find_account("default")
        course = courses.find_course(cast.account, cast.geology)
        assert account is not None
        assert course is not None
        courses.activate(course, plans.grant(account, seats=2))
        db.session.commit()
    enter(cast.ivan).wait("welcome")
    tokens = [sign_in_token(server.app, user) for user in (cast.sam, cast.tess)]
    answers: list[str] = []

    def rush(token: str) -> None:
        message = enter(None, token=token).next()
        answers.append(message["kind"] if message else "")

    rushing = [threading.Thread(target=rush, args=(token,)) for token in tokens]
    for thread in rushing:
        thread.start()
    for thread in rushing:
        thread.join()
    assert sorted(answers) == ["closed", "welcome"]


def test_signals_reach_one_other_window_with_the_sender_set_by_us(cast: Cast, enter: Enter) -> None:
    ivan, sam = enter(cast.ivan), None
    ivan_peer = ivan.wait("welcome")["you"]["peer"]
    sam = enter(cast.sam)
    sam_peer = sam.wait("welcome")["you"]["peer"]
    tess = enter(cast.tess)
    tess.wait("welcome")
    offer = {"type": "offer", "sdp": "v=0", "extra": "dropped"}
    sam.send(kind="signal", to=ivan_peer, description=offer, **{"from": "somebody-else"})
    heard = ivan.wait("signal")
    assert heard == {"kind": "signal", "from": sam_peer, "description": {"type": "offer", "sdp": "v=0"}}
    sam.send(kind="signal", to=ivan_peer, candidate={"candidate": "candidate:1", "sdpMid": "0", "x": 1})
    assert ivan.wait("signal")["candidate"] == {"candidate": "candidate:1", "sdpMid": "0"}
    assert tess.quiet("signal")


def test_signals_do_not_leave_the_meeting(server: LiveServer, cast: Cast, enter: Enter) -> None:
    in_geology = enter(cast.ada)
    peer = in_geology.wait("welcome")["you"]["peer"]
    in_statics = enter(cast.ivan, course=cast.statics)
    in_statics.wait("welcome")
    in_statics.send(kind="signal", to=peer, description={"type": "offer", "sdp": "v=0"})
    in_statics.send(kind="say", words="Only for statics")
    assert in_statics.wait("said")["message"]["words"] == "Only for statics"
    assert in_geology.quiet("signal")
    assert in_geology.quiet("said", 0.3)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ('{"kind": "promote"}', "unknown"),
        ('{"kind": ["say"]}', "unknown"),
        ('["say"]', "unknown"),
        ("not json", "unreadable"),
        ("[" * 20000, "unreadable"),
        ('{"kind": "signal", "to": 7, "description": {}}', "unreadable"),
        ('{"kind": "signal", "to": "x", "description": {"type": "offer", "sdp": {}}}', "unreadable"),
        ('{"kind": "signal", "to": "x"}', "unreadable"),
        ('{"kind": "say", "words": "   "}', "words"),
        ('{"kind": "say", "words": {"a": 1}}', "words"),
        ('{"kind": "say", "words": "\\u0000\\ud800"}', "words"),
        (json.dumps({"kind": "say", "words": "x" * 2001}), "words"),
    ],
)
def test_what_is_not_understood_is_refused_and_the_line_holds(
    server: LiveServer, cast: Cast, enter: Enter, message: str, why: str
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    ivan.socket.send(message)
    assert ivan.wait("refused")["why"] == why
    ivan.send(kind="say", words="still here")
    assert ivan.wait("said")["message"]["words"] == "still here"


def test_a_message_that_is_too_large_ends_the_line_and_frees_the_seat(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    ivan.socket.send("x" * (signalling.MESSAGE_BYTES + 1))
    assert ivan.hung_up()
    assert eventually(lambda: seats(server.app) == [(cast.ivan, "instructor", True, False)])


def test_what_is_no_websocket_frame_ends_the_line_and_frees_the_seat(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    ivan.socket.sock.sendall(b"\xff\x80GET / HTTP/1.1\r\n\r\n")
    assert ivan.hung_up()
    assert eventually(lambda: seats(server.app) == [(cast.ivan, "instructor", True, False)])


def test_writing_too_fast_is_refused(cast: Cast, enter: Enter) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    for number in range(30):
        ivan.send(kind="say", words=str(number))
    assert ivan.wait("refused")["why"] == "too_many"


def test_who_goes_on_sending_nonsense_is_hung_up(server: LiveServer, cast: Cast, enter: Enter) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    with suppress(ConnectionClosed, LocalProtocolError, OSError):
        for _ in range(2000):
            ivan.socket.send("nonsense")
    assert ivan.hung_up()
    assert eventually(lambda: seats(server.app) == [(cast.ivan, "instructor", True, False)])


def test_the_chat_is_kept_and_told_to_who_comes_later(server: LiveServer, cast: Cast, enter: Enter) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    ivan.send(kind="say", words="  <script>alert(1)</script>\x07 שלום  ", name="Somebody")
    said = ivan.wait("said")["message"]
    assert said["words"] == "<script>alert(1)</script> שלום"
    assert said["name"] == "Ivan Petrović"
    sam = enter(cast.sam)
    assert [m["words"] for m in sam.wait("welcome")["history"]] == ["<script>alert(1)</script> שלום"]
    with server.app.app_context():
        kept = db.session.scalars(select(ChatMessage)).one()
        assert (kept.user_id, kept.text) == (cast.ivan, "<script>alert(1)</script> שלום")


def test_a_second_window_takes_the_seat_and_the_first_is_told(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    first = enter(cast.sam)
    first_peer = first.wait("welcome")["you"]["peer"]
    second = enter(cast.sam)
    people = second.wait("welcome")["people"]
    assert [p["name"] for p in people] == ["Ivan Petrović", "Sam Whitfield"]
    assert first.wait("moved")
    assert first.hung_up()
    assert ivan.wait("left")["peer"] == first_peer
    assert seats(server.app) == [
        (cast.ivan, "instructor", True, True),
        (cast.sam, "student", False, False),
        (cast.sam, "student", False, True),
    ]


def test_a_renewed_connection_of_the_same_window_is_no_leaving(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    first = enter(cast.sam, page="sams-window-1")
    peer = first.wait("welcome")["you"]["peer"]
    again = enter(cast.sam, page="sams-window-1")
    assert again.wait("welcome")["you"]["peer"] == peer
    # Another person's window may call itself the same and is still somebody else.
    assert enter(cast.tess, page="sams-window-1").wait("welcome")["you"]["peer"] != peer
    assert ivan.quiet("left")


def test_who_closes_the_window_leaves_and_the_seat_says_when(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    ivan, sam, tess = enter(cast.ivan), None, None
    ivan.wait("welcome")
    sam, tess = enter(cast.sam), enter(cast.tess)
    sam_peer, tess_peer = sam.wait("welcome")["you"]["peer"], tess.wait("welcome")["you"]["peer"]
    sam.send(kind="leave")
    assert ivan.wait("left")["peer"] == sam_peer
    # Killed, without a word of goodbye.
    tess.socket.sock.shutdown(socket.SHUT_RDWR)
    assert ivan.wait("left")["peer"] == tess_peer
    assert eventually(lambda: [s[3] for s in seats(server.app)] == [True, False, False])


def test_cameras_beyond_the_limit_stay_off_except_moderators(
    server: LiveServer, cast: Cast, enter: Enter
) -> None:
    server.app.config["ROOM_CAMERAS"] = 1
    sam_and_tess = []
    ivan = enter(cast.ivan)
    ivan.wait("welcome")
    for user in (cast.sam, cast.tess):
        window = enter(user)
        assert window.wait("welcome")["cameras"] == 1
        window.send(kind="show", microphone=True, camera=True)
        sam_and_tess.append(window)
    tess = sam_and_tess[1]
    assert tess.wait("refused")["why"] == "cameras"
    ivan.send(kind="show", camera=True)
    shown = ivan.wait("shown")["person"]
    while shown["id"] != cast.ivan:
        shown = ivan.wait("shown")["person"]
    assert shown["camera"] is True
    late = enter(cast.ada)
    people = {p["name"]: p["camera"] for p in late.wait("welcome")["people"]}
    assert people == {
        "Ivan Petrović": True,
        "Sam Whitfield": True,
        "Tess van der Meulen": False,
        "Ada Okonkwo": False,
    }


def test_one_screen_at_a_time_and_a_moderator_takes_over(cast: Cast, enter: Enter) -> None:
    ivan, ada = enter(cast.ivan), enter(cast.ada)
    ivan.wait("welcome")
    ada.wait("welcome")
    ivan.send(kind="show", screen=True)
    assert ada.wait("shown")["person"]["screen"] is True
    ada.send(kind="show", screen=True)
    told = {}
    while len(told) < 2:
        person = ivan.wait("shown")["person"]
        told[person["name"]] = person["screen"]
        if told == {"Ivan Petrović": True}:
            told = {}
    assert told == {"Ada Okonkwo": True, "Ivan Petrović": False}


def test_ending_for_everyone_hangs_up_every_window(server: LiveServer, cast: Cast, enter: Enter) -> None:
    ivan, sam = enter(cast.ivan), None
    ivan.wait("welcome")
    sam = enter(cast.sam)
    sam.wait("welcome")
    _post_end(server, cast)
    for window in (ivan, sam):
        assert window.wait("ended")
        assert window.hung_up()
    assert [s[3] for s in seats(server.app)] == [False, False]
    # Nobody is let in by an old line; a new entry of the moderator opens a new meeting.
    assert enter(cast.sam).next() == {"kind": "closed"}


def _post_end(server: LiveServer, cast: Cast) -> None:
    """As the button does it."""
    cookie = f"{visitor.OWN_COOKIE}={sign_in_token(server.app, cast.ivan)}"
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.request("GET", f"/courses/{cast.geology}/room", headers={"Cookie": cookie})
    answer = connection.getresponse()
    page = answer.read().decode()
    form = (answer.getheader("Set-Cookie") or "").split(";")[0]
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    connection.request(
        "POST",
        f"/courses/{cast.geology}/room/end",
        body=urlencode({"csrf_token": token[1]}),
        headers={
            "Cookie": f"{cookie}; {form}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Sec-Fetch-Site": "same-origin",
        },
    )
    ended = connection.getresponse()
    assert ended.status == 303, ended.read()
    connection.close()


def test_two_processes_share_a_room_over_redis(
    app: Flask, database_url: str, cast: Cast, settings: dict[str, Any]
) -> None:
    if not REDIS:
        missing("redis", "set LTI_TOOL_TEST_REDIS_URL to an empty Redis database")
    give_plan(app, cast, cast.geology, cast.plan)
    servers: list[Any] = []
    live: list[LiveServer] = []
    windows: list[Window] = []
    for _ in range(2):
        one = create_app(
            TESTING=True, SECRET_KEY=SECRET, DATABASE_URL=database_url, REDIS_URL=REDIS, LOG_LEVEL="WARNING"
        )
        http_server = make_server("127.0.0.1", 0, one, threaded=True)
        one.config["PUBLIC_URL"] = f"http://localhost:{http_server.server_port}"
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        servers.append(http_server)
        live.append(LiveServer(one, one.config["PUBLIC_URL"]))
    try:
        ivan = Window(live[0], cast.geology, cast.ivan)
        windows.append(ivan)
        ivan_peer = ivan.wait("welcome")["you"]["peer"]
        sam = Window(live[1], cast.geology, cast.sam)
        windows.append(sam)
        welcome = sam.wait("welcome")
        assert [p["name"] for p in welcome["people"]] == ["Ivan Petrović", "Sam Whitfield"]
        sam_peer = welcome["you"]["peer"]
        sam.send(kind="signal", to=ivan_peer, description={"type": "offer", "sdp": "v=0"})
        assert ivan.wait("signal")["from"] == sam_peer
        ivan.send(kind="say", words="Across")
        assert sam.wait("said")["message"]["words"] == "Across"
        # The second window is served by the other process.
        again = Window(live[0], cast.geology, cast.sam)
        windows.append(again)
        again.wait("welcome")
        assert sam.wait("moved")
        assert ivan.wait("left")["peer"] == sam_peer
    finally:
        for window in windows:
            window.close()
        everybody_left()
        for one, http_server in zip(live, servers, strict=True):
            http_server.shutdown()
            http_server.server_close()
            with one.app.app_context():
                db.engine.dispose()
