"""Reports in free words are sorted into first reports, repeats and false reports."""

from __future__ import annotations

import pytest

from stream_vlm.run_records import TimedEvent, TimedState, TimedUtterance
from stream_vlm_lab.evaluation.online.online_pass import StreamResult
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth
from stream_vlm_lab.evaluation.scripted_vlm.protocol_scores import score_protocol, sort_reports

DOOR, AGAIN = TimedEvent("door opens", 8.0, 10.0), TimedEvent("door opens", 29.0, 30.0)
OPENED = "The door opens."


def test_the_first_report_of_an_event_is_followed_by_repeats() -> None:
    said = [TimedUtterance(t, OPENED) for t in (10.0, 11.0, 12.0, 30.5)]
    reports = sort_reports(said, [DOOR, AGAIN])
    assert (reports.first, reports.repeats, reports.false) == ((0, 1), 2, ())


@pytest.mark.parametrize(
    ("t", "text"),
    [(9.0, OPENED), (21.0, OPENED), (10.0, "The door closes."), (10.0, "I'm sorry.")],
)
def test_a_report_too_early_or_late_or_with_other_words_is_false(t: float, text: str) -> None:
    assert sort_reports([TimedUtterance(t, text)], [DOOR]).false == (TimedUtterance(t, text),)


def test_words_around_a_report_cost_nothing() -> None:
    words = f"Sure! **{OPENED}** Anything else?"
    result = StreamResult(
        states=[TimedState(10.0, "response")],
        utterances=[TimedUtterance(10.0, words), TimedUtterance(11.0, words)],
        events=[TimedEvent(words, 8.0, 10.0)],
    )
    truth = GroundTruth("room", 60.0, 1.0, [DOOR], [TimedState(10.0, "response")], [])
    figures = score_protocol([(truth, result)])
    assert figures["event_f1"]["1.5 s"]["what_and_when"]["f1"] == 1.0
    assert figures["reports_for_one_event"] == 2.0
    assert figures["false_reports_per_hour"] == 0.0
