"""What is ours in the words of the HTTP library, and what it says in ours.

The library is the lower half of httpx: what the upper half does for every request (cookies, a
model of the URL, redirects) takes as long as a function that does nothing, and is not wanted here.
Only this module and `_transport` know it.
"""

from __future__ import annotations

import functools
import platform
import ssl
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2

from holdfast._config import Configuration, distrusted, trust
from holdfast._exceptions import ConfigurationError, ConnectionFailed, HoldfastError
from holdfast._version import __version__
from holdfast._wire import CONNECT_TIMEOUT_S, WRITE_TIMEOUT_S, Request, Response

IDLE_CONNECTIONS = 20
"""Kept for the next requests; how many are busy is for who calls."""

IDLE_LIMIT_S = 10.0
"""For which a connection is kept; a gateway ends one that says nothing for 15 s."""

FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
    OSError,
)
NEVER_CONNECTED = (
    httpcore2.ConnectError,
    httpcore2.ConnectTimeout,
    httpcore2.PoolTimeout,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)

EVENT_STREAM = "text/event-stream"
PYTHON = f"{platform.python_implementation()} {platform.python_version()}"
USER_AGENT = f"holdfast-python/{__version__} ({PYTHON})"


class Gateway(NamedTuple):
    """A gateway in the words of the library."""

    configuration: Configuration
    url: SplitResult
    origin: tuple[bytes, bytes, int | None]
    headers: list[tuple[bytes, bytes]]
    """Of every request, but for the token."""

    @classmethod
    def of(cls, configuration: Configuration) -> Gateway:
        url = urlsplit(configuration.gateway)
        host = (url.hostname or "").encode("ascii")
        headers = [
            (b"Host", url.netloc.encode("ascii")),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", USER_AGENT.encode("ascii")),
        ]
        return cls(configuration, url, (url.scheme.encode("ascii"), host, url.port), headers)


def pool_options(gateway: Gateway) -> dict[str, Any]:
    return {
        "ssl_context": _trust(gateway.url.scheme == "https", gateway.configuration.ca_file),
        "proxy": _proxy(gateway),
        "max_connections": None,
        "max_keepalive_connections": IDLE_CONNECTIONS,
        "keepalive_expiry": IDLE_LIMIT_S,
    }


@functools.cache
def _trust(is_needed: bool, ca_file: str | None) -> ssl.SSLContext:
    """Whom TLS trusts: once for a process, as it takes a while; nobody, where there is no TLS."""
    if not is_needed:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = httpcore2.default_ssl_context()
    if ca_file is not None:
        trust(context, ca_file)
    return context


def _proxy(gateway: Gateway) -> httpcore2.Proxy | None:
    """The proxy that the environment names for a gateway. What is on this machine is not asked
    for through one, nor what it would read."""
    url = gateway.url
    if gateway.configuration.is_loopback or url.scheme != "https":
        return None
    named = getproxies()
    proxy = named.get("https") or named.get("all")
    if not proxy or proxy_bypass(url.netloc) or proxy_bypass(url.hostname or ""):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # The rest is not repeated: it may have a password.
        raise ConfigurationError("the proxy that the environment names is none of http or https")
    auth = None
    if parts.username is not None:
        auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return httpcore2.Proxy(address, auth=auth)


def request_of(
    gateway: Gateway, request: Request, body: Iterable[bytes] | AsyncIterable[bytes]
) -> httpcore2.Request:
    scheme, host, port = gateway.origin
    target = gateway.url.path + request.path
    if request.query:
        target += "?" + urlencode(request.query)
    accepted = EVENT_STREAM if request.is_stream else "application/json"
    headers = [
        *gateway.headers,
        (b"Authorization", b"Bearer " + gateway.configuration.token.reveal().encode("ascii")),
        (b"Accept", accepted.encode("ascii")),
    ]
    if request.body is not None:
        headers.append((b"Content-Type", request.content_type.encode("ascii")))
        headers.append((b"Content-Length", str(len(request.body.reveal())).encode("ascii")))
    timeout = {
        "connect": CONNECT_TIMEOUT_S,
        "read": request.timeout_s,
        "write": WRITE_TIMEOUT_S,
        "pool": None,
    }
    return httpcore2.Request(
        request.method.encode("ascii"),
        httpcore2.URL(scheme=scheme, host=host, port=port, target=target.encode("ascii")),
        headers=headers,
        content=None if request.body is None else body,
        extensions={"timeout": timeout},
    )


def is_open(request: Request, response: httpcore2.Response) -> bool:
    if not request.is_stream or response.status != 200:
        return False
    kind = _headers(response).get("content-type", "")
    return kind.partition(";")[0].strip().lower() == EVENT_STREAM


def _headers(response: httpcore2.Response) -> Mapping[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def response_of(response: httpcore2.Response, body: bytes | None) -> Response:
    return Response(response.status, _headers(response), body or b"", is_open=body is None)


def failure_of(gateway: Gateway, error: Exception) -> HoldfastError:
    """What failed, in one line and without what was sent."""
    distrust = distrusted(gateway.configuration.gateway, error)
    if distrust is not None:
        return distrust
    connected = not isinstance(error, NEVER_CONNECTED)
    what = "the connection to" if connected else "no connection to"
    why = str(error) or type(error).__name__
    address = gateway.configuration.gateway
    return ConnectionFailed(
        f"{what} the gateway at {address}{' broke' if connected else ''}: {why}",
        connected=connected,
    )
