"""Texts about a picture that come after its step: captions, and answers of a delegate."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import Frame

UNMEASURED = 0.5
"""Confidence of a text that no model measures: below that of most events."""

MAX_WAITING = 100
"""Texts that wait to be stored; above it the oldest is dropped."""


@dataclass(frozen=True)
class PictureText:
    """A text about `frame`, which becomes a record with the stamp and the pose of that frame.

    Attributes:
        kind: the kind of the record.
        session_id: the session of the step that processed the frame.
        frame: the picture.
        text: what is said about it.
        model_id: the model that says it.
        vector: the picture as one vector of the session's model, float32, (size,), or None.
        query_id: the question that it answers, or empty.
    """

    kind: str
    session_id: str
    frame: Frame
    text: str
    model_id: str
    vector: NDArray[np.float32] | None = None
    query_id: str = ""


class PictureTexts:
    """Holds texts until they are stored; any thread may add one.

    Args:
        on_added: called on the adding thread.
    """

    def __init__(self, on_added: Callable[[], None]) -> None:
        self._on_added = on_added
        self._waiting: deque[PictureText] = deque()
        self._lock = threading.Lock()

    def add(self, text: PictureText) -> None:
        """Have `text` stored; returns at once."""
        with self._lock:
            self._waiting.append(text)
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
        self._on_added()

    @property
    def oldest(self) -> PictureText | None:
        """The text that was added first, or None."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def remove(self, text: PictureText) -> None:
        """Remove `text`, which has been stored."""
        with self._lock:
            if self._waiting and self._waiting[0] is text:
                self._waiting.popleft()
