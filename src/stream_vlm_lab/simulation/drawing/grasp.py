"""Draws hands that enter the picture, grasp or release a thing, and leave again."""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.drawing.motion import between, ease, ease_in, ease_out
from stream_vlm_lab.simulation.drawing.picture_plane import PicturePlane
from stream_vlm_lab.simulation.raster.sprite import PlacedSprite, Point
from stream_vlm_lab.simulation.script.script import Event

IN_FRONT = 9.0
"""Depth of hands, which hide everything else."""


def by_hand(plane: PicturePlane, event: Event, t_s: float) -> list[PlacedSprite]:
    """Draw the hand of `event`, the thing, and the thumb in front of it, at `t_s` seconds."""
    assert event.place is not None
    thing = plane.script.things[event.instance]
    hand = plane.script.things[event.actor]
    foot = plane.pixel_of(event.place)
    grip = thing.size * plane.height * 0.5
    grasp = foot[0], foot[1] - grip
    back = _arm_direction(plane, event, grasp)
    direction = float(np.arctan2(back[1], back[0]))
    takes = event.action == "takes"
    going_in = t_s < event.t_contact
    carrying = going_in != takes
    border_s = event.t_start if going_in else event.t_end
    at_border = plane.sprites.grip(hand, thing, direction, _closed(event, border_s))
    edge_shown = [PlacedSprite(event.actor, 0, sprite, 0.0, 0.0) for sprite in at_border]
    if carrying:
        edge_shown.append(PlacedSprite(thing.instance, 0, plane.sprites.thing(thing), 0.0, grip))
    outside = plane.outside(grasp, event.edge, edge_shown, border_s, back)
    if going_in:
        share = 1 - ease_out(
            (t_s - event.t_start) / max(event.t_contact - 0.25 - event.t_start, 0.3)
        )
    else:
        share = ease_in((t_s - event.t_contact) / (event.t_end - event.t_contact))
    x, y = between(grasp, outside, share)
    y -= float(np.sin(np.pi * min(share * 1.4, 1.0))) * 0.03 * plane.height
    arm, thumb = plane.sprites.grip(hand, thing, direction, _closed(event, t_s))
    shown = [PlacedSprite(event.actor, IN_FRONT, arm, x, y, moving=True)]
    if carrying:
        shown.append(
            PlacedSprite(
                thing.instance,
                IN_FRONT + 0.1,
                plane.sprites.thing(thing),
                x,
                y + grip,
                moving=True,
                held=True,
            )
        )
    else:
        shown += plane.resting(thing, event.place)
    near = share < 0.02 and not carrying
    if near:
        # Between the hand and its thumb while they close around it.
        shown[-1] = PlacedSprite(thing.instance, IN_FRONT + 0.1, plane.sprites.thing(thing), *foot)
    shown.append(PlacedSprite(event.actor, IN_FRONT + 0.2, thumb, x, y, moving=True))
    return shown


def _arm_direction(plane: PicturePlane, event: Event, grasp: Point) -> Point:
    """Unit vector from the grasp point back along the arm, through the edge it came from.

    It is slanted towards the side with more room.
    """
    rng = np.random.default_rng(event.style_seed)
    slant = float(rng.uniform(0, 0.45))
    along, across = float(np.cos(slant)), float(np.sin(slant))
    if event.edge in ("left", "right"):
        return (-along if event.edge == "left" else along), (
            across if grasp[1] < 0.7 * plane.height else -across
        )
    return (across if grasp[0] < 0.5 * plane.width else -across), (
        along if event.edge == "bottom" else -along
    )


def _closed(event: Event, t_s: float) -> float:
    """How far the hand is closed: 0 open, 1 around the thing.

    It closes or opens within a quarter of a second at the contact.
    """
    near_s = 0.25
    if event.action == "takes":
        return 0.15 + 0.85 * ease((t_s - (event.t_contact - near_s)) / near_s)
    return 1 - ease((t_s - event.t_contact) / near_s)
