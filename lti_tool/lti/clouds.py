"""Hosted clouds whose values are the same for each of their customers: nothing but a client id to copy.

One issuer then carries many clients, and the deployments are the tenants.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Cloud:
    """One hosted cloud. Empty: each customer has its own. `{client_id}` is put in once it is known."""

    name: str
    # The kind of LMS, as pages/connecting.py has them.
    kind: str
    title: str
    issuer: str = ""
    auth_url: str = ""
    token_url: str = ""
    jwks_url: str = ""
    token_audience: str = ""


def _canvas(name: str, title: str, part: str) -> Cloud:
    sso = f"https://sso.{part}canvaslms.com"
    return Cloud(
        name,
        "canvas",
        title,
        issuer=f"https://canvas.{part}instructure.com",
        auth_url=f"{sso}/api/lti/authorize_redirect",
        token_url=f"{sso}/login/oauth2/token",
        jwks_url=f"{sso}/api/lti/security/jwks",
    )


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        _canvas("canvas", "Canvas", ""),
        _canvas("canvas-beta", "Canvas Beta", "beta."),
        _canvas("canvas-test", "Canvas Test", "test."),
        Cloud(
            "blackboard",
            "other",
            "Blackboard",
            issuer="https://blackboard.com",
            auth_url="https://developer.blackboard.com/api/v1/gateway/oidcauth",
            token_url="https://developer.blackboard.com/api/v1/gateway/oauth2/jwttoken",  # noqa: S106
            jwks_url="https://developer.blackboard.com/api/v1/management/applications/{client_id}/jwks.json",
        ),
        Cloud(
            "brightspace",
            "other",
            "Brightspace",
            token_url="https://auth.brightspace.com/core/connect/token",  # noqa: S106
            token_audience="https://api.brightspace.com/auth/token",  # noqa: S106
        ),
    )
}
_AUDIENCES = {(cloud.token_url, cloud.token_audience) for cloud in CLOUDS.values() if cloud.token_audience}
# Of these the configuration names registration addresses on their customers' own hosts.
HOSTED_ISSUERS = {cloud.issuer for cloud in CLOUDS.values() if cloud.kind == "canvas"}


def is_audience_of(audience: str, token_url: str) -> bool:
    """May our assertions to this token service name that audience: its own host, or a cloud's we know?

    One key of ours signs for every registration. What a platform is given under another's name would be good
    there.
    """
    return (token_url, audience) in _AUDIENCES or _host(audience) == _host(token_url) != ""


def _host(address: str) -> str:
    """Host and port, of an address or written alone; empty where it is neither."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").netloc.lower()
    except ValueError:
        return ""
