"""Questions about what happened minutes or hours ago, each with its one right answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.labels.askable_times import Moments
from stream_vlm_lab.simulation.labels.event_pattern import wanted_by
from stream_vlm_lab.simulation.scene.captions import NOTHING

NEAR_S, CLEAR_S = 15.0, 40.0
"""What happened N minutes ago is what ended within 15 s of it, where nothing else ended within 40
s; nothing, where nothing did.
"""

Asked = tuple[str, str] | None
"""Question and answer."""


def memory_question(moments: Moments, t_s: float, rng: np.random.Generator) -> Asked:
    """A question about the past, asked at `t_s` seconds; None where too little has happened yet."""
    makers: tuple[Callable[[Moments, float, np.random.Generator], Asked], ...] = (
        _what_was,
        _how_long_ago,
        _how_often,
        _first,
    )
    for place in rng.permutation(len(makers)):
        found = makers[int(place)](moments, t_s, rng)
        if found is not None:
            return found
    return None


def _minutes(count: int) -> str:
    return f"{count} minute{'s' if count > 1 else ''} ago"


def _what_was(moments: Moments, t_s: float, rng: np.random.Generator) -> Asked:
    if t_s < 60 + CLEAR_S:
        return None
    ago = int(rng.integers(1, int((t_s - CLEAR_S) // 60) + 1))
    around = [seen for seen in moments.before(t_s) if abs(t_s - 60 * ago - seen.t_end) <= CLEAR_S]
    if len(around) > 1 or any(abs(t_s - 60 * ago - seen.t_end) > NEAR_S for seen in around):
        return None
    return f"What happened about {_minutes(ago)}?", around[0].event.label if around else NOTHING


def _how_long_ago(moments: Moments, t_s: float, rng: np.random.Generator) -> Asked:
    past = moments.before(t_s)
    if not past:
        return None
    wanted = wanted_by(
        past[int(rng.integers(len(past)))].event, any_colour=bool(rng.random() < 0.5)
    )
    last = [seen for seen in past if wanted.fits(seen.event)][-1]
    minutes = (t_s - last.t_end) / 60
    # Nobody can tell whether two and a half minutes are two or three.
    if round(minutes) < 1 or abs(minutes - round(minutes)) > 0.3:
        return None
    return f"About how many minutes ago did this last happen: {wanted.words}?", _minutes(
        round(minutes)
    )


def _how_often(moments: Moments, t_s: float, rng: np.random.Generator) -> Asked:
    past = moments.before(t_s)
    if not past:
        return None
    wanted = wanted_by(past[int(rng.integers(len(past)))].event, any_colour=True)
    return f"How often did this happen so far: {wanted.words}?", str(
        sum(wanted.fits(seen.event) for seen in past)
    )


def _first(moments: Moments, t_s: float, rng: np.random.Generator) -> Asked:
    past = moments.before(t_s)
    return (
        ("What was the first thing that happened?", past[0].event.label) if len(past) > 1 else None
    )
