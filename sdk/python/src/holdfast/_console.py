"""What is shown while a caller waits: what the function prints, and what is being done.

Output goes to this process's own stdout and stderr, as they are at that moment, as it comes.
Progress goes to stderr: one line that is written over where that is a terminal, and elsewhere a
line when something goes wrong that is tried again. HOLDFAST_PROGRESS=1 asks for all of it as plain
lines, HOLDFAST_PROGRESS=0 is quiet everywhere.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from typing import TextIO

from holdfast._text import one_line
from holdfast._wire import Notice, Output, Progress

PLAIN_LIMIT_CHARACTERS = 500
HELD_LIMIT_CHARACTERS = 8192
"""Of a line that has no end yet, before it is shown without."""

ERASE_LINE = "\r\x1b[K"

logger = logging.getLogger("holdfast")


class Console:
    """Where it is shown; calls of several threads do not cut each other's lines of progress."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._last = ""
        self._is_shown = False

    def show(self, shown: Output | Progress | Notice) -> None:
        if isinstance(shown, Output):
            self.output(shown)
        elif isinstance(shown, Progress):
            self.progress(shown.message, shown.is_trouble)
        else:
            self.progress(None)
            logger.warning("%s", shown.message)

    def output(self, output: Output) -> None:
        """Writes a piece of a function's output, unchanged."""
        with self._lock:
            self._erase()
            stream = sys.stderr if output.stream == "stderr" else sys.stdout
            try:
                stream.write(output.text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(output.text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def progress(self, message: str | None, is_trouble: bool = False) -> None:
        """Says what is being done, or nothing more of it."""
        mode = self._environment.get("HOLDFAST_PROGRESS", "")
        stream = sys.stderr
        if mode == "0" or stream is None:  # pyright: ignore[reportUnnecessaryComparison]
            return
        with self._lock:
            if message is None:
                self._erase()
                self._last = ""
            elif _is_terminal(stream):
                width = shutil.get_terminal_size().columns - 1
                line = one_line(message, PLAIN_LIMIT_CHARACTERS)
                # Without a color or a spinner: it is there for a moment.
                stream.write(f"{ERASE_LINE}{line[:width]}")
                stream.flush()
                self._is_shown = True
            elif (mode == "1" or is_trouble) and message != self._last:
                self._last = message
                stream.write(f"holdfast: {one_line(message, PLAIN_LIMIT_CHARACTERS)}\n")
                stream.flush()

    def _erase(self) -> None:
        if self._is_shown:
            sys.stderr.write(ERASE_LINE)
            sys.stderr.flush()
            self._is_shown = False


class Lines:
    """A console for one of several calls at a time: it gets whole lines, so that none are mixed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = {"stdout": "", "stderr": ""}

    def show(self, shown: Output | Progress | Notice) -> None:
        if not isinstance(shown, Output):
            self._console.show(shown)
            return
        whole, _, rest = (self._held[shown.stream] + shown.text).rpartition("\n")
        if len(rest) > HELD_LIMIT_CHARACTERS:
            whole, rest = f"{whole}\n{rest}" if whole else rest, ""
            self._write(shown.stream, whole)
        elif whole or shown.text.endswith("\n"):
            self._write(shown.stream, f"{whole}\n")
        self._held[shown.stream] = rest

    def finish(self) -> None:
        """Shows the last lines, which may have no end."""
        for stream, rest in self._held.items():
            if rest:
                self._write(stream, f"{rest}\n")
                self._held[stream] = ""

    def _write(self, stream: str, text: str) -> None:
        self._console.output(Output(stream, text))


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        # It was closed.
        return False
