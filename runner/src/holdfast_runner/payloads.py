"""Arguments and results as bytes: pickle or JSON, as the call says.

Results are pickled by `pickle`, and by `cloudpickle` if that cannot: most results are plain, and
loading `cloudpickle` takes longer than everything else in a first call. Pickles of arguments name
`cloudpickle` themselves where they need it. Every error here says what to do about it.
"""

import collections.abc
import io
import json
import pickle
import sys

from holdfast_runner import errors, exceptions, framing

GENERATORS = (collections.abc.Generator, collections.abc.AsyncGenerator)


def arguments(call):
    """The arguments of a call: a sequence and a mapping."""
    both = _from_json(call.payload) if call.format == "json" else _from_pickle(call)
    if (
        not isinstance(both, dict)
        or set(both) != {"args", "kwargs"}
        or not isinstance(both["args"], (list, tuple))
        or not isinstance(both["kwargs"], dict)
    ):
        raise errors.ArgumentsNotReadable(
            "the arguments are not an object of `args`, an array, and `kwargs`, an object"
        )
    return both["args"], both["kwargs"]


def result(value, call, limit_bytes: int) -> bytes:
    """A result as bytes, no more than the limit and a frame allow."""
    limit_bytes = min(limit_bytes, framing.PAYLOAD_LIMIT_BYTES)
    if isinstance(value, GENERATORS):
        raise errors.GeneratorUnsupported(
            "the function returned a %s, and generators cannot be sent back; "
            "return a list of what it yields" % exceptions.type_name(value)
        )
    if call.format == "json":
        return _to_json(value, limit_bytes)
    try:
        return _pickled(value, limit_bytes)
    except (errors.ResultTooLong, errors.Cancelled):
        raise
    except Exception as error:
        raise errors.ResultNotPicklable(
            "the function returned a %s that cannot be pickled: %s"
            % (exceptions.type_name(value), exceptions.describe(error)["message"])
        ) from error


def exception(error: BaseException, call, limit_bytes: int) -> bytes:
    """An exception as a pickle, or nothing if it cannot be one, or is the runner's own.

    Of JSON callers it is not known that they could read a pickle."""
    if call.format == "json" or isinstance(error, (errors.RunnerError, errors.Cancelled)):
        return b""
    try:
        return _pickled(error, min(limit_bytes, framing.PAYLOAD_LIMIT_BYTES))
    except BaseException:
        # The same exception goes as data, which is what callers fall back on.
        return b""


def _from_json(payload: bytes):
    try:
        return json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise errors.ArgumentsNotReadable("the arguments are no JSON: %s" % error) from error


def _from_pickle(call):
    own = "%d.%d" % sys.version_info[:2]
    if call.python is not None and call.python.split(".")[:2] != own.split("."):
        raise errors.PythonVersionMismatch(
            "the caller runs Python %s and this image has Python %s, and pickles of functions and "
            "classes do not pass between the two; use an image with Python %s, or call from "
            "Python %s" % (call.python, own, call.python, own)
        )
    try:
        return pickle.loads(call.payload)
    except ModuleNotFoundError as error:
        raise errors.ArgumentsNotReadable(
            "the arguments need the module %r, which this image does not have; install it in the "
            "image, or pass plain data" % error.name
        ) from error
    except AttributeError as error:
        raise errors.ArgumentsNotReadable(
            "the arguments name something that is not in its module here; caller and image may "
            "have different versions of it: %s" % exceptions.describe(error)["message"]
        ) from error
    except Exception as error:
        raise errors.ArgumentsNotReadable(
            "the arguments cannot be unpickled: %s: %s"
            % (exceptions.type_name(error), exceptions.describe(error)["message"])
        ) from error


def _to_json(value, limit_bytes: int) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded = text.encode("utf-8")
    except Exception as error:
        raise errors.ResultNotJson(
            "the function returned a %s that is no JSON: %s"
            % (exceptions.type_name(value), exceptions.describe(error)["message"])
        ) from error
    if len(encoded) > limit_bytes:
        raise _too_long(limit_bytes)
    return encoded


def _pickled(value, limit_bytes: int) -> bytes:
    if "cloudpickle" not in sys.modules:
        try:
            return _dump(pickle, value, limit_bytes)
        except errors.ResultTooLong:
            raise
        except Exception:
            # `cloudpickle` may know how, and says why if it does not.
            pass
    import cloudpickle

    return _dump(cloudpickle, value, limit_bytes)


def _dump(module, value, limit_bytes: int) -> bytes:
    written = Bounded(limit_bytes)
    module.dump(value, written, protocol=pickle.HIGHEST_PROTOCOL)
    return written.getvalue()


class Bounded(io.BytesIO):
    """Takes so many bytes, so that a result that is too long is not first held as a whole."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, data) -> int:
        if self.tell() + memoryview(data).nbytes > self._limit_bytes:
            raise _too_long(self._limit_bytes)
        return super().write(data)


def _too_long(limit_bytes: int) -> errors.ResultTooLong:
    return errors.ResultTooLong(
        "the result is longer than %d bytes; store it where the caller can read it, and return "
        "its place" % limit_bytes
    )
