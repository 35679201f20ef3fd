"""From `setup` to a function: environment, code, path, import, handler, each a stage by name.

Whatever user code does while it is imported is caught here, `SystemExit` included. What is put in
place is put there before anything of the user's is loaded, and stays for the life of the process.
"""

import importlib.machinery
import os
import sys
import time

from holdfast_runner.errors import HandlerNotFound
from holdfast_runner.exceptions import type_name
from holdfast_runner.shims.functions import Decorated

RUNNER_FILES = os.path.dirname(os.path.dirname(__file__))
"""The archive that this runs from, or the directory, where it is not in one."""

RUNNER_PACKAGES = ("beta9", "cloudpickle", "holdfast", "holdfast_runner")


class SetupFailed(Exception):
    """Setup failed at a stage; why is the `__cause__`."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


class RunnerPackages:
    """Finds the runner's packages in the runner, whatever the user's code or the image has."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is None and name in RUNNER_PACKAGES:
            return importlib.machinery.PathFinder.find_spec(name, [RUNNER_FILES], target)
        return None


def load(setup):
    """Does what a `setup` says, and gives the function that is to be called."""
    stage, error = "environment", None
    try:
        put_environment(setup.environment)
        stage = "unpack"
        code_dir = os.path.abspath(setup.code_dir)
        put_code(setup.code, code_dir, setup.limits)
        stage = "handler"
        module_name, attribute = split_handler(setup.handler)
        stage = "import"
        put_path(code_dir)
        # Not `importlib.import_module`, which leaves its own frames in tracebacks.
        __import__(module_name)
        stage = "handler"
        return find_handler(sys.modules[module_name], attribute)
    except BaseException as raised:
        error = raised
    raise SetupFailed(stage) from error


def put_environment(environment: dict) -> None:
    """Sets variables, and does what Python and the C library only do when they start."""
    os.environ.update(environment)
    if "TZ" in environment:
        time.tzset()
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    # Behind the runner itself, where an interpreter that starts puts them.
    sys.path[1:1] = added


def put_code(archive, code_dir: str, limits: dict) -> None:
    """Makes the code's directory the working directory, with the code in it if there is any."""
    os.makedirs(code_dir, exist_ok=True)
    if archive is not None:
        from holdfast_runner.unpack import unpack

        unpack(archive, code_dir, limits["code_entries"], limits["code_bytes"])
    os.chdir(code_dir)


def put_path(code_dir: str) -> None:
    """Has modules be looked for in the code first, but for the runner's own."""
    sys.path.insert(0, code_dir)
    sys.meta_path.insert(0, RunnerPackages)
    importlib.invalidate_caches()


def split_handler(handler: str):
    """The two names in `module:attribute`."""
    module_name, _, attribute = handler.partition(":")
    if not module_name or not attribute:
        raise HandlerNotFound("the handler %r is not written as module:attribute" % handler)
    return module_name, attribute


def find_handler(module, attribute: str):
    """The function that an attribute of a module is, without what it was decorated with."""
    # The file tells a module of the user's from one of Python's with the same name.
    shown = "module %s (%s)" % (module.__name__, getattr(module, "__file__", "built in"))
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise HandlerNotFound("%s has no %r" % (shown, attribute)) from error
    while isinstance(found, Decorated):
        found = found.__wrapped__
    if not callable(found):
        raise HandlerNotFound(
            "%r of %s is of type %s and cannot be called" % (attribute, shown, type_name(found))
        )
    return found
