"""Archives of every kind: those that are unpacked, and those that are refused by name."""

import os
import stat
import struct
import tempfile
import unittest
import warnings
import zipfile

from case import TestCase
from started import SCRATCH

from holdfast_runner import unpack
from holdfast_runner.errors import CodeRefused

ENTRIES_LIMIT = 10
BYTES_LIMIT = 1000

CENTRAL = b"PK\x01\x02"
FLAGS_IN_CENTRAL, FLAGS_IN_LOCAL = 8, 6
METHOD_IN_CENTRAL, METHOD_IN_LOCAL = 10, 8
SIZE_IN_CENTRAL, SIZE_IN_LOCAL = 24, 22


def archive(*entries) -> bytes:
    """An archive of entries: name, content, and what else its header says."""
    path = tempfile.mktemp(dir=SCRATCH)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as written:
        # Of names that are there twice.
        warnings.simplefilter("ignore")
        for name, content, *more in entries:
            fields = more[0] if more else {}
            entry = zipfile.ZipInfo("replaced")
            entry.filename = name
            entry.compress_type = fields.get("method", zipfile.ZIP_DEFLATED)
            entry.external_attr = fields.get("mode", 0) << 16
            written.writestr(entry, content)
    with open(path, "rb") as file:
        return file.read()


def patched(data: bytes, in_local: int, in_central: int, form: str, value: int) -> bytes:
    """The first entry with another number in both of its headers."""
    changed = bytearray(data)
    struct.pack_into(form, changed, in_local, value)
    struct.pack_into(form, changed, data.index(CENTRAL) + in_central, value)
    return bytes(changed)


def flagged(flags: int) -> bytes:
    return patched(archive(("f", "x")), FLAGS_IN_LOCAL, FLAGS_IN_CENTRAL, "<H", flags)


def claiming(content: str, size_bytes: int) -> bytes:
    return patched(archive(("f", content)), SIZE_IN_LOCAL, SIZE_IN_CENTRAL, "<I", size_bytes)


REFUSED = {
    "an absolute path": (archive(("/etc/x", "")), "'/etc/x' has an absolute path"),
    "a parent": (archive(("../x", "")), "'../x' has a path that is not a plain one"),
    "a parent further in": (archive(("a/../b", "")), "not a plain one"),
    "a parent at the end": (archive(("a/..", "")), "not a plain one"),
    "a parent as a directory": (archive(("../", "")), "not a plain one"),
    "the same directory": (archive(("./a", "")), "not a plain one"),
    "an empty part": (archive(("a//b", "")), "not a plain one"),
    "an empty name": (archive(("", "")), "not a plain one"),
    "the root": (archive(("/", "")), "absolute"),
    "a backslash": (archive(("a\\b", "")), "backslash"),
    "a NUL": (archive(("a_b", "")).replace(b"a_b", b"a\0b"), "NUL"),
    "a name that is too long": (archive(("n" * 300, "")), "cannot be unpacked"),
    "a name that is no UTF-8": (archive(("é", "")).replace(b"\xc3\xa9", b"\xc3\xc3"), "be read"),
    "a symbolic link": (archive(("l", "/", {"mode": stat.S_IFLNK | 0o777})), "no file and no dir"),
    "a device": (archive(("d", "", {"mode": stat.S_IFBLK | 0o600})), "no file"),
    "a pipe": (archive(("p", "", {"mode": stat.S_IFIFO | 0o600})), "no file"),
    "a socket": (archive(("s", "", {"mode": stat.S_IFSOCK | 0o600})), "no file"),
    "a directory named as a file": (archive(("d", "", {"mode": stat.S_IFDIR | 0o755})), "no file"),
    "a file named as a directory": (archive(("d/", "", {"mode": stat.S_IFREG | 0o644})), "no file"),
    "a directory with content": (archive(("d/", "content")), "is a directory with content"),
    "a name twice": (archive(("a", "1"), ("a", "2")), "is there twice"),
    "a file and a directory": (archive(("a", ""), ("a/", "")), "is there twice"),
    "a file below a file": (archive(("a", ""), ("a/b", "")), "'a/b' cannot be unpacked"),
    "a directory over a file": (archive(("a", ""), ("a/b/", "")), "'a/b/' cannot be unpacked"),
    "encryption": (flagged(0x1), "is encrypted"),
    "strong encryption": (flagged(0x41), "is encrypted"),
    "a patch": (flagged(0x20), "in another way"),
    "another method": (archive(("f", "x", {"method": zipfile.ZIP_BZIP2})), "in another way"),
    "too many entries": (archive(*((str(i), "") for i in range(11))), "11 entries, more than 10"),
    "too many bytes": (archive(("a", "1" * 600), ("b", "2" * 401)), "'b' is where"),
    "a bomb": (archive(("bomb", "0" * 10000000)), "'bomb' is where"),
    "a bomb that claims little": (claiming("0" * 10000000, 10), "cannot be unpacked"),
    "a claim of too little": (claiming("x" * 20, 10), "cannot be unpacked"),
    "a claim of too much": (claiming("x" * 20, 30), "not as long as it says"),
    "another name inside": (archive(("f", "x")).replace(b"f", b"g", 1), "cannot be unpacked"),
    "content that is damaged": (
        archive(("f", "x" * 20, {"method": 0})).replace(b"xx", b"yy", 1), "cannot be unpacked"
    ),
    "a stream that is none": (
        patched(
            archive(("f", b"\xff" * 20, {"method": 0})),
            METHOD_IN_LOCAL,
            METHOD_IN_CENTRAL,
            "<H",
            zipfile.ZIP_DEFLATED,
        ),
        "cannot be unpacked",
    ),
    "half an archive": (archive(("f", "x"))[:40], "cannot be read"),
    "no archive": (b"#!/bin/sh", "cannot be read"),
    "nothing": (b"", "cannot be read"),
}


class Unpack(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.umask, os.umask(0o022))

    def unpack(self, data: bytes) -> str:
        directory = tempfile.mkdtemp(dir=SCRATCH)
        path = tempfile.mktemp(dir=SCRATCH)
        with open(path, "wb") as file:
            file.write(data)
        self.outside = set(os.listdir(SCRATCH))
        unpack.unpack(path, directory, ENTRIES_LIMIT, BYTES_LIMIT)
        return directory

    def test_archives_that_mislead_are_refused(self) -> None:
        for name, (data, text) in REFUSED.items():
            with self.subTest(name):
                with self.assertRaises(CodeRefused) as caught:
                    self.unpack(data)
                self.assertIn(text, str(caught.exception))
                self.assertEqual(set(os.listdir(SCRATCH)), self.outside)

    def test_names_are_shown_harmless(self) -> None:
        with self.assertRaises(CodeRefused) as caught:
            self.unpack(archive(("\x1b[31m\n\\" + "n" * 1000, "")))
        self.assertTrue(str(caught.exception).isprintable())
        self.assertLess(len(str(caught.exception)), 300)

    def test_files_and_directories_are_as_they_were_packed(self) -> None:
        directory = self.unpack(
            archive(
                ("plain.py", "print()"),
                ("package/deep/er.py", ""),
                ("empty/", "", {"mode": stat.S_IFDIR | 0o700}),
                ("tool", "#!", {"mode": stat.S_IFREG | 0o6711}),
                ("locked", "stored", {"mode": stat.S_IFREG | 0o400, "method": 0}),
                ("name with spaces, ünï", "x" * 980),
            )
        )
        found = {}
        for folder, folders, files in os.walk(directory):
            for name in folders + files:
                path = os.path.join(folder, name)
                mode = stat.S_IMODE(os.stat(path).st_mode)
                found[os.path.relpath(path, directory)] = (os.path.isdir(path), oct(mode))
        self.assertEqual(
            found,
            {
                "plain.py": (False, "0o644"),
                "package": (True, "0o755"),
                "package/deep": (True, "0o755"),
                "package/deep/er.py": (False, "0o644"),
                "empty": (True, "0o755"),
                "tool": (False, "0o755"),
                "locked": (False, "0o644"),
                "name with spaces, ünï": (False, "0o644"),
            },
        )
        with open(os.path.join(directory, "locked")) as file:
            self.assertEqual(file.read(), "stored")

    def test_nothing_that_is_there_is_overwritten_or_followed(self) -> None:
        for make in (lambda path: os.symlink("/nowhere", path), os.mkfifo, os.mkdir):
            directory, path = tempfile.mkdtemp(dir=SCRATCH), tempfile.mktemp(dir=SCRATCH)
            make(os.path.join(directory, "f"))
            with open(path, "wb") as file:
                file.write(archive(("f", "x")))
            with self.assertRaises(CodeRefused):
                unpack.unpack(path, directory, ENTRIES_LIMIT, BYTES_LIMIT)


if __name__ == "__main__":
    unittest.main()
