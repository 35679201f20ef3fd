"""A gateway in this process: the HTTP API as the client needs it, over a real socket.

Images and stubs are remembered, objects are kept, and calls are made by the real runner in a
process of its own (`containers`), or play a *script* (`fake_tasks`). *Faults* are taken from a list
before a request is answered. Nothing waits without a deadline.
"""

import itertools
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from containers import Container
from fake_routes import Handler
from fake_tasks import DEADLINE_S, Task


@dataclass
class Fault:
    """What happens to the next request that fits, in place of an answer."""

    method: str
    path: str
    status: int = 0
    """0 ends the connection without an answer."""

    error: dict | None = None
    headers: dict = field(default_factory=dict)
    after: bool = False
    """Whether the request is done first, so that only its answer is lost."""

    body: bytes | None = None


class FakeGateway:
    """Starts with `with`; `url` is where it is."""

    def __init__(self) -> None:
        self.python_version = ".".join(map(str, sys.version_info[:3]))
        self.requests: list = []
        self.images: list = []
        self.image_events: list = []
        self.image_hold: threading.Event | None = None
        self.objects: dict = {}
        self.stubs: dict = {}
        self.tasks: dict = {}
        self.keys: dict = {}
        self.scripts: dict = {}
        self.faults: list = []
        self.breaks: list = []
        """Numbers of events after which a stream of a task is broken off, the next first."""

        self.containers: dict = {}
        self.lock = threading.Lock()
        self.seen = threading.Condition()
        self.closing = threading.Event()
        self.numbers = itertools.count(1)
        self.connections = 0

    def __enter__(self) -> "FakeGateway":
        handler = type("Handler", (Handler,), {"gateway": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.closing.set()
        for task in list(self.tasks.values()):
            task.cancel()
        for container in self.containers.values():
            container.close()
        self.server.shutdown()
        self.server.server_close()

    def script(self, attribute: str, *steps: Any) -> None:
        """Has calls of a function play steps: functions that are given the task, in order."""
        self.scripts[attribute] = steps

    def fault(self, method: str, path: str, **fields: Any) -> None:
        self.faults.append(Fault(method, path, **fields))

    def count(self, method: str, path: str) -> int:
        """How many requests fitted."""
        with self.seen:
            return self._count(method, path)

    def wait_for(self, method: str, path: str, times: int = 1) -> None:
        """Waits until so many requests have come that fit."""
        with self.seen:
            enough = lambda: self._count(method, path) >= times  # noqa: E731
            assert self.seen.wait_for(enough, DEADLINE_S), f"no {method} {path} came"

    def _count(self, method: str, path: str) -> int:
        return sum(method == m and bool(re.fullmatch(path, p)) for m, p, _ in self.requests)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self.numbers):032x}"

    def record(self, method: str, path: str, headers: Any) -> Fault | None:
        with self.seen:
            self.requests.append((method, path, dict(headers)))
            self.seen.notify_all()
            for fault in self.faults:
                if fault.method == method and re.fullmatch(fault.path, path):
                    self.faults.remove(fault)
                    return fault
        return None

    def start(self, stub: dict, body: dict) -> Task:
        """A task for a call; for a call that is known, its task."""
        with self.lock:
            key = (stub["id"], body["idempotency_key"])
            if key in self.keys:
                return self.keys[key]
            task = Task(self.new_id("task"), stub, body)
            self.tasks[task.id] = self.keys[key] = task
        threading.Thread(target=self._play, args=(task,), daemon=True).start()
        return task

    def _play(self, task: Task) -> None:
        script = self.scripts.get(task.stub["handler"].partition(":")[2])
        if script is None:
            with self.lock:
                container = self.containers.get(task.stub["id"])
                if container is None:
                    archive = self.objects.get(task.stub["code"])
                    container = self.containers[task.stub["id"]] = Container(task.stub, archive)
            container.call(task)
        else:
            for step in script:
                step(task)
