"""`beta9.env`: where a program asks whether it runs in a container. It does."""

import os


def is_remote() -> bool:
    return True


def is_local() -> bool:
    return False


def called_on_import() -> bool:
    """Whether the program is imported by a container, as it is here."""
    return True


def is_notebook_env() -> bool:
    return False


def local_entrypoint(function):
    """Would run a function on the caller's machine; here it is left alone."""
    return function


def try_env(name: str, default):
    """A variable as the type of its default, or the default where it is not one."""
    text = os.environ.get(name)
    if text is None:
        return default
    if isinstance(default, bool):
        return text.lower() in ("1", "true", "yes", "on")
    try:
        return type(default)(text)
    except ValueError:
        return default
