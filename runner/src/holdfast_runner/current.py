"""Which call the running code belongs to, for tagging output and for `holdfast.task_id`.

A context variable follows a call into its coroutines and into what these start. A thread that the
function starts by itself has a context of its own, and belongs to no call here.
"""

import contextvars

CALL = contextvars.ContextVar("holdfast_call", default=None)


def task_id():
    """The id of the task that is running, or None outside of a call."""
    call = CALL.get()
    return None if call is None else call.task


def attempt():
    """The id of the attempt that is running, or None where it is not known."""
    call = CALL.get()
    return None if call is None else call.attempt
