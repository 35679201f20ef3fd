"""What is sent of a directory, and where in it a function is."""

import io
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from unittest import mock

import jobs

import holdfast
from holdfast import _code
from holdfast._code import pack
from holdfast._place import locate, place_of
from support import PROGRAMS, TestCase


class Archives(TestCase):
    def names(self, root: Path) -> list[str]:
        return zipfile.ZipFile(io.BytesIO(pack(str(root)).archive)).namelist()

    def refused(self, root: Path, words: str) -> None:
        with self.assertRaisesRegex(holdfast.CodeError, words):
            pack(str(root))

    def test_the_same_files_give_the_same_bytes(self) -> None:
        files = {"app.py": "1", "lib__a.py": "2", "lib__data__x.txt": "3"}
        one = self.directory(**files)
        other = self.directory(**dict(reversed(files.items())))
        os.utime(other / "app.py", (1, 1))
        (other / "app.py").chmod(0o600)
        self.assertEqual(pack(str(one)), pack(str(other)))
        self.assertEqual(self.names(one), ["app.py", "lib/a.py", "lib/data/x.txt"])
        (other / "app.py").chmod(0o700)
        self.assertNotEqual(pack(str(one)).digest, pack(str(other)).digest)

    def test_entries_are_such_as_the_runner_unpacks(self) -> None:
        root = self.directory(**{"app.py": "1", "run.sh": "#!/bin/sh", "ä.py": "2", "empty.py": ""})
        (root / "run.sh").chmod(0o755)
        archive = zipfile.ZipFile(io.BytesIO(pack(str(root)).archive))
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        self.assertEqual(
            modes, {"app.py": 0o100644, "run.sh": 0o100755, "ä.py": 0o100644, "empty.py": 0o100644}
        )
        self.assertEqual({entry.date_time for entry in archive.infolist()}, {(1980, 1, 1, 0, 0, 0)})
        target = self.directory()
        program = (
            "import sys; from holdfast_runner.unpack import unpack; unpack(*sys.argv[1:3], 9, 99)"
        )
        runner = PROGRAMS.parents[3] / "runner" / "src"
        (target / "a.zip").write_bytes(pack(str(root)).archive)
        subprocess.run(
            [sys.executable, "-B", "-c", program, str(target / "a.zip"), str(target / "out")],
            env={**os.environ, "PYTHONPATH": str(runner)},
            check=True,
            timeout=30,
        )
        self.assertEqual((target / "out" / "ä.py").read_text(), "2")
        self.assertTrue(os.access(target / "out" / "run.sh", os.X_OK))

    def test_what_is_left_out(self) -> None:
        root = self.directory(
            **{
                "app.py": "", ".env": "S=1", "deep__tls.key": "", "venv2__pyvenv.cfg": "",
                "venv2__lib__a.py": "", "logs__a.log": "", "logs__keep.txt": "",
                ".holdfastignore": "*.log\n",
            }
        )  # fmt: skip
        os.mkfifo(root / "pipe")
        self.assertEqual(self.names(root), [".holdfastignore", "app.py", "logs/keep.txt"])

    def test_links(self) -> None:
        root = self.directory(**{"app.py": "1", "lib__a.py": "2", ".env": "3", "venv__x.py": "4"})
        (root / "file").symlink_to("lib/a.py")
        (root / "directory").symlink_to(root / "lib")
        (root / "secret").symlink_to(".env")
        (root / "packages").symlink_to("venv")
        (root / "nowhere").symlink_to("not-there")
        (root / ".#lock").symlink_to("alice@host.1:2")
        self.assertEqual(self.names(root), ["app.py", "directory/a.py", "file", "lib/a.py"])
        (root / "etc").symlink_to("/etc/hostname")
        self.refused(root, "etc is a link to /etc/hostname, outside")
        (root / "etc").unlink()
        (root / "up").symlink_to("../")
        self.refused(root, "up is a link to")
        (root / ".holdfastignore").write_text("up\n")
        self.assertIn("file", self.names(root))

    def test_loops_are_refused(self) -> None:
        for target in (".", "../a"):
            root = self.directory(a__b="")
            (root / "a" / "loop").symlink_to(target)
            self.refused(root, "a/loop is a link to a directory that it is in")

    def test_names_that_cannot_be_sent(self) -> None:
        for name in (b"a\\b", b"\xff"):
            root = self.directory()
            Path(os.fsdecode(os.fsencode(root) + b"/" + name)).touch()
            self.refused(root, "has a name that cannot be sent")

    def test_limits(self) -> None:
        root = self.directory(**{f"{number}.txt": "x" * number for number in range(8)})
        with mock.patch.object(_code, "ENTRIES_LIMIT", 7):
            self.refused(root, "over 7 files")
        with mock.patch.object(_code, "BYTES_LIMIT", 27):
            self.refused(root, r"28 bytes of files.*7.txt \(7 bytes\), 6.txt")
        with mock.patch.object(_code, "BYTES_LIMIT", 28):
            self.assertEqual(len(self.names(root)), 8)

    def test_what_cannot_be_read(self) -> None:
        root = self.directory()
        (root / ".holdfastignore").write_bytes(b"\xff")
        self.refused(root, ".holdfastignore cannot be read")


class Places(TestCase):
    def refused(self, function: object, words: str) -> None:
        with self.assertRaisesRegex(holdfast.CodeError, words):
            place_of(function.__wrapped__, function)

    def test_a_function_of_a_module(self) -> None:
        place = place_of(jobs.add.__wrapped__, jobs.add)
        self.assertEqual((place.root, place.handler), (str(PROGRAMS), "jobs:add"))

    def test_modules(self) -> None:
        root = self.directory(pkg____init__="", pkg__sub__mod="")
        for name, file, spec, expected in (
            ("app", "app.py", None, "app"),
            ("pkg.sub.mod", "pkg/sub/mod.py", None, "pkg.sub.mod"),
            ("pkg", "pkg/__init__.py", None, "pkg"),
            ("__main__", "my-app.py", None, "my-app"),
            ("__mp_main__", "app.py", None, "app"),
            ("__main__", "pkg/sub/mod.py", "pkg.sub.mod", "pkg.sub.mod"),
            ("__main__", "pkg/__main__.py", "pkg.__main__", "pkg.__main__"),
        ):
            module = a_module(root, name, file, spec)
            self.assertEqual(locate(module, "f"), (str(root), expected))

    def test_what_a_container_would_not_find(self) -> None:
        root = self.directory()
        for name, file, words in (
            ("__main__", "my.app.py", "has a dot"),
            ("__main__", "random.py", "another module, random"),
            ("__main__", "holdfast.py", "another module, holdfast"),
            ("__main__", "__main__.py", "another module, __main__"),
            ("__main__", "app", "no .py file"),
            ("a.b", "c/b.py", "where its name does not lead"),
            ("pkg", "lib/site-packages/pkg.py", "in an installed package"),
        ):
            module = a_module(root, name, file, None)
            with self.subTest(file), self.assertRaisesRegex(holdfast.CodeError, words):
                locate(module, "f")
        with self.assertRaisesRegex(holdfast.CodeError, "a notebook or a prompt"):
            locate(types.ModuleType("__main__"), "f")
        with mock.patch.dict(os.environ, HOME=str(root)):
            with self.assertRaisesRegex(holdfast.CodeError, "all of that would be sent"):
                locate(a_module(root, "__main__", "app.py", None), "f")

    def test_functions_without_a_name_of_their_own(self) -> None:
        @holdfast.function
        def inner() -> None: ...

        self.refused(inner, "inside another one")
        self.refused(holdfast.function(lambda: 1), "a lambda")
        inner.__wrapped__.__qualname__, inner.__wrapped__.__module__ = "add", "jobs"
        self.refused(inner, "something else than the function add")


def a_module(root: Path, name: str, file: str, spec: str | None) -> types.ModuleType:
    module = types.ModuleType(name)
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    module.__file__ = str(path)
    module.__spec__ = None if spec is None else types.SimpleNamespace(name=spec)
    return module
