"""Keep the text vectors of files that name a model by its folder and not by its contents."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

import numpy as np

from stream_vlm.memory.search.vectors import Embedder, normalised
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.errors import MemoryFileError

SAMPLES = 8
"""Texts that are embedded again to see whether stored vectors are of the model in use."""

SAME_COSINE = 0.999
"""A stored vector has 16-bit numbers, so it is not exactly the one that is computed again."""

_log = logging.getLogger(__name__)


@runtime_checkable
class FolderModel(Protocol):
    """A text model from a folder; older versions named its vectors by `folder_name`."""

    @property
    def folder_name(self) -> str:
        """Name of the folder, without its path."""
        ...


def adopt_vectors(connections: Connections, embedder: Embedder) -> int:
    """Give vectors that are named by the folder of `embedder` the name of `embedder`.

    Some texts are embedded again first. If a vector differs, the model was another one in a folder
    of the same name, and nothing is changed: its vectors are never compared with those of
    `embedder`.

    Returns:
        How many vectors were renamed.
    """
    if not isinstance(embedder, FolderModel):
        return 0
    try:
        with connections.reader() as db:
            samples = db.execute(
                "SELECT text, halves, size FROM record_vector JOIN vector_model ON vector_model.id"
                " = vector_model_id JOIN record ON record.id = record_id WHERE name = ? ORDER BY"
                " record_vector.id DESC LIMIT ?",
                [embedder.folder_name, SAMPLES],
            ).fetchall()
        if not samples:
            return 0
        if not _are_of(embedder, samples):
            _log.warning(
                "%s: its text vectors named '%s' are of another model than the one in that folder"
                " now and are not used; 'stream-vlm memory embed' embeds the texts again",
                connections.path,
                embedder.folder_name,
            )
            return 0
        size = samples[0][2]
        with connections.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO vector_model (name, size) VALUES (?, ?)",
                [embedder.name, size],
            )
            renamed = db.execute(
                "UPDATE OR IGNORE record_vector SET vector_model_id = (SELECT id FROM vector_model"
                " WHERE name = ? AND size = ?) WHERE vector_model_id = (SELECT id FROM vector_model"
                " WHERE name = ? AND size = ?)",
                [embedder.name, size, embedder.folder_name, size],
            ).rowcount
    except MemoryFileError as error:
        _log.warning("%s; text vectors of an older version are not used until then", error)
        return 0
    return int(renamed)


def _are_of(embedder: Embedder, samples: list[tuple[str, bytes, int]]) -> bool:
    made = embedder.embed([text for text, _, _ in samples])
    for vector, (text, halves, size) in zip(made, samples, strict=True):
        stored = np.frombuffer(halves, "<f2").astype(np.float32)
        if len(vector) != size or len(stored) != size:
            return False
        if float(stored @ normalised(vector, text[:40])) < SAME_COSINE:
            return False
    return True
