"""The same function, called by the beta9 client as it comes from PyPI."""

import os

import turns
from beta9 import Image, function


# A core, as our own package asks for.
@function(image=Image(base_image=os.environ.get("IMAGE", "")), cpu=1)
def nothing(_number=None):
    return None


if __name__ == "__main__":
    turns.take({"call": turns.one_by_one(nothing.remote)})
