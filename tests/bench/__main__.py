"""`python -m tests.bench`: measure, print one table, keep it as results.md and results.json."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from . import doors, invitations, launches, people, rosters, weights
from .measuring import Line, machine
from .stage import kinds

PARTS = ("launch", "roster", "people", "invite", "door", "weight")
VERSIONS = ("Flask", "gunicorn", "SQLAlchemy", "psycopg", "PyLTI1p3", "PyJWT", "cryptography", "msgspec")
_HEAD = ("Path", "Figure", "Measured", "Goal", "", "Made of")


def main() -> int:
    """Run the parts asked for; with --strict the exit status says whether every goal was met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; without: all")
    parser.add_argument("--full", action="store_true", help="rosters of 1,000, 10,000 and 100,000")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--keep", action="store_true", help="write results.md and results.json")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a goal is missed")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **machine(),
        "python": sys.version.split()[0],
        "databases": ", ".join(kinds()),
        **{name: version(name) for name in VERSIONS},
    }
    with tempfile.TemporaryDirectory(prefix="doorlist-bench-") as folder:
        lines = []
        for line in _measure(asked, Path(folder)):
            lines.append(line)
            print(
                line.part,
                line.what,
                line.shown,
                line.goal,
                line.verdict,
                file=sys.stderr,
                sep="  ",
                flush=True,
            )
    about["took"] = f"{time.monotonic() - began:.0f} s"
    print(_table(lines, about))
    if asked.keep or not asked.parts:
        here = Path(__file__).parent
        (here / "results.md").write_text(_table(lines, about), "utf-8")
        kept = {"about": about, "lines": [line.as_json() for line in lines]}
        (here / "results.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return int(asked.strict and any(line.verdict == "MISSED" for line in lines))


def _measure(asked: argparse.Namespace, folder: Path) -> Iterator[Line]:
    for part in asked.parts or PARTS:
        print(f"… {part}", file=sys.stderr, flush=True)
        if part == "launch":
            yield from launches.measure(folder, asked.rounds)
        elif part == "roster":
            sizes = (1_000, 10_000, 100_000) if asked.full else (10_000,)
            yield from rosters.measure(folder, sizes, min(asked.rounds, 2))
        elif part == "people":
            yield from people.measure(folder, asked.rounds)
        elif part == "invite":
            yield from invitations.measure(folder, min(asked.rounds, 2))
        elif part == "door":
            yield from doors.measure(folder, asked.rounds)
        else:
            yield from weights.measure(folder)


def _table(lines: list[Line], about: dict[str, str]) -> str:
    rows = [
        _HEAD,
        *((line.part, line.what, line.shown, line.goal, line.verdict, line.of) for line in lines),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    facts = "\n".join(f"- {name}: {fact}" for name, fact in about.items())
    return f"# Ratios against floors measured in the same run\n\n{facts}\n\n" + "\n".join(drawn) + "\n"


if __name__ == "__main__":
    sys.exit(main())
