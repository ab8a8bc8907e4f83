"""Questions to the model: each waits until its camera has a frame, then for its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rclpy.node import Node

from stream_vlm.types import Query, RecalledContext, Utterance
from stream_vlm_ros.requests.request_queue import (
    Request,
    RequestError,
    RequestQueue,
    new_request_id,
)

LONGEST_QUESTION = 2000
"""Most characters of a question; a longer text would push pictures out of the context."""
MOST_WAITING = 100
"""Questions that may wait for a picture."""


def new_query_id() -> str:
    """A short name that no other question has."""
    return f"q-{new_request_id()}"


def _ignore(_: object) -> None:
    """For a caller who does not listen."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question(Request):
    """A question to the model.

    Attributes:
        text: the words, see `checked_words`.
        stamp_ns: when it was asked, ns.
        camera: the camera it is about; empty means the first one that has a frame.
        past: what the memory knows about it.
        on_text: called with the answer so far, whenever it grows, by the model's thread.
        on_answer: called with the whole answer, after it is stored, by the memory's thread.
    """

    text: str
    stamp_ns: int
    camera: str = ""
    past: RecalledContext = field(default_factory=RecalledContext)
    on_text: Callable[[str], None] = _ignore
    on_answer: Callable[[Utterance], None] = _ignore
    request_id: str = field(default_factory=new_query_id)


def question_queue(closed: str = "") -> RequestQueue[Question]:
    """An empty queue of questions; see `RequestQueue` for `closed`."""
    return RequestQueue(
        MOST_WAITING,
        f"{MOST_WAITING} questions wait for a picture already; ask again when the cameras show one",
        closed,
    )


def begin_questions(questions: RequestQueue[Question], cameras: Sequence[str]) -> tuple[Query, ...]:
    """Begin the oldest question of each of `cameras`, which have a frame now; each query names its
    camera.
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
            Query(question.request_id, question.text, question.stamp_ns, camera, past=question.past)
        )
    return tuple(begun)


def checked_words(text: str, camera: str, cameras: Sequence[str], what: str) -> str:
    """The words of `what` ("the question") about `camera`, without white space around them.

    Raises:
        RequestError: no words, too many of them, or a camera that is not among `cameras`.
    """
    words = text.strip()
    if not words:
        raise RequestError(f"{what} is empty; say it in plain words")
    if len(words) > LONGEST_QUESTION:
        raise RequestError(
            f"{what} has {len(words)} characters; say it in at most {LONGEST_QUESTION}"
        )
    if camera and camera not in cameras:
        raise RequestError(
            f"camera '{camera}' does not exist; the cameras are {', '.join(cameras)}"
        )
    return words


def inactive(node: Node) -> str:
    """Why a node that is not active answers no requests, and what to do."""
    name = node.get_fully_qualified_name()
    return (
        f"{name} is not active, so the model processes no pictures; activate it (ros2 lifecycle set"
        f" {name} activate)"
    )
