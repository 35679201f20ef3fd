"""A function that does nothing, called by our own package."""

import os

import turns
from holdfast import Image, function


# A core for each container, and two at most: as much as the peers have.
@function(image=Image(os.environ.get("IMAGE", "")), cpu=1, keep_warm=600, max_containers=2)
def nothing(_number=None):
    return None


def call_all(count):
    for _ in nothing.map(range(count)):
        pass


if __name__ == "__main__":
    turns.take({"call": turns.one_by_one(nothing.remote), "all": turns.together(call_all)})
