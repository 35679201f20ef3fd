"""The names that the package has: all of them on purpose, and the same inside a container."""

import subprocess
import sys
from pathlib import Path

import holdfast
from holdfast import _exceptions
from support import PROGRAMS, TestCase

PACKAGE = Path(holdfast.__file__).parent
RUNNER = PROGRAMS.parents[3] / "runner" / "src"


class Exports(TestCase):
    def test_all_is_what_there_is(self) -> None:
        for name in holdfast.__all__:
            self.assertIsNotNone(getattr(holdfast, name), name)
        self.assertEqual(holdfast.__all__, sorted(holdfast.__all__))
        public = {name for name in dir(holdfast) if not name.startswith("_")}
        modules = {name for name in public if name in {"compat"}}
        self.assertEqual(public - modules, {*holdfast.__all__} - {"__version__"})

    def test_every_exception_is_exported_and_drawn(self) -> None:
        drawn = _exceptions.__doc__.split("What the function")[0]
        kinds = [
            value
            for value in vars(_exceptions).values()
            if isinstance(value, type) and issubclass(value, BaseException)
        ]
        for kind in kinds:
            self.assertIs(getattr(holdfast, kind.__name__), kind)
            self.assertEqual(kind.__module__, "holdfast")
            if issubclass(kind, holdfast.HoldfastError):
                self.assertIn(kind.__name__, drawn)

    def test_what_a_container_has_by_these_names(self) -> None:
        program = "import holdfast; print(*holdfast.__all__)"
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            cwd=RUNNER,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        self.assertEqual({*done.stdout.split()}, {*holdfast.__all__} - {"__version__"})

    def test_modules_are_private_or_named(self) -> None:
        for path in PACKAGE.rglob("*.py"):
            self.assertTrue(path.name.startswith("_") or "compat" in path.parts, path)
            self.assertLess(len(path.read_text().splitlines()), 280, path)
        self.assertTrue((PACKAGE / "py.typed").exists())
