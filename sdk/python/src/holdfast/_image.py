"""An image that functions run in: a reference, and the registry credential that it is read with.

The credential's values are used. They go to the gateway with the first call, which seals them, and
are shown by nothing: no repr, error, log or traceback.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast

from holdfast import _refuse
from holdfast._hidden import Hidden

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_SALT = os.urandom(32)
"""Fingerprints hold for this process only, so that none is worth guessing a credential from."""


class Image:
    """A container image, private or public.

    base_image
        Its reference: `registry.example.com/acme/app:v1`, best with a digest.
    base_image_creds
        What the registry asks for, by key: `{"USERNAME": "…", "PASSWORD": "…"}`, or the keys of
        AWS, Google Cloud or Azure. An empty value, or a list of keys, takes the workspace's secret
        of that name. None uses what `holdfast login` stored, and otherwise asks without any;
        an empty dict asks without any.
    env_vars
        Environment variables of everything that runs in it.
    python
        The image's Python: a name that is looked up, or a path.
    """

    __slots__ = ("_credential", "_environment", "base_image", "python")

    base_image: str
    python: str
    _credential: Hidden[Mapping[str, str]] | None
    _environment: Hidden[Mapping[str, str]]

    def __init__(
        self,
        base_image: str,
        *,
        base_image_creds: Mapping[str, str] | Iterable[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        python: str = "python3",
        **others: Any,
    ) -> None:
        # Before anything can fail: tracebacks may show the variables of this function.
        reference = Hidden(base_image)
        credential, environment = Hidden(base_image_creds), Hidden(env_vars)
        del base_image, base_image_creds, env_vars
        _refuse.arguments("Image", others, _refuse.IMAGE_ARGUMENTS)
        self._credential = _credential(credential)
        self._environment = texts("env_vars", environment)
        self.base_image = _plain("base_image", reference)
        self.python = _plain("python", Hidden(python))

    def __repr__(self) -> str:
        # A traceback may show an image that is not whole yet.
        credential = getattr(self, "_credential", None)
        variables = getattr(self, "_environment", None)
        shown = [repr(getattr(self, "base_image", "…"))]
        if credential is not None:
            shown.append(f"base_image_creds={sorted(credential.reveal())}")
        if variables is not None and variables.reveal():
            shown.append(f"env_vars={sorted(variables.reveal())}")
        return f"Image({', '.join(shown)})"

    def __copy__(self) -> Image:
        return self

    def __deepcopy__(self, _memo: object) -> Image:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an image is not pickled, since it may have a credential")

    @property
    def credential(self) -> Hidden[Mapping[str, str]] | None:
        return self._credential

    @property
    def environment(self) -> Hidden[Mapping[str, str]]:
        return self._environment

    def fingerprint(self) -> bytes:
        """The same for images of the same definition, in this process."""
        credential = self._credential
        definition = Hidden(
            json.dumps(
                [
                    self.base_image,
                    self.python,
                    None if credential is None else sorted(credential.reveal().items()),
                    sorted(self._environment.reveal().items()),
                ]
            )
        )
        return hashlib.blake2b(definition.reveal().encode(), key=_SALT, digest_size=32).digest()


def default_image() -> Image:
    """What a function without an image runs in: Python of this version, from Docker Hub."""
    return Image("docker.io/library/python:{}.{}-slim".format(*sys.version_info[:2]))


def texts(what: str, given: Hidden[Mapping[str, str] | None]) -> Hidden[Mapping[str, str]]:
    """A copy of variables, checked."""
    if given.reveal() is None:
        return Hidden({})
    problem = _problem(what, given)
    if problem is not None:
        raise problem
    return Hidden(dict(given.reveal() or {}))


def _problem(what: str, given: Hidden[Mapping[str, str] | None]) -> Exception | None:
    """What is wrong with variables. It is given back, since a traceback from here would show them;
    it names the variable, and never its value."""
    values = given.reveal()
    if not isinstance(values, Mapping):
        return TypeError(f"{what} is a dict of text, and not {type(values).__name__}")
    for name, value in values.items():
        if not isinstance(name, str) or not KEY.fullmatch(name):
            return ValueError(f"{what} has a name that is not letters, digits and underscores")
        if not isinstance(value, str):
            return TypeError(f"{what}: the value of {name} is {type(value).__name__} and not text")
        if "\0" in value or _has_surrogates(value):
            return ValueError(f"{what}: the value of {name} is no text that can be sent")
    return None


def _credential(
    given: Hidden[Mapping[str, str] | Iterable[str] | None],
) -> Hidden[Mapping[str, str]] | None:
    kind = type(given.reveal())
    if kind is type(None):
        return None
    if issubclass(kind, Mapping):
        return texts("base_image_creds", cast("Hidden[Mapping[str, str] | None]", given))
    if issubclass(kind, (str, bytes)) or not issubclass(kind, Iterable):
        raise TypeError("base_image_creds is a dict of keys and values, or a list of keys")
    keys = Hidden(dict.fromkeys(cast("Iterable[str]", given.reveal()), ""))
    return texts("base_image_creds", cast("Hidden[Mapping[str, str] | None]", keys))


def _plain(what: str, given: Hidden[str]) -> str:
    problem = _problem_of_name(given)
    if problem is not None:
        raise ValueError(f"{what} {problem}")
    return given.reveal()


def _problem_of_name(given: Hidden[str]) -> str | None:
    value = given.reveal()
    if not isinstance(value, str) or not value or not value.isprintable():
        return "is a text of printable characters"
    if "@" in value.partition("/")[0] and ":" in value.partition("@")[0]:
        # `user:password@registry/…`, which other tools take.
        return "has a credential in it; give it as base_image_creds"
    return None


def _has_surrogates(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)
