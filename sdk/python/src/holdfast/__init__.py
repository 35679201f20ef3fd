"""Holdfast: run Python functions in private container images, on your own machines.

    from holdfast import Image, function

    @function(image=Image("registry.example.com/acme/app:v1",
                          base_image_creds={"USERNAME": "alice", "PASSWORD": password}))
    def hello(name):
        return f"Hello, {name}!"

    print(hello.remote("world"))

Importing it reads nothing and connects to nothing.
"""

import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

if "holdfast_runner" in _sys.modules:
    raise ImportError(
        "this is the client, and in a container the runner's own `holdfast` is to be found first; "
        "something has changed sys.path or sys.meta_path"
    )

from holdfast._decorator import function
from holdfast._exceptions import (
    ArgumentsNotReadable,
    ArgumentsNotSendable,
    Busy,
    Cancelled,
    CodeError,
    CodeRefused,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    ContainerDied,
    Denied,
    GatewayError,
    GeneratorUnsupported,
    HandlerNotFound,
    HoldfastError,
    InternalError,
    InvalidRequest,
    NotFound,
    NotStarted,
    NotSupportedError,
    PlatformUnavailable,
    PythonVersionMismatch,
    RemoteError,
    RemoteTraceback,
    ResultNotJson,
    ResultNotPicklable,
    ResultNotReadable,
    ResultTooLong,
    RunnerError,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskTimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unsupported,
    WaitTimedOut,
    WorkerLost,
)
from holdfast._function import Function
from holdfast._image import Image
from holdfast._refuse import Volume
from holdfast._secret import Secret
from holdfast._version import __version__

if _TYPE_CHECKING:
    from holdfast._call import Call, Log
    from holdfast._session import configure

_LATER = {"Call": "_call", "Log": "_call", "configure": "_session"}
"""These bring an event loop and an HTTP library, which decorating can do without."""


def is_remote() -> bool:
    """Whether this runs in a container, where the runner's own module says so. Here it does not."""
    return False


def task_id() -> str | None:
    """In a container, the id of the call that runs. Here there is none."""
    return None


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    "ArgumentsNotReadable",
    "ArgumentsNotSendable",
    "Busy",
    "Call",
    "Cancelled",
    "CodeError",
    "CodeRefused",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "ContainerDied",
    "Denied",
    "Function",
    "GatewayError",
    "GeneratorUnsupported",
    "HandlerNotFound",
    "HoldfastError",
    "Image",
    "InternalError",
    "InvalidRequest",
    "Log",
    "NotFound",
    "NotStarted",
    "NotSupportedError",
    "PlatformUnavailable",
    "PythonVersionMismatch",
    "RemoteError",
    "RemoteTraceback",
    "ResultNotJson",
    "ResultNotPicklable",
    "ResultNotReadable",
    "ResultTooLong",
    "RunnerError",
    "Secret",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskTimedOut",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Unsupported",
    "Volume",
    "WaitTimedOut",
    "WorkerLost",
    "__version__",
    "configure",
    "function",
    "is_remote",
    "task_id",
]
