"""The parts of the ROS edge that need no middleware: sessions, poses, questions, faults."""

from __future__ import annotations

import pytest

from stream_vlm.types import NANOSECONDS, Utterance
from stream_vlm_ros.common.conversions import nanoseconds, stamp_message
from stream_vlm_ros.common.health_counters import CameraHealth, FaultLog, StepHealth, percentile
from stream_vlm_ros.requests.question_queue import (
    LONGEST_QUESTION,
    MOST_WAITING,
    AnswerCallbacks,
    QuestionError,
    Questions,
)

SECOND = NANOSECONDS


class Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.asker = AnswerCallbacks(self.heard.append, self.heard.append, self.heard.append)


def test_a_question_without_a_camera_goes_to_the_first_one_that_shows_a_picture() -> None:
    questions = Questions(["front", "rear"])
    questions.put("what is there?", "", 7)
    assert questions.take([]) == ()
    (query,) = questions.take(["rear"])
    assert (query.text, query.camera, query.stamp_ns) == ("what is there?", "rear", 7)
    assert questions.take(["front", "rear"]) == ()


def test_a_camera_answers_one_question_a_tick_and_the_oldest_first() -> None:
    questions = Questions(["front"])
    questions.put("first", "", 1)
    questions.put("second", "front", 2)
    assert [query.text for query in questions.take(["front"])] == ["first"]
    assert [query.text for query in questions.take(["front"])] == ["second"]


def test_a_question_for_another_camera_holds_nobody_up() -> None:
    questions = Questions(["front", "rear"])
    questions.put("for the rear", "rear", 1)
    questions.put("for anyone", "", 2)
    assert [(query.text, query.camera) for query in questions.take(["front"])] == [
        ("for anyone", "front")
    ]


def test_whoever_asked_hears_the_words_and_then_the_answer_once() -> None:
    questions, listener = Questions(["front"]), Listener()
    query_id = questions.put("what?", "", 1, listener.asker)
    answer = Utterance("front", "optical", 5, "a cup", 0.9, query_id=query_id)
    questions.partial(query_id, "a")
    questions.answered(answer)
    questions.answered(answer)
    assert listener.heard == ["a", answer]


def test_a_withdrawn_question_is_not_asked_any_more() -> None:
    questions, listener = Questions(["front"]), Listener()
    questions.withdraw(questions.put("what?", "", 1, listener.asker))
    assert questions.take(["front"]) == ()
    assert listener.heard == []


def test_everybody_hears_when_no_answer_will_come() -> None:
    questions, listener = Questions(["front"]), Listener()
    questions.put("first", "", 1, listener.asker)
    questions.put("second", "", 1, listener.asker)
    questions.close("the node stops")
    assert listener.heard == ["the node stops", "the node stops"]
    assert questions.take(["front"]) == ()


@pytest.mark.parametrize(
    ("text", "camera", "says"),
    [
        ("", "", "the question is empty"),
        (" \n\t", "", "the question is empty"),
        ("why " * LONGEST_QUESTION, "", "characters"),
        ("why?", "back", "camera 'back' does not exist; the cameras are front, rear"),
    ],
)
def test_a_question_that_cannot_be_put_is_refused(text: str, camera: str, says: str) -> None:
    with pytest.raises(QuestionError, match=says):
        Questions(["front", "rear"]).put(text, camera, 1)


def test_questions_do_not_pile_up_without_end() -> None:
    questions = Questions(["front"])
    for number in range(MOST_WAITING):
        questions.put(f"question {number}", "", 1)
    with pytest.raises(QuestionError, match="wait for a picture already"):
        questions.put("one more", "", 1)


def test_a_fault_is_logged_once_and_counted_every_time() -> None:
    log: list[str] = []
    faults = FaultLog(log.append)
    for late_s in (0.5, 12, 7):
        faults.report(f"front: {late_s} s late")
    faults.report("front: no picture")
    assert log == ["front: 0.5 s late", "front: no picture"]
    assert (faults.count, faults.recent(60.0)) == (4, "front: no picture")


def test_a_camera_that_was_never_heard_has_no_rate() -> None:
    health = CameraHealth("/front", print)
    assert (health.ever_heard, health.rate_hz()) == (False, 0.0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 6.0), (95, 10.0), (100, 10.0)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], percent) == value


def test_no_values_have_percentile_zero() -> None:
    assert percentile([], 95) == 0.0


def test_percentiles_can_begin_anew_while_steps_are_counted_on() -> None:
    steps = StepHealth(FaultLog(print))
    steps.took(9.0)
    steps.forget_durations()
    assert (steps.steps, steps.percentile_ms(50)) == (1, 0.0)
    steps.took(0.1)
    assert (steps.steps, steps.percentile_ms(95)) == (2, 100.0)


@pytest.mark.parametrize("stamp_ns", [0, 1, 1_700_000_000_123_456_789, -1])
def test_a_stamp_survives_the_message(stamp_ns: int) -> None:
    assert nanoseconds(stamp_message(stamp_ns)) == stamp_ns


def test_a_loss_is_remembered_only_when_it_is_a_new_one() -> None:
    health = CameraHealth("/front", print)
    health.lost(0)
    assert not health.lost_within(60.0)
    health.lost(3)
    assert health.lost_within(60.0)
    assert health.lost_in_transport == 3
