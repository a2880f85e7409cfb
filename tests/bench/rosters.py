"""A whole roster: first sync, the same again, one in a hundred changed; beside floor and peer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from lti_tool.practice_lms.messages import Privacy, roster_row
from lti_tool.practice_lms.people import Membership, generated

from .measuring import HOME, Line, in_turn
from .stage import StandIn, kinds, new_database, new_source

# What large platforms give at most.
PAGE = 1000
CHANGED_EVERY = 100


def measure(folder: Path, sizes: tuple[int, ...], rounds: int) -> Iterator[Line]:
    """Each size on each database."""
    with new_source(folder / "roster-source") as source:
        for size in sizes:
            _write_pages(source.folder / str(size), size, changed=False)
            _write_pages(source.folder / f"{size}-changed", size, changed=True)
            for kind in kinds():
                numbers = count()
                ways: dict[str, Callable[[], Mapping[str, float]]] = {
                    way: partial(_once, way, kind, source, size, numbers) for way in ("ours", "floor")
                }
                found = in_turn(1 if size > 50_000 else rounds, ways)
                yield from _lines(kind, size, found)


def _write_pages(folder: Path, size: int, *, changed: bool) -> None:
    folder.mkdir()
    rows = []
    for index, (person, role) in enumerate(generated(size, 10_001)):
        row = roster_row("moodle", Membership(person, (role,)), Privacy())
        if changed and index % CHANGED_EVERY == 50:
            row["name"] = f"{row.get('name', '')} Newman".strip()
        rows.append(row)
    for page, start in enumerate(range(0, size, PAGE), start=1):
        body = {"id": "roster", "context": {"id": "2"}, "members": rows[start : start + PAGE]}
        (folder / f"{page}.json").write_text(json.dumps(body, ensure_ascii=False))


def _once(way: str, kind: str, source: StandIn, size: int, numbers: "count[int]") -> dict[str, float]:
    with new_database(kind, source.folder, f"roster_{way}_{size}_{next(numbers)}") as database:
        asked = {
            "kind": kind,
            "database": database.url,
            "folder": str(source.folder),
            "source": source.url,
            "roster": str(size),
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.roster_once", way],
            cwd=HOME,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout)
    for step, wanted in (("first", "applied"), ("unchanged", "unchanged"), ("changed", "applied")):
        if found.pop(f"{step}_state", wanted) != wanted:
            raise RuntimeError(
                f"the {step} sync did not end as {wanted}: {done.stdout} {done.stderr[-2000:]}"
            )
    return found


def _lines(kind: str, size: int, found: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    ours, floor, merge = found["ours"], found["floor"]["floor"], found["floor"]["merge"]
    name = f"{size:,}, {kind}"
    # The goals were set for 100,000; below 10,000 what a sync costs at all shows more than its rows.
    goal: Callable[[float], float | None] = lambda limit: limit if size >= 10_000 else None  # noqa: E731
    yield Line(
        "roster",
        f"{name}: first ÷ floor",
        ours["first"] / floor,
        at_most=goal(3 if kind == "sqlite" else 4),
        of=f"{ours['first']:.2f} s to {floor:.3f} s of CPU",
    )
    yield Line(
        "roster",
        f"{name}: ORM merge per row ÷ first",
        merge * size / ours["first"],
        at_least=goal(30),
        of=f"{merge * 1000:.2f} ms a row",
    )
    yield Line(
        "roster",
        f"{name}: unchanged ÷ floor",
        ours["unchanged"] / floor,
        at_most=goal(0.1),
        of=f"{ours['unchanged']:.3f} s",
    )
    yield Line("roster", f"{name}: rows written when unchanged", ours["unchanged_rows"], "", at_most=0)
    yield Line(
        "roster",
        f"{name}: 1 % changed ÷ floor",
        ours["changed"] / floor,
        at_most=goal(1),
        of=f"{ours['changed']:.3f} s",
    )
    # A new name is a row of the person and one of the enrollment, which keeps the digest.
    yield Line(
        "roster",
        f"{name}: rows written for {size // CHANGED_EVERY:,} changed",
        ours["changed_rows"],
        "",
        at_most=2 * (size // CHANGED_EVERY),
    )
    yield Line("roster", f"{name}: memory over idle", ours["memory"], "MB", at_most=80)
