"""The routes of the gateway of the tests: one request, one answer, as the HTTP API has it."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from fake_tasks import DEADLINE_S, Task

if TYPE_CHECKING:
    from fake_gateway import FakeGateway, Fault

TOKEN = "hf_test-token-0123456789"

FIELDS = {
    "/v1/images": {"base_image", "credential", "environment", "python"},
    "/v1/stubs": {
        *("name", "image", "code", "handler", "environment", "secrets", "cpu_millicores"),
        *("memory_bytes", "timeout_ms", "retries", "concurrency", "keep_warm_ms"),
        *("max_containers", "max_pending"),
    },
    "tasks": {"idempotency_key", "format", "payload", "python", "headless"},
}
"""What a request has: no field more, and none less."""


class Break(Exception):
    """Has the connection end here, without the end of the answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    gateway: "FakeGateway"
    timeout = DEADLINE_S

    def setup(self) -> None:
        super().setup()
        with self.gateway.lock:
            self.gateway.connections += 1

    def log_message(self, *_arguments: object) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.gateway.record(self.command, parts.path, self.headers)
        self.is_muted = fault is not None and fault.after
        try:
            if fault is None or fault.after:
                self._route(parts.path, query)
            if fault is not None:
                self._fault(fault)
        except (Break, OSError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _fault(self, fault: "Fault") -> None:
        self.is_muted = False
        if fault.status == 0:
            raise Break
        error = fault.error or {"kind": "internal", "message": "a fault", "hint": None}
        body = fault.body or json.dumps({"error": error}).encode()
        self._send(fault.status, body, fault.headers)

    def _route(self, path: str, query: dict) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._error(401, "unauthenticated", "the token is not known")
        method, gateway = self.command, self.gateway
        if (method, path) == ("POST", "/v1/images"):
            return self._image()
        if (method, path) == ("POST", "/v1/stubs"):
            return self._stub()
        found = re.fullmatch(r"/v1/objects/(sha256:[0-9a-f]{64})", path)
        if found is not None:
            return self._object(found[1])
        found = re.fullmatch(r"/v1/stubs/([^/]+)/tasks", path)
        if found is not None and method == "POST":
            stub = gateway.stubs.get(found[1])
            if stub is None:
                return self._error(404, "not_found", "there is no such stub")
            task = gateway.start(stub, self._body("tasks"))
            if self.headers["Accept"] == "text/event-stream":
                return self._events(task, 0)
            return self._json(202, task.as_json())
        found = re.fullmatch(r"/v1/tasks/([^/]+)(/events|/cancel|)", path)
        task = gateway.tasks.get(found[1]) if found is not None else None
        if found is None or task is None:
            return self._error(404, "not_found", "there is no such thing")
        if found[2] == "/events":
            return self._events(task, int(query["offset"]))
        if found[2] == "/cancel":
            task.cancel()
        task.wait_ended(int(query.get("wait_ms", 0)) / 1000)
        return self._json(200, task.as_json())

    def _image(self) -> None:
        image = self._body("/v1/images")
        self.gateway.images.append(image)
        made = {
            "id": "sha256:" + hashlib.sha256(self.content).hexdigest(),
            "reference": image["base_image"],
            "manifest_digest": "sha256:" + "0" * 64,
            "python": {"program": image["python"], "version": self.gateway.python_version},
        }
        events = self.gateway.image_events or [("progress", {"message": "reading layer 1 of 2"})]
        hold = self.gateway.image_hold
        if hold is not None:
            hold.wait(DEADLINE_S)
        self._begin_events()
        for kind, data in [*events, ("image", made)]:
            self._event(kind, data)
            if kind == "error":
                break
        self._end_events()

    def _object(self, digest: str) -> None:
        objects = self.gateway.objects
        if self.command == "PUT":
            if digest != "sha256:" + hashlib.sha256(self.content).hexdigest():
                return self._error(400, "invalid", "the digest is another one")
            objects[digest] = self.content
        if digest not in objects:
            return self._error(404, "not_found", "there is no such object")
        return self._json(200, {"digest": digest, "size_bytes": len(objects[digest])})

    def _stub(self) -> None:
        stub = self._body("/v1/stubs")
        gateway = self.gateway
        with gateway.lock:
            for known in gateway.stubs.values():
                if {**known, "id": None} == {**stub, "id": None}:
                    return self._json(200, known)
            stub["id"] = gateway.new_id("stub")
            gateway.stubs[stub["id"]] = stub
        return self._json(200, stub)

    def _events(self, task: Task, offset: int) -> None:
        with self.gateway.lock:
            left = self.gateway.breaks.pop(0) if self.gateway.breaks else None
        self._begin_events()
        self._event("task", task.as_json(with_end=False))
        shown = 0
        while not self.gateway.closing.is_set():
            with task.changed:
                pieces = task.output[shown:]
                shown += len(pieces)
                end = task.end
            for piece in pieces:
                if piece["offset"] <= offset:
                    continue
                if left == 0:
                    raise Break
                left = None if left is None else left - 1
                self._event("output", piece)
            if left == 0:
                raise Break
            with task.changed:
                if end is not None and shown == len(task.output):
                    break
                task.wait_more(shown)
        self._event("end", {"id": task.id, **(task.end or {})})
        self._end_events()

    def _body(self, what: str) -> dict:
        body = json.loads(self.content)
        if set(body) != FIELDS[what]:
            odd = sorted(set(body) ^ FIELDS[what])
            self._error(400, "invalid", f"fields that should not be, or should: {odd}")
            raise Break
        return body

    def _begin_events(self) -> None:
        if self.is_muted:
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _event(self, kind: str, data: dict) -> None:
        self._chunk(f": a comment\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode())

    def _end_events(self) -> None:
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        if not self.is_muted:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _json(self, status: int, value: dict) -> None:
        self._send(status, json.dumps(value).encode(), {})

    def _error(self, status: int, kind: str, message: str) -> None:
        error = {"kind": kind, "message": message, "hint": None}
        self._json(status, {"error": error})

    def _send(self, status: int, body: bytes, headers: dict) -> None:
        if self.is_muted:
            return
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
