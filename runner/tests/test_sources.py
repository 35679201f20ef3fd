"""The sources themselves: the oldest Python reads them, and the archive is always the same."""

import ast
import hashlib
import os
import unittest
import zipfile

import build
from case import TestCase
from started import RUNNER, SCRATCH

OLDEST_PYTHON = (3, 8)

VENDORED = {
    "cloudpickle/__init__.py": (
        "18e4c1f0ad3ef0313da1c96d39307afffee50cfe35a3140f1dcd5ebaf7e9ec71"
    ),
    "cloudpickle/cloudpickle.py": (
        "a723bcbdf02bf0ccd6ca1b1eedaf241a08e513e5fb4c060a0c501ef4b25b24cc"
    ),
    "cloudpickle/cloudpickle_fast.py": (
        "008e5929fd806cb3710fc957c8b0e9299cb3799da87c5b5d2b565616afde7357"
    ),
}
"""The sha256 of files that are not ours, as they are in what vendor.md names."""

LINE_CHARACTERS = 100
FILE_LINES = 250


class Sources(TestCase):
    def sources(self):
        for path in build.source_files(build.SOURCES):
            with open(os.path.join(build.SOURCES, path), "rb") as file:
                yield path, file.read()

    def test_the_oldest_python_reads_every_file(self) -> None:
        for path, data in self.sources():
            if path.endswith(".py"):
                with self.subTest(path):
                    ast.parse(data.decode("utf-8"), path, feature_version=OLDEST_PYTHON)

    def test_files_of_ours_are_short_and_say_what_they_are(self) -> None:
        for path, data in self.sources():
            if path.endswith(".py") and path not in VENDORED:
                with self.subTest(path):
                    text = data.decode("utf-8")
                    self.assertTrue(ast.get_docstring(ast.parse(text)))
                    self.assertLess(len(text.split("\n")), FILE_LINES)
                    self.assertLessEqual(max(map(len, text.split("\n"))), LINE_CHARACTERS)

    def test_what_is_vendored_is_unmodified(self) -> None:
        found = {path: hashlib.sha256(data).hexdigest() for path, data in self.sources()}
        self.assertEqual({path: found[path] for path in VENDORED}, VENDORED)
        self.assertIn("cloudpickle/LICENSE", found)

    def test_the_archive_is_always_the_same(self) -> None:
        again = os.path.join(SCRATCH, "again.pyz")
        build.build(again)
        with open(RUNNER, "rb") as one, open(again, "rb") as other:
            self.assertEqual(one.read(), other.read())
        with zipfile.ZipFile(again) as archive:
            self.assertIn("__main__.py", archive.namelist())
            self.assertEqual(archive.namelist(), sorted(archive.namelist()))


if __name__ == "__main__":
    unittest.main()
