"""The writer thread of the memory: commits steps in order, then calls back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from stream_vlm.memory.maintenance.idle_work import IdleHealth
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.idle_runner import IdleRunner
from stream_vlm.memory.recording.write_queue import (
    Waiting,
    WaitingSession,
    WaitingStep,
    WriteQueue,
)
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm.memory.storage.step_rows import StepRows
from stream_vlm.types import StepResult, StreamError

CHECK_S = 0.5
"""How often the writer looks while no step comes: for its file, and whether it can be written."""

OnCommitted = Callable[[StepResult], None]
OnFailed = Callable[[StepResult, StreamError], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WriterHealth:
    """The state of the writer, for diagnostics.

    Attributes:
        rows: records in the file.
        backlog: steps that wait to be stored.
        late: steps that were reported as failed and stored later.
        lost: steps that will never be stored: dropped from a full backlog, refused by the schema,
            or left over at close.
        last_commit_ms: duration of the newest commit, milliseconds.
        fault: why steps wait, or why they could not be stored; empty otherwise.
        file_fault: what happened to the file last while it was open (removed, replaced ...), with
            the remedy; empty if nothing.
        idle: what was summarised and dropped.
        idle_fault: why summaries and retention wait, or empty.
    """

    rows: int
    backlog: int = 0
    late: int = 0
    lost: int = 0
    last_commit_ms: float = 0.0
    fault: str = ""
    file_fault: str = ""
    idle: IdleHealth = IdleHealth()
    idle_fault: str = ""


class MemoryWriter:
    """Stores steps on a separate thread, so that the model never waits for the disk.

    For each step exactly one of two callbacks is called, on the writer's thread and in the order of
    submission: `on_committed` after the step is stored, or `on_failed` with the reason if it could
    not be stored at once. A step that failed because of the file (locked, full disk, read-only)
    stays in the backlog and is tried again, in order, until it is stored. When the disk recovers,
    nothing is lost.

    While no step waits, the thread does idle work (`Memory.run_maintenance`). A new step waits for
    at most one piece of it.

    Args:
        memory: the open memory.
        on_committed: called after a step is stored.
        on_failed: called with the reason if a step could not be stored at once.
        max_backlog: most steps that wait; beyond that the oldest is dropped and counted as lost. A
            waiting step takes about the memory of a thumbnail.
    """

    def __init__(
        self,
        memory: Memory,
        on_committed: OnCommitted,
        on_failed: OnFailed,
        *,
        max_backlog: int = 2000,
    ) -> None:
        self._memory = memory
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._max_backlog = max_backlog
        self._changed = threading.Condition()
        self._queue = WriteQueue()
        self._busy = False
        self._closing = False
        self._work_waits = True
        self._is_idle = False
        self._idle_runner = IdleRunner(memory)
        self._health = WriterHealth(rows=memory.count())
        self._missing = ""
        memory.on_idle_work = self._wake
        self._thread = threading.Thread(target=self._run, name="memory-writer", daemon=True)
        self._thread.start()

    def begin_session(self, session_id: str, model_id: str, reason: str, started_ns: int) -> None:
        """Store a session before the steps that are submitted after it; returns at once.

        The arguments are those of `Memory.begin_session`.
        """
        self._enqueue(WaitingSession(session_id, model_id, reason, started_ns))

    def submit(self, result: StepResult) -> None:
        """Store `result`; returns at once.

        Raises:
            MemoryFileError: the writer was closed.
        """
        self._enqueue(WaitingStep(result))

    @property
    def health(self) -> WriterHealth:
        """The present state of the writer."""
        with self._changed:
            health = replace(self._health, rows=self._memory.count(), backlog=self._queue.steps)
            return replace(
                health,
                fault=health.fault or self._missing,
                file_fault=self._memory.file_fault,
                idle=self._memory.idle_health,
                idle_fault=self._idle_runner.fault,
            )

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is stored or dropped, at most `timeout` seconds.

        Returns:
            Whether nothing waits any more.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not (self._queue or self._busy), timeout)

    def wait_idle(self, timeout: float) -> bool:
        """Wait as `flush`, and until the idle work is done too."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._is_idle and not (self._queue or self._busy),
                timeout,
            )

    def close(self, timeout: float = 10.0) -> None:
        """Store what waits, summarise the rest of the session, and end the thread.

        If the file cannot be written, wait for at most `timeout` seconds. The memory stays open.
        """
        self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _enqueue(self, item: Waiting) -> None:
        with self._changed:
            if self._closing:
                raise MemoryFileError(
                    f"{self._memory.path}: the memory's writer was closed; open a new one"
                )
            self._queue.add(item)
            self._is_idle = False
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._work_waits = True
            self._is_idle = False
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._closing:
            with self._changed:
                awake = self._changed.wait_for(
                    lambda: self._queue.has_incoming or self._work_waits or self._closing, CHECK_S
                )
                waits = self._queue.has_backlog or self._idle_runner.can_recover
            if not awake:
                self._look_for_file()
                if not waits:
                    continue
            with self._changed:
                self._busy = True
                self._work_waits = self._is_idle = False
            self._trim()
            while not self._closing and self._store_oldest():
                pass
            with self._changed:
                self._busy = False
                self._changed.notify_all()
            while not (self._closing or self._queue.has_incoming) and self._do_idle_work():
                pass
            with self._changed:
                self._is_idle = not (
                    self._queue.has_incoming
                    or self._work_waits
                    or self._health.fault
                    or self._idle_runner.can_recover
                )
                self._changed.notify_all()
        self._give_up_all()
        if not self._health.fault:
            self._idle_runner.end_session()

    def _look_for_file(self) -> None:
        """Notice within a second that the file was removed or replaced, also without a step."""
        try:
            self._memory.check_file()
            missing = ""
        except MemoryFileError as error:
            missing = str(error)
            if not self._missing:
                _log.error("%s; steps wait until it can be written", error)
        with self._changed:
            self._missing = missing

    def _do_idle_work(self) -> bool:
        """Do one piece of idle work unless the file has a fault; return whether there is more."""
        return not self._health.fault and self._idle_runner.run_once()

    def _store_oldest(self) -> bool:
        """Store the oldest waiting step; return False if none waits or the file has a fault."""
        with self._changed:
            item = self._queue.oldest()
            if item is None:
                return False
        started = time.perf_counter()
        try:
            self._store(item)
        except MemoryFileError as error:
            self._buffer(error)
            return False
        except Exception as error:
            # A session that was not started, a row that the schema refuses, or a bug: the thread
            # must continue, and another attempt cannot help.
            with self._changed:
                self._queue.remove_oldest()
            self._give_up(item, error)
            return True
        with self._changed:
            self._queue.remove_oldest()
            recovered = self._health.fault
            late = self._health.late + (isinstance(item, WaitingStep) and item.result is None)
            self._health = replace(
                self._health,
                last_commit_ms=(time.perf_counter() - started) * 1e3,
                fault="",
                late=late,
            )
        if recovered:
            _log.warning("%s: can be written again", self._memory.path)
        self._notify(item, self._on_committed)
        return True

    def _store(self, item: Waiting) -> None:
        # While the file has a fault, a new step fails at once and not after the busy timeout.
        lock_timeout_s = 0.0 if self._health.fault else None
        if isinstance(item, WaitingSession):
            self._memory.begin_session(
                item.session_id,
                item.model_id,
                item.reason,
                item.started_ns,
                lock_timeout_s=lock_timeout_s,
            )
        else:
            self._memory.commit(self._prepared(item), lock_timeout_s=lock_timeout_s)

    def _prepared(self, step: WaitingStep) -> StepRows:
        if step.rows is None:
            if step.result is None:
                raise RuntimeError("a step was released before its rows were prepared")
            step.rows = self._memory.prepare(step.result)
        return step.rows

    def _buffer(self, error: MemoryFileError) -> None:
        """The file has a fault: report it once for each new step, and keep the step's rows."""
        with self._changed:
            if not self._health.fault:
                _log.error("%s; steps wait until it can be written", error)
            self._health = replace(self._health, fault=str(error))
        while True:
            with self._changed:
                item = self._queue.oldest_incoming()
                if item is None:
                    break
            try:
                if isinstance(item, WaitingStep):
                    self._prepared(item)
            except Exception as refused:
                with self._changed:
                    self._queue.remove_oldest_incoming()
                self._give_up(item, refused)
                continue
            with self._changed:
                self._queue.move_to_backlog()
            self._notify(item, lambda result: self._on_failed(result, error))
        self._trim()

    def _trim(self) -> None:
        """Drop the oldest steps of a backlog that is too long.

        Sessions stay, because later steps need them.
        """
        while True:
            with self._changed:
                if self._queue.steps <= self._max_backlog:
                    return
                oldest = self._queue.take_oldest_step()
            self._give_up(
                oldest,
                MemoryFileError(
                    f"{self._memory.path}: more than {self._max_backlog} steps wait; the oldest is"
                    " dropped"
                ),
            )

    def _give_up_all(self) -> None:
        with self._changed:
            left = self._queue.take_all()
            reason = (
                self._health.fault
                or f"{self._memory.path}: the memory's writer was closed before the step was stored"
            )
        for item in left:
            self._give_up(item, MemoryFileError(reason))

    def _give_up(self, item: Waiting, error: Exception) -> None:
        if isinstance(item, WaitingSession):
            _log.error("session '%s' is not stored: %s", item.session_id, error)
            return
        with self._changed:
            self._health = replace(self._health, lost=self._health.lost + 1)
        if isinstance(error, StreamError):
            said: StreamError = error
            _log.error("a step is lost: %s", error)
        else:
            said = StreamError(
                f"{self._memory.path}: a step cannot be stored and is dropped: {error}"
            )
            _log.error("%s", said, exc_info=error)
        self._notify(item, lambda result: self._on_failed(result, said))

    def _notify(self, item: Waiting, callback: Callable[[StepResult], None]) -> None:
        if isinstance(item, WaitingSession) or item.result is None:
            return
        result, item.result = item.result, None
        try:
            callback(result)
        except Exception:
            # A callback may fail; the next step must still be stored.
            _log.exception("%s: a callback of the memory's writer failed", self._memory.path)
