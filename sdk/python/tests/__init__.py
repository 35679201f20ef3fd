"""Tests: `python -m unittest` in the directory above, with nothing installed but the dependencies.

This puts the sources on the path, and what the tests share.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / "src"), str(HERE), str(HERE / "programs")]
