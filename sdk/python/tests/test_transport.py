"""One request, one answer: what is sent with it, what is not done, and how it fails."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import httpcore2

import holdfast
from fake_routes import TOKEN
from holdfast import _transport
from holdfast._config import Configuration
from holdfast._hidden import Hidden
from holdfast._transport import AsyncHttpTransport, HttpTransport
from holdfast._wire import Request, Response
from support import GatewayCase, TestCase, shown_by

BODY = b"pass-word-9d1f" * 200_000


class Network:
    """What is at the other end of every connection: bytes, and errors where there are to be any."""

    def __init__(
        self,
        *answers: bytes,
        connecting: BaseException | None = None,
        writing: BaseException | None = None,
        reading: BaseException | None = None,
    ) -> None:
        self.answers = list(answers)
        self._connecting = connecting
        self._writing = writing
        self._reading = reading
        self.sent = b""
        self.hosts: list[str] = []

    def connect(self, host: str) -> None:
        self.hosts.append(host)
        if self._connecting is not None:
            raise self._connecting

    def write(self, piece: bytes) -> None:
        self.sent += piece
        if self._writing is not None and b"pass-word" in self.sent:
            raise self._writing

    def read(self) -> bytes:
        if self.answers:
            return self.answers.pop(0)
        if self._reading is not None:
            raise self._reading
        return b""


class Connection(httpcore2.NetworkStream):
    def __init__(self, network: Network) -> None:
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._network.read()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._network.write(buffer)

    def start_tls(self, *_arguments: Any, **_options: Any) -> httpcore2.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None

    def close(self) -> None:
        pass


class AsyncConnection(httpcore2.AsyncNetworkStream):
    def __init__(self, network: Network) -> None:
        self._network = network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._network.read()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._network.write(buffer)

    async def start_tls(self, *_arguments: Any, **_options: Any) -> httpcore2.AsyncNetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None

    async def aclose(self) -> None:
        pass


class Connections(httpcore2.NetworkBackend):
    def __init__(self, network: Network) -> None:
        self._network = network

    def connect_tcp(self, host: str, *_rest: Any, **_options: Any) -> httpcore2.NetworkStream:
        self._network.connect(host)
        return Connection(self._network)


class AsyncConnections(httpcore2.AsyncNetworkBackend):
    def __init__(self, network: Network) -> None:
        self._network = network

    async def connect_tcp(
        self, host: str, *_rest: Any, **_options: Any
    ) -> httpcore2.AsyncNetworkStream:
        self._network.connect(host)
        return AsyncConnection(self._network)


def answer(status: int, body: bytes, **headers: str) -> bytes:
    """The bytes of an answer whose length is said, unless another one is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"content-length": str(len(body)), **named}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + body


class Both(TestCase):
    """The same over the transport of threads and that of event loops."""

    CONFIGURATION = Configuration("https://gateway.example.com/base", Hidden(TOKEN))

    def on_a_thread(self, network: Network, request: Request) -> tuple[Response, bytes]:
        """What comes of a request, with the bytes of an answer that is open."""
        transport = HttpTransport(self.CONFIGURATION, Connections(network))
        self.addCleanup(transport.close)
        response, stream = transport.send(request)
        pieces = b""
        while stream is not None and (piece := stream.read()):
            pieces += piece
        return response, pieces

    def on_a_loop(self, network: Network, request: Request) -> tuple[Response, bytes]:
        async def main() -> tuple[Response, bytes]:
            transport = AsyncHttpTransport(self.CONFIGURATION, AsyncConnections(network))
            try:
                response, stream = await transport.send(request)
                pieces = b""
                while stream is not None and (piece := await stream.read()):
                    pieces += piece
                return response, pieces
            finally:
                await transport.close()

        return asyncio.run(main())

    @property
    def ways(self) -> list[Callable[[Network, Request], tuple[Response, bytes]]]:
        return [self.on_a_thread, self.on_a_loop]

    def test_what_is_sent(self) -> None:
        request = Request("PUT", "/v1/x", {"a": "1 2"}, Hidden(BODY), "application/octet-stream")
        for send in self.ways:
            network = Network(answer(201, b"{}"))
            response, _ = send(network, request)
            self.assertEqual((response.status, response.body), (201, b"{}"))
            head, _, body = network.sent.partition(b"\r\n\r\n")
            self.assertEqual(body == BODY, True)
            self.assertEqual(network.hosts, ["gateway.example.com"])
            first, *lines = head.decode().split("\r\n")
            self.assertEqual(first, "PUT /base/v1/x?a=1+2 HTTP/1.1")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            self.assertEqual(headers["host"], "gateway.example.com")
            self.assertEqual(headers["authorization"], f"bearer {TOKEN.lower()}")
            self.assertEqual(headers["content-length"], str(len(BODY)))
            self.assertEqual(headers["accept-encoding"], "identity")
            self.assertRegex(headers["user-agent"], "^holdfast-python/")
            self.assertNotIn("transfer-encoding", headers)

    def test_events_are_left_open_and_nothing_else(self) -> None:
        request = Request("GET", "/v1/x", is_stream=True)
        kind = {"content_type": "text/event-stream; charset=utf-8"}
        for status, headers, is_open in ((200, kind, True), (500, kind, False), (200, {}, False)):
            for send in self.ways:
                network = Network(answer(status, b"data: a\n\n", **headers))
                response, pieces = send(network, request)
                self.assertEqual((response.is_open, pieces != b""), (is_open, is_open))

    def test_redirects_are_not_followed(self) -> None:
        for send in self.ways:
            network = Network(answer(307, b"", location="https://elsewhere.example.com/"))
            response, _ = send(network, Request("GET", "/v1/x"))
            self.assertEqual(response.status, 307)
            self.assertEqual(network.hosts, ["gateway.example.com"])

    def test_failures(self) -> None:
        request = Request("PUT", "/v1/x", body=Hidden(BODY[:14]))
        for failing, connected in (
            ({"connecting": httpcore2.ConnectError("refused")}, False),
            ({"connecting": httpcore2.ConnectTimeout("")}, False),
            ({"reading": httpcore2.ReadTimeout("")}, True),
            ({"answers": [b"odd\r\n\r\n"]}, True),
            ({}, True),
            ({"reading": OSError("disk")}, True),
        ):
            for send in self.ways:
                options: dict[str, Any] = dict(failing)
                network = Network(*options.pop("answers", []), **options)
                found, shown = shown_by(holdfast.ConnectionFailed, send, network, request)
                self.assertEqual(found.connected, connected)
                self.assertIsNone(found.__context__)
                self.assertNotIn("pass-word", shown)
                self.assertNotIn(TOKEN, shown)

    def test_interrupts_while_a_body_is_written(self) -> None:
        request = Request("PUT", "/v1/x", body=Hidden(BODY[:14]))
        for error in (KeyboardInterrupt(), asyncio.CancelledError()):
            for send in self.ways:
                network = Network(writing=error)
                _, shown = shown_by(type(error), send, network, request)
                self.assertIn(b"pass-word", network.sent)
                self.assertIn("_transport.py", shown)
                self.assertNotIn("pass-word", shown)
                self.assertNotIn(TOKEN, shown)

    def test_an_answer_that_breaks_off(self) -> None:
        for headers in ({"content_type": "text/event-stream"}, {}):
            for send in self.ways:
                said = answer(200, b"data: a\n\n", content_length="99", **headers)
                network = Network(said, reading=httpcore2.ReadError("reset"))
                with self.assertRaisesRegex(holdfast.ConnectionFailed, "broke: reset"):
                    send(network, Request("GET", "/v1/x", is_stream=True))

    def test_an_answer_without_an_end(self) -> None:
        with mock.patch.object(_transport, "ANSWER_LIMIT_BYTES", 5):
            for send in self.ways:
                send(Network(answer(200, b"12345")), Request("GET", "/v1/x"))
                with self.assertRaisesRegex(holdfast.UnexpectedAnswer, "longer than 5"):
                    send(Network(answer(200, b"123456")), Request("GET", "/v1/x"))

    def test_a_connection_is_kept_when_the_answer_was_read(self) -> None:
        network = Network()
        transport = HttpTransport(self.CONFIGURATION, Connections(network))
        self.addCleanup(transport.close)
        for _ in range(2):
            network.answers.append(answer(200, b"{}"))
            transport.send(Request("GET", "/v1/x"))
        self.assertEqual(network.hosts, ["gateway.example.com"])


class Proxies(GatewayCase):
    def test_this_machine_is_not_asked_through_a_proxy(self) -> None:
        proxies = {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
        with mock.patch.dict("os.environ", proxies):
            transport = HttpTransport(Configuration(self.gateway.url, Hidden(TOKEN)))
            response, _ = transport.send(Request("GET", "/v1/tasks/none"))
            transport.close()
        self.assertEqual(response.status, 404)

    def hosts_for(self, gateway: str, **environment: str) -> Network:
        """Asks a gateway; what went over the network, to a proxy that lets everyone through."""
        with mock.patch.dict("os.environ", environment, clear=True):
            network = Network(b"HTTP/1.1 200 OK\r\n\r\n", answer(200, b"{}"))
            configuration = Configuration(gateway, Hidden(TOKEN))
            transport = HttpTransport(configuration, Connections(network))
            transport.send(Request("GET", "/v1/x"))
            transport.close()
        return network

    def test_others_are_asked_through_the_one_that_is_named(self) -> None:
        own = "gateway.example.com"
        for named, asked in (
            ({"HTTPS_PROXY": "http://one.example.com:3128"}, "one.example.com"),
            ({"https_proxy": "two.example.com:3128"}, "two.example.com"),
            ({"ALL_PROXY": "http://three.example.com:3128"}, "three.example.com"),
            ({"HTTP_PROXY": "http://four.example.com:3128"}, own),
            ({"HTTPS_PROXY": "http://five.example.com", "NO_PROXY": "example.com"}, own),
        ):
            network = self.hosts_for(f"https://{own}:7230", **named)
            self.assertEqual(network.hosts, [asked])
            is_through = network.sent.startswith(b"CONNECT gateway.example.com:7230 ")
            self.assertEqual(is_through, asked != own)
        name = "2001:db8::1"
        proxy = "http://six.example.com"
        network = self.hosts_for(f"https://[{name}]:7230", HTTPS_PROXY=proxy, NO_PROXY=name)
        self.assertEqual(network.hosts, [name])
        self.assertIn(b"Host: [2001:db8::1]:7230", network.sent)

    def test_a_proxy_sees_no_token(self) -> None:
        proxies = {"HTTP_PROXY": "http://a.example.com", "ALL_PROXY": "http://a.example.com"}
        network = self.hosts_for("http://gateway.example.com", **proxies)
        self.assertEqual(network.hosts, ["gateway.example.com"])
        network = self.hosts_for("https://gateway.example.com", **proxies)
        self.assertNotIn(TOKEN.encode(), network.sent.partition(b"\r\n\r\n")[0])

    def test_a_proxy_that_asks_who_is_there(self) -> None:
        proxy = "http://user:pass%20w%C3%B6rd@proxy.example.com:3128"
        network = self.hosts_for("https://gateway.example.com", HTTPS_PROXY=proxy)
        self.assertIn(b"Proxy-Authorization: Basic dXNlcjpwYXNzIHfDtnJk\r\n", network.sent)
        _, _, rest = network.sent.partition(b"\r\n\r\n")
        self.assertNotIn(b"Proxy-Authorization", rest)

    def test_a_proxy_of_another_kind(self) -> None:
        with self.assertRaisesRegex(holdfast.ConfigurationError, "none of http"):
            self.hosts_for("https://gateway.example.com", ALL_PROXY="socks5://u:pw@a.example.com")
