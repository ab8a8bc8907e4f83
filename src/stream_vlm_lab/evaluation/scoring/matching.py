"""Event F1: matches reported events with true events one to one.

A claim (a reported event) matches a true event if both labels mean the same and their ends differ
by at most a tolerance. Of all one-to-one matchings the one with the most matches is used, and of
these the one with the smallest total timing error. The order and the confidence of the claims do
not matter. A second claim for the same event is a false alarm.

Temporal grounding is the IoU (intersection over union) of a claimed span and a true span.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from stream_vlm.run_records import TimedEvent
from stream_vlm_lab.simulation.scene.captions import parse_label

Span = tuple[float, float]
"""Start and end in seconds."""

DEFAULT_TOLERANCE_S = 1.5
"""Tolerance in seconds between the claimed and the true end of an event."""


@dataclass(frozen=True)
class Matching:
    """Result of one matching.

    Attributes:
        pairs: (index of the claim, index of the true event), ordered by time.
        tp: matched claims.
        fp: claims without a match.
        fn: true events without a match.
        timing_error_s: mean `|claimed end - true end|` over the pairs in seconds; None
            without pairs.
    """

    pairs: tuple[tuple[int, int], ...]
    tp: int
    fp: int
    fn: int
    timing_error_s: float | None

    @property
    def f1(self) -> float:
        """F1: harmonic mean of precision and recall; 1 if there were no events and no claims."""
        events = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / events if events else 1.0


@dataclass(frozen=True)
class EventScore:
    """How well claimed events agree with the true events.

    Attributes:
        labelled: claims must have the right label (action and kind of thing) and time.
        class_agnostic: claims must only have the right time.
        colour_accuracy: share of the labelled pairs with the right colour, of those whose true
            event has a colour; None without such a pair.
    """

    labelled: Matching
    class_agnostic: Matching
    colour_accuracy: float | None


def event_key(label: str) -> Hashable:
    """Return what two labels must share to mean the same event.

    For captions of the simulated world this is the action and the kind of thing, for other labels
    all words.
    """
    parsed = parse_label(label)
    return (parsed.action, parsed.kind) if parsed else " ".join(label.lower().split())


def score_events(
    claimed: Sequence[TimedEvent],
    truth: Sequence[TimedEvent],
    tolerance_s: float = DEFAULT_TOLERANCE_S,
) -> EventScore:
    """Compare claimed events with the true events.

    Args:
        claimed: the reported events.
        truth: the true events.
        tolerance_s: largest difference of the ends that still matches, in seconds.
    """
    labelled = match_events(claimed, truth, tolerance_s, event_key)
    return EventScore(
        labelled,
        match_events(claimed, truth, tolerance_s, lambda label: None),
        _colour_accuracy(claimed, truth, labelled),
    )


def match_events(
    claimed: Sequence[TimedEvent],
    truth: Sequence[TimedEvent],
    tolerance_s: float,
    meaning: Callable[[str], Hashable],
) -> Matching:
    """Match claims one to one with true events of the same camera and the same `meaning`.

    If no true event names a camera, claims of all cameras can match.

    Args:
        claimed: the reported events.
        truth: the true events.
        tolerance_s: largest difference of the ends that still matches, in seconds.
        meaning: maps a label to the key that both labels must share.
    """
    pairs: list[tuple[int, int]] = []
    any_camera = all(not event.camera for event in truth)

    def group(event: TimedEvent) -> Hashable:
        return ("" if any_camera else event.camera, meaning(event.label))

    for key in {group(event) for event in truth}:
        ours = sorted(
            (index for index, event in enumerate(claimed) if group(event) == key),
            key=lambda index: claimed[index].t_end,
        )
        theirs = sorted(
            (index for index, event in enumerate(truth) if group(event) == key),
            key=lambda index: truth[index].t_end,
        )
        ends = [claimed[index].t_end for index in ours], [truth[index].t_end for index in theirs]
        pairs += [
            (ours[left], theirs[right]) for left, right in _match_in_order(*ends, tolerance_s)
        ]
    pairs.sort(key=lambda pair: truth[pair[1]].t_end)
    errors = [abs(claimed[left].t_end - truth[right].t_end) for left, right in pairs]
    return Matching(
        pairs=tuple(pairs),
        tp=len(pairs),
        fp=len(claimed) - len(pairs),
        fn=len(truth) - len(pairs),
        timing_error_s=sum(errors) / len(errors) if errors else None,
    )


def _match_in_order(
    claimed: list[float], truth: list[float], tolerance_s: float
) -> list[tuple[int, int]]:
    """Match two sorted lists of times: most pairs first, then smallest total error.

    Some best matching never crosses, so it is enough to compare prefixes (dynamic programming).
    `best[i][j]` is (-pairs, error) for the first i claims and the first j true times.
    """
    best = [[(0, 0.0)] * (len(truth) + 1) for _ in range(len(claimed) + 1)]
    for i, claim in enumerate(claimed, start=1):
        for j, true in enumerate(truth, start=1):
            options = [best[i - 1][j], best[i][j - 1]]
            error = abs(claim - true)
            if error <= tolerance_s:
                count, total = best[i - 1][j - 1]
                options.append((count - 1, total + error))
            best[i][j] = min(options)
    pairs: list[tuple[int, int]] = []
    i, j = len(claimed), len(truth)
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _colour_accuracy(
    claimed: Sequence[TimedEvent], truth: Sequence[TimedEvent], matching: Matching
) -> float | None:
    named = []
    for left, right in matching.pairs:
        ours, theirs = parse_label(claimed[left].label), parse_label(truth[right].label)
        if ours and theirs and theirs.colour:
            named.append(ours.colour == theirs.colour)
    return sum(named) / len(named) if named else None


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
