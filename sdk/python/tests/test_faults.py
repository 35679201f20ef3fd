"""What breaks: connections, gateways that are full or restart, callers that are interrupted."""

import asyncio
import os
import signal
import threading
import unittest
import unittest.mock
from contextlib import redirect_stdout

import jobs

import holdfast
from fake_tasks import ends, prints, returns, waits
from holdfast._config import Configuration
from holdfast._console import Console
from holdfast._hidden import Hidden
from holdfast._session import Session, use
from support import GatewayCase, Watched, captured, shown_by

TASKS = "/v1/stubs/.*/tasks"
EVENTS = "/v1/tasks/.*/events"
CANCEL = "/v1/tasks/.*/cancel"


class Broken(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        steps = [prints("one\n"), prints("zwölf\n"), prints("three\n"), returns("done")]
        self.gateway.script("slow", *steps)

    def test_a_stream_is_resumed_where_it_broke(self) -> None:
        for breaks in ([0], [1], [2, 0, 1], [3], [0, 0, 0, 0]):
            self.gateway.breaks = list(breaks)
            with self.subTest(breaks=breaks), captured() as written:
                self.assertEqual(jobs.slow.remote(), "done")
                self.assertEqual(written()[0], "one\nzwölf\nthree\n")
        self.assertEqual(len(self.gateway.tasks), 5)

    def test_an_answer_that_is_lost_does_not_run_it_twice(self) -> None:
        self.gateway.fault("POST", TASKS, after=True)
        with captured() as written:
            self.assertEqual(jobs.slow.remote(), "done")
        self.assertEqual(written()[0], "one\nzwölf\nthree\n")
        self.assertEqual(self.gateway.count("POST", TASKS), 2)
        self.assertEqual(len(self.gateway.tasks), 1)

    def test_everything_before_a_call_is_repeated_too(self) -> None:
        for method, path in (
            ("POST", "/v1/images"),
            ("HEAD", "/v1/objects/.*"),
            ("PUT", "/v1/objects/.*"),
            ("POST", "/v1/stubs"),
        ):
            self.gateway.fault(method, path)
            away = {"kind": "unavailable", "message": "it restarts", "hint": None}
            self.gateway.fault(method, path, status=503, error=away, headers={"Retry-After": "0"})
            self.gateway.fault(method, path, status=502, body=b"<html>a proxy</html>")
        with captured():
            self.assertEqual(jobs.slow.remote(), "done")
        self.assertEqual(self.gateway.count("PUT", "/v1/objects/.*"), 4)

    def test_a_full_gateway_is_asked_again(self) -> None:
        full = {"kind": "busy", "message": "100 calls wait already", "hint": None}
        for _ in range(2):
            self.gateway.fault("POST", TASKS, status=429, error=full, headers={"Retry-After": "0"})
        with captured():
            self.assertEqual(jobs.slow.remote(), "done")
        self.gateway.fault("POST", TASKS, status=429, error=full, headers={"Retry-After": "3600"})
        with self.assertRaisesRegex(holdfast.Busy, "100 calls wait already"):
            jobs.slow.remote()

    def test_a_gateway_that_was_set_up_anew_is_told_everything_again(self) -> None:
        with captured():
            jobs.slow.remote()
            self.gateway.stubs.clear()
            self.gateway.objects.clear()
            self.assertEqual(jobs.slow.remote(), "done")
        self.assertEqual(self.gateway.count("POST", "/v1/images"), 2)
        self.assertEqual(self.gateway.count("PUT", "/v1/objects/.*"), 2)

    def test_a_task_that_is_gone_is_not_started_again(self) -> None:
        self.gateway.breaks = [1]
        gone = {"kind": "not_found", "message": "there is no such task", "hint": None}
        self.gateway.fault("GET", EVENTS, status=404, error=gone)
        with captured(), self.assertRaises(holdfast.NotFound):
            jobs.slow.remote()
        self.assertEqual(self.gateway.count("POST", TASKS), 1)


class Refused(GatewayCase):
    def refused(self, kind: type, **fields: object) -> holdfast.GatewayError:
        self.gateway.fault("POST", "/v1/images", **fields)
        error, shown = shown_by(kind, jobs.slow.remote)
        self.assertNotIn("pass-word-9d1f", shown)
        self.assertNotIn("hf_test-token", shown)
        return error

    def test_each_kind_has_its_exception(self) -> None:
        for kind, status, raised in (
            ("invalid", 400, holdfast.InvalidRequest),
            ("unauthenticated", 401, holdfast.Unauthenticated),
            ("denied", 403, holdfast.Denied),
            ("conflict", 409, holdfast.Conflict),
            ("too_large", 413, holdfast.TooLarge),
            ("unsupported", 422, holdfast.Unsupported),
            ("internal", 500, holdfast.InternalError),
            ("brand_new", 418, holdfast.InvalidRequest),
        ):
            error = {"kind": kind, "message": "no\x1b[2J", "hint": "try"}
            found = self.refused(raised, status=status, error=error)
            self.assertEqual(str(found), "no\\x1b[2J\nhint: try")
            self.assertEqual(found.status, status)

    def test_what_is_no_gateway(self) -> None:
        self.assertIn("418", str(self.refused(holdfast.UnexpectedAnswer, status=418, body=b"tea")))
        found = self.refused(holdfast.UnexpectedAnswer, status=200, body=b"<html>")
        self.assertIn("asked for events", str(found))
        self.refused(holdfast.UnexpectedAnswer, status=302, headers={"Location": "/"}, body=b"x")

    def test_a_build_that_fails_says_why_and_is_tried_again_by_the_next_call(self) -> None:
        denied = {"kind": "denied", "message": "registry.example.com: bad password", "hint": None}
        self.gateway.image_events = [("error", denied)]
        with self.assertRaisesRegex(holdfast.Denied, "bad password"):
            jobs.slow.remote()
        self.gateway.image_events = []
        self.gateway.script("slow", returns(1))
        self.assertEqual(jobs.slow.remote(), 1)

    def test_another_python_is_refused_before_anything_is_sent(self) -> None:
        self.gateway.python_version = "3.7.3"
        with self.assertRaisesRegex(holdfast.PythonVersionMismatch, 'format="json"'):
            jobs.slow.remote()
        self.assertEqual(self.gateway.objects, {})
        self.gateway.script("plain", returns(None))
        with self.assertRaises(holdfast.ResultNotReadable):
            jobs.plain.remote(1)

    def test_a_wrong_token_and_no_gateway(self) -> None:
        quiet = Console({"HOLDFAST_PROGRESS": "0"})
        use(Session(Configuration(self.gateway.url, Hidden("hf_wrong")), console=quiet))
        _, shown = shown_by(holdfast.Unauthenticated, jobs.slow.remote)
        self.assertNotIn("hf_wrong", shown)
        self.gateway.server.server_close()
        session = Session(Configuration(self.gateway.url, Hidden("hf_wrong")), console=quiet)
        session.pace = type(session.pace)(iter(range(0, 1000, 3)).__next__, lambda: 0.0)
        use(session)
        error, shown = shown_by(holdfast.ConnectionFailed, jobs.slow.remote)
        self.assertIn("no connection to", str(error))
        self.assertNotIn("hf_wrong", shown)
        self.assertNotIn("pass-word", shown)


class Interrupted(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.release = threading.Event()
        self.addCleanup(self.release.set)
        self.gateway.script("slow", prints("begun\n"), waits(self.release), returns(1))

    def test_an_interrupt_cancels_and_waits_for_the_end(self) -> None:
        output = Watched()

        def interrupt() -> None:
            output.wait()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with redirect_stdout(output), self.assertRaises(KeyboardInterrupt):
            jobs.slow.remote()
        thread.join()
        self.assertEqual(self.gateway.count("POST", CANCEL), 1)
        self.assertTrue(all(task.is_cancelled for task in self.gateway.tasks.values()))

    def test_an_interrupt_shows_no_secret_either(self) -> None:
        self.gateway.image_hold = self.release

        def interrupt() -> None:
            self.gateway.wait_for("POST", "/v1/images")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        _, shown = shown_by(KeyboardInterrupt, jobs.slow.remote)
        thread.join()
        self.assertIn("_transport.py", shown)
        for secret in ("pass-word-9d1f", "hf_test-token"):
            self.assertNotIn(secret, shown)

    def test_a_coroutine_that_is_cancelled_cancels(self) -> None:
        output = Watched()

        async def main() -> None:
            running = asyncio.create_task(jobs.slow.remote_async())
            await asyncio.to_thread(output.wait)
            running.cancel()
            await running

        with redirect_stdout(output), self.assertRaises(asyncio.CancelledError):
            asyncio.run(main())
        self.assertEqual(self.gateway.count("POST", CANCEL), 1)

    def test_an_end_that_is_not_confirmed_is_said(self) -> None:
        self.gateway.fault("POST", CANCEL, status=500)

        class Closed:
            def write(self, _text: str) -> None:
                raise BrokenPipeError

            def flush(self) -> None:
                pass

        with (
            self.assertLogs("holdfast", "WARNING") as logs,
            self.assertRaises(BrokenPipeError),
            unittest.mock.patch("sys.stdout", Closed()),
        ):
            jobs.slow.remote()
        self.assertIn("may run on for a while", logs.output[0])

    def test_outcomes(self) -> None:
        for outcome, kind in (
            ("cancelled", holdfast.TaskCancelled),
            ("timed-out", holdfast.TaskTimedOut),
            ("expired", holdfast.TaskExpired),
            ("died", holdfast.ContainerDied),
            ("lost", holdfast.WorkerLost),
            ("not-started", holdfast.NotStarted),
        ):
            self.gateway.script("slow", ends(outcome, type="OutOfMemory", message="137"))
            with self.subTest(outcome), self.assertRaises(kind) as caught:
                jobs.slow.remote()
            self.assertIn("OutOfMemory: 137", str(caught.exception))
            self.assertEqual(caught.exception.failure.message, "137")
        self.gateway.script("slow", ends("evaporated"))
        with self.assertRaises(holdfast.UnexpectedAnswer):
            jobs.slow.remote()
