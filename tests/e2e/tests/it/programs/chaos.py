"""Many calls at once, each of which is told of in one line: `chaos.py COUNT`."""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from holdfast import Image, TaskError, function

AT_ONCE = 16

environment = os.environ.get

image = Image(
    base_image=environment("IMAGE", ""),
    base_image_creds={
        "USERNAME": environment("USERNAME", ""),
        "PASSWORD": environment("PASSWORD", ""),
    },
)


@function(image=image, cpu=0.4)
def once(number):
    print("made once", number, flush=True)
    time.sleep(0.1)
    return 2 * number


@function(image=image, cpu=0.4, retries=3)
def again(number):
    print("made again", number, flush=True)
    time.sleep(0.1)
    return 2 * number


def call(number):
    called = (once, again)[number % 2]
    told = {"function": called.__name__, "number": number}
    try:
        value = called.remote(number)
        told["outcome"] = "returned" if value == 2 * number else f"returned {value}"
    except TaskError as error:
        told["outcome"], told["why"] = type(error).__name__, str(error)
    # Whatever else is raised is told too, for the test to be shown it.
    except Exception as error:
        told["outcome"] = repr(error)
    print(json.dumps(told), flush=True)


def main():
    count = int(sys.argv[1])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(call, range(count)))


if __name__ == "__main__":
    main()
