"""Where a function is: the directory that is sent, and `module:attribute` below it.

    python app.py          app.py's directory       app:my_function
    python -m tools.app    the one of `tools`       tools.app:my_function
    import lib.jobs        the one of `lib`         lib.jobs:my_function

In the container the file is imported under that name, `__main__` never: what is under
`if __name__ == "__main__":` is there for this side only.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from holdfast._exceptions import CodeError

MAIN_NAMES = ("__main__", "__mp_main__")
"""The script, here and in a process that `multiprocessing` has started."""

RUNNER_PACKAGES = ("beta9", "cloudpickle", "holdfast", "holdfast_runner")
"""Names that a container finds in the runner first."""

IN_A_FILE = "put it into a file that ends in .py, and import it from there"


@dataclass(frozen=True)
class Place:
    """Where a function is found, here and in a container."""

    root: str
    module: str
    attribute: str
    main: str | None
    """The name that the script here, `__main__`, has in a container; None where it is not sent."""

    @property
    def handler(self) -> str:
        return f"{self.module}:{self.attribute}"


def place_of(function: Callable[..., Any], decorated: object) -> Place:
    """The place of a function under its decorator, or why it cannot be sent."""
    name: str = function.__qualname__
    shown = f"the function {name}"
    if "<lambda>" in name:
        raise CodeError(f"a lambda cannot be sent by name\nhint: use def, and {IN_A_FILE}")
    if "<locals>" in name:
        raise CodeError(
            f"{shown} is defined inside another one, where a container does not find it"
            "\nhint: define it at the top of its file"
        )
    module = sys.modules.get(function.__module__)
    if module is None:
        raise CodeError(f"{shown} is of a module {function.__module__!r} that is not there")
    code = getattr(function, "__code__", None)
    if module.__name__ in MAIN_NAMES and code is not None and code.co_filename.startswith("<"):
        raise CodeError(f"{shown} was typed in, and is in no file\nhint: {IN_A_FILE}")
    root, module_name = locate(module, shown)
    found = _attribute(module, name)
    if found is not function and found is not decorated:
        raise CodeError(
            f"{module_name}.{name} is something else than {shown}, so a container would not find it"
            "\nhint: give every function of a file a name of its own"
        )
    return Place(root, module_name, name, _main_below(root))


def locate(module: ModuleType, shown: str) -> tuple[str, str]:
    """The directory that a module is imported from, and the name under which it is."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not os.path.isfile(file):
        where = "a notebook or a prompt" if module.__name__ in MAIN_NAMES else "no file"
        raise CodeError(f"{shown} is in {where}, and there is nothing to send\nhint: {IN_A_FILE}")
    if not file.endswith(".py"):
        raise CodeError(f"{shown} is in {file}, which is no .py file\nhint: {IN_A_FILE}")
    file = os.path.abspath(file)
    name = _name(module, file)
    parts = name.split(".")
    _check_name(name, parts[0], file)
    inside = os.path.splitext(file)[0].split(os.sep)
    if inside[-1] == "__init__" and parts[-1] != "__init__":
        inside.pop()
    if inside[-len(parts) :] != parts:
        raise CodeError(f"the module {name} is in {file}, where its name does not lead")
    root = os.sep.join(inside[: -len(parts)]) or os.sep
    _check_root(root, shown)
    return root, name


def _name(module: ModuleType, file: str) -> str:
    if module.__name__ not in MAIN_NAMES:
        return module.__name__
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.name not in MAIN_NAMES:
        return str(spec.name)
    return os.path.splitext(os.path.basename(file))[0]


def _check_name(name: str, top: str, file: str) -> None:
    """Refuses names that are other modules in a container."""
    if not all(name.split(".")) or (os.path.basename(file)[:-3].count(".") > 0):
        raise CodeError(f"{file} cannot be imported, since its name has a dot\nhint: rename it")
    if top in sys.stdlib_module_names or top in RUNNER_PACKAGES or top in MAIN_NAMES:
        raise CodeError(
            f"{file} has the name of another module, {top}, which a container would load in its "
            "place\nhint: rename it"
        )


def _check_root(root: str, shown: str) -> None:
    """Refuses directories that nobody means to send."""
    stdlib = sysconfig.get_path("stdlib")
    is_installed = any(part in ("site-packages", "dist-packages") for part in root.split(os.sep))
    if is_installed or root == stdlib or root.startswith(stdlib + os.sep):
        raise CodeError(
            f"{shown} is in an installed package, and only your own directory is sent"
            "\nhint: call it from a function of yours, and install the package in the image"
        )
    if root in (os.sep, os.path.expanduser("~")):
        raise CodeError(
            f"{shown} is right in {root}, and all of that would be sent"
            "\nhint: put its file into a directory of its own"
        )


def _attribute(module: ModuleType, name: str) -> object:
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _main_below(root: str) -> str | None:
    main = sys.modules.get("__main__")
    if main is None:
        return None
    try:
        main_root, name = locate(main, "the script")
    except CodeError:
        return None
    return name if main_root == root else None
