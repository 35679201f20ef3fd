"""Run flows: one driver on a thread, one on an event loop, and nothing else in either.

Each does what an operation asks, and gives the flow what came of it, exceptions and interrupts
included. At most one answer is open; it is closed when the next is asked for, or with the driver,
so that several flows may read one answer one after the other.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from holdfast._flights import Abandoned, Flights
from holdfast._wire import (
    AsyncStream,
    AsyncTransport,
    Close,
    Flow,
    Forget,
    Notice,
    Once,
    Operation,
    Output,
    Progress,
    Read,
    Request,
    Sleep,
    Stream,
    T,
    Transport,
    Work,
)

Show = Callable[[Output | Progress | Notice], None]


class Driver:
    """Runs a flow on this thread."""

    def __init__(self, transport: Transport, flights: Flights, show: Show) -> None:
        self._transport = transport
        self._flights = flights
        self._show = show
        self._stream: Stream | None = None

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def run(self, flow: Flow[T]) -> T:
        reply: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    while True:
                        operation = flow.send(reply) if failure is None else flow.throw(failure)
                        failure = None
                        reply = self._perform(operation)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                except BaseException as error:
                    # An interrupt comes anywhere; what the flow itself has raised has ended it.
                    if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
                        raise
                    reply, failure = None, error
        finally:
            # A reference cycle otherwise: the traceback holds this frame.
            del failure
            flow.close()

    def _perform(self, operation: Operation) -> Any:
        if isinstance(operation, Request):
            self._close()
            response, self._stream = self._transport.send(operation)
            return response
        if isinstance(operation, Read):
            return b"" if self._stream is None else self._stream.read()
        if isinstance(operation, Close):
            return self._close()
        if isinstance(operation, Sleep):
            return time.sleep(operation.seconds)
        if isinstance(operation, Work):
            return operation.run()
        if isinstance(operation, Once):
            return self._once(operation)
        if isinstance(operation, Forget):
            return self._flights.forget()
        return self._show(operation)

    def _once(self, operation: Once) -> Any:
        while True:
            flight, leads = self._flights.join(operation.key)
            if not leads and not flight.future.done() and flight.would_deadlock():
                return self._nested(operation)
            if leads:
                with self._flights.lead(operation.key, flight):
                    flight.future.set_result(self._nested(operation))
            try:
                return flight.future.result()
            except Abandoned:
                continue

    def _nested(self, operation: Once) -> Any:
        with Driver(self._transport, self._flights, self._show) as driver:
            return driver.run(operation.flow())

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class AsyncDriver:
    """Runs a flow on the event loop of whoever awaits it."""

    def __init__(self, transport: AsyncTransport, flights: Flights, show: Show) -> None:
        self._transport = transport
        self._flights = flights
        self._show = show
        self._stream: AsyncStream | None = None

    async def __aenter__(self) -> AsyncDriver:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._close()

    async def run(self, flow: Flow[T]) -> T:
        reply: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    while True:
                        operation = flow.send(reply) if failure is None else flow.throw(failure)
                        failure = None
                        reply = await self._perform(operation)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                except BaseException as error:
                    if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
                        raise
                    reply, failure = None, error
        finally:
            del failure
            flow.close()

    async def _perform(self, operation: Operation) -> Any:
        if isinstance(operation, Request):
            await self._close()
            response, self._stream = await self._transport.send(operation)
            return response
        if isinstance(operation, Read):
            return b"" if self._stream is None else await self._stream.read()
        if isinstance(operation, Close):
            return await self._close()
        if isinstance(operation, Sleep):
            return await asyncio.sleep(operation.seconds)
        if isinstance(operation, Work):
            return await asyncio.to_thread(operation.run)
        if isinstance(operation, Once):
            return await self._once(operation)
        if isinstance(operation, Forget):
            return self._flights.forget()
        return self._show(operation)

    async def _once(self, operation: Once) -> Any:
        while True:
            flight, leads = self._flights.join(operation.key)
            if leads:
                with self._flights.lead(operation.key, flight):
                    flight.future.set_result(await self._nested(operation))
            if flight.future.done():
                return flight.future.result()
            try:
                return await asyncio.wrap_future(flight.future)
            except Abandoned:
                continue

    async def _nested(self, operation: Once) -> Any:
        async with AsyncDriver(self._transport, self._flights, self._show) as driver:
            return await driver.run(operation.flow())

    async def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
