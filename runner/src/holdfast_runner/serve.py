"""One life of the runner after hello: setup, the function, calls, stop.

Three threads: the main one loads the function and runs it; one reads what the worker says, and
ends the process when the worker is gone; one writes. What this file imports is loaded before any
code of the user's, so that no module of theirs is taken for one of the standard library.
"""

import faulthandler
import os
import sys

from holdfast_runner import (
    calls,
    cancellation,
    exceptions,
    load,
    messages,
    outbox,
    output,
    process,
)
from holdfast_runner.framing import Closed, Malformed

STANDARD_ERROR = 2


def run(descriptor: int) -> None:
    """Serves one worker, and ends the process."""
    process.run_or_end("main", lambda: serve(descriptor))
    # Exit handlers of the user's run now. If one hangs, the worker closes the socket.
    sys.exit(process.STOPPED)


def serve(descriptor: int) -> None:
    """Serves one worker until it says stop."""
    setup = hear(descriptor)
    if setup.type != "setup":
        process.end(process.MALFORMED, "holdfast runner: the worker sent no setup")
    # A crash in C code, as of an extension, shows where in Python it came from.
    faulthandler.enable(file=STANDARD_ERROR)
    sending = outbox.Outbox(descriptor)
    pending = calls.Calls(sending, setup.concurrency, setup.limits["result_bytes"])
    process.start_thread("reader", lambda: listen(descriptor, pending))
    cancellation.prepare(setup.concurrency)
    tagged = None
    if setup.concurrency == 1:
        output.write_lines()
    else:
        # Before the import, since log handlers keep the stream that they find then.
        tagged = output.Tagged(sending)
    pending.open(load_or_fail(setup, sending))
    sending.put({"type": "ready"})
    pending.run()
    if tagged is not None:
        tagged.remove()
    sending.drain()


def load_or_fail(setup, sending):
    """The function, or the end of the process after saying why not."""
    try:
        function = load.load(setup)
    except load.SetupFailed as failure:
        if process.is_forked():
            process.leave_forked(failure.__cause__)
        exception = exceptions.describe(failure.__cause__)
        output.flush()
        sending.put({"type": "failed", "stage": failure.stage, "exception": exception})
        sending.drain()
        # No exit handlers: what was imported halfway is not asked to clean up.
        os._exit(process.SETUP_FAILED)
    if process.is_forked():
        process.leave_forked()
    return function


def listen(descriptor: int, pending: calls.Calls) -> None:
    """Hears the worker out. It runs until the process ends, also while it stops."""
    while True:
        message = hear(descriptor)
        try:
            if message.type == "call":
                pending.accept(message)
            elif message.type == "cancel":
                pending.cancel(message.attempt)
            elif message.type == "stop":
                pending.stop()
            else:
                raise Malformed("a second setup")
        except Malformed as error:
            refuse(error)


def hear(descriptor: int):
    """One message; the end of the process when the worker is gone or makes no sense."""
    try:
        return messages.receive(descriptor)
    except Closed:
        process.end(process.WORKER_GONE)
    except Malformed as error:
        refuse(error)


def refuse(error: Malformed) -> None:
    """Ends the connection over a frame, and this process with it."""
    process.end(process.MALFORMED, "holdfast runner: the worker sent %s" % error)
