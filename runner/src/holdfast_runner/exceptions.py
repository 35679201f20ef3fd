"""Exceptions as data: type, module, message and traceback as text that fits into a header.

Everything about an exception may be hostile or merely broken: its class, its text, its chain. Each
piece is taken with a substitute at hand, and cut so that all of them together fit. Frames of the
runner itself are left out, so that users see their own code alone.
"""

import json
import os
import traceback

NAME_LIMIT_BYTES = 512
MESSAGE_LIMIT_BYTES = 8192
TRACEBACK_LIMIT_BYTES = 49152
"""With two names and a message, 57 KiB of the 64 KiB of a header; ids need far less than the
rest. All are lengths as JSON, in which some characters take six bytes."""

FRAMES_LIMIT = 256
"""The innermost frames that are looked at; a recursion may have a million."""

SHORTENING_STEP = 64
"""Characters that are dropped beyond what a proportion says, so that shortening soon ends."""

OWN_FILES = os.path.dirname(os.path.dirname(__file__)) + os.sep
LOADER_FILES = ("<frozen importlib", "<frozen zipimport")


def describe(error: BaseException) -> dict:
    """The `exception` of a header."""
    kind = type(error)
    return {
        "type": fit(_text(lambda: kind.__qualname__, "Exception"), NAME_LIMIT_BYTES),
        "module": fit(_text(lambda: kind.__module__, "builtins"), NAME_LIMIT_BYTES),
        "message": fit(_text(lambda: str(error), "(its text cannot be made)"), MESSAGE_LIMIT_BYTES),
        "traceback": fit(
            _text(lambda: _traceback(error), "(its traceback cannot be made)"),
            TRACEBACK_LIMIT_BYTES,
        ),
    }


def type_name(value) -> str:
    """The type of a value, for a message."""
    kind = type(value)
    module = _text(lambda: kind.__module__, "builtins")
    name = _text(lambda: kind.__qualname__, "object")
    return name if module == "builtins" else module + "." + name


def fit(text: str, limit_bytes: int) -> str:
    """Cuts the middle out of a text so that it is no longer than that as JSON."""
    room = min(len(text), limit_bytes)
    while True:
        # Lone surrogates, which strings of Python may hold, are no JSON that others read.
        shortened = _shorten(text, room).encode("utf-8", "backslashreplace").decode("utf-8")
        length_bytes = len(json.dumps(shortened, ensure_ascii=False).encode("utf-8"))
        if length_bytes <= limit_bytes:
            return shortened
        room = max(room * limit_bytes // length_bytes - SHORTENING_STEP, 0)


def _shorten(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    half = room // 2
    left_out = len(text) - 2 * half
    return "%s… %d characters left out …%s" % (text[:half], left_out, text[len(text) - half :])


def _text(make, substitute: str) -> str:
    try:
        # Not `str(…)`: a subclass may have its own idea of that, too.
        return str.__str__(make())
    except BaseException:
        return substitute


def _traceback(error: BaseException) -> str:
    summary = traceback.TracebackException(
        type(error), error, error.__traceback__, limit=-FRAMES_LIMIT, lookup_lines=False
    )
    pending, seen = [summary], set()
    while pending:
        link = pending.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        link.stack[:] = [frame for frame in link.stack if not _is_own(frame.filename)]
        # Exceptions in a group are linked, too, where Python has groups.
        pending += (link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ()))
    return "".join(summary.format())


def _is_own(file_name: str) -> bool:
    return file_name.startswith(OWN_FILES) or file_name.startswith(LOADER_FILES)
