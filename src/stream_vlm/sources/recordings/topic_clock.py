"""Choose the clock of each topic of a recording by all its messages.

A message has two times: the stamp in its header, and the time at which it was recorded. A topic
takes one of them for all its messages; the header is preferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import NANOSECONDS

Times = NDArray[np.int64]
Mask = NDArray[np.bool_]

SLACK_NS = NANOSECONDS
"""Stamps may step back this far (a late message), and clocks may differ this much."""
YEAR_NS = round(365.25 * 24 * 3600) * NANOSECONDS
"""No recording pauses for so long: the clock was set meanwhile."""
PAUSE_NS, FASTEST = 10 * NANOSECONDS, 20
"""A stamp may run ahead of recording by this pause, and by this factor (a fast simulation)."""
GLITCH_NS, GLITCH_MESSAGES = 5 * NANOSECONDS, 10
"""So many messages in a row off the clock, in time or number, are a glitch; more are a step."""
MAX_PARTS = 1000
"""A clock in more parts than this is none."""


@dataclass
class TopicTimes:
    """The times of all messages of one topic, int64 ns.

    Attributes:
        recorded: when each was recorded; does not decrease.
        header: the stamp of each.
        readable: False where a message has no header.
    """

    recorded: Times
    header: Times
    readable: Mask


@dataclass
class TopicClock:
    """The stamps of one topic.

    Attributes:
        stamps: the stamp of each message, int64 ns.
        kept: False where a message is not on the topic's clock, or has no header.
        by_header: True for header stamps, False for times of recording.
        remark: what a user should know about the choice; empty where all is well.
    """

    stamps: Times
    kept: Mask
    by_header: bool
    remark: str = ""


def choose_clock(times: TopicTimes) -> TopicClock:
    """Return the clock on which the most of a topic's messages advance.

    Header stamps are taken unless they are absent, or off the clock for longer than a glitch.
    """
    at = np.flatnonzero(times.readable)
    header, recorded = times.header[at], times.recorded[at]
    by_recording = _clock(times, at, times.recorded, on_one_clock(recorded, recorded), False)
    if not at.size or not header.any():
        return by_recording
    mask = on_one_clock(header, recorded)
    by_header = _clock(times, at, times.header, mask, True)
    if mask.all() and (np.unique(header).size > 1 or at.size == 1):
        return by_header
    if _are_glitches(mask, recorded):
        return by_header
    if _advancing(recorded, by_recording.kept[at]) > _advancing(header, mask):
        off = at.size - int(mask.sum())
        what = f"the header stamps of {off} of its {at.size} messages are off the others' clock"
        if mask.all():
            what = "its header stamps do not advance"
        by_recording.remark = f"{what}; all are watched by the time of recording"
        return by_recording
    return by_header


def share_one_clock(clocks: dict[str, TopicClock], times: Mapping[str, TopicTimes]) -> str:
    """Put all topics on the time of recording where their clocks differ; return a sentence on it.

    Args:
        clocks: the clock of each topic; changed where they differ.
        times: the times of each topic.
    """
    names = sorted(clocks, key=lambda name: -int(clocks[name].kept.sum()))
    widest, between = 0.0, ""
    for name in names[1:]:
        apart_s = clocks_apart_s(clocks[names[0]], times[names[0]], clocks[name], times[name])
        if abs(apart_s) > widest:
            widest, between = abs(apart_s), f"{names[0]} and {name}"
    if widest * NANOSECONDS <= SLACK_NS:
        return ""
    for name in names:
        readable = times[name].readable
        mask = on_one_clock(times[name].recorded[readable], times[name].recorded[readable])
        clocks[name] = _clock(
            times[name], np.flatnonzero(readable), times[name].recorded, mask, False
        )
    return (
        f"the clocks of {between} differ by {in_words(widest)}; all cameras are watched by the time"
        " of recording"
    )


def clocks_apart_s(
    first: TopicClock, first_times: TopicTimes, second: TopicClock, second_times: TopicTimes
) -> float:
    """Return how far the clock of the second topic is ahead of that of the first, seconds.

    The stamps are compared at the same times of recording. Topics that were recorded one after the
    other cannot be compared so: their clocks count as the same where their stamps overlap. 0 where
    one has no messages.
    """
    if not first.kept.any() or not second.kept.any():
        return 0.0
    recorded, stamps = first_times.recorded[first.kept], first.stamps[first.kept]
    other_recorded, other_stamps = second_times.recorded[second.kept], second.stamps[second.kept]
    together = (other_recorded >= recorded[0]) & (other_recorded <= recorded[-1])
    if together.any():
        other_recorded, other_stamps = other_recorded[together], other_stamps[together]
    elif _overlap(stamps, other_stamps):
        return 0.0
    origin_ns, base_ns = int(recorded[0]), int(stamps[0])
    at = (other_recorded - origin_ns) / NANOSECONDS
    grid = (recorded - origin_ns) / NANOSECONDS
    expected = np.interp(at, grid, (stamps - base_ns) / NANOSECONDS)
    # Outside of the first topic's messages its clock goes on as recording does.
    expected += np.minimum(0.0, at - grid[0]) + np.maximum(0.0, at - grid[-1])
    return float(np.median((other_stamps - base_ns) / NANOSECONDS - expected))


def _overlap(first: Times, second: Times) -> bool:
    return bool(first.min() <= second.max() and second.min() <= first.max())


def on_one_clock(stamps: Times, recorded: Times) -> Mask:
    """Return which stamps belong to one clock: the most that follow each other.

    Args:
        stamps: int64 ns, in order of recording.
        recorded: when each was recorded, int64 ns, not decreasing.
    """
    count = stamps.size
    if count < 2:
        return np.ones(count, np.bool_)
    stamp_steps, recorded_steps = np.diff(stamps), np.diff(recorded)
    if not recorded_steps.any():  # nothing to compare with
        recorded_steps = np.maximum(0, stamp_steps).clip(max=YEAR_NS)
    limits = PAUSE_NS + FASTEST * np.minimum(recorded_steps, YEAR_NS // FASTEST)
    limits = np.minimum(limits, YEAR_NS)
    smooth = (stamp_steps <= limits) & (stamps[1:] >= np.maximum.accumulate(stamps)[:-1] - SLACK_NS)
    if smooth.all():
        return np.ones(count, np.bool_)
    cuts = np.flatnonzero(
        (np.abs(stamp_steps - recorded_steps) > SLACK_NS)
        | (stamp_steps > limits)
        | (stamp_steps < -SLACK_NS)
    )
    starts = np.concatenate([[0], cuts + 1])
    if starts.size > MAX_PARTS:
        return np.zeros(count, np.bool_)
    ends = np.concatenate([cuts + 1, [count]])
    spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
    mask = np.zeros(count, np.bool_)
    for part in _best_chain(stamps, recorded, spans):
        start, end = spans[part]
        mask[start:end] = True
    newest = np.maximum.accumulate(np.where(mask, stamps, np.iinfo(np.int64).min))
    return mask & (stamps >= newest - SLACK_NS)


def _best_chain(stamps: Times, recorded: Times, spans: list[tuple[int, int]]) -> list[int]:
    """Return the parts that follow each other and hold the most advancing stamps."""
    firsts = [int(stamps[start]) for start, _ in spans]
    lasts = [int(stamps[start:end].max()) for start, end in spans]
    # Of each chain: its advancing stamps, and minus the difference (ns) of its steps to those of
    # recording, which decides between chains that are equally long.
    best: list[tuple[int, int]] = []
    before: list[int] = []
    for part, (start, end) in enumerate(spans):
        rank, previous = (0, 0), -1
        for other in range(part - 1, -1, -1):
            step = firsts[part] - lasts[other]
            pause = int(recorded[start]) - int(recorded[spans[other][1] - 1])
            if -SLACK_NS <= step <= _limit(pause):
                longer = (best[other][0], best[other][1] - abs(step - pause))
                if longer > rank:
                    rank, previous = longer, other
        own = _advancing(stamps[start:end], np.ones(end - start, np.bool_))
        best.append((rank[0] + own, rank[1]))
        before.append(previous)
        if previous >= 0:
            lasts[part] = max(lasts[part], lasts[previous])
    part = max(range(len(best)), key=best.__getitem__)
    chain = []
    while part >= 0:
        chain.append(part)
        part = before[part]
    return chain


def _limit(recorded_step: int) -> int:
    """Return how far a stamp may advance while recording advances by so much (both ns)."""
    return min(PAUSE_NS + FASTEST * min(recorded_step, YEAR_NS // FASTEST), YEAR_NS)


def _advancing(stamps: Times, mask: Mask) -> int:
    """Count the stamps that are newer than all before them."""
    kept = stamps[mask]
    return int(bool(kept.size)) + int((np.diff(np.maximum.accumulate(kept)) > 0).sum())


def _are_glitches(mask: Mask, recorded: Times) -> bool:
    """Whether those off the clock are few, and never many in a row."""
    off = int((~mask).sum())
    if off == 0 or off * 3 >= mask.size:
        return False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~mask, [False]]).astype(np.int8)))
    return all(
        end - start <= GLITCH_MESSAGES or recorded[end - 1] - recorded[start] <= GLITCH_NS
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    )


def _clock(times: TopicTimes, at: Times, stamps: Times, mask: Mask, by_header: bool) -> TopicClock:
    kept = np.zeros(times.recorded.size, np.bool_)
    kept[at[mask]] = True
    return TopicClock(stamps, kept, by_header)


def in_words(seconds: float) -> str:
    """Return a span in its largest fitting unit, for example 1.0 hours."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
