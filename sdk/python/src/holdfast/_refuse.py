"""What is asked for by a name that other clients have and this one does not: refused by it.

Nothing is left out of a request without a word, since a function that runs without the GPU it asked
for is worse than one that does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from holdfast._exceptions import NotSupportedError

_IN_THE_IMAGE = "images run as they are; put it into the image and push that"

IMAGE_ARGUMENTS: Mapping[str, str] = {
    "python_version": "the image has the Python that it has; `python` names its program",
    "python_packages": _IN_THE_IMAGE,
    "commands": _IN_THE_IMAGE,
    "build_secrets": _IN_THE_IMAGE,
    "dockerfile": _IN_THE_IMAGE,
    "context_dir": _IN_THE_IMAGE,
    "image_id": "name the image by its reference, with a digest if it is to stay the same",
    "gpu": "there are no GPUs yet",
}

FUNCTION_ARGUMENTS: Mapping[str, str] = {
    "app": "stubs are not grouped; `name` names one",
    "gpu": "there are no GPUs yet",
    "gpu_count": "there are no GPUs yet",
    "volumes": "functions have no volumes yet; pass data as arguments, or read it over the network",
    "disks": "functions have no disks yet",
    "callback_url": "results are fetched and not sent; `submit` gives a handle to one",
    "task_policy": "use `timeout` and `retries`",
    "keep_warm_seconds": "it is called `keep_warm`",
    "autoscaler": "use `max_containers`",
    "workers": "use `concurrency`",
    "headless": "use `submit`, whose calls run on when nobody listens",
    "inputs": "arguments are not checked against a schema",
    "outputs": "results are not checked against a schema",
    "pool": "there is one pool of workers",
    "checkpoint_enabled": "containers are not checkpointed",
    "on_start": "do it in the module, which is loaded once in each container",
    "on_deploy": "there are no deployments",
}


def arguments(what: str, given: Mapping[str, object], known: Mapping[str, str]) -> None:
    """Raises for the first argument that is left over: refused by name, or simply unknown."""
    for name in given:
        if name in known:
            raise NotSupportedError(f"{what}({name}=…) is not supported: {known[name]}")
        raise TypeError(f"{what}() has no argument {name!r}")


class Volume:
    """Is here by name, so that programs which use one are told at once."""

    def __init__(self, *_arguments: object, **_options: object) -> NoReturn:
        raise NotSupportedError(f"Volume is not supported: {FUNCTION_ARGUMENTS['volumes']}")
