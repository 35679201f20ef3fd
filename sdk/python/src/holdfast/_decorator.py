"""The decorator itself: its arguments, with their types, and what it refuses to decorate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from holdfast import _refuse
from holdfast._exceptions import NotSupportedError
from holdfast._function import Function
from holdfast._hidden import Hidden
from holdfast._image import Image, default_image
from holdfast._options import options, stub_name
from holdfast._secret import Secret

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class Decorator(Protocol):
    """What `function(…)` gives: it decorates functions and coroutine functions."""

    @overload
    def __call__(
        self, target: Callable[P, Coroutine[Any, Any, V]], /
    ) -> Function[P, V, Coroutine[Any, Any, V]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> Function[P, R, R]: ...


@overload
def function(
    target: Callable[P, Coroutine[Any, Any, V]], /
) -> Function[P, V, Coroutine[Any, Any, V]]: ...
@overload
def function(target: Callable[P, R], /) -> Function[P, R, R]: ...
@overload
def function(
    *,
    image: Image | None = None,
    cpu: float | str = 0.125,
    memory: int | str = 128,
    timeout: float = 3600,
    retries: int = 0,
    concurrency: int = 1,
    keep_warm: float = 10,
    max_containers: int = 1,
    max_pending: int = 100,
    env: Mapping[str, str] | None = None,
    secrets: Iterable[Secret | str] = (),
    name: str | None = None,
    format: Literal["pickle", "json"] = "pickle",
) -> Decorator: ...


def function(
    target: Callable[..., Any] | None = None,
    /,
    *,
    image: Image | None = None,
    cpu: float | str = 0.125,
    memory: int | str = 128,
    timeout: float = 3600,
    retries: int = 0,
    concurrency: int = 1,
    keep_warm: float = 10,
    max_containers: int = 1,
    max_pending: int = 100,
    env: Mapping[str, str] | None = None,
    secrets: Iterable[Secret | str] = (),
    name: str | None = None,
    format: str = "pickle",
    **others: Any,
) -> Any:
    """Lets a function be called in a container: `@function` or `@function(…)`.

    image
        What it runs in; without one, Python of this version from Docker Hub.
    cpu, memory
        Of one container: cores or "500m", MiB or "1Gi".
    timeout
        Seconds that one call may run.
    retries
        How often a call is tried again whose container or machine was lost. What the function
        raises is never a reason.
    concurrency
        Calls at a time in one container, each on a thread.
    keep_warm
        Seconds that a container stays after its last call.
    max_containers, max_pending
        Containers at a time, and calls that may wait for one.
    env, secrets
        Environment variables, and secrets of the workspace that become such.
    name
        Of the stub; otherwise `module:function`.
    format
        How arguments and results travel. "json" takes plain data only, runs nothing that comes
        from the container, and does without the same version of Python on both sides.
    """
    # Before anything can fail: tracebacks may show the variables of this function.
    environment = Hidden(env)
    del env
    _refuse.arguments("function", others, _refuse.FUNCTION_ARGUMENTS)
    if image is not None and not isinstance(image, Image):
        raise TypeError(f"image is an Image, and not {type(image).__name__}")
    if format not in ("pickle", "json"):
        raise ValueError('format is "pickle" or "json"')
    chosen = options(
        cpu=cpu,
        memory=memory,
        timeout=timeout,
        retries=retries,
        concurrency=concurrency,
        keep_warm=keep_warm,
        max_containers=max_containers,
        max_pending=max_pending,
        env=environment,
        secrets=secrets,
    )
    checked_name = None if name is None else stub_name(name)
    used = image or default_image()

    def decorate(decorated: Callable[..., Any], /) -> Function[..., Any, Any]:
        check_target(decorated)
        return Function(decorated, used, chosen, checked_name, format)

    return decorate if target is None else decorate(target)


def check_target(target: Any) -> None:
    """Refuses what a container could not find by its name, or not give the value of."""
    if isinstance(target, Image):
        raise TypeError("function(image) is written function(image=image)")
    if isinstance(target, Function):
        raise TypeError(f"{target!r} is decorated already")
    if not callable(target) or not all(
        hasattr(target, name) for name in ("__qualname__", "__module__")
    ):
        raise TypeError(f"function decorates functions, and not {type(target).__name__}")
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise NotSupportedError(
            f"{target.__qualname__} is a generator, and what it yields would have to be waited for"
            "\nhint: return a list of it"
        )
