"""Every exception of this package, so that `except` finds what the caller would do about it.

    HoldfastError
    ├── ConfigurationError          no gateway, no token, or neither may be used
    ├── NotSupportedError           asked for by name, and Holdfast does not have it
    ├── CodeError                   the code or the handler cannot be sent
    ├── ArgumentsNotSendable        the arguments cannot be pickled, be JSON, or are too long
    ├── ResultNotReadable           the function returned, and its value cannot be loaded here
    ├── ConnectionFailed            no way to the gateway, or it broke and stayed broken
    ├── UnexpectedAnswer            the gateway, or what is in front of it, says what it never does
    ├── WaitTimedOut                `result(timeout)` waited long enough; the call goes on
    ├── GatewayError                the gateway says no: `kind`, `hint`, `status`
    │   ├── InvalidRequest · Unauthenticated · Denied · NotFound · Conflict · TooLarge
    │   └── Unsupported · Busy · InternalError · Unavailable
    └── TaskError                   the call ended without a value: `task_id`, `failure`
        ├── RemoteError             the function raised what cannot be raised here
        ├── TaskCancelled · TaskTimedOut · TaskExpired · ContainerDied · WorkerLost · NotStarted
        └── RunnerError             the container could not make the call, or not give its value
            ├── HandlerNotFound · CodeRefused · PythonVersionMismatch · ArgumentsNotReadable
            ├── ResultNotPicklable · ResultNotJson · ResultTooLong
            └── GeneratorUnsupported · PlatformUnavailable

What the function itself raised is none of these: it is raised as it is, from a `RemoteTraceback`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from holdfast._text import TRACEBACK_LIMIT_CHARACTERS, printable

if TYPE_CHECKING:
    from holdfast._models import Failure


class HoldfastError(Exception):
    """What this package raises."""


class ConfigurationError(HoldfastError):
    """There is no gateway or token to use, or the one there is must not be used."""


class NotSupportedError(HoldfastError):
    """Something was asked for by name that Holdfast does not have."""


class CodeError(HoldfastError):
    """The code, or the function in it, is not such that a container could load it."""


class ArgumentsNotSendable(HoldfastError):
    """The arguments of a call cannot leave this process."""


class ResultNotReadable(HoldfastError):
    """The function returned, and its value cannot be loaded here."""


class ConnectionFailed(HoldfastError):
    """The gateway was not reached, or the connection to it broke and could not be resumed."""

    def __init__(self, message: str, *, connected: bool = True) -> None:
        super().__init__(message)
        self.connected = connected
        """Whether anything may have reached the gateway."""


class UnexpectedAnswer(HoldfastError):
    """What was answered is nothing that a gateway of this version says."""


class WaitTimedOut(HoldfastError, TimeoutError):
    """A wait ended before the call did. The call goes on."""


class GatewayError(HoldfastError):
    """The gateway refused, and says why."""

    kind: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.message = printable(message)
        self.hint = None if hint is None else printable(hint)
        self.status = status
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class InvalidRequest(GatewayError):
    """Something in the request is wrong."""

    kind = "invalid"


class Unauthenticated(GatewayError):
    """The token is not, or no longer, one that the gateway knows."""

    kind = "unauthenticated"


class Denied(GatewayError):
    """The token, or the registry's credential, does not allow this."""

    kind = "denied"


class NotFound(GatewayError):
    """There is no such thing in the workspace."""

    kind = "not_found"


class Conflict(GatewayError):
    """There is something else under that name."""

    kind = "conflict"


class TooLarge(GatewayError):
    """It is longer than the gateway takes."""

    kind = "too_large"


class Unsupported(GatewayError):
    """The image, or what was asked for, is of a sort that is not supported."""

    kind = "unsupported"


class Busy(GatewayError):
    """More is waiting than may; later there is room."""

    kind = "busy"


class InternalError(GatewayError):
    """The gateway's own fault."""

    kind = "internal"


class Unavailable(GatewayError):
    """The gateway cannot now; later it can."""

    kind = "unavailable"


class TaskError(HoldfastError):
    """A call ended without a value."""

    def __init__(
        self, message: str, *, task_id: str | None = None, failure: Failure | None = None
    ) -> None:
        super().__init__(printable(message))
        self.task_id = task_id
        self.failure = failure
        """What the container or the gateway says of it: type, module, message, traceback."""


class RemoteError(TaskError):
    """The function raised, and its exception cannot be raised here as it is."""


class TaskCancelled(TaskError):
    """The call was cancelled."""


class TaskTimedOut(TaskError):
    """The function ran for longer than its `timeout`."""


class TaskExpired(TaskError):
    """The call waited for a container for longer than calls may."""


class ContainerDied(TaskError):
    """The function's process ended before it returned: out of memory, a crash, an exit."""


class WorkerLost(TaskError):
    """The machine that the function ran on is gone; whether it ended is not known."""


class NotStarted(TaskError):
    """The function's container could not be started, or its code not be loaded."""


class RunnerError(TaskError, RuntimeError):
    """The container could not make the call, or could not give its value back."""


class HandlerNotFound(RunnerError):
    """What was to be called is not in its module, or cannot be called."""


class CodeRefused(RunnerError):
    """The archive with the code is not one that is unpacked."""


class PythonVersionMismatch(RunnerError):
    """Here and in the container are versions of Python between which pickles cannot pass."""


class ArgumentsNotReadable(RunnerError):
    """The arguments could not be turned back into objects in the container."""


class ResultNotPicklable(RunnerError):
    """The function returned something that cannot leave its process."""


class ResultNotJson(RunnerError):
    """`format="json"`, and the function returned something else."""


class ResultTooLong(RunnerError):
    """The result is longer than a container may send."""


class GeneratorUnsupported(RunnerError):
    """The function returned a generator, whose values would have to be waited for."""


class PlatformUnavailable(RunnerError):
    """The function called something that only this side can do."""


class RemoteTraceback(Exception):
    """The traceback in the container, as the cause of what the function raised.

    It is a cause and no note, since notes need Python 3.11, and a cause is also what
    `concurrent.futures` gives: it is printed first, as it happened first.
    """

    def __init__(self, traceback: str, task_id: str) -> None:
        super().__init__(traceback, task_id)
        self.traceback = printable(traceback, TRACEBACK_LIMIT_CHARACTERS)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"in {self.task_id}\n\n{self.traceback}"


class Cancelled(BaseException):
    """Raised *inside* a function whose call is cancelled, so that it can clean up.

    It is here for `except Cancelled` in code that both sides load; callers see `TaskCancelled`.
    """


GATEWAY_ERRORS: dict[str, type[GatewayError]] = {
    kind.kind: kind for kind in GatewayError.__subclasses__()
}
RUNNER_ERRORS: dict[str, type[RunnerError]] = {
    "RunnerError": RunnerError,
    **{kind.__name__: kind for kind in RunnerError.__subclasses__()},
}

for _exception in list(globals().values()):
    # To users they are `holdfast.Busy`, wherever they are defined.
    if isinstance(_exception, type) and _exception.__module__ == __name__:
        _exception.__module__ = "holdfast"
