"""What is shown, where, and that nothing of others' moves a cursor."""

import io
from contextlib import redirect_stderr, redirect_stdout

from holdfast._console import ERASE_LINE, Console, Lines
from holdfast._text import one_line, printable, size
from holdfast._wire import Notice, Output, Progress
from support import TestCase, captured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Consoles(TestCase):
    def test_progress_is_for_terminals(self) -> None:
        for mode, expected in (("", ""), ("0", ""), ("1", "holdfast: a\\x1b[2J b\nholdfast: c\n")):
            with captured() as written:
                console = Console({"HOLDFAST_PROGRESS": mode})
                for message in ("a\x1b[2J\nb", "a\x1b[2J\nb", "c", None):
                    console.show(Progress(message))
                self.assertEqual(written(), ("", expected))

    def test_trouble_is_told_everywhere_unless_it_is_to_be_quiet(self) -> None:
        for mode, expected in (("", "holdfast: away\n"), ("0", ""), ("1", "holdfast: away\n")):
            with captured() as written:
                Console({"HOLDFAST_PROGRESS": mode}).show(Progress("away", is_trouble=True))
                self.assertEqual(written(), ("", expected))

    def test_a_line_is_written_over_and_gone_before_output(self) -> None:
        terminal = Terminal()
        with redirect_stderr(terminal), redirect_stdout(terminal):
            console = Console({})
            console.show(Progress("a" * 1000))
            console.show(Output("stdout", "out\n"))
            console.show(Progress(None))
        line, rest = terminal.getvalue().rsplit(ERASE_LINE, 1)
        self.assertEqual(rest, "out\n")
        self.assertLess(len(line), 500)
        quiet = Terminal()
        with redirect_stderr(quiet):
            Console({"HOLDFAST_PROGRESS": "0"}).show(Progress("a"))
        self.assertEqual(quiet.getvalue(), "")

    def test_a_stream_that_cannot_say_it(self) -> None:
        written = io.BytesIO()
        with io.TextIOWrapper(written, "ascii") as stream, redirect_stdout(stream):
            Console({}).show(Output("stdout", "ä\n"))
            self.assertEqual(written.getvalue(), b"\\xe4\n")

    def test_a_notice_is_logged(self) -> None:
        with self.assertLogs("holdfast", "WARNING") as logs:
            Console({}).show(Notice("it may run on"))
        self.assertEqual(logs.records[0].getMessage(), "it may run on")

    def test_whole_lines_only(self) -> None:
        with captured() as written:
            lines = Lines(Console({}))
            for text in ("a", "b\nc", "\n", "\n", "d"):
                lines.show(Output("stdout", text))
            lines.show(Output("stderr", "e"))
            self.assertEqual(written(), ("ab\nc\n\n", ""))
            lines.show(Output("stdout", "x" * 9000))
            lines.finish()
        self.assertEqual(written(), ("ab\nc\n\nd" + "x" * 9000, "e\n"))


class Texts(TestCase):
    def test_printable(self) -> None:
        for text, expected in (
            ("plain ä\n\tx", "plain ä\n\tx"),
            ("\x1b[31m\r\x07\x00", "\\x1b[31m\\r\\x07\\x00"),
            ("\u202e\u2028\ud800", "\\u202e\\u2028\\ud800"),
        ):
            self.assertEqual(printable(text), expected)
        self.assertEqual(printable("a" * 12, 10), "a" * 10 + "… 2 characters left out")
        self.assertEqual(one_line(" a\n b\r", 50), "a b\\r")

    def test_sizes(self) -> None:
        found = [size(amount) for amount in (0, 1023, 1536, 5 << 20, 3 << 40)]
        self.assertEqual(found, ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 MiB", "3072.0 GiB"])
