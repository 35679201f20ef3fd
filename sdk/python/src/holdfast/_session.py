"""What a process has in common: configuration, connections, what was prepared already.

Made with the first call and not at import. A forked child makes its own, since two processes must
not share a connection; so does every event loop, and its connections end with it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable

from holdfast._config import Configuration, configuration
from holdfast._console import Console
from holdfast._drivers import AsyncDriver, Driver, Show
from holdfast._exceptions import HoldfastError
from holdfast._flights import Flights
from holdfast._hidden import Hidden
from holdfast._retry import Pace
from holdfast._transport import AsyncHttpTransport, HttpTransport
from holdfast._wire import AsyncTransport, Flow, T, Transport


class Session:
    """One gateway, as one process uses it."""

    def __init__(
        self,
        found: Configuration,
        *,
        console: Console | None = None,
        connect: Callable[[Configuration], Transport] = HttpTransport,
        connect_async: Callable[[Configuration], AsyncTransport] = AsyncHttpTransport,
    ) -> None:
        self.configuration = found
        self.console = console or Console()
        self.pace = Pace(clock=time.monotonic, chance=random.random)
        self.process_id = os.getpid()
        self._connect = connect
        self._connect_async = connect_async
        self._flights = Flights()
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._of_loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}

    def run(self, flow: Flow[T], show: Show | None = None) -> T:
        """Runs a flow on this thread."""
        try:
            with self.driver(show) as driver:
                return bare(lambda: driver.run(flow))
        finally:
            self.console.progress(None)

    async def run_async(self, flow: Flow[T], show: Show | None = None) -> T:
        """Runs a flow on this event loop."""
        try:
            async with await self.async_driver(show) as driver:
                return await driver.run(flow)
        except HoldfastError as error:
            raise error.with_traceback(None) from error.__cause__
        finally:
            self.console.progress(None)

    def driver(self, show: Show | None = None) -> Driver:
        with self._lock:
            if self._transport is None:
                self._transport = self._connect(self.configuration)
            return Driver(self._transport, self._flights, show or self.console.show)

    async def async_driver(self, show: Show | None = None) -> AsyncDriver:
        loop = asyncio.get_running_loop()
        with self._lock:
            of_loop = self._of_loops.get(loop)
            if of_loop is None:
                self._of_loops = {
                    other: held for other, held in self._of_loops.items() if not other.is_closed()
                }
                of_loop = self._of_loops[loop] = _OfLoop(self._connect_async(self.configuration))
        await of_loop.hold()
        return AsyncDriver(of_loop.transport, self._flights, show or self.console.show)

    def close(self) -> None:
        """Ends the connections of threads; those of event loops end with their loops."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None and self.process_id == os.getpid():
            transport.close()


class _OfLoop:
    """A transport that ends with its loop, since loops finish the generators that they began."""

    def __init__(self, transport: AsyncTransport) -> None:
        self.transport = transport
        self._keeper = self._keep()
        self._is_held = False

    async def hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            await self._keeper.__anext__()

    async def _keep(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.transport.close()


def bare(call: Callable[[], T]) -> T:
    """Takes off errors of ours where in this package they come from: it is of no use to who reads
    them, and tracebacks that show local variables would show environments and files."""
    try:
        return call()
    except HoldfastError as error:
        raise error.with_traceback(None) from error.__cause__


_lock = threading.Lock()
_current: Session | None = None


def session() -> Session:
    """The session of this process."""
    global _current
    with _lock:
        if _current is None or _current.process_id != os.getpid():
            _current = Session(bare(lambda: configuration(os.environ)))
            atexit.register(_current.close)
        return _current


def use(chosen: Session | None) -> None:
    """Has a session be the one of this process; None has a new one be made when it is needed."""
    global _current
    with _lock:
        previous, _current = _current, chosen
    if previous is not None:
        previous.close()


def configure(
    *,
    gateway: str | None = None,
    token: str | None = None,
    context: str | None = None,
    allow_plain_http: bool = False,
) -> None:
    """Chooses the gateway and the token for this process; what is not given is looked up as ever.

    `allow_plain_http` lets the token go to another machine over plain HTTP, where everyone on the
    way can read it.
    """
    hidden = None if token is None else Hidden(token)
    del token
    found = bare(
        lambda: configuration(
            os.environ,
            gateway=gateway,
            token=hidden,
            context=context,
            allow_plain_http=allow_plain_http,
        )
    )
    use(Session(found))


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    # Another thread may have held it at that moment.
    os.register_at_fork(after_in_child=_renew_lock)
