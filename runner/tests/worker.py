"""Plays the worker over a socket pair, with the real archive at the other end.

Owns the other side of PROTOCOL.md, written a second time, so that a mistake in the runner's framing
is not repeated here. Every wait has a deadline.
"""

import json
import os
import pickle
import struct
import tempfile

from started import Runner, program_files, take_spare, zipped

# The runner's own: `started` has put the archive on the path.
import cloudpickle

NONCE = "0123456789abcdef" * 2
LIMITS = {"code_entries": 100, "code_bytes": 1 << 20, "result_bytes": 1 << 20}


class Worker:
    """One runner, and the worker's end of its socket."""

    def __init__(self, subreaper: bool = False) -> None:
        self._runner = Runner(subreaper) if subreaper else take_spare()
        self.folder = self._runner.folder
        self.socket = self._runner.socket
        self.process = self._runner.process
        self._hello = None
        self.outputs = []
        self._attempts = 0

    @property
    def hello(self) -> dict:
        """The first message; waited for when it is first asked for, so that several may start."""
        if self._hello is None:
            self._hello = self.receive()[0]
        return self._hello

    def start_setup(self, handler: str, **fields) -> None:
        """Sends a setup with the programs as its code."""
        header = {
            "type": "setup",
            "version": 1,
            "handler": handler,
            "code_dir": os.path.join(self.folder, "code"),
            "limits": LIMITS,
            "environment": {},
            "concurrency": 1,
        }
        header.update(fields)
        if "code" not in fields:
            header["code"] = zipped(program_files())
        self.send(header)

    def setup(self, handler: str, **fields) -> dict:
        """Sends a setup, and gives what comes back."""
        self.start_setup(handler, **fields)
        return self.next_of("ready", "failed")[0]

    def load(self, handler: str, **fields) -> "Worker":
        """Sends a setup that is to succeed."""
        self.start_setup(handler, **fields)
        return self.await_ready()

    def await_ready(self) -> "Worker":
        """Waits until the setup that was sent has succeeded."""
        message, _ = self.next_of("ready", "failed")
        if message["type"] != "ready":
            raise AssertionError(message["exception"]["traceback"])
        return self

    def call(self, *args, **kwargs) -> str:
        """Sends a call of pickled arguments, and gives its attempt."""
        both = cloudpickle.dumps({"args": args, "kwargs": kwargs})
        return self.call_with(both)

    def call_with(self, payload: bytes, **fields) -> str:
        """Sends a call, and gives its attempt."""
        self._attempts += 1
        header = {
            "type": "call",
            "attempt": "attempt-%d" % self._attempts,
            "nonce": NONCE,
            "task": "task-%d" % self._attempts,
            "format": "pickle",
            "python": None,
        }
        header.update(fields)
        self.send(header, payload)
        return header["attempt"]

    def run(self, *args, **kwargs):
        """Makes a call, and gives the header and payload of its result."""
        return self.result(self.call(*args, **kwargs))

    def value(self, *args, **kwargs):
        """Makes a call, and gives the value that it returns."""
        header, payload = self.run(*args, **kwargs)
        if header["outcome"] != "returned":
            raise AssertionError(header["exception"]["traceback"])
        return pickle.loads(payload)

    def result(self, attempt: str):
        """Waits for a result, which is to be of this attempt; keeps outputs that come before."""
        header, payload = self.next_of("result")
        if (header["attempt"], header["nonce"]) != (attempt, NONCE):
            raise AssertionError("another result was awaited than %r" % header)
        return header, payload

    def next_of(self, *types: str):
        """The next message that is no output."""
        self.hello
        while True:
            message = self.receive()
            if message is None:
                raise AssertionError("the runner is gone: %s" % self.written(2))
            header, payload = message
            if header["type"] in types:
                return header, payload
            if header["type"] != "output":
                raise AssertionError("out of turn: %r" % header)
            self.outputs.append((header["attempt"], header["stream"], payload))

    def output_of(self, attempt, stream: str = "stdout") -> str:
        """What has been received of the output of an attempt."""
        pieces = [data for of, on, data in self.outputs if (of, on) == (attempt, stream)]
        return b"".join(pieces).decode("utf-8")

    def send(self, header: dict, payload: bytes = b"") -> None:
        self.send_bytes(frame(json.dumps(header).encode("utf-8"), payload))

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self):
        """The next message, or None at the end."""
        lengths = self._read(8)
        if lengths is None:
            return None
        header_bytes, payload_bytes = struct.unpack("<II", lengths)
        if not 0 < header_bytes <= 65536 or payload_bytes > 33554432:
            raise AssertionError("a frame of %d and %d bytes" % (header_bytes, payload_bytes))
        header = json.loads(self._read(header_bytes).decode("utf-8"))
        return header, self._read(payload_bytes)

    def pipe(self) -> str:
        """A path of a named pipe: who opens it waits for the other side, without sleeping."""
        path = os.path.join(tempfile.mkdtemp(dir=self.folder), "pipe")
        os.mkfifo(path)
        return path

    def written(self, descriptor: int) -> str:
        """What the container's own standard output or error has by now."""
        with open(self._runner.path(descriptor), "rb") as file:
            return file.read().decode("utf-8", "replace")

    def exit_code(self) -> int:
        """Waits until the runner has ended."""
        return self._runner.wait()

    def close(self) -> None:
        self._runner.close()

    def end(self):
        """Reads to the end of the connection; None when that is what comes next."""
        self.hello
        return self.receive()

    def _read(self, length_bytes: int):
        received = bytearray()
        while len(received) < length_bytes:
            try:
                piece = self.socket.recv(min(length_bytes - len(received), 1 << 20))
            except ConnectionResetError:
                piece = b""
            if not piece:
                return None
            received += piece
        return bytes(received)


def wait_for(path: str) -> None:
    """Waits until somebody opens a pipe that this opens to read, and has closed it again."""
    with open(path, "rb") as pipe:
        pipe.read()


def frame(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<II", len(header), len(payload)) + header + payload
