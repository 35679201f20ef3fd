"""What a worker does, without a container: the project's own runner in a process of its own.

Speaks the other side of the runner's protocol to it: frames of a header and a payload, over a
socket.
"""

import atexit
import base64
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any

RUNNER = os.path.join(os.path.dirname(__file__), "..", "..", "..", "runner", "src")
LIMITS = {"code_entries": 10_000, "code_bytes": 1 << 26, "result_bytes": 1 << 25}
NONCE = "0123456789abcdef" * 2
DEADLINE_S = 30

SCRATCH = tempfile.mkdtemp(prefix="holdfast-sdk-tests-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)


class Container:
    """One runner with one function; calls come one after the other."""

    def __init__(self, stub: dict, archive: bytes | None) -> None:
        self.folder = tempfile.mkdtemp(dir=SCRATCH)
        self.lock = threading.Lock()
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(DEADLINE_S)
        environment = dict(os.environ, HOLDFAST_RUNNER_FD=str(theirs.fileno()))
        environment.pop("HOLDFAST_TOKEN", None)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(RUNNER)],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        theirs.close()
        self.failure = self._set_up(stub, archive)

    def call(self, task: Any) -> None:
        """Makes a call, and ends its task."""
        if self.failure is not None:
            task.finish(outcome="not-started", failure=self.failure)
            return
        with self.lock:
            readers = self._readers(task)
            header = {
                "type": "call",
                "attempt": "attempt-1",
                "nonce": NONCE,
                "task": task.id,
                "format": task.body["format"],
                "python": task.body["python"],
            }
            try:
                self._send(header, base64.b64decode(task.body["payload"]))
                result, payload = self._receive()
            except (OSError, EOFError):
                task.finish(outcome="died", failure=None)
                return
            finally:
                readers()
        encoded = base64.b64encode(payload).decode() if payload else None
        exception = result.get("exception")
        task.finish(outcome=result["outcome"], payload=encoded, failure=exception)

    def close(self) -> None:
        self.socket.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _set_up(self, stub: dict, archive: bytes | None) -> dict | None:
        path = None
        if archive is not None:
            path = os.path.join(self.folder, "code.zip")
            with open(path, "wb") as file:
                file.write(archive)
        setup = {
            "type": "setup",
            "version": 1,
            "handler": stub["handler"],
            "code": path,
            "code_dir": os.path.join(self.folder, "code"),
            "limits": LIMITS,
            "environment": stub["environment"],
            "concurrency": 1,
        }
        assert self._receive()[0]["type"] == "hello"
        self._send(setup)
        answer, _ = self._receive()
        return None if answer["type"] == "ready" else answer["exception"]

    def _readers(self, task: Any) -> Any:
        """Passes on what the function prints; what is given waits for the last of it."""
        streams = {self.process.stdout: "stdout", self.process.stderr: "stderr"}
        done, finished = os.pipe()
        for stream in streams:
            os.set_blocking(stream.fileno(), False)

        def read() -> None:
            open_streams = dict(streams)
            is_done = False
            while not is_done:
                ready, _, _ = select.select([*open_streams, done], [], [], DEADLINE_S)
                is_done = done in ready or not ready
                # What was printed is in the pipes before the result is known.
                for stream, name in list(open_streams.items()):
                    while data := stream.read(65536):
                        task.print(data.decode(), name)
                    if data == b"":
                        del open_streams[stream]

        thread = threading.Thread(target=read, daemon=True)
        thread.start()

        def finish() -> None:
            os.close(finished)
            thread.join(DEADLINE_S)
            os.close(done)

        return finish

    def _send(self, header: dict, payload: bytes = b"") -> None:
        content = json.dumps(header).encode()
        frame = struct.pack("<II", len(content), len(payload))
        self.socket.sendall(frame + content + payload)

    def _receive(self) -> tuple[dict, bytes]:
        header_bytes, payload_bytes = struct.unpack("<II", self._read(8))
        header = json.loads(self._read(header_bytes))
        return header, self._read(payload_bytes)

    def _read(self, length_bytes: int) -> bytes:
        received = b""
        while len(received) < length_bytes:
            piece = self.socket.recv(length_bytes - len(received))
            if not piece:
                raise EOFError
            received += piece
        return received
