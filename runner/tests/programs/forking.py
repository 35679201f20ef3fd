"""Functions that make processes, or end their own."""

import ast
import contextlib
import os
import signal
import subprocess
import sys


async def fork_later():
    child = os.fork()
    if child == 0:
        return "child"
    return os.waitpid(child, 0)[1]


def sockets():
    """The sockets that this process has, one that it forks, and one that it starts."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, repr(own_sockets()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    forked = ast.literal_eval(os.read(reading, 10000).decode())
    script = "import functions; print(functions.own_sockets())"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    started = subprocess.check_output(command, close_fds=False, env=environment)
    return own_sockets(), forked, ast.literal_eval(started.decode())


def own_sockets():
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink("/proc/self/fd/" + name)
            found += [target] if "socket" in target else []
    return found


def leave_orphan(path):
    """Starts a grandchild that ends when somebody has opened the pipe at `path`."""
    script = "(read line < '%s') > /dev/null & echo $!" % path
    return int(subprocess.check_output(["sh", "-c", script]))


def parent():
    return os.getppid()


def kill_self(number):
    os.kill(os.getpid(), number)
    signal.pause()


def exit_now(code):
    os._exit(code)
