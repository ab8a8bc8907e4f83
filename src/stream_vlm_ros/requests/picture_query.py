"""Picture queries: the model embeds a picture, so that the memory can search with its vector."""

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

MAX_WAITING = 20
"""How many pictures may wait for the model. Few, because the files may be large."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureQuery(Request):
    """A picture that the model is to embed.

    Attributes:
        file: the content of a JPEG or PNG file.
        on_vector: called with the vector, float32, (size,), and the id of the model, on the model
            thread.
    """

    file: bytes
    on_vector: Callable[[NDArray[np.float32], str], None]


def picture_query_queue(closed: str = "") -> RequestQueue[PictureQuery]:
    """An empty queue of pictures; see `RequestQueue` for `closed`."""
    return RequestQueue(
        MAX_WAITING,
        f"{MAX_WAITING} pictures already wait for the model; ask again when it has embedded some",
        closed,
    )


def serve_picture_query(queries: RequestQueue[PictureQuery], model: Model) -> None:
    """Let `model` embed the oldest picture, if there is one. The model thread calls this."""
    query = queries.take()
    if query is None:
        return
    try:
        if not isinstance(model, PictureEmbedder):
            raise RequestError(
                f"like: {model.model_id} cannot embed pictures; search with words, or use a"
                " Qwen2.5-VL or Qwen3-VL as model"
            )
        vector = model.embed(decoded(query.file, "like"))
    except Exception as error:  # no request may end the model thread
        query.on_failure(
            str(error) if isinstance(error, StreamError) else f"like: the model failed: {error}"
        )
        return
    query.on_vector(vector, model.model_id)
