"""Questions to the model: each waits until its camera has a frame, then for its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rclpy.node import Node

from stream_vlm.types import Query, RecalledContext, Utterance
from stream_vlm.unicode_text import check_text
from stream_vlm_ros.requests.request_queue import (
    Request,
    RequestError,
    RequestQueue,
    new_request_id,
)

MAX_CHARACTERS = 2000
"""Longest question. A longer text would need the space of pictures in the context."""
MAX_WAITING = 100
"""How many questions may wait for a frame."""


def new_query_id() -> str:
    """A new random id, which no other question has."""
    return f"q-{new_request_id()}"


def _ignore(_: object) -> None:
    """A callback that does nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question(Request):
    """A question to the model.

    Attributes:
        text: the question, see `checked_words`.
        stamp_ns: when it was asked, ns.
        camera: the camera that it is about; empty means the first one with a frame.
        recalled: the records that the memory found for it.
        on_text: called with the answer so far each time it grows, on the model thread.
        on_answer: called with the whole answer after it is stored, on the writer thread.
    """

    text: str
    stamp_ns: int
    camera: str = ""
    recalled: RecalledContext = field(default_factory=RecalledContext)
    on_text: Callable[[str], None] = _ignore
    on_answer: Callable[[Utterance], None] = _ignore
    request_id: str = field(default_factory=new_query_id)


def question_queue(closed: str = "") -> RequestQueue[Question]:
    """An empty queue of questions; see `RequestQueue` for `closed`."""
    return RequestQueue(
        MAX_WAITING,
        f"{MAX_WAITING} questions already wait for a picture; ask again when pictures arrive",
        closed,
    )


def begin_questions(questions: RequestQueue[Question], cameras: Sequence[str]) -> tuple[Query, ...]:
    """Begin the oldest question of each camera that has a frame now.

    Args:
        questions: the queue.
        cameras: the cameras with a frame.

    Returns:
        At most one query per camera; each names its camera.
    """
    free = list(cameras)
    begun: list[Query] = []
    while free:
        question = questions.begin(lambda other: not other.camera or other.camera in free)
        if question is None:
            break
        camera = question.camera or free[0]
        free.remove(camera)
        begun.append(
            Query(
                question.request_id,
                question.text,
                question.stamp_ns,
                camera,
                recalled=question.recalled,
            )
        )
    return tuple(begun)


def checked_words(text: str, camera: str, cameras: Sequence[str], what: str) -> str:
    """Return `text` without white space around it.

    Args:
        text: the text of a request.
        camera: the camera that it is about, or empty.
        cameras: the cameras that exist.
        what: what the text is, for the message: "the question".

    Raises:
        RequestError: the text is empty or too long, or the camera does not exist.
        TextRefused: the text has half a character.
    """
    check_text(text, what)
    words = text.strip()
    if not words:
        raise RequestError(f"{what} is empty; write it in plain words")
    if len(words) > MAX_CHARACTERS:
        raise RequestError(f"{what} has {len(words)} characters; write at most {MAX_CHARACTERS}")
    if camera and camera not in cameras:
        raise RequestError(
            f"camera '{camera}' does not exist; the cameras are {', '.join(cameras)}"
        )
    return words


def inactive(node: Node) -> str:
    """Say why a node that is not active refuses requests, and what to do."""
    name = node.get_fully_qualified_name()
    return (
        f"{name} is not active, so the model processes no pictures; activate it (ros2 lifecycle set"
        f" {name} activate)"
    )
