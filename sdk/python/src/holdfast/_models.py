"""What the gateway answers, parsed: past this file an answer has the fields that it should.

Fields that are not known are left alone, so that a newer gateway may say more.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, cast

from holdfast._exceptions import (
    GATEWAY_ERRORS,
    GatewayError,
    InternalError,
    InvalidRequest,
    UnexpectedAnswer,
)

OUTCOMES = (
    "returned",
    "raised",
    "cancelled",
    "timed-out",
    "expired",
    "died",
    "lost",
    "not-started",
)


@dataclass(frozen=True)
class Failure:
    """An exception as data."""

    type: str
    module: str
    message: str
    traceback: str


@dataclass(frozen=True)
class End:
    """How a task ended."""

    outcome: str
    format: str
    payload: bytes | None = field(repr=False)
    failure: Failure | None


@dataclass(frozen=True)
class Task:
    """One call, as the gateway knows it."""

    id: str
    state: str
    end: End | None


@dataclass(frozen=True)
class Built:
    """An image that is ready to run."""

    id: str
    reference: str
    python_version: str


@dataclass(frozen=True)
class Printed:
    """A piece of what a task printed, and where in all of it the piece ends."""

    stream: str
    text: str
    end_bytes: int


class Fields:
    """The fields of an object of the gateway's; what is not as it should be is an error by name."""

    def __init__(self, what: str, value: object) -> None:
        if not isinstance(value, dict):
            raise UnexpectedAnswer(f"the gateway's {what} is no object")
        self._what = what
        self._value = cast("dict[str, Any]", value)

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str):
            raise self._wrong(name)
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self._value.get(name) is None else self.text(name)

    def count(self, name: str) -> int:
        value = self._value.get(name)
        if type(value) is not int or value < 0:
            raise self._wrong(name)
        return value

    def object(self, name: str) -> Fields:
        return Fields(f"{self._what}.{name}", self._value.get(name))

    def object_or_none(self, name: str) -> Fields | None:
        return None if self._value.get(name) is None else self.object(name)

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in choices:
            raise self._wrong(name)
        return value

    def _wrong(self, name: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"the gateway's {self._what} has no {name} as it should")


def fields(what: str, body: bytes | str) -> Fields:
    """The fields of a JSON text."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise UnexpectedAnswer(f"the gateway's {what} is no JSON") from None
    return Fields(what, value)


def task(found: Fields) -> Task:
    end_fields = found.object_or_none("end")
    return Task(
        id=found.text("id"),
        state=found.one_of("state", ("pending", "running", "ended")),
        end=None if end_fields is None else end(end_fields),
    )


def end(found: Fields) -> End:
    payload = found.text_or_none("payload")
    failure = found.object_or_none("failure")
    return End(
        outcome=found.one_of("outcome", OUTCOMES),
        format=found.one_of("format", ("pickle", "json")),
        payload=None if payload is None else _decoded(payload),
        failure=None if failure is None else _failure(failure),
    )


def built(found: Fields) -> Built:
    return Built(
        id=found.text("id"),
        reference=found.text("reference"),
        python_version=found.object("python").text("version"),
    )


def printed(found: Fields) -> Printed:
    return Printed(
        stream=found.one_of("stream", ("stdout", "stderr")),
        text=found.text("text"),
        end_bytes=found.count("offset"),
    )


def refusal(found: Fields, status: int, retry_after_s: float | None) -> GatewayError:
    """An error of the gateway's, as an exception. Kinds that are not known are by their status."""
    kind = GATEWAY_ERRORS.get(found.text("kind"))
    if kind is None:
        kind = InvalidRequest if 400 <= status < 500 else InternalError
    return kind(
        found.text("message"),
        found.text_or_none("hint"),
        status=status,
        retry_after_s=retry_after_s,
    )


def _failure(found: Fields) -> Failure:
    return Failure(
        type=found.text("type"),
        module=found.text("module"),
        message=found.text("message"),
        traceback=found.text("traceback"),
    )


def _decoded(payload: str) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise UnexpectedAnswer("the gateway's payload is no base64") from None
