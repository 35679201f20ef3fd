"""The event loop that coroutines of calls run on: one, made when the first comes, kept until stop.

With one call at a time it runs in the main thread while a call does, and stands still between
calls, so that a coroutine has the main thread as any function has. With several it has a thread
of its own and never stands still. Whoever has the call waits for its coroutine: results are
pickled and output is flushed outside of the loop, which goes on for the others meanwhile.
"""

import asyncio
from queue import SimpleQueue

from holdfast_runner import process
from holdfast_runner.errors import Cancelled


class Loop:
    """The loop and who runs it."""

    def __init__(self, in_own_thread: bool) -> None:
        # Made here, after the user's code is loaded: a policy that it has set is honoured.
        self._loop = asyncio.new_event_loop()
        self._thread = None
        if in_own_thread:
            self._thread = process.start_thread("loop", self._run_forever)

    def run(self, coroutine, cancellation):
        """Runs a coroutine to its end, and returns or raises what it does."""
        if self._thread is None:
            task = self._run_here(coroutine, cancellation)
        else:
            task = self._run_there(coroutine, cancellation)
        try:
            value, error = task.result()
        except asyncio.CancelledError as cancelled:
            # Cancelled before its first step, so the coroutine has not been touched.
            coroutine.close()
            value, error = None, cancelled
        if isinstance(error, asyncio.CancelledError) and cancellation.requested:
            raise Cancelled from error
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Cancels what calls left running on the loop, and closes it."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        asyncio.set_event_loop(self._loop)
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        try:
            if left:
                self._loop.run_until_complete(asyncio.wait(left))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        except (SystemExit, KeyboardInterrupt):
            # What is left over is ending anyway.
            pass
        self._loop.close()

    def _run_here(self, coroutine, cancellation):
        asyncio.set_event_loop(self._loop)
        task = self._start(coroutine, cancellation)
        try:
            self._loop.run_until_complete(task)
        except BaseException:
            # Another task raised SystemExit, which asyncio lets out of the loop.
            task.cancel()
            raise
        return task

    def _run_there(self, coroutine, cancellation):
        finished = SimpleQueue()

        def start():
            self._start(coroutine, cancellation).add_done_callback(finished.put)

        # Takes the context of this thread along, so that output is tagged.
        self._loop.call_soon_threadsafe(start)
        return finished.get()

    def _start(self, coroutine, cancellation):
        task = self._loop.create_task(_settle(coroutine))
        cancellation.interrupt_with(lambda: self._loop.call_soon_threadsafe(task.cancel))
        return task

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            try:
                self._loop.run_forever()
                return
            except (SystemExit, KeyboardInterrupt):
                # A task that nobody waits for raised it. It ends that task, and no call.
                continue


async def _settle(coroutine):
    """Gives what a coroutine returned or raised: asyncio lets some exceptions stop its loop."""
    value, error = None, None
    try:
        value = await coroutine
    except BaseException as raised:
        error = raised
    if process.is_forked():
        process.leave_forked(error)
    return value, error
