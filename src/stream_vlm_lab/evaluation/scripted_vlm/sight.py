"""What a row of simulated pictures shows: events that they show complete, or under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import PictureSource
from stream_vlm_lab.simulation.script.script import Event, Script


@dataclass(frozen=True)
class Sight:
    """What the pictures of one prompt show, up to the newest of them and nothing later.

    Attributes:
        newest: the newest picture.
        complete: the events that the pictures show from before their end until after it, oldest
            first.
        under_way: the event that is in progress in the newest picture, or None.
        present: kind and colour of the people and things that are in the newest picture.
    """

    newest: PictureSource
    complete: tuple[Event, ...]
    under_way: Event | None
    present: tuple[tuple[str, str], ...]


def look_at(pictures: Sequence[PictureSource]) -> Sight:
    """What `pictures` show, oldest first.

    Pictures of other rooms than the newest one are left out.
    """
    newest = pictures[-1]
    script = _script(newest.seed, newest.length_ms, newest.quiet_minutes)
    first_s = min(
        picture.t_s
        for picture in pictures
        if (picture.seed, picture.length_ms) == (newest.seed, newest.length_ms)
    )
    return seen_in(script, newest, first_s)


def seen_in(script: Script, newest: PictureSource, first_s: float) -> Sight:
    """What pictures from `first_s` seconds until `newest` show of `script`."""
    state, under_way = script.at(newest.t_s)
    visible = [*state.resting, *state.holding.values()]
    return Sight(
        newest,
        tuple(event for event in script.events if first_s < event.t_end <= newest.t_s),
        under_way,
        tuple(
            (script.things[instance].kind, script.things[instance].colour) for instance in visible
        ),
    )


@lru_cache(maxsize=64)
def _script(seed: int, length_ms: int, quiet_minutes: int) -> Script:
    return PictureSource(seed, length_ms, 0, quiet_minutes).script()
