"""Functions that write, in every way that a function may."""

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import threading


def print_all(count, line):
    for _ in range(count):
        print(line)


def print_whole(length):
    sys.stdout.write("y" * length)


def print_piece():
    """Leaves a line open, on both streams."""
    print("out", end="")
    print("error", end="", file=sys.stderr)


def print_and_wait(path):
    """Prints a line, and goes on when somebody writes to the pipe at `path`."""
    print("a whole line")
    with open(path) as pipe:
        return pipe.read()


def print_from_child():
    print("before")
    subprocess.check_call(["sh", "-c", "echo child; echo error >&2"])
    print("after")


def print_to_buffer():
    sys.stdout.buffer.write(b"bytes\n")
    return sys.stdout.fileno(), sys.stdout.encoding, sys.stdout.isatty()


def print_surrogate():
    print("\udcff")


def print_from_thread():
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()


def meet(path, name):
    """Prints before and after another call has come here, too."""
    print("%s came" % name)
    with open(path) as pipe:
        pipe.read()
    print("%s left" % name)


async def meet_later(path, name):
    run = contextvars.copy_context().run
    await asyncio.get_running_loop().run_in_executor(None, run, meet, path, name)


def print_together(threads, lines, length):
    """Many threads write long lines, each in one write."""

    def write(letter):
        for _ in range(lines):
            sys.stdout.write(letter * length + "\n")

    writers = [threading.Thread(target=write, args=(chr(65 + i),)) for i in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def fork_and_print():
    """The parent leaves a line open, and the child ends it."""
    print("once", end="")
    child = os.fork()
    if child == 0:
        print(", and the child's own")
        return
    os.waitpid(child, 0)


def print_from_c(text):
    import ctypes

    ctypes.CDLL(None).fputs(text.encode(), ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stdout"))


def close_streams():
    sys.stdout.close()
    sys.stderr = None


def log(text):
    logging.getLogger("functions").warning(text)


def log_at_exit(length):
    """Keeps the stream that it finds, as handlers of logs do, until the process exits."""
    import atexit

    handler = logging.StreamHandler()
    atexit.register(handler.stream.write, "z" * length + "\n")


def leave_exit_handler():
    import atexit

    atexit.register(print, "an exit handler ran")
