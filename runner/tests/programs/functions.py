"""Functions that behave in every way a user's function may; one handler reaches them all."""

import asyncio
import os
import sys
import threading

import holdfast
from forking import *  # noqa: F403
from printing import *  # noqa: F403
from waiting import *  # noqa: F403


def dispatch(name, *args, **kwargs):
    """The handler: calls a function of this file by its name."""
    return globals()[name](*args, **kwargs)


def add(left, right=1):
    return left + right


def apply(function, *args):
    return function(*args)


def identity(value):
    return value


def place():
    main = threading.current_thread() is threading.main_thread()
    return main, os.getcwd(), sys.path[0], __name__


def environment(name):
    return os.environ.get(name)


def task():
    return holdfast.task_id()


async def add_later(left, right):
    await asyncio.sleep(0)
    return left + right


async def loop_id():
    return id(asyncio.get_running_loop())


def own_loop():
    return asyncio.run(add_later(2, 3))


async def exit_later():
    await asyncio.sleep(0)
    sys.exit(4)


async def exit_in_task():
    """Another task exits, which asyncio lets out of its loop; this one then exits, too."""
    task = asyncio.ensure_future(exit_later())
    await asyncio.wait([task])
    return task.result()


def make_lambda():
    factor = 3
    return lambda value: value * factor


def make_lock():
    return threading.Lock()


def make_bytes(length):
    return b"x" * length


def make_text(length):
    return "x" * length


def length(value):
    return len(value)


def make_not_a_number():
    return float("nan")


def generate():
    yield 1


async def generate_later():
    yield 1


def exit_with(code):
    sys.exit(code)


def interrupt():
    raise KeyboardInterrupt


def fork_and(what, *args):
    """Both processes go on from here; the parent waits for its child first."""
    child = os.fork()
    if child == 0:
        return globals()[what](*args)
    return os.waitpid(child, 0)[1]


def fail(text):
    raise ValueError(text)


def spawn():
    """A process that imports everything anew, as multiprocessing does where fork is not wanted."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(add, (20, 22))
