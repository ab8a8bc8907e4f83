"""A model gets each frame once and each question in time, and the scores do not reward noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stream_vlm.cli import main
from stream_vlm.config.model_settings import EventSettings
from stream_vlm.run_records import TimedEvent, TimedState, TimedUtterance
from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.evaluation.online.baselines import AlwaysSilent, AlwaysSpeaking, MotionThreshold
from stream_vlm_lab.evaluation.online.online_pass import (
    ExaminedModel,
    FrameResult,
    StreamResult,
    TimedQuestion,
    run_stream,
)
from stream_vlm_lab.evaluation.scoring.matching import iou, score_events, span_ious
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth, score_streams
from stream_vlm_lab.evaluation.scoring.speech_timing import (
    SpeakingScore,
    Speech,
    Window,
    score_speaking,
)
from stream_vlm_lab.evaluation.simulated.exam import examine, question_kind, truth_of
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING, result_of_labels
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.simulation.world import World


def frames(count: int, grey: Sequence[int] = (), tick_s: float = 0.5) -> Iterator[Frame]:
    for index in range(count):
        level = grey[index] if grey else 100
        yield Frame(
            "camera",
            7 * NANOSECONDS + round(index * tick_s * NANOSECONDS),
            "",
            np.full((48, 64, 3), level, np.uint8),
        )


@dataclass
class RecordingModel:
    """Records the frames and questions that it gets."""

    name: str = "recorder"
    shown: list[tuple[float, str]] = field(default_factory=list)

    def start_stream(self, session: str) -> None:
        self.shown.append((-1.0, session))

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        self.shown.append((t, question.text if question else ""))
        return FrameResult(
            "silence", answer="noted" if question else "", fault="too dark" if index == 2 else ""
        )


def test_a_question_is_asked_once_with_the_first_frame_at_or_after_its_time() -> None:
    recorder = RecordingModel()
    asked = [TimedQuestion(1.2, "now?"), TimedQuestion(0.0, "first?"), TimedQuestion(9.0, "never?")]
    result = run_stream(recorder, frames(5), asked, "s")
    assert recorder.shown == [
        (-1.0, "s"),
        (0.0, "first?"),
        (0.5, ""),
        (1.0, ""),
        (1.5, "now?"),
        (2.0, ""),
    ]
    assert [(answer.t, answer.text) for answer in result.answers] == [
        (0.0, "noted"),
        (1.5, "noted"),
    ]
    assert [question.text for question in result.unanswered] == ["never?"]
    assert result.faults == {"too dark": 1}


def test_the_second_of_two_questions_at_the_same_time_waits_for_the_next_frame() -> None:
    result = run_stream(
        RecordingModel(), frames(3), [TimedQuestion(0.0, "a"), TimedQuestion(0.0, "b")], "s"
    )
    assert [(answer.question.text, answer.t) for answer in result.answers] == [
        ("a", 0.0),
        ("b", 0.5),
    ]


def test_the_motion_threshold_reports_when_the_picture_stops_changing() -> None:
    result = run_stream(
        MotionThreshold(), frames(8, (100, 100, 130, 160, 160, 160, 90, 90)), (), "s"
    )
    assert [(event.t_start, event.t_end) for event in result.events] == [(1.0, 2.0), (3.0, 3.5)]


def right(said: str, due: str) -> bool:
    return said == due


def test_one_right_answer_in_its_window_has_the_full_score() -> None:
    score = score_speaking([Speech(5.0, "a")], [Window(4.0, 6.0, "a")], right)
    assert (score.published, score.equal_weights, score.needless) == (1.0, 1.0, 0)


def test_ten_false_alarms_cost_as_much_as_one_miss_as_published_and_as_ten_with_equal_weights() -> (
    None
):
    score = score_speaking(
        [Speech(5.0, "a"), *(Speech(20.0 + t, "a") for t in range(10))],
        [Window(4.0, 6.0, "a")],
        right,
    )
    assert score.published == pytest.approx(2 / (2 + 0.2 * 10))
    assert score.equal_weights == pytest.approx(1 / 11)


def test_wrong_and_repeated_words_inside_a_window_are_needless_but_free_as_published() -> None:
    said = [Speech(4.0, "x"), Speech(4.5, "a"), Speech(5.0, "a")]
    score = score_speaking(said, [Window(4.0, 6.0, "a")], right)
    assert (score.tp, score.fn, score.outside, score.needless) == (
        1,
        0,
        0,
        2,
    )
    assert score.published == 1.0


def test_an_utterance_counts_for_one_window_only() -> None:
    windows = [Window(4.0, 8.0, "a"), Window(4.0, 6.0, "a")]
    assert score_speaking([Speech(5.0, "a")], windows, right).tp == 1
    assert score_speaking([Speech(5.0, "a"), Speech(7.0, "a")], windows, right).tp == 2


def test_silence_has_the_full_score_if_nothing_is_due() -> None:
    assert SpeakingScore().published == SpeakingScore().equal_weights == 1.0


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [((0, 2), (1, 3), 1 / 3), ((0, 1), (1, 2), 0), ((0, 0), (0, 0), 0), ((1, 2), (1, 2), 1)],
)
def test_iou_of_spans(
    first: tuple[float, float], second: tuple[float, float], shared: float
) -> None:
    assert iou(first, second) == pytest.approx(shared)


def test_a_missed_event_has_iou_0_and_an_event_without_duration_lasts_one_tick() -> None:
    truth = [
        TimedEvent("door opens", 1.0, 3.0),
        TimedEvent("lamp turns on", 9.0, 9.0),
        TimedEvent("door closes", 20.0, 21.0),
    ]
    claimed = [TimedEvent("door opens", 2.0, 3.0), TimedEvent("lamp turns on", 8.5, 9.0)]
    matching = score_events(claimed, truth, 3.0).labelled
    assert span_ious(claimed, truth, matching, tick_s=0.5) == pytest.approx([0.5, 1.0, 0.0])


def truth(*events: TimedEvent, questions: Sequence[TimedQuestion] = ()) -> GroundTruth:
    return GroundTruth(
        "t", 20.0, 0.5, events, [TimedState(index / 2, "silence") for index in range(40)], questions
    )


def silent(count: int = 40) -> list[TimedState]:
    return [TimedState(index / 2, "silence") for index in range(count)]


def test_words_long_after_an_event_are_a_false_alarm_but_words_during_it_are_not() -> None:
    result = StreamResult(
        states=silent(),
        utterances=[TimedUtterance(5.0, "door opens"), TimedUtterance(15.0, "door opens")],
    )
    scores = score_streams([(truth(TimedEvent("door opens", 4.0, 5.0)), result)])
    silent_ticks = sum(not 4.0 <= index / 2 <= 6.5 for index in range(40))
    assert scores["false_alarms_per_silent_hour"] == pytest.approx(1 / (silent_ticks * 0.5 / 3600))


def test_a_question_after_the_last_frame_counts_as_wrong() -> None:
    asked = [
        TimedQuestion(1.0, "is the door open ?", "yes", "door"),
        TimedQuestion(99.0, "is the door open ?", "yes", "door"),
    ]
    result = run_stream(AlwaysSpeaking(), frames(40), asked, "s")
    scores = score_streams([(truth(questions=asked), result)])
    assert scores["question_accuracy_by_kind"] == {"door": {"right": 1, "asked": 2}}


def test_kinds_of_questions_do_not_name_the_thing() -> None:
    assert (
        question_kind("is there a cup ?")
        == question_kind("is there a person ?")
        == "is there a THING ?"
    )
    assert question_kind("is the door open ?") == "is the door open ?"


def test_questions_are_asked_at_silent_ticks_and_have_answers() -> None:
    room = World(HELD_OUT_SEED, 60.0)
    labels = truth_of(room, 2.0, "room")
    states = {state.t: state.state for state in labels.states}
    assert labels.questions
    assert all(states[question.t] == "silence" for question in labels.questions)
    assert all(question.answer for question in labels.questions)


@pytest.mark.parametrize("world", ["heldout", "objects", "backgrounds"])
def test_an_examination_scores_the_model_the_baselines_and_the_ground_truth(world: str) -> None:
    models: list[ExaminedModel] = [RecordingModel("ours")]
    outcome = examine(world, 0.5, 2.0, models)
    assert list(outcome.scores) == [
        "ours",
        "always silent",
        "always speaking",
        "motion threshold",
        CEILING,
    ]
    assert outcome.seeds == (HELD_OUT_SEED, HELD_OUT_SEED)
    assert outcome.events > 0
    silent_one, speaking = outcome.scores["always silent"], outcome.scores["always speaking"]
    assert silent_one["event_f1"]["3.0 s"]["something_happened"]["f1"] == 0
    assert silent_one["false_alarms_per_silent_hour"] == 0
    assert speaking["false_alarms_per_silent_hour"] > 3600
    assert (
        speaking["speaking"]["events"]["sw_f1_equal_weights"]
        <= speaking["speaking"]["events"]["sw_f1_published"]
    )
    assert (
        sum(outcome.scores["ours"]["state_confusion"].values())
        + outcome.scores["ours"]["questions"]
        == 61
    )


@pytest.mark.parametrize("boundary", ["frames", "midpoint"])
def test_the_ground_truth_scores_perfectly_except_for_times_between_ticks(
    boundary: Literal["frames", "midpoint"],
) -> None:
    labels = truth_of(World(HELD_OUT_SEED, 60.0), 2.0, "room")
    scores = score_streams([(labels, result_of_labels(labels, EventSettings(boundary=boundary)))])
    assert scores["event_f1"]["0.5 s"]["what_and_when"]["f1"] == 1.0
    assert scores["question_accuracy"] == 1.0
    assert scores["false_alarms_per_silent_hour"] == 0
    assert 0.0 < scores["event_f1"]["0.5 s"]["timing_error_s"] < 0.5
    assert 0.5 < scores["grounding_miou"]["what_and_when"] < 1.0


def test_the_always_silent_baseline_is_silent() -> None:
    assert run_stream(AlwaysSilent(), frames(4), (), "s").utterances == []


def test_the_command_scores_the_model_and_every_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["eval", "--world", "heldout", "--minutes", "0.2", "--out", str(tmp_path), "--quiet"])
        == 0
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["scores"]) == [
        "ours",
        "last 4 frames",
        "always silent",
        "always speaking",
        "motion threshold",
        CEILING,
    ]
    assert report["first_seed"] == HELD_OUT_SEED
    assert report["model"].startswith("stream-vlm-small")
    for scores in report["scores"].values():
        assert set(scores["event_f1"]) == {"0.5 s", "1.0 s", "1.5 s", "3.0 s"}
        assert (
            scores["speaking"]["together"]["sw_f1_equal_weights"]
            <= scores["speaking"]["together"]["sw_f1_published"]
        )
    assert (tmp_path / "report.md").read_text() in capsys.readouterr().out
    assert all(
        (tmp_path / name).stat().st_size > 10_000
        for name in ("report.png", "confusion.png", "first-stream.png")
    )
