"""Spans in time: how much of what happened a claimed span covers."""

from __future__ import annotations

from collections.abc import Sequence

from stream_vlm.run_records import TimedEvent
from stream_vlm_lab.evaluation.scoring.matching import Matching

Span = tuple[float, float]
"""Start and end in seconds."""


def iou(first: Span, second: Span) -> float:
    """Intersection over union of two spans; spans without length, or that do not touch, share
    nothing.
    """
    overlap = min(first[1], second[1]) - max(first[0], second[0])
    union = max(first[1], second[1]) - min(first[0], second[0])
    return max(0.0, overlap) / union if union > 0 else 0.0


def widened(span: Span, shortest_s: float) -> Span:
    """`span`, begun earlier where it is shorter than `shortest_s`: an instant lasts at least a
    tick, or nothing could ever overlap it.
    """
    return (min(span[0], span[1] - shortest_s), span[1])


def span_ious(
    claimed: Sequence[TimedEvent], truth: Sequence[TimedEvent], matching: Matching, tick_s: float
) -> list[float]:
    """For each true event the IoU with the claim that was matched to it, 0 where none was; no span
    is shorter than a tick (s).
    """
    ious = [0.0] * len(truth)
    for left, right in matching.pairs:
        ours, theirs = claimed[left], truth[right]
        ious[right] = iou(
            widened((ours.t_start, ours.t_end), tick_s),
            widened((theirs.t_start, theirs.t_end), tick_s),
        )
    return ious
