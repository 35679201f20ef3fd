"""What can go wrong that is not an exception of the user's, by name.

To a caller these are `holdfast.…`, wherever they are defined. They travel as data alone, without a
pickled payload, so that a caller needs nothing but the name to know them.
"""


class Cancelled(BaseException):
    """The call was cancelled. No `Exception`, so that `except Exception` does not keep it."""

    __module__ = "holdfast"

    def __str__(self) -> str:
        return "the call was cancelled"


class RunnerError(RuntimeError):
    """What the runner itself has to say; the parent of those below."""

    __module__ = "holdfast"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__ == __name__:
            cls.__module__ = RunnerError.__module__


class HandlerNotFound(RunnerError):
    """What was to be called is not in its module, or cannot be called."""


class CodeRefused(RunnerError):
    """The archive with the user's code is not one that is unpacked."""


class PythonVersionMismatch(RunnerError):
    """Caller and container have versions of Python between which pickles cannot pass."""


class ArgumentsNotReadable(RunnerError):
    """The arguments could not be turned back into objects here."""


class ResultNotPicklable(RunnerError):
    """The function returned something that cannot leave its process."""


class ResultNotJson(RunnerError):
    """The caller wants JSON, and the function returned something else."""


class ResultTooLong(RunnerError):
    """The result is longer than the worker takes."""


class GeneratorUnsupported(RunnerError):
    """The function returned a generator, whose values would have to be waited for."""


class PlatformUnavailable(RunnerError):
    """Something was called that only a client of the platform can do."""
