"""The requests of the gateway's HTTP API that this package makes, each in one place.

    POST /v1/images                    events: progress* (image | error)
    HEAD /v1/objects/{digest}          200 | 404
    PUT  /v1/objects/{digest}          the code
    POST /v1/stubs                     a function's definition; the same gives the same
    POST /v1/stubs/{id}/tasks          a call: events, or the task at once
    GET  /v1/tasks/{id}                the task, or the task when it has ended
    GET  /v1/tasks/{id}/events         events: (task | output)* (end | error)
    POST /v1/tasks/{id}/cancel         the task, when it has ended

All of them may be sent twice: images, objects and stubs are what they say they are, cancelling a
cancelled task does nothing, and a call has a key of its own by which the gateway knows it again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast._hidden import Hidden
from holdfast._wire import ANSWER_TIMEOUT_S, EVENTS_TIMEOUT_S, Request

WAIT_LIMIT_S = 50.0
"""For one answer that waits for a task; the gateway waits for up to 60 s."""


@dataclass(frozen=True)
class Submission:
    """One call, ready to be sent."""

    key: str
    """Known to the gateway from then on, so that a call that is sent twice runs once."""

    format: str
    payload: bytes = field(repr=False)
    python: str | None
    is_headless: bool
    """Whether it runs on when nobody listens."""


def build_image(
    base_image: str,
    credential: Hidden[Mapping[str, str]] | None,
    environment: Hidden[Mapping[str, str]],
    python: str,
) -> Request:
    # One expression, so that no variable of this function holds the credential in the clear.
    return _post(
        "/v1/images",
        Hidden(
            _json(
                {
                    "base_image": base_image,
                    "credential": None if credential is None else dict(credential.reveal()),
                    "environment": dict(environment.reveal()),
                    "python": python,
                }
            )
        ),
        is_stream=True,
    )


def has_object(digest: str) -> Request:
    return Request("HEAD", f"/v1/objects/{digest}", is_repeatable=True)


def put_object(digest: str, content: bytes) -> Request:
    return Request(
        "PUT",
        f"/v1/objects/{digest}",
        body=Hidden(content),
        content_type="application/octet-stream",
        is_repeatable=True,
    )


def create_stub(definition: Hidden[bytes]) -> Request:
    return _post("/v1/stubs", definition)


def start_task(stub_id: str, call: Submission, is_stream: bool) -> Request:
    body = _json(
        {
            "idempotency_key": call.key,
            "format": call.format,
            "payload": base64.b64encode(call.payload).decode("ascii"),
            "python": call.python,
            "headless": call.is_headless,
        }
    )
    return _post(f"/v1/stubs/{stub_id}/tasks", Hidden(body), is_stream=is_stream)


def task_events(task_id: str, offset_bytes: int) -> Request:
    return Request(
        "GET",
        f"/v1/tasks/{task_id}/events",
        query={"offset": str(offset_bytes)},
        is_stream=True,
        timeout_s=EVENTS_TIMEOUT_S,
        is_repeatable=True,
    )


def get_task(task_id: str, wait_s: float) -> Request:
    return Request(
        "GET",
        f"/v1/tasks/{task_id}",
        query={"wait_ms": str(round(wait_s * 1000))} if wait_s else {},
        timeout_s=wait_s + ANSWER_TIMEOUT_S,
        is_repeatable=True,
    )


def cancel_task(task_id: str, wait_s: float) -> Request:
    return Request(
        "POST",
        f"/v1/tasks/{task_id}/cancel",
        query={"wait_ms": str(round(wait_s * 1000))},
        timeout_s=wait_s + 1.0,
        is_repeatable=True,
    )


def _post(path: str, body: Hidden[bytes], is_stream: bool = False) -> Request:
    timeout_s = EVENTS_TIMEOUT_S if is_stream else ANSWER_TIMEOUT_S
    return Request(
        "POST", path, body=body, is_stream=is_stream, timeout_s=timeout_s, is_repeatable=True
    )


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
