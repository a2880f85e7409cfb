"""Installing a tool by its link: the endpoints of dynamic registration, and the page with its frame."""

from __future__ import annotations

import time
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from .endpoints import the_platform
from .registration import RegistrationDenied, Registry

installing = Blueprint("installing", __name__)

_MEGABYTES = 3


def the_registry() -> Registry:
    """The tools that registered themselves at this application's platform."""
    return cast(Registry, current_app.extensions["practice_registry"])


@installing.get("/openid-configuration")
def configuration() -> AnyResponse:
    """The platform as it describes itself. Canvas asks for the token here too."""
    registry = the_registry()
    fault = _struck("configuration")
    said = registry.configuration()
    if fault == "issuer":
        said["issuer"] = "https://moodle.somebody-else.example"
    elif fault == "endpoint":
        said["registration_endpoint"] = "https://elsewhere.example.test/register"
    elif fault == "incomplete":
        said.pop("jwks_uri")
    elif fault is not None:
        return _broken(fault, said)
    if the_platform().flavour == "canvas":
        try:
            registry.check_token(_bearer() and request.args.get("registration_token", ""))
        except RegistrationDenied as denied:
            return _denied(denied)
    return jsonify(said)


@installing.post("/openid-registration")
def register() -> AnyResponse:
    """The registration endpoint: Moodle says a refusal as plain text, Canvas as JSON."""
    fault = _struck("registration")
    if fault is not None and fault != "nameless":
        return _broken(fault, {"client_id": "never"})
    try:
        answer = the_registry().register(_bearer(), request.get_json(silent=True))
    except RegistrationDenied as denied:
        return _denied(denied)
    if fault == "nameless":
        answer.pop("client_id")
    return jsonify(answer)


@installing.route("/install", methods=["GET", "POST"])
def install() -> str | AnyResponse:
    """“Install a tool by its link”: the link goes into a frame, with what the tool needs to register."""
    link = request.form.get("link", "").strip()
    wrong = bool(link) and urlsplit(link).scheme not in ("http", "https")
    registry = the_registry()
    return render_template(
        "practice_lms/install.html",
        platform=the_platform(),
        registry=registry,
        active={tool.client_id for tool in the_platform().registrations},
        link=link,
        wrong=wrong,
        opened=registry.link(link) if link and not wrong else "",
    )


@installing.post("/install/waiting")
def waiting() -> AnyResponse:
    """Turn over whether new tools wait to be switched on, as in Moodle."""
    the_registry().activates = not the_registry().activates
    return redirect(url_for("installing.install"), 303)


@installing.post("/install/activate")
def activate() -> AnyResponse:
    """Switch on a tool that is pending."""
    client_id = request.form.get("client_id", "")
    if any(card.client_id == client_id for card in the_registry().cards):
        the_registry().activate(client_id)
    return redirect(url_for("installing.install"), 303)


def _struck(endpoint: str) -> str | None:
    """The fault this request meets; a slow endpoint only waits."""
    fault = the_platform().faults.strike(endpoint)
    if fault != "slow":
        return fault
    time.sleep(the_platform().faults.delay)
    return None


def _bearer() -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _denied(denied: RegistrationDenied) -> AnyResponse:
    if the_platform().flavour == "canvas":
        answer = jsonify(error=denied.code)
        answer.status_code = denied.status
        return answer
    return Response(denied.code, status=denied.status, mimetype="text/html")


def _broken(fault: str, said: dict[str, Any]) -> AnyResponse:
    """An endpoint that fails as a whole."""
    if fault == "redirect":
        return redirect(the_platform().faults.redirect_url)
    if fault == "huge":
        return jsonify({**said, "padding": "x" * (_MEGABYTES * 1_000_000)})
    if fault == "html":
        return Response("<!doctype html><title>Sign in</title><p>Sign in to go on.", mimetype="text/html")
    return Response("The platform was asked to answer so.", status=int(fault), mimetype="text/plain")
