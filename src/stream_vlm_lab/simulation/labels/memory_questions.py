"""Questions about what happened minutes or hours ago, each with its only correct answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.labels.event_pattern import pattern_of
from stream_vlm_lab.simulation.labels.visible_events import VisibleEvents
from stream_vlm_lab.simulation.scene.captions import NOTHING

NEAR_S, CLEAR_S = 15.0, 40.0
""""What happened N minutes ago" means an event that ended within 15 s of that time.

No other event may have ended within 40 s. If no event ended within 40 s, the answer is nothing.
"""

QuestionAnswer = tuple[str, str] | None
"""A question and its answer."""


def memory_question(visible: VisibleEvents, t_s: float, rng: np.random.Generator) -> QuestionAnswer:
    """A question about the past, asked at `t_s` seconds; None if too little has happened yet."""
    makers: tuple[Callable[[VisibleEvents, float, np.random.Generator], QuestionAnswer], ...] = (
        _what_was,
        _how_long_ago,
        _how_often,
        _first,
    )
    for place in rng.permutation(len(makers)):
        found = makers[int(place)](visible, t_s, rng)
        if found is not None:
            return found
    return None


def _minutes(count: int) -> str:
    return f"{count} minute{'s' if count > 1 else ''} ago"


def _what_was(visible: VisibleEvents, t_s: float, rng: np.random.Generator) -> QuestionAnswer:
    if t_s < 60 + CLEAR_S:
        return None
    ago = int(rng.integers(1, int((t_s - CLEAR_S) // 60) + 1))
    around = [seen for seen in visible.before(t_s) if abs(t_s - 60 * ago - seen.t_end) <= CLEAR_S]
    if len(around) > 1 or any(abs(t_s - 60 * ago - seen.t_end) > NEAR_S for seen in around):
        return None
    return f"What happened about {_minutes(ago)}?", around[0].event.label if around else NOTHING


def _how_long_ago(visible: VisibleEvents, t_s: float, rng: np.random.Generator) -> QuestionAnswer:
    past = visible.before(t_s)
    if not past:
        return None
    pattern = pattern_of(
        past[int(rng.integers(len(past)))].event, any_colour=bool(rng.random() < 0.5)
    )
    last = [seen for seen in past if pattern.matches(seen.event)][-1]
    minutes = (t_s - last.t_end) / 60
    # The answer must be clear: two and a half minutes could be two or three.
    if round(minutes) < 1 or abs(minutes - round(minutes)) > 0.3:
        return None
    return f"About how many minutes ago did this last happen: {pattern.words}?", _minutes(
        round(minutes)
    )


def _how_often(visible: VisibleEvents, t_s: float, rng: np.random.Generator) -> QuestionAnswer:
    past = visible.before(t_s)
    if not past:
        return None
    pattern = pattern_of(past[int(rng.integers(len(past)))].event, any_colour=True)
    return f"How often did this happen so far: {pattern.words}?", str(
        sum(pattern.matches(seen.event) for seen in past)
    )


def _first(visible: VisibleEvents, t_s: float, rng: np.random.Generator) -> QuestionAnswer:
    past = visible.before(t_s)
    return (
        ("What was the first thing that happened?", past[0].event.label) if len(past) > 1 else None
    )
