"""Changes the appearance of a stream: other forms of things, other walls and floors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.drawing.background.invented_textures import INVENTED_TEXTURES
from stream_vlm_lab.simulation.drawing.background.unseen_textures import UNSEEN_TEXTURES
from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.simulation.script.script import Script, Thing, WorldError
from stream_vlm_lab.simulation.things.procedural import BALLS as INVENTED_BALLS
from stream_vlm_lab.simulation.things.varied import BALLS

LOOKS = ("seen", "varied objects", "invented", "unseen objects", "unseen backgrounds")


def with_appearance(script: Script, look: str) -> Script:
    """Return `script` with another appearance.

    Events, labels, places, sizes and colours stay the same.

    Args:
        script: the script.
        look: "seen" changes nothing. "varied objects" gives every portable thing one of several
            other forms of its kind (`varied`). "invented" gives every portable thing a form of its
            own (`procedural`), and walls and floors patterns of `invented_textures`. "unseen
            objects" gives every portable thing the held-out form of its kind: a crate, a round
            flask, an open book, a bowl on a saucer, a ball of quarters. "unseen backgrounds" gives
            walls and floors patterns of `unseen_textures`.

    Raises:
        WorldError: there is no such appearance.
    """
    if look not in LOOKS:
        raise WorldError(f"look: {look!r} is refused; use one of {', '.join(LOOKS)}")
    if look in _FORMS:
        form = _FORMS[look]
        things = {
            key: replace(thing, form=form(thing)) if thing.kind in PORTABLE_KINDS else thing
            for key, thing in script.things.items()
        }
        script = replace(script, things=things)
    if look in _TEXTURES:
        wall, floor = np.random.default_rng([script.seed, 0xBAC]).choice(_TEXTURES[look], 2)
        script = replace(
            script, scene=replace(script.scene, wall_texture=str(wall), floor_texture=str(floor))
        )
    return script


def _varied(thing: Thing) -> str:
    return (
        str(np.random.default_rng([thing.style_seed, 0xF0B]).choice(BALLS))
        if thing.kind == "ball"
        else "varied"
    )


def _invented(thing: Thing) -> str:
    return (
        str(np.random.default_rng([thing.style_seed, 0xF0B]).choice(INVENTED_BALLS))
        if thing.kind == "ball"
        else "invented"
    )


def _unseen(thing: Thing) -> str:
    return "unseen"


_FORMS: dict[str, Callable[[Thing], str]] = {
    "varied objects": _varied,
    "invented": _invented,
    "unseen objects": _unseen,
}
"""Appearances that change things, with a function that chooses the form of a thing."""

_TEXTURES = {"invented": sorted(INVENTED_TEXTURES), "unseen backgrounds": sorted(UNSEEN_TEXTURES)}
"""Appearances that change walls and floors, with their patterns."""
