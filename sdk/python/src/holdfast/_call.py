"""A handle to a call that was submitted: its result, its output, its end.

It is good for another process too: `Call.from_id` makes one of an id that was written down.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Generic, NamedTuple, TypeVar, cast

from holdfast import _models, _outcomes, _requests, _tasks
from holdfast._exceptions import UnexpectedAnswer, WaitTimedOut
from holdfast._retry import send
from holdfast._session import Session, session
from holdfast._tasks import Ended, Listener
from holdfast._wire import Flow

R = TypeVar("R")

TASK_ID = re.compile(r"task-[0-9a-f]{32}")


class Log(NamedTuple):
    """A piece of what a call printed."""

    stream: str
    """`stdout` or `stderr`."""

    text: str


class Call(Generic[R]):
    """One call of a function, which runs whether or not anybody waits for it."""

    __slots__ = ("_format", "_main", "id")

    id: str

    def __init__(self, task_id: str, payload_format: str, main: str | None) -> None:
        self.id = task_id
        self._format = payload_format
        self._main = main

    @classmethod
    def from_id(cls, task_id: str, *, format: str = "pickle") -> Call[R]:
        """The handle to a call by its id. `format` is that of the function."""
        if not TASK_ID.fullmatch(task_id):
            raise ValueError(f"{task_id[:50]!r} is no id of a call: they begin with task-")
        if format not in ("pickle", "json"):
            raise ValueError('format is "pickle" or "json"')
        return cls(task_id, format, None)

    def __repr__(self) -> str:
        return f"<holdfast call {self.id}>"

    def result(self, timeout: float | None = None) -> R:
        """Waits for the value, for that many seconds; raises what the function raised.

        `WaitTimedOut` when it has not ended by then. What it prints is not shown: see `logs`."""
        current = session()
        return self._value(timeout, current.run(_tasks.wait(current.pace, self.id, timeout)))

    async def result_async(self, timeout: float | None = None) -> R:
        current = session()
        flow = _tasks.wait(current.pace, self.id, timeout)
        return self._value(timeout, await current.run_async(flow))

    def state(self) -> str:
        """`pending`, `running` or `ended`."""
        current = session()
        return current.run(_state(current, self.id))

    async def state_async(self) -> str:
        current = session()
        return await current.run_async(_state(current, self.id))

    def cancel(self) -> bool:
        """Cancels the call, and waits shortly; whether it has ended by then."""
        current = session()
        return current.run(_tasks.cancel(current.pace, self.id)).end is not None

    async def cancel_async(self) -> bool:
        current = session()
        return (await current.run_async(_tasks.cancel(current.pace, self.id))).end is not None

    def logs(self) -> Iterator[Log]:
        """What it has printed and prints, from its beginning until it ends."""
        current = session()
        listener = Listener(current.pace, self.id)
        with current.driver() as driver:
            while not isinstance(came := driver.run(listener.next()), Ended):
                yield Log(came.stream, came.text)

    async def logs_async(self) -> AsyncIterator[Log]:
        current = session()
        listener = Listener(current.pace, self.id)
        async with await current.async_driver() as driver:
            while not isinstance(came := await driver.run(listener.next()), Ended):
                yield Log(came.stream, came.text)

    def _value(self, timeout: float | None, end: _models.End | None) -> R:
        if end is None:
            raise WaitTimedOut(f"{self.id} has not ended within {timeout} seconds")
        return cast("R", _outcomes.value_of(Ended(self.id, end), self._format, self._main))


def _state(current: Session, task_id: str) -> Flow[str]:
    response = yield from send(current.pace, _requests.get_task(task_id, 0.0))
    task = _models.task(_models.fields("task", response.body))
    if task.id != task_id:
        raise UnexpectedAnswer("the gateway answered with another task")
    return task.state
