"""Calls from end to end: the real package, a gateway over a socket, the project's own runner."""

import asyncio
import unittest

import jobs

import holdfast
from support import GatewayCase, captured, shown_by


class Calls(GatewayCase):
    def test_a_value_comes_back(self) -> None:
        self.assertEqual(jobs.add.remote(2, right=3), 5)
        self.assertEqual(jobs.add(2), 3)
        self.assertEqual(jobs.add.local(2), 3)
        stub = next(iter(self.gateway.stubs.values()))
        self.assertEqual((stub["name"], stub["handler"]), ("jobs:add", "jobs:add"))
        self.assertEqual(stub["memory_bytes"], 128 << 20)

    def test_everything_is_prepared_once(self) -> None:
        for number in range(3):
            self.assertEqual(jobs.add.remote(number), number + 1)
        for method, path in (
            ("POST", "/v1/images"),
            ("POST", "/v1/stubs"),
            ("PUT", "/v1/objects/.*"),
        ):
            self.assertEqual(self.gateway.count(method, path), 1, path)
        self.assertEqual(self.gateway.count("POST", "/v1/stubs/.*/tasks"), 3)

    def test_values_of_the_credential_are_sent_once_and_shown_never(self) -> None:
        jobs.add.remote(1)
        sent = self.gateway.images[0]["credential"]
        self.assertEqual(sent, {"USERNAME": "alice", "PASSWORD": "pass-word-9d1f"})

    def test_output_is_shown_as_it_is(self) -> None:
        with captured() as written:
            self.assertEqual(jobs.talk.remote("you"), "YOU")
        self.assertEqual(written(), ("to you\n", "äö\n"))

    def test_asynchronous_functions(self) -> None:
        self.assertEqual(jobs.add_later.remote(1, 2), 3)
        self.assertEqual(asyncio.run(jobs.add_later.local(1, 2)), 3)

    def test_from_an_event_loop_and_from_another(self) -> None:
        async def both() -> tuple:
            return await asyncio.gather(jobs.add.remote_async(1), jobs.add.remote_async(2))

        self.assertEqual(asyncio.run(both()), [2, 3])
        self.assertEqual(asyncio.run(both()), [2, 3])
        self.assertEqual(self.gateway.count("POST", "/v1/images"), 1)

    def test_classes_are_the_same_on_both_sides(self) -> None:
        point = jobs.mirror.remote(jobs.Point(1, 2), jobs.Color.RED)
        self.assertEqual(point, jobs.Point(2, 1))

    def test_json(self) -> None:
        self.assertEqual(jobs.plain.remote([1, "ä"]), {"got": [1, "ä"]})
        with self.assertRaisesRegex(holdfast.ArgumentsNotSendable, "no JSON"):
            jobs.plain.remote({1, 2})

    def test_environment(self) -> None:
        self.assertEqual(jobs.environment.remote(), ("hello", False))


class Failures(GatewayCase):
    def failure(self, kind: type, how: str) -> BaseException:
        error, shown = shown_by(kind, jobs.fail.remote, how)
        self.assertNotIn("pass-word-9d1f", shown)
        self.assertNotIn("hf_test-token", shown)
        return error

    def test_exceptions_of_every_sort(self) -> None:
        own = self.failure(jobs.Refused, "own")
        self.assertIn('raise Refused("not today")', str(own.__cause__))
        self.assertIsInstance(own.__cause__, holdfast.RemoteTraceback)
        unloadable = self.failure(holdfast.RemoteError, "unloadable")
        self.assertEqual(str(unloadable), "jobs.Unloadable: 1 and 2")
        self.assertEqual(unloadable.failure.type, "Unloadable")
        self.assertEqual(str(self.failure(holdfast.RemoteError, "exit")), "SystemExit: 3")
        self.assertEqual(str(self.failure(holdfast.RemoteError, "stop")), "StopIteration")
        died = self.failure(holdfast.ContainerDied, "die")
        self.assertIn(died.task_id, self.gateway.tasks)

    def test_what_cannot_be_returned(self) -> None:
        with self.assertRaisesRegex(holdfast.ResultNotPicklable, "lock"):
            jobs.lock.remote()


if __name__ == "__main__":
    unittest.main()
