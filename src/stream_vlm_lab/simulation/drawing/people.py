"""Draws people: standing, entering, leaving, picking up and putting down."""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.drawing.figure import Figure
from stream_vlm_lab.simulation.drawing.motion import (
    Walk,
    bend_down,
    bend_share,
    between,
    ease,
    holding,
    idle_sway,
    idle_turn,
)
from stream_vlm_lab.simulation.drawing.picture_plane import PicturePlane
from stream_vlm_lab.simulation.drawing.skeleton import Pose
from stream_vlm_lab.simulation.raster.sprite import PlacedSprite, Point
from stream_vlm_lab.simulation.script.script import Event, Placement, SceneState, Thing


class People:
    """Draws the people of one stream at their places."""

    def __init__(self, plane: PicturePlane) -> None:
        self._plane = plane
        self._scene = plane.script.scene
        self._pitch = self._scene.camera.pitch

    def resting(
        self, person: Thing, place: Placement, held: int | None, t_s: float
    ) -> list[PlacedSprite]:
        """A person who stands at `place`, and the held thing."""
        pose = Pose(
            heading=place.heading + idle_turn(person.style_seed, t_s),
            sway=idle_sway(person.style_seed, t_s),
        )
        return self._person(
            person, self._plane.pixel_of(place), place.depth, pose, held, moving=False
        )

    def passing(self, event: Event, state: SceneState, t_s: float) -> list[PlacedSprite]:
        """A person who enters or leaves, at `t_s` seconds."""
        assert event.place is not None
        person = self._plane.script.things[event.instance]
        inside = self._plane.pixel_of(event.place)
        enters = event.action == "enters"
        outwards = {"left": -np.pi / 2, "right": np.pi / 2, "bottom": 0.0, "top": np.pi}[event.edge]
        heading = float(outwards + np.pi if enters else outwards)
        held = state.holding.get(event.instance)
        border_s = event.t_start if enters else event.t_end
        outside = inside
        seconds = event.t_end - event.t_start
        tall = self._tall(inside[1] / self._plane.height)
        # Repeated, because the size of a person who passes under the camera depends on the position
        # outside, and this position on the size.
        for _ in range(3):
            walk = self._walk(inside, outside, event, heading, enters)
            _, pose = walk.at(0.0 if enters else 1.0, seconds, tall, held is not None)
            shown = self._person(
                person, (0.0, 0.0), outside[1] / self._plane.height, pose, held, moving=True
            )
            outside = self._plane.outside(
                inside, event.edge, [item for item in shown if item.instance], border_s
            )
        walk = self._walk(inside, outside, event, heading, enters)
        pixel, pose = walk.at((t_s - event.t_start) / seconds, seconds, tall, held is not None)
        return self._person(person, pixel, pixel[1] / self._plane.height, pose, held, moving=True)

    def handling(self, event: Event, state: SceneState, t_s: float) -> list[PlacedSprite]:
        """A person who picks up or puts down, and the thing, at `t_s` seconds."""
        assert event.place is not None and event.stand is not None
        person, thing = (
            self._plane.script.things[event.actor],
            self._plane.script.things[event.instance],
        )
        before, stand = state.resting[event.actor], event.stand
        picks = event.action == "picks up"
        carried = (t_s >= event.t_contact) == picks
        start, end = self._plane.pixel_of(before), self._plane.pixel_of(stand)
        tall = self._tall(stand.depth)
        shown: list[PlacedSprite] = []
        if not carried:
            shown += self._plane.resting(thing, event.place)
        if t_s < event.t_approached:
            seconds = event.t_approached - event.t_start
            way = (end[0] - start[0], (end[1] - start[1]) / max(0.25, float(np.sin(self._pitch))))
            walk = Walk(
                start, end, float(np.arctan2(way[0], way[1])), before.heading, stand.heading
            )
            pixel, pose = walk.at((t_s - event.t_start) / seconds, seconds, tall, not picks)
            depth = before.depth + (stand.depth - before.depth) * (pixel[1] - start[1]) / (
                (end[1] - start[1]) or 1.0
            )
            return shown + self._person(
                person, pixel, depth, pose, thing.instance if carried else None, moving=True
            )
        x, y = self._plane.pixel_of(event.place)
        forward = abs(x - end[0]) / tall
        grip = 0.45 * thing.size * self._plane.height
        target = (forward, (end[1] - y + grip) / (tall * float(np.cos(self._pitch))))
        bend = bend_share(event, t_s)
        pose = bend_down(Pose(heading=stand.heading), bend, target, carried)
        # The arms may be slightly too short; the thing still starts or ends exactly at its place.
        lowest = bend_down(Pose(heading=stand.heading), 1.0, target, True)
        right, down = self._in_hands(self._plane.sprites.figure(person), lowest, tall, thing)
        nudge = ((x - end[0] - right) * bend**2, (y - end[1] - down) * bend**2)
        if start != end and event.t_approached == event.t_start:
            end = between(
                start, end, ease((t_s - event.t_start) / (event.t_contact - event.t_start))
            )
        return shown + self._person(
            person,
            end,
            stand.depth,
            pose,
            thing.instance if carried else None,
            moving=True,
            nudge=nudge,
        )

    def _walk(
        self, inside: Point, outside: Point, event: Event, heading: float, enters: bool
    ) -> Walk:
        assert event.place is not None
        resting = event.place.heading
        if enters:
            return Walk(outside, inside, heading, heading, resting, starts_outside=True)
        return Walk(inside, outside, heading, resting, heading, ends_outside=True)

    def _tall(self, depth: float) -> float:
        """Height of a person at `depth` in pixels; very near people get no larger."""
        return self._scene.height_at(min(depth, 1.12)) * self._plane.height

    def _person(
        self,
        thing: Thing,
        pixel: Point,
        depth: float,
        pose: Pose,
        held: int | None,
        *,
        moving: bool,
        nudge: Point | None = None,
    ) -> list[PlacedSprite]:
        """A person and the held thing, in front of the chest.

        With `nudge`, the thing is moved this many pixels from the hands.
        """
        tall = self._tall(depth)
        figure = self._plane.sprites.figure(thing)
        if held is not None and nudge is None:
            pose = holding(pose)
        x, y = pixel
        sprite = figure.draw(pose, tall, self._pitch, (x - np.floor(x), y - np.floor(y)))
        under = self._plane.sprites.shadow(0.17 * tall)
        shown = [
            PlacedSprite(0, depth - 1e-3, under, x, y),
            PlacedSprite(thing.instance, depth, sprite, np.floor(x), np.floor(y), moving),
        ]
        if held is not None:
            carried = self._plane.script.things[held]
            right, down = self._in_hands(figure, pose, tall, carried)
            if nudge is not None:
                right, down = right + nudge[0], down + nudge[1]
            order = -1e-4 if np.cos(pose.heading) < -0.5 else 1e-4
            shown.append(
                PlacedSprite(
                    held,
                    depth + order,
                    self._plane.sprites.thing(carried),
                    x + right,
                    y + down,
                    moving,
                    held=True,
                )
            )
        return shown

    def _in_hands(self, figure: Figure, pose: Pose, tall: float, carried: Thing) -> Point:
        """Pixels from a person's feet to the foot of the held thing."""
        right, down = figure.hands_at(pose, self._pitch)
        return right * tall, down * tall + 0.45 * carried.size * self._plane.height
