"""What a watcher would have scored, had it kept to itself what it was less sure of: the table by which `decision.words_threshold` is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stream_vlm.evaluation.matching import score_events
from stream_vlm.evaluation.online import Watched
from stream_vlm.evaluation.scores import Watching, false_alarms, pooled_f1

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def score_by_words_threshold(streams: Watching) -> list[dict[str, Any]]:
    """Event F1 (what and when, 1.5 s) and false alarms a silent hour by threshold, as it was first; empty where all words were equally sure.

    What was already held back at a lower threshold cannot come back, so the watcher is best asked to say all.
    """
    if len({said.confidence for _, watched in streams for said in watched.utterances}) < 2:
        return []
    rows = []
    for threshold in (0.0, *THRESHOLDS):
        kept = [(truth, without_unsure(watched, threshold, truth.tick_s)) for truth, watched in streams]
        score = pooled_f1(score_events(watched.events, truth.events).labelled for truth, watched in kept)
        rows.append({"threshold": threshold, **score, "false_alarms_per_silent_hour": false_alarms(kept)["false_alarms_per_silent_hour"]})
    return rows


def without_unsure(watched: Watched, threshold: float, tick_s: float) -> Watched:
    """`watched` without the unasked words whose confidence is below `threshold`, and without the events that they closed."""
    unsure = [said for said in watched.utterances if said.confidence < threshold]

    def is_told_by_them(label: str, t_end: float) -> bool:
        return any(said.text == label and said.t - tick_s <= t_end <= said.t for said in unsure)

    return replace(
        watched,
        utterances=[said for said in watched.utterances if said.confidence >= threshold],
        events=[event for event in watched.events if not is_told_by_them(event.label, event.t_end)],
    )
