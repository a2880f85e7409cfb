"""Asking a platform's services with an access token: patience, pages, and never another host.

An access token goes only to the origin that a signed launch named. What may be over by the next try is tried
again; what platforms write in Link headers is understood as they write it.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from lti_tool.database import now
from lti_tool.lti import outgoing, tokens
from lti_tool.lti.outgoing import Limits, PlatformUnavailable
from lti_tool.lti.registrations import Platform

# Seconds before each new try after 5xx and cut connections.
BACKOFF = (0.5, 2.0)
# How long a platform may ask us to wait (429), in seconds; past that it is left for later.
LONGEST_WAIT = 30.0
# What may be over by the next try.
PASSING = {"connection_cut", "token_service_failed"}
GOOD = {200, 201, 202, 204}

Origin = tuple[str, str | None, int | None]


class NextMalformed(Exception):
    """The address of the next page is not one."""


def ask(
    platform: Platform,
    method: str,
    url: str,
    *,
    scope: str,
    headers: Mapping[str, str],
    limits: Limits,
    refused: str,
    body: bytes | None = None,
    again: bool = True,
) -> requests.Response:
    """One good answer of a service. Raises PlatformUnavailable, with `refused` as reason if it says no.

    An expired token is renewed once. `again`: it may be asked a second time after a fault of the platform,
    which may have done what we asked. Ends the open transaction (outgoing.let_go).
    """
    waits = iter(BACKOFF)
    renewed = False
    while True:
        failure: PlatformUnavailable
        wait: float | None
        try:
            token = tokens.access_token(platform, scope)
            # A transaction may have begun since the last one ended.
            outgoing.let_go()
            response = outgoing.session(limits).request(
                method, url, data=body, headers={"Authorization": f"Bearer {token}", **headers}
            )
            if response.status_code in GOOD:
                return response
            failure = PlatformUnavailable(refused, status=response.status_code)
            if response.status_code == 401 and not renewed:
                tokens.access_token(platform, scope, renew=True)
                renewed = True
                continue
            wait = _wait(response, waits, again=again)
        except PlatformUnavailable as error:
            failure = error
            passing = error.reason == "token_service_failed" or again
            wait = next(waits, None) if error.reason in PASSING and passing else None
        if wait is None:
            raise failure
        time.sleep(wait)


def _wait(response: requests.Response, waits: Iterator[float], *, again: bool) -> float | None:
    """Seconds to wait before the next try, None if there is none."""
    if response.status_code == 429:
        asked = _retry_after(response.headers.get("Retry-After", ""))
        own = next(waits, None)
        return None if own is None or (asked or 0) > LONGEST_WAIT else max(own, asked or 0)
    return next(waits, None) if response.status_code >= 500 and again else None


def _retry_after(text: str) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now()).total_seconds()


_LINK = re.compile(r'<([^<>]*)>((?:[^<"]|"[^"]*")*)')
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))')


def find_next(header: str, base: str) -> str | None:
    """The address of rel=next in a Link header (RFC 8288), or None. Raises NextMalformed.

    Case is kept: cursors depend on it. Moodle's typographic quotes and &amp; are understood.
    """
    with suppress(UnicodeError):
        # HTTP headers are read as Latin-1; quotes that are not ASCII were sent as UTF-8.
        header = header.encode("latin-1").decode("utf-8")
    header = re.sub("[“”„]", '"', header)
    for address, parameters in _LINK.findall(header):
        relations = [
            quoted or bare for name, quoted, bare in _PARAMETER.findall(parameters) if name.lower() == "rel"
        ]
        # Of several rel parameters the first counts.
        if "next" in " ".join(relations[:1]).lower().split():
            try:
                return urljoin(base, address.strip().replace("&amp;", "&"))
            except ValueError:
                raise NextMalformed from None
    return None


def origin(url: str) -> Origin:
    """Scheme, host and port of an address. Raises NextMalformed for one that is none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise NextMalformed from None


def text_of(value: Any) -> str:
    """A field that platforms write as text, as a number, or not at all."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
