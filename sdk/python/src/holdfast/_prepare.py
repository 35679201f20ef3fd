"""What comes before the first call of a function: its image, its code, its stub, each once.

Once for a process and a definition, whichever threads ask. What fails is tried again by the next
call. The code is sent as it is at the first call, and what is changed afterwards is not seen.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from typing import cast

from holdfast import _models, _requests
from holdfast._code import Code, pack
from holdfast._events import EventReader
from holdfast._exceptions import PythonVersionMismatch
from holdfast._hidden import Hidden
from holdfast._image import Image
from holdfast._options import Options
from holdfast._place import Place
from holdfast._retry import BUILDING, Pace, Retry, ask, persist, send
from holdfast._text import size
from holdfast._wire import Flow, Once, Progress, Request, Work


@dataclass(frozen=True, eq=False)
class Definition:
    """A function as the gateway is to know it."""

    name: str
    place: Place
    image: Image
    options: Options
    format: str


def own_python() -> str:
    """This Python's version, as far as pickles depend on it."""
    return "{}.{}".format(*sys.version_info[:2])


def prepare(pace: Pace, definition: Definition) -> Flow[str]:
    """The id of the function's stub."""
    made = yield Once(definition, lambda: _prepare(pace, definition))
    return cast("str", made)


def _prepare(pace: Pace, definition: Definition) -> Flow[str]:
    image, place = definition.image, definition.place
    built: _models.Built = yield Once(
        ("image", image.fingerprint()), lambda: build_image(pace, image)
    )
    if definition.format == "pickle":
        check_python(built)
    code: Code = yield Once(("code", place.root), lambda: upload(pace, place.root))
    stub = {
        "name": definition.name,
        "image": built.id,
        "code": code.digest,
        "handler": place.handler,
        **definition.options.as_json(),
    }
    body = Hidden(json.dumps(stub, separators=(",", ":")).encode("utf-8"))
    del stub
    key = ("stub", hashlib.sha256(body.reveal()).digest())
    made = yield Once(key, lambda: create_stub(pace, body))
    return cast("str", made)


def check_python(built: _models.Built) -> None:
    """Refuses an image that could not read what this Python pickles, before anything is sent."""
    theirs = ".".join(built.python_version.split(".")[:2])
    if theirs != own_python():
        raise PythonVersionMismatch(
            f"this is Python {platform.python_version()}, {built.reference} has "
            f"{built.python_version}, and pickles do not pass between the two\nhint: use an image "
            f'with Python {own_python()}, call from Python {theirs}, or use format="json"'
        )


def build_image(pace: Pace, image: Image) -> Flow[_models.Built]:
    """Has the gateway check and build an image, and shows what it says meanwhile."""
    request = _requests.build_image(
        image.base_image, image.credential, image.environment, image.python
    )
    retry = Retry(pace, BUILDING)
    said: set[str] = set()

    def attempt() -> Flow[_models.Built]:
        # A build goes on when nobody listens to it, and the same request finds it again.
        return _follow_build(retry, said, request, f"image {image.base_image}")

    return (yield from persist(retry, attempt, request.is_repeatable))


def _follow_build(
    retry: Retry, said: set[str], request: Request, what: str
) -> Flow[_models.Built]:
    """`said` is what was said of the build so far: that which never was is an advance."""
    yield Progress(what)
    events = EventReader((yield from ask(request)))
    while True:
        kind, found = yield from events.next()
        retry.reached()
        if kind == "image":
            yield from events.finish()
            return _models.built(found)
        if kind == "progress":
            message = found.text("message")
            if message not in said:
                said.add(message)
                retry.advanced()
            yield Progress(f"{what}: {message}")


def upload(pace: Pace, root: str) -> Flow[Code]:
    """Packs a directory, and sends it unless it is there already."""
    code: Code = yield Work(lambda: pack(root))
    known = yield from send(pace, _requests.has_object(code.digest), also=(404,))
    if known.status == 404:
        yield Progress(f"code: {code.files} files, {size(len(code.archive))}")
        yield from send(pace, _requests.put_object(code.digest, code.archive))
    return Code(code.digest, b"", code.files)


def create_stub(pace: Pace, definition: Hidden[bytes]) -> Flow[str]:
    """Has the gateway know a function."""
    response = yield from send(pace, _requests.create_stub(definition))
    return _models.fields("stub", response.body).text("id")
