"""Handles: calls that run on by themselves, and everything that can be asked of one."""

import asyncio
import threading

import jobs

import holdfast
from fake_tasks import ends, prints, returns, waits
from support import GatewayCase, captured


class Handles(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.release = threading.Event()
        self.addCleanup(self.release.set)

    def test_a_result_and_what_was_printed(self) -> None:
        with captured() as written:
            call = jobs.talk.submit("you")
            self.assertEqual(call.result(timeout=30), "YOU")
            printed = {"stdout": "", "stderr": ""}
            for log in call.logs():
                printed[log.stream] += log.text
            self.assertEqual(printed, {"stdout": "to you\n", "stderr": "äö\n"})
            self.assertEqual(written(), ("", ""))
        self.assertEqual(call.state(), "ended")
        self.assertEqual(holdfast.Call.from_id(call.id).result(), "YOU")
        self.assertTrue(self.gateway.tasks[call.id].body["headless"])

    def test_waiting_ends_and_the_call_goes_on(self) -> None:
        self.gateway.script("slow", waits(self.release), returns(5))
        call = jobs.slow.submit()
        with self.assertRaisesRegex(holdfast.WaitTimedOut, "0.05 seconds"):
            call.result(timeout=0.05)
        with self.assertRaises(TimeoutError):
            call.result(timeout=0)
        self.assertEqual(call.state(), "pending")
        self.release.set()
        self.assertEqual(call.result(), 5)

    def test_cancel(self) -> None:
        self.gateway.script("slow", waits(self.release))
        call = jobs.slow.submit()
        self.assertTrue(call.cancel())
        self.assertTrue(call.cancel())
        with self.assertRaises(holdfast.TaskCancelled) as caught:
            call.result()
        self.assertEqual(caught.exception.task_id, call.id)

    def test_logs_come_as_they_are_printed_and_over_breaks(self) -> None:
        self.gateway.script("slow", prints("one"), waits(self.release), prints("two"), returns(1))
        self.gateway.breaks = [1, 0]
        logs = jobs.slow.submit().logs()
        self.assertEqual(next(logs).text, "one")
        self.release.set()
        self.assertEqual([log.text for log in logs], ["two"])

    def test_a_call_is_not_submitted_twice(self) -> None:
        self.gateway.script("slow", returns(1))
        self.gateway.fault("POST", "/v1/stubs/.*/tasks", after=True)
        self.assertEqual(jobs.slow.submit().result(), 1)
        self.assertEqual(len(self.gateway.tasks), 1)

    def test_on_an_event_loop(self) -> None:
        async def main() -> None:
            self.gateway.script("slow", prints("one"), prints("two"), waits(self.release))
            call = await jobs.slow.submit_async()
            with self.assertRaises(holdfast.WaitTimedOut):
                await call.result_async(timeout=0.01)
            self.assertIn(await call.state_async(), ("pending", "running"))
            logs = call.logs_async()
            self.assertEqual((await logs.__anext__()).text, "one")
            self.assertTrue(await call.cancel_async())
            self.assertEqual([log.text async for log in logs], ["two"])
            with self.assertRaises(holdfast.TaskCancelled):
                await call.result_async()

        asyncio.run(main())

    def test_the_format_is_the_caller_s(self) -> None:
        self.gateway.script("plain", ends("returned", payload=b"[1]"))
        self.assertEqual(jobs.plain.submit(1).result(), [1])
        call = jobs.plain.submit(1)
        with self.assertRaisesRegex(holdfast.UnexpectedAnswer, "in pickle"):
            holdfast.Call.from_id(call.id).result()
        self.assertEqual(holdfast.Call.from_id(call.id, format="json").result(), [1])

    def test_ids_are_checked(self) -> None:
        for wrong in ("", "task-1", "../images", "task-" + "g" * 32):
            with self.assertRaises(ValueError):
                holdfast.Call.from_id(wrong)
        with self.assertRaises(ValueError):
            holdfast.Call.from_id("task-" + "0" * 32, format="yaml")
