"""Running the platform on a port of its own, beside whatever else runs in the process."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from .platform import Platform


class _QuietRequests(WSGIRequestHandler):
    """Requests without a line each on standard error; the platform keeps its own record."""

    def log_request(self, *given: Any, **named: Any) -> None:
        """Says nothing."""


class Server:
    """A running server; leaving a `with` block stops it."""

    def __init__(self, running: BaseWSGIServer) -> None:
        self._running = running
        self.host = str(running.host)
        self.port = int(running.port)
        self._thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def stop(self) -> None:
        """Stops serving and frees the port; a second call does nothing."""
        if self._thread.is_alive():
            self._running.shutdown()
            self._thread.join()
            self._running.server_close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(app: Flask, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Serves an application in a thread of its own; port 0 finds a free one.

    A practice platform that was made without addresses takes those of this server.
    """
    server = Server(make_server(host, port, app, threaded=True, request_handler=_QuietRequests))
    platform = app.extensions.get("practice_lms")
    if isinstance(platform, Platform):
        platform.browser_url = platform.browser_url or server.url
        platform.server_url = platform.server_url or server.url
        platform.issuer = platform.issuer or server.url
    return server
