"""Whole programs in processes of their own, as users start them."""

import os
import subprocess
import sys
from pathlib import Path

import support
from fake_routes import TOKEN
from support import PROGRAMS, GatewayCase

SOURCES = Path(support.__file__).parent.parent / "src"


class Programs(GatewayCase):
    def run_program(self, *arguments: str, path: Path = PROGRAMS, **environment: str) -> str:
        done = self.try_program(*arguments, path=path, **environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def try_program(self, *arguments: str, path: Path, **environment: str):
        own = {name: text for name, text in os.environ.items() if not name.startswith("HOLDFAST")}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=path,
            env={
                **own,
                "PYTHONPATH": str(SOURCES),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HOLDFAST_GATEWAY": self.gateway.url,
                "HOLDFAST_TOKEN": TOKEN,
                "XDG_CONFIG_HOME": "/nonexistent",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=support.DEADLINE_S,
            check=False,
        )

    def test_a_script_and_its_classes(self) -> None:
        self.assertEqual(self.run_program("script.py", "a"), "ok a\n")
        self.assertEqual(self.run_program("-m", "script"), "ok\n")

    def test_a_program_for_another_client(self) -> None:
        out = self.run_program("-m", "holdfast.compat.beta9", "as_beta9.py", REGISTRY_TOKEN="t0ken")
        self.assertEqual(out, "Hello, 2 True! Hello, 3 True! Hello, 5 True! Hello, 5 True!\n")
        credential = {"USERNAME": "oauth2accesstoken", "PASSWORD": "t0ken"}
        self.assertEqual(self.gateway.images[0]["credential"], credential)
        stub = next(iter(self.gateway.stubs.values()))
        self.assertEqual((stub["handler"], stub["retries"]), ("as_beta9:my_function", 3))
        self.assertEqual((stub["cpu_millicores"], stub["memory_bytes"]), (1000, 1 << 30))

    def test_the_real_other_client_is_not_shadowed(self) -> None:
        path = self.directory(**{"beta9.py": "", "app.py": "import holdfast.compat.beta9"})
        done = self.try_program("app.py", path=path)
        self.assertIn("ImportError: the real package beta9 is installed", done.stderr)

    def test_what_another_client_has_and_we_have_not(self) -> None:
        for line, error in (
            ("from beta9 import endpoint", "NotSupportedError: beta9.endpoint is not supported"),
            ("from beta9 import endpiont", "ImportError: cannot import name 'endpiont'"),
            ("from beta9 import function\nfunction(gpu='T4')", r"function(gpu=…) is not supported"),
            (
                "from beta9 import Image\nImage(commands=['ls'])",
                "Image(commands=…) is not supported",
            ),
        ):
            path = self.directory(**{"app.py": f"import holdfast.compat.beta9\n{line}\n"})
            done = self.try_program("app.py", path=path)
            self.assertIn(error, done.stderr)

    def test_where_there_is_no_file(self) -> None:
        program = "from holdfast import function\n@function\ndef f(): pass\nf.remote()"
        done = self.try_program("-c", program, path=PROGRAMS)
        self.assertIn("hint: put it into a file", done.stderr)
        path = self.directory(**{"this.py": program})
        done = self.try_program(
            "-c", "import runpy; runpy.run_path('this.py', {}, '__main__')", path=path
        )
        self.assertIn("has the name of another module, this", done.stderr)

    def test_a_container_does_not_load_the_client(self) -> None:
        program = "import sys; sys.modules['holdfast_runner'] = sys; import holdfast"
        done = self.try_program("-c", program, path=PROGRAMS)
        self.assertIn("the runner's own `holdfast` is to be found first", done.stderr)

    def test_importing_is_cheap(self) -> None:
        program = (
            "import sys, holdfast; holdfast.function(len);"
            "slow = ('asyncio', 'httpcore2', 'cloudpickle');"
            "print([name for name in slow if name in sys.modules])"
        )
        self.assertEqual(self.run_program("-c", program, HOLDFAST_TOKEN=""), "[]\n")
