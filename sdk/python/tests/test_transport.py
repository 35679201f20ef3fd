"""One request, one answer: what is sent with it, what is not done, and how it fails."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from unittest import mock

import httpx2

import holdfast
from fake_routes import TOKEN
from holdfast import _transport
from holdfast._config import Configuration
from holdfast._hidden import Hidden
from holdfast._transport import AsyncHttpTransport, HttpTransport
from holdfast._wire import Request, Response
from support import GatewayCase, TestCase, shown_by

BODY = b"pass-word-9d1f" * 200_000


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body as it comes from a network, which may end with an error."""

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        self._content = content
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def answered(status: int, body: bytes, error: Exception | None = None, **headers: str):
    """What answers every request so."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx2.Response(status, headers=named, stream=Body(body, error))


class Both(TestCase):
    """The same over the transport of threads and that of event loops."""

    CONFIGURATION = Configuration("https://gateway.example.com/base", Hidden(TOKEN))

    def on_a_thread(self, answer: object, request: Request) -> tuple[Response, bytes]:
        """What comes of a request, with the bytes of an answer that is open."""
        transport = HttpTransport(self.CONFIGURATION, httpx2.MockTransport(answer))
        self.addCleanup(transport.close)
        response, stream = transport.send(request)
        pieces = b""
        while stream is not None and (piece := stream.read()):
            pieces += piece
        return response, pieces

    def on_a_loop(self, answer: object, request: Request) -> tuple[Response, bytes]:
        async def main() -> tuple[Response, bytes]:
            transport = AsyncHttpTransport(self.CONFIGURATION, httpx2.MockTransport(answer))
            try:
                response, stream = await transport.send(request)
                pieces = b""
                while stream is not None and (piece := await stream.read()):
                    pieces += piece
                return response, pieces
            finally:
                await transport.close()

        return asyncio.run(main())

    def send(self, answer: object, request: Request) -> list[tuple[Response, bytes]]:
        return [self.on_a_thread(answer, request), self.on_a_loop(answer, request)]

    def test_what_is_sent(self) -> None:
        seen: list[httpx2.Request] = []

        def answer(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return answered(201, b"{}")(request)

        request = Request("PUT", "/v1/x", {"a": "1 2"}, Hidden(BODY), "application/octet-stream")
        for response, _ in self.send(answer, request):
            self.assertEqual((response.status, response.body), (201, b"{}"))
        self.assertEqual([sent.content == BODY for sent in seen], [True, True])
        for sent in seen:
            self.assertEqual(str(sent.url), "https://gateway.example.com/base/v1/x?a=1+2")
            self.assertEqual(sent.headers["authorization"], f"Bearer {TOKEN}")
            self.assertEqual(sent.headers["content-length"], str(len(BODY)))
            self.assertEqual(sent.headers["accept-encoding"], "identity")
            self.assertRegex(sent.headers["user-agent"], "^holdfast-python/")
            self.assertNotIn("transfer-encoding", sent.headers)

    def test_events_are_left_open_and_nothing_else(self) -> None:
        request = Request("GET", "/v1/x", is_stream=True)
        kind = {"content_type": "text/event-stream; charset=utf-8"}
        for status, headers, is_open in ((200, kind, True), (500, kind, False), (200, {}, False)):
            answer = answered(status, b"data: a\n\n", **headers)
            for response, pieces in self.send(answer, request):
                self.assertEqual((response.is_open, pieces != b""), (is_open, is_open))

    def test_redirects_are_not_followed(self) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            self.assertNotEqual(request.url.host, "elsewhere.example.com")
            return answered(307, b"", location="https://elsewhere.example.com/")(request)

        for response, _ in self.send(answer, Request("GET", "/v1/x")):
            self.assertEqual(response.status, 307)

    def test_failures(self) -> None:
        for error, connected in (
            (httpx2.ConnectError("refused"), False),
            (httpx2.ConnectTimeout(""), False),
            (httpx2.ReadTimeout(""), True),
            (httpx2.RemoteProtocolError("odd"), True),
            (OSError("disk"), True),
        ):

            def answer(_request: object) -> httpx2.Response:
                raise error  # noqa: B023

            request = Request("PUT", "/v1/x", body=Hidden(BODY[:14]))
            for send in (self.on_a_thread, self.on_a_loop):
                found, shown = shown_by(holdfast.ConnectionFailed, send, answer, request)
                self.assertEqual(found.connected, connected)
                self.assertIsNone(found.__context__)
                self.assertNotIn("pass-word", shown)
                self.assertNotIn(TOKEN, shown)

    def test_interrupts_while_a_body_is_written(self) -> None:
        for error in (KeyboardInterrupt(), asyncio.CancelledError()):

            def answer(request: httpx2.Request) -> httpx2.Response:
                content = request.content
                self.assertIn(b"pass-word", content)
                raise error  # noqa: B023

            request = Request("PUT", "/v1/x", body=Hidden(BODY[:14]))
            for send in (self.on_a_thread, self.on_a_loop):
                _, shown = shown_by(type(error), send, answer, request)
                self.assertIn("_transport.py", shown)
                self.assertNotIn("pass-word", shown)
                self.assertNotIn(TOKEN, shown)

    def test_an_answer_that_breaks_off(self) -> None:
        for headers in ({"content_type": "text/event-stream"}, {}):
            answer = answered(200, b"data: a\n\n", httpx2.ReadError("reset"), **headers)
            for send in (self.on_a_thread, self.on_a_loop):
                with self.assertRaisesRegex(holdfast.ConnectionFailed, "broke: reset"):
                    send(answer, Request("GET", "/v1/x", is_stream=True))

    def test_an_answer_without_an_end(self) -> None:
        with mock.patch.object(_transport, "ANSWER_LIMIT_BYTES", 5):
            self.send(answered(200, b"12345"), Request("GET", "/v1/x"))
            for send in (self.on_a_thread, self.on_a_loop):
                with self.assertRaisesRegex(holdfast.UnexpectedAnswer, "longer than 5"):
                    send(answered(200, b"123456"), Request("GET", "/v1/x"))


class Proxies(GatewayCase):
    def test_this_machine_is_not_asked_through_a_proxy(self) -> None:
        proxies = {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
        with mock.patch.dict("os.environ", proxies):
            transport = HttpTransport(Configuration(self.gateway.url, Hidden(TOKEN)))
            response, _ = transport.send(Request("GET", "/v1/tasks/none"))
            transport.close()
        self.assertEqual(response.status, 404)
