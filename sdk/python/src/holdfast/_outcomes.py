"""How a task ended, as a value or an exception.

The function's own exception is raised as it is, where its pickle loads and it is an `Exception`: a
remote `SystemExit` or `KeyboardInterrupt` is not to end this program, nor a `StopIteration` a loop.
Nothing is unpickled that was not asked for as a pickle, whatever the answer says of itself.
"""

from __future__ import annotations

from typing import Any

from holdfast import _payloads
from holdfast._exceptions import (
    RUNNER_ERRORS,
    ContainerDied,
    NotStarted,
    RemoteError,
    RemoteTraceback,
    ResultNotReadable,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskTimedOut,
    UnexpectedAnswer,
    WorkerLost,
)
from holdfast._models import Failure
from holdfast._tasks import Ended

ENDS: dict[str, tuple[type[TaskError], str]] = {
    "cancelled": (TaskCancelled, "was cancelled"),
    "timed-out": (TaskTimedOut, "ran for longer than its timeout"),
    "expired": (TaskExpired, "waited for a container for too long"),
    "died": (ContainerDied, "ended with its container before it returned"),
    "lost": (WorkerLost, "was on a machine that is gone"),
    "not-started": (NotStarted, "was not started"),
}

NOT_RAISED_HERE = (StopIteration, StopAsyncIteration)
"""Generators and loops take these for their own."""

RUNNER_MODULE = "holdfast"
"""What the runner says of itself has this module, and its name is all there is to know."""


def value_of(ended: Ended, payload_format: str, main: str | None) -> Any:
    """What the function returned; raises what it raised, or why it did neither."""
    task_id, end = ended.task_id, ended.end
    if end.format != payload_format:
        raise UnexpectedAnswer(f"{task_id} was to answer in {payload_format}, and did otherwise")
    if end.outcome == "returned":
        if end.payload is None:
            raise UnexpectedAnswer(f"{task_id} returned, and its value is missing")
        return _payloads.load(end.payload, payload_format, main)
    failure = end.failure
    cause = None
    if failure is not None and failure.traceback:
        cause = RemoteTraceback(failure.traceback, task_id)
    raise _exception(ended, main) from cause


def _exception(ended: Ended, main: str | None) -> Exception:
    task_id, end = ended.task_id, ended.end
    failure = end.failure
    if end.outcome != "raised":
        kind, what = ENDS[end.outcome]
        why = "" if failure is None else f": {_summary(failure)}"
        return kind(f"{task_id} {what}{why}", task_id=task_id, failure=failure)
    if failure is None:
        return UnexpectedAnswer(f"{task_id} raised, and what it raised is missing")
    if failure.module == RUNNER_MODULE and failure.type in RUNNER_ERRORS:
        of_runner = RUNNER_ERRORS[failure.type]
        return of_runner(failure.message, task_id=task_id, failure=failure)
    if end.format == "pickle" and end.payload:
        error = _loaded(end.payload, main)
        if error is not None:
            return error
    return RemoteError(_summary(failure), task_id=task_id, failure=failure)


def _loaded(payload: bytes, main: str | None) -> Exception | None:
    """The exception itself, if it can be loaded and may be raised here."""
    try:
        error = _payloads.load(payload, "pickle", main)
    except ResultNotReadable:
        return None
    is_raised_here = isinstance(error, Exception) and not isinstance(error, NOT_RAISED_HERE)
    return error if is_raised_here else None


def _summary(failure: Failure) -> str:
    name = failure.type if failure.module == "builtins" else f"{failure.module}.{failure.type}"
    return f"{name}: {failure.message}" if failure.message else name
