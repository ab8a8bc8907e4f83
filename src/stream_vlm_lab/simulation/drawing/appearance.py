"""The same rooms and events in other looks: with things of other forms, or before walls and on
floors of other kinds.
"""

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


def with_look(script: Script, look: str) -> Script:
    """`script` with what it shows exchanged; events, labels, places, sizes and colours stay as they
    are.

    Args:
        look: "seen" changes nothing; "varied objects" gives every portable thing one of several
            further forms of its kind (`varied`); "invented" gives every portable thing a form of
            its own (`invented`) and covers walls and floors with patterns of `invented_textures`;
            "unseen objects" gives every portable thing a form of its kind that is drawn for no
            other look (a crate, a round flask, an open book, a bowl on a saucer, a ball of
            quarters); "unseen backgrounds" covers walls and floors with patterns that no other look
            has.

    Raises:
        WorldError: no such look.
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
        str(np.random.default_rng([thing.look, 0xF0B]).choice(BALLS))
        if thing.kind == "ball"
        else "varied"
    )


def _invented(thing: Thing) -> str:
    return (
        str(np.random.default_rng([thing.look, 0xF0B]).choice(INVENTED_BALLS))
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
"""Looks that exchange things, with the form that each gets."""

_TEXTURES = {"invented": sorted(INVENTED_TEXTURES), "unseen backgrounds": sorted(UNSEEN_TEXTURES)}
"""Looks that exchange walls and floors, with the patterns that cover them."""
