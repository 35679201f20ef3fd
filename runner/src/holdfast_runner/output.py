"""What user code writes: where it goes, and that it is not held back.

With one call at a time nothing is replaced: the container's descriptors 1 and 2 are written to as
by any program. Python holds lines back on a pipe, so its streams are told to write each line when
it ends. (Writing through would pass each piece of a line on, two system calls for each `print`.)

With several calls at a time `sys.stdout` and `sys.stderr` become streams that send what is
written, with the attempt that wrote it. What children and C code write to the descriptors cannot
be told apart, and still goes to the container's own.
"""

import io
import os
import sys

from holdfast_runner import current, process

ENCODING = "utf-8"

ERRORS = "backslashreplace"
"""Printing a name that is no UTF-8 is not worth failing a call."""


def write_lines() -> None:
    """For one call at a time: writes each line when it ends, and the rest at each result."""
    for stream in (sys.stdout, sys.stderr):
        # A descriptor that is closed has no stream, and an image may have replaced one.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    # What the parent has not written yet, a child would write once more.
    os.register_at_fork(before=flush)


def flush() -> None:
    """Writes what is held back, by Python and by the C library. Never fails."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except Exception:
            # Closed, replaced by something else, or nobody reads any more.
            pass
    # Without `ctypes` nothing here reaches C, and what it loads (NumPy, for one) has it loaded.
    ctypes = sys.modules.get("ctypes")
    if ctypes is not None:
        try:
            library = ctypes.CDLL(None)
            library.fflush(ctypes.c_void_p.in_dll(library, "stdout"))
        except Exception:
            # A C library without that symbol: its buffers are its own affair.
            pass


class TaggedBytes(io.RawIOBase):
    """A stream of bytes that are sent as they are written; `sys.stdout.buffer` is one."""

    def __init__(self, outbox, stream: str, descriptor: int) -> None:
        self._outbox = outbox
        self._stream = stream
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """The container's own descriptor, for children that are to write where we do."""
        return self._descriptor

    def write(self, data) -> int:
        data = bytes(data)
        if process.is_forked() or self._outbox.ended:
            # Log handlers keep a stream for longer than there is anybody to send to.
            _write_fully(self._descriptor, data)
        elif data:
            self._outbox.put_output(current.attempt(), self._stream, data)
        return len(data)


class TaggedText(io.TextIOBase):
    """The text stream above it. Each `write` goes out whole and at once, from any thread."""

    encoding = ENCODING
    errors = ERRORS
    line_buffering = True

    def __init__(self, buffer: TaggedBytes, name: str) -> None:
        self._buffer = buffer
        self.name = name
        self.mode = "w"

    @property
    def buffer(self) -> TaggedBytes:
        return self._buffer

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._buffer.fileno()

    def reconfigure(self, **_options) -> None:
        """Programs call it on `sys.stdout` to get what this stream does anyway."""

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        self._buffer.write(text.encode(ENCODING, ERRORS))
        return len(text)


class Tagged:
    """The replaced `sys.stdout` and `sys.stderr`, and how to take them back."""

    def __init__(self, outbox) -> None:
        flush()
        self._before = (sys.stdout, sys.stderr)
        sys.stdout = TaggedText(TaggedBytes(outbox, "stdout", 1), "<stdout>")
        sys.stderr = TaggedText(TaggedBytes(outbox, "stderr", 2), "<stderr>")

    def remove(self) -> None:
        """What is written from here on, as by exit handlers, goes to the container's own."""
        sys.stdout, sys.stderr = self._before


def _write_fully(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
