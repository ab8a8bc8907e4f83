"""All scores of a model on streams with exact labels, pooled over the streams."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_vlm.run_records import TimedEvent, TimedState
from stream_vlm_lab.evaluation.online.online_pass import StreamResult, TimedQuestion
from stream_vlm_lab.evaluation.scoring.matching import (
    DEFAULT_TOLERANCE_S,
    Matching,
    Span,
    event_key,
    score_events,
    span_ious,
)
from stream_vlm_lab.evaluation.scoring.speech_timing import (
    SpeakingScore,
    Speech,
    Window,
    score_speaking,
)

TOLERANCES_S = (0.5, 1.0, 1.5, 3.0)
GROUNDING_TOLERANCE_S = 3.0
"""Tolerance of the matching that is used for grounding, in seconds."""
EARLY_S, LATE_S = 0.5, 3.0
"""Answer window of an event: from 0.5 s before its end to 3 s after.

The window of a question begins when it is asked.
"""


@dataclass(frozen=True)
class GroundTruth:
    """What really happened in one stream; times in seconds of stream time.

    Attributes:
        name: name of the stream.
        duration_s: length of the stream.
        tick_s: time between two ticks.
        events: the true events.
        states: the correct state of every tick.
        questions: the questions with their correct answers.
        quiet: long spans without any event.
    """

    name: str
    duration_s: float
    tick_s: float
    events: Sequence[TimedEvent]
    states: Sequence[TimedState]
    questions: Sequence[TimedQuestion]
    quiet: Sequence[Span] = ()


ScoredStreams = Sequence[tuple[GroundTruth, StreamResult]]
"""The ground truth of every stream with the result of one model."""


def score_streams(streams: ScoredStreams) -> dict[str, Any]:
    """Compute all scores of one model, as plain values for JSON."""
    answers = _answers(streams)
    speaking = _speaking(streams)
    steps = [seconds * 1e3 for _, result in streams for seconds in result.step_s]
    return {
        "event_f1": {f"{tolerance} s": _events(streams, tolerance) for tolerance in TOLERANCES_S},
        **_false_alarms(streams),
        "speaking": {name: score.as_dict() for name, score in speaking.items()},
        "grounding_miou": _grounding(streams),
        "state_confusion": _confusion(streams),
        "questions": sum(map(len, answers.values())),
        "question_accuracy": _mean([right for rights in answers.values() for right in rights]),
        "question_accuracy_by_kind": {
            kind: {"right": sum(rights), "asked": len(rights)}
            for kind, rights in sorted(answers.items())
        },
        "claimed_events": sum(len(result.events) for _, result in streams),
        "step_ms": {"p50": float(np.percentile(steps, 50)), "p95": float(np.percentile(steps, 95))}
        if steps
        else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def pooled_f1(matchings: Iterable[Matching]) -> dict[str, float | int]:
    """F1, precision, recall and counts of all `matchings` together."""
    counts = [(matching.tp, matching.fp, matching.fn) for matching in matchings]
    tp, fp, fn = (sum(count[place] for count in counts) for place in range(3))
    return {
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "found": tp,
        "false": fp,
        "missed": fn,
    }


def _events(streams: ScoredStreams, tolerance_s: float) -> dict[str, Any]:
    scores = [score_events(result.events, truth.events, tolerance_s) for truth, result in streams]
    errors = [
        abs(result.events[left].t_end - truth.events[right].t_end)
        for (truth, result), score in zip(streams, scores, strict=True)
        for left, right in score.labelled.pairs
    ]
    colours = [
        (score.colour_accuracy, score.labelled.tp)
        for score in scores
        if score.colour_accuracy is not None
    ]
    named = sum(count for _, count in colours)
    return {
        "what_and_when": pooled_f1(score.labelled for score in scores),
        "something_happened": pooled_f1(score.class_agnostic for score in scores),
        "timing_error_s": _mean(errors),
        "colour_accuracy": sum(share * count for share, count in colours) / named
        if named
        else None,
    }


def _false_alarms(streams: ScoredStreams) -> dict[str, float | None]:
    """False alarms per hour: utterances without a question while no event was in progress.

    An event counts from its start until 1.5 s after its end. False alarms in long quiet spans are
    also counted separately.
    """
    silent_s, alarms = 0.0, 0
    quiet_s, quiet_alarms = 0.0, 0
    for truth, result in streams:
        busy = [(event.t_start, event.t_end + DEFAULT_TOLERANCE_S) for event in truth.events]

        def is_silent(t: float, busy: list[tuple[float, float]] = busy) -> bool:
            return not any(start <= t <= end for start, end in busy)

        silent_s += truth.tick_s * sum(is_silent(state.t) for state in truth.states)
        alarms += sum(is_silent(said.t) for said in result.utterances)
        for start, end in truth.quiet:
            quiet_s += truth.tick_s * sum(
                start < state.t < end and is_silent(state.t) for state in truth.states
            )
            quiet_alarms += sum(
                start < said.t < end and is_silent(said.t) for said in result.utterances
            )
    return {
        "silent_hours": silent_s / 3600,
        "false_alarms_per_silent_hour": alarms / (silent_s / 3600) if silent_s else None,
        "quiet_hours": quiet_s / 3600,
        "false_alarms_per_quiet_hour": quiet_alarms / (quiet_s / 3600) if quiet_s else None,
    }


def _speaking(streams: ScoredStreams) -> dict[str, SpeakingScore]:
    events = questions = SpeakingScore()
    for truth, result in streams:
        windows = [
            Window(event.t_end - EARLY_S, event.t_end + LATE_S, event.label)
            for event in truth.events
        ]
        events += score_speaking(
            [Speech(said.t, said.text) for said in result.utterances], windows, _says_what_happened
        )
        due = [
            Window(answer.t, answer.t + LATE_S, answer.question.answer) for answer in result.answers
        ]
        questions += score_speaking(
            [Speech(answer.t, answer.text) for answer in result.answers if answer.text],
            due,
            is_right_answer,
        )
    return {"events": events, "questions": questions, "together": events + questions}


def _says_what_happened(said: str, label: str) -> bool:
    return event_key(said) == event_key(label)


def is_right_answer(said: str, answer: str) -> bool:
    """Compare two answers; letter case, spacing and a full stop at the end do not matter.

    Answers of the simulated world are a word or a caption.
    """
    return plain(said) == plain(answer)


def plain(text: str) -> str:
    """Return `text` in lower case, with single spaces and without a full stop at the end."""
    return " ".join(text.lower().split()).rstrip(". ")


def _grounding(streams: ScoredStreams) -> dict[str, float | None]:
    whole: dict[str, list[float]] = {"what_and_when": [], "something_happened": []}
    for truth, result in streams:
        score = score_events(result.events, truth.events, GROUNDING_TOLERANCE_S)
        for name, matching in (
            ("what_and_when", score.labelled),
            ("something_happened", score.class_agnostic),
        ):
            whole[name] += span_ious(result.events, truth.events, matching, truth.tick_s)
    return {name: _mean(ious) for name, ious in whole.items()}


def _confusion(streams: ScoredStreams) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for truth, result in streams:
        for right, said in zip(truth.states, result.states, strict=True):
            if said.t not in result.asked_at:
                counts[f"{right.state} as {said.state}"] += 1
    return dict(sorted(counts.items()))


def _answers(streams: ScoredStreams) -> dict[str, list[bool]]:
    rights: dict[str, list[bool]] = defaultdict(list)
    for _, result in streams:
        for answer in result.answers:
            rights[answer.question.kind].append(
                is_right_answer(answer.text, answer.question.answer)
            )
        for question in result.unanswered:
            rights[question.kind].append(False)
    return rights
