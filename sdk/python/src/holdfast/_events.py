"""Server-sent events out of bytes, as the HTML standard has them, with a limit.

    event: output                 a field: name, colon, one space that does not count, value
    data: {"stream": "stdout"}    several of `data` are joined by line feeds
    : keep-alive                  a comment
                                  an empty line: the event is whole

A line ends with LF, CR or both. An event without `data`, and one that its stream breaks off, is
none. `id` and `retry` are read past: our streams are resumed by an offset of their own.

`EventParser` is bytes to events; `EventReader` is the flow that reads the bytes.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from holdfast._exceptions import ConnectionFailed, UnexpectedAnswer
from holdfast._models import Fields, fields, refusal
from holdfast._wire import ANSWER_LIMIT_BYTES, Close, Flow, Read, Response

LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event; its data is as it was sent, for who knows the type."""

    type: str
    data: str


class EventParser:
    """Takes the bytes of one stream piece by piece, and gives the events that they end."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._unread = bytearray()
        self._searched_bytes = 0
        self._is_first_line = True
        self._after_cr = False
        self._type = ""
        self._data: list[bytes] = []
        self._event_bytes = 0

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are whole with this piece."""
        if self._after_cr and piece:
            # The other half of a line end whose first half has ended a line already.
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        self._unread += piece
        events: list[Event] = []
        start = 0
        for line_end in LINE_END.finditer(self._unread, self._searched_bytes):
            event = self._take_line(bytes(self._unread[start : line_end.start()]))
            start = line_end.end()
            self._after_cr = line_end.group() == b"\r" and start == len(self._unread)
            if event is not None:
                events.append(event)
        del self._unread[:start]
        # A long line comes in many pieces, and each is searched once.
        self._searched_bytes = len(self._unread)
        if self._event_bytes + len(self._unread) > self._limit_bytes:
            raise UnexpectedAnswer(f"the gateway sent an event of over {self._limit_bytes} bytes")
        return events

    def _take_line(self, line: bytes) -> Event | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"data":
            self._data.append(value)
            self._event_bytes += len(value) + 1
        return None

    def _end_event(self) -> Event | None:
        kind, data = self._type, self._data
        self._type, self._data, self._event_bytes = "", [], 0
        if not data:
            return None
        return Event(kind or "message", b"\n".join(data).decode("utf-8", "replace"))


class EventReader:
    """The events of an answer that is open."""

    def __init__(self, response: Response) -> None:
        if not response.is_open:
            raise UnexpectedAnswer("the gateway was asked for events, and answered otherwise")
        self._status = response.status
        self._parser = EventParser(ANSWER_LIMIT_BYTES)
        self._events: deque[Event] = deque()

    def next(self) -> Flow[tuple[str, Fields]]:
        """Waits for the next event: its type and its fields. One that says `error` is raised."""
        while not self._events:
            piece: bytes = yield Read()
            if not piece:
                raise ConnectionFailed("the gateway ended a stream of events before it was done")
            self._events += self._parser.feed(piece)
        event = self._events.popleft()
        found = fields(event.type, event.data)
        if event.type == "error":
            raise refusal(found, self._status, None)
        return event.type, found

    def finish(self) -> Flow[None]:
        """Reads the end of a stream whose last event has come, so that its connection stays."""
        try:
            piece: bytes = yield Read()
        except ConnectionFailed:
            return
        if piece:
            yield Close()
