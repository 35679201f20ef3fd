"""What worker and runner say, as headers: what the worker may send is checked here, once.

The shapes are those of PROTOCOL.md. Past this file a message has every field that it should, and
no other, and each is of the type that it should be. Payloads are left to `payloads`.
"""

import json
from types import SimpleNamespace

from holdfast_runner import framing
from holdfast_runner.framing import Malformed

VERSION = 1

ATTEMPT_LIMIT_BYTES = 128
"""An attempt's id comes back in headers that are filled up to their limit with a traceback."""

NONCE_DIGITS = 32


def _text(value) -> bool:
    return isinstance(value, str)


def _text_or_null(value) -> bool:
    return value is None or isinstance(value, str)


def _count(value) -> bool:
    return type(value) is int and value >= 0


def _positive(value) -> bool:
    return type(value) is int and value > 0


def _version(value) -> bool:
    return type(value) is int and value == VERSION


def _attempt(value) -> bool:
    return _text(value) and 0 < len(value.encode("utf-8")) <= ATTEMPT_LIMIT_BYTES


def _nonce(value) -> bool:
    return _text(value) and len(value) == NONCE_DIGITS and not set(value) - set("0123456789abcdef")


def _format(value) -> bool:
    return value in ("pickle", "json")


def _environment(value) -> bool:
    return isinstance(value, dict) and all(_text(text) for text in value.values())


def _limits(value) -> bool:
    names = {"code_entries", "code_bytes", "result_bytes"}
    return isinstance(value, dict) and set(value) == names and all(map(_count, value.values()))


SHAPES = {
    "setup": {
        "version": _version,
        "handler": _text,
        "code": _text_or_null,
        "code_dir": _text,
        "limits": _limits,
        "environment": _environment,
        "concurrency": _positive,
    },
    "call": {
        "attempt": _attempt,
        "nonce": _nonce,
        "task": _text,
        "format": _format,
        "python": _text_or_null,
    },
    "cancel": {"attempt": _attempt},
    "stop": {},
}


def encode(header: dict) -> bytes:
    """A header of ours as bytes; it is the caller's to keep it within the limit."""
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def receive(descriptor: int) -> SimpleNamespace:
    """Waits for a message of the worker; its fields, `type` and `payload` are attributes."""
    header, payload = framing.read(descriptor)
    return parse(header, payload)


def parse(header: bytes, payload: bytes) -> SimpleNamespace:
    """Makes a message of a frame, or refuses it without repeating what was in it."""
    try:
        fields = json.loads(header.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Malformed("a header that is not JSON in UTF-8") from error
    kind = fields.pop("type", None) if isinstance(fields, dict) else None
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise Malformed("a message of no known type")
    if set(fields) != set(shape):
        raise Malformed("a %s with other fields than it has" % kind)
    for name, is_right in shape.items():
        try:
            right = is_right(fields[name])
        except ValueError:
            # Lone surrogates are JSON, but no UTF-8.
            right = False
        if not right:
            raise Malformed("a %s whose %s is not what it should be" % (kind, name))
    if payload and kind != "call":
        raise Malformed("a %s with a payload" % kind)
    return SimpleNamespace(type=kind, payload=payload, **fields)
