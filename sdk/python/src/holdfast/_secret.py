"""A secret of the workspace, by its name: its value never comes here.

Only the gateway opens secrets, and only for a container that is to have them, as environment
variables of the same names. `holdfast secret set NAME` stores one.
"""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Secret:
    """A name of a secret that a function is to have in its environment."""

    __slots__ = ("name",)

    name: str

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a secret is text and not {type(name).__name__}")
        if NAME.fullmatch(name) is None:
            # The text is not repeated: it may be the value, where the name was asked for.
            raise ValueError("the name of a secret has letters, digits and underscores only")
        self.name = name

    @classmethod
    def from_name(cls, name: str) -> Secret:
        return cls(name)

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.name == other.name

    def __hash__(self) -> int:
        return hash((Secret, self.name))
