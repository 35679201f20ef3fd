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

CREDENTIAL_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
"""What may be repeated of a credential's keys: a password in the place of one rarely is so."""

CREDENTIAL_KEYS = frozenset(
    {
        *("USERNAME", "PASSWORD", "DOCKER_USERNAME", "DOCKER_PASSWORD"),
        *("REGISTRY_USERNAME", "REGISTRY_PASSWORD", "REGISTRY_TOKEN"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
        *("AWS_ROLE_ARN", "AWS_EXTERNAL_ID", "AWS_ROLE_SESSION_NAME"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "GCP_SUBJECT_TOKEN"),
        *("GCP_PROJECT_ID", "GCP_ACCESS_TOKEN"),
        *("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN"),
        *("AZURE_TENANT_ID", "NGC_API_KEY"),
        *("GITHUB_USERNAME", "GITHUB_TOKEN", "GITLAB_USERNAME", "GITLAB_TOKEN"),
        *("DOCKERHUB_USERNAME", "DOCKERHUB_PASSWORD", "DOCKERHUB_TOKEN"),
        *("QUAY_USERNAME", "QUAY_TOKEN"),
    }
)
"""Those that a gateway knows. Of a list every element is one, and whatever else is in it may be the
user's password: it is neither sent nor repeated."""

AS_DICT = 'a user name and a password are {"USERNAME": "…", "PASSWORD": "…"}'

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
        The image's Python: a name that is looked up, or a path. Another one is not taken in its
        place, but for `python` in that of `python3`.
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
        values = cast("Hidden[Mapping[str, str] | None]", given)
        problem = _problem_of_key(values)
        if problem is not None:
            raise problem
        return texts("base_image_creds", values)
    if issubclass(kind, (str, bytes)) or not issubclass(kind, Iterable):
        raise TypeError("base_image_creds is a dict of keys and values, or a list of keys")
    keys = Hidden(tuple(cast("Iterable[str]", given.reveal())))
    problem = _problem_of_list(keys)
    if problem is not None:
        raise problem
    return Hidden(dict.fromkeys(keys.reveal(), ""))


def _problem_of_key(given: Hidden[Mapping[str, str] | None]) -> Exception | None:
    for at, key in enumerate(given.reveal() or {}, start=1):
        if isinstance(key, str) and CREDENTIAL_KEY.fullmatch(key):
            continue
        # That it is a known one but for its case tells nothing of it.
        meant = key.upper() if isinstance(key, str) and key.upper() in CREDENTIAL_KEYS else None
        hint = AS_DICT if meant is None else f"did you mean {meant}?"
        return ValueError(f"key {at} of base_image_creds is not the name of a key\nhint: {hint}")
    return None


def _problem_of_list(given: Hidden[tuple[str, ...]]) -> Exception | None:
    for at, key in enumerate(given.reveal(), start=1):
        if not isinstance(key, str) or key not in CREDENTIAL_KEYS:
            return ValueError(
                f"element {at} of base_image_creds is not the name of a credential's key\n"
                f"hint: {AS_DICT}; a list has the names of keys whose values are secrets"
            )
    return None


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
