"""Retries by hand: flows whose time and chance are given, and no network at all."""

import itertools
from collections.abc import Callable
from typing import Any

import holdfast
from holdfast import _requests
from holdfast._exceptions import GatewayError
from holdfast._image import Image
from holdfast._prepare import build_image
from holdfast._retry import (
    BUILDING,
    ORDINARY,
    Pace,
    Patience,
    Retry,
    may_repeat,
    problem_of,
    send,
)
from holdfast._tasks import Listener, wait
from holdfast._wire import Output, Progress, Read, Request, Response, Sleep
from support import Clock, TestCase

NO_CONNECTION = holdfast.ConnectionFailed("no", connected=False)
BROKEN = holdfast.ConnectionFailed("broke")


class May(TestCase):
    def test_the_table(self) -> None:
        busy = holdfast.Busy("full", retry_after_s=2)
        for problem, twice, once in (
            (NO_CONNECTION, True, True),
            (BROKEN, True, False),
            (busy, True, True),
            (holdfast.Busy("full", retry_after_s=3600), False, False),
            (holdfast.Unavailable("away"), True, True),
            (GatewayError("a proxy", status=502), True, False),
            (holdfast.InternalError("ours", status=500), False, False),
            (holdfast.Denied("no", status=403), False, False),
            (holdfast.UnexpectedAnswer("?"), False, False),
        ):
            with self.subTest(problem=problem):
                self.assertEqual(may_repeat(problem, is_repeatable=True), twice)
                self.assertEqual(may_repeat(problem, is_repeatable=False), once)


class Pauses(TestCase):
    def test_they_double_and_end(self) -> None:
        clock = Clock()
        retry = Retry(clock.pace(), Patience(20, 0, 0))
        pauses = []
        with self.assertRaises(holdfast.ConnectionFailed):
            while True:
                pauses.append(retry.pause_s(BROKEN, True))
                clock.now_s += pauses[-1]
        self.assertEqual(
            [round(pause, 3) for pause in pauses[:7]], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5]
        )
        self.assertLessEqual(sum(pauses), 20)

    def test_chance_and_retry_after(self) -> None:
        retry = Retry(Pace(lambda: 0.0, lambda: 0.0), ORDINARY)
        self.assertEqual(retry.pause_s(BROKEN, True), 0.05)
        self.assertEqual(retry.pause_s(holdfast.Busy("full", retry_after_s=7), True), 7.1)

    def test_a_new_problem_has_its_own_time(self) -> None:
        clock = Clock()
        retry = Retry(clock.pace(), Patience(1, 1, 1))
        for _ in range(10):
            clock.now_s += retry.pause_s(BROKEN, True) + 100
            retry.advanced()


class Flows(TestCase):
    def test_a_request_is_sent_until_it_is_answered(self) -> None:
        clock = Clock()
        request = Request("GET", "/v1/x", is_repeatable=True)
        flow = send(clock.pace(), request)
        self.assertIs(next(flow), request)
        self.assertIsInstance(flow.throw(NO_CONNECTION), Progress)
        self.assertEqual(flow.send(None), Sleep(0.1))
        self.assertIs(flow.send(None), request)
        answer = Response(200, {})
        with self.assertRaises(StopIteration) as stop:
            flow.send(answer)
        self.assertIs(stop.exception.value, answer)

    def test_what_may_not_be_repeated_is_not(self) -> None:
        flow = send(Clock().pace(), Request("POST", "/v1/x"))
        next(flow)
        with self.assertRaises(holdfast.ConnectionFailed):
            flow.throw(BROKEN)

    def test_output_is_resumed_by_bytes(self) -> None:
        listener = Listener(Clock().pace(), "task-1")
        asked = next(flow := listener.next())
        self.assertEqual((asked.path, asked.query), ("/v1/tasks/task-1/events", {"offset": "0"}))
        self.assertIsInstance(flow.send(Response(200, {}, is_open=True)), Read)
        self.assertEqual(ended(flow, output("äb", 3)), Output("stdout", "äb"))
        self.assertIsInstance(next(flow := listener.next()), Read)
        self.assertIsInstance(flow.send(b""), Progress)
        self.assertIsInstance(flow.send(None), Sleep)
        self.assertEqual(flow.send(None).query, {"offset": "3"})
        flow.send(Response(200, {}, is_open=True))
        # What was seen comes again, with more; then something is missing.
        self.assertEqual(ended(flow, output("äbc", 4)), Output("stdout", "c"))
        next(flow := listener.next())
        self.assertIn("[5 bytes of output are no longer there]", ended(flow, output("x", 10)).text)

    def test_a_gateway_that_does_not_wait_is_not_asked_in_a_circle(self) -> None:
        clock = Clock()
        flow = wait(clock.pace(), "task-1", None)
        running = b'{"id": "task-1", "state": "running", "end": null}'
        self.assertEqual(next(flow).query, {"wait_ms": "50000"})
        self.assertEqual(flow.send(Response(200, {}, running)), Sleep(1.0))

    def test_a_wait_ends_with_its_time_also_without_a_gateway(self) -> None:
        clock = Clock()
        flow = wait(clock.pace(), "task-1", 0.25)
        next(flow)
        with self.assertRaises(holdfast.ConnectionFailed):
            while True:
                operation = flow.throw(NO_CONNECTION)
                while not isinstance(operation, Request):
                    if isinstance(operation, Sleep):
                        clock.now_s += operation.seconds
                    operation = flow.send(None)
        self.assertLessEqual(clock.now_s, 1000.25)


    def test_a_registry_that_is_away_is_told_at_once_and_asked_for_seconds(self) -> None:
        for answered_after_s, limit_s in ((4.0, 24.0), (35.0, 35.0), (0.1, 21.0)):
            clock = Clock()
            began_s, told = clock.now_s, []
            away = away_after(clock, answered_after_s)
            with self.assertRaisesRegex(holdfast.Unavailable, "registry.example: refused"):
                drive(build_image(clock.pace(), Image("registry.example/app")), away, clock, told)
            self.assertLessEqual(clock.now_s - began_s, limit_s)
            troubles = [shown.message for shown in told if shown.is_trouble]
            once = ["registry.example: refused; trying again"] if limit_s != 35.0 else []
            self.assertEqual(troubles, once)

    def test_a_long_build_that_fails_at_its_end_is_asked_for_again(self) -> None:
        clock = Clock()
        retry = Retry(clock.pace(), Patience(5, 120, 20))
        retry.asks()
        clock.now_s += 600
        retry.reached()
        self.assertGreater(retry.pause_s(holdfast.Unavailable("full"), True), 0)

    def test_what_went_on_for_long_is_worth_as_much_waiting(self) -> None:
        away = holdfast.Unavailable("the registry is away")
        table = ((0, 15, False), (0, 30, True), (60, 30, False), (60, 90, True), (600, 130, True))
        for went_on_s, silent_s, is_over in (*table, (600, 100, False)):
            clock = Clock()
            retry = Retry(clock.pace(), BUILDING)
            retry.asks()
            clock.now_s += went_on_s
            retry.advanced()
            clock.now_s += silent_s
            with self.subTest(went_on_s=went_on_s, silent_s=silent_s):
                if is_over:
                    self.assertRaises(holdfast.Unavailable, retry.pause_s, away, True)
                else:
                    self.assertGreater(retry.pause_s(away, True), 0)

    def test_an_advance_begins_anew_and_a_full_gateway_is_another_problem(self) -> None:
        clock = Clock()
        retry = Retry(clock.pace(), BUILDING)
        away = holdfast.Unavailable("the registry is away")
        retry.asks()
        clock.now_s += 10
        retry.pause_s(away, True)
        clock.now_s += 180
        retry.advanced()
        retry.pause_s(away, True)
        retry.advanced()
        for _ in range(3):
            clock.now_s += 25
            retry.pause_s(holdfast.Busy("many images are being built"), True)
        self.assertGreater(retry.pause_s(away, True), 0)


class Answers(TestCase):
    def test_what_is_wrong_with_one(self) -> None:
        self.assertIsNone(problem_of(Response(204, {})))
        for status, kind in ((401, holdfast.Unauthenticated), (404, holdfast.NotFound)):
            self.assertIsInstance(problem_of(Response(status, {})), kind)
        for retry_after, seconds in (("7", 7.0), ("soon", None), ("9" * 50, None), ("-1", None)):
            problem = problem_of(Response(503, {"retry-after": retry_after}))
            self.assertEqual(problem.retry_after_s, seconds)
        for body in (b"[", b"[]", b'{"error": 5}', b'{"error": {"kind": "busy"}}', b"\xff"):
            self.assertIsInstance(problem_of(Response(418, {}, body)), holdfast.UnexpectedAnswer)

    def test_requests_name_their_parts(self) -> None:
        request = _requests.cancel_task("task-1", 5.0)
        self.assertEqual(
            (request.path, request.query["wait_ms"]), ("/v1/tasks/task-1/cancel", "5000")
        )
        self.assertTrue(request.is_repeatable)


def output(text: str, offset: int) -> bytes:
    import json

    data = json.dumps({"stream": "stdout", "text": text, "offset": offset})
    return f"event: output\ndata: {data}\n\n".encode()


def away_after(clock: Clock, seconds: float) -> Callable[[], bytes]:
    """What is read of a build whose registry is found to be away after this time."""
    pieces = [
        b'event: progress\ndata: {"message": "asking for registry.example/app"}\n\n',
        b'event: error\ndata: {"kind": "unavailable", "message": "registry.example: refused", '
        b'"hint": null}\n\n',
    ]
    reads = itertools.count()

    def read() -> bytes:
        at = next(reads) % 2
        clock.now_s += seconds * at
        return pieces[at]

    return read


def drive(flow: Any, read: Callable[[], bytes], clock: Clock, told: list[Progress]) -> object:
    """Runs a flow to its end, with every request answered by a stream."""
    given: object = None
    while True:
        try:
            operation = flow.send(given)
        except StopIteration as stop:
            return stop.value
        given = None
        if isinstance(operation, Request):
            given = Response(200, {}, is_open=True)
        elif isinstance(operation, Read):
            given = read()
        elif isinstance(operation, Sleep):
            clock.now_s += operation.seconds
        elif isinstance(operation, Progress):
            told.append(operation)


def ended(flow: object, sent: object) -> object:
    """What a flow returns when it is given something."""
    try:
        operation = flow.send(sent)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"{operation} was asked for")
