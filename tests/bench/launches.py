"""Launch: login, signed id_token, everything written, the real course page; beside floor and peer."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from sqlalchemy import func, select

from lti_tool.classroom.accounts import User
from lti_tool.classroom.courses import Enrollment
from lti_tool.database import db
from lti_tool.lti.handshake import BurnedNonce

from .measuring import Line, Served, ask, free_port, in_turn, path_of, served
from .stage import (
    CLIENT,
    PEOPLE_BEFORE,
    Database,
    StandIn,
    as_environment,
    furnish,
    kinds,
    make_app,
    new_database,
    new_source,
    settings_for,
)

PER_ROUND = 60
CALLERS = 4
_GIVEN = ("Anna", "Björn", "Chloé", "Dragan", "Eleni", "Fionn", "Zoë")
_FAMILY = ("Müller", "O’Brien", "Núñez", "Łukasiewicz", "de la Cruz", "Stone & Hill")


@dataclass
class Begun:
    """A launch on its way: what the login said, and the token signed for it."""

    person: int
    state: str
    nonce: str
    cookies: Mapping[str, str]
    token: str = ""


class Tool:
    """A served tool, and how a browser launches it."""

    login_path, launch_path = "/login", "/launch"

    def __init__(self, server: Served, source: StandIn) -> None:
        self.server = server
        self.source = source
        self.target = f"http://127.0.0.1:{server.port}{self.launch_path}"

    def begin(self, person: int) -> Begun:
        """The login; its answer leads to the platform."""
        form = urlencode(
            {
                "iss": self.source.url,
                "login_hint": str(person),
                "target_link_uri": self.target,
                "lti_message_hint": f"hint-{person}",
                "client_id": CLIENT,
                "lti_deployment_id": "1",
            }
        )
        answer = ask(self.server.port, self.login_path, form=form)
        query = dict(parse_qsl(urlsplit(self.way_on(answer.text, answer.header("location"))).query))
        return Begun(person, query["state"], query["nonce"], answer.cookies)

    def way_on(self, page: str, location: str) -> str:
        """Where the login sends the browser."""
        return location

    def sign(self, begun: Begun) -> None:
        """The platform's part; not measured."""
        name = f"{_GIVEN[begun.person % 7]} {_FAMILY[begun.person % 6]} {begun.person}"
        # One in twenty-five teaches, as in a real course.
        claims = self.source.platform.claims(
            "ivan" if begun.person % 25 == 0 else "sam",
            "geology",
            client_id=CLIENT,
            nonce=begun.nonce,
            target=self.target,
            sub=f"person-{begun.person}",
            name=name,
            email=f"person-{begun.person}@example.org",
        )
        begun.token = self.source.platform.sign(claims)

    def finish(self, begun: Begun) -> None:
        """The launch, and the page it leads to."""
        form = urlencode({"id_token": begun.token, "state": begun.state})
        answer = ask(self.server.port, self.launch_path, form=form, cookies=begun.cookies)
        if answer.status != 200:
            raise RuntimeError(f"{self.server.application} answered {answer.status}: {answer.text[-600:]}")


class Doorlist(Tool):
    """Ours: the login answers with a page, the launch leads on to the course page."""

    login_path, launch_path = "/lti/login", "/lti/launch"

    def way_on(self, page: str, location: str) -> str:
        """The address that the page's script goes on to."""
        return unescape(page.partition('data-authorize="')[2].partition('"')[0])

    def finish(self, begun: Begun) -> None:
        """The launch, and the course page with the new session's cookie."""
        form = urlencode({"id_token": begun.token, "state": begun.state})
        answer = ask(self.server.port, self.launch_path, form=form, cookies=begun.cookies)
        if answer.status != 303:
            raise RuntimeError(f"the launch answered {answer.status}: {answer.text[-1200:]}")
        page = ask(self.server.port, path_of(answer.header("location")), cookies=answer.cookies)
        if page.status != 200 or b'data-gate="' not in page.body:
            raise RuntimeError(f"the course page answered {page.status}: {page.text[-1200:]}")


def measure(folder: Path, rounds: int) -> Iterator[Line]:
    """Floor, peer and ours, in turn, on one machine."""
    with ExitStack() as stack:
        source = stack.enter_context(new_source(folder / "launch-source"))
        source.platform.connect_tool(CLIENT, ("1",))
        keys = {
            "BENCH_PUBLIC_KEY": source.platform.key.public_pem,
            "BENCH_ISSUER": source.url,
            "BENCH_CLIENT": CLIENT,
        }
        floor = Tool(stack.enter_context(served("tests.bench.floors:launch", folder, **keys)), source)
        peer = Tool(stack.enter_context(served("tests.bench.peers:pylti1p3", folder, **keys)), source)
        ours, apps, databases = {}, {}, {}
        for kind in kinds():
            database = databases[kind] = stack.enter_context(new_database(kind, folder, "launch"))
            port = free_port()
            settings = settings_for(database, folder, port=port)
            apps[kind] = make_app(settings)
            with apps[kind].app_context():
                furnish(source.platform)
                db.engine.dispose()
            server = stack.enter_context(served("wsgi:app", folder, port=port, **as_environment(settings)))
            ours[kind] = Doorlist(server, source)
        people = count(1)
        runs: dict[str, Callable[[], Mapping[str, float]]] = {
            "floor": partial(_round, floor, people),
            "peer": partial(_round, peer, people),
        }
        for kind, tool in ours.items():
            runs[kind] = partial(_round, tool, people, databases[kind])
            runs[f"{kind} again"] = partial(_round, tool, None, databases[kind])
        in_turn(1, runs)
        fetched = source.asked("/jwks.json")
        own = {kind: partial(_round, tool, people, databases[kind]) for kind, tool in ours.items()}
        in_turn(1, own)
        fetched_warm = source.asked("/jwks.json") - fetched
        found = in_turn(rounds, runs)
        for kind, app in apps.items():
            with app.app_context():
                _check(kind)
                db.session.remove()
                db.engine.dispose()
    yield from _lines(found, fetched_warm)


def _round(tool: Tool, people: "count[int] | None", database: Database | None = None) -> dict[str, float]:
    """Some launches of new people, or of the same ones again: processor milliseconds and seconds for each."""
    numbers = [next(people) for _ in range(PER_ROUND)] if people is not None else range(-PER_ROUND, 0)
    with ThreadPoolExecutor(CALLERS) as callers:
        used, began = _used(tool, database), time.perf_counter()
        begun = list(callers.map(tool.begin, numbers))
        logins = time.perf_counter() - began
        for one in begun:
            tool.sign(one)
        began = time.perf_counter()
        list(callers.map(tool.finish, begun))
        wall = logins + time.perf_counter() - began
        used = [after - before for before, after in zip(used, _used(tool, database), strict=True)]
    return {
        "cpu": sum(used) / PER_ROUND * 1000,
        "database": used[1] / PER_ROUND * 1000,
        "wall": wall / PER_ROUND,
    }


def _used(tool: Tool, database: Database | None) -> list[float]:
    return [tool.server.seconds(), database.server_seconds() if database else 0.0]


def _check(kind: str) -> None:
    """Did every launch write what it should?"""
    burned, users, enrolled = (
        db.session.scalar(select(func.count()).select_from(table)) or 0
        for table in (BurnedNonce, User, Enrollment)
    )
    if not (burned >= users - PEOPLE_BEFORE - 1 > PER_ROUND and enrolled == users - 1):
        raise RuntimeError(f"{kind}: {burned} nonces, {users} users, {enrolled} enrollments")


def _lines(found: Mapping[str, Mapping[str, Any]], fetched_warm: int) -> Iterator[Line]:
    floor, peer = found["floor"], found["peer"]
    yield Line("launch", "floor: redirect + form POST + RS256", floor["cpu"], "ms")
    yield Line("launch", "peer: pylti1p3’s Flask adapters, nobody stored", peer["cpu"], "ms")
    for kind in kinds():
        ours, again = found[kind], found[f"{kind} again"]
        within = f", {ours['database']:.2f} ms of it in the server" if ours["database"] else ""
        made_of = f"{ours['cpu']:.2f} ms for each new person{within}"
        if kind == "sqlite":
            yield Line("launch", "CPU, SQLite ÷ floor", ours["cpu"] / floor["cpu"], at_most=2.8, of=made_of)
        else:
            yield Line("launch", f"CPU, {kind} ÷ floor", ours["cpu"] / floor["cpu"], of=made_of)
        speed, share = (1.8, 0.5) if kind == "sqlite" else (1.2, 0.65)
        yield Line(
            "launch",
            f"launches/s, {kind} ÷ peer",
            peer["wall"] / ours["wall"],
            at_least=speed,
            of=f"{1 / ours['wall']:.0f} to {1 / peer['wall']:.0f} a second",
        )
        yield Line("launch", f"CPU, {kind} ÷ peer", ours["cpu"] / peer["cpu"], at_most=share)
        yield Line(
            "launch",
            f"CPU, {kind}, known people ÷ floor",
            again["cpu"] / floor["cpu"],
            of=f"{again['cpu']:.2f} ms",
        )
    yield Line(
        "launch", "JWKS fetches when warm", fetched_warm, f"in {PER_ROUND * len(kinds())} launches", at_most=0
    )
