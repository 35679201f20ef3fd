"""What is written: where it goes, whole, in order, and before the result."""

import unittest

from case import TestCase
from worker import Worker


class OneAtATime(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = Worker()
        cls.addClassCleanup(cls.shared.close)
        cls.shared.load("functions:dispatch")

    def setUp(self) -> None:
        super().setUp()
        self.before = [len(self.shared.written(descriptor)) for descriptor in (1, 2)]

    def written(self) -> list:
        """What has been written since the test began."""
        return [self.shared.written(1)[self.before[0] :], self.shared.written(2)[self.before[1] :]]

    def test_ten_megabytes_are_there_before_the_result(self) -> None:
        self.shared.value("print_whole", 10000000)
        self.assertEqual(self.written(), ["y" * 10000000, ""])

    def test_a_line_is_not_held_back_while_the_function_runs(self) -> None:
        path = self.shared.pipe()
        attempt = self.shared.call("print_and_wait", path)
        # Opens when the function opens its side, which it does after it has printed.
        with open(path, "w"):
            self.assertEqual(self.written(), ["a whole line\n", ""])
        self.shared.result(attempt)

    def test_a_line_that_is_not_finished_is_there_before_the_result(self) -> None:
        self.shared.value("print_piece")
        self.assertEqual(self.written(), ["out", "error"])

    def test_children_write_in_order(self) -> None:
        self.shared.value("print_from_child")
        self.assertEqual(self.written(), ["before\nchild\nafter\n", "error\n"])

    def test_a_forked_child_does_not_repeat_its_parent(self) -> None:
        self.shared.value("fork_and_print")
        self.assertEqual(self.written(), ["once, and the child's own\n", ""])

    def test_the_c_librarys_buffer_is_there_before_the_result(self) -> None:
        self.shared.value("print_from_c", "from C\n")
        self.assertEqual(self.written(), ["from C\n", ""])

    def test_closed_streams_fail_no_call(self) -> None:
        worker = self.worker().load("functions:dispatch")
        worker.value("close_streams")
        self.assertEqual(worker.value("add", 1, 1), 2)


class SeveralAtATime(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = Worker()
        cls.addClassCleanup(cls.shared.close)
        cls.shared.load("functions:dispatch", concurrency=4)

    def setUp(self) -> None:
        super().setUp()
        self.shared.outputs.clear()

    def outputs(self, name: str, *args, stream: str = "stdout") -> str:
        """What a call of a function writes."""
        attempt = self.shared.call(name, *args)
        header, _ = self.shared.result(attempt)
        self.assertEqual(header["outcome"], "returned", header)
        return self.shared.output_of(attempt, stream)

    def test_output_is_tagged_and_comes_before_the_result(self) -> None:
        self.assertEqual(self.outputs("print_all", 3, "line"), "line\nline\nline\n")
        self.assertEqual(self.outputs("print_piece"), "out")
        self.assertEqual(self.outputs("print_piece", stream="stderr"), "error")
        self.assertEqual(self.outputs("print_surrogate"), "\\udcff\n")
        self.assertEqual(self.outputs("print_to_buffer"), "bytes\n")
        self.assertEqual(self.outputs("log", "warned", stream="stderr"), "warned\n")

    def test_ten_megabytes_come_in_pieces(self) -> None:
        self.assertEqual(self.outputs("print_whole", 10000000), "y" * 10000000)
        self.assertLessEqual(max(len(data) for _, _, data in self.shared.outputs), 32768)

    def test_many_lines_come_in_few_frames(self) -> None:
        self.assertEqual(self.outputs("print_all", 20000, "x" * 50), ("x" * 50 + "\n") * 20000)
        self.assertLess(len(self.shared.outputs), 20000)

    def test_calls_that_run_together_keep_their_output_apart(self) -> None:
        for name in ("meet", "meet_later"):
            with self.subTest(name):
                paths = [self.shared.pipe() for _ in range(4)]
                attempts = [self.shared.call(name, path, path) for path in paths]
                # All have come when all have opened their pipes.
                pipes = [open(path, "w") for path in paths]
                for pipe in pipes:
                    pipe.close()
                for _ in attempts:
                    self.shared.next_of("result")
                for attempt, path in zip(attempts, paths):
                    expected = "%s came\n%s left\n" % (path, path)
                    self.assertEqual(self.shared.output_of(attempt), expected)

    def test_a_thread_of_the_functions_own_is_of_no_call(self) -> None:
        self.assertEqual(self.outputs("print_from_thread"), "")
        self.assertEqual(self.shared.output_of(None), "from a thread\n")

    def test_one_write_is_not_broken_into_by_another(self) -> None:
        self.outputs("print_together", 8, 20, 50000)
        lines = self.shared.output_of(None).split("\n")
        self.assertEqual({(len(line), len(set(line))) for line in lines}, {(50000, 1), (0, 0)})
        self.assertEqual(len(lines), 8 * 20 + 1)

    def test_children_write_to_the_containers_own(self) -> None:
        self.assertEqual(self.outputs("print_from_child"), "before\nafter\n")
        self.outputs("fork_and_print")
        written = self.shared.written(1)
        self.assertEqual(written, "child\n, and the child's own\n")

    def test_what_is_written_after_the_last_result_goes_to_the_containers_own(self) -> None:
        worker = self.worker().load("functions:dispatch", concurrency=2)
        worker.value("log_at_exit", 100000)
        worker.send({"type": "stop"})
        self.assertEqual(worker.exit_code(), 0)
        self.assertEqual(worker.written(2), "z" * 100000 + "\n")

    def test_an_import_writes_as_no_call(self) -> None:
        worker = self.worker()
        worker.load("prints:function", concurrency=2)
        self.assertEqual(worker.output_of(None), "imported\n")


if __name__ == "__main__":
    unittest.main()
