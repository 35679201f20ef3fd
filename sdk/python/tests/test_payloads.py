"""Arguments, results and exceptions as bytes, and outcomes as values and exceptions."""

import json
import pickle
import sys
import types
from unittest import mock

import cloudpickle
import jobs

import holdfast
from holdfast import _payloads
from holdfast._models import End, Failure
from holdfast._outcomes import ENDS, value_of
from holdfast._payloads import dump, load
from holdfast._tasks import Ended
from support import TestCase, shown_by


class Unpicklable:
    def __reduce__(self) -> str:
        raise ValueError("not me")


class Runs:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple:
        return sys.exit, ("it ran",)


class Payloads(TestCase):
    def test_arguments(self) -> None:
        payload = dump((1, [2]), {"a": lambda: 3}, "pickle", None)
        both = pickle.loads(payload)
        self.assertEqual((both["args"], both["kwargs"]["a"]()), ((1, [2]), 3))
        payload = dump((1,), {"a": "ä"}, "json", None)
        self.assertEqual(json.loads(payload), {"args": [1], "kwargs": {"a": "ä"}})

    def test_what_cannot_be_sent(self) -> None:
        for value, words in ((Unpicklable(), "not me"), (sys._getframe(), "cannot pickle 'frame'")):
            with self.assertRaisesRegex(holdfast.ArgumentsNotSendable, words):
                dump((value,), {}, "pickle", None)
        for value in ({1}, float("nan"), b"", jobs.Point(1, 2)):
            with self.assertRaises(holdfast.ArgumentsNotSendable):
                dump((value,), {}, "json", None)
        with mock.patch.object(_payloads, "ARGUMENTS_LIMIT_BYTES", 100):
            with self.assertRaisesRegex(holdfast.ArgumentsNotSendable, "at most 100 bytes"):
                dump((b"x" * 100,), {}, "pickle", None)

    def test_an_image_is_not_sent_along(self) -> None:
        arguments = ((jobs.image,), {}, "pickle", None)
        error, shown = shown_by(holdfast.ArgumentsNotSendable, dump, *arguments)
        self.assertIn("is not pickled", str(error))
        self.assertNotIn("pass-word-9d1f", shown)

    def test_what_is_of_the_script_goes_by_the_script_s_name(self) -> None:
        here = sys.modules["__main__"]
        main, there = types.ModuleType("__main__"), types.ModuleType("script")
        source = "class C:\n class D: pass\ndef f(): return 1\nclass Only: pass"
        for module in (main, there):
            exec(source, module.__dict__)
        del there.Only
        with mock.patch.dict(sys.modules, {"__main__": main, "script": there}):
            values = (main.C, main.C.D, main.f, main.C.D())
            payload = dump(values, {}, "pickle", "script")
            found = pickle.loads(payload)["args"]
            self.assertEqual(found[:3], (there.C, there.C.D, there.f))
            self.assertIsInstance(found[3], there.C.D)
            # The other way around, and what the script alone has.
            back = load(pickle.dumps((there.C, there.C.D())), "pickle", "script")
            self.assertIs(back[0], main.C)
            self.assertIsInstance(back[1], main.C.D)
            there.extra = type("extra", (), {"__module__": "script"})
            self.assertIs(load(pickle.dumps(there.extra), "pickle", "script"), there.extra)
            # By value where the script is not sent, or the name is something else's.
            main.C.D.__qualname__ = "f"
            by_value = pickle.loads(dump((main.C.D,), {}, "pickle", "script"))["args"][0]
            self.assertIsNot(by_value, there.f)
        self.assertIs(sys.modules["__main__"], here)

    def test_results_that_cannot_be_loaded(self) -> None:
        for payload, words in (
            (b"cnot_installed.a\nb\n.", "module 'not_installed.a'|module 'not_installed'"),
            (b"cjobs\nNothing\n.", "Nothing"),
            (b"\x80", "cannot be loaded here"),
            (b"", "cannot be loaded here"),
        ):
            with self.assertRaisesRegex(holdfast.ResultNotReadable, words):
                load(payload, "pickle", None)
        with self.assertRaises(holdfast.ResultNotReadable):
            load(b"\xff", "json", None)


class Outcomes(TestCase):
    def raised(
        self, payload: bytes | None, failure: Failure | None, payload_format: str = "pickle"
    ):
        ended = Ended("task-1", End("raised", payload_format, payload, failure))
        with self.assertRaises(Exception) as caught:
            value_of(ended, payload_format, None)
        return caught.exception

    def test_values(self) -> None:
        ended = Ended("task-1", End("returned", "pickle", cloudpickle.dumps([1]), None))
        self.assertEqual(value_of(ended, "pickle", None), [1])
        for end in (
            End("returned", "pickle", None, None),
            End("returned", "json", b"1", None),
            End("raised", "pickle", None, None),
        ):
            with self.assertRaises(holdfast.UnexpectedAnswer):
                value_of(Ended("task-1", end), "pickle", None)

    def test_the_exception_itself(self) -> None:
        failure = Failure("Refused", "jobs", "no", "Traceback…\x1b[2J")
        error = self.raised(pickle.dumps(jobs.Refused("no")), failure)
        self.assertIs(type(error), jobs.Refused)
        self.assertIn("Traceback…\\x1b[2J", str(error.__cause__))
        self.assertEqual(error.__cause__.task_id, "task-1")

    def test_what_stands_for_it(self) -> None:
        failure = Failure("Odd", "lib.mod", "why", "tb")
        for payload in (
            None,
            b"",
            b"\x80",
            pickle.dumps(5),
            pickle.dumps(SystemExit(1)),
            pickle.dumps(KeyboardInterrupt()),
            pickle.dumps(StopIteration()),
            pickle.dumps(StopAsyncIteration()),
        ):
            error = self.raised(payload, failure)
            self.assertIs(type(error), holdfast.RemoteError)
            self.assertEqual((str(error), error.failure), ("lib.mod.Odd: why", failure))

    def test_json_never_unpickles(self) -> None:
        failure = Failure("ValueError", "builtins", "why", "tb")
        error = self.raised(pickle.dumps(Runs()), failure, "json")
        self.assertEqual(str(error), "ValueError: why")
        for end in (End("raised", "pickle", pickle.dumps(Runs()), failure),
                    End("returned", "pickle", pickle.dumps(Runs()), None)):  # fmt: skip
            with self.assertRaises(holdfast.UnexpectedAnswer):
                value_of(Ended("task-1", end), "json", None)

    def test_the_runner_s_own(self) -> None:
        for name in ("ResultTooLong", "HandlerNotFound", "ArgumentsNotReadable"):
            error = self.raised(None, Failure(name, "holdfast", "why", "tb"))
            self.assertIs(type(error), getattr(holdfast, name))
            self.assertIsInstance(error, (holdfast.RunnerError, RuntimeError))
        self.assertIs(
            type(self.raised(None, Failure("Denied", "holdfast", "", ""))), holdfast.RemoteError
        )

    def test_every_other_end(self) -> None:
        self.assertEqual(len(ENDS), 6)
        for outcome, (kind, _) in ENDS.items():
            with self.assertRaises(kind) as caught:
                value_of(Ended("task-1", End(outcome, "pickle", None, None)), "pickle", None)
            self.assertEqual(caught.exception.task_id, "task-1")
            self.assertIsNone(caught.exception.__cause__)

    def test_our_exceptions_pass_between_processes(self) -> None:
        for error in (
            holdfast.TaskTimedOut("a", task_id="task-1", failure=Failure("a", "b", "c", "d")),
            holdfast.Busy("full", "later", status=429, retry_after_s=2.0),
            holdfast.ConnectionFailed("a", connected=False),
            holdfast.RemoteTraceback("a", "task-1"),
        ):
            copy = pickle.loads(pickle.dumps(error))
            self.assertEqual(
                (type(copy), str(copy), vars(copy)), (type(error), str(error), vars(error))
            )
