"""The searches of a memory; any thread may use them while another one writes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.computed_answer import answer
from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.search.place_frames import in_one_frame
from stream_vlm.memory.search.query import FUSED, RecallQuery, RecallRecord, RecallResult
from stream_vlm.memory.search.rank_fusion import picture_vector
from stream_vlm.memory.search.vector_search import VectorSearch
from stream_vlm.memory.search.vectors import Embedder
from stream_vlm.memory.search.word_search import search
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.thumbnails import StoredFrame, frame_of
from stream_vlm.memory.summaries.newest import chunk_summaries
from stream_vlm.memory.summaries.schedule import Plan
from stream_vlm.memory.summaries.tables import history


class MemoryReader:
    """A memory for searching; each search sees only whole commits.

    Args:
        settings: of the memory.
        connections: to its file.
    """

    def __init__(self, settings: MemorySettings, connections: Connections) -> None:
        self.settings = settings
        self._connections = connections
        self._vector_search = VectorSearch()
        self._present = ""

    def recall(self, query: RecallQuery) -> RecallResult:
        """Return the records that match `query`, from all sessions.

        Raises:
            RecallError: the query names a frame or session that the memory does not have, or no
                frame where it has several, see `place_frames.comparable`.
            MemoryFileError: the file cannot be read.
        """
        started = time.perf_counter()
        note = ""
        with self._connections.snapshot() as db:
            query = self._in_one_frame(db, query)
            if query.order == FUSED and query.text.strip():
                records, total, note = self._vector_search.fused(db, query)
            else:
                records, total = search(db, query)
        return RecallResult(records, total, (time.perf_counter() - started) * 1e3, note)

    def search_by_picture(
        self, vector: NDArray[np.floating], query: RecallQuery, model_id: str
    ) -> RecallResult:
        """Return the records with the pictures most similar to a picture's vector.

        Args:
            vector: of the picture, (size,).
            query: filters and limit; its words are ranked too.
            model_id: the model of the vector.

        Raises:
            RecallError: the vector is invalid, no vectors of its model and size are stored, or as
                for `recall`.
            MemoryFileError: the file cannot be read.
        """
        started = time.perf_counter()
        with self._connections.snapshot() as db:
            query = self._in_one_frame(db, query)
            records, total, note = self._vector_search.by_picture(db, vector, query, model_id)
        return RecallResult(records, total, (time.perf_counter() - started) * 1e3, note)

    def search_by_record(self, record_id: int, query: RecallQuery) -> RecallResult:
        """Search as `search_by_picture`, with the stored picture of the record `record_id`.

        Raises:
            RecallError: the record has no picture with a vector, or as for `recall`.
            MemoryFileError: the file cannot be read.
        """
        started = time.perf_counter()
        with self._connections.snapshot() as db:
            vector, model_id = picture_vector(db, record_id)
            query = self._in_one_frame(db, query)
            records, total, note = self._vector_search.by_picture(db, vector, query, model_id)
        return RecallResult(records, total, (time.perf_counter() - started) * 1e3, note)

    def use_embedder(self, embedder: Embedder | None) -> None:
        """Use `embedder` for the texts stored from now on, and for queries in the order "fused".

        It is called on the thread that writes and on those that search. None means words only.
        """
        self._vector_search.embedder = embedder

    def answer(self, question: Question) -> Answer:
        """Compute the answer to `question` from all sessions, with its evidence.

        Raises:
            RecallError: as for `recall`.
            MemoryFileError: the file cannot be read.
        """
        started = time.perf_counter()
        with self._connections.snapshot() as db:
            query = self._in_one_frame(db, question.query)
            said = answer(db, replace(question, query=query), self.settings.map_frames)
        return replace(said, took_ms=(time.perf_counter() - started) * 1e3)

    def chunk_summaries(self, number: int) -> tuple[RecallRecord, ...]:
        """Return the newest `number` summaries of one chunk each, oldest first.

        Raises:
            MemoryFileError: the file cannot be read.
        """
        with self._connections.snapshot() as db:
            return chunk_summaries(db, number)

    def frame(self, record_id: int) -> StoredFrame:
        """Return the stored thumbnail of record `record_id`.

        Raises:
            RecallError: there is no such record, or it has no stored picture; the message says
                which.
            MemoryFileError: the file cannot be read.
        """
        with self._connections.reader() as db:
            return frame_of(db, record_id)

    def history(self, camera: str) -> tuple[RecallRecord, ...]:
        """Return the long blocks and mid summaries of the past of `camera`, oldest first.

        The running chunk is not included.

        Raises:
            MemoryFileError: the file cannot be read.
        """
        with self._connections.snapshot() as db:
            return history(db, camera, Plan.of(self.settings))

    def _in_one_frame(self, db: Database, query: RecallQuery) -> RecallQuery:
        return in_one_frame(db, query, self.settings.map_frames, self._present)
