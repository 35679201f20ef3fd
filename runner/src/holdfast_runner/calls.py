"""Calls from the moment they are received until their result is on its way: one each, always.

A *lane* is a thread that runs one call after another: the main thread with one call at a time, or
threads that are started as they are needed, up to `concurrency`. Calls that come early wait in
line. Nothing that user code raises gets out of a lane.
"""

import collections.abc
import threading
from queue import SimpleQueue

from holdfast_runner import current, errors, exceptions, output, payloads, process
from holdfast_runner.cancellation import Cancellation
from holdfast_runner.framing import Malformed


class Call:
    """One call as the worker sent it, and whether it is to stop."""

    def __init__(self, message) -> None:
        self.attempt = message.attempt
        self.nonce = message.nonce
        self.task = message.task
        self.format = message.format
        self.python = message.python
        self.payload = message.payload
        self.cancellation = Cancellation()


class Answer:
    """How a call ended. It holds no exception, and so no frame of the user's and what is in it."""

    def __init__(self, outcome: str, exception, payload: bytes = b"") -> None:
        self.outcome = outcome
        self.exception = exception
        self.payload = payload


class Calls:
    """The calls that the worker has no result of yet."""

    def __init__(self, outbox, concurrency: int, result_bytes: int) -> None:
        self._outbox = outbox
        self._concurrency = concurrency
        self._result_bytes = result_bytes
        self._function = None
        self._pending = {}
        self._line = SimpleQueue()
        self._lanes = []
        self._stopped = threading.Event()
        self._loop = None
        self._making_loop = threading.Lock()

    def open(self, function) -> None:
        """Says which function the calls are of. Before it there are none."""
        self._function = function

    def accept(self, message) -> None:
        """Puts a call in line. Said by the thread that reads, as are the next two."""
        if self._function is None or self._stopped.is_set():
            raise Malformed("a call before ready or after stop")
        if message.attempt in self._pending:
            raise Malformed("a second call of the same attempt")
        call = Call(message)
        self._pending[call.attempt] = call
        self._line.put(call)
        if self._concurrency > 1 and len(self._lanes) < min(len(self._pending), self._concurrency):
            name = "lane-%d" % len(self._lanes)
            self._lanes.append(process.start_thread(name, self._run_lane))

    def cancel(self, attempt: str) -> None:
        """Stops a call. One that is not known has its result on its way already."""
        call = self._pending.get(attempt)
        if call is not None and call.cancellation.request():
            self._send(call, Answer("cancelled", exceptions.describe(errors.Cancelled())))

    def stop(self) -> None:
        """Takes no more calls; lanes end when those in line are done."""
        self._stopped.set()
        self._line.put(None)

    def run(self) -> None:
        """Runs calls until `stop`, from the main thread."""
        if self._concurrency == 1:
            self._run_lane()
        else:
            self._stopped.wait()
            for lane in self._lanes:
                lane.join()
        if self._loop is not None:
            self._loop.close()

    def _run_lane(self) -> None:
        for call in iter(self._line.get, None):
            if call.cancellation.begin():
                self._run(call)
        # The next lane is to end, too.
        self._line.put(None)

    def _run(self, call: Call) -> None:
        token = current.CALL.set(call)
        answer = self._answer(call)
        output.flush()
        current.CALL.reset(token)
        self._send(call, answer)

    def _send(self, call: Call, answer: Answer) -> None:
        del self._pending[call.attempt]
        header = {
            "type": "result",
            "attempt": call.attempt,
            "nonce": call.nonce,
            "outcome": answer.outcome,
        }
        if answer.exception is not None:
            header["exception"] = answer.exception
        self._outbox.put(header, answer.payload)

    def _answer(self, call: Call) -> Answer:
        error = None
        try:
            payload = self._returned(call)
        except BaseException as raised:
            # Looked at below, not here: what is raised while an exception is handled is chained to
            # it, and before Python 3.9 a chain that is a circle is walked for ever.
            error = raised
        if process.is_forked():
            process.leave_forked(error)
        if error is None:
            return Answer("returned", None, payload)
        described = exceptions.describe(error)
        # Lets go of the frames of the function, and of what it had in them.
        BaseException.with_traceback(error, None)
        if isinstance(error, errors.Cancelled) and call.cancellation.requested:
            return Answer("cancelled", described)
        return Answer("raised", described, payloads.exception(error, call, self._result_bytes))

    def _returned(self, call: Call) -> bytes:
        cancellation = call.cancellation

        def apply():
            cancellation.check()
            positional, named = payloads.arguments(call)
            # Arguments may be long, and are not held twice while the function runs.
            call.payload = b""
            return self._function(*positional, **named)

        value = cancellation.run(apply)
        if isinstance(value, collections.abc.Coroutine):
            value = self._event_loop().run(value, cancellation)
        return cancellation.run(lambda: payloads.result(value, call, self._result_bytes))

    def _event_loop(self):
        with self._making_loop:
            if self._loop is None:
                from holdfast_runner.loop import Loop

                self._loop = Loop(in_own_thread=self._concurrency > 1)
        return self._loop
