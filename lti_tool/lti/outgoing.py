"""The one guarded HTTP session for everything we ask of platforms.

Platforms name their own addresses, so none may lead inward: https to public addresses only, the address
that was checked is the one connected to (no DNS rebinding), no redirects, no proxies or passwords from the
environment, short timeouts, a deadline for the whole answer and a cap on its size.
"""

import ipaddress
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
import requests
from flask import current_app
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.poolmanager import PoolManager

import lti_tool
from lti_tool.database import db


class PlatformUnavailable(Exception):
    """A platform could not be asked. `reason` is a short code; nothing of its answer is in here."""

    def __init__(self, reason: str, *, status: int | None = None, page: int | None = None) -> None:
        facts = [f"status {status}" if status else "", f"page {page}" if page else ""]
        super().__init__(" ".join([reason, *filter(None, facts)]))
        self.reason = reason
        self.status = status
        self.page = page


@dataclass(frozen=True, slots=True)
class Limits:
    """What one answer may take: seconds to connect, between bytes, in all; bytes of the body."""

    connect: float = 2.0
    read: float = 3.0
    total: float = 6.0
    size: int = 1_000_000


# Keys and tokens: somebody waits for them inside a launch.
SMALL = Limits()
# A roster page: a job waits, and a big Moodle needs seconds for the first byte.
ROSTER_PAGE = Limits(read=20.0, total=60.0, size=8_000_000)

# Addresses that ipaddress calls global although they lead elsewhere: 6to4, NAT64 and Teredo carry an
# IPv4 address inside, and site-local ones were private once.
_MISLEADING = [
    ipaddress.ip_network(text)
    for text in ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "fec0::/10", "192.88.99.0/24")
]
_ADDRESSES_TRIED = 4


def is_public(text: str) -> bool:
    """Whether an address is on the open internet. IPv4 dressed as IPv6 is not taken for it."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        return False
    if any(address in network for network in _MISLEADING if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


# Host and port are quoted in headers of ours, where a semicolon or a space would begin something else.
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]*)?")


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """The parts of an address we may ask. Raises PlatformUnavailable; resolves no name yet."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PlatformUnavailable("url_malformed") from None
    if not _PLACE.fullmatch(parts.netloc):
        raise PlatformUnavailable("url_malformed")
    if allow_private and parts.scheme == "http":
        return parts
    if parts.scheme != "https":
        raise PlatformUnavailable("not_https")
    if not allow_private and port is not None and port != 443 and port < 1024:
        raise PlatformUnavailable("port_refused")
    return parts


def session(limits: Limits = SMALL) -> "Outgoing":
    """This application's session for answers of this size; its connections are kept and shared."""
    sessions: dict[Limits, Outgoing] = current_app.extensions.setdefault("lti.outgoing", {})
    if limits not in sessions:
        sessions.setdefault(
            limits, Outgoing(limits, allow_private=current_app.config["ALLOW_PRIVATE_PLATFORMS"])
        )
    return sessions[limits]


def let_go() -> None:
    """End the open transaction before waiting for a platform, so that no lock is held meanwhile.

    It is rolled back: whoever asks a platform has committed, or written nothing, before.
    """
    db.session.rollback()


def read_json(response: requests.Response, kind: Any = dict) -> Any:
    """The body as `kind`. Raises PlatformUnavailable.

    The content type is not asked: Moodle calls its tokens text/html.
    """
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        html = response.content.lstrip()[:1] == b"<"
        raise PlatformUnavailable(
            "html_answer" if html else "not_json", status=response.status_code
        ) from None


class Outgoing(requests.Session):
    """requests.Session over guarded connections: every answer is whole, small and from where we asked."""

    def __init__(self, limits: Limits, *, allow_private: bool) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(_NoCookies())
        self.headers["User-Agent"] = f"Doorlist/{lti_tool.__version__}"
        self.headers["Accept-Encoding"] = "gzip"
        adapter = GuardedAdapter(limits, allow_private=allow_private)
        self.adapters.clear()
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self._allow_private = allow_private

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """One answer. Raises PlatformUnavailable and nothing else."""
        check_url(str(url), allow_private=self._allow_private)
        try:
            return super().request(method, url, *args, **kwargs)
        except requests.exceptions.RequestException:
            # Before anything was sent: an address or header that requests will not write.
            raise PlatformUnavailable("url_malformed") from None


class GuardedAdapter(HTTPAdapter):
    """Sends one request within its limits. Raises PlatformUnavailable and nothing else."""

    def __init__(self, limits: Limits, *, allow_private: bool) -> None:
        self.limits = limits
        self.allow_private = allow_private
        super().__init__(pool_maxsize=20)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Pools whose connections are guarded."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self.allow_private)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The whole answer, read and within its size."""
        fuse = _Fuse(self.limits.total)
        try:
            with fuse:
                response = super().send(
                    request, stream=True, timeout=(self.limits.connect, self.limits.read), verify=True
                )
                if 300 <= response.status_code < 400:
                    response.close()
                    raise PlatformUnavailable("redirected", status=response.status_code)
                _keep_body(response, self.limits.size)
            if fuse.blown:
                # A head that was cut passes for a short one.
                raise PlatformUnavailable("timeout")
            return response
        except requests.exceptions.RequestException as error:
            raise PlatformUnavailable("timeout" if fuse.blown else _reason(error)) from None
        except (HTTPError, OSError, ValueError):
            # What urllib3 lets through while the body is read, and names that are no host names.
            raise PlatformUnavailable("timeout" if fuse.blown else "connection_cut") from None


def _keep_body(response: requests.Response, size: int) -> None:
    body = bytearray()
    try:
        for chunk in response.iter_content(65_536):
            body += chunk
            if len(body) > size:
                raise PlatformUnavailable("too_large", status=response.status_code)
    finally:
        # A connection with an unread rest must not go back to the pool; a read one has gone already.
        response.close()
    # requests' own way to hold a body that was streamed.
    response._content = bytes(body)


def _reason(error: requests.exceptions.RequestException) -> str:
    cause = getattr(error.args[0], "reason", error.args[0]) if error.args else None
    if isinstance(cause, _Refused):
        return "address_private"
    if isinstance(error, requests.exceptions.SSLError):
        return "tls_failed"
    if isinstance(error, requests.exceptions.Timeout):
        return "timeout"
    if isinstance(cause, NameResolutionError):
        return "name_unknown"
    if isinstance(cause, NewConnectionError):
        return "connection_refused"
    return "connection_cut"


class _Refused(NewConnectionError):
    """The name leads to an address that is not public."""


class _NoCookies(DefaultCookiePolicy):
    """Platforms set none on us: what one answer says must not travel with the next request."""

    def set_ok(self, cookie: Any, request: Any) -> bool:
        return False


class _Fuse:
    """Cuts the connection when the whole answer takes too long, however steadily it drips."""

    _lit = threading.local()

    def __init__(self, seconds: float) -> None:
        self.blown = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._blow)
        self._timer.daemon = True

    def __enter__(self) -> "_Fuse":
        self._lit.fuse = self
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        self._lit.fuse = None

    @classmethod
    def watch(cls, watched: socket.socket | None) -> None:
        """The socket on which this thread's answer will come."""
        fuse: _Fuse | None = getattr(cls._lit, "fuse", None)
        if fuse is not None:
            fuse._socket = watched
            if fuse.blown:
                fuse._cut()

    def _blow(self) -> None:
        self.blown = True
        self._cut()

    def _cut(self) -> None:
        if self._socket is None:
            return
        try:
            # Past ssl.SSLSocket.shutdown, which would take the TLS state from under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            return  # closed in the meantime


def _connect(connection: HTTPConnection, allow_private: bool) -> socket.socket:
    """A socket to the very address that was checked. Every address of the name must be public."""
    host = connection._dns_host.strip("[]")
    try:
        found = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(connection.host, connection, reason) from None
    if not allow_private and not all(is_public(str(address[4][0])) for address in found):
        raise _Refused(connection, "an address is not public")
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in found[:_ADDRESSES_TRIED]:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(connection.timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.connect(address)
            return connected
        except OSError as error:
            connected.close()
            failure = error
    raise NewConnectionError(connection, type(failure).__name__) from None


def _pools(allow_private: bool) -> Mapping[str, type[HTTPConnectionPool]]:
    """urllib3's pools, over connections that ask `_connect` for their socket."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allow_private)

        def request(self, *args: Any, **kwargs: Any) -> None:
            super().request(*args, **kwargs)
            _Fuse.watch(self.sock)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allow_private)

        def request(self, *args: Any, **kwargs: Any) -> None:
            super().request(*args, **kwargs)
            _Fuse.watch(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
