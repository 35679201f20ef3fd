"""A user's script: what it defines is `__main__` here and `script` in a container."""

import enum
import sys
from dataclasses import dataclass

from holdfast import Image, function

image = Image("registry.example.com/acme/app:v1")


class Color(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int


class Refused(Exception):
    pass


@function(image=image)
def check(point, color, kind, twice, other):
    assert __name__ == "script", __name__
    assert isinstance(point, Point)
    assert color is Color.RED
    assert kind is Refused
    if point.x == 0:
        raise Refused(color)
    return Point(twice(point.x)), color, other.local(1)


@function(image=image)
def other(number):
    return number + 1


def main():
    factor = 3
    point, color, two = check.remote(Point(7), Color.RED, Refused, lambda x: x * factor, other)
    assert (point, color, two) == (Point(21), Color.RED, 2), (point, color, two)
    try:
        check.remote(Point(0), Color.RED, Refused, len, other)
    except Refused as error:
        assert error.args == (Color.RED,)
        print("ok", *sys.argv[1:])


if __name__ == "__main__":
    main()
