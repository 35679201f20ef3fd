"""Calls of the gateway of the tests, and scripts that play one: steps that are given the task.

script("slow", prints("one\\n"), waits(event), returns(5))
"""

import base64
import pickle
import threading
from typing import Any

import cloudpickle

DEADLINE_S = 30
"""For whatever waits here."""


class Task:
    """One call: what it has printed, and how it ended."""

    def __init__(self, task_id: str, stub: dict, body: dict) -> None:
        self.id = task_id
        self.stub = stub
        self.body = body
        self.state = "pending"
        self.output: list = []
        self.offset = 0
        self.end: dict | None = None
        self.is_cancelled = False
        self.changed = threading.Condition()

    def print(self, text: str, stream: str = "stdout") -> None:
        with self.changed:
            self.state = "running"
            self.offset += len(text.encode())
            self.output.append({"stream": stream, "text": text, "offset": self.offset})
            self.changed.notify_all()

    def finish(self, **end: Any) -> None:
        with self.changed:
            if self.end is None:
                payload_format = self.body["format"]
                self.end = {"format": payload_format, "payload": None, "failure": None, **end}
                self.state = "ended"
            self.changed.notify_all()

    def cancel(self) -> None:
        self.is_cancelled = True
        self.finish(outcome="cancelled")

    def as_json(self, with_end: bool = True) -> dict:
        shown = {"id": self.id, "stub": self.stub["id"], "state": self.state, "attempts": 1}
        return {**shown, "end": self.end if with_end else None}

    def arguments(self) -> tuple:
        return pickle.loads(base64.b64decode(self.body["payload"]))["args"]

    def wait_more(self, shown: int) -> None:
        """Waits for output beyond what was shown, or for the end; with `changed` held."""
        self.changed.wait_for(lambda: len(self.output) > shown or self.end, DEADLINE_S)

    def wait_ended(self, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.end is not None, seconds)


def prints(text: str, stream: str = "stdout") -> Any:
    """A step of a script."""
    return lambda task: task.print(text, stream)


def returns(value: Any) -> Any:
    payload = base64.b64encode(cloudpickle.dumps(value)).decode()
    return lambda task: task.finish(outcome="returned", payload=payload)


def ends(outcome: str, payload: bytes | None = None, **failure: str) -> Any:
    """A step that ends a task otherwise."""
    shown = None
    if failure:
        shown = {"type": "", "module": "builtins", "message": "", "traceback": "", **failure}
    encoded = None if payload is None else base64.b64encode(payload).decode()
    return lambda task: task.finish(outcome=outcome, failure=shown, payload=encoded)


def waits(event: threading.Event) -> Any:
    return lambda task: event.wait(DEADLINE_S)
