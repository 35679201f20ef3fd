"""Stopping a call that has begun: an exception is raised where it is, if it can be reached.

In the main thread a signal does it, whose handler raises: that reaches into `time.sleep` and reads
of sockets, and the handler sees what is running at that moment. In other threads CPython raises an
exception between two steps of Python code; there a call that waits in C ends when it comes back.
Whatever cannot be reached, the worker ends from outside.

An exception must not come out of the runner's own code, where it would be lost or do harm. So
there is a region in which a call may be interrupted, and *the interrupt is taken by whoever comes
first*, the canceller to use it or the region's end to withdraw it. Taking is `list.pop`: one step,
no lock, since a lock could be left locked by the very exception.
"""

import signal
import sys
import threading
import time

from holdfast_runner import process
from holdfast_runner.errors import Cancelled

SIGNAL = signal.SIGRTMAX
"""The last real-time signal, which programs leave alone, unlike SIGUSR1."""

POLL_S = 0.001
"""How long the end of a region sleeps between looks at an interrupt that is on its way."""

REPEAT_S = 0.05
"""Between two signals to a call that has not been reached."""


def take(slot: list):
    """Takes what is in a slot, or None. Of several who try, one gets it."""
    try:
        return slot.pop()
    except IndexError:
        return None


def prepare(concurrency: int) -> None:
    """Makes ready what interrupts calls. In the main thread, before user code is loaded."""
    if concurrency == 1:
        signal.signal(SIGNAL, MainRegion.on_signal)
        return
    try:
        # Loaded here, so that no module of the user's of that name can come first.
        import ctypes  # noqa: F401
    except ImportError:
        pass


class Cancellation:
    """Whether one call is to stop, and how it would be reached now."""

    def __init__(self) -> None:
        self.requested = False
        self._unbegun = [True]
        self._interrupt = []

    def begin(self) -> bool:
        """Whether the call may begin; False when it was cancelled before."""
        return take(self._unbegun) is not None

    def request(self) -> bool:
        """Stops the call; True when it has not begun, and now never will."""
        self.requested = True
        if take(self._unbegun):
            return True
        self._fire()
        return False

    def interrupt_with(self, interrupt) -> None:
        """Says how the call is reached from now on, and does so if it should have been."""
        self._interrupt = [interrupt]
        if self.requested:
            self._fire()

    def run(self, function):
        """Runs a function that `request` interrupts, in the thread that calls this."""
        in_main = threading.current_thread() is threading.main_thread()
        region = MainRegion() if in_main else ThreadRegion()
        self._interrupt = region.slot
        return region.run(function)

    def check(self) -> None:
        """Inside a region: interrupts it if the request came before there was one."""
        if self.requested:
            self._fire()

    def _fire(self) -> None:
        interrupt = take(self._interrupt)
        if interrupt is not None:
            interrupt()


class MainRegion:
    """Code of a call in the main thread, reached by a signal."""

    running = None

    def __init__(self) -> None:
        self.slot = [self._interrupt]
        self._wanted = False

    def run(self, function):
        try:
            MainRegion.running = self
            return function()
        finally:
            MainRegion.running = None

    def _interrupt(self) -> None:
        self._wanted = True
        signal.pthread_kill(threading.main_thread().ident, SIGNAL)
        try:
            process.start_thread("interrupt", self._insist)
        except RuntimeError:
            # The call has used up the threads that the container may have. It was signalled once.
            pass

    def _insist(self) -> None:
        """Signals again: what comes when the thread is about to wait in C ends no wait."""
        while True:
            time.sleep(REPEAT_S)
            if MainRegion.running is not self:
                return
            signal.pthread_kill(threading.main_thread().ident, SIGNAL)

    @classmethod
    def on_signal(cls, _number, _frame) -> None:
        region = cls.running
        if region is not None and region._wanted:
            # Withdrawn first, so that it is raised once, wherever that leads.
            cls.running = None
            raise Cancelled


class ThreadRegion:
    """Code of a call in another thread, reached by what CPython has for it."""

    def __init__(self) -> None:
        self.slot = [self._interrupt]
        self._thread = threading.get_ident()
        self._sent = False

    def run(self, function):
        try:
            return function()
        finally:
            self._leave()

    def _interrupt(self) -> None:
        if threading.get_ident() == self._thread:
            # By `check`, from inside: raised here, nothing is on its way.
            self._sent = True
            raise Cancelled
        set_exception(self._thread, Cancelled)
        self._sent = True

    def _leave(self) -> None:
        """Withdraws the interrupt; if it is on its way, waits for it and takes it off."""
        while True:
            try:
                if take(self.slot) is None:
                    while not self._sent:
                        time.sleep(POLL_S)
                    set_exception(self._thread, None)
                return
            except Cancelled:
                # It came while leaving: the call is over all the same.
                continue


def set_exception(thread: int, kind) -> None:
    """Has CPython raise an exception in a thread; None takes off one that is not yet raised."""
    ctypes = sys.modules.get("ctypes")
    raise_in_thread = getattr(getattr(ctypes, "pythonapi", None), "PyThreadState_SetAsyncExc", None)
    # Another implementation, or no `ctypes`: such threads cannot be reached.
    if raise_in_thread is not None:
        raise_in_thread(ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind))
