"""Makes a module of names: placeholders by kind, exceptions, decorators, modules below it.

Names are made when they are asked for, and are then the same for good. A name that is not in the
tables is an ordinary error of import, so that a misspelt one is found.
"""

import sys
import types

from holdfast_runner.shims.functions import decorator
from holdfast_runner.shims.placeholders import Description, Platform


def fill(module_name: str, defined: str = "", **names: str) -> None:
    """Gives a module, by a `__getattr__` of its own, the names of each kind.

    `names` are `decorators`, `descriptions`, `platform` and `exceptions`, words apart by spaces;
    `defined` are those that the module has by itself, for `__all__`."""
    module = sys.modules[module_name]
    kinds = {name: kind for kind, words in names.items() for name in words.split()}

    def __getattr__(name: str):
        if name not in kinds:
            raise AttributeError("module %r has no attribute %r" % (module_name, name))
        # Of two threads that ask at once, both get the one that was first.
        return vars(module).setdefault(name, make(kinds[name], module_name, name))

    module.__getattr__ = __getattr__
    module.__all__ = sorted({*kinds, *defined.split()})
    module.__dir__ = lambda: sorted({*vars(module), *kinds})


def make(kind: str, module_name: str, name: str):
    """One name of a kind."""
    if kind == "decorators":
        return decorator("%s.%s" % (module_name, name))
    base = {"descriptions": Description, "platform": Platform, "exceptions": RuntimeError}[kind]
    return type(base)(name, (base,), {"__module__": module_name})


def add_module(name: str, **names: str) -> types.ModuleType:
    """Makes a module below a package that is there, with names of its own."""
    package, _, last = name.rpartition(".")
    module = types.ModuleType(name, "Names of %s inside a container." % package)
    module.__path__ = []
    sys.modules[name] = module
    setattr(sys.modules[package], last, module)
    fill(name, **names)
    return module


def add_alias(name: str, of: str) -> None:
    """Makes a module below a package that has the names of another one, and the very same."""
    module = add_module(name)
    module.__getattr__ = lambda attribute: getattr(sys.modules[of], attribute)
    module.__all__ = sys.modules[of].__all__
