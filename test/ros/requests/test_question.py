"""Questions between whoever asks and the model, without middleware."""

from __future__ import annotations

import pytest

from stream_vlm_ros.requests.question import (
    LONGEST_QUESTION,
    MOST_WAITING,
    Question,
    begin_questions,
    checked_words,
    question_queue,
)
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue


def asked(*questions: tuple[str, str]) -> RequestQueue[Question]:
    """A queue with a question for each text and camera."""
    queue = question_queue()
    for stamp_ns, (text, camera) in enumerate(questions, start=1):
        queue.put(Question(text=text, stamp_ns=stamp_ns, camera=camera, on_failure=print))
    return queue


def begun(queue: RequestQueue[Question], *cameras: str) -> list[tuple[str, str]]:
    return [(query.text, query.camera) for query in begin_questions(queue, cameras)]


def test_a_question_without_a_camera_goes_to_the_first_one_that_has_a_frame() -> None:
    queue = asked(("what is there?", ""))
    assert begun(queue) == []
    assert begun(queue, "rear", "front") == [("what is there?", "rear")]
    assert begun(queue, "rear", "front") == []


def test_a_query_keeps_what_the_question_says() -> None:
    question = Question(text="what is there?", stamp_ns=7, on_failure=print)
    queue = question_queue()
    queue.put(question)
    (query,) = begin_questions(queue, ["front"])
    assert (query.query_id, query.text, query.stamp_ns, query.past, query.is_watch) == (
        question.request_id,
        "what is there?",
        7,
        question.past,
        False,
    )


def test_a_camera_answers_one_question_a_tick_and_the_oldest_first() -> None:
    queue = asked(("first", ""), ("second", "front"))
    assert begun(queue, "front") == [("first", "front")]
    assert begun(queue, "front") == [("second", "front")]


def test_every_camera_with_a_frame_answers_a_question_in_the_same_tick() -> None:
    queue = asked(("one", ""), ("two", ""), ("three", ""))
    assert begun(queue, "front", "rear") == [("one", "front"), ("two", "rear")]


def test_a_question_for_another_camera_holds_nobody_up() -> None:
    queue = asked(("for the rear", "rear"), ("for anyone", ""))
    assert begun(queue, "front") == [("for anyone", "front")]
    assert begun(queue, "rear") == [("for the rear", "rear")]


def test_questions_do_not_pile_up_without_end() -> None:
    queue = asked(*[("again?", "")] * MOST_WAITING)
    with pytest.raises(RequestError, match=f"{MOST_WAITING} questions wait for a picture already"):
        queue.put(Question(text="one more", stamp_ns=1, on_failure=print))


@pytest.mark.parametrize(
    ("text", "camera", "says"),
    [
        ("", "", "the question is empty"),
        (" \n\t", "", "the question is empty"),
        ("x" * (LONGEST_QUESTION + 1), "", f"has {LONGEST_QUESTION + 1} characters"),
        ("why?", "back", "camera 'back' does not exist; the cameras are front, rear"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(text: str, camera: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        checked_words(text, camera, ["front", "rear"], "the question")


def test_the_words_of_a_question_have_no_white_space_around_them() -> None:
    assert checked_words("  why now?\n", "rear", ["front", "rear"], "the question") == "why now?"
