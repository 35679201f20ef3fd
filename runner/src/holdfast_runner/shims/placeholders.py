"""Stand-ins for what a client has and a container has not.

A *description*, such as an image, takes anything and chains without end: it was read where it was
written, and says nothing here. Of what *reaches the platform*, such as a queue, everything can be
named and made, so that a module that does so at its top can be imported; a call raises
`PlatformUnavailable`, with the name of what was called. Keyword arguments are kept as attributes.
"""

from holdfast_runner.errors import PlatformUnavailable

REFUSED_OPERATORS = (
    "__len__",
    "__iter__",
    "__contains__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__enter__",
    "__exit__",
    "__aenter__",
    "__aexit__",
    "__aiter__",
    "__await__",
)
"""How code reaches the platform without calling anything by name."""


def refuse(name: str):
    """Raises what a call into the platform ends with."""
    raise PlatformUnavailable(
        "%s needs the platform, which code in a container does not reach; pass what the function "
        "needs as arguments, and return what it makes" % name
    )


class Member:
    """An attribute of a placeholder: a method that is called, a constant, or a way to another."""

    def __init__(self, name: str, owner=None) -> None:
        self._name = name
        self._owner = owner

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return Member("%s.%s" % (self._name, name), self._owner)

    def __call__(self, *args, **kwargs):
        if self._owner is None:
            refuse(self._name)
        if len(args) == 1 and not kwargs and _is_plain_function(args[0]):
            # A method that decorates leaves what it decorates as it is.
            return args[0]
        return self._owner

    def __str__(self) -> str:
        """The last name: a member of an enumeration is written as what it stands for."""
        return self._name.rpartition(".")[2]

    def __repr__(self) -> str:
        return "<%s>" % self._name

    def __eq__(self, other) -> bool:
        return isinstance(other, Member) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self._name)


class PlaceholderType(type):
    """Gives the class itself attributes, too: `Image.from_registry`, `GpuType.T4`."""

    def __getattr__(cls, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        owner = object.__new__(cls) if issubclass(cls, Description) else None
        return Member("%s.%s.%s" % (cls.__module__, cls.__qualname__, name), owner)


class Placeholder(metaclass=PlaceholderType):
    """What both kinds have in common."""

    def __init__(self, *_args, **kwargs) -> None:
        self.__dict__.update(kwargs)

    def __getattr__(self, name: str):
        # Names of Python's own protocols are asked for by `copy`, `pickle` and many more.
        if name.startswith("_"):
            raise AttributeError(name)
        kind = type(self)
        owner = self if isinstance(self, Description) else None
        return Member("%s.%s.%s" % (kind.__module__, kind.__qualname__, name), owner)


class Description(Placeholder):
    """Says how something is to be; every method gives the description back."""

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs and _is_plain_function(args[0]):
            return args[0]
        return self


class Platform(Placeholder):
    """Reaches the platform when one of its methods is called."""

    def __bool__(self) -> bool:
        return True


def _refused_operator(operator: str):
    def method(self, *_args):
        kind = type(self)
        refuse("%s.%s.%s" % (kind.__module__, kind.__qualname__, operator))

    method.__name__ = operator
    return method


for _operator in REFUSED_OPERATORS:
    setattr(Platform, _operator, _refused_operator(_operator))


def _is_plain_function(value) -> bool:
    return callable(value) and not isinstance(value, (Placeholder, Member))
