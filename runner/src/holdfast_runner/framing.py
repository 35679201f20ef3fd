"""Frames on the socket: two lengths, a header, a payload. PROTOCOL.md draws it.

Owns lengths and their limits. Does not know what a header says, and imports nothing but `os`,
since hello is sent through it before anything else is loaded.
"""

import os

HEADER_LIMIT_BYTES = 65536
"""A header holds names, limits and a traceback; a longer one is a mistake or an attack."""

PAYLOAD_LIMIT_BYTES = 33554432
"""32 MiB: arguments and results are held in memory on both sides, several at a time."""

READ_BYTES = 262144
"""More than a socket's buffer usually holds, so that a long payload takes few reads."""

LENGTH_BYTES = 4


class Closed(Exception):
    """The worker's end is gone, between frames or inside one."""


class Malformed(Exception):
    """The worker sent what the protocol has no meaning for."""


def write(descriptor: int, header: bytes, payload: bytes = b"") -> None:
    """Writes one frame, waiting for as long as the worker does not read."""
    if len(header) > HEADER_LIMIT_BYTES or len(payload) > PAYLOAD_LIMIT_BYTES:
        raise ValueError("a frame of %d and %d bytes is too long" % (len(header), len(payload)))
    lengths = _length(len(header)) + _length(len(payload))
    # Together: the worker is woken by each part that comes alone.
    _write_fully(descriptor, [memoryview(lengths + header), memoryview(payload)])


def read(descriptor: int):
    """Reads one frame: header and payload, neither looked into."""
    lengths = _read_fully(descriptor, 2 * LENGTH_BYTES)
    header_bytes = int.from_bytes(lengths[:LENGTH_BYTES], "little")
    payload_bytes = int.from_bytes(lengths[LENGTH_BYTES:], "little")
    if not 0 < header_bytes <= HEADER_LIMIT_BYTES:
        raise Malformed("a header of %d bytes" % header_bytes)
    if payload_bytes > PAYLOAD_LIMIT_BYTES:
        raise Malformed("a payload of %d bytes" % payload_bytes)
    return _read_fully(descriptor, header_bytes), _read_fully(descriptor, payload_bytes)


def _length(length_bytes: int) -> bytes:
    return length_bytes.to_bytes(LENGTH_BYTES, "little")


def _write_fully(descriptor: int, parts: list) -> None:
    try:
        while parts:
            written_bytes = os.writev(descriptor, parts)
            while parts and written_bytes >= len(parts[0]):
                written_bytes -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][written_bytes:]
    except ConnectionError as error:
        raise Closed from error


def _read_fully(descriptor: int, length_bytes: int) -> bytearray:
    received = bytearray()
    while len(received) < length_bytes:
        try:
            piece = os.read(descriptor, min(length_bytes - len(received), READ_BYTES))
        except ConnectionError as error:
            raise Closed from error
        if not piece:
            raise Closed
        received += piece
    return received
