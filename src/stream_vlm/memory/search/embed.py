"""Vectors for what was stored without any, or with those of another model: a batch at a time, so
that a crash costs no more than one.
"""

from __future__ import annotations

import logging

from stream_vlm.memory.search.vector_search import VectorSearch
from stream_vlm.memory.search.vectors import PICTURE, PictureEmbedder, Vectors, insert, unit
from stream_vlm.memory.storage.connections import Connections
from stream_vlm.memory.storage.thumbnails import decoded
from stream_vlm.types import StreamError

_log = logging.getLogger(__name__)


def embed_texts(connections: Connections, vector_search: VectorSearch, batch: int) -> int:
    """As `Memory.reembed`."""
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
    """As `Memory.reembed_pictures`."""
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
                vectors[number] = unit(
                    model.embed(decoded(jpeg, f"picture {number}")), f"picture {number}"
                )
            except StreamError as error:
                # A page of the file that went bad, or a picture that only another model takes: the
                # others are found all the same.
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
