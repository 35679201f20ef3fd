"""Decorated functions inside a container, where they are plain functions with some more names.

`remote` and `map` run here, in this container: a function that calls another one would otherwise
wait for a client that is not there. They give what they give outside, values and not coroutines,
also when the function is asynchronous. `local` and a plain call are the function itself.
"""

import contextvars
import functools
import threading

from holdfast_runner.shims.placeholders import Member, Placeholder


class Decorated:
    """A function under its decorator."""

    def __init__(self, function, decorator: str) -> None:
        # The attributes of a class are its methods, and would hide those below.
        updated = () if isinstance(function, type) else functools.WRAPPER_UPDATES
        functools.update_wrapper(self, function, updated=updated)
        self._decorator = decorator

    def __call__(self, *args, **kwargs):
        return self.__wrapped__(*args, **kwargs)

    def __getattr__(self, name: str):
        """What else a client has, such as `deploy` and `put`: there by name, refused if called."""
        if name.startswith("_"):
            raise AttributeError(name)
        return Member("%s.%s" % (self._decorator, name))

    def local(self, *args, **kwargs):
        """Calls the function."""
        return self.__wrapped__(*args, **kwargs)

    def remote(self, *args, **kwargs):
        """Calls the function, here, and gives its value."""
        value = self.__wrapped__(*args, **kwargs)
        return run_to_end(value) if is_coroutine(value) else value

    async def remote_async(self, *args, **kwargs):
        """Calls the function, here, without holding up the event loop."""
        import asyncio

        context = contextvars.copy_context()
        call = functools.partial(context.run, self.__wrapped__, *args, **kwargs)
        value = await asyncio.get_running_loop().run_in_executor(None, call)
        return await value if is_coroutine(value) else value

    async_remote = remote_async

    def map(self, inputs, concurrency=1):
        """Gives the value for each input, in order, one at a time. A tuple is several arguments."""
        for positional in inputs:
            yield self.remote(*_arguments(positional))

    async def map_async(self, inputs, concurrency=1):
        """The same, for `async for`."""
        for positional in inputs:
            yield await self.remote_async(*_arguments(positional))


def decorator(name: str):
    """A decorator that works with and without options, which say nothing to a container."""

    def decorate(*positional, **options):
        if len(positional) == 1 and not options and _is_function(positional[0]):
            return Decorated(positional[0], name)
        return lambda function: Decorated(function, name)

    decorate.__name__ = decorate.__qualname__ = name.rpartition(".")[2]
    return decorate


def is_coroutine(value) -> bool:
    """Whether a function has returned before it has run."""
    from collections.abc import Coroutine

    return isinstance(value, Coroutine)


def run_to_end(coroutine):
    """The value of a coroutine, for a caller that is no coroutine.

    It has a loop and a thread of its own, since the caller may stand on a loop that runs."""
    import asyncio

    ended = []

    def run():
        try:
            ended.append((asyncio.run(coroutine), None))
        except BaseException as error:
            ended.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join()
    value, error = ended.pop()
    if error is not None:
        raise error
    return value


def _arguments(positional):
    return positional if isinstance(positional, tuple) else (positional,)


def _is_function(value) -> bool:
    return callable(value) and not isinstance(value, (Placeholder, Member))
