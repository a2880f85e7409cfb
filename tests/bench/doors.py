"""The door's decision: a route that asks it, beside an empty one."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .floors import QUERIES
from .measuring import Line, Served, ask, in_turn, served
from .stage import as_environment, furnish, kinds, make_app, new_database, new_source, settings_for

PER_ROUND = 200


def measure(folder: Path, rounds: int) -> Iterator[Line]:
    """On one worker, connection by connection."""
    with ExitStack() as stack:
        source = stack.enter_context(new_source(folder / "door-source"))
        empty = stack.enter_context(served("tests.bench.floors:empty", folder, workers=1))
        runs = {"empty": partial(_round, empty, "/")}
        doors: dict[str, Served] = {}
        for kind in kinds():
            database = stack.enter_context(new_database(kind, folder, "door"))
            settings = settings_for(database, folder)
            app = make_app(settings)
            with app.app_context():
                ids = furnish(source.platform)
            doors[kind] = stack.enter_context(
                served(
                    "tests.bench.door:app",
                    folder,
                    workers=1,
                    BENCH_USER=str(ids["student"]),
                    BENCH_COURSE=str(ids["course"]),
                    **as_environment(settings),
                )
            )
            runs[kind] = partial(_round, doors[kind], "/")
        in_turn(1, runs)
        found = in_turn(rounds, runs)
        queries = {kind: int(ask(door.port, "/").header(QUERIES)) for kind, door in doors.items()}
    yield from _lines(found, queries)


def _round(server: Served, path: str) -> dict[str, float]:
    before = server.seconds()
    for _ in range(PER_ROUND):
        if (answer := ask(server.port, path)).status != 200:
            raise RuntimeError(f"{server.application} answered {answer.status}: {answer.text[-600:]}")
    return {"cpu": (server.seconds() - before) / PER_ROUND * 1000}


def _lines(found: Mapping[str, Mapping[str, float]], queries: Mapping[str, int]) -> Iterator[Line]:
    empty = found["empty"]["cpu"]
    yield Line("door", "floor: an empty Flask route", empty, "ms")
    for kind, asked in queries.items():
        cpu = found[kind]["cpu"]
        yield Line("door", f"decision, {kind} ÷ floor", cpu / empty, at_most=1.6, of=f"{cpu:.2f} ms")
        yield Line("door", f"queries, {kind}", asked, "", at_most=1)
