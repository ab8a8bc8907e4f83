"""Scores of reports in free words: which event each is about, how often, and how many are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm_lab.evaluation.online.online_pass import StreamResult
from stream_vlm_lab.evaluation.scoring.matching import event_key
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth, score_streams
from stream_vlm_lab.evaluation.scripted_vlm.meanings import caption_in
from stream_vlm_lab.evaluation.scripted_vlm.sentences import FAREWELL, GREETING, REFUSAL

EARLY_S, LATE_S = 0.5, 10.0
"""A report is about an event if it comes from 0.5 s before its end until 10 s after it."""


@dataclass(frozen=True)
class Reports:
    """What the reports of one stream are about.

    Attributes:
        first: index of the event that each first report is about.
        repeats: number of reports about an event that was reported before.
        false: the other reports.
    """

    first: tuple[int, ...]
    repeats: int
    false: tuple[TimedUtterance, ...]


def sort_reports(said: Sequence[TimedUtterance], truth: Sequence[TimedEvent]) -> Reports:
    """Sort `said` into first reports, repeats and false reports.

    A report belongs to the newest event that it names, and names an event if action and kind of
    thing are the same.
    """
    first: list[int] = []
    repeats, false = 0, []
    for report in said:
        meaning = event_key(caption_in(report.text))
        about = [
            index
            for index, event in enumerate(truth)
            if event_key(event.label) == meaning
            and event.t_end - EARLY_S <= report.t <= event.t_end + LATE_S
        ]
        if not about:
            false.append(report)
        elif about[-1] in first:
            repeats += 1
        else:
            first.append(about[-1])
    return Reports(tuple(first), repeats, tuple(false))


def has_other_words(text: str) -> bool:
    """Whether a report has courtesy, markdown, a label or a refusal in it."""
    return any(words in text for words in (GREETING.strip(), FAREWELL.strip(), "**", REFUSAL)) or (
        text.split(" ")[0].endswith(":")
    )


def in_captions(result: StreamResult) -> StreamResult:
    """`result` with the caption that its free words contain; other words stay as they are."""
    return replace(
        result,
        utterances=[
            replace(said, text=caption_in(said.text) or said.text) for said in result.utterances
        ],
        events=[
            replace(event, label=caption_in(event.label) or event.label) for event in result.events
        ],
    )


def score_protocol(streams: Sequence[tuple[GroundTruth, StreamResult]]) -> dict[str, Any]:
    """The figures of one protocol on all `streams`, as plain values for JSON."""
    sorted_streams = [sort_reports(result.utterances, truth.events) for truth, result in streams]
    hours = sum(truth.duration_s for truth, _ in streams) / 3600
    found = sum(len(reports.first) for reports in sorted_streams)
    repeats = sum(reports.repeats for reports in sorted_streams)
    false = sum(len(reports.false) for reports in sorted_streams)
    scores = score_streams([(truth, in_captions(result)) for truth, result in streams])
    return {
        "event_f1": scores["event_f1"],
        "reports_sw_f1": scores["speaking"]["events"],
        "grounding_miou": scores["grounding_miou"],
        "events": sum(len(truth.events) for truth, _ in streams),
        "reports": found + repeats + false,
        "events_reported": found,
        "reports_for_one_event": (found + repeats) / found if found else None,
        "false_reports": false,
        "false_reports_per_hour": false / hours,
        "reports_with_other_words": sum(
            has_other_words(said.text) for _, result in streams for said in result.utterances
        ),
        "minutes": hours * 60,
        "faults": sum(sum(result.faults.values()) for _, result in streams),
    }
