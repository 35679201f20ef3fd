"""What a process has once: what was prepared, by many threads and loops, and its connections."""

import asyncio
import gc
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import jobs

from fake_tasks import prints, returns
from holdfast._drivers import Driver
from holdfast._flights import Flights
from holdfast._wire import Flow, Forget, Once, Sleep
from support import GatewayCase, TestCase, captured


class Sessions(GatewayCase):
    def test_many_threads_prepare_once(self) -> None:
        self.gateway.script("slow", prints("x\n"), returns(1))
        with captured(), ThreadPoolExecutor(8) as pool:
            results = [pool.submit(jobs.slow.remote) for _ in range(16)]
            self.assertEqual([result.result(30) for result in results], [1] * 16)
        for path in ("/v1/images", "/v1/stubs"):
            self.assertEqual(self.gateway.count("POST", path), 1)

    def test_connections_of_a_loop_end_with_it(self) -> None:
        self.gateway.script("slow", returns(1))
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for _ in range(2):
                self.assertEqual(asyncio.run(jobs.slow.remote_async()), 1)
            self.session.close()
            gc.collect()
        self.assertEqual(len(self.session._of_loops), 1)

    def test_connections_are_kept(self) -> None:
        self.gateway.script("slow", prints("x"), returns(1))
        with captured():
            for _ in range(5):
                jobs.slow.remote()
        self.assertEqual(self.gateway.connections, 1)


class OnceOnly(TestCase):
    def run_flow(self, flights: Flights, flow: Flow) -> object:
        with Driver(None, flights, lambda shown: None) as driver:
            return driver.run(flow)

    def test_values_are_kept_until_they_are_forgotten(self) -> None:
        flights, made = Flights(), []

        def make() -> Flow:
            yield Sleep(0)
            made.append(1)
            return len(made)

        def use(forget: bool = False) -> Flow:
            if forget:
                yield Forget()
            return (yield Once("key", make))

        self.assertEqual([self.run_flow(flights, use()) for _ in range(3)], [1, 1, 1])
        self.assertEqual(self.run_flow(flights, use(forget=True)), 2)

    def test_who_waits_shares_a_failure(self) -> None:
        flights = Flights()
        flight, _ = flights.join("key")

        def never() -> Flow:
            raise AssertionError("there is a leader")
            yield

        with ThreadPoolExecutor(2) as pool:
            results = [pool.submit(self.run_flow, flights, iter_once(never)) for _ in range(2)]
            with self.assertRaises(LookupError), flights.lead("key", flight):
                raise LookupError("refused")
            for result in results:
                # Whoever came too late leads anew, and would be told so.
                self.assertIsInstance(result.exception(30), (LookupError, AssertionError))

    def test_another_leads_when_the_leader_is_interrupted(self) -> None:
        flights, turns = Flights(), iter([KeyboardInterrupt(), LookupError("x"), None])

        def make() -> Flow:
            yield Sleep(0)
            error = next(turns)
            if error is not None:
                raise error
            return "made"

        def use() -> Flow:
            return (yield Once("key", make))

        for kind in (KeyboardInterrupt, LookupError):
            with self.assertRaises(kind):
                self.run_flow(flights, use())
        self.assertEqual(self.run_flow(flights, use()), "made")

    def test_a_thread_that_waits_takes_over(self) -> None:
        flights = Flights()
        led, interrupted = threading.Event(), threading.Event()

        def first() -> Flow:
            led.set()
            assert interrupted.wait(30)
            yield Sleep(0)
            raise KeyboardInterrupt

        def second() -> Flow:
            yield Sleep(0)
            return "made"

        def use(make: object) -> Flow:
            return (yield Once("key", make))

        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(self.run_flow, flights, use(first))
            self.assertTrue(led.wait(30))
            follower = pool.submit(self.run_flow, flights, use(second))
            interrupted.set()
            self.assertIsInstance(leader.exception(30), KeyboardInterrupt)
            self.assertEqual(follower.result(30), "made")

    def test_a_thread_does_not_wait_for_its_own_loop(self) -> None:
        flights = Flights()

        def make() -> Flow:
            yield Sleep(0)
            return "made"

        async def main() -> object:
            flight, leads = flights.join("key")
            self.assertTrue(leads and flight.would_deadlock())
            return self.run_flow(flights, iter_once(make))

        self.assertEqual(asyncio.run(main()), "made")


def iter_once(make: object) -> Flow:
    return (yield Once("key", make))
