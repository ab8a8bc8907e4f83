"""The same rooms and events in other looks: with things of other forms, or before walls and on floors of other kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stream_vlm.world.language import PORTABLE_KINDS
from stream_vlm.world.script import Script, Thing, WorldError
from stream_vlm.world.unseen_textures import UNSEEN_TEXTURES
from stream_vlm.world.varied import BALLS

LOOKS = ("seen", "varied objects", "unseen objects", "unseen backgrounds")


def with_look(script: Script, look: str) -> Script:
    """`script` with what it shows exchanged; events, labels, places, sizes and colours stay as they are.

    Args:
        look: "seen" changes nothing; "varied objects" gives every portable thing one of several further forms of its kind (`varied`);
            "unseen objects" gives every portable thing a form of its kind that is drawn for no other look (a crate,
            a round flask, an open book, a bowl on a saucer, a ball of quarters); "unseen backgrounds" covers walls and floors with patterns
            that no other look has.

    Raises:
        WorldError: no such look.
    """
    if look == "seen":
        return script
    if look in _FORMS:
        form = _FORMS[look]
        things = {key: replace(thing, form=form(thing)) if thing.kind in PORTABLE_KINDS else thing for key, thing in script.things.items()}
        return replace(script, things=things)
    if look == "unseen backgrounds":
        wall, floor = np.random.default_rng([script.seed, 0xBAC]).choice(sorted(UNSEEN_TEXTURES), 2)
        return replace(script, scene=replace(script.scene, wall_texture=str(wall), floor_texture=str(floor)))
    raise WorldError(f"look: {look!r} is refused; use one of {', '.join(LOOKS)}")


def _varied(thing: Thing) -> str:
    return str(np.random.default_rng([thing.look, 0xF0B]).choice(BALLS)) if thing.kind == "ball" else "varied"


def _unseen(thing: Thing) -> str:
    return "unseen"


_FORMS: dict[str, Callable[[Thing], str]] = {"varied objects": _varied, "unseen objects": _unseen}
"""Looks that exchange things, with the form that each gets."""
