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
from holdfast_runner.shims.namespace import add_module, fill


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
    descriptions="Function Image Log Secret Volume configure",
    platform="Call",
    # What a client raises and code that is imported here may name.
    exceptions="""
        ArgumentsNotSendable Busy CodeError ConfigurationError Conflict ConnectionFailed
        ContainerDied Denied GatewayError HoldfastError InternalError InvalidRequest NotFound
        NotStarted NotSupportedError RemoteError RemoteTraceback ResultNotReadable TaskCancelled
        TaskError TaskExpired TaskTimedOut TooLarge Unauthenticated Unavailable UnexpectedAnswer
        Unsupported WaitTimedOut WorkerLost
    """,
)
add_module("holdfast.compat")
add_module("holdfast.compat.beta9")
