"""Runs a program with Holdfast as its `beta9`: `python -m holdfast.compat.beta9 app.py …`."""

import os
import runpy
import sys

from holdfast.compat import beta9


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python -m holdfast.compat.beta9 FILE [ARGUMENT]…")
    beta9.register()
    del sys.argv[0]
    # As Python itself does for a script.
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
