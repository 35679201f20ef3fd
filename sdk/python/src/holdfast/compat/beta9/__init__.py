"""Programs that are written `from beta9 import function, Image`, with Holdfast below.

    python -m holdfast.compat.beta9 app.py …    a program as it is
    import holdfast.compat.beta9                in what starts it, before it imports `beta9`

Either registers this module as `beta9`, in this process only, and refuses where the real package is
there: nothing is shadowed. What that client means otherwise it means here: calling a function is
calling it in a container, `map` takes a list as several arguments, and credentials are given as
they are there. Values that it ignores, those of a dict of credentials, are used. What Holdfast does
not have is refused by name.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import holdfast
from holdfast import _decorator
from holdfast._exceptions import NotSupportedError
from holdfast._function import Function
from holdfast._image import default_image
from holdfast._secret import Secret as Secret

__all__ = ["Image", "Secret", "env", "function"]

MODULE = "beta9"

OTHER_NAMES = frozenset(
    [
        "Bot",
        "BotContext",
        "BotEventType",
        "BotLocation",
        "Client",
        "CloudBucket",
        "CloudBucketConfig",
        "Container",
        "DatabaseServingConfig",
        "Deployment",
        "DurableDisk",
        "Gpu",
        "GpuType",
        "ImageBuildError",
        "ManagedEndpoint",
        "Map",
        "Output",
        "Pod",
        "Pool",
        "PythonVersion",
        "Queue",
        "QueueDepthAutoscaler",
        "RemoteExecutionError",
        "Sandbox",
        "Service",
        "ServingConfig",
        "Task",
        "TaskPolicy",
        "VM",
        "Volume",
        "asgi",
        "endpoint",
        "experimental",
        "integrations",
        "realtime",
        "schedule",
        "schema",
        "task_queue",
    ]
)
"""What that package has besides. Asking for one says why it is not here."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "app": ("", None),
    "gpu": ("", None, []),
    "gpu_count": (0,),
    "callback_url": ("", None),
    "volumes": (None, []),
    "disks": (None, []),
    "task_policy": (None,),
    "on_deploy": (None,),
    "headless": (False,),
    "inputs": (None,),
    "outputs": (None,),
    "pool": (None, ""),
    "python_packages": (None, [], ""),
    "commands": (None, []),
    "image_id": (None, ""),
}
"""Arguments that say nothing when they have one of these values, and are then left out."""


class Image(holdfast.Image):
    """An image as that client describes one."""

    __slots__ = ()

    def __init__(  # noqa: PLR0917 (as that client has it)
        self,
        python_version: str = "python3",
        python_packages: object = None,
        commands: object = None,
        base_image: str | None = None,
        base_image_creds: Mapping[str, str] | Iterable[str] | None = None,
        env_vars: str | Iterable[str] | Mapping[str, str] | None = None,
        image_id: str | None = None,
    ) -> None:
        rest = {"python_packages": python_packages, "commands": commands, "image_id": image_id}
        super().__init__(
            base_image or default_image().base_image,
            base_image_creds=base_image_creds,
            env_vars=_variables(env_vars),
            # Theirs is a version to install, or the image's own; ours is always the image's own.
            python=str(python_version),
            **_without_neutral(rest),
        )

    @classmethod
    def from_registry(cls, image_uri: str, credentials: Any = None) -> Image:
        return cls(base_image=image_uri, base_image_creds=credentials)


class Remote(Function[Any, Any, Any]):
    """A function that runs in a container when it is called."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.remote(*args, **kwargs)

    async def async_remote(self, /, *args: Any, **kwargs: Any) -> Any:
        return await self.remote_async(*args, **kwargs)

    def map(self, inputs: Iterable[Any], /, **options: Any) -> Iterator[Any]:
        several: Iterator[Any] = (
            tuple(cast("list[Any]", each)) if isinstance(each, list) else each for each in inputs
        )
        return super().map(several, **options)


def function(target: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`function(…)`, with that client's arguments and its number of retries."""
    chosen: dict[str, Any] = {"retries": 3, **_without_neutral(options)}
    made = _decorator.function(**chosen)

    def decorate(decorated: Callable[..., Any], /) -> Remote:
        return Remote.of(made(decorated))

    return decorate if target is None else decorate(target)


def __getattr__(name: str) -> object:
    if name in OTHER_NAMES:
        raise NotSupportedError(f"beta9.{name} is not supported: Holdfast has functions and images")
    raise AttributeError(f"module {MODULE!r} has no attribute {name!r}")


def register() -> None:
    """Has `import beta9` find this module, unless the real one is there."""
    this = sys.modules[__name__]
    known = sys.modules.get(MODULE)
    if known is this:
        return
    if known is not None or importlib.util.find_spec(MODULE) is not None:
        raise ImportError(
            "the real package beta9 is installed, and is not shadowed"
            "\nhint: uninstall it, or write `from holdfast import function, Image`"
        )
    sys.modules[MODULE] = this
    sys.modules[f"{MODULE}.env"] = env


def _without_neutral(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in options.items()
        if name not in NEUTRAL or value not in NEUTRAL[name]
    }


def _variables(given: str | Iterable[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    """Environment variables, which may be written `"NAME=value"`, one or a list."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return cast("Mapping[str, str]", given)
    pairs = [each.partition("=") for each in ([given] if isinstance(given, str) else given)]
    return {name: value for name, _, value in pairs}


from holdfast.compat.beta9 import env  # noqa: E402

register()
