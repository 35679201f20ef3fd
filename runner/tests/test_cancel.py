"""Cancelling: before a call begins, while it runs, and when it has ended already."""

import pickle
import signal
import threading
import time
import unittest
from unittest import mock

from case import TestCase
from worker import Worker, wait_for

from holdfast_runner import cancellation
from holdfast_runner.cancellation import Cancellation
from holdfast_runner.errors import Cancelled


class Cancel(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = {}
        for concurrency in (1, 3):
            worker = cls.shared[concurrency] = Worker()
            cls.addClassCleanup(worker.close)
            worker.start_setup("functions:dispatch", concurrency=concurrency)
        for worker in cls.shared.values():
            worker.await_ready()

    def cancelled(self, worker: Worker, name: str):
        """Starts a function that never ends by itself, cancels it, and gives its result."""
        path = worker.pipe()
        attempt = worker.call(name, path)
        wait_for(path)
        worker.send({"type": "cancel", "attempt": attempt})
        return worker.result(attempt)

    def check_cancelled(self, header: dict) -> None:
        exception = header["exception"]
        self.assertEqual(header["outcome"], "cancelled")
        self.assertEqual((exception["type"], exception["module"]), ("Cancelled", "holdfast"))
        self.assertEqual(exception["message"], "the call was cancelled")

    def test_what_runs_is_interrupted_and_the_next_call_is_not(self) -> None:
        cases = (1, "sleep"), (1, "spin"), (1, "sleep_later"), (3, "spin"), (3, "sleep_later")
        for concurrency, name in cases:
            for _ in range(3):
                with self.subTest(name, concurrency=concurrency):
                    worker = self.shared[concurrency]
                    header, payload = self.cancelled(worker, name)
                    self.check_cancelled(header)
                    self.assertEqual(payload, b"")
                    # Where it was interrupted.
                    self.assertIn("in " + name, header["exception"]["traceback"])
                    self.assertEqual(worker.value("add", 1, 1), 2)

    def test_code_that_tidies_up_does_so_before_the_result(self) -> None:
        for concurrency, name in ((1, "sleep_and_tidy"), (1, "sleep_later"), (3, "sleep_later")):
            with self.subTest(name, concurrency=concurrency):
                worker = self.shared[concurrency]
                before = worker.written(1)
                header, _ = self.cancelled(worker, name)
                self.check_cancelled(header)
                if concurrency == 1:
                    self.assertEqual(worker.written(1)[len(before) :], "tidied\n")
                else:
                    self.assertEqual(worker.output_of(header["attempt"]), "tidied\n")

    def test_code_that_goes_on_is_not_cancelled(self) -> None:
        cases = (
            (1, "sleep_stubbornly", "woken by Cancelled"),
            (1, "sleep_later_stubbornly", "woken"),
            (3, "sleep_later_stubbornly", "woken"),
        )
        for concurrency, name, value in cases:
            with self.subTest(name, concurrency=concurrency):
                header, payload = self.cancelled(self.shared[concurrency], name)
                self.assertEqual((header["outcome"], pickle.loads(payload)), ("returned", value))

    def test_a_call_that_waits_in_line_never_begins(self) -> None:
        worker = self.shared[1]
        path = worker.pipe()
        running = worker.call("sleep", path)
        waiting = worker.call("exit_now", 9)
        wait_for(path)
        worker.send({"type": "cancel", "attempt": waiting})
        self.check_cancelled(worker.result(waiting)[0])
        worker.send({"type": "cancel", "attempt": running})
        self.check_cancelled(worker.result(running)[0])
        self.assertEqual(worker.value("add", 1, 1), 2)

    def test_what_has_ended_or_never_was_is_left_alone(self) -> None:
        for worker in self.shared.values():
            attempt = worker.call("add", 1, 1)
            worker.result(attempt)
            for of in (attempt, "never was"):
                worker.send({"type": "cancel", "attempt": of})
            self.assertEqual(worker.value("add", 1, 1), 2)

    def test_a_cancel_at_any_moment_gives_one_result_and_harms_no_other(self) -> None:
        # The moment is where the cancel happens to come: while arguments are read, in the
        # function, while its result is pickled, or after all of it.
        for worker in self.shared.values():
            for name in ("count", "count_later", "count_and_print"):
                outcomes = set()
                for number in range(30):
                    attempt = worker.call(name, number * 40)
                    worker.send({"type": "cancel", "attempt": attempt})
                    header, payload = worker.result(attempt)
                    outcomes.add(header["outcome"])
                    if header["outcome"] == "returned":
                        self.assertEqual(pickle.loads(payload), number * 40)
                    self.assertEqual(worker.value("add", number, 1), number + 1)
                self.assertLessEqual(outcomes, {"returned", "cancelled"})

    def test_cancelling_twice_is_cancelling_once(self) -> None:
        for worker in self.shared.values():
            path = worker.pipe()
            attempt = worker.call("sleep_later", path)
            wait_for(path)
            for _ in range(3):
                worker.send({"type": "cancel", "attempt": attempt})
            self.check_cancelled(worker.result(attempt)[0])
            self.assertEqual(worker.value("add_later", 1, 1), 2)

    def test_an_error_of_that_name_without_a_cancel_is_raised(self) -> None:
        for worker in self.shared.values():
            for name in ("raise_cancelled", "raise_cancelled_later"):
                self.assertEqual(worker.run(name)[0]["outcome"], "raised")


class Regions(TestCase):
    """The moment between a call's beginning and its region, which no worker can aim at."""

    def test_a_request_before_the_region_is_raised_inside(self) -> None:
        cancellation.prepare(1)
        self.addCleanup(signal.signal, cancellation.SIGNAL, signal.SIG_DFL)
        cancellation.prepare(2)
        for run in (lambda function: function(), in_a_thread):
            outcome = run(self.run_requested)
            self.assertEqual(outcome, ["cancelled", "the next one runs"])

    def test_a_signal_that_ended_no_wait_comes_again(self) -> None:
        cancellation.prepare(1)
        self.addCleanup(signal.signal, cancellation.SIGNAL, signal.SIG_DFL)
        region = cancellation.MainRegion()

        def function():
            # As if the first had come just before this waits.
            region._wanted = True
            threading.Thread(target=region._insist, daemon=True).start()
            threading.Event().wait()

        with self.assertRaises(Cancelled):
            region.run(function)

    def test_a_call_without_a_thread_left_is_signalled_once(self) -> None:
        cancellation.prepare(1)
        self.addCleanup(signal.signal, cancellation.SIGNAL, signal.SIG_DFL)
        no_thread = mock.patch.object(threading.Thread, "start", side_effect=RuntimeError)
        region = cancellation.MainRegion()

        def function():
            with no_thread:
                region._interrupt()
            time.sleep(60)

        with self.assertRaises(Cancelled):
            region.run(function)

    def run_requested(self) -> list:
        call = Cancellation()
        self.assertTrue(call.begin())
        # With nothing to interrupt yet, this is all that it does.
        self.assertFalse(call.request())

        def function():
            call.check()
            while True:
                pass

        try:
            call.run(function)
        except Cancelled:
            return ["cancelled", Cancellation().run(lambda: "the next one runs")]


def in_a_thread(function):
    values = []
    thread = threading.Thread(target=lambda: values.append(function()), daemon=True)
    thread.start()
    thread.join()
    return values.pop()


if __name__ == "__main__":
    unittest.main()
