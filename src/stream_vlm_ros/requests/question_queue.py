"""Questions on their way to the model and answers on their way back."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rclpy.node import Node

from stream_vlm.types import Query, RecalledContext, StreamError, Utterance

LONGEST_QUESTION = 2000
"""Characters; a longer text is no question and would push the pictures out of the context."""

MOST_WAITING = 100
"""Questions that may wait for a picture."""


NOTHING = RecalledContext()


class QuestionError(StreamError):
    """A question that cannot be put to the model."""


@dataclass(frozen=True)
class AnswerCallbacks:
    """Who waits for an answer.

    Called from the threads of the model and of the memory: return at once.

    Attributes:
        on_text: the answer so far, whenever it grows.
        on_answer: the whole answer, stored already.
        on_failure: one sentence that says why there is no answer.
    """

    on_text: Callable[[str], None]
    on_answer: Callable[[Utterance], None]
    on_failure: Callable[[str], None]


class Questions:
    """Holds questions until their camera shows a picture, and knows who asked them."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._lock = threading.Lock()
        self._waiting: list[Query] = []
        self._askers: dict[str, AnswerCallbacks] = {}
        self._closed = ""

    def put(
        self,
        text: str,
        camera: str,
        stamp_ns: int,
        asker: AnswerCallbacks | None = None,
        past: RecalledContext = NOTHING,
    ) -> str:
        """Take in a question asked at `stamp_ns` (ns) and return its query id; an empty `camera`
        asks the first one that shows a picture.

        `past` is what was remembered about it.

        Raises:
            QuestionError: no words, too many of them, an unknown camera, too many questions that
                wait already, or no answer will come any more.
        """
        words = checked_words(text, camera, self._cameras, "the question")
        query = Query(
            query_id=new_query_id(), text=words, stamp_ns=stamp_ns, camera=camera, past=past
        )
        with self._lock:
            if self._closed:
                raise QuestionError(self._closed)
            if len(self._waiting) >= MOST_WAITING:
                raise QuestionError(
                    f"{MOST_WAITING} questions wait for a picture already; ask again when the"
                    " cameras show one"
                )
            self._waiting.append(query)
            if asker is not None:
                self._askers[query.query_id] = asker
        return query.query_id

    def take(self, showing: Sequence[str]) -> tuple[Query, ...]:
        """Remove and return, oldest first, at most one question for each camera in `showing`; each
        then names its camera.
        """
        free = [camera for camera in self._cameras if camera in showing]
        taken: list[Query] = []
        with self._lock:
            for query in list(self._waiting):
                camera = query.camera or (free[0] if free else "")
                if camera in free:
                    free.remove(camera)
                    self._waiting.remove(query)
                    taken.append(replace(query, camera=camera))
        return tuple(taken)

    def partial(self, query_id: str, text: str) -> None:
        """The answer to `query_id` reads `text` so far."""
        asker = self._askers.get(query_id)
        if asker is not None:
            asker.on_text(text)

    def answered(self, utterance: Utterance) -> None:
        """Hand a stored answer to whoever asked."""
        asker = self._remove(utterance.query_id)
        if asker is not None:
            asker.on_answer(utterance)

    def failed(self, query_id: str, sentence: str) -> None:
        """Tell whoever asked that there will be no answer."""
        asker = self._remove(query_id)
        if asker is not None:
            asker.on_failure(sentence)

    def withdraw(self, query_id: str) -> None:
        """Nobody waits for this answer any more; a question that did not reach the model yet is not
        asked.
        """
        self._remove(query_id)

    def close(self, sentence: str) -> None:
        """Tell everybody who waits, and who comes later, that no answer will come."""
        with self._lock:
            self._closed = sentence
            waiting = list(self._askers)
        for query_id in waiting:
            self.failed(query_id, sentence)
        with self._lock:
            self._waiting.clear()

    def _remove(self, query_id: str) -> AnswerCallbacks | None:
        with self._lock:
            self._waiting = [query for query in self._waiting if query.query_id != query_id]
            return self._askers.pop(query_id, None)


def new_query_id() -> str:
    """A short name that no other question has."""
    return f"q-{uuid.uuid4().hex[:12]}"


def checked_words(text: str, camera: str, cameras: Sequence[str], what: str) -> str:
    """The words of `what` was asked about `camera`, without white space around them.

    Raises:
        QuestionError: no words, too many of them, or a camera that is none of `cameras`.
    """
    words = text.strip()
    if not words:
        raise QuestionError(f"{what} is empty; say it in plain words")
    if len(words) > LONGEST_QUESTION:
        raise QuestionError(
            f"{what} has {len(words)} characters; say it in at most {LONGEST_QUESTION}"
        )
    if camera and camera not in cameras:
        raise QuestionError(
            f"camera '{camera}' does not exist; the cameras are {', '.join(cameras)}"
        )
    return words


def inactive(node: Node) -> str:
    """Why `node` can be asked nothing now."""
    name = node.get_fully_qualified_name()
    return (
        f"{name} is not active, the model does not look; activate it (ros2 lifecycle set {name}"
        " activate)"
    )
