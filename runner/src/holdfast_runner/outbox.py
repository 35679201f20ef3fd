"""The one place that writes to the socket after hello: a queue, and a thread that empties it.

Threads that run user code only put things into the queue, which is one step of C and takes no
lock of Python's. A thread that is interrupted anywhere, as a cancelled one is, so leaves nothing
locked and nothing half written. Order is kept: what a call wrote is sent before its result.
"""

import os
import time
from queue import Empty, SimpleQueue

from holdfast_runner import framing, messages, process

OUTPUT_CHUNK_BYTES = 32768
"""The payload of one `output`: long enough to be cheap, short enough to be seen soon."""

WAITING_LIMIT = 256
"""Entries that may wait for the worker to read; with chunks of output, 8 MiB."""

END = object()
"""Put last; the thread that writes ends at it."""

POLL_S = 0.001
"""How long a writer of output sleeps between looks, where a lock could be left locked."""


class Message:
    """A whole frame: ready, failed or a result."""

    __slots__ = ("header", "payload")

    def __init__(self, header: dict, payload: bytes) -> None:
        self.header = messages.encode(header)
        self.payload = payload


class Output:
    """Bytes that one write of user code wrote, of any length."""

    __slots__ = ("tag", "data", "sent")

    def __init__(self, attempt, stream: str, data: bytes) -> None:
        self.tag = (attempt, stream)
        self.data = data
        self.sent = False


class Outbox:
    """What is on its way to the worker."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = SimpleQueue()
        self.ended = False
        os.register_at_fork(after_in_child=self._close_in_child)
        self._thread = process.start_thread("writer", self._write)

    def put(self, header: dict, payload: bytes = b"") -> None:
        """Sends a message, after everything that was put before it."""
        if process.is_forked():
            process.leave_forked()
        self._waiting.put(Message(header, payload))

    def put_output(self, attempt, stream: str, data: bytes) -> None:
        """Sends output; waits while too much of it is on its way already."""
        output = Output(attempt, stream, data)
        self._waiting.put(output)
        if len(data) > OUTPUT_CHUNK_BYTES:
            # Entries are counted, not bytes, so a long one is waited for by whoever wrote it.
            while not (output.sent or self.ended):
                time.sleep(POLL_S)
        while self._waiting.qsize() > WAITING_LIMIT and not self.ended:
            time.sleep(POLL_S)

    def drain(self) -> None:
        """Returns when all is written. Nothing is put after it has begun."""
        self.ended = True
        self._waiting.put(END)
        self._thread.join()

    def _write(self) -> None:
        try:
            following = None
            while True:
                entry = following or self._waiting.get()
                following = None
                if entry is END:
                    return
                if isinstance(entry, Message):
                    framing.write(self._descriptor, entry.header, entry.payload)
                else:
                    outputs, following = self._join(entry)
                    self._write_outputs(outputs)
        except framing.Closed:
            process.end(process.WORKER_GONE)

    def _join(self, first: Output):
        """Takes what waits behind an output and belongs to it; and the entry after, if any."""
        outputs = [first]
        length_bytes = len(first.data)
        while length_bytes < OUTPUT_CHUNK_BYTES:
            try:
                following = self._waiting.get_nowait()
            except Empty:
                break
            if not isinstance(following, Output) or following.tag != first.tag:
                return outputs, following
            outputs.append(following)
            length_bytes += len(following.data)
        return outputs, None

    def _write_outputs(self, outputs: list) -> None:
        attempt, stream = outputs[0].tag
        header = messages.encode({"type": "output", "attempt": attempt, "stream": stream})
        data = memoryview(b"".join([output.data for output in outputs]))
        for start in range(0, len(data), OUTPUT_CHUNK_BYTES):
            framing.write(self._descriptor, header, data[start : start + OUTPUT_CHUNK_BYTES])
        for output in outputs:
            output.sent = True

    def _close_in_child(self) -> None:
        try:
            os.close(self._descriptor)
        except OSError:
            # User code has closed what is not its own; there is nothing left to keep apart.
            pass
