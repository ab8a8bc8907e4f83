"""Temporal grounding: IoU (intersection over union) of a claimed span and a true span."""

from __future__ import annotations

from collections.abc import Sequence

from stream_vlm.run_records import TimedEvent
from stream_vlm_lab.evaluation.scoring.matching import Matching

Span = tuple[float, float]
"""Start and end in seconds."""


def iou(first: Span, second: Span) -> float:
    """Intersection over union of two spans, in 0..1; 0 if they have no length or do not overlap."""
    overlap = min(first[1], second[1]) - max(first[0], second[0])
    union = max(first[1], second[1]) - min(first[0], second[0])
    return max(0.0, overlap) / union if union > 0 else 0.0


def with_min_length(span: Span, shortest_s: float) -> Span:
    """Extend `span` to `shortest_s` seconds by moving its start, if it is shorter.

    An event without duration lasts at least one tick; otherwise nothing could overlap it.
    """
    return (min(span[0], span[1] - shortest_s), span[1])


def span_ious(
    claimed: Sequence[TimedEvent], truth: Sequence[TimedEvent], matching: Matching, tick_s: float
) -> list[float]:
    """IoU of every true event with the claim that was matched to it; 0 if it has none.

    Args:
        claimed: the reported events.
        truth: the true events.
        matching: which claim belongs to which true event.
        tick_s: time between ticks in seconds; no span counts as shorter.
    """
    ious = [0.0] * len(truth)
    for left, right in matching.pairs:
        ours, theirs = claimed[left], truth[right]
        ious[right] = iou(
            with_min_length((ours.t_start, ours.t_end), tick_s),
            with_min_length((theirs.t_start, theirs.t_end), tick_s),
        )
    return ious
