"""What every test's application would make anew though it is always the same, kept for the next one.

Each test has an application of its own, so nothing a test does to one is seen by another. But Werkzeug
compiles two functions for each address, SQLAlchemy each statement for each engine, a private key is checked
for a twentieth of a second, and the practice LMS thinks of two thousand people: half of the suite's time.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jwt.algorithms
from sqlalchemy import Engine
from werkzeug.routing import Rule

from lti_tool.practice_lms.campus import Campus

_builders: dict[tuple[object, ...], Callable[..., tuple[str, str]]] = {}
_compile_builder = Rule._compile_builder


def _kept_builder(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
    # Everything that the function is written from.
    key = (rule.rule, tuple(rule._trace), repr(rule.defaults), append_unknown)
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


def keep_routes() -> None:
    """The functions that build addresses are the same in every application."""
    Rule._compile_builder = _kept_builder  # type: ignore[method-assign]


_engines: dict[str, tuple[Any, Any]] = {}


def keep_statements(engine: Engine) -> None:
    """Statements compiled for one engine serve the next on the same kind of database.

    Connections, their pool and what listens to them stay the engine's own.
    """
    dialect, compiled = _engines.setdefault(engine.dialect.name, (engine.dialect, engine._compiled_cache))
    engine.dialect = engine.pool._dialect = dialect
    # Of 500, which suffice for one application, many would be thrown away and compiled again.
    compiled.capacity = 5000
    engine._compiled_cache = compiled


def keep_keys() -> None:
    """A private key that was read once need not be checked again."""
    jwt.algorithms.load_pem_private_key = cache(jwt.algorithms.load_pem_private_key)


_settle = Campus._settle
_settled: dict[str, Campus] = {}


def _settle_again(campus: Campus) -> None:
    if not _settled:
        _settled["first"] = Campus(with_people=False)
        _settle(_settled["first"])
    # People and courses cannot be changed, only replaced.
    for name, value in vars(_settled["first"]).items():
        if isinstance(value, dict):
            vars(campus)[name] = {
                key: dict(kept) if isinstance(kept, dict) else kept for key, kept in value.items()
            }
        elif isinstance(value, int):
            vars(campus)[name] = value


def keep_people() -> None:
    """Every practice LMS begins with the same people in the same courses."""
    Campus._settle = _settle_again  # type: ignore[method-assign]
