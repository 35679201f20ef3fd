"""The program of the design, for the beta9 client as it comes from PyPI: `with_beta9.py WHAT`."""

import os
import sys

from beta9 import Image, function

image = Image(
    base_image=os.environ.get("IMAGE", ""),
    base_image_creds={
        "USERNAME": os.environ.get("USERNAME", ""),
        "PASSWORD": os.environ.get("PASSWORD", ""),
    },
)


@function(image=image)
def my_function():
    print("in the container")
    return "Hello!"


@function(image=image)
def double(number):
    return 2 * number


if __name__ == "__main__":
    if sys.argv[1] == "map":
        print("sum", sum(double.map(range(100))))
    else:
        print("value", my_function.remote())
