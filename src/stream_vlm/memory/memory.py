"""The memory: what was committed is stored, and every thread may ask while one writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.object_links import relink
from stream_vlm.memory.insert_rows import insert_session, insert_step
from stream_vlm.memory.maintenance.export_import import import_file
from stream_vlm.memory.maintenance.forget import (
    Forget,
    Forgotten,
    count_forgotten,
    erase,
    give_back,
)
from stream_vlm.memory.maintenance.idle_work import BYTES_PER_PIECE, IdleHealth, IdleWork
from stream_vlm.memory.memory_reader import MemoryReader
from stream_vlm.memory.open_file import Opened, count_records, open_file
from stream_vlm.memory.search.vector_search import embed_pictures, embed_texts
from stream_vlm.memory.search.vectors import PictureEmbedder
from stream_vlm.memory.storage.errors import MemoryFileError, SessionError
from stream_vlm.memory.storage.step_rows import StepRecorder, StepRows
from stream_vlm.memory.storage.thumbnails import StoredFrame
from stream_vlm.memory.summaries.jobs import SummaryJobs
from stream_vlm.types import StepResult

__all__ = ["Memory", "MemoryFileError", "SessionError", "StoredFrame"]


class Memory(MemoryReader):
    """One SQLite file, open: to write, and to be asked (`MemoryReader`).

    `begin_session`, `prepare`, `commit`, `write`, `run_maintenance` and `end_session` belong to one thread
    (see `MemoryWriter`); all else may be called from any thread.
    """

    def __init__(self, settings: MemorySettings, opened: Opened) -> None:
        super().__init__(settings, opened.connections)
        self.path = opened.connections.path
        self.rescued = opened.rescued
        """What became of the damaged file that was found at opening, or None."""
        self._lock = opened.lock
        self._recorder = StepRecorder()
        self._models: dict[str, str] = {}
        self._rows = opened.records
        self.on_idle_work: Callable[[], None] = lambda: None
        """Called on another thread when there is something for `run_maintenance` though nothing was stored."""
        self._idle = (
            IdleWork(self._connections, settings, self._vector_search, lambda: self.on_idle_work())
            if self._connections.can_write
            else None
        )

    @classmethod
    def open(cls, settings: MemorySettings, *, read_only: bool = False) -> Memory:
        """Open the file at `settings.path`, which goes on where it ended; without `read_only` it is
        created where it is missing.

        A file has one writer at a time and any number of readers. A damaged memory is set aside by
        the one that writes, and its readable rows are rescued into a fresh file (see `rescued`).

        Raises:
            MemoryFileError: the file cannot be used; it is left as it was. The message says why and
                what to do.
        """
        return open_file(settings, lambda opened: cls(settings, opened), read_only=read_only)

    def begin_session(
        self,
        session_id: str,
        model_id: str,
        reason: str,
        started_ns: int,
        *,
        lock_timeout_s: float | None = None,
    ) -> None:
        """Store that a session begins: with which model, why, and when (ns on the evidence's
        clock).

        `lock_timeout_s` is how long to wait for another program's lock; None takes the setting
        `memory.busy_timeout_s`.

        Raises:
            SessionError: the file already has a session of this name.
            MemoryFileError: it could not be stored.
        """
        with self._connections.writing(lock_timeout_s) as db:
            insert_session(db, self.path, session_id, model_id, reason, started_ns)
        self._models[session_id] = model_id
        if self._idle is not None:
            self._idle.running = session_id

    def write(self, result: StepResult) -> None:
        """Store one step in one transaction; when this returns, it survives a crash and a power
        cut.

        Raises:
            SessionError: the step's session was not begun.
            MemoryFileError: it could not be stored; nothing of it is.
        """
        self.commit(self.prepare(result))

    def prepare(self, result: StepResult) -> StepRows:
        """What will be stored of `result`, pictures encoded; touches no file.

        Call once a step, in order.
        """
        return self._vector_search.embed_step(self._recorder.prepare(result, self.settings), result)

    def commit(self, step: StepRows, *, lock_timeout_s: float | None = None) -> None:
        """Store what `prepare` made; as `write`. `lock_timeout_s` as for `begin_session`."""
        model_id = self._models.get(step.session_id)
        if model_id is None:
            raise SessionError(
                f"session '{step.session_id}' was not begun; call begin_session before its first"
                " step"
            )
        with self._connections.writing(lock_timeout_s) as db:
            insert_step(db, step, model_id)
        self._rows += len(step.rows)
        self._connections.note_wal_bytes(step.size)

    def run_maintenance(self) -> bool:
        """Use a moment in which no step waits: for one summary, a little of what is no longer kept,
        or the log; whether more waits.

        The log is brought into the file once it is worth it; what was committed survives a power
        cut before that as well as after it.

        Raises:
            MemoryFileError: the file cannot be written; nothing is lost by that.
        """
        more = False
        if self._idle is not None:
            more, change = self._idle.work()
            self._rows += change
            self._connections.note_wal_bytes(BYTES_PER_PIECE if more else 0)
        if not more:
            self._connections.checkpoint_wal()
        return more

    def end_session(self, timeout_s: float = 5.0, *, for_endpoint: bool = False) -> None:
        """The session that goes on is over: summarise its last chunk too, for at most `timeout_s`
        seconds.

        With `for_endpoint` an endpoint that writes summaries is waited for within that time.

        Raises:
            MemoryFileError: the file cannot be written; what is not summarised now will be when it
                is opened again.
        """
        if self._idle is None:
            return
        self._idle.running = ""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            more, change = self._idle.work(dropping=False)
            self._rows += change
            if not (more or (for_endpoint and self._idle.wait_for_endpoint(left_s))):
                break

    @property
    def summary_jobs(self) -> SummaryJobs | None:
        """What waits to be written where the settings have the running model write summaries; see
        `model_summaries`.
        """
        return (
            self._idle.jobs
            if self._idle is not None and self.settings.summarizer == "model"
            else None
        )

    @property
    def idle_health(self) -> IdleHealth:
        """What was summarised and dropped."""
        return self._idle.health if self._idle is not None else IdleHealth()

    def reembed(self, batch: int = 64) -> int:
        """Give every text that has none a vector of the embedder in use, `batch` texts a
        transaction, and drop those of other models of text.

        Returns how many texts got a vector.

        Raises:
            RecallError: no embedder is in use.
            MemoryFileError: the file cannot be written; what was embedded before is stored.
        """
        return embed_texts(self._connections, self._vector_search, batch)

    def reembed_pictures(self, model: PictureEmbedder, batch: int = 64) -> tuple[int, int]:
        """Give every stored picture that has none a vector of `model`, and drop those of other
        models.

        Returns how many pictures got a vector, and how many could not be looked at.

        Raises:
            MemoryFileError: the file cannot be written; what was embedded before is stored.
        """
        return embed_pictures(self._connections, model, batch)

    def relink(self) -> int:
        """Say anew of every event which thing it happened to, by the rule of `sightings`; how many
        tell.

        Raises:
            MemoryFileError: the file cannot be written; the links are as they were.
        """
        with self._connections.writing() as db:
            return relink(db)

    def forget(self, what: Forget, *, dry_run: bool = False) -> Forgotten:
        """Delete what is named, its pictures, its words and its places, and give the space back;
        with `dry_run` only count it.

        All of it goes in one transaction; then the file is made smaller bit by bit, so that steps
        which wait to be stored get in between. May be called from any thread.

        Raises:
            MemoryFileError: the file refuses. Nothing is forgotten, or all of it is and only space
                was not given back.
        """
        started = time.perf_counter()
        if dry_run:
            forgotten = count_forgotten(self._connections, what)
        else:
            forgotten, pages = erase(self._connections, what)
            self._rows -= forgotten.records
            self._rescan()
            forgotten = give_back(self._connections, forgotten, pages)
        return replace(forgotten, took_ms=(time.perf_counter() - started) * 1e3)

    def import_from(self, source: Path) -> dict[str, int]:
        """Add all of the export `source` (JSON lines) in one transaction; how many rows, by table.

        Raises:
            MemoryFileError: it is no export, is damaged, or holds a session that is here already;
                nothing of it was added.
        """
        with self._connections.writer() as db:
            added = import_file(db, self.path, source, self._connections.key)
        self._rows += added["record"]
        self._rescan()
        return added

    def count(self) -> int:
        """How many records are stored.

        Kept in mind by the one that writes, counted by one that only reads.
        """
        return self._rows if self._connections.can_write else count_records(self._connections)

    def close(self) -> None:
        """Close every connection; calling it again does nothing."""
        if self._idle is not None:
            self._idle.close()
        self._connections.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rescan(self) -> None:
        if self._idle is not None:
            self._idle.rescan()
