"""Hello, stop, and every way in which a connection ends."""

import json
import pickle
import sys
import tempfile
import unittest

from case import TestCase
from started import zipped
from worker import LIMITS, NONCE, frame, wait_for

from holdfast_runner import framing, messages

STOPPED, WORKER_GONE, MALFORMED = 0, 69, 76

SETUP = {
    "type": "setup",
    "version": 1,
    "handler": "functions:dispatch",
    "code": None,
    "code_dir": "/nowhere",
    "limits": LIMITS,
    "environment": {},
    "concurrency": 1,
}
CALL = {
    "type": "call",
    "attempt": "a",
    "nonce": NONCE,
    "task": "t",
    "format": "pickle",
    "python": None,
}


NO_ARGUMENTS = pickle.dumps({"args": (), "kwargs": {}})


def changed(message: dict, payload: bytes = b"", **fields) -> bytes:
    return frame(json.dumps(dict(message, **fields)).encode("utf-8"), payload)


def without(message: dict, name: str) -> bytes:
    return frame(json.dumps({key: message[key] for key in message if key != name}).encode("utf-8"))


MALFORMED_FRAMES = {
    "a header of no length": b"\0\0\0\0\0\0\0\0",
    "a header that is too long": b"\1\0\1\0\0\0\0\0",
    "a payload that is too long": b"\1\0\0\0\1\0\0\2{",
    "no JSON": frame(b"{"),
    "no UTF-8": frame(b'{"type":"\xff"}'),
    "another encoding": frame('{"type":"stop"}'.encode("utf-16")),
    "no object": frame(b"[]"),
    "nested without end": frame(b"[" * 60000),
    "no type": frame(b"{}"),
    "a type that is no text": frame(b'{"type":[]}'),
    "an unknown type": frame(b'{"type":"hello"}'),
    "another version": changed(SETUP, version=2),
    "a version that is none": changed(SETUP, version=True),
    "an unknown field": changed(SETUP, more=1),
    "a missing field": without(SETUP, "code"),
    "no concurrency": changed(SETUP, concurrency=0),
    "another limit": changed(SETUP, limits=dict(LIMITS, more=1)),
    "a limit below zero": changed(SETUP, limits=dict(LIMITS, code_bytes=-1)),
    "an environment of numbers": changed(SETUP, environment={"A": 1}),
    "a setup with a payload": frame(json.dumps(SETUP).encode("utf-8"), b"x"),
    "a nonce that is none": changed(CALL, nonce="0"),
    "another format": changed(CALL, format="yaml"),
    "an attempt that is too long": changed(CALL, attempt="a" * 129),
    "an attempt that is no text": changed(CALL, attempt="\ud800"),
}

RUNNING = changed(CALL, NO_ARGUMENTS)
"""Of a function that never ends, so that it is the frame behind it that ends the runner."""

OUT_OF_TURN = {
    "a second setup": changed(SETUP),
    "a call after stop": RUNNING + changed({"type": "stop"}) + changed(CALL, attempt="b"),
    "an attempt twice": RUNNING * 2,
}


class Protocol(TestCase):
    def test_hello_says_who_runs(self) -> None:
        expected = {
            "type": "hello",
            "version": 1,
            "python": "%d.%d.%d" % sys.version_info[:3],
            "implementation": sys.implementation.name,
        }
        self.assertEqual(self.worker().hello, expected)

    def test_stop_ends_after_the_calls_and_runs_exit_handlers(self) -> None:
        for worker in self.all_ready("functions:dispatch", {"concurrency": 1}, {"concurrency": 2}):
            attempt = worker.call("leave_exit_handler")
            worker.send({"type": "stop"})
            self.assertEqual(worker.result(attempt)[0]["outcome"], "returned")
            self.assertEqual(worker.exit_code(), STOPPED, worker.written(2))
            self.assertEqual(worker.written(1), "an exit handler ran\n")
            self.assertIsNone(worker.end())

    def test_what_is_no_message_is_refused(self) -> None:
        for name, data in MALFORMED_FRAMES.items():
            with self.subTest(name), self.assertRaises(framing.Malformed):
                messages.receive(self.readable(data))

    def test_every_message_is_read(self) -> None:
        for message in (SETUP, CALL, {"type": "cancel", "attempt": "a"}, {"type": "stop"}):
            with self.subTest(message["type"]):
                received = vars(messages.receive(self.readable(changed(message))))
                self.assertEqual(received, dict(message, payload=b""))

    def test_what_is_cut_off_is_an_end(self) -> None:
        whole = frame(json.dumps(CALL).encode("utf-8"), b"payload")
        for length in (0, 7, 8, 20, len(whole) - 1):
            with self.subTest(length), self.assertRaises(framing.Closed):
                messages.receive(self.readable(whole[:length]))

    def readable(self, data: bytes) -> int:
        """A descriptor that these bytes can be read from, and then its end."""
        file = tempfile.TemporaryFile(buffering=0)
        self.addCleanup(file.close)
        file.write(data)
        file.seek(0)
        return file.fileno()

    def test_frames_without_meaning_end_the_connection(self) -> None:
        workers = self.all_ready("functions:spin_forever", *[{} for _ in OUT_OF_TURN])
        for worker, (name, data) in zip(workers, OUT_OF_TURN.items()):
            with self.subTest(name):
                self.check_malformed(worker, data)
        self.check_malformed(self.worker(), changed({"type": "stop"}))

    def check_malformed(self, worker, data: bytes) -> None:
        worker.send_bytes(data)
        self.assertEqual(worker.exit_code(), MALFORMED, worker.written(2))
        self.assertIsNone(worker.end())
        self.assertTrue(worker.written(2).startswith("holdfast runner: the worker sent "))

    def test_a_worker_that_is_gone_ends_whatever_runs(self) -> None:
        cases = ("nothing", 1), ("spin", 1), ("spin", 2), ("sleep", 1), ("sleep_later", 2)
        setups = [{"concurrency": concurrency} for _, concurrency in cases]
        for worker, case in zip(self.all_ready("functions:dispatch", *setups), cases):
            with self.subTest(case):
                name, _ = case
                if name != "nothing":
                    path = worker.pipe()
                    worker.call(name, path)
                    wait_for(path)
                worker.socket.close()
                self.assertEqual(worker.exit_code(), WORKER_GONE)

    def test_a_worker_that_is_gone_ends_an_import(self) -> None:
        worker = self.worker()
        path = worker.pipe()
        code = zipped({"slow.py": "open(%r, 'w').close()\nwhile True: pass" % path})
        setup = dict(SETUP, handler="slow:f", code=code, code_dir=worker.folder + "/code")
        worker.send(setup)
        wait_for(path)
        worker.socket.close()
        self.assertEqual(worker.exit_code(), WORKER_GONE)

    def test_a_worker_that_is_gone_at_the_start(self) -> None:
        worker = self.worker()
        worker.socket.close()
        self.assertEqual(worker.exit_code(), WORKER_GONE)


if __name__ == "__main__":
    unittest.main()
