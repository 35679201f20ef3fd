"""The parent of the tests: each ends, and leaves no process behind."""

import signal
import unittest

from worker import Worker

DEADLINE_S = 60
"""For one test. Far more than any takes, on a machine that does ten other things."""


class TestCase(unittest.TestCase):
    """A test that ends: what hangs is interrupted, and what it started is killed."""

    maxDiff = None

    def setUp(self) -> None:
        def give_up(_number, _frame):
            raise AssertionError("not done within %d seconds" % DEADLINE_S)

        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(DEADLINE_S)
        self.addCleanup(signal.alarm, 0)

    def worker(self, *arguments, **fields) -> Worker:
        """A worker that is closed when the test is over."""
        worker = Worker(*arguments, **fields)
        self.addCleanup(worker.close)
        return worker

    def ready(self, handler: str, **fields) -> Worker:
        """A worker whose runner has loaded a handler of the programs."""
        return self.worker().load(handler, **fields)

    def all_ready(self, handler: str, *fields: dict) -> list:
        """Workers, one for each setup; all start at once, since most of it is starting Python."""
        workers = [self.worker() for _ in fields]
        for worker, own in zip(workers, fields):
            worker.start_setup(handler, **own)
        return [worker.await_ready() for worker in workers]
