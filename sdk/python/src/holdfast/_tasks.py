"""Calls: started, followed to their end over whatever breaks, cancelled, each as a flow.

A call runs once. It has a key by which the gateway knows it again, so that starting it is repeated
safely; and once its task is known it is only ever listened to. Output is resumed at the byte where
it broke: none is shown twice, and what the gateway no longer has is said to be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast import _models, _requests
from holdfast._events import EventReader
from holdfast._exceptions import (
    ConnectionFailed,
    GatewayError,
    HoldfastError,
    NotFound,
    UnexpectedAnswer,
)
from holdfast._models import End, Printed, Task
from holdfast._prepare import Definition, prepare
from holdfast._requests import WAIT_LIMIT_S, Submission
from holdfast._retry import RUNNING, Pace, Patience, Retry, ask, persist, send
from holdfast._wire import Close, Flow, Forget, Notice, Output, Progress, Request, Sleep, T

CANCEL_WAIT_S = 5.0
"""How long an interrupted caller waits to hear that its call is over. A second interrupt does not
wait, and a caller that leaves is noticed by the gateway, which then cancels."""

LEAST_WAIT_S = 1.0
"""Between questions about a task, should the gateway answer without having waited."""


@dataclass(frozen=True)
class Ended:
    """A call that is over."""

    task_id: str
    end: End


class Listener:
    """Hears of one task, over as many connections as it takes."""

    def __init__(self, pace: Pace, task_id: str | None = None) -> None:
        self.task_id = task_id
        self._start: Request | None = None
        self._retry = Retry(pace, RUNNING)
        self._events: EventReader | None = None
        self._seen_bytes = 0

    def start_by(self, request: Request) -> None:
        """Says what starts the task, where it is a new one; its answer is the first events."""
        self._start = request

    def next(self) -> Flow[Output | Ended]:
        """Waits for what the task prints next, or for its end."""
        return (yield from persist(self._retry, self._next, is_repeatable=True))

    def to_end(self) -> Flow[Ended]:
        """Shows all that the task prints, until its end."""
        while True:
            came = yield from self.next()
            if isinstance(came, Ended):
                return came
            yield came

    def _next(self) -> Flow[Output | Ended]:
        try:
            if self._events is None:
                self._events = EventReader((yield from ask(self._request())))
            while True:
                kind, found = yield from self._events.next()
                self._retry.reached()
                if kind == "task":
                    self.task_id = found.text("id")
                    is_waiting = found.text("state") == "pending"
                    yield Progress("waiting for a container" if is_waiting else None)
                elif kind == "output":
                    self._retry.advanced()
                    output = self._unseen(_models.printed(found))
                    if output.text:
                        return output
                elif kind == "end":
                    end = _models.end(found)
                    yield from self._events.finish()
                    return Ended(self._known_id(), end)
        except (ConnectionFailed, GatewayError):
            self._events = None
            raise

    def _request(self) -> Request:
        if self.task_id is not None:
            return _requests.task_events(self.task_id, self._seen_bytes)
        assert self._start is not None, "a task without an id is one to start"
        return self._start

    def _known_id(self) -> str:
        if self.task_id is None:
            raise UnexpectedAnswer("the gateway told the end of a task before its id")
        return self.task_id

    def _unseen(self, piece: Printed) -> Output:
        """The part of a piece of output that was not seen yet, and a word for what is missing."""
        content = piece.text.encode("utf-8", "replace")
        missing_bytes = piece.end_bytes - len(content) - self._seen_bytes
        self._seen_bytes = max(self._seen_bytes, piece.end_bytes)
        if missing_bytes > 0:
            text = f"[{missing_bytes} bytes of output are no longer there]\n{piece.text}"
        else:
            text = content[-missing_bytes:].decode("utf-8", "replace")
        return Output(piece.stream, text)


def call(pace: Pace, definition: Definition, submission: Submission) -> Flow[Ended]:
    """A call from its beginning to its end. When it is interrupted its task is cancelled."""
    listener = Listener(pace)

    def start(stub_id: str) -> Flow[Ended]:
        listener.start_by(_requests.start_task(stub_id, submission, is_stream=True))
        return listener.to_end()

    try:
        return (yield from _with_stub(pace, definition, listener, start))
    except (HoldfastError, GeneratorExit):
        raise
    except BaseException:
        # An interrupt, or nowhere to write the output to: nobody will listen any more.
        yield from _abandon(pace, listener.task_id)
        raise


def submit(pace: Pace, definition: Definition, submission: Submission) -> Flow[str]:
    """Starts a call that nobody listens to yet; the id of its task."""

    def start(stub_id: str) -> Flow[Task]:
        request = _requests.start_task(stub_id, submission, is_stream=False)
        response = yield from send(pace, request, RUNNING)
        return _models.task(_models.fields("task", response.body))

    task = yield from _with_stub(pace, definition, Listener(pace), start)
    return task.id


def wait(pace: Pace, task_id: str, timeout_s: float | None) -> Flow[End | None]:
    """Waits until a task has ended; None if it has not within that time."""
    deadline_s = None if timeout_s is None else pace.clock() + timeout_s
    while True:
        asked_s = pace.clock()
        left_s = WAIT_LIMIT_S if deadline_s is None else max(deadline_s - asked_s, 0.0)
        request = _requests.get_task(task_id, min(left_s, WAIT_LIMIT_S))
        patience = RUNNING
        if deadline_s is not None:
            limits = (RUNNING.unreachable_s, RUNNING.busy_s, RUNNING.unavailable_s)
            patience = Patience(*(min(limit_s, left_s) for limit_s in limits))
        response = yield from send(pace, request, patience)
        task = _models.task(_models.fields("task", response.body))
        if task.end is not None:
            return task.end
        now_s = pace.clock()
        if deadline_s is not None and now_s >= deadline_s:
            return None
        if now_s - asked_s < LEAST_WAIT_S:
            yield Sleep(
                LEAST_WAIT_S if deadline_s is None else min(LEAST_WAIT_S, deadline_s - now_s)
            )


def cancel(pace: Pace, task_id: str, wait_s: float = CANCEL_WAIT_S) -> Flow[Task]:
    """Cancels a task, and waits shortly for its end."""
    request = _requests.cancel_task(task_id, wait_s)
    response = yield from send(pace, request, Patience(wait_s, wait_s, wait_s))
    return _models.task(_models.fields("task", response.body))


def _with_stub(
    pace: Pace, definition: Definition, listener: Listener, start: Callable[[str], Flow[T]]
) -> Flow[T]:
    """Starts a task of a function's stub, which may have to be made, or to be made anew."""
    stub_id = yield from prepare(pace, definition)
    try:
        return (yield from start(stub_id))
    except NotFound:
        if listener.task_id is not None:
            raise
    # No task was accepted. The gateway was set up anew since this process prepared the function.
    yield Forget()
    stub_id = yield from prepare(pace, definition)
    return (yield from start(stub_id))


def _abandon(pace: Pace, task_id: str | None) -> Flow[None]:
    yield Close()
    if task_id is None:
        # Whether it was accepted is not known. If so, the gateway cancels it, since nobody listens.
        return
    yield Progress(f"cancelling {task_id}")
    try:
        task = yield from cancel(pace, task_id)
    except HoldfastError:
        task = None
    if task is None or task.end is None:
        yield Notice(f"{task_id} may run on for a while: its end was not confirmed in time")
