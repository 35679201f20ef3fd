"""Maps: order, the bound on what is taken ahead, the first exception, leaving early."""

import asyncio
import threading
import unittest
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stdout

import jobs

import holdfast
from fake_tasks import Task, prints, returns, waits
from holdfast import _map
from support import GatewayCase, TestCase, Watched, captured

CANCEL = "/v1/tasks/.*/cancel"


class Maps(GatewayCase):
    def test_values_come_in_order(self) -> None:
        self.assertEqual(list(jobs.add.map([3, 1, (2, 5)], concurrency=2)), [4, 2, 7])
        self.assertEqual(list(jobs.add.map([])), [])

    def test_on_an_event_loop(self) -> None:
        async def inputs() -> AsyncIterator[int]:
            for number in range(3):
                yield number

        async def main() -> list:
            ordinary = [value async for value in jobs.add.map_async(range(3))]
            return ordinary + [value async for value in jobs.add.map_async(inputs())]

        self.assertEqual(asyncio.run(main()), [1, 2, 3, 1, 2, 3])

    def test_inputs_are_what_they_were_when_they_were_taken(self) -> None:
        def inputs() -> Iterator[list]:
            shared: list = [[0]]
            for number in range(3):
                shared[0][0] = number
                yield tuple(shared)

        self.gateway.script("slow", lambda task: returns(task.arguments())(task))
        self.assertEqual(list(jobs.slow.map(inputs())), [([0],), ([1],), ([2],)])

        async def main() -> list:
            return [value async for value in jobs.slow.map_async(inputs())]

        self.assertEqual(asyncio.run(main()), [([0],), ([1],), ([2],)])

    def test_lines_of_several_calls_are_not_mixed(self) -> None:
        both = threading.Barrier(2, timeout=30)

        def by_halves(task: Task) -> None:
            for half in ("one ", "line\n", "rest"):
                task.print(half)
                both.wait()
            task.finish(outcome="raised", failure=dict.fromkeys(FAILURE, "x"))

        self.gateway.script("slow", by_halves)
        with captured() as written, self.assertRaises(holdfast.RemoteError):
            list(jobs.slow.map([(), ()], concurrency=2))
        self.assertEqual(sorted(written()[0].splitlines()), ["one line"] * 2 + ["rest"] * 2)

    def test_the_first_exception_ends_it_and_cancels_the_others(self) -> None:
        release = threading.Event()
        self.addCleanup(release.set)
        output = Watched()

        def one(task: Task) -> None:
            if task.arguments() == (0,):
                # Two others run, and their caller knows of them.
                output.wait(writes=2)
                task.finish(outcome="raised", failure=dict.fromkeys(FAILURE, "x"))
            else:
                task.print("begun\n")
                release.wait(30)

        self.gateway.script("slow", one)
        with redirect_stdout(output), self.assertRaises(holdfast.RemoteError):
            list(jobs.slow.map(range(50), concurrency=3))
        self.assertEqual(len(self.gateway.tasks), 3)
        self.assertTrue(all(task.end for task in self.gateway.tasks.values()))
        self.assertEqual(self.gateway.count("POST", CANCEL), 2)

    def test_leaving_early_cancels(self) -> None:
        release = threading.Event()
        self.addCleanup(release.set)
        steps = [prints("begun\n"), waits(release)]

        def one(task: Task) -> None:
            for step in [returns(None)] if task.arguments() == (0,) else steps:
                step(task)

        self.gateway.script("slow", one)
        output = Watched()
        with redirect_stdout(output):
            for value in jobs.slow.map(range(3), concurrency=2):
                self.assertIsNone(value)
                output.wait(writes=2)
                break
        self.assertTrue(all(task.end for task in self.gateway.tasks.values()))
        self.assertEqual(self.gateway.count("POST", CANCEL), 2)

    def test_arguments_are_checked_at_once(self) -> None:
        for concurrency in (0, 1001, True, 1.5):
            with self.assertRaises(ValueError):
                jobs.add.map([1], concurrency=concurrency)
            with self.assertRaises(ValueError):
                jobs.add.map_async([1], concurrency=concurrency)


FAILURE = ("type", "module", "message", "traceback")


class Bound(TestCase):
    """Over a call that is no call."""

    def test_inputs_are_taken_as_they_are_needed(self) -> None:
        taken = 0

        def inputs() -> Iterator[int]:
            nonlocal taken
            for number in range(1000):
                taken += 1
                yield number

        async def call(positional: int) -> int:
            return positional * 2

        values = _map.map_sync(call, inputs(), 3)
        for number in range(5):
            self.assertEqual(next(values), number * 2)
            self.assertLessEqual(taken, number + 3 * _map.AHEAD + 2)
        values.close()

    def test_so_many_run_at_a_time_and_a_slow_one_does_not_hold_up_others(self) -> None:
        running = most = done = 0

        async def main() -> list:
            first = asyncio.Event()

            async def call(positional: int) -> int:
                nonlocal running, most, done
                running += 1
                most = max(most, running)
                if positional == 0:
                    await first.wait()
                await asyncio.sleep(0)
                running -= 1
                done += 1
                if done == 11:
                    first.set()
                return positional

            return [value async for value in _map.map_async(call, _map.each_of(range(20)), 3)]

        self.assertEqual(asyncio.run(asyncio.wait_for(main(), 30)), list(range(20)))
        self.assertEqual(most, 3)

    def test_exceptions_come_at_their_place(self) -> None:
        begun: list = []

        async def call(positional: int) -> int:
            begun.append(positional)
            if positional == 2:
                raise LookupError(positional)
            return positional

        values = _map.map_sync(call, range(100), 2)
        self.assertEqual([next(values), next(values)], [0, 1])
        with self.assertRaises(LookupError):
            next(values)
        self.assertLess(max(begun), 5)

    def test_an_exception_of_the_inputs(self) -> None:
        async def call(positional: int) -> int:
            return positional

        def inputs() -> Iterator[int]:
            yield 1
            raise LookupError

        with self.assertRaises(LookupError):
            list(_map.map_sync(call, inputs(), 2))


if __name__ == "__main__":
    unittest.main()
