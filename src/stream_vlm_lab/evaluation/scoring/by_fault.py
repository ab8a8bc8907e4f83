"""What a camera's faults cost a watcher: events found and false alarms while each kind of fault
holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stream_vlm_lab.evaluation.online.online_pass import Watched
from stream_vlm_lab.evaluation.scoring.matching import DEFAULT_TOLERANCE_S, score_events
from stream_vlm_lab.evaluation.scoring.scores import Truth
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault

WHOLE = "none"
"""The name under which stands what no fault touched."""


def score_by_fault(
    streams: Sequence[tuple[Truth, Sequence[Fault], Watched]],
) -> dict[str, dict[str, Any]]:
    """For each kind of fault, and for what none touched: events, how many of them were found (what
    and when, 1.5 s), and false alarms.

    A fault touches an event that it overlaps, the end included, and what is said until 1.5 s after
    it. An event may be touched by several.
    """
    return {kind: _under(kind, streams) for kind in (WHOLE, *FAULTS)}


def _under(kind: str, streams: Sequence[tuple[Truth, Sequence[Fault], Watched]]) -> dict[str, Any]:
    events = found = alarms = 0
    silent_s = 0.0
    for truth, faults, watched in streams:
        mine = [fault for fault in faults if kind in (fault.kind, WHOLE)]

        def touched(start: float, end: float, mine: Sequence[Fault] = mine) -> bool:
            under = any(fault.t_start <= end and start <= fault.t_end for fault in mine)
            return under != (kind == WHOLE)

        hits = {right for _, right in score_events(watched.events, truth.events).labelled.pairs}
        for index, event in enumerate(truth.events):
            if touched(event.t_start, event.t_end):
                events += 1
                found += index in hits
        busy = [(event.t_start, event.t_end + DEFAULT_TOLERANCE_S) for event in truth.events]

        def counts(t: float, busy: Sequence[tuple[float, float]] = busy) -> bool:
            return touched(t - DEFAULT_TOLERANCE_S, t) and not any(
                start <= t <= end for start, end in busy
            )

        silent_s += truth.tick_s * sum(counts(state.t) for state in truth.states)
        alarms += sum(counts(said.t) for said in watched.utterances)
    return {
        "events": events,
        "found": found,
        "recall": found / events if events else None,
        "silent_hours": silent_s / 3600,
        "false_alarms": alarms,
    }
