"""The least that answers at all, as WSGI applications: `launch`, and `empty` for the door."""

import base64
import json
import os
import secrets
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flask import Flask, redirect, request
from werkzeug.wrappers import Response

# The header in which the door says how many queries it took.
QUERIES = "x-bench-queries"

launch = Flask("launch_floor")
empty = Flask("empty_floor")
_KEY = (
    load_pem_public_key(os.environ["BENCH_PUBLIC_KEY"].encode()) if "BENCH_PUBLIC_KEY" in os.environ else None
)


@launch.post("/login")
def login() -> Response:
    """A redirect to the platform, nothing remembered."""
    query = {
        "scope": "openid",
        "response_type": "id_token",
        "client_id": request.form["client_id"],
        "login_hint": request.form["login_hint"],
        "state": secrets.token_hex(16),
        "nonce": secrets.token_hex(16),
    }
    return redirect(f"{request.form['iss']}/auth?{urlencode(query)}")


@launch.post("/launch")
def arrive() -> str:
    """The signature, with a key parsed beforehand, and a small page."""
    content, _, signature = request.form["id_token"].rpartition(".")
    assert isinstance(_KEY, RSAPublicKey)
    _KEY.verify(_decode(signature), content.encode(), PKCS1v15(), SHA256())
    claims = json.loads(_decode(content.partition(".")[2]))
    return f"<!doctype html><title>Course</title><p>{claims['sub']}</p>"


@empty.get("/")
def nothing() -> str:
    """An empty route."""
    return ""


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
