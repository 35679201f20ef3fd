"""A value that nothing shows: credentials, tokens, and bodies of requests that hold them.

`reveal` is the one way to it, so that a search finds every use. Tracebacks that print local
variables print this in its place, and it cannot be pickled into a call.
"""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar, cast

T = TypeVar("T")


class Hidden(Generic[T]):
    """Holds a value; does not say which."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        return self._value

    def __repr__(self) -> str:
        return "<hidden>"

    def __format__(self, _specification: str) -> str:
        return "<hidden>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and bool(self._value == cast("Hidden[T]", other)._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential or token is not pickled; pass it as a secret by name")
