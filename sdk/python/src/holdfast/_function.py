"""`@function`: what is decorated stays a function, and can be called in a container as well.

Decorating does nothing but check what is written there. The gateway is first spoken to by the first
call that is not local.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from holdfast import _payloads
from holdfast._image import Image
from holdfast._options import Options
from holdfast._place import place_of
from holdfast._requests import Submission

if TYPE_CHECKING:
    # Loaded with the first call, since they bring an event loop and an HTTP library.
    from typing_extensions import Self

    from holdfast._call import Call
    from holdfast._prepare import Definition
    from holdfast._session import Session

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L")

DEFAULT_CONCURRENCY = 16
"""Calls of one `map` at a time: enough to keep some containers busy. Each is a connection."""


class Function(_payloads.SentByName, Generic[P, R, L]):
    """A function under its decorator.

    Called plainly, or by `local`, it is the function itself, and gives what that gives: for an
    `async def`, a coroutine. The other ways run it in a container, and give its value."""

    __wrapped__: Callable[P, L]
    __name__: str

    def __init__(
        self,
        target: Callable[P, L],
        image: Image,
        options: Options,
        name: str | None,
        payload_format: str,
    ) -> None:
        # The attributes of a class are its methods, and would hide those below.
        plain: Any = target
        updated = () if isinstance(target, type) else functools.WRAPPER_UPDATES
        functools.update_wrapper(self, plain, updated=updated)
        self._image = image
        self._options = options
        self._stub_name = name
        self._format = payload_format
        self._defined: Definition | None = None

    @classmethod
    def of(cls, other: Function[Any, Any, Any]) -> Self:
        """Another one's function and options, as one of this class."""
        return cls(other.__wrapped__, other._image, other._options, other._stub_name, other._format)

    def __repr__(self) -> str:
        return f"<holdfast function {self.__module__}.{self.__qualname__}>"

    def __reduce__(self) -> str:
        return self.__qualname__

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> L:
        return self.__wrapped__(*args, **kwargs)

    def local(self, /, *args: P.args, **kwargs: P.kwargs) -> L:
        """Calls the function here."""
        return self.__wrapped__(*args, **kwargs)

    def remote(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function in a container, shows what it prints, and gives its value.

        What it raises is raised here. An interrupt cancels the call."""
        from holdfast._session import session

        submission = self._submission(args, kwargs)
        return self._remote(session(), submission)

    async def remote_async(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for an event loop of asyncio. Cancelling what awaits it cancels the call."""
        from holdfast._session import session

        submission = self._submission(args, kwargs)
        current = session()
        return await self._remote_async(current, submission, current.console.show)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Starts a call that runs on, also when this program ends, and gives a handle to it."""
        from holdfast._session import session
        from holdfast._tasks import submit

        submission = self._submission(args, kwargs, is_headless=True)
        current = session()
        return self._call(current.run(submit(current.pace, self._definition(), submission)))

    async def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        from holdfast._session import session
        from holdfast._tasks import submit

        submission = self._submission(args, kwargs, is_headless=True)
        current = session()
        flow = submit(current.pace, self._definition(), submission)
        return self._call(await current.run_async(flow))

    def map(
        self, inputs: Iterable[Any], /, *, concurrency: int = DEFAULT_CONCURRENCY
    ) -> Iterator[R]:
        """Calls the function for each input, some at a time, and gives the values in order.

        A tuple is several arguments. Inputs are taken as they are needed. When a call raises, the
        others are cancelled, and its exception is raised where its value would have come."""
        from holdfast import _map
        from holdfast._session import session

        _map.check_concurrency(concurrency)
        current = session()
        submissions = (self._submission(_map.arguments(each), {}) for each in inputs)
        return _map.map_sync(self._each(current), submissions, concurrency)

    def map_async(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> AsyncIterator[R]:
        """The same for `async for`; inputs may come from one, too."""
        from holdfast import _map
        from holdfast._session import session

        _map.check_concurrency(concurrency)
        submissions = (
            self._submission(_map.arguments(each), {}) async for each in _map.each_of(inputs)
        )
        return _map.map_async(self._each(session()), submissions, concurrency)

    def _remote(self, current: Session, submission: Submission) -> R:
        from holdfast._outcomes import value_of
        from holdfast._tasks import call

        definition = self._definition()
        ended = current.run(call(current.pace, definition, submission))
        return cast("R", value_of(ended, self._format, definition.place.main))

    async def _remote_async(self, current: Session, submission: Submission, show: Any) -> R:
        from holdfast._outcomes import value_of
        from holdfast._tasks import call

        definition = self._definition()
        ended = await current.run_async(call(current.pace, definition, submission), show)
        return cast("R", value_of(ended, self._format, definition.place.main))

    def _each(self, current: Session) -> Callable[[Submission], Any]:
        """One call of several at a time."""
        from holdfast._console import Lines

        async def each(submission: Submission) -> R:
            lines = Lines(current.console)
            try:
                return await self._remote_async(current, submission, lines.show)
            finally:
                lines.finish()

        return each

    def _call(self, task_id: str) -> Call[R]:
        from holdfast._call import Call

        return Call(task_id, self._format, self._definition().place.main)

    def _definition(self) -> Definition:
        from holdfast._prepare import Definition

        if self._defined is None:
            place = place_of(self.__wrapped__, self)
            name = self._stub_name or place.handler
            self._defined = Definition(name, place, self._image, self._options, self._format)
        return self._defined

    def _submission(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], is_headless: bool = False
    ) -> Submission:
        from holdfast._prepare import own_python

        main = self._definition().place.main
        return Submission(
            key=os.urandom(16).hex(),
            format=self._format,
            payload=_payloads.dump(args, kwargs, self._format, main),
            python=own_python() if self._format == "pickle" else None,
            is_headless=is_headless,
        )
