"""Pictures that somebody asks the memory about: the model turns each into a vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.memory.search.vectors import PictureEmbedder
from stream_vlm.memory.storage.thumbnails import decoded
from stream_vlm.model_protocol import Model
from stream_vlm.types import StreamError
from stream_vlm_ros.requests.request_queue import Request, RequestError, RequestQueue

MOST_WAITING = 20
"""Pictures that may wait for the model; each is as large as its sender made it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureQuery(Request):
    """A picture whose vector somebody waits for.

    Attributes:
        file: the picture, a JPEG or PNG file.
        on_vector: called with its vector, float32, (size,), and the id of the model that made it,
            by the model's thread.
    """

    file: bytes
    on_vector: Callable[[NDArray[np.float32], str], None]


def picture_query_queue(closed: str = "") -> RequestQueue[PictureQuery]:
    """An empty queue of pictures; see `RequestQueue` for `closed`."""
    return RequestQueue(
        MOST_WAITING,
        f"{MOST_WAITING} pictures wait for the model already; ask again when it has embedded some",
        closed,
    )


def serve_picture_query(queries: RequestQueue[PictureQuery], model: Model) -> None:
    """Let `model` embed the oldest picture, if there is one; on the model's thread."""
    query = queries.take()
    if query is None:
        return
    try:
        if not isinstance(model, PictureEmbedder):
            raise RequestError(
                f"like: {model.model_id} gives no vectors of pictures; ask by words, or watch with"
                " a Qwen2.5-VL or Qwen3-VL"
            )
        vector = model.embed(decoded(query.file, "like"))
    except Exception as error:  # whatever fails in the model, the caller must hear of it
        query.on_failure(
            str(error) if isinstance(error, StreamError) else f"like: the model failed: {error}"
        )
        return
    query.on_vector(vector, model.model_id)
