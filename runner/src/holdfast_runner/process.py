"""This process as the owner of the socket: who it is, its threads, and the ways it ends.

A child that user code forks runs the same Python code with the same objects. It is recognised by
its process id and never speaks: when it comes out of the user's function, it ends here.
"""

import os
import threading

STOPPED = 0
SETUP_FAILED = 1
WORKER_GONE = 69
"""EX_UNAVAILABLE of sysexits.h: the socket closed."""
INTERNAL = 70
"""EX_SOFTWARE: a part of ours failed, which is a defect of the runner."""
MALFORMED = 76
"""EX_PROTOCOL: the worker sent a frame that has no meaning."""

OWNER = os.getpid()
"""Imported after init was forked off, so it is the process that runs the functions."""


def is_forked() -> bool:
    """Whether this is a child that user code made."""
    return os.getpid() != OWNER


def leave_forked(error=None) -> None:
    """Ends a forked child that came back from user code, as a script of its own would end."""
    from holdfast_runner import exceptions, output

    output.flush()
    if error is None:
        end(0)
    if not isinstance(error, SystemExit):
        end(1, exceptions.describe(error)["traceback"])
    if error.code is None or isinstance(error.code, int):
        end((error.code or 0) & 0xFF)
    end(1, exceptions.describe(error)["message"])


def end(code: int, message: str = "") -> None:
    """Ends at once: no handler runs, no thread is waited for, no buffer is written."""
    if message:
        os.write(2, (message.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))
    os._exit(code)


def run_or_end(name: str, function) -> None:
    """Runs a part of the runner; an error in one ends the process rather than hangs it."""
    try:
        function()
    except BaseException:
        import traceback

        end(INTERNAL, "holdfast runner: %s failed: %s" % (name, traceback.format_exc()))


def start_thread(name: str, function) -> threading.Thread:
    """Starts a thread of the runner."""
    thread = threading.Thread(
        target=run_or_end, args=(name, function), name="holdfast-" + name, daemon=True
    )
    thread.start()
    return thread
