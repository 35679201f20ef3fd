"""What is left out: patterns as in git, and the list of our own."""

from holdfast._ignore import Ignore, ignore
from support import TestCase

TABLE = [
    # patterns, path, whether it is a directory, whether it is left out
    ("*.log", "a.log", False, True),
    ("*.log", "b/a.log", False, True),
    ("*.log", "a.logs", False, False),
    ("/a", "a", False, True),
    ("/a", "b/a", False, False),
    ("b/a", "b/a", False, True),
    ("b/a", "c/b/a", False, False),
    ("a/", "a", True, True),
    ("a/", "a", False, False),
    ("a/", "b/a", True, True),
    ("**/a", "a", False, True),
    ("**/a", "b/c/a", False, True),
    ("a/**", "a", True, False),
    ("a/**", "a/b/c", False, True),
    ("a/**/b", "a/b", False, True),
    ("a/**/b", "a/x/y/b", False, True),
    ("a/**/b", "ab", False, False),
    ("a*b", "a/b", False, False),
    ("a?b", "axb", False, True),
    ("a?b", "a/b", False, False),
    ("a**b", "axyb", False, True),
    ("[a-c]x", "bx", False, True),
    ("[!a-c]x", "bx", False, False),
    ("[^a-c]x", "dx", False, True),
    ("[]x]y", "]y", False, True),
    ("[a-]y", "-y", False, True),
    ("[c-a]y", "cy", False, True),
    ("[c-a]y", "by", False, False),
    ("a[/]b", "a/b", False, False),
    ("[!x]", "/", False, False),
    ("[a", "[a", False, False),
    ("a\\", "a\\", False, False),
    ("\\*", "*", False, True),
    ("\\*", "a", False, False),
    ("# a", "# a", False, False),
    ("\\# a", "# a", False, True),
    ("\\!a", "!a", False, True),
    ("a  ", "a", False, True),
    ("a\\ ", "a ", False, True),
    ("a.b", "axb", False, False),
    ("ä*", "äö", False, True),
    ("a\n!a", "a", False, False),
    ("!a\na", "a", False, True),
    ("*\n!*.py", "x.py", False, False),
    ("a\r", "a", False, True),
    ("", "a", False, False),
    ("/", "a", True, False),
    ("*", "a/b", False, True),
]


class Patterns(TestCase):
    def test_table(self) -> None:
        for lines, path, is_directory, expected in TABLE:
            with self.subTest(lines=lines, path=path):
                found = Ignore(lines.split("\n")).leaves_out(path, is_directory)
                self.assertEqual(found, expected)

    def test_parents_count(self) -> None:
        made = Ignore(["a/", "!a/b"])
        self.assertTrue(made.leaves_out_any("a/b", False))
        self.assertFalse(made.leaves_out_any("b/a", False))

    def test_secrets_and_what_is_made_anew_stay_here(self) -> None:
        made = ignore("")
        for path in (
            ".env", ".env.production", "config/.env.local", "server.pem", "x/tls.key", "id_rsa",
            "id_ed25519.pub", ".netrc", ".pypirc", ".npmrc", ".git-credentials", ".aws/credentials",
            ".ssh/config", ".docker/config.json", ".kube/config", ".git/config", "a/.git",
            "__pycache__/a.cpython-311.pyc", "a.pyc", ".venv/bin/python", "venv/x",
            "web/node_modules/a.js", "terraform.tfstate",
        ):  # fmt: skip
            self.assertTrue(made.leaves_out_any(path, False), path)
        for path in (
            "app.py",
            "environment.py",
            "keys.py",
            "data/model.bin",
            "gitconfig",
            "a.keys",
        ):
            self.assertFalse(made.leaves_out_any(path, False), path)

    def test_each_can_be_taken_back(self) -> None:
        made = ignore("!.env.example\n*.csv\n")
        self.assertFalse(made.leaves_out(".env.example", False))
        self.assertTrue(made.leaves_out(".env", False))
        self.assertTrue(made.leaves_out("a/b.csv", False))
