"""When a request is sent again, how long after, and when it is given up.

    problem                            sent again
    no connection                      always: nothing was sent
    429, 503                           always: nothing was done; not before `Retry-After`
    broken after it was sent, 502, 504 if sending it twice does what once does
    anything else                      never

Times between are random below a bound that doubles, so that many callers of a gateway that is back
do not come at once. Time and chance are given to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast._exceptions import (
    Busy,
    ConnectionFailed,
    Denied,
    GatewayError,
    HoldfastError,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from holdfast._models import fields, refusal
from holdfast._wire import Flow, Progress, Request, Response, Sleep, T

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""From a restart that nobody notices to one that takes a minute."""

RETRY_AFTER_LIMIT_S = 60.0
"""What a gateway may ask for; more is an outage, and its caller should know."""

PROXY_STATUSES = (502, 504)
"""What something between us and the gateway says when it does not reach it."""

STATUSES: dict[int, type[GatewayError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    413: TooLarge,
    429: Busy,
    502: GatewayError,
    503: Unavailable,
    504: GatewayError,
}
"""What is made of an answer that gives no reason: one to `HEAD`, or a proxy's."""


@dataclass(frozen=True)
class Patience:
    """For how long problems may last."""

    unreachable_s: float
    busy_s: float
    unavailable_s: float


ORDINARY = Patience(unreachable_s=5.0, busy_s=120.0, unavailable_s=120.0)
"""A gateway that does not run is known soon; one that is full is so for a while."""

BUILDING = Patience(unreachable_s=5.0, busy_s=120.0, unavailable_s=20.0)
"""While an image is built: before the gateway says that it cannot, it has asked a registry that is
away again and again for up to half a minute. A person who mistyped its name waits for it. What has
gone on for longer is worth waiting as long for, up to what a busy gateway is."""

RUNNING = Patience(unreachable_s=60.0, busy_s=120.0, unavailable_s=120.0)
"""While a task runs: as long as the gateway waits for its caller to come back."""


@dataclass(frozen=True)
class Pace:
    """Where time and chance come from."""

    clock: Callable[[], float]
    """Seconds, from any beginning; never goes back."""

    chance: Callable[[], float]
    """From 0 up to 1."""


class Retry:
    """The pauses of one request, or of one stream that is resumed."""

    def __init__(self, pace: Pace, patience: Patience) -> None:
        self._pace = pace
        self._patience = patience
        self._unreachable_since: float | None = None
        self._busy_since: float | None = None
        self._unavailable_since: float | None = None
        self._began: float | None = None
        self._heard: float | None = None
        self._bound_s = FIRST_PAUSE_S
        self._is_told = False

    def asks(self) -> None:
        """It is tried, for the first time or again."""
        if self._began is None:
            self._began = self._heard = self._pace.clock()

    def reached(self) -> None:
        """The gateway answered: that it cannot be reached would be a new problem. What it says
        again is not: the build of an image whose registry is away begins well every time."""
        self._unreachable_since = None
        if self._unavailable_since is None:
            self._heard = self._pace.clock()

    def advanced(self) -> None:
        """What was wanted went on: pauses are short again."""
        self._unreachable_since = self._busy_since = self._unavailable_since = None
        self._heard = self._pace.clock()
        self._bound_s = FIRST_PAUSE_S
        self._is_told = False

    def tell(self, problem: HoldfastError) -> Progress:
        """Says what is wrong, and to everyone where it is the first time."""
        is_first, self._is_told = not self._is_told, True
        return Progress(f"{problem}; trying again", is_trouble=is_first)

    def pause_s(self, problem: HoldfastError, is_repeatable: bool) -> float:
        """How long to wait before the next try; raises the problem if there is none."""
        if not may_repeat(problem, is_repeatable):
            raise problem
        now = self._pace.clock()
        pause_s = self._bound_s * (0.5 + self._pace.chance() / 2)
        self._bound_s = min(self._bound_s * 2, LONGEST_PAUSE_S)
        if isinstance(problem, Busy):
            pause_s += problem.retry_after_s or 0.0
            limit_s = self._patience.busy_s
            since = self._busy_since = now if self._busy_since is None else self._busy_since
            self._heard = now
        elif isinstance(problem, Unavailable):
            pause_s += problem.retry_after_s or 0.0
            limit_s = max(self._patience.unavailable_s, min(self._went_on_s(), self._patience.busy_s))
            if self._unavailable_since is None:
                # An answer may take long, and its caller waits all that time.
                self._unavailable_since = now if self._heard is None else self._heard
            since = self._unavailable_since
        else:
            limit_s = self._patience.unreachable_s
            if self._unreachable_since is None:
                self._unreachable_since = now
            since = self._unreachable_since
        if now + pause_s - since > limit_s:
            raise problem
        return pause_s

    def _went_on_s(self) -> float:
        """For how long it went well."""
        if self._began is None or self._heard is None:
            return 0.0
        return self._heard - self._began


def may_repeat(problem: HoldfastError, is_repeatable: bool) -> bool:
    """The table above."""
    if isinstance(problem, ConnectionFailed):
        return is_repeatable or not problem.connected
    if isinstance(problem, (Busy, Unavailable)):
        return (problem.retry_after_s or 0.0) <= RETRY_AFTER_LIMIT_S
    return is_repeatable and isinstance(problem, GatewayError) and problem.status in PROXY_STATUSES


def problem_of(response: Response) -> HoldfastError | None:
    """What is wrong with an answer, if anything is."""
    if 200 <= response.status < 300:
        return None
    retry_after_s = _seconds(response.headers.get("retry-after"))
    try:
        error = fields("error", response.body).object("error")
        return refusal(error, response.status, retry_after_s)
    except UnexpectedAnswer:
        return _by_status(response.status, retry_after_s)


def persist(retry: Retry, attempt: Callable[[], Flow[T]], is_repeatable: bool) -> Flow[T]:
    """Runs a flow until it succeeds, or for as long as it is worth trying."""
    while True:
        problem: HoldfastError
        retry.asks()
        try:
            return (yield from attempt())
        except (ConnectionFailed, GatewayError) as error:
            problem = error
        pause_s = retry.pause_s(problem, is_repeatable)
        yield retry.tell(problem)
        yield Sleep(pause_s)


def ask(request: Request, also: tuple[int, ...] = ()) -> Flow[Response]:
    """Sends a request once, and raises what is wrong with its answer.

    `also` are statuses that are good answers to this one."""
    response: Response = yield request
    problem = None if response.status in also else problem_of(response)
    if problem is not None:
        raise problem
    return response


def send(
    pace: Pace, request: Request, patience: Patience = ORDINARY, also: tuple[int, ...] = ()
) -> Flow[Response]:
    """Sends a request until it is answered well, or for as long as it is worth trying."""
    retry = Retry(pace, patience)
    return (yield from persist(retry, lambda: ask(request, also), request.is_repeatable))


def _by_status(status: int, retry_after_s: float | None) -> HoldfastError:
    """For an answer that is not in the gateway's own words."""
    message = f"status {status} from the gateway, or something in front of it, without a reason"
    kind = STATUSES.get(status)
    if kind is None:
        return UnexpectedAnswer(message)
    return kind(message, status=status, retry_after_s=retry_after_s)


def _seconds(text: str | None) -> float | None:
    """The seconds of a `Retry-After`. Our gateway never gives a date, and a proxy's is not kept."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 6:
        return None
    return float(text)
