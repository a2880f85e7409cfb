"""A platform that costs nothing: key set, access tokens and roster pages as files, and a count of requests.

A process of its own, so that what it takes is nobody else's. `python -m tests.bench.source FOLDER PORT`
"""

import json
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

MEDIA_TYPE = "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"


class Source(BaseHTTPRequestHandler):
    """Answers from the folder: jwks.json, and ROSTER/PAGE.json under /memberships/ROSTER."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    asked: Counter[str] = Counter()

    def do_GET(self) -> None:
        """A key set, a page of a roster, or how often each was asked for."""
        parts = urlsplit(self.path)
        if parts.path == "/asked":
            self._say(json.dumps(self.asked).encode())
            return
        self.asked[parts.path] += 1
        if parts.path == "/jwks.json":
            self._say((self.folder / "jwks.json").read_bytes())
            return
        page = int(parse_qs(parts.query).get("page", ["1"])[0])
        folder = self.folder / Path(parts.path).name
        following = folder / f"{page + 1}.json"
        host, port = self.server.server_address[:2]
        link = (
            f'<http://{host!s}:{port}{parts.path}?page={page + 1}>; rel="next"' if following.exists() else ""
        )
        self._say((folder / f"{page}.json").read_bytes(), MEDIA_TYPE, link)

    def do_POST(self) -> None:
        """An access token for whoever asks."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked[self.path] += 1
        self._say(b'{"access_token": "token", "token_type": "Bearer", "expires_in": 3600}')

    def _say(self, body: bytes, kind: str = "application/json", link: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    Source.folder = Path(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Source).serve_forever()
