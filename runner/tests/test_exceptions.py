"""Exceptions as data: whatever is raised, there is a header that a strict reader takes."""

import os
import pickle
import sys
import unittest

from case import TestCase
from worker import Worker

HAS_GROUPS = sys.version_info >= (3, 11)

HOSTILE = {
    "wordless": ("Wordless", "(its text cannot be made)"),
    "shapeless": ("Shapeless", "(its text cannot be made)"),
    "strange": ("ValueError", "strange but shown"),
    "nameless": ("Exception", "has no name"),
    "surrogates": ("ValueError", "\\ud800"),
    "controls": ("ValueError", "\0"),
    "giant": ("ValueError", "characters left out"),
    "deep": ("RecursionError", "recursion"),
    "mutual": ("RecursionError", "recursion"),
    "circle": ("ValueError", "one"),
    "syntax": ("SyntaxError", "invalid syntax"),
    "unpicklable": ("Unpicklable", "holds a function"),
}


class Exceptions(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = Worker()
        cls.addClassCleanup(cls.shared.close)
        cls.shared.load("failures:dispatch")

    def raised(self, *args):
        header, payload = self.shared.run(*args)
        self.assertEqual(header["outcome"], "raised")
        exception = header["exception"]
        self.assertEqual(sorted(exception), ["message", "module", "traceback", "type"])
        for text in exception.values():
            # As strict as any reader: no lone surrogate.
            text.encode("utf-8")
        self.assertNotIn("holdfast_runner", exception["traceback"])
        return exception, payload

    def test_an_exception_of_the_users_own(self) -> None:
        exception, payload = self.raised("own")
        self.assertEqual((exception["type"], exception["module"]), ("Refused", "failures"))
        self.assertEqual(exception["message"], "('not today', 17)")
        programs = os.path.join(self.shared.folder, "code")
        sys.path.insert(0, programs)
        self.addCleanup(sys.path.remove, programs)
        error = pickle.loads(payload)
        found = (error.args, error.code, error.__traceback__)
        self.assertEqual(found, (("not today", 17), 17, None))

    def test_the_traceback_is_what_the_user_would_see(self) -> None:
        lines = self.raised("chained")[0]["traceback"].split("\n")
        self.assertEqual(lines[0], "Traceback (most recent call last):")
        shown = [line.split('"')[1:] for line in lines if line.startswith("  File")]
        places = [(os.path.basename(name), rest.split(" in ")[1]) for name, rest in shown]
        expected = ["chained", "inner", "dispatch", "chained"]
        self.assertEqual(places, [("failures.py", name) for name in expected])
        self.assertIn("KeyError: 'missing'", lines)
        self.assertIn("The above exception was the direct cause of the following exception:", lines)
        self.assertEqual(lines[-2:], ["ValueError: outer", ""])

    def test_a_context_that_is_suppressed_is_left_out(self) -> None:
        self.assertNotIn("KeyError", self.raised("during")[0]["traceback"])

    def test_hostile_exceptions_are_told_all_the_same(self) -> None:
        for name, (kind, text) in HOSTILE.items():
            with self.subTest(name):
                exception, payload = self.raised(name)
                self.assertEqual(exception["type"], kind)
                self.assertIn(text, exception["message"])
                self.assertTrue(exception["traceback"])
                if name == "unpicklable":
                    self.assertEqual(payload, b"")

    def test_a_long_traceback_keeps_both_ends(self) -> None:
        traceback = self.raised("mutual")[0]["traceback"]
        self.assertLess(len(traceback), 49152)
        self.assertTrue(traceback.startswith("Traceback (most recent call last):\n"))
        self.assertIn("RecursionError", traceback[-200:])

    def test_a_long_chain_is_cut_or_given_up(self) -> None:
        exception, _ = self.raised("long_chain", 3000)
        self.assertEqual(exception["message"], "link 2999")

    def test_groups_show_their_members(self) -> None:
        if not HAS_GROUPS:
            # There is nothing of the name in this Python, and that is what is told.
            self.assertEqual(self.raised("group")[0]["type"], "NameError")
            return
        exception, payload = self.raised("group")
        self.assertIn("('not today', 17)", exception["traceback"])
        self.assertIn("second of them", exception["traceback"])
        self.assertIn("in own\n", exception["traceback"])
        self.assertTrue(payload)


if __name__ == "__main__":
    unittest.main()
