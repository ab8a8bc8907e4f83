"""The end of the process: what takes long is given a little time, and then left.

Loading a checkpoint or a step on a slow computer cannot be interrupted from outside. Such work runs
on threads that may be left: the memory is closed in order, and the process ends without them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from stream_vlm.types import StreamError

STEP_S = 0.7
"""How long after the signal the running step, or another running work, may still take, seconds."""
STORE_S = 1.1
"""How long after the signal the steps that wait may still be stored, seconds."""
CLOSE_S = 1.4
"""How long after the signal the memory may take to close, seconds."""
SHUTDOWN_S = 1.6
"""How long after the signal the node may take to shut down, seconds."""
END_S = 1.75
"""How long after the signal the process ends, whatever still runs, seconds."""
SLICE_S = 0.05
"""How long a wait may take before it looks whether the process ends, seconds."""

T = TypeVar("T")


class ProcessEnds(StreamError):
    """The process ends, so this work was left, or not begun."""


class ProcessEnd:
    """Says whether the process ends, and waits for work no longer than is left then."""

    def __init__(self) -> None:
        self._began = threading.Event()
        self._began_at = float("inf")
        self.left: list[str] = []
        """What was left, in words. A process that left something ends by `leave`."""
        self.is_stored = False
        """Whether everything that had to be closed in order is closed."""

    def begin(self) -> None:
        """Begin the end; calling it again changes nothing."""
        if not self._began.is_set():
            self._began_at = time.monotonic()
            self._began.set()
            threading.Thread(target=self._watch, name="stream_vlm end", daemon=True).start()

    @property
    def begun(self) -> bool:
        """Whether the process ends."""
        return self._began.is_set()

    def wait_for_begin(self) -> None:
        """Wait until `begin` is called."""
        self._began.wait()

    def check(self) -> None:
        """Raise `ProcessEnds` if the process ends."""
        if self.begun:
            raise ProcessEnds("the process ends, so this is not begun")

    def run(self, what: str, work: Callable[[], T]) -> T:
        """Do `work` on a thread of its own and return its result; leave it if the process ends.

        Args:
            what: the work in a few words, for the log.
            work: what to do. What it raises is raised here.

        Raises:
            ProcessEnds: the process ends, and the work was left or not begun.
        """
        self.check()
        thread, outcome = _start(what, work)
        while not outcome.done():
            thread.join(SLICE_S)
            if self.begun and not outcome.done():
                self.left.append(what)
                raise ProcessEnds(f"the process ends, so this was left: {what}")
        return outcome.result()

    def finish(self, what: str, work: Callable[[], T], by_s: float) -> bool:
        """Do `work`, and wait for it to `by_s` seconds after the end began at most.

        Returns:
            Whether it is done. If not, it is left. What it raises is raised here.
        """
        thread, outcome = _start(what, work)
        if not self.join(what, thread, by_s):
            return False
        outcome.result()
        return True

    def join(self, what: str, thread: threading.Thread, by_s: float) -> bool:
        """Wait until `thread` ends, to `by_s` seconds after the end began at most.

        Returns:
            Whether the thread ended. If not, it is left.
        """

        def ended(seconds: float) -> bool:
            thread.join(seconds)
            return not thread.is_alive()

        if self.wait(ended, float("inf"), by_s):
            return True
        self.left.append(what)
        return False

    def wait(self, until: Callable[[float], bool], limit_s: float, by_s: float) -> bool:
        """Wait for `until`, at most `limit_s` and at most to `by_s` after the end began.

        Args:
            until: waits at most the seconds it is given, and says whether it need wait no longer.
            limit_s: longest wait, seconds.
            by_s: when the wait ends after the process began to end, seconds.

        Returns:
            What `until` said last.
        """
        limit = time.monotonic() + limit_s
        while True:
            left_s = min(limit, self._began_at + by_s) - time.monotonic()
            if until(min(max(left_s, 0.0), SLICE_S)):
                return True
            if left_s <= 0.0:
                return False

    def leave(self, code: int) -> None:
        """End the process now, without waiting for threads that were left."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Python would wait for these threads, or stop them inside a library, which may crash.
        os._exit(code)

    def _watch(self) -> None:
        time.sleep(END_S)
        self.leave(0 if self.is_stored else 1)


def _start(what: str, work: Callable[[], T]) -> tuple[threading.Thread, Future[T]]:
    outcome: Future[T] = Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=do, name=f"stream_vlm {what}", daemon=True)
    thread.start()
    return thread, outcome
