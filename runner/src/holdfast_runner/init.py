"""Process 1 of the container: waits for every child, passes signals on, ends as the runner ends.

A process 1 that does not wait leaves its orphans as zombies, and the kernel ignores the signals
that it does not handle. So the function never runs in process 1: whatever it does to signals or
children, this loop is not in its reach. It is the same when the runner is not process 1 (in
tests, or under another init), since one path is easier to trust than two; orphans then come here
only if somebody made this process a subreaper.
"""

import os
import signal

FORWARDED = (signal.SIGTERM, signal.SIGINT)
WATCHED = (signal.SIGCHLD, *FORWARDED)

KILLED_BY_SIGNAL = 128
"""Shells add it to a signal's number to make an exit code of it, and so does every runtime."""


def fork_init(descriptor: int) -> None:
    """Forks, and returns in the child; the parent stays here until the child has ended."""
    # Ignored, it would have the kernel throw away what `waitpid` is to report.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Blocked signals wait for `sigwait`, so none can come between a look and a wait.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    child = os.fork()
    if child == 0:
        # An interrupt ends the container as a termination does, and does not become an
        # exception somewhere in the runner.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    # The worker is to see the socket close when the child ends.
    os.close(descriptor)
    os._exit(supervise(child))


def supervise(child: int) -> int:
    """Reaps and forwards until `child` has ended, and gives the exit code that stands for it."""
    while True:
        number = signal.sigwait(WATCHED)
        if number in FORWARDED:
            os.kill(child, number)
            continue
        status = reap(child)
        if status is not None:
            return exit_code(status)


def reap(child: int):
    """Waits for whoever has ended; gives the status of `child` if it is among them."""
    found = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if process == 0:
            return found
        if process == child:
            found = status


def exit_code(status: int) -> int:
    """The code of a process that ended by itself, or what stands for its signal."""
    if os.WIFSIGNALED(status):
        return KILLED_BY_SIGNAL + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)
