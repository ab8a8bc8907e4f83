"""Work between steps, in pieces of milliseconds: make summaries, and drop what retention limits.

Most pieces take less than a millisecond, a summary takes a few, a WAL checkpoint tens of them
(`benchmark/memory.py` prints how long).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlite_utils import Database

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.captions.queue import CaptionHealth, CaptionQueue
from stream_vlm.memory.insert_rows import Begun, insert_picture_text
from stream_vlm.memory.maintenance.retention import Retention, retention_limits
from stream_vlm.memory.search.vector_search import VectorSearch
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.picture_texts import PictureTexts
from stream_vlm.memory.storage.session_timeline import clock_segments
from stream_vlm.memory.storage.step_rows import thumbnail
from stream_vlm.memory.summaries.by_endpoint import EndpointSummarizer
from stream_vlm.memory.summaries.extractive import extract
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.memory.summaries.schedule import LONG, MID, Chunk, Plan, to_merge
from stream_vlm.memory.summaries.tables import (
    EXTRACTIVE,
    Session,
    SummarySource,
    chunk_source,
    chunk_summary,
    extend_summary,
    insert_summary,
    merge_source,
    replace_text,
    session_span,
    summary_text,
    uncovered_chunks,
    unmerged_summaries,
)
from stream_vlm.types import NANOSECONDS

SCAN_BATCH = 1000
"""Records that are checked in one piece for whether a summary covers them."""

BYTES_PER_PIECE = 100_000
"""About what a piece of idle work adds to the WAL."""


@dataclass(frozen=True)
class IdleHealth:
    """What idle work has done, for diagnostics.

    Attributes:
        summarised: summaries stored since the file was opened.
        summarizer: who summarises: off, extractive, or the model that rewrites extractive
            summaries.
        written: summaries that a model has rewritten.
        waiting: summaries that wait for the model.
        failures: how often the model failed.
        fault: the last failure, or empty after a success.
        dropped: number and bytes of records, pictures and summaries dropped since the file was
            made.
        captions: what was captioned.
    """

    summarised: int = 0
    summarizer: str = ""
    written: int = 0
    waiting: int = 0
    failures: int = 0
    fault: str = ""
    dropped: dict[str, tuple[int, int]] = field(default_factory=dict)
    captions: CaptionHealth = field(default_factory=CaptionHealth)


class IdleWork:
    """The idle work of one memory; belongs to the thread that writes.

    It keeps only what it has found out about the file, which is found out again after a restart.

    A finished chunk is summarised at once by extraction, in one transaction with the links to its
    records. If a model is to rewrite summaries, it does so on another thread. Its text replaces the
    extract if it passes the checks, and if the extract has not changed meanwhile.

    Args:
        connections: to the file.
        settings: of the memory.
        vector_search: embeds summaries.
        wake: called on another thread when there is work although no step came.
        sessions: the sessions of this program by name, as the file has them.

    Attributes:
        running: the current session; all others have ended.
        jobs: what a model is to rewrite, or None if there is no such model.
        texts: captions and answers to store.
        captions: pictures to caption.

    Raises:
        MemoryFileError: an endpoint is to write summaries, but the settings name none.
    """

    def __init__(
        self,
        connections: Connections,
        settings: MemorySettings,
        vector_search: VectorSearch,
        wake: Callable[[], None],
        sessions: Mapping[str, Begun],
    ) -> None:
        self.running = ""
        self._connections = connections
        self._settings = settings
        self._vector_search = vector_search
        self._plan = Plan.of(settings)
        self._retention = Retention(connections, settings)
        self.jobs = SummaryJobs(wake) if settings.summarizer in ("endpoint", "model") else None
        self._endpoint = (
            EndpointSummarizer(settings, self.jobs)
            if self.jobs is not None and settings.summarizer == "endpoint"
            else None
        )
        self.texts = PictureTexts(wake)
        self.captions = CaptionQueue(settings, self.texts)
        self._sessions = sessions
        self._changed_outside = True
        self._health = IdleHealth()
        self._reset()

    @property
    def health(self) -> IdleHealth:
        """What was done so far; any thread may ask."""
        health = replace(
            self._health,
            dropped=self._retention.dropped,
            summarizer="off" if self._settings.summarizer == "off" else EXTRACTIVE,
            captions=self.captions.health,
        )
        if (jobs := self.jobs) is None:
            return health
        summarizer = f"{EXTRACTIVE}, rewritten by {jobs.model_id}" if jobs.model_id else EXTRACTIVE
        return replace(
            health,
            summarizer=summarizer,
            waiting=jobs.unfinished,
            failures=jobs.failures,
            fault=jobs.fault,
        )

    def rescan(self) -> None:
        """Note that the file was changed by other means than steps (deletion, import).

        Any thread may call it.
        """
        self._changed_outside = True

    def work(self, *, dropping: bool = True) -> tuple[bool, int]:
        """Do one piece of work.

        Args:
            dropping: whether retention may drop rows.

        Returns:
            Whether there is more, and by how many records the file has grown.

        Raises:
            MemoryFileError: the file cannot be written; nothing of the piece was done, and the next
                call tries it again.
        """
        if self._changed_outside:
            self._changed_outside = False
            self._reset()
        if (change := self._store_text()) is not None:
            return True, change
        if self._settings.summarizer != "off":
            if self._store_written() or self._scan():
                return True, 0
            if (change := self._summarise()) is not None:
                return True, change
        dropped = self._retention.work() if dropping else -1
        return dropped >= 0, -max(dropped, 0)

    def wait_for_endpoint(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds for the endpoint; return whether it has a result."""
        return self._endpoint is not None and self.jobs is not None and self.jobs.wait(timeout_s)

    def close(self) -> None:
        """Stop asking the model."""
        self.captions.close()
        if self.jobs is not None:
            self.jobs.close()

    def _reset(self) -> None:
        self._scanned = 0
        self._waiting: set[Chunk] = set()
        self._retention.rescan()
        # Cameras that may have too many mid summaries; None means that all may.
        self._cameras_to_merge: set[str] | None = None

    def _store_text(self) -> int | None:
        """Store one text about a picture.

        It is dropped if its session is not in the file, which was replaced meanwhile.

        Returns:
            By how many records the file has grown, or None if none waits.
        """
        text = self.texts.oldest
        if text is None:
            return None
        begun, grown = self._sessions.get(text.session_id), 0
        picture = thumbnail(text.frame, self._settings)
        with self._connections.writing(0.0) as db:
            if begun is not None and begun.generation == self._connections.generation:
                record_id = insert_picture_text(db, text, picture, begun)
                self._vector_search.embed_record(db, record_id, text.text)
                grown = 1
        # Only now: if the file cannot be written, the next call tries again.
        self.texts.remove(text)
        return grown

    def _store_written(self) -> bool:
        """Store one summary of the model, unless the old one was deleted or changed meanwhile."""
        written = self.jobs.written if self.jobs is not None else None
        if self.jobs is None or written is None:
            return False
        with self._connections.writing(0.0) as db:
            unchanged = summary_text(db, written.job.record_id) == written.job.text
            if unchanged:
                replace_text(db, written.job.record_id, written.text, written.model_id)
                self._vector_search.embed_record(db, written.job.record_id, written.text)
        # Only now: if the file cannot be written, the next call tries again.
        self.jobs.pop_written()
        self._health = replace(self._health, written=self._health.written + unchanged)
        return True

    def _scan(self) -> bool:
        """Check some of the records stored since the last scan.

        Returns:
            Whether there may be more.
        """
        before = self._scanned
        with self._connections.reader() as db:
            found, self._scanned = uncovered_chunks(db, before, SCAN_BATCH, self._plan)
        self._waiting |= found
        return self._scanned - before >= SCAN_BATCH

    def _summarise(self) -> int | None:
        """Summarise one chunk that is due, or else merge mid summaries.

        Returns:
            By how many records the file has grown, or None if there was nothing to do.
        """
        for chunk in sorted(
            self._waiting, key=lambda chunk: (chunk.session_id == self.running, chunk)
        ):
            with self._connections.snapshot() as db:
                due = self._is_due(db, chunk)
            if due:
                return self._store(chunk)
            if due is None:
                self._waiting.discard(chunk)
        return self._merge()

    def _is_due(self, db: Database, chunk: Chunk) -> bool | None:
        """Return whether `chunk` is due; None if it never will be.

        That is if its session was deleted, or if retention would drop its summary.
        """
        session = session_span(db, chunk.session_id)
        if session is None:
            return None
        has_one = (
            chunk_summary(db, chunk, self._plan.start_of(chunk.number, session.started_ns))
            is not None
        )
        running = chunk.session_id == self.running
        if not self._plan.is_due(
            chunk.number, session.started_ns, session.newest_ns, summarised=has_one, running=running
        ):
            return False
        return None if not running and self._is_over(db, chunk, session) else True

    def _is_over(self, db: Database, chunk: Chunk, session: Session) -> bool:
        """Return whether retention would drop the chunk's summary as soon as it was made."""
        kept_ns = round(self._settings.keep_summaries_h * 3600 * NANOSECONDS)
        end_ns = min(self._plan.start_of(chunk.number + 1, session.started_ns), session.newest_ns)
        return bool(kept_ns) and any(
            limit.segment.session_id == chunk.session_id and end_ns < limit.before_ns
            for limit in retention_limits(clock_segments(db), kept_ns, too_large=False)
        )

    def _store(self, chunk: Chunk) -> int:
        """Store or complete the summary of `chunk` in one transaction.

        Records that were deleted just before are not in it.
        """
        grown, job = 0, None
        with self._connections.writing(0.0) as db:
            session = session_span(db, chunk.session_id)
            covered = (
                chunk_source(db, chunk, session.started_ns, self._plan)
                if session is not None
                else None
            )
            if covered is not None:
                text, model_id = extract(covered.material, self._settings.summary_chars), EXTRACTIVE
                summary = chunk_summary(db, chunk, covered.start_ns)
                if summary is None:
                    record_id = self._add(db, MID, chunk, covered, text)
                    grown = 1
                else:
                    record_id = summary.record_id
                    if summary.model_id != EXTRACTIVE and covered.with_text <= summary.covers:
                        text, model_id = summary.text, summary.model_id
                    grown = -len(extend_summary(db, summary, covered, text, model_id))
                    if text != summary.text:
                        self._vector_search.embed_record(db, record_id, text)
                if model_id == EXTRACTIVE and (summary is None or text != summary.text):
                    job = Job(record_id, text, covered.material, self._settings.summary_chars)
        self._waiting.discard(chunk)
        self._done(chunk.camera, job, new=grown > 0)
        return grown

    def _merge(self) -> int | None:
        """Make one long block if there are too many mid summaries; returns as `_summarise`."""
        if self._cameras_to_merge is None:
            with self._connections.reader() as db:
                self._cameras_to_merge = {
                    camera
                    for (camera,) in db.execute(
                        "SELECT DISTINCT camera FROM record WHERE kind = 'summary'"
                    ).fetchall()
                }
        while self._cameras_to_merge:
            camera = min(self._cameras_to_merge)
            with self._connections.snapshot() as db:
                number = to_merge(
                    [session_id for _, session_id in unmerged_summaries(db, camera)],
                    self._plan.mids,
                )
            if not number:
                self._cameras_to_merge.discard(camera)
                continue
            with self._connections.writing(0.0) as db:
                # Read again within the transaction: some may have been deleted meanwhile.
                mids = unmerged_summaries(db, camera)
                number = to_merge([session_id for _, session_id in mids], self._plan.mids)
                if not number:
                    return 0
                covered = merge_source(db, [mid for mid, _ in mids[:number]])
                text = extract(covered.material, self._settings.summary_chars)
                record_id = self._add(db, LONG, Chunk(mids[0][1], camera, 0), covered, text)
            self._done(
                camera,
                Job(record_id, text, covered.material, self._settings.summary_chars),
                new=True,
            )
            return 1
        return None

    def _add(self, db: Database, tier: str, chunk: Chunk, covered: SummarySource, text: str) -> int:
        record_id = insert_summary(
            db, tier, chunk.session_id, chunk.camera, covered, text, EXTRACTIVE
        )
        self._vector_search.embed_record(db, record_id, text)
        return record_id

    def _done(self, camera: str, job: Job | None, *, new: bool) -> None:
        """After a summary was stored, check its camera for a merge and submit its job."""
        if self._cameras_to_merge is not None:
            self._cameras_to_merge.add(camera)
        self._health = replace(self._health, summarised=self._health.summarised + new)
        if job is not None and self.jobs is not None and job.material.items:
            self.jobs.submit(job)
