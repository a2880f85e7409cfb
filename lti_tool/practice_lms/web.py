"""The platform as a Flask application."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, render_template, request

from .endpoints import endpoints
from .grades import grades
from .installing import installing
from .mail_pages import mail_pages
from .mailbox import Mailbox
from .pages import pages
from .platform import Platform
from .registration import Registry
from .registrations import ReceivedRequest

_PACKAGE = Path(__file__).resolve().parents[1]

# No inline script or style; frames and forms go to tools, wherever they run.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-src http: https:; form-action http: https:; "
    "object-src 'none'; base-uri 'none'"
)


def create_app(platform: Platform, mailbox: Mailbox | None = None) -> Flask:
    """The platform's web application; with a mailbox, its pages show the mails caught."""
    app = Flask(
        __name__,
        static_folder=str(_PACKAGE / "static"),
        static_url_path="/static",
        template_folder=str(_templates()),
    )
    app.extensions["practice_lms"] = platform
    app.extensions["practice_registry"] = Registry(platform)
    app.extensions["practice_mailbox"] = mailbox
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.register_blueprint(endpoints)
    app.register_blueprint(installing)
    app.register_blueprint(grades)
    app.register_blueprint(pages)
    app.register_blueprint(mail_pages)
    app.register_error_handler(404, _not_found)
    app.before_request(lambda: _record(platform))
    app.after_request(_with_policy)
    return app


def _templates() -> Path:
    """Beside the package in a checkout, inside it once installed."""
    inside = _PACKAGE / "templates"
    return inside if (inside / "practice_lms").is_dir() else _PACKAGE.parent / "templates"


def _not_found(_error: Exception) -> tuple[str, int]:
    reason = "There is no such page, person, course or mail here."
    return render_template("practice_lms/refused.html", reason=reason), 404


def _record(platform: Platform) -> None:
    if request.path.startswith("/static/"):
        return
    platform.requests.append(
        ReceivedRequest(
            request.method,
            request.path,
            request.query_string.decode("latin-1"),
            {name.title(): value for name, value in request.headers.items()},
            platform.now(),
        )
    )


def _with_policy(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
