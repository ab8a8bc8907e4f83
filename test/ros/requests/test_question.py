"""The queue of questions to the model, without middleware."""

from __future__ import annotations

import pytest

from stream_vlm_ros.requests.question import (
    MAX_CHARACTERS,
    MAX_WAITING,
    Question,
    begin_questions,
    checked_words,
    question_queue,
)
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue


def queue_of(*questions: tuple[str, str]) -> RequestQueue[Question]:
    """A queue with a question for each pair of a text and a camera."""
    queue = question_queue()
    for stamp_ns, (text, camera) in enumerate(questions, start=1):
        queue.put(Question(text=text, stamp_ns=stamp_ns, camera=camera, on_failure=print))
    return queue


def begin(queue: RequestQueue[Question], *cameras: str) -> list[tuple[str, str]]:
    """Begin questions of `cameras`; return the text and the camera of each."""
    return [(query.text, query.camera) for query in begin_questions(queue, cameras)]


def test_a_question_without_a_camera_is_about_the_first_camera_with_a_frame() -> None:
    queue = queue_of(("what is there?", ""))
    assert begin(queue) == []
    assert begin(queue, "rear", "front") == [("what is there?", "rear")]
    assert begin(queue, "rear", "front") == []


def test_a_query_has_the_id_text_and_stamp_of_its_question() -> None:
    question = Question(text="what is there?", stamp_ns=7, on_failure=print)
    queue = question_queue()
    queue.put(question)
    (query,) = begin_questions(queue, ["front"])
    assert (query.query_id, query.text, query.stamp_ns, query.recalled, query.is_watch) == (
        question.request_id,
        "what is there?",
        7,
        question.recalled,
        False,
    )


def test_a_camera_gets_one_question_per_tick_the_oldest_first() -> None:
    queue = queue_of(("first", ""), ("second", "front"))
    assert begin(queue, "front") == [("first", "front")]
    assert begin(queue, "front") == [("second", "front")]


def test_each_camera_with_a_frame_gets_a_question_in_the_same_tick() -> None:
    queue = queue_of(("one", ""), ("two", ""), ("three", ""))
    assert begin(queue, "front", "rear") == [("one", "front"), ("two", "rear")]


def test_a_question_about_a_camera_without_a_frame_does_not_block_others() -> None:
    queue = queue_of(("for the rear", "rear"), ("for anyone", ""))
    assert begin(queue, "front") == [("for anyone", "front")]
    assert begin(queue, "rear") == [("for the rear", "rear")]


def test_a_question_is_refused_if_too_many_wait() -> None:
    queue = queue_of(*[("again?", "")] * MAX_WAITING)
    with pytest.raises(RequestError, match=f"{MAX_WAITING} questions already wait for a picture"):
        queue.put(Question(text="one more", stamp_ns=1, on_failure=print))


@pytest.mark.parametrize(
    ("text", "camera", "says"),
    [
        ("", "", "the question is empty"),
        (" \n\t", "", "the question is empty"),
        ("x" * (MAX_CHARACTERS + 1), "", f"has {MAX_CHARACTERS + 1} characters"),
        ("why?", "back", "camera 'back' does not exist; the cameras are front, rear"),
    ],
)
def test_a_bad_question_is_refused(text: str, camera: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        checked_words(text, camera, ["front", "rear"], "the question")


def test_white_space_around_a_question_is_removed() -> None:
    assert checked_words("  why now?\n", "rear", ["front", "rear"], "the question") == "why now?"
