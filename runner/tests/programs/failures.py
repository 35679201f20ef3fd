"""Exceptions of every kind: chained, hostile, of this file's own."""

import sys


class Refused(Exception):
    """An exception of the user's own, with what pickle keeps."""

    def __init__(self, reason, code):
        super().__init__(reason, code)
        self.code = code


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("holds a function")
        self.function = iter(lambda: 1, 2)
        self.stream = sys.stdin


class Wordless(Exception):
    def __str__(self):
        raise SystemExit("no words")


class Shapeless(Exception):
    def __str__(self):
        return 7


class Strange(str):
    def __getitem__(self, _index):
        raise ValueError("not this way")

    def encode(self, *_arguments):
        raise ValueError("nor this")


class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__name__", "__qualname__", "__module__"):
            raise ValueError("not that")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Meta):
    pass


def dispatch(name, *args):
    return globals()[name](*args)


def own():
    raise Refused("not today", 17)


def unpicklable():
    raise Unpicklable


def chained():
    try:
        inner()
    except KeyError as error:
        raise ValueError("outer") from error


def inner():
    return {}["missing"]


def during():
    try:
        inner()
    except KeyError:
        raise ValueError("while handling") from None


def wordless():
    raise Wordless


def shapeless():
    raise Shapeless


def strange():
    raise ValueError(Strange("strange but shown"))


def nameless():
    raise Nameless("has no name")


def surrogates():
    raise ValueError("\ud800" * 100000)


def controls():
    raise ValueError("\0" * 100000)


def giant():
    raise ValueError("é" * 10000000)


def deep():
    return deep()


def mutual(depth=0):
    return mutual_too(depth + 1)


def mutual_too(depth):
    return mutual(depth + 1)


def long_chain(length):
    error = None
    for number in range(length):
        following = ValueError("link %d" % number)
        following.__cause__ = error
        error = following
    raise error


def circle():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    raise one


def group():
    raise ExceptionGroup("several", [own_error(), ValueError("second of them")])  # noqa: F821


def own_error():
    try:
        own()
    except Refused as error:
        return error


def syntax():
    exec(compile("this is no Python", "typed.py", "exec"))
