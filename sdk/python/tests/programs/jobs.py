"""Functions of a user, as the tests call them."""

import enum
import sys
from dataclasses import dataclass

from holdfast import Image, function

image = Image(
    "registry.example.com/acme/app:v1",
    base_image_creds={"USERNAME": "alice", "PASSWORD": "pass-word-9d1f"},
)


class Refused(Exception):
    """One of the user's own."""


class Unloadable(Exception):
    """One whose pickle cannot be loaded."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Color(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: int


@function(image=image)
def add(left, right=1):
    return left + right


@function
async def add_later(left, right):
    return left + right


@function(image=image)
def talk(name):
    print("to", name)
    print("äö", file=sys.stderr)
    return name.upper()


@function(image=image)
def fail(how):
    if how == "own":
        raise Refused("not today")
    if how == "unloadable":
        raise Unloadable(1, 2)
    if how == "exit":
        sys.exit(3)
    if how == "stop":
        raise StopIteration
    if how == "die":
        import os

        os._exit(9)
    return lambda: how


@function(image=image)
def mirror(point, color):
    assert isinstance(point, Point)
    assert color is Color.RED
    return Point(point.y, point.x)


@function(image=image, format="json")
def plain(value):
    return {"got": value}


@function(image=image, env={"GREETING": "hello"})
def environment():
    import os

    return os.environ["GREETING"], "HOLDFAST_TOKEN" in os.environ


@function(image=image)
def slow():
    """Never runs: scripts play it."""


@function(image=image)
def lock():
    import threading

    return threading.Lock()
