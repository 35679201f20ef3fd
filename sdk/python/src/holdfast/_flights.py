"""What is done once for its key, whoever asks: one leads, the others wait for what it gives.

A failure is shared by those who waited and is not kept, so that a credential that is refused is
refused once, and the next call tries again. A leader that is interrupted leaves it to another.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Hashable
from concurrent.futures import Future
from contextlib import contextmanager


class Abandoned(Exception):
    """The leader was interrupted; somebody else is to lead."""


class Flight:
    """One thing that is being done, or was."""

    def __init__(self) -> None:
        self.future: Future[object] = Future()
        # A future that runs is not cancelled by one of those who wait for it.
        self.future.set_running_or_notify_cancel()
        self._loop = running_loop()

    def would_deadlock(self) -> bool:
        """Whether to wait here, on a thread, would hold up the loop that leads."""
        return self._loop is not None and self._loop is running_loop()


class Flights:
    """All of them, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight] = {}

    def join(self, key: Hashable) -> tuple[Flight, bool]:
        """The flight of a key, and whether the caller leads it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight()
            return flight, True

    @contextmanager
    def lead(self, key: Hashable, flight: Flight) -> Generator[None, None, None]:
        """Within it the leader sets the flight's result; what it raises ends the flight."""
        try:
            yield
        except BaseException as error:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.future.set_exception(error if isinstance(error, Exception) else Abandoned())
            raise

    def forget(self) -> None:
        with self._lock:
            self._flights = {}


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
