"""Plans "tell me when" watches on simulated streams and scores whether a model reports in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_vlm.run_records import TimedUtterance
from stream_vlm_lab.evaluation.online.online_pass import StreamResult, TimedQuestion
from stream_vlm_lab.evaluation.scoring.matching import event_key
from stream_vlm_lab.evaluation.scoring.scores import EARLY_S, LATE_S
from stream_vlm_lab.simulation.labels.event_pattern import pattern_of
from stream_vlm_lab.simulation.labels.tasks import NO_EVENT_SHARE, pattern_without_event
from stream_vlm_lab.simulation.labels.visible_events import VisibleEvents

WATCH_EXTRA_S = 10.0
"""How long a watch stays active after its event, in seconds; a report in this time is late."""
NO_EVENT_WATCH_S = 30.0
"""Length of a watch for an event that does not come, in seconds."""
PAUSE_S = 2.0
"""Time from the end of one watch to the next, in seconds."""
OUTCOMES = ("correct", "late", "missed", "false alarm", "correctly silent")


@dataclass(frozen=True)
class Watch:
    """A watch that is active from `question.t` to `question.until`.

    Times are in seconds of stream time.

    Attributes:
        question: what to watch for.
        due: when a picture shows the event; None if it does not come.
    """

    question: TimedQuestion
    due: float | None


def plan_watches(visible: VisibleEvents, ticks: Sequence[float]) -> list[Watch]:
    """Plan watches for a stream, one after the other; never two at a time.

    Each begins at a tick without an event in progress. It waits for one of the next few events, so
    that other events can come first, or sometimes for an event that does not come.

    Args:
        visible: the events of the stream.
        ticks: times of its pictures in seconds.
    """
    rng = np.random.default_rng([visible.script.seed, 0x3A7C4])
    watches: list[Watch] = []
    now = PAUSE_S
    while True:
        start = next(
            (
                t_s
                for t_s in ticks
                if t_s >= now
                and visible.script.at(t_s)[1] is None
                and visible.visible_from(t_s) == t_s
            ),
            None,
        )
        if start is None:
            return watches
        coming = visible.after(start)
        never_comes = not coming or rng.random() < NO_EVENT_SHARE
        end = visible.script.duration_s
        if never_comes:
            until, due, label = start + NO_EVENT_WATCH_S, None, ""
            pattern = pattern_without_event([seen for seen in coming if seen.t_start <= until], rng)
        else:
            chosen = coming[int(rng.integers(min(3, len(coming))))]
            pattern = pattern_of(chosen.event, any_colour=bool(rng.random() < 0.5))
            first = visible.first_match(pattern, start)
            assert first is not None
            due, label, until = first.t_end, first.event.label, first.t_end + WATCH_EXTRA_S
        if until <= end or not never_comes:
            question = TimedQuestion(
                start,
                f"Tell me when {pattern.words}.",
                label,
                "tell me when",
                is_watch=True,
                until=min(until, end),
            )
            watches.append(Watch(question, due))
        now = until + PAUSE_S


def outcome_of(watch: Watch, said: Sequence[TimedUtterance]) -> str:
    """Return the outcome of a watch, one of `OUTCOMES`.

    The first words while the watch is active decide. "correct": from 0.5 s before the event was due
    until 3 s after; "late": after that; "false alarm": before that, or at any time if nothing was
    due; "missed" and "correctly silent": no words.
    """
    first = next((words.t for words in said if _while_active(watch, words)), None)
    if watch.due is None:
        return "correctly silent" if first is None else "false alarm"
    if first is None:
        return "missed"
    if first < watch.due - EARLY_S:
        return "false alarm"
    return "correct" if first <= watch.due + LATE_S else "late"


def _while_active(watch: Watch, words: TimedUtterance) -> bool:
    until = watch.question.until
    return watch.question.t <= words.t and (until is None or words.t <= until)


def score_watches(streams: Sequence[tuple[Sequence[Watch], StreamResult]]) -> dict[str, Any]:
    """Count the outcomes of all watches of all streams.

    Returns:
        If the model does not support watches: `watches`, `refused` and `why`. Otherwise the number
        of each outcome and: `accuracy`, the share of watches that ended correct or correctly
        silent; `right_words`, how many correct ones also named the right action and kind of thing;
        `needless_words`, how many utterances were not the first correct one of a watch.
    """
    refused = [why for _, result in streams for _, why in result.refused]
    count = sum(len(watches) for watches, _ in streams)
    if refused:
        return {"watches": count, "refused": len(refused), "why": refused[0]}
    outcomes: Counter[str] = Counter()
    right_words = needless = 0
    for watches, result in streams:
        for watch in watches:
            outcome = outcome_of(watch, result.utterances)
            outcomes[outcome] += 1
            said = [words for words in result.utterances if _while_active(watch, words)]
            needless += len(said) - (outcome == "correct")
            right_words += outcome == "correct" and event_key(said[0].text) == event_key(
                watch.question.answer
            )
    ended_well = outcomes["correct"] + outcomes["correctly silent"]
    return {
        "watches": count,
        **{name.replace(" ", "_"): outcomes[name] for name in OUTCOMES},
        "accuracy": ended_well / count if count else None,
        "right_words": right_words,
        "needless_words": needless,
    }


def watch_result_of_labels(watches: Sequence[Watch], ticks: Sequence[float]) -> StreamResult:
    """The result of a model that sees everything: it reports each watched event at its first tick.

    Args:
        watches: the watches of a stream.
        ticks: times of its pictures in seconds.
    """
    result = StreamResult()
    for watch in watches:
        tick = next((t_s for t_s in ticks if watch.due is not None and t_s >= watch.due), None)
        if tick is not None:
            result.utterances.append(TimedUtterance(tick, watch.question.answer))
    return result
