"""Makes calls when it is told to: `KIND COUNT` a line on standard input, milliseconds as JSON back.

What a client prints goes to the log, so that nothing but answers is where answers are read.
"""

import json
import os
import signal
import sys
from time import perf_counter

LONGEST_TURN_S = 300
"""What takes longer will never end."""


def take(kinds):
    """Takes turns until standard input ends: each of so many calls, and times in milliseconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        kind, count = line.split()
        signal.alarm(LONGEST_TURN_S)
        print(json.dumps(kinds[kind](int(count))), file=answers, flush=True)
        signal.alarm(0)


def one_by_one(call):
    """The time of each call."""

    def turn(count):
        return [milliseconds(call) for _ in range(count)]

    return turn


def together(calls):
    """The time of all of them, which `calls` makes at once."""

    def turn(count):
        return [milliseconds(lambda: calls(count))]

    return turn


def milliseconds(work):
    begin = perf_counter()
    work()
    return (perf_counter() - begin) * 1000
