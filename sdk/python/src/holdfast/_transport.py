"""The one module that knows the HTTP library; both are loaded with the first request.

A transport sends one request and gives one answer: whole, or open where events were asked for. It
follows no redirect, repeats nothing, and raises `ConnectionFailed`, and interrupts, without the
library's own frames, which hold headers and bodies that no traceback is to show.
"""

from __future__ import annotations

import functools
import platform
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2

from holdfast._config import Configuration, distrusted, trust
from holdfast._exceptions import ConnectionFailed, HoldfastError, UnexpectedAnswer
from holdfast._hidden import Hidden
from holdfast._version import __version__
from holdfast._wire import (
    ANSWER_LIMIT_BYTES,
    CONNECT_TIMEOUT_S,
    WRITE_TIMEOUT_S,
    AsyncStream,
    Request,
    Response,
    Stream,
)

PIECE_BYTES = 1 << 20
"""Of a body, handed to the socket at a time."""

EVENT_STREAM = "text/event-stream"
PYTHON = f"{platform.python_implementation()} {platform.python_version()}"
USER_AGENT = f"holdfast-python/{__version__} ({PYTHON})"


class HttpTransport:
    """Over connections that are kept, for any number of threads."""

    def __init__(self, configuration: Configuration, transport: Any = None) -> None:
        self._configuration = configuration
        self._client = httpx2.Client(**_client_options(configuration), transport=transport)

    def send(self, request: Request) -> tuple[Response, Stream | None]:
        try:
            response = self._client.send(
                _request(self._client, self._configuration, request, _Body(request.body)),
                stream=True,
            )
            if _is_open(request, response):
                return _response(response, None), _Stream(self._configuration, response)
            try:
                body = _joined(response.iter_raw())
            finally:
                response.close()
            return _response(response, body), None
        except (httpx2.TransportError, OSError) as error:
            failure = _failure(self._configuration, error)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            # An interrupt while a body was written, in frames that hold it.
            raise error.with_traceback(None) from None
        # Outside of `except`, so that what failed is not attached with all that it held.
        raise failure

    def close(self) -> None:
        self._client.close()


class AsyncHttpTransport:
    """The same on one event loop."""

    def __init__(self, configuration: Configuration, transport: Any = None) -> None:
        self._configuration = configuration
        self._client = httpx2.AsyncClient(**_client_options(configuration), transport=transport)

    async def send(self, request: Request) -> tuple[Response, AsyncStream | None]:
        try:
            response = await self._client.send(
                _request(self._client, self._configuration, request, _AsyncBody(request.body)),
                stream=True,
            )
            if _is_open(request, response):
                return _response(response, None), _AsyncStream(self._configuration, response)
            try:
                pieces = [piece async for piece in _bounded(response.aiter_raw())]
            finally:
                await response.aclose()
            return _response(response, b"".join(pieces)), None
        except (httpx2.TransportError, OSError) as error:
            failure = _failure(self._configuration, error)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            raise error.with_traceback(None) from None
        raise failure

    async def close(self) -> None:
        await self._client.aclose()


class _Stream:
    def __init__(self, configuration: Configuration, response: httpx2.Response) -> None:
        self._configuration = configuration
        self._response = response
        self._pieces = response.iter_raw()

    def read(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except (httpx2.TransportError, OSError) as error:
            failure = _failure(self._configuration, error)
        raise failure

    def close(self) -> None:
        self._response.close()


class _AsyncStream:
    def __init__(self, configuration: Configuration, response: httpx2.Response) -> None:
        self._configuration = configuration
        self._response = response
        self._pieces = response.aiter_raw().__aiter__()

    async def read(self) -> bytes:
        try:
            return await self._pieces.__anext__()
        except StopAsyncIteration:
            return b""
        except (httpx2.TransportError, OSError) as error:
            failure = _failure(self._configuration, error)
        raise failure

    async def close(self) -> None:
        await self._response.aclose()


class _Body:
    """A body that is bytes only while it is written."""

    def __init__(self, body: Hidden[bytes] | None) -> None:
        self._body = Hidden(b"") if body is None else body

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body.reveal()), PIECE_BYTES):
            yield self._body.reveal()[start : start + PIECE_BYTES]


class _AsyncBody:
    def __init__(self, body: Hidden[bytes] | None) -> None:
        self._body = _Body(body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._body:
            yield piece


def _client_options(configuration: Configuration) -> dict[str, Any]:
    return {
        # What is on this machine is not asked for through a proxy.
        "trust_env": not configuration.is_loopback,
        "headers": {"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        "verify": _trust(configuration.gateway.startswith("https:"), configuration.ca_file),
        # How many calls there are at a time is for who calls.
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=20),
    }


@functools.cache
def _trust(is_needed: bool, ca_file: str | None) -> ssl.SSLContext:
    """Whom TLS trusts: once for a process, as it takes a while; nobody, where there is no TLS."""
    if not is_needed:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = httpx2.create_ssl_context()
    if ca_file is not None:
        trust(context, ca_file)
    return context


def _request(
    client: httpx2.Client | httpx2.AsyncClient,
    configuration: Configuration,
    request: Request,
    body: _Body | _AsyncBody,
) -> httpx2.Request:
    headers = {
        "Authorization": f"Bearer {configuration.token.reveal()}",
        "Accept": EVENT_STREAM if request.is_stream else "application/json",
    }
    if request.body is not None:
        headers["Content-Type"] = request.content_type
        headers["Content-Length"] = str(len(request.body.reveal()))
    return client.build_request(
        request.method,
        configuration.gateway + request.path,
        params=dict(request.query) or None,
        headers=headers,
        content=None if request.body is None else body,
        timeout=httpx2.Timeout(
            connect=CONNECT_TIMEOUT_S, read=request.timeout_s, write=WRITE_TIMEOUT_S, pool=None
        ),
    )


def _is_open(request: Request, response: httpx2.Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return request.is_stream and response.status_code == 200 and kind == EVENT_STREAM


def _response(response: httpx2.Response, body: bytes | None) -> Response:
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, body or b"", is_open=body is None)


def _joined(pieces: Iterator[bytes]) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        _check_length(len(body))
    return bytes(body)


async def _bounded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    length_bytes = 0
    async for piece in pieces:
        length_bytes += len(piece)
        _check_length(length_bytes)
        yield piece


def _check_length(length_bytes: int) -> None:
    if length_bytes > ANSWER_LIMIT_BYTES:
        raise UnexpectedAnswer(f"the gateway's answer is longer than {ANSWER_LIMIT_BYTES} bytes")


def _failure(configuration: Configuration, error: Exception) -> HoldfastError:
    """What failed, in one line and without what was sent."""
    distrust = distrusted(configuration.gateway, error)
    if distrust is not None:
        return distrust
    never = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.PoolTimeout)
    connected = not isinstance(error, never)
    what = "the connection to" if connected else "no connection to"
    why = str(error) or type(error).__name__
    return ConnectionFailed(
        f"{what} the gateway at {configuration.gateway}{' broke' if connected else ''}: {why}",
        connected=connected,
    )
