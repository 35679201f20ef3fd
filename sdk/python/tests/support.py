"""What the tests share: a deadline for each, a gateway, a session that uses it, flows by hand."""

import io
import os
import signal
import tempfile
import threading
import traceback
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from fake_gateway import FakeGateway
from fake_routes import TOKEN
from holdfast._config import Configuration
from holdfast._console import Console
from holdfast._hidden import Hidden
from holdfast._retry import Pace
from holdfast._session import Session, use

PROGRAMS = Path(__file__).resolve().parent / "programs"

DEADLINE_S = 45
"""For one test; none takes a tenth of it on a machine that has nothing else to do."""


class TestCase(unittest.TestCase):
    """A test that ends: one that hangs is interrupted."""

    maxDiff = None

    def setUp(self) -> None:
        def give_up(_number: int, _frame: object) -> None:
            raise AssertionError(f"not done within {DEADLINE_S} seconds")

        previous = signal.signal(signal.SIGALRM, give_up)
        signal.alarm(DEADLINE_S)
        self.addCleanup(signal.signal, signal.SIGALRM, previous)
        self.addCleanup(signal.alarm, 0)
        # Whoever runs the tests in the background may have them ignore it.
        previous_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, previous_interrupt)

    def directory(self, **files: str) -> Path:
        """A directory with files; `__` in a name is a slash."""
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        root = Path(os.path.realpath(holder.name))
        for name, content in files.items():
            path = root / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return root


class GatewayCase(TestCase):
    """A test with a gateway, and a session of this process that uses it."""

    gateway: FakeGateway

    def setUp(self) -> None:
        super().setUp()
        self.gateway = FakeGateway()
        self.gateway.__enter__()
        self.addCleanup(self.gateway.__exit__)
        self.session = Session(
            Configuration(self.gateway.url, Hidden(TOKEN)),
            console=Console({"HOLDFAST_PROGRESS": "0"}),
        )
        # Pauses that tests need not wait for.
        self.session.pace = Pace(self.session.pace.clock, lambda: 0.0)
        use(self.session)
        self.addCleanup(use, None)


@contextmanager
def captured() -> Iterator[Callable[[], tuple[str, str]]]:
    """What is written to stdout and stderr meanwhile."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        yield lambda: (out.getvalue(), err.getvalue())


class Watched(io.StringIO):
    """A stream whose writes can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._writes = threading.Semaphore(0)

    def write(self, text: str) -> int:
        written = super().write(text)
        self._writes.release()
        return written

    def wait(self, writes: int = 1) -> None:
        for _ in range(writes):
            assert self._writes.acquire(timeout=DEADLINE_S), "nothing was written"


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def pace(self) -> Pace:
        return Pace(clock=lambda: self.now_s, chance=lambda: 1.0)


def secret_words() -> tuple[str, str]:
    """Values that must be shown nowhere."""
    return "pass-word-9d1f", "env-value-77ac"


def shown_by(kind: type[BaseException], call: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    """The exception that a call raises, and all that a traceback with local variables shows.

    Not `assertRaises`, which takes the traceback off."""
    try:
        call(*args)
    except kind as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        # This frame has the arguments, which are the test's own.
        del shown.stack[0]
        return error, "".join(shown.format())
    raise AssertionError(f"no {kind.__name__} was raised")
