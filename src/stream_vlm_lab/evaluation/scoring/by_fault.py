"""Scores by camera fault: events found and false alarms while each kind of fault is present."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stream_vlm_lab.evaluation.online.online_pass import StreamResult
from stream_vlm_lab.evaluation.scoring.matching import DEFAULT_TOLERANCE_S, score_events
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault

NO_FAULT = "none"
"""Key of the scores without a camera fault."""


def score_by_fault(
    streams: Sequence[tuple[GroundTruth, Sequence[Fault], StreamResult]],
) -> dict[str, dict[str, Any]]:
    """Score events and false alarms for each kind of fault, and for times without a fault.

    A fault affects an event if the two overlap, and an utterance if it is said during the fault or
    up to 1.5 s after it. Several faults can affect one event. An event is found if its label and
    time are right (tolerance 1.5 s).
    """
    return {kind: _under(kind, streams) for kind in (NO_FAULT, *FAULTS)}


def _under(
    kind: str, streams: Sequence[tuple[GroundTruth, Sequence[Fault], StreamResult]]
) -> dict[str, Any]:
    events = found = alarms = 0
    silent_s = 0.0
    for truth, faults, result in streams:
        mine = [fault for fault in faults if kind in (fault.kind, NO_FAULT)]

        def affected(start: float, end: float, mine: Sequence[Fault] = mine) -> bool:
            under = any(fault.t_start <= end and start <= fault.t_end for fault in mine)
            return under != (kind == NO_FAULT)

        hits = {right for _, right in score_events(result.events, truth.events).labelled.pairs}
        for index, event in enumerate(truth.events):
            if affected(event.t_start, event.t_end):
                events += 1
                found += index in hits
        busy = [(event.t_start, event.t_end + DEFAULT_TOLERANCE_S) for event in truth.events]

        def counts(t: float, busy: Sequence[tuple[float, float]] = busy) -> bool:
            return affected(t - DEFAULT_TOLERANCE_S, t) and not any(
                start <= t <= end for start, end in busy
            )

        silent_s += truth.tick_s * sum(counts(state.t) for state in truth.states)
        alarms += sum(counts(said.t) for said in result.utterances)
    return {
        "events": events,
        "found": found,
        "recall": found / events if events else None,
        "silent_hours": silent_s / 3600,
        "false_alarms": alarms,
    }
