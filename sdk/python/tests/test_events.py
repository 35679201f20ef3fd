"""The parser of server-sent events: tables, and streams made at random against a plain reading."""

import os
import random
import unittest

from holdfast._events import Event, EventParser, EventReader
from holdfast._exceptions import UnexpectedAnswer
from holdfast._wire import Response

LIMIT_BYTES = 1000

TABLE = [
    (b"data: a\n\n", [("message", "a")]),
    (b"event: x\ndata: a\ndata:b\ndata\n\n", [("x", "a\nb\n")]),
    (b"data:  two spaces\n\n", [("message", " two spaces")]),
    (b"event: x\n\ndata: a\n\n", [("message", "a")]),
    (b": comment\n\n:\n\ndata: a\r\rdata: b\r\n\r\n", [("message", "a"), ("message", "b")]),
    (b"id: 1\nretry: 2\nother: 3\ndata: a\n\n", [("message", "a")]),
    (b"data: not ended\n", []),
    (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a")]),
    (b"data: \xff\n\n", [("message", "\ufffd")]),
    (b"data: a\r\n\n\r\ndata: b\r\n\r\n", [("message", "a"), ("message", "b")]),
    (b"data: \n\n", [("message", "")]),
]


def whole(stream: bytes) -> list[Event]:
    """A plain reading of a stream that is there as a whole."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events = []
    for block in text.split(b"\n\n")[:-1]:
        kind, data = "", []
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"event":
                kind = value.decode()
            elif name == b"data":
                data.append(value)
        if data:
            events.append(Event(kind or "message", b"\n".join(data).decode()))
    return events


class Parser(unittest.TestCase):
    def test_table(self) -> None:
        for stream, expected in TABLE:
            for size in (1, 2, 3, 1000):
                with self.subTest(stream=stream, size=size):
                    self.assertEqual(in_pieces(stream, lambda: size), expected)  # noqa: B023

    def test_any_stream_in_any_pieces(self) -> None:
        seed = int(os.environ.get("HOLDFAST_TEST_SEED") or random.randrange(1 << 32))
        chance = random.Random(seed)
        for _ in range(400):
            stream = a_stream(chance)
            with self.subTest(seed=seed, stream=stream):
                found = in_pieces(stream, lambda: chance.randint(0, 9))
                self.assertEqual(found, whole(stream))

    def test_bytes_at_random_raise_nothing_else(self) -> None:
        seed = int(os.environ.get("HOLDFAST_TEST_SEED") or random.randrange(1 << 32))
        chance = random.Random(seed)
        for _ in range(300):
            stream = bytes(chance.choice(b"\r\n:data event\xff\xef\xbb\xbf") for _ in range(60))
            with self.subTest(seed=seed, stream=stream):
                one = in_pieces(stream, lambda: 1)
                self.assertEqual(in_pieces(stream, lambda: 7), one)

    def test_limits(self) -> None:
        for stream in (b"data: " + b"a" * 2000, b"data: aaaaaaaa\n" * 200, b"a" * 2000):
            with self.assertRaises(UnexpectedAnswer):
                in_pieces(stream, lambda: 50)
        many = b"data: aaaaaaaa\n\n" * 200
        self.assertEqual(len(in_pieces(many, lambda: 50)), 200)

    def test_long_lines_are_not_searched_again_and_again(self) -> None:
        parser = EventParser(1 << 24)
        parser.feed(b"data: ")
        for _ in range(2000):
            parser.feed(b"a" * 4000)
        self.assertEqual(len(parser.feed(b"\n\n")[0].data), 8_000_000)

    def test_only_events_are_read_as_such(self) -> None:
        with self.assertRaises(UnexpectedAnswer):
            EventReader(Response(200, {}, b"{}"))


def in_pieces(stream: bytes, size: object) -> list[Event]:
    parser, events, start = EventParser(LIMIT_BYTES), [], 0
    while start < len(stream):
        length = size()
        events += parser.feed(stream[start : start + length])
        start += length
    return events


def a_stream(chance: random.Random) -> bytes:
    """Events with line ends of all sorts, each line with its own."""
    lines: list[bytes] = []
    for _ in range(chance.randint(0, 5)):
        if chance.random() < 0.5:
            lines.append(b"event:" + chance.choice([b"", b" output", b" end"]))
        for _ in range(chance.randint(0, 3)):
            value = bytes(chance.choice(b"a :{}") for _ in range(chance.randint(0, 12)))
            lines.append(b"data:" + value)
        if chance.random() < 0.3:
            lines.append(b": " + "ä".encode())
        lines.append(b"")
    # A line that ends with CR alone, and then LF, would be one end and not two.
    ends = [chance.choice([b"\r\n", b"\n", b"\r"]) for _ in lines]
    for index, line in enumerate(lines[1:], 1):
        if not line and ends[index - 1] == b"\r":
            ends[index] = b"\r"
    return b"".join(line + end for line, end in zip(lines, ends, strict=True))
