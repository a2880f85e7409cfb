"""Settings: one file, then the environment, then create_app; what is wrong stops the start."""

import re
from pathlib import Path

import pytest

from lti_tool import create_app, settings
from lti_tool.settings import SettingsWrong

ROOT = Path(__file__).parent.parent


def test_without_a_secret_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LTI_TOOL_SECRET_KEY", raising=False)
    with pytest.raises(SettingsWrong, match="LTI_TOOL_SECRET_KEY"):
        create_app()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LTI_TOOL_PROXYS", "1"), ("LTI_TOOL_PROXIES", "one"), ("LTI_TOOL_MAIL_USE_TLS", "maybe")],
)
def test_a_mistyped_setting_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsWrong, match=variable):
        create_app(SECRET_KEY="x" * 40)


def test_environment_beats_file_and_create_app_beats_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LTI_TOOL_INVITATION_DAYS", "3")
    monkeypatch.setenv("LTI_TOOL_LANGUAGES", "en, de")
    monkeypatch.setenv("LTI_TOOL_PROXIES", "2")
    app = create_app(
        SECRET_KEY="x" * 40,
        PROXIES=1,
        DATABASE_URL=f"sqlite:///{tmp_path / 'a.sqlite'}",
        QUEUE_FILE=str(tmp_path / "q"),
    )
    assert app.config["INVITATION_DAYS"] == 3
    assert app.config["LANGUAGES"] == ["en", "de"]
    assert app.config["PROXIES"] == 1
    assert app.config["SESSION_IDLE_MINUTES"] == settings.defaults()["SESSION_IDLE_MINUTES"]


def test_every_setting_has_a_comment_and_a_reader() -> None:
    lines = (ROOT / "config" / "default.toml").read_text("utf-8").splitlines()
    code = "\n".join(
        path.read_text("utf-8")
        for folder in ("lti_tool", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".html", ".txt")
    )
    # Read by Flask-Mail itself.
    foreign = {name for name in settings.defaults() if name.startswith("MAIL_")}
    commented = False
    for line in lines:
        if line.startswith("#"):
            commented = True
        elif not line.strip():
            commented = False
        elif (name := line.partition(" =")[0]) not in foreign:
            assert commented, f"{name} has no comment"
            assert re.search(rf"\b{name}\b", code), f"nobody reads {name}"


def test_values_behind_a_proxy_are_trusted_only_as_far_as_said(tmp_path: Path) -> None:
    def scheme(proxies: int) -> str:
        app = create_app(
            SECRET_KEY="x" * 40,
            PROXIES=proxies,
            DATABASE_URL=f"sqlite:///{tmp_path / 'b.sqlite'}",
            QUEUE_FILE=str(tmp_path / "q"),
        )
        headers = {"X-Forwarded-Proto": "https"}
        answer = app.test_client().get("/health/live", headers=headers)
        return "https" if "Strict-Transport-Security" in answer.headers else "http"

    assert scheme(0) == "http"
    assert scheme(1) == "https"
