"""The first steps: take the socket, fork init off, say hello, and only then load the rest.

Whatever is imported before hello is time in which the worker hears nothing, so this file and what
it imports get by with `os` and `signal`. It knows one message, and of the protocol nothing else.
"""

import os
import sys

from holdfast_runner import framing, init

SOCKET_DESCRIPTOR = 3
"""Where the container finds its end of the socket; tests name another one."""

OLDEST_PYTHON = (3, 8)
"""What the rest is written for. An older one gets as far as saying which it is."""

HELLO = '{"type":"hello","version":1,"python":"%d.%d.%d","implementation":"%s"}'


def main() -> None:
    """Runs the function's process; the process that called this becomes init."""
    descriptor = int(os.environ.pop("HOLDFAST_RUNNER_FD", SOCKET_DESCRIPTOR))
    try:
        os.set_inheritable(descriptor, False)
        # The other end may have made the pair for an event loop, and then this end does not block.
        os.set_blocking(descriptor, True)
    except OSError as error:
        sys.exit("holdfast runner: descriptor %d is no socket: %s" % (descriptor, error))
    init.fork_init(descriptor)
    greet(descriptor)
    if sys.version_info < OLDEST_PYTHON:
        versions = (*sys.version_info[:2], *OLDEST_PYTHON)
        sys.exit("holdfast runner: Python %d.%d is older than %d.%d, which it needs" % versions)
    from holdfast_runner import serve

    serve.run(descriptor)


def greet(descriptor: int) -> None:
    """Says hello, written by hand since `json` costs more to import than everything so far."""
    hello = HELLO % (*sys.version_info[:3], sys.implementation.name)
    try:
        framing.write(descriptor, hello.encode("ascii"))
    except framing.Closed:
        # Whether there is a worker is found out by whoever reads next, and ends us there.
        pass
