"""Calls: what comes back of functions of every kind, one result each."""

import json
import os
import pickle
import sys
import unittest

from case import TestCase
from worker import LIMITS, NONCE, Worker

HERE = "%d.%d" % sys.version_info[:2]

ARGUMENTS = pickle.dumps({"args": ("add", 1), "kwargs": {"right": 5}})

VALUES = {
    "arguments": (("add", 1), {"right": 2}, 3),
    "a default": (("add", 1), {}, 2),
    "nothing": (("identity", None), {}, None),
    "a coroutine": (("add_later", 2, 3), {}, 5),
    "a loop of its own": (("own_loop",), {}, 5),
    "a tuple": (("identity", ({"a": {1, 2}}, b"\xff", 1.5, "\ud800")), {}, None),
    "a lambda": (("apply", lambda value: value + 1, 41), {}, 42),
    "a process that imports anew": (("spawn",), {}, 42),
}
VALUES["a tuple"] = (*VALUES["a tuple"][:2], VALUES["a tuple"][0][1])

RAISED = {
    "SystemExit": (("exit_with", 3), "builtins", "3"),
    "KeyboardInterrupt": (("interrupt",), "builtins", ""),
    "TypeError": (("add",), "builtins", "missing 1 required positional argument"),
    "ResultNotPicklable": (("make_lock",), "holdfast", "a _thread.lock that cannot be pickled"),
    "ResultTooLong": (("make_bytes", 1 << 20), "holdfast", "longer than 1048576 bytes"),
    "GeneratorUnsupported": (("generate",), "holdfast", "a generator, and generators cannot"),
    "ValueError": (("fail", "why"), "builtins", "why"),
}

JSON_RESULTS = {
    '{"args": ["add", 1], "kwargs": {"right": 2}}': "3",
    '{"args": ["identity", {"ü": [null, true]}], "kwargs": {}}': '{"ü":[null,true]}',
    '{"args": ["add_later", 1, 2], "kwargs": {}}': "3",
}

JSON_RAISED = {
    '{"args": ["make_not_a_number"], "kwargs": {}}': "ResultNotJson",
    '{"args": ["make_bytes", 3], "kwargs": {}}': "ResultNotJson",
    '{"args": ["identity", "\\ud800"], "kwargs": {}}': "ResultNotJson",
    '{"args": ["make_text", 1048577], "kwargs": {}}': "ResultTooLong",
    '{"args": ["generate_later"], "kwargs": {}}': "GeneratorUnsupported",
    '{"args": ["fail", "why"], "kwargs": {}}': "ValueError",
    '{"args": []}': "ArgumentsNotReadable",
    '{"args": {}, "kwargs": {}}': "ArgumentsNotReadable",
    '{"args": [], "kwargs": {}, "more": 1}': "ArgumentsNotReadable",
    "[]": "ArgumentsNotReadable",
    "{": "ArgumentsNotReadable",
    "[" * 100000: "ArgumentsNotReadable",
    "": "ArgumentsNotReadable",
}

UNREADABLE = {
    "nothing": (b"", "cannot be unpickled"),
    "half of it": (ARGUMENTS[:-5], "cannot be unpickled"),
    "something else": (pickle.dumps([1, 2]), "not an object of `args`"),
    "other fields": (pickle.dumps({"args": ()}), "not an object of `args`"),
    "a module that is not here": (b"cabsent.thing\nf\n.", "module 'absent'"),
    "a module inside one that is": (b"cjson.absent\nf\n.", "module 'json.absent'"),
    "a name that is not here": (b"cjson\nabsent\n.", "different versions"),
    "what raises": (b"cfunctions\nfail\n(S'why'\ntR.", "ValueError: why"),
}


class Calls(TestCase):
    """With one runner for all, which is part of what is tested: none of them harms the next."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = {}
        for concurrency in (1, 3):
            worker = cls.shared[concurrency] = Worker()
            cls.addClassCleanup(worker.close)
            worker.start_setup("functions:dispatch", concurrency=concurrency)
        for worker in cls.shared.values():
            worker.await_ready()

    def each(self):
        for concurrency, worker in self.shared.items():
            with self.subTest(concurrency=concurrency):
                yield worker

    def test_values_come_back(self) -> None:
        for worker in self.each():
            for name, (args, kwargs, expected) in VALUES.items():
                with self.subTest(name):
                    self.assertEqual(worker.value(*args, **kwargs), expected)

    def test_exceptions_come_back_by_name(self) -> None:
        for worker in self.each():
            for kind, (args, module, text) in RAISED.items():
                with self.subTest(kind):
                    header, payload = worker.run(*args)
                    exception = header["exception"]
                    self.assertEqual(header["outcome"], "raised")
                    self.assertEqual((exception["type"], exception["module"]), (kind, module))
                    self.assertIn(text, exception["message"])
                    # The runner's own go as data; a caller need not have their classes.
                    self.assertEqual(payload == b"", module == "holdfast")

    def test_exits_inside_of_coroutines_harm_nothing(self) -> None:
        for worker in self.each():
            for name in ("exit_later", "exit_in_task"):
                header, _ = worker.run(name)
                self.assertEqual(header["exception"]["type"], "SystemExit")
                self.assertEqual(worker.value("add_later", 1, 2), 3)

    def test_json(self) -> None:
        for worker in self.each():
            for arguments, expected in JSON_RESULTS.items():
                with self.subTest(arguments):
                    attempt = worker.call_with(arguments.encode("utf-8"), format="json")
                    self.assertEqual(worker.result(attempt)[1].decode("utf-8"), expected)
            for arguments, kind in JSON_RAISED.items():
                with self.subTest(arguments[:60]):
                    attempt = worker.call_with(arguments.encode("utf-8"), format="json")
                    header, payload = worker.result(attempt)
                    self.assertEqual((header["exception"]["type"], payload), (kind, b""))

    def test_arguments_that_cannot_be_read_say_why(self) -> None:
        worker = self.shared[1]
        for name, (payload, text) in UNREADABLE.items():
            with self.subTest(name):
                header, _ = worker.result(worker.call_with(payload))
                self.assertEqual(header["exception"]["type"], "ArgumentsNotReadable")
                self.assertIn(text, header["exception"]["message"])

    def test_another_python_is_refused_before_anything_is_unpickled(self) -> None:
        worker = self.shared[1]
        for version in ("2.7", "3.100", "3", ""):
            with self.subTest(version):
                exit_at_once = b"cos\n_exit\n(I1\ntR."
                header, _ = worker.result(worker.call_with(exit_at_once, python=version))
                self.assertEqual(header["exception"]["type"], "PythonVersionMismatch")
                for part in ("Python %s" % version, "Python %s" % HERE, "use an image with"):
                    self.assertIn(part, header["exception"]["message"])
        for version in (HERE, HERE + ".99", None):
            with self.subTest(version):
                header, payload = worker.result(worker.call_with(ARGUMENTS, python=version))
                self.assertEqual(pickle.loads(payload), 6)

    def test_what_the_caller_defined_in_its_main_passes_by_value(self) -> None:
        namespace = {"__name__": "__main__"}
        exec(CALLERS_MAIN, namespace)
        for worker in self.each():
            point = worker.value("apply", namespace["move"], namespace["Point"](1, 2))
            self.assertIs(type(point), namespace["Point"])
            self.assertEqual((point.x, point.y), (2, 3))

    def test_functions_pass_both_ways(self) -> None:
        for worker in self.each():
            self.assertEqual(worker.value("make_lambda")(5), 15)

    def test_a_result_as_long_as_it_may_be(self) -> None:
        for worker in self.each():
            around = len(pickle.dumps(b"x" * 1000000, pickle.HIGHEST_PROTOCOL)) - 1000000
            length = LIMITS["result_bytes"] - around
            self.assertEqual(len(worker.value("make_bytes", length)), length)
            header, _ = worker.run("make_bytes", length + 1)
            self.assertEqual(header["exception"]["type"], "ResultTooLong")

    def test_one_call_runs_in_the_main_thread_in_its_directory(self) -> None:
        for concurrency, worker in self.shared.items():
            directory = os.path.join(worker.folder, "code")
            expected = (concurrency == 1, directory, directory, "functions")
            self.assertEqual(worker.value("place"), expected)

    def test_the_event_loop_is_kept(self) -> None:
        for worker in self.each():
            self.assertEqual(worker.value("loop_id"), worker.value("loop_id"))

    def test_a_task_can_tell_its_id(self) -> None:
        for worker in self.each():
            self.assertTrue(worker.value("task").startswith("task-"))

    def test_the_descriptor_of_the_socket_is_not_in_the_environment(self) -> None:
        self.assertIsNone(self.shared[1].value("environment", "HOLDFAST_RUNNER_FD"))

    def test_a_result_repeats_its_call_and_no_more(self) -> None:
        worker = self.shared[1]
        attempt = worker.call("identity", 1)
        header, _ = worker.next_of("result")
        expected = dict(type="result", attempt=attempt, nonce=NONCE, outcome="returned")
        self.assertEqual(header, expected)

    def test_calls_that_come_early_wait_in_line(self) -> None:
        worker = self.shared[1]
        attempts = [worker.call("identity", number) for number in range(20)]
        values = [pickle.loads(worker.result(attempt)[1]) for attempt in attempts]
        self.assertEqual(values, list(range(20)))

    def test_many_at_once_each_have_their_result(self) -> None:
        worker = self.shared[3]
        expected = {}
        for number in range(100):
            expected[worker.call(("add_later", "add")[number % 2], number, 1)] = number + 1
        results = [worker.next_of("result") for _ in expected]
        values = {header["attempt"]: pickle.loads(payload) for header, payload in results}
        self.assertEqual(values, expected)

    def test_long_arguments_come_whole(self) -> None:
        payload = json.dumps({"args": ["length", "x" * 20000000], "kwargs": {}}).encode("utf-8")
        worker = self.shared[1]
        header, result = worker.result(worker.call_with(payload, format="json"))
        self.assertEqual(result, b"20000000")


CALLERS_MAIN = """
class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

STEP = 1

def move(point):
    return Point(point.x + STEP, point.y + STEP)
"""


if __name__ == "__main__":
    unittest.main()
