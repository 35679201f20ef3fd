"""Programs of users that import `holdfast` or `beta9`: they load, and their functions run."""

import unittest

from case import TestCase
from started import zipped

BETA9_NAMES = """
    Bot BotContext BotEventType BotLocation Client CloudBucket CloudBucketConfig Container
    DatabaseServingConfig Deployment DurableDisk Gpu GpuType Image ImageBuildError ManagedEndpoint
    Map Output Pod Pool PythonVersion Queue QueueDepthAutoscaler RemoteExecutionError Sandbox
    SandboxConnectionError SandboxFileInfo SandboxFilePosition SandboxFileSearchMatch
    SandboxFileSearchRange SandboxFileSearchResult SandboxFileSystem SandboxFileSystemError
    SandboxInstance SandboxProcess SandboxProcessError SandboxProcessManager SandboxProcessResponse
    SandboxProcessStream Secret Service ServingConfig Task TaskPolicy VM Volume asgi endpoint env
    experimental function integrations realtime schedule schema task_queue
"""
"""What `beta9` 0.1.291 exports."""

IMPORTS = """
def function():
    import importlib
    beta9 = importlib.import_module("beta9")
    names = NAMES.split()
    absent = [name for name in names if not hasattr(beta9, name)]
    try:
        from beta9 import Misspelt
    except ImportError:
        absent.append("Misspelt")
    return absent, sorted(set(names) - set(beta9.__all__)), set(names) <= set(dir(beta9))
"""


class Shims(TestCase):
    def test_the_programs_of_the_documents_run(self) -> None:
        for program in ("hello_holdfast", "hello_beta9"):
            with self.subTest(program):
                worker = self.ready(program + ":my_function")
                self.assertEqual(worker.value(), "Hello!")

    def test_decorated_functions_run_here_in_every_way(self) -> None:
        worker = self.ready("hello_holdfast:all_ways")
        later = [9, 9, 9, [1, 4], [1, 4], 16]
        named = ("square", "The square of a number.", 25)
        expected = [4, 4, 4, [0, 1, 4], [6, 20], 4, [1, 4], later, named, True, True]
        self.assertEqual(worker.value(), expected)

    def test_an_asynchronous_handler_is_run_to_its_end(self) -> None:
        worker = self.ready("hello_holdfast:square_later", concurrency=2)
        self.assertEqual(worker.value(7), 49)

    def test_what_only_a_client_does_is_refused_by_name(self) -> None:
        header, _ = self.ready("hello_holdfast:deploy").run()
        self.assertEqual(header["exception"]["type"], "PlatformUnavailable")
        self.assertIn("holdfast.function.deploy needs the platform", header["exception"]["message"])

    def test_every_name_of_beta9_is_there(self) -> None:
        with_names = "NAMES = %r\n%s" % (BETA9_NAMES, IMPORTS)
        worker = self.worker().load("names:function", code=zipped({"names.py": with_names}))
        self.assertEqual(worker.value(), (["Misspelt"], [], True))

    def test_a_program_that_uses_much_of_beta9(self) -> None:
        expected = {
            "plain": [2, 3, "tick", None, [1]],
            "kept": ["./weights", 3],
            "chained": True,
            "the same": [True, True, True],
            "members": ["T4", True, False],
            "copied": [True, True],
            "truth": True,
            "an error": True,
            "environment": [3, True, True],
            "a field": "p",
            "all": [],
        }
        self.assertEqual(self.ready("uses_beta9:describe").value(), expected)

    def test_reaching_the_platform_of_beta9_is_refused_by_name(self) -> None:
        worker = self.ready("uses_beta9:reach")
        names = "Queue.put Map.__setitem__ Map.__len__ Map.__iter__ Volume.get_or_create"
        names += " Output.from_file Sandbox.connect Pod.create task_queue.put endpoint.serve"
        for name in (names + " experimental.Signal.monitor").split():
            with self.subTest(name):
                exception = worker.run("beta9." + name)[0]["exception"]
                self.assertEqual(exception["type"], "PlatformUnavailable")
                self.assertTrue(exception["message"].startswith("beta9.%s needs" % name))


if __name__ == "__main__":
    unittest.main()
