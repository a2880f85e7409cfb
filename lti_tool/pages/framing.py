"""Who may frame us, and the other headers that every answer carries."""

from collections.abc import Iterable
from contextlib import suppress

from flask import Response, current_app, g, request
from sqlalchemy import bindparam, select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from lti_tool.classroom.accounts import Connection
from lti_tool.database import db
from lti_tool.lti import handshake, outgoing
from lti_tool.lti.outgoing import PlatformUnavailable
from lti_tool.lti.refusal import LaunchRefused
from lti_tool.lti.registrations import Registration

# Hosted clouds serve their customers from hosts that no registration names.
_HOSTED = {
    f"canvas.{part}instructure.com": [f"https://*.{part}instructure.com"] for part in ("", "beta.", "test.")
}


# Made once: every page inside a frame asks.
_URLS = select(Registration.__table__.c.issuer, Registration.__table__.c.auth_url)
_OF_ACCOUNT = _URLS.join(Connection, Connection.registration_id == Registration.id).where(
    Connection.account_id == bindparam("account")
)


def ancestors(account_id: int | None, registration_id: int | None = None) -> list[str]:
    """The origins that may frame a page of this account, or of a login at this registration."""
    if account_id is not None:
        rows = db.session.execute(_OF_ACCOUNT, {"account": account_id})
    elif registration_id is not None:
        rows = db.session.execute(_URLS.where(Registration.id == registration_id))
    else:
        return []
    return origins(url for row in rows for url in row)


def origins(urls: Iterable[str]) -> list[str]:
    """Who may frame us where the platform has these addresses."""
    found: dict[str, None] = {}
    for url in urls:
        # What is more than scheme, host and port would be more than a name in the header.
        with suppress(PlatformUnavailable):
            parts = outgoing.check_url(url, allow_private=True)
            found[f"{parts.scheme}://{parts.netloc}"] = None
            found |= dict.fromkeys(_HOSTED.get(parts.hostname or "", []))
    return [*found, *current_app.config["FRAME_ANCESTORS"]]


def of_platform(issuer: str, state: str) -> list[str]:
    """Who may frame the refusal of a login or launch: the platform it says it is from, if we know it."""
    registration_id = None
    if issuer and issuer.isprintable():
        registration_id = db.session.scalar(select(Registration.id).filter_by(issuer=issuer).limit(1))
    elif state:
        with suppress(LaunchRefused):
            registration_id = handshake.verify(state).registration_id
    return ancestors(None, registration_id)


def let_platform() -> None:
    """Whatever a login or launch comes to is read where it was begun: in a frame of the platform it names."""
    if request.blueprint != "launch" or "frame_ancestors" in g:
        return
    # What was sent may be too large to be read, and the database may be what failed.
    with suppress(HTTPException, SQLAlchemyError):
        g.frame_ancestors = of_platform(request.values.get("iss", ""), request.form.get("state", ""))


def protect(response: Response) -> Response:
    """Content-Security-Policy and its companions (SECURITY: no inline script or style, known frames)."""
    if request.endpoint == "static":
        response.headers["X-Content-Type-Options"] = "nosniff"
        if "v" in request.args:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
    framers = ["'self'"]
    if response.mimetype == "text/html":
        framers += g.get("frame_ancestors") or _of_visitor()
    targets = ["'self'", *g.get("form_targets", [])]
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
        f"base-uri 'none'; form-action {' '.join(targets)}; "
        f"frame-ancestors {' '.join(framers)}"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers["Permissions-Policy"] = "geolocation=(), payment=(), usb=()"
    response.headers.setdefault("Cache-Control", "no-store")
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


def _of_visitor() -> list[str]:
    user = g.get("user")
    if user is None or not g.session.framed:
        return []
    held: list[str] = ancestors(user.account_id)
    return held
