"""Setup: what is in place before the function is called, and every way in which it fails."""

import os
import unittest

from case import TestCase
from started import program_files, zipped
from worker import LIMITS

SETUP_FAILED = 1


class Setup(TestCase):
    def test_environment_code_and_path_are_in_place(self) -> None:
        code = dict(program_files(), **{"added/extra.py": "VALUE = 5", "early.py": EARLY})
        worker = self.worker()
        environment = {"SECRET": "s", "TZ": "XYZ-5", "PYTHONPATH": worker.folder + "/code/added"}
        message = worker.setup("early:show", code=zipped(code), environment=environment)
        self.assertEqual(message, {"type": "ready"}, worker.written(2))
        directory = os.path.join(worker.folder, "code")
        self.assertEqual(worker.value(), ["s", "XYZ", 5, directory, directory, "early"])

    def test_code_may_be_there_already(self) -> None:
        worker = self.worker()
        os.makedirs(worker.folder + "/code/package")
        with open(worker.folder + "/code/package/module.py", "w") as file:
            file.write("class Holder:\n    @staticmethod\n    def function(): return 6\n")
        message = worker.setup("package.module:Holder.function", code=None)
        self.assertEqual(message, {"type": "ready"})
        self.assertEqual(worker.value(), 6)

    def test_failures_say_stage_and_exception(self) -> None:
        workers = {}
        for name, (_, _, _, fields) in FAILURES.items():
            # All at once, since most of the time is that of starting Python.
            worker = workers[name] = self.worker()
            source = fields.get("source", "")
            defaults = {"handler": "fails:f", "code": zipped({"fails.py": source})}
            given = {key: value for key, value in fields.items() if key != "source"}
            worker.start_setup(**dict(defaults, **given))
        for name, (stage, kind, text, _) in FAILURES.items():
            with self.subTest(name):
                message, _ = workers[name].next_of("ready", "failed")
                self.assertEqual(message["type"], "failed")
                self.assertEqual((message["stage"], message["exception"]["type"]), (stage, kind))
                self.assertIn(text, message["exception"]["message"])
                self.assertNotIn("holdfast_runner", message["exception"]["traceback"])
                self.assertEqual(workers[name].exit_code(), SETUP_FAILED)

    def test_a_traceback_of_an_import_shows_the_users_lines(self) -> None:
        worker = self.worker()
        code = zipped({"a.py": "import b\n", "b.py": "def f():\n    raise ValueError('x')\nf()\n"})
        traceback = worker.setup("a:f", code=code)["exception"]["traceback"]
        lines = [line.strip() for line in traceback.split("\n") if line.startswith("  File")]
        shown = [(os.path.basename(line.split('"')[1]), line.split(", ")[1]) for line in lines]
        self.assertEqual(shown, [("a.py", "line 1"), ("b.py", "line 3"), ("b.py", "line 2")])

    def test_modules_of_the_user_do_not_replace_the_runners(self) -> None:
        names = "json pickle traceback queue threading zipfile holdfast beta9 holdfast_runner"
        code = {name + ".py": "raise RuntimeError('taken')" for name in names.split()}
        code.update({"cloudpickle/__init__.py": "raise RuntimeError('taken')", "app.py": APP})
        worker = self.worker()
        self.assertEqual(worker.setup("app:f", code=zipped(code))["type"], "ready")
        header, _ = worker.run()
        self.assertEqual(header["outcome"], "returned", header)


APP = """
from holdfast import function
from beta9 import Image

@function(image=Image())
def f():
    return lambda: 1
"""

EARLY = """
import os, sys, time, extra
SEEN = [os.environ["SECRET"], time.tzname[0], extra.VALUE, os.getcwd(), sys.path[0], __name__]
def show(): return SEEN
"""

FAILURES = {
    "no module": ("import", "ModuleNotFoundError", "'absent'", {"handler": "absent:f"}),
    "an import that raises": ("import", "ValueError", "why", {"source": "raise ValueError('why')"}),
    "an import that exits": ("import", "SystemExit", "3", {"source": "import sys; sys.exit(3)"}),
    "an interrupt": ("import", "KeyboardInterrupt", "", {"source": "raise KeyboardInterrupt"}),
    "bad syntax": ("import", "SyntaxError", "", {"source": "def f(:"}),
    "no attribute": ("handler", "HandlerNotFound", "has no 'f'", {}),
    "no callable": ("handler", "HandlerNotFound", "type int", {"source": "f = 1"}),
    "no attribute of an attribute": ("handler", "HandlerNotFound", "", {"handler": "fails:f.g"}),
    "no colon": ("handler", "HandlerNotFound", "'fails'", {"handler": "fails"}),
    "no module name": ("handler", "HandlerNotFound", "':f'", {"handler": ":f"}),
    "Python's own module": ("handler", "HandlerNotFound", "queue.py", {"handler": "queue:f"}),
    "a NUL in the environment": ("environment", "ValueError", "", {"environment": {"A": "\0"}}),
    "no archive": ("unpack", "CodeRefused", "cannot be read", {"code": "/nowhere.zip"}),
    "no directory": ("unpack", "NotADirectoryError", "", {"code_dir": "/dev/null/code"}),
    "no entry is allowed": ("unpack", "CodeRefused", "more than 0", {
        "limits": dict(LIMITS, code_entries=0)
    }),
}


if __name__ == "__main__":
    unittest.main()
