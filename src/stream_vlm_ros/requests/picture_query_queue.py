"""Pictures that somebody asks the memory about, on their way to the model and back as vectors."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.memory.search.vectors import PictureEmbedder
from stream_vlm.memory.storage.thumbnails import decoded
from stream_vlm.model_protocol import Model
from stream_vlm.types import StreamError

MOST_WAITING = 20
"""Pictures that may wait for the model; each is as large as its sender made it."""


class LikenessError(StreamError):
    """A picture that cannot be compared with the memory's."""


@dataclass(frozen=True)
class Likeness:
    """A picture file (JPEG or PNG) and who waits for its vector, of the model that is named with
    it; called from the model's thread.
    """

    file: bytes
    on_vector: Callable[[NDArray[np.float32], str], None]
    on_failure: Callable[[str], None]


class Likenesses:
    """Holds pictures until the model has a moment between two steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Likeness] = deque()
        self._on_put: Callable[[], None] = lambda: None
        self._closed = ""

    def listen(self, on_put: Callable[[], None]) -> None:
        """Call `on_put` whenever a picture has come."""
        self._on_put = on_put

    @property
    def waits(self) -> bool:
        """Whether a picture waits."""
        return bool(self._waiting)

    def put(self, likeness: Likeness) -> None:
        """Take in a picture; returns at once.

        Raises:
            LikenessError: too many wait already, or nobody looks any more.
        """
        with self._lock:
            if self._closed:
                raise LikenessError(self._closed)
            if len(self._waiting) >= MOST_WAITING:
                raise LikenessError(
                    f"{MOST_WAITING} pictures wait for the model already; ask again when it has"
                    " looked at them"
                )
            self._waiting.append(likeness)
        self._on_put()

    def serve(self, model: Model) -> None:
        """Have `model` look at the oldest picture, if there is one, and tell its asker; on the
        model's thread.
        """
        with self._lock:
            likeness = self._waiting.popleft() if self._waiting else None
        if likeness is None:
            return
        try:
            if not isinstance(model, PictureEmbedder):
                raise LikenessError(
                    f"like: {model.model_id} gives no vectors of pictures; ask by words, or watch"
                    " with a Qwen2.5-VL or Qwen3-VL"
                )
            vector = model.embed(decoded(likeness.file, "like"))
        except Exception as error:  # whatever a model stumbles over: its asker must hear of it
            likeness.on_failure(
                str(error) if isinstance(error, StreamError) else f"like: the model failed: {error}"
            )
            return
        likeness.on_vector(vector, model.model_id)

    def close(self, sentence: str) -> None:
        """Tell everybody who waits, and who comes later, why no vector will come."""
        with self._lock:
            self._closed = sentence
            waiting = list(self._waiting)
            self._waiting.clear()
        for likeness in waiting:
            likeness.on_failure(sentence)
