"""Settings: config/default.toml, then LTI_TOOL_* in the environment, then create_app(**settings)."""

import os
import secrets
import sys
import tomllib
from pathlib import Path
from typing import Any

from flask import Config

PACKAGE = Path(__file__).parent
# An installed wheel carries templates/ and config/ inside the package; a checkout has them beside it.
HOME = PACKAGE if (PACKAGE / "templates").is_dir() else PACKAGE.parent

PREFIX = "LTI_TOOL_"
# Read by the test suite and the demo, never by the application.
FOREIGN = {"TEST_REQUIRE", "TEST_POSTGRESQL_URL", "TEST_REDIS_URL", "TEST_CONSUMER"}


class SettingsWrong(Exception):
    """A setting is missing, unknown or of the wrong type: the application refuses to start."""


def defaults() -> dict[str, Any]:
    """Every setting with its default, from config/default.toml."""
    return tomllib.loads((HOME / "config" / "default.toml").read_text("utf-8"))


def load(config: Config, overrides: dict[str, Any]) -> None:
    """Fill `config` from file, environment and overrides; raise SettingsWrong with the name to mend."""
    known = defaults()
    values = dict(known)
    for variable, text in os.environ.items():
        name = variable.removeprefix(PREFIX)
        if name == variable or name in FOREIGN:
            continue
        if name not in known:
            raise SettingsWrong(f"{variable} is not a setting. See config/default.toml for their names.")
        values[name] = _read(variable, text, known[name])
    for name, value in overrides.items():
        if name not in known and name != "TESTING":
            raise SettingsWrong(f"{name} is not a setting. See config/default.toml for their names.")
        values[name] = value
    if not values["SECRET_KEY"] and "demo" in sys.argv[1:]:
        # Nothing that the demo signs outlives it.
        values["SECRET_KEY"] = secrets.token_urlsafe(48)
    if len(str(values["SECRET_KEY"])) < 32:
        raise SettingsWrong(
            "Set LTI_TOOL_SECRET_KEY to at least 32 random characters, for example the output of: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    values["PUBLIC_URL"] = str(values["PUBLIC_URL"]).rstrip("/")
    config.update(values)


def _read(variable: str, text: str, default: Any) -> Any:
    """One environment variable, as the type its default has."""
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                text.lower()
            ]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except (KeyError, ValueError):
        raise SettingsWrong(f"{variable} is {text!r}; it must look like {default!r}.") from None
    if isinstance(default, list):
        return [part for part in text.replace(",", " ").split() if part]
    return text
