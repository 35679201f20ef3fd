"""Starts the real archive over a socket pair, and makes archives of users' programs.

Owns processes and files. What was started is killed, with its whole group, and what was written is
removed; the protocol is left to `worker`.
"""

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile

sys.dont_write_bytecode = True

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import build  # noqa: E402

WAIT_S = 30
"""For one message or one exit."""

PR_SET_CHILD_SUBREAPER = 36

SCRATCH = tempfile.mkdtemp(prefix="holdfast-runner-tests-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)

RUNNER = os.path.join(SCRATCH, "runner.pyz")
build.build(RUNNER)
# Modules of the runner that are pure are tested here as well. They come out of the archive, so
# that nothing is compiled into the sources.
sys.path.insert(0, RUNNER)

PROGRAMS = os.path.join(HERE, "programs")


def program_files() -> dict:
    """Every program of the tests, as what a user's archive holds."""
    files = {}
    for name in os.listdir(PROGRAMS):
        if name.endswith(".py"):
            with open(os.path.join(PROGRAMS, name), "rb") as file:
                files[name] = file.read()
    return files


def zipped(files: dict) -> str:
    """A path of an archive with these files."""
    descriptor, path = tempfile.mkstemp(suffix=".zip", dir=SCRATCH)
    os.close(descriptor)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def be_subreaper() -> None:
    """Has orphans below this process come to it, as they come to process 1 of a container."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Runner:
    """A process of the runner, its end of the socket handed over, and files of what it writes."""

    def __init__(self, subreaper: bool = False) -> None:
        self.folder = tempfile.mkdtemp(dir=SCRATCH)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(WAIT_S)
        # As a worker on an event loop would have it.
        theirs.setblocking(False)
        environment = dict(os.environ, HOLDFAST_RUNNER_FD=str(theirs.fileno()))
        # Line buffering is the runner's own doing, and is not to come from outside.
        environment.pop("PYTHONUNBUFFERED", None)
        with open(self.path(1), "wb") as stdout, open(self.path(2), "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, RUNNER],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=be_subreaper if subreaper else None,
            )
        theirs.close()

    def path(self, descriptor: int) -> str:
        return os.path.join(self.folder, "descriptor-%d" % descriptor)

    def wait(self) -> int:
        """The exit code, when the process has ended."""
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        self.socket.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()


SPARES = []
"""Runners that have been started already, so that the next tests need not wait for Python."""

SPARES_COUNT = 3


def take_spare() -> Runner:
    """A runner that has had time to start, and another one for later."""
    while len(SPARES) <= SPARES_COUNT:
        SPARES.append(Runner())
    return SPARES.pop(0)


@atexit.register
def close_spares() -> None:
    for runner in SPARES:
        runner.close()
