"""Every sentence for people can be translated: `make words` finds it where it is written."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.frontend import parse_keywords

ROOT = Path(__file__).parent.parent
TRANSLATES = {"_", "_n", "gettext", "ngettext", "lazy_gettext"}
# What `make words` is told to look for beside what Babel knows by itself.
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
KEYWORDS = DEFAULT_KEYWORDS | parse_keywords(re.findall(r" -k (\S+)", MAKEFILE))
# The practice LMS plays a foreign system and speaks English alone.
SOURCES = [path for path in sorted((ROOT / "lti_tool").rglob("*.py")) if "practice_lms" not in path.parts]


def sentences(tree: ast.AST) -> Iterator[str]:
    """What is handed to a function that translates, the many beside the one."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in TRANSLATES:
            for argument in call.args[: 2 if call.func.id in ("_n", "ngettext") else 1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def collected(path: Path) -> set[str]:
    """What make words finds in a file."""
    found: set[str] = set()
    for _line, message, _comments, _context in extract_from_file("python", path, keywords=KEYWORDS):
        found.update([message] if isinstance(message, str) else [one for one in message if one])
    return found


def test_make_words_collects_every_sentence_of_the_code() -> None:
    said = {path: set(sentences(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}
    missed = {path.name: said[path] - collected(path) for path in SOURCES if said[path]}
    assert {name: lost for name, lost in missed.items() if lost} == {}
    assert sum(map(len, said.values())) > 300


@pytest.mark.parametrize("folder", ["lti_tool", "templates"])
def test_sentences_are_set_as_print_sets_them(folder: str) -> None:
    spoken = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html", ".txt")]
    wrong = [
        f"{path.name}: {sentence}"
        for path in spoken
        if "practice_lms" not in path.parts
        for sentence in re.findall(r"""(?:gettext|\b_n?)\(\s*"([^"]+)\"""", path.read_text(encoding="utf-8"))
        if re.search(r"\w'\w|!|\bplease\b|successfully|\boops\b", sentence, re.IGNORECASE)
    ]
    assert wrong == []
