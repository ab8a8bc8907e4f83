"""The queue of extractive summaries that a language model is to rewrite, and its results."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from stream_vlm.memory.summaries.extractive import Material, rejection
from stream_vlm.memory.summaries.prompt import without_reasoning

MAX_WAITING = 50
"""If more summaries wait, the oldest are not rewritten."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A stored summary that a model is to rewrite.

    Attributes:
        record_id: of the summary.
        text: its present text.
        material: what it is made from.
        max_chars: limit of the new text.
    """

    record_id: int
    text: str
    material: Material
    max_chars: int


@dataclass(frozen=True)
class Written:
    """The text that the model `model_id` wrote for a job; it passed `extractive.rejection`."""

    job: Job
    text: str
    model_id: str


class SummaryJobs:
    """Holds jobs until they are taken, one at a time, and results until they are stored.

    Any thread may call any method, but only one thread takes jobs and only one stores results.
    After a failure or a rejection the summary keeps its text; only the first of several failures in
    a row is logged.

    Args:
        on_written: called on the writing thread when a result can be stored.

    Attributes:
        model_id: the model that writes; empty if there is none.
        fault: why the last summary was not written; empty after a success.
        failures: how many jobs failed.
    """

    def __init__(self, on_written: Callable[[], None]) -> None:
        self.model_id = ""
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
        """Set the model that writes from now on, and the setting that faults name."""
        self.model_id, self._setting = model_id, setting

    def listen(self, on_job: Callable[[], None]) -> None:
        """Call `on_job` whenever a job was added, on the thread that added it."""
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
        """Add `job` to the queue; returns at once.

        A waiting job of the same summary is dropped, because its text has changed.
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
        if dropped and self.model_id:
            self._set_fault(
                f"{self._setting}: more than {MAX_WAITING} summaries wait for {self.model_id}; the"
                " oldest is not rewritten"
            )
        self._on_job()

    def take(self, *, wait: bool = False) -> Job | None:
        """Return the oldest job, or None if there is none.

        With `wait`, wait for a job; None then means that the queue is closed. `finish`, `fail`,
        `drop` or `requeue` must follow.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            self._taken = self._waiting.popleft() if self._waiting and not self._closed else None
            return self._taken

    def is_stale(self, job: Job) -> bool:
        """Return whether the summary of `job` has changed, so that a newer job waits."""
        with self._changed:
            return any(other.record_id == job.record_id for other in self._waiting)

    def finish(self, job: Job, reply: str) -> bool:
        """Keep `reply` of the model as a result, unless `rejection` gives a reason against it.

        Returns:
            Whether it was kept.
        """
        text = without_reasoning(reply)
        reason = rejection(text, job.material, job.max_chars)
        if reason:
            self.fail(f"{self._setting}: a summary by {self.model_id} is rejected: {reason}")
            return False
        with self._changed:
            self._taken = None
            self.fault = ""
            if not self._closed:
                self._written.append(Written(job, text, self.model_id))
            self._changed.notify_all()
        self._on_written()
        return True

    def fail(self, fault: str) -> None:
        """Report that the taken job failed, because of `fault`."""
        self._set_fault(fault)
        with self._changed:
            self._taken = None
            self.failures += 1
            self._changed.notify_all()

    def drop(self) -> None:
        """Report that the taken job is not needed any more."""
        with self._changed:
            self._taken = None
            self._changed.notify_all()

    def requeue(self, job: Job) -> None:
        """Put `job`, which was not done, back at the front of the queue."""
        with self._changed:
            self._taken = None
            if not self._closed and not any(
                other.record_id == job.record_id for other in self._waiting
            ):
                self._waiting.appendleft(job)
            self._changed.notify_all()

    def give_up(self, fault: str) -> None:
        """Stop writing summaries for good, because of `fault`."""
        self.fault = fault
        _log.warning("%s", fault)
        self.close()

    def report_no_time(self, fault: str) -> None:
        """Report that there is no time to write, as `fault` says."""
        self._set_fault(fault)

    @property
    def written(self) -> Written | None:
        """The oldest result that was not stored yet, or None."""
        return self._written[0] if self._written else None

    def pop_written(self) -> None:
        """Remove the oldest result, which has been stored."""
        self._written.popleft()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a result, until nothing is being written, or for `timeout_s` seconds.

        Returns:
            Whether there is a result.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: bool(self._written) or not (self._waiting or self._taken), timeout_s
            )
            return bool(self._written)

    def close(self) -> None:
        """Accept no more jobs and drop those that wait; a text that is being written is lost."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _set_fault(self, fault: str) -> None:
        if not self.fault:
            _log.warning("%s; the extractive summary is kept", fault)
        self.fault = fault
