"""Vectors of texts and pictures: stored in the file, searched exactly as one matrix in RAM.

Every vector belongs to a model and a size; only vectors of the same model and size are compared.
They are stored with length 1, so that their dot product is the cosine. There is no approximate
index: comparing 43,200 vectors of 384 numbers takes a few milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from stream_vlm.memory.search.sql_filters import Ids
from stream_vlm.memory.storage.errors import RecallError

Vectors = NDArray[np.float32]

Owner = Literal["record", "picture"]
"""What a vector describes: a record's text, or a picture."""

RECORD: Owner = "record"
PICTURE: Owner = "picture"


class Embedder(Protocol):
    """A text model: turns texts into vectors."""

    @property
    def name(self) -> str:
        """Digest or name of the model; vectors of different names are never compared."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector for each text, float32, (texts, size)."""
        ...


@runtime_checkable
class PictureEmbedder(Protocol):
    """A model that turns a picture into a vector."""

    @property
    def model_id(self) -> str:
        """Digest or name of the model; vectors of different names are never compared."""
        ...

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the vector, (size,), of a picture, uint8 RGB (H, W, 3).

        Raises:
            StreamError: the picture cannot be used.
        """
        ...


@dataclass(frozen=True)
class VectorModel:
    """One model whose vectors a file has, and how many.

    Attributes:
        name: of the model.
        size: numbers in each vector.
        of: "record" or "picture".
        number: how many vectors.
    """

    name: str
    size: int
    of: str
    number: int


def normalised(vector: NDArray[np.floating], what: str) -> Vectors:
    """Return `vector`, (size,), scaled to length 1, float32.

    Raises:
        RecallError: it has another shape, a number that is not finite, or length 0; the message
            names `what`.
    """
    array = np.asarray(vector, np.float32)
    if array.ndim != 1 or not len(array):
        raise RecallError(
            f"{what}: an array of shape {array.shape} is not a vector; give one of shape (size,)"
        )
    length = float(np.linalg.norm(array))
    if not np.isfinite(length) or length == 0.0:
        raise RecallError(
            f"{what}: a vector of length {length} has no direction; give finite numbers, not all of"
            " them 0"
        )
    return np.asarray(array / np.float32(length), np.float32)


def insert(db: Database, of: Owner, owner_id: int, model: str, vector: Vectors) -> None:
    """Store `vector`, of length 1, for record or picture `owner_id`.

    It runs within the caller's transaction.
    """
    found = db.execute(
        "SELECT id FROM vector_model WHERE name = ? AND size = ?", [model, len(vector)]
    ).fetchone()
    if found is None:
        found = [
            db.execute(
                "INSERT INTO vector_model (name, size) VALUES (?, ?)", [model, len(vector)]
            ).lastrowid
        ]
    db.execute(
        f"INSERT OR REPLACE INTO {of}_vector ({of}_id, vector_model_id, halves) VALUES (?, ?, ?)",
        [owner_id, found[0], vector.astype("<f2").tobytes()],
    )


def models(db: Database) -> tuple[VectorModel, ...]:
    """Return the models whose vectors the file has."""
    found = []
    for of in (RECORD, PICTURE):
        counts = (
            f"SELECT name, size, count(*) FROM {of}_vector JOIN vector_model ON vector_model.id ="
            " vector_model_id GROUP BY 1, 2 ORDER BY 1, 2"
        )
        found += [VectorModel(name, size, of, number) for name, size, number in db.execute(counts)]
    return tuple(found)


class Matrix:
    """All vectors of one kind, model and size in RAM; after the first read only new ones are read.

    Any thread may use it.
    """

    def __init__(self, of: Owner, model: str, size: int) -> None:
        self._of = of
        self._model = model
        self._size = size
        self._lock = threading.Lock()
        self._clear()

    def nearest(
        self, db: Database, vector: Vectors, number: int, allowed: Ids | None = None
    ) -> tuple[Ids, Vectors]:
        """Return the records or pictures nearest to `vector` (length 1), and their cosines.

        Args:
            db: a connection, in one transaction.
            vector: float32, (size,), length 1.
            number: at most so many.
            allowed: only these numbers; None for all.
        """
        with self._lock:
            self._refresh(db)
            owners = self._owners[: self._count]
            # All rows, and the allowed ones are selected later: copying these first would take
            # longer than multiplying all.
            cosines = self._rows[: self._count] @ vector
        if allowed is not None:
            among = np.flatnonzero(np.isin(owners, allowed))
            owners, cosines = owners[among], cosines[among]
        if not len(owners):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        best = np.argpartition(-cosines, min(number, len(cosines)) - 1)[:number]
        best = best[np.lexsort((-owners[best], -cosines[best]))]
        return owners[best], cosines[best]

    def _clear(self) -> None:
        self._last = 0
        self._count = 0
        self._owners: Ids = np.empty(0, np.int64)
        self._rows: Vectors = np.empty((0, self._size), np.float32)

    def _refresh(self, db: Database) -> None:
        model = db.execute(
            "SELECT id FROM vector_model WHERE name = ? AND size = ?", [self._model, self._size]
        ).fetchone()
        if model is None:
            return self._clear()
        stored = db.execute(
            f"SELECT count(*) FROM {self._of}_vector WHERE vector_model_id = ?", model
        ).fetchone()[0]
        if stored != self._count:
            self._append(db, model[0])
        if stored != self._count:
            # Some were deleted: read all again.
            self._clear()
            self._append(db, model[0])

    def _append(self, db: Database, model_id: int) -> None:
        added = db.execute(
            f"SELECT id, {self._of}_id, halves FROM {self._of}_vector WHERE vector_model_id = ? AND"
            " id > ? ORDER BY id",
            [model_id, self._last],
        ).fetchall()
        if not added:
            return
        needed = self._count + len(added)
        if needed > len(self._rows):
            # Double the size, so that a matrix that grows by one row per second is seldom copied.
            grown = np.empty((max(needed, 2 * self._count), self._size), np.float32)
            grown[: self._count] = self._rows[: self._count]
            owners = np.empty(len(grown), np.int64)
            owners[: self._count] = self._owners[: self._count]
            self._rows, self._owners = grown, owners
        self._rows[self._count : needed] = np.frombuffer(
            b"".join(row[2] for row in added), "<f2"
        ).reshape(len(added), self._size)
        self._owners[self._count : needed] = [row[1] for row in added]
        self._count, self._last = needed, added[-1][0]
