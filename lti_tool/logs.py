"""Logs: one JSON object a line, with the request's id, and never a token, an address or a body."""

import json
import logging
import re
import secrets
import sys
import time
from typing import Any

from flask import Flask, Response, g, has_request_context, request

log = logging.getLogger("doorlist")

# What may slip into a message that somebody else wrote: signed tokens, bearer values, addresses, our
# own links.
_SECRETS = [
    (re.compile(r"\beyJ[\w-]+\.[\w-]*\.?[\w-]*"), "[token]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s,;]+"), r"\1 [secret]"),
    (
        re.compile(
            r"(?i)\b(id_token|state|nonce|client_assertion|access_token|registration_token|token|login_hint"
            r"|lti_message_hint|ticket|code|password|proof|asked|seen|launch|jwt)=[^&\s]+"
        ),
        r"\1=[secret]",
    ),
    (re.compile(r"(/invitations/|/sign-in/link/)[^/\s?\"']+"), r"\1[secret]"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "[address]"),
]


def redact(text: str) -> str:
    """`text` without anything that lets somebody in or names a mailbox."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "from": record.name,
            "event": redact(record.getMessage()),
        }
        if has_request_context() and "request_id" in g:
            line["request"] = g.request_id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def event(name: str, **facts: Any) -> None:
    """Log that something happened. Facts are ids, codes and counts; never names, addresses, tokens."""
    log.info(name, extra={"facts": facts})


def init_app(app: Flask) -> None:
    """Send everything to stderr as JSON lines and give every request an id."""
    log.setLevel(app.config["LOG_LEVEL"])
    log.propagate = False
    # Its request lines have whole paths, and paths carry invitation tokens.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app.logger = log
    if not any(isinstance(h.formatter, JsonLines) for h in log.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        log.addHandler(handler)

    # Before everything that may refuse the request, blueprints' own preprocessors too.
    @app.url_value_preprocessor
    def begin(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.request_id = secrets.token_hex(6)
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        rule = request.url_rule.rule if request.url_rule else "unknown"
        if rule.startswith(("/static", "/health")):
            return response
        # The rule, not the path: paths carry invitation tokens.
        event(
            "request",
            method=request.method,
            rule=rule,
            status=response.status_code,
            ms=round((time.perf_counter() - g.began) * 1000, 1),
        )
        response.headers["X-Request-Id"] = g.request_id
        return response
