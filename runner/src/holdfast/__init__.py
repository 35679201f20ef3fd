"""`holdfast` inside a container: decorated functions run, descriptions say nothing.

It has the names of the client's package, and none of what the client does. It comes before any
other `holdfast` in the image or in the code.
"""

from holdfast_runner.current import task_id  # noqa: F401
from holdfast_runner.errors import (  # noqa: F401
    ArgumentsNotReadable,
    Cancelled,
    CodeRefused,
    GeneratorUnsupported,
    HandlerNotFound,
    PlatformUnavailable,
    PythonVersionMismatch,
    ResultNotJson,
    ResultNotPicklable,
    ResultTooLong,
    RunnerError,
)
from holdfast_runner.shims.namespace import fill


def is_remote() -> bool:
    """Whether this runs in a container: `if is_remote(): import torch`."""
    return True


fill(
    __name__,
    defined="""
        ArgumentsNotReadable Cancelled CodeRefused GeneratorUnsupported HandlerNotFound
        PlatformUnavailable PythonVersionMismatch ResultNotJson ResultNotPicklable ResultTooLong
        RunnerError is_remote task_id
    """,
    decorators="function",
    descriptions="Image Secret Volume",
)
