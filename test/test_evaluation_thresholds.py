"""What a watcher would have scored with a higher threshold for its words."""

import pytest

from stream_vlm.evaluation.online import Look, TimedQuestion, Watched
from stream_vlm.evaluation.records import TimedEvent, TimedState, TimedUtterance
from stream_vlm.evaluation.report import world_text
from stream_vlm.evaluation.scores import Truth
from stream_vlm.evaluation.thresholds import THRESHOLDS, score_by_words_threshold, without_unsure
from stream_vlm.evaluation.worlds import examine
from stream_vlm.stream import Frame

TRUTH = Truth("room", 20.0, 0.5, [TimedEvent("door opens", 3.0, 4.0)], [TimedState(t / 2, "silence") for t in range(41)], ())
SAID = [("door opens", 4.0, 0.9), ("door opens", 12.0, 0.45), ("lamp turns on", 15.0, 0.65)]
WATCHED = Watched(
    utterances=[TimedUtterance(t, text, confidence) for text, t, confidence in SAID],
    events=[TimedEvent(text, t - 0.75, t - 0.25) for text, t, _ in SAID],
)


def test_what_was_less_sure_goes_with_the_event_that_it_closed() -> None:
    kept = without_unsure(WATCHED, 0.5, TRUTH.tick_s)
    assert [said.t for said in kept.utterances] == [4.0, 15.0]
    assert [event.t_end for event in kept.events] == [3.75, 14.75]
    assert len(WATCHED.utterances) == len(WATCHED.events) == 3


def test_each_threshold_has_its_event_f1_and_false_alarms() -> None:
    rows = {row["threshold"]: row for row in score_by_words_threshold([(TRUTH, WATCHED)])}
    assert [rows[threshold]["false"] for threshold in (0.0, 0.5, 0.7)] == [2, 1, 0]
    assert [rows[threshold]["f1"] for threshold in (0.0, 0.7, 0.9)] == [pytest.approx(0.5), 1.0, 1.0]
    alarms = [rows[threshold]["false_alarms_per_silent_hour"] for threshold in (0.0, 0.5, 0.7)]
    assert alarms[0] == pytest.approx(2 * alarms[1]) and alarms[1] > 0 and alarms[2] == 0


def test_a_watcher_that_is_always_equally_sure_has_no_such_table() -> None:
    sure = Watched(utterances=[TimedUtterance(4.0, "door opens")], events=[TimedEvent("door opens", 3.0, 4.0)])
    assert score_by_words_threshold([(TRUTH, sure)]) == []


class Wavering:
    """Says something now and then, the surer the later."""

    name = "wavering"

    def begin(self, session: str) -> None: ...

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        if index % 20:
            return Look("silence")
        return Look("response", [TimedUtterance(t, "door opens", index / 100)], [TimedEvent("door opens", t, t, index / 100)])


def test_the_report_has_the_table_of_whoever_is_not_always_equally_sure() -> None:
    outcome = examine("heldout", 0.5, 2.0, [Wavering()])
    said = [name for name, scores in outcome.scores.items() if "by_words_threshold" in scores]
    assert said == ["wavering"]
    text = world_text(outcome.as_dict() | {"model": "wavering"})
    (table,) = [part for part in text.split("## ") if part.startswith("If it said only what it is sure of: wavering")]
    assert [line.split()[1] for line in table.splitlines() if line.startswith("| 0.")] == [f"{threshold:.2f}" for threshold in (0.0, *THRESHOLDS)]
