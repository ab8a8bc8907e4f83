"""The memory: store steps, search them from any thread, delete, import and maintain."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.object_links import relink
from stream_vlm.memory.captions.queue import CaptionQueue
from stream_vlm.memory.insert_rows import Begun, continue_session, insert_session, insert_step
from stream_vlm.memory.maintenance.export_import import Imported, import_file
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
from stream_vlm.memory.search.adopt_vectors import adopt_vectors
from stream_vlm.memory.search.vector_search import embed_pictures, embed_texts
from stream_vlm.memory.search.vectors import Embedder, PictureEmbedder, normalised
from stream_vlm.memory.storage.errors import MemoryFileError, SessionError
from stream_vlm.memory.storage.picture_texts import PictureText
from stream_vlm.memory.storage.step_rows import StepRecorder, StepRows
from stream_vlm.memory.storage.thumbnails import StoredFrame
from stream_vlm.memory.summaries.jobs import SummaryJobs
from stream_vlm.types import StepResult

__all__ = ["Memory", "MemoryFileError", "SessionError", "StoredFrame"]

_log = logging.getLogger(__name__)


class Memory(MemoryReader):
    """An open memory file, for writing and for searching (`MemoryReader`).

    `begin_session`, `prepare`, `commit`, `write`, `run_maintenance` and `end_session` belong to one
    thread (see `MemoryWriter`). All other methods may be called from any thread.

    Attributes:
        path: the memory file.
        rescued: what was rescued from a damaged file that was found at opening, or None.
        on_idle_work: called on another thread when `run_maintenance` has work although nothing was
            stored.
    """

    def __init__(self, settings: MemorySettings, opened: Opened) -> None:
        super().__init__(settings, opened.connections)
        self.path = opened.connections.path
        self.rescued = opened.rescued
        self._lock = opened.lock
        self._recorder = StepRecorder()
        self._sessions: dict[str, Begun] = {}
        self._rows = opened.records
        self._generation = self._connections.generation
        self.on_idle_work: Callable[[], None] = lambda: None
        self._idle = (
            IdleWork(
                self._connections,
                settings,
                self._vector_search,
                lambda: self.on_idle_work(),
                self._sessions,
            )
            if self._connections.can_write
            else None
        )

    @classmethod
    def open(cls, settings: MemorySettings, *, read_only: bool = False) -> Memory:
        """Open the file at `settings.path`; without `read_only` a missing file is created.

        A file has one writer at a time and any number of readers. If the file is damaged, opening
        it for writing renames it and copies its readable rows into a new file (see `rescued`).

        Raises:
            MemoryFileError: the file cannot be used; it was not changed. The message gives the
                reason and the remedy.
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
        """Store the start of a session.

        Args:
            session_id: name of the session.
            model_id: the model that watches.
            reason: why the session starts.
            started_ns: ns on the clock of the frames.
            lock_timeout_s: how long to wait for another program's lock, seconds; None takes
                `memory.busy_timeout_s`.

        Raises:
            SessionError: the file already has a session of this name.
            MemoryFileError: it could not be stored.
        """
        with self._connections.writing(lock_timeout_s) as db:
            begun = insert_session(db, self.path, session_id, model_id, reason, started_ns)
        self._sessions[session_id] = replace(begun, generation=self._connections.generation)
        self._present = session_id
        self._follow()
        if self._idle is not None:
            self._idle.running = session_id

    def write(self, result: StepResult) -> None:
        """Store one step in one transaction; after the return it survives a crash and a power cut.

        Raises:
            SessionError: the step's session was not started.
            MemoryFileError: it could not be stored; nothing of the step is.
        """
        self.commit(self.prepare(result))

    def prepare(self, result: StepResult) -> StepRows:
        """Return what will be stored of `result`, with encoded thumbnails; uses no file.

        Call it once per step, in order.
        """
        rows = self._recorder.prepare(result, self.settings)
        vectors = {
            camera: normalised(vector, f"{camera}: picture vector")
            for camera, vector in result.picture_vectors.items()
            if camera in rows.pictures
        }
        rows = replace(rows, picture_vectors=vectors)
        # Without a text model the search has nothing to add.
        return (
            rows if self._vector_search.embedder is None else self._vector_search.embed_step(rows)
        )

    def commit(self, step: StepRows, *, lock_timeout_s: float | None = None) -> None:
        """Store what `prepare` returned, as `write` does.

        Args:
            step: what `prepare` returned.
            lock_timeout_s: as for `begin_session`.
        """
        begun = self._sessions.get(step.session_id)
        if begun is None:
            raise SessionError(
                f"session '{step.session_id}' was not begun; call begin_session before its first"
                " step"
            )
        with self._connections.writing(lock_timeout_s) as db:
            generation = self._connections.generation
            if begun.generation != generation:
                # The file was removed or replaced: the one that is there now has no such session.
                begun = replace(continue_session(db, begun, step), generation=generation)
            insert_step(
                db,
                replace(step, session_id=begun.session_id),
                begun.model_id,
                self.settings.map_frames,
            )
        self._sessions[step.session_id] = begun
        if self._present == step.session_id:
            self._present = begun.session_id
        self._rows += len(step.rows)
        self._follow()
        if self._idle is not None and self._idle.running == step.session_id:
            self._idle.running = begun.session_id
        self._connections.note_wal_bytes(step.size)

    def check_file(self) -> None:
        """Look whether the file is still at its path, and go on in a new one if it is not.

        Every other method that writes does this too. Call it about once a second while none is
        called, so that it is noticed that the file was removed, moved, replaced or overwritten.

        Raises:
            MemoryFileError: there can be no memory at the path now; the next call tries again.
        """
        if self._connections.can_write:
            self._connections.follow_file()
            self._follow()

    @property
    def file_fault(self) -> str:
        """What happened to the file last while it was open, with the remedy; empty if nothing."""
        return self._connections.happened

    def _follow(self) -> None:
        """Forget what was known of the file before, if it is another one now."""
        if self._generation == self._connections.generation:
            return
        self._generation = self._connections.generation
        self._rows = count_records(self._connections)
        self._vector_search.forget_vectors()
        self._rescan()

    def run_maintenance(self) -> bool:
        """Do one piece of idle work while no step waits: a summary, retention or a WAL checkpoint.

        Commits survive a power cut before the checkpoint as well as after it.

        Returns:
            Whether there is more to do.

        Raises:
            MemoryFileError: the file cannot be written; nothing is lost.
        """
        more = False
        self.check_file()
        if self._idle is not None:
            more, change = self._idle.work()
            self._rows += change
            self._connections.note_wal_bytes(BYTES_PER_PIECE if more else 0)
        if not more:
            self._connections.checkpoint_wal()
        return more

    def end_session(self, timeout_s: float = 5.0, *, for_endpoint: bool = False) -> None:
        """End the current session and summarise its last chunk, for at most `timeout_s` seconds.

        Args:
            timeout_s: time limit, seconds.
            for_endpoint: wait, within that time, for an endpoint that writes summaries.

        Raises:
            MemoryFileError: the file cannot be written; the missing summaries will be made when it
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
        """The jobs for the running model, or None if the settings use another summarizer.

        See `summaries.by_model`.
        """
        return (
            self._idle.jobs
            if self._idle is not None and self.settings.summarizer == "model"
            else None
        )

    @property
    def captions(self) -> CaptionQueue | None:
        """The pictures to caption, or None if the memory is open for reading only."""
        return self._idle.captions if self._idle is not None else None

    def add_text(self, text: PictureText) -> None:
        """Have a text about a picture stored by the thread that writes; any thread may call it."""
        if self._idle is not None:
            self._idle.texts.add(text)

    @property
    def idle_health(self) -> IdleHealth:
        """What was summarised and dropped."""
        return self._idle.health if self._idle is not None else IdleHealth()

    def use_embedder(self, embedder: Embedder | None) -> None:
        """Use a text model as `MemoryReader.use_embedder`.

        Vectors that an older version named by the model's folder are used too, if they are of it.
        """
        super().use_embedder(embedder)
        if embedder is not None and self._connections.can_write:
            adopt_vectors(self._connections, embedder)

    def reembed(self, batch: int = 64) -> int:
        """Embed every text that has no vector of the current text model.

        Vectors of other models are deleted.

        Args:
            batch: texts per transaction.

        Returns:
            How many texts were embedded.

        Raises:
            RecallError: no text model is in use.
            MemoryFileError: the file cannot be written; earlier batches are stored.
        """
        return embed_texts(self._connections, self._vector_search, batch)

    def reembed_pictures(self, model: PictureEmbedder, batch: int = 64) -> tuple[int, int]:
        """Embed every stored picture that has no vector of `model`.

        Vectors of other models are deleted.

        Args:
            model: the model that embeds pictures.
            batch: pictures per transaction.

        Returns:
            How many pictures were embedded, and how many could not be.

        Raises:
            MemoryFileError: the file cannot be written; earlier batches are stored.
        """
        return embed_pictures(self._connections, model, batch)

    def relink(self) -> int:
        """Compute again which object each event belongs to, by the rule of `object_links`.

        Returns:
            How many events are linked to an object.

        Raises:
            MemoryFileError: the file cannot be written; the links are unchanged.
        """
        with self._connections.writing() as db:
            return relink(db, self.settings.map_frames)

    def forget(self, what: Forget, *, dry_run: bool = False) -> Forgotten:
        """Delete the records that `what` names, with their pictures and words, and shrink the file.

        All is deleted in one transaction. Then the file is shrunk in small pieces, so that waiting
        steps are stored in between. May be called from any thread.

        Args:
            what: the filters.
            dry_run: only count.

        Raises:
            RecallError: as for `recall`; nothing was deleted.
            MemoryFileError: the file cannot be written. Either nothing was deleted, or all of it
                was and only the file was not shrunk.
        """
        started = time.perf_counter()
        if dry_run:
            forgotten = count_forgotten(
                self._connections, what, self.settings.map_frames, self._present
            )
        else:
            forgotten, pages, what = erase(
                self._connections, what, self.settings.map_frames, self._present
            )
            self._rows -= forgotten.records
            self._rescan()
            forgotten = give_back(self._connections, forgotten, pages, what)
        return replace(forgotten, took_ms=(time.perf_counter() - started) * 1e3)

    def import_from(self, source: Path, say: Callable[[str], None] | None = None) -> Imported:
        """Add the sound rows of the export `source` (JSON lines) in one transaction.

        A row that the memory has already is not added again. A damaged row is refused.

        Args:
            source: the export.
            say: called with the reason for each row that is refused; by default it is logged.

        Raises:
            MemoryFileError: it is not an export, or has a newer version; nothing was added.
        """
        with self._connections.writer() as db:
            imported = import_file(
                db, self.path, source, self._connections.key, say or _log.warning
            )
        self._rows += imported.added["record"]
        self._rescan()
        return imported

    def count(self) -> int:
        """Return how many records are stored.

        A memory opened for writing keeps the number, one opened for reading counts.
        """
        return self._rows if self._connections.can_write else count_records(self._connections)

    def close(self) -> None:
        """Close all connections; calling it again does nothing."""
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
