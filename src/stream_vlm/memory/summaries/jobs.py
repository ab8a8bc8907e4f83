"""Stored summaries that a language model may put better, on their way to whoever writes and back to
the thread that owns the file.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from stream_vlm.memory.summaries.extractive import Material, rejection
from stream_vlm.memory.summaries.prompt import spoken

MAX_WAITING = 50
"""Summaries that wait to be written; of more, the oldest stay as they are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A stored summary that a model may put better: its number, what it says now, and what it is
    made from.
    """

    record_id: int
    text: str
    material: Material
    max_chars: int


@dataclass(frozen=True)
class Written:
    """What the model `model_id` made of a job: words that passed `summarize.rejection`."""

    job: Job
    text: str
    model_id: str


class SummaryJobs:
    """Holds jobs until somebody takes them, one after the other, and what came of them until it is
    fetched. Any thread may call anything, but one alone fetches.

    A failure and a rejection leave the summary as it is; the first of several in a row is logged.

    Attributes:
        by: who writes; empty while nobody does.
        fault: why the last summary was not written, or empty since one was.
        failures: how many were asked for in vain.
    """

    def __init__(self, on_written: Callable[[], None]) -> None:
        """`on_written` is called on the writing thread when something can be fetched."""
        self.by = ""
        self.fault = ""
        self.failures = 0
        self._setting = ""
        self._on_written = on_written
        self._on_job: Callable[[], None] = lambda: None
        self._waiting: deque[Job] = deque()
        self._taken: Job | None = None
        self._written: deque[Written] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def set_writer(self, model_id: str, setting: str) -> None:
        """Say who writes from now on, and by which setting, which faults name."""
        self.by, self._setting = model_id, setting

    def listen(self, on_job: Callable[[], None]) -> None:
        """Call `on_job` whenever a job has come, on the thread that brought it."""
        self._on_job = on_job

    @property
    def has_waiting(self) -> bool:
        """Whether a job can be taken."""
        return bool(self._waiting)

    @property
    def unfinished(self) -> int:
        """How many jobs wait or are being done."""
        return len(self._waiting) + (self._taken is not None)

    def submit(self, job: Job) -> None:
        """Have `job` done when those before it are; returns at once.

        One of the same summary that still waits is dropped: its text has changed.
        """
        with self._changed:
            if self._closed:
                return
            self._waiting = deque(
                other for other in self._waiting if other.record_id != job.record_id
            )
            self._waiting.append(job)
            dropped = len(self._waiting) > MAX_WAITING
            if dropped:
                self._waiting.popleft()
            self._changed.notify_all()
        if dropped and self.by:
            self._say(
                f"{self._setting}: more than {MAX_WAITING} summaries wait for {self.by}, which has"
                " no time for the oldest"
            )
        self._on_job()

    def take(self, *, wait: bool = False) -> Job | None:
        """The oldest job; None where there is none, and with `wait` only once this is closed.

        `finish`, `fail` or `requeue` follows.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            self._taken = self._waiting.popleft() if self._waiting and not self._closed else None
            return self._taken

    def is_stale(self, job: Job) -> bool:
        """Whether the summary of `job` was changed since, so that a newer job waits."""
        with self._changed:
            return any(other.record_id == job.record_id for other in self._waiting)

    def finish(self, job: Job, reply: str) -> bool:
        """The model wrote `reply`: it is kept for fetching unless `rejection` has something against
        it; whether it is.
        """
        text = spoken(reply)
        refused = rejection(text, job.material, job.max_chars)
        if refused:
            self.fail(f"{self._setting}: a summary of {self.by} is refused: {refused}")
            return False
        with self._changed:
            self._taken = None
            self.fault = ""
            if not self._closed:
                self._written.append(Written(job, text, self.by))
            self._changed.notify_all()
        self._on_written()
        return True

    def fail(self, fault: str) -> None:
        """The job that was taken came to nothing."""
        self._say(fault)
        with self._changed:
            self._taken = None
            self.failures += 1
            self._changed.notify_all()

    def drop(self) -> None:
        """The job that was taken is not to be done any more."""
        with self._changed:
            self._taken = None
            self._changed.notify_all()

    def requeue(self, job: Job) -> None:
        """`job` was not done and waits again, before all others."""
        with self._changed:
            self._taken = None
            if not self._closed and not any(
                other.record_id == job.record_id for other in self._waiting
            ):
                self._waiting.appendleft(job)
            self._changed.notify_all()

    def give_up(self, fault: str) -> None:
        """Nobody writes any more, because of `fault`."""
        self.fault = fault
        _log.warning("%s", fault)
        self.close()

    def report_no_time(self, fault: str) -> None:
        """Nobody failed, but nobody had time to write, as `fault` says."""
        self._say(fault)

    @property
    def written(self) -> Written | None:
        """The oldest result that was not fetched, or None."""
        return self._written[0] if self._written else None

    def pop_written(self) -> None:
        """The oldest result was taken up."""
        self._written.popleft()

    def wait(self, timeout_s: float) -> bool:
        """Wait until something can be fetched, nothing is being done any more, or so many seconds
        passed; whether something can be fetched.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: bool(self._written) or not (self._waiting or self._taken), timeout_s
            )
            return bool(self._written)

    def close(self) -> None:
        """Take in no more jobs and forget those that wait; what is being written is lost."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _say(self, fault: str) -> None:
        if not self.fault:
            _log.warning("%s; the summary keeps the records' own words", fault)
        self.fault = fault
