"""Init, orphans, and what becomes of processes that user code forks."""

import os
import signal
import unittest

from case import TestCase
from worker import Worker, wait_for


def parent_of(process: int) -> int:
    with open("/proc/%d/stat" % process) as file:
        return int(file.read().rpartition(")")[2].split()[1])


class Init(TestCase):
    def test_functions_run_in_a_child_of_the_first_process(self) -> None:
        worker = self.ready("functions:dispatch")
        self.assertEqual(worker.value("parent"), worker.process.pid)

    def test_orphans_come_to_init_and_are_reaped(self) -> None:
        worker = self.worker(subreaper=True).load("functions:dispatch")
        path = worker.pipe()
        orphan = worker.value("leave_orphan", path)
        self.assertEqual(parent_of(orphan), worker.process.pid)
        with open(path, "w") as pipe:
            pipe.write("end\n")
        # A zombie would stay until init ends, and the test with it.
        while os.path.exists("/proc/%d" % orphan):
            os.sched_yield()
        self.assertEqual(worker.value("add", 1, 1), 2)

    def test_signals_end_the_function_and_the_code_says_so(self) -> None:
        cases = (
            ("sleep", (), signal.SIGTERM, 128 + signal.SIGTERM),
            ("sleep", (), signal.SIGINT, 128 + signal.SIGINT),
            ("end_when_terminated", (7,), signal.SIGTERM, 7),
        )
        workers = self.all_ready("functions:dispatch", *[{} for _ in cases])
        for worker, (name, args, number, code) in zip(workers, cases):
            with self.subTest(name, number=number):
                path = worker.pipe()
                worker.call(name, path, *args)
                wait_for(path)
                worker.process.send_signal(number)
                self.assertEqual(worker.exit_code(), code)

    def test_ends_of_the_process_are_passed_on(self) -> None:
        ends = {
            ("exit_now", 5): 5,
            ("kill_self", signal.SIGKILL): 128 + signal.SIGKILL,
            ("kill_self", signal.SIGSEGV): 128 + signal.SIGSEGV,
        }
        workers = self.all_ready("functions:dispatch", *[{} for _ in ends])
        for worker, (arguments, code) in zip(workers, ends.items()):
            with self.subTest(arguments):
                worker.call(*arguments)
                self.assertEqual(worker.exit_code(), code)
                self.assertIsNone(worker.end())
        # Of a crash it is told where in Python it was.
        self.assertIn("in kill_self\n", worker.written(2))


class Forks(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = {}
        for concurrency in (1, 2):
            worker = cls.shared[concurrency] = Worker()
            cls.addClassCleanup(worker.close)
            worker.start_setup("functions:dispatch", concurrency=concurrency)
        for worker in cls.shared.values():
            worker.await_ready()

    def test_a_child_that_comes_back_ends_and_does_not_speak(self) -> None:
        cases = {
            ("fork_and", "identity", "value"): 0,
            ("fork_and", "fail", "in the child"): 1,
            ("fork_and", "exit_with", 5): 5,
            ("fork_and", "exit_with", None): 0,
            ("fork_and", "exit_with", "why it ends"): 1,
            ("fork_and", "add_later", 1, 2): 0,
            ("fork_and", "exit_later"): 4,
            ("fork_later",): 0,
        }
        for concurrency, worker in self.shared.items():
            for args, code in cases.items():
                with self.subTest(args, concurrency=concurrency):
                    self.assertEqual(worker.value(*args), code << 8)
            # Were there a second result, it would come instead of this one.
            self.assertEqual(worker.value("add", 1, 1), 2)
            self.assertIn("ValueError: in the child\n", worker.written(2))
            self.assertIn("why it ends\n", worker.written(2))

    def test_no_child_has_the_socket(self) -> None:
        for worker in self.shared.values():
            here, forked, started = map(set, worker.value("sockets"))
            # An event loop has sockets, too, which a forked child keeps.
            self.assertEqual(len(here - forked), 1)
            self.assertFalse(here & started)

    def test_an_import_that_forks(self) -> None:
        worker = self.worker().load("forks:function")
        self.assertEqual(worker.value(), 0)


if __name__ == "__main__":
    unittest.main()
