"""Arguments to bytes, and results and exceptions out of them: pickle or JSON, as the function says.

Loading a pickle runs what is in it, so a result is trusted as far as the container that made it.
`format="json"` is the way for those that are not.

The script is `__main__` here and a module by its file's name there. What it defines at its top is
sent by that name, and found here by it, so that both sides mean the same class: `isinstance`,
`except` and the members of an enum hold across. What has no such name is sent by value.
"""

from __future__ import annotations

import functools
import io
import json
import operator
import pickle
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, cast

from holdfast._exceptions import ArgumentsNotSendable, ResultNotReadable
from holdfast._place import MAIN_NAMES
from holdfast._text import size

ARGUMENTS_LIMIT_BYTES = 32 << 20
"""What a container takes."""


class SentByName:
    """What is pickled by its name, as functions and classes are."""

    __qualname__: str


def dump(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], payload_format: str, main: str | None
) -> bytes:
    """The arguments of a call."""
    encode = _to_json if payload_format == "json" else _to_pickle
    payload = encode({"args": args, "kwargs": dict(kwargs)}, main)
    if len(payload) > ARGUMENTS_LIMIT_BYTES:
        raise ArgumentsNotSendable(
            f"the arguments are {size(len(payload))}; at most {size(ARGUMENTS_LIMIT_BYTES)} are "
            "sent\nhint: put the data where the function can read it, and pass its place"
        )
    return payload


def load(payload: bytes, payload_format: str, main: str | None) -> Any:
    """What a function returned, or raised."""
    try:
        if payload_format == "json":
            return json.loads(payload)
        return _Unpickler(io.BytesIO(payload), main).load()
    except ModuleNotFoundError as error:
        raise ResultNotReadable(
            f"the function returned something of the module {error.name!r}, which is not here"
            '\nhint: install it, return plain data, or use format="json"'
        ) from error
    except Exception as error:
        raise ResultNotReadable(
            f"what the function returned cannot be loaded here: {type(error).__name__}: {error}"
        ) from error


def _to_json(value: object, _main: str | None) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentsNotSendable(
            f'format="json", and the arguments are no JSON: {error}'
        ) from error


def _to_pickle(value: object, main: str | None) -> bytes:
    written = io.BytesIO()
    try:
        _pickler()(written, main).dump(value)
    except Exception as error:
        raise ArgumentsNotSendable(
            f"the arguments cannot be pickled: {type(error).__name__}: {error}"
        ) from error
    return written.getvalue()


class _InContainer:
    """Pickles as something of a module, by the name that the module has in the container."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        from importlib import import_module

        return import_module, (self._module,)


@functools.cache
def _pickler() -> Callable[[io.BytesIO, str | None], Any]:
    """The class, made when it is first needed: `cloudpickle` takes a while to load."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def __init__(self, file: io.BytesIO, main: str | None) -> None:
            cast("Any", super()).__init__(file)
            self._main = main

        def reducer_override(self, obj: Any) -> Any:
            if self._main is not None and is_of_main(obj):
                # `import_module(main)` and then the attribute, in the container.
                return operator.attrgetter(obj.__qualname__), (_InContainer(self._main),)
            return cast("Any", super()).reducer_override(obj)

    return Pickler


def is_of_main(value: object) -> bool:
    """Whether something is defined at the top of the script, and is found there by its name."""
    if not isinstance(value, (type, FunctionType, SentByName)):
        return False
    module = sys.modules.get("__main__")
    if getattr(value, "__module__", None) not in MAIN_NAMES:
        return False
    found: object = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


class _Unpickler(pickle.Unpickler):
    """Finds what the container calls by the script's name in the script, and does not load it."""

    def __init__(self, file: io.BytesIO, main: str | None) -> None:
        super().__init__(file)
        self._main = main

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == self._main:
            try:
                return operator.attrgetter(global_name)(sys.modules["__main__"])
            except AttributeError:
                pass
        return super().find_class(module_name, global_name)
