"""SECURITY.md lists what is refused: every attack has its line, and every test it names exists."""

import re
from pathlib import Path

HOME = Path(__file__).parent.parent
LINE = re.compile(r"^\| (\d+b?) \| .+ \| .+ \| `(test_\w+)` \|$", re.MULTILINE)


def test_every_attack_is_listed_with_a_test_that_exists() -> None:
    listed = LINE.findall((HOME / "SECURITY.md").read_text())
    assert [number for number, _ in listed] == sorted(
        {*map(str, range(1, 101)), "9b"}, key=lambda number: (int(number.rstrip("b")), number)
    )
    tests = {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", file.read_text())
    }
    assert {test for _, test in listed} <= tests


def test_no_line_of_the_list_is_written_so_that_it_is_not_read() -> None:
    text = (HOME / "SECURITY.md").read_text()
    assert len(re.findall(r"^\| \d", text, re.MULTILINE)) == len(LINE.findall(text))
