"""Requests, answers, and everything else that a flow asks of whoever drives it, as data.

A *flow* is a generator: it yields operations, gets what each gave, and returns. It does no I/O and
reads no clock, so the same flow runs on a thread, on an event loop, and in a test by hand. What an
operation raises is raised inside the flow, where it yielded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from holdfast._hidden import Hidden

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
"""For a connection and its TLS. What takes longer is a host that does not answer."""

WRITE_TIMEOUT_S = 30.0
"""For a piece of a request to be taken; a gateway reads as fast as the network."""

ANSWER_TIMEOUT_S = 30.0
"""For the next piece of an ordinary answer, which the gateway gives at once."""

EVENTS_TIMEOUT_S = 45.0
"""For the next piece of a stream of events: three of the comments that come every 15 s are lost."""

ANSWER_LIMIT_BYTES = 48 << 20
"""Of an answer, or of one event: a result of 32 MiB as base64, and room beside it."""


@dataclass(frozen=True)
class Request:
    """One request below the gateway's URL."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Hidden[bytes] | None = None
    content_type: str = "application/json"
    is_stream: bool = False
    """Whether the answer is to be events, which are then read by `Read`."""

    timeout_s: float = ANSWER_TIMEOUT_S
    is_repeatable: bool = False
    """Whether sending it twice does what sending it once does."""


@dataclass(frozen=True)
class Response:
    """An answer: whole, or with its body still to come."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    body: bytes = field(default=b"", repr=False)
    is_open: bool = False


@dataclass(frozen=True)
class Read:
    """The next bytes of the answer that is open; none at its end."""


@dataclass(frozen=True)
class Close:
    """Ends the answer that is open, if one is."""


@dataclass(frozen=True)
class Sleep:
    """Waits."""

    seconds: float


@dataclass(frozen=True)
class Output:
    """A piece of what the function printed."""

    stream: str
    text: str


@dataclass(frozen=True)
class Progress:
    """What is being done, for someone who waits; None when there is nothing to wait for."""

    message: str | None
    is_trouble: bool = False
    """Whether somebody who sees no progress wants to know this all the same."""


@dataclass(frozen=True)
class Notice:
    """What somebody should know although nothing failed."""

    message: str


@dataclass(frozen=True)
class Work:
    """Something that takes the disk or the processor for a while; gives what it returns."""

    run: Callable[[], object]


@dataclass(frozen=True)
class Once:
    """A flow that is run once for its key, whoever asks; gives what it returned."""

    key: Hashable
    flow: Callable[[], Generator[Any, Any, object]]


@dataclass(frozen=True)
class Forget:
    """Has every `Once` be run again."""


Operation = Request | Read | Close | Sleep | Output | Progress | Notice | Work | Once | Forget
Flow = Generator[Operation, Any, T]


class Stream(Protocol):
    """The body of an answer that is open."""

    def read(self) -> bytes: ...
    def close(self) -> None: ...


class AsyncStream(Protocol):
    """The same on an event loop."""

    async def read(self) -> bytes: ...
    async def close(self) -> None: ...


class Transport(Protocol):
    """Sends requests. Raises `ConnectionFailed` and nothing else that it could foresee."""

    def send(self, request: Request) -> tuple[Response, Stream | None]: ...
    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """The same on an event loop."""

    async def send(self, request: Request) -> tuple[Response, AsyncStream | None]: ...
    async def close(self) -> None: ...
