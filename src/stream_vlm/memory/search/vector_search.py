"""Search by vectors of texts and pictures: the text model in use, and the vectors in RAM."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from stream_vlm.memory.search.query import DEFAULT_KINDS, PICTURED_KINDS, RecallQuery, RecallRecord
from stream_vlm.memory.search.rank_fusion import fused, search_by_picture
from stream_vlm.memory.search.vectors import (
    PICTURE,
    RECORD,
    Embedder,
    Matrix,
    Owner,
    PictureEmbedder,
    Vectors,
    insert,
    models,
    normalised,
)
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.errors import RecallError
from stream_vlm.memory.storage.step_rows import StepRows
from stream_vlm.memory.storage.thumbnails import decoded
from stream_vlm.types import StreamError

FOR_PICTURES = (
    "'stream-vlm memory embed --pictures' gives every stored picture a vector of one model"
)
"""The remedy where pictures have no vector of the model."""

_log = logging.getLogger(__name__)


class VectorSearch:
    """The vectors of one memory.

    Attributes:
        embedder: the text model; None if there is none. Then only words are searched, and the
            result's note says so.
    """

    def __init__(self) -> None:
        self.embedder: Embedder | None = None
        self._matrices: dict[tuple[Owner, str, int], Matrix] = {}

    def forget_vectors(self) -> None:
        """Read all vectors again at the next search, because the file is another one."""
        self._matrices = {}

    def embed_step(self, step: StepRows) -> StepRows:
        """Return `step` with the vectors of its texts, if there is a text model."""
        spoken = [number for number, row in enumerate(step.rows) if row.text]
        if self.embedder is None or not spoken:
            return step
        vectors = self._embed(self.embedder, [step.rows[number].text for number in spoken])
        return replace(
            step,
            text_model=self.embedder.name,
            text_vectors=dict(zip(spoken, vectors, strict=True)),
        )

    def embed_record(self, db: Database, record_id: int, text: str) -> None:
        """Store the vector of a stored record's text, if there is a text model.

        It runs within the caller's transaction.
        """
        if self.embedder is not None:
            insert(db, RECORD, record_id, self.embedder.name, self._embed(self.embedder, [text])[0])

    def fused(self, db: Database, query: RecallQuery) -> tuple[tuple[RecallRecord, ...], int, str]:
        """Rank as `rank_fusion.fused`, with the text model in use.

        Returns:
            The records, how many were ranked, and a note if texts have no vector of the model.
        """
        if self.embedder is None:
            return (
                *fused(db, query, None, None),
                "ranked by words and recency: no text model is in use",
            )
        name, (vector,) = self.embedder.name, self._embed(self.embedder, [query.text])
        spoken = db.execute("SELECT count(*) FROM record_text_docsize").fetchone()[0]
        held = {(one.name, one.size): one.number for one in models(db) if one.of == RECORD}
        ours = held.pop((name, len(vector)), 0)
        note = ""
        if ours < spoken:
            others = (
                f"; {sum(held.values())} have one of another model, which cannot be compared"
                if held
                else ""
            )
            note = (
                f"{ours} of {spoken} texts have a vector of {name}{others};"
                " 'stream-vlm memory embed' embeds the others"
            )
        return *fused(db, query, vector, self._matrix(RECORD, name, len(vector))), note

    def by_picture(
        self, db: Database, like: NDArray[np.floating], query: RecallQuery, model: str
    ) -> tuple[tuple[RecallRecord, ...], int, str]:
        """Search as `Memory.search_by_picture`.

        Returns:
            The records, how many pictures passed, and a note if pictures have no vector of the
            model.
        """
        if query.kinds == DEFAULT_KINDS:
            # Most pictures belong to silent observations.
            query = replace(query, kinds=PICTURED_KINDS)
        vector = normalised(like, "picture")
        held = [one for one in models(db) if one.of == PICTURE]
        if not any((one.name, one.size) == (model, len(vector)) for one in held):
            others = (
                "; ".join(f"{one.number} of '{one.name}' with {one.size}" for one in held)
                or "none at all"
            )
            raise RecallError(
                f"picture: no vectors of '{model}' with {len(vector)} numbers are stored, but"
                f" {others}; {FOR_PICTURES}"
            )
        ours = next(one.number for one in held if (one.name, one.size) == (model, len(vector)))
        pictures = db.execute("SELECT count(*) FROM picture").fetchone()[0]
        note = (
            f"{ours} of {pictures} pictures have a vector of {model}; {FOR_PICTURES}"
            if ours < pictures
            else ""
        )
        return *search_by_picture(
            db, query, vector, self._matrix(PICTURE, model, len(vector))
        ), note

    def missing(self, db: Database, number: int) -> dict[int, Vectors]:
        """Compute vectors for at most `number` texts that have none of the text model, by record.

        Raises:
            RecallError: no text model is in use.
        """
        if self.embedder is None:
            raise RecallError("embed: no text model is in use; set memory.text_model to one")
        without = (
            "SELECT id, text FROM record WHERE text <> '' AND NOT EXISTS (SELECT 1 FROM"
            " record_vector JOIN vector_model ON vector_model.id = vector_model_id WHERE record_id"
            " = record.id AND name = ?) ORDER BY id LIMIT ?"
        )
        texts = db.execute(without, [self.embedder.name, number]).fetchall()
        vectors = self._embed(self.embedder, [text for _, text in texts]) if texts else []
        return {record_id: vector for (record_id, _), vector in zip(texts, vectors, strict=True)}

    def add(self, db: Database, vectors: dict[int, Vectors]) -> None:
        """Store the vectors of `missing`, within the caller's transaction.

        Records that were deleted meanwhile are skipped.
        """
        assert self.embedder is not None
        for record_id, vector in vectors.items():
            if db.execute("SELECT 1 FROM record WHERE id = ?", [record_id]).fetchone():
                insert(db, RECORD, record_id, self.embedder.name, vector)

    def drop_others(self, db: Database) -> None:
        """Delete the text vectors of all other models, within the caller's transaction."""
        assert self.embedder is not None
        db.execute(
            "DELETE FROM record_vector WHERE vector_model_id IN (SELECT id FROM vector_model WHERE"
            " name <> ?)",
            [self.embedder.name],
        )

    def _embed(self, embedder: Embedder, texts: list[str]) -> list[Vectors]:
        return [
            normalised(vector, f"{embedder.name}: vector of '{text[:40]}'")
            for text, vector in zip(texts, embedder.embed(texts), strict=True)
        ]

    def _matrix(self, of: Owner, model: str, size: int) -> Matrix:
        return self._matrices.setdefault((of, model, size), Matrix(of, model, size))


def embed_texts(connections: Connections, vector_search: VectorSearch, batch: int) -> int:
    """Embed the texts as `Memory.reembed`, one batch per transaction."""
    done = 0
    while True:
        with connections.reader() as db:
            vectors = vector_search.missing(db, batch)
        if not vectors:
            break
        with connections.writing() as db:
            vector_search.add(db, vectors)
        done += len(vectors)
    with connections.writing() as db:
        vector_search.drop_others(db)
    return done


def embed_pictures(connections: Connections, model: PictureEmbedder, batch: int) -> tuple[int, int]:
    """Embed the pictures as `Memory.reembed_pictures`, one batch per transaction."""
    without = (
        "SELECT id, jpeg FROM picture WHERE id > ? AND NOT EXISTS (SELECT 1 FROM picture_vector"
        " JOIN vector_model ON vector_model.id = vector_model_id WHERE picture_id = picture.id AND"
        " name = ?) ORDER BY id LIMIT ?"
    )
    done = refused = last = 0
    while True:
        with connections.reader() as db:
            pictures = db.execute(without, [last, model.model_id, batch]).fetchall()
        if not pictures:
            break
        last = pictures[-1][0]
        vectors: dict[int, Vectors] = {}
        for number, jpeg in pictures:
            try:
                vectors[number] = normalised(
                    model.embed(decoded(jpeg, f"picture {number}")), f"picture {number}"
                )
            except StreamError as error:
                # A damaged picture, or one that this model cannot use: continue with the others.
                _log.warning("%s: %s", connections.path, error)
                refused += 1
        with connections.writing() as db:
            for number, vector in vectors.items():
                if db.execute("SELECT 1 FROM picture WHERE id = ?", [number]).fetchone():
                    insert(db, PICTURE, number, model.model_id, vector)
        done += len(vectors)
    with connections.writing() as db:
        db.execute(
            "DELETE FROM picture_vector WHERE vector_model_id IN (SELECT id FROM vector_model WHERE"
            " name <> ?)",
            [model.model_id],
        )
    return done, refused
