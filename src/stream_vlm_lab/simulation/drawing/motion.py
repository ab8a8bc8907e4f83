"""Motion during an event, in pixels; it is exact at start and end, as the labels require."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stream_vlm_lab.simulation.drawing.skeleton import Pose
from stream_vlm_lab.simulation.raster.sprite import Point
from stream_vlm_lab.simulation.script.script import Event

CARRY_REACH = (0.2, 0.62)
"""Position of the hands with a carried thing: forward and up, in body heights."""


def ease(share: float) -> float:
    """Map 0..1 to 0..1, slow at both ends."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def ease_out(share: float) -> float:
    """Map 0..1 to 0..1, fast at the start, slow at the end."""
    share = min(max(share, 0.0), 1.0)
    return 1 - float((1 - share) ** 1.6)


def ease_in(share: float) -> float:
    """Map 0..1 to 0..1, slow at the start, fast at the end."""
    return 1 - ease_out(1 - share)


def blend_angle(first: float, second: float, share: float) -> float:
    """A heading between two headings the shorter way round, in radians."""
    turn = (second - first + np.pi) % (2 * np.pi) - np.pi
    return float(first + turn * share)


def between(first: Point, second: Point, share: float) -> Point:
    """The point `share` (0..1) of the way from one point to the other."""
    return first[0] + (second[0] - first[0]) * share, first[1] + (second[1] - first[1]) * share


@dataclass(frozen=True)
class Walk:
    """A straight walk on the floor from one pixel position to another.

    Attributes:
        start: start position in pixels.
        end: end position in pixels.
        heading: heading while walking, in radians.
        heading_before: heading at the start.
        heading_after: heading at the end.
        starts_outside: the walk starts outside the picture, at full speed.
        ends_outside: the walk ends outside the picture, at full speed.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    heading: float
    heading_before: float
    heading_after: float
    starts_outside: bool = False
    ends_outside: bool = False

    def at(
        self, share: float, seconds: float, height: float, carrying: bool
    ) -> tuple[tuple[float, float], Pose]:
        """Position and pose after `share` (0..1) of the walk.

        Args:
            share: share of the walk.
            seconds: duration of the walk.
            height: height of the person in pixels.
            carrying: whether the person carries a thing.
        """
        along = (
            ease_out(share)
            if self.starts_outside
            else ease_in(share)
            if self.ends_outside
            else ease(share)
        )
        x = self.start[0] + (self.end[0] - self.start[0]) * along
        y = self.start[1] + (self.end[1] - self.start[1]) * along
        far = float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))
        turn_s = min(0.35, 0.4 * seconds)
        gone, left = share * seconds, (1 - share) * seconds
        heading = self.heading
        if not self.starts_outside and gone < turn_s:
            heading = blend_angle(self.heading_before, self.heading, ease(gone / turn_s))
        elif not self.ends_outside and left < turn_s:
            heading = blend_angle(self.heading_after, self.heading, ease(left / turn_s))
        walking = 1.0
        if not self.starts_outside:
            walking = min(walking, gone / turn_s)
        if not self.ends_outside:
            walking = min(walking, left / turn_s)
        # A full stride is about four fifths of the body height; strides are counted from the
        # picture's border.
        paces = far * (along - 1 if self.ends_outside else along) / (0.8 * height)
        pose = Pose(
            heading=heading, stride=2 * np.pi * paces, walking=float(np.clip(walking, 0, 1))
        )
        return (x, y), holding(pose) if carrying else pose


def holding(pose: Pose) -> Pose:
    """The same pose with something carried in front of the chest."""
    return replace(pose, reach=CARRY_REACH, both_hands=True)


def bend_down(pose: Pose, depth: float, target: tuple[float, float], carried: bool) -> Pose:
    """The pose of a person who reaches down, by `depth` 0..1.

    Args:
        pose: the upright pose.
        depth: 0 is upright, 1 is at the target.
        target: position of the hands: forward and up, in body heights. A lower target bends knees
            and back more.
        carried: whether a thing is carried.
    """
    low = float(np.clip((0.62 - target[1]) / 0.62, 0, 1))
    start = CARRY_REACH if carried else (0.06, 0.48)
    reach = (start[0] + (target[0] - start[0]) * depth, start[1] + (target[1] - start[1]) * depth)
    return replace(
        pose,
        lean=depth * (0.25 + 0.75 * low),
        crouch=depth * 0.92 * low,
        reach=reach,
        both_hands=True,
    )


def bend_share(event: Event, t_s: float) -> float:
    """How far a person is bent down at `t_s`: 0 upright, 1 at the contact."""
    if t_s <= event.t_approached:
        return 0.0
    if t_s < event.t_contact:
        return ease((t_s - event.t_approached) / (event.t_contact - event.t_approached))
    return 1 - ease((t_s - event.t_contact) / (event.t_end - event.t_contact))


def idle_turn(style_seed: int, t_s: float) -> float:
    """Slow turn of a standing person in radians."""
    phase = (style_seed % 997) / 997 * 2 * np.pi
    return float(0.13 * np.sin(0.31 * t_s + phase))


def idle_sway(style_seed: int, t_s: float) -> float:
    """Slow sideways shift of a standing person, in body heights."""
    phase = (style_seed % 1000) / 1000 * 2 * np.pi
    return float(0.012 * np.sin(0.9 * t_s + phase) + 0.006 * np.sin(2.3 * t_s + 1.7 * phase))
