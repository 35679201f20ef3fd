"""Requests over HTTP, loaded with the first one.

A transport sends one request and gives one answer: whole, or open where events were asked for. It
follows no redirect, repeats nothing, and raises `ConnectionFailed`, and interrupts, without the
library's own frames, which hold headers and bodies that no traceback is to show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpcore2

from holdfast._config import Configuration
from holdfast._exceptions import UnexpectedAnswer
from holdfast._hidden import Hidden
from holdfast._http import (
    FAILURES,
    Gateway,
    failure_of,
    is_open,
    pool_options,
    request_of,
    response_of,
)
from holdfast._wire import ANSWER_LIMIT_BYTES, AsyncStream, Request, Response, Stream

PIECE_BYTES = 1 << 20
"""Of a body, handed to the socket at a time."""


class HttpTransport:
    """Over connections that are kept, for any number of threads."""

    def __init__(
        self, configuration: Configuration, network: httpcore2.NetworkBackend | None = None
    ) -> None:
        self._gateway = Gateway.of(configuration)
        options = pool_options(self._gateway)
        self._pool = httpcore2.ConnectionPool(**options, network_backend=network)

    def send(self, request: Request) -> tuple[Response, Stream | None]:
        try:
            response = self._pool.handle_request(
                request_of(self._gateway, request, _Body(request.body))
            )
            pieces = response.iter_stream()
            if is_open(request, response):
                return response_of(response, None), _Stream(self._gateway, response, pieces)
            try:
                body = _joined(pieces)
            finally:
                response.close()
            return response_of(response, body), None
        except FAILURES as error:
            failure = failure_of(self._gateway, error)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            # An interrupt while a body was written, in frames that hold it.
            raise error.with_traceback(None) from None
        # Outside of `except`, so that what failed is not attached with all that it held.
        raise failure

    def close(self) -> None:
        self._pool.close()


class AsyncHttpTransport:
    """The same on one event loop."""

    def __init__(
        self, configuration: Configuration, network: httpcore2.AsyncNetworkBackend | None = None
    ) -> None:
        self._gateway = Gateway.of(configuration)
        options = pool_options(self._gateway)
        self._pool = httpcore2.AsyncConnectionPool(**options, network_backend=network)

    async def send(self, request: Request) -> tuple[Response, AsyncStream | None]:
        try:
            response = await self._pool.handle_async_request(
                request_of(self._gateway, request, _AsyncBody(request.body))
            )
            pieces = response.aiter_stream()
            if is_open(request, response):
                return response_of(response, None), _AsyncStream(self._gateway, response, pieces)
            try:
                body = b"".join([piece async for piece in _bounded(pieces)])
            finally:
                await response.aclose()
            return response_of(response, body), None
        except FAILURES as error:
            failure = failure_of(self._gateway, error)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            raise error.with_traceback(None) from None
        raise failure

    async def close(self) -> None:
        await self._pool.aclose()


class _Stream:
    def __init__(
        self, gateway: Gateway, response: httpcore2.Response, pieces: Iterator[bytes]
    ) -> None:
        self._gateway = gateway
        self._response = response
        self._pieces = pieces

    def read(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except FAILURES as error:
            failure = failure_of(self._gateway, error)
        raise failure

    def close(self) -> None:
        self._response.close()


class _AsyncStream:
    def __init__(
        self, gateway: Gateway, response: httpcore2.Response, pieces: AsyncIterator[bytes]
    ) -> None:
        self._gateway = gateway
        self._response = response
        self._pieces = pieces

    async def read(self) -> bytes:
        try:
            return await anext(self._pieces, b"")
        except FAILURES as error:
            failure = failure_of(self._gateway, error)
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
