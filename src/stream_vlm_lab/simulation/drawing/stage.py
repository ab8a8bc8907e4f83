"""Where everything stands in the picture at a moment, and how it is drawn there."""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.camera.camera_optics import Sensor
from stream_vlm_lab.simulation.drawing.figure import Figure, Pose
from stream_vlm_lab.simulation.drawing.fixtures import draw_door, draw_lamp
from stream_vlm_lab.simulation.drawing.grasp import by_hand
from stream_vlm_lab.simulation.drawing.motion import (
    Walk,
    bend_down,
    bend_share,
    between,
    ease,
    ease_in,
    ease_out,
    holding,
    idle_sway,
    idle_turn,
)
from stream_vlm_lab.simulation.drawing.props import Props
from stream_vlm_lab.simulation.raster.sprite import Appearance, Point, Sprite
from stream_vlm_lab.simulation.scene.scene import Fixture
from stream_vlm_lab.simulation.script.script import Event, Placement, SceneState, Script, Thing


class Stage:
    """Turns the script at a moment into sprites in their places."""

    def __init__(self, script: Script, sensor: Sensor, width: int, height: int) -> None:
        self.script, self.width, self.height = script, width, height
        self._scene, self._sensor = script.scene, sensor
        self._pitch = self._scene.camera.pitch
        self.props = Props(script, width, height)

    def appearances(self, t_s: float) -> list[Appearance]:
        """Everything to be drawn at `t_s` seconds, farthest first."""
        state, event = self.script.at(t_s)
        shown: list[Appearance] = []
        for fixture in self._scene.fixtures:
            shown.append(self._fixture(fixture, state, event, t_s))
        busy = {event.instance, event.actor} if event else set()
        for instance, place in state.resting.items():
            if instance in busy:
                continue
            thing = self.script.things[instance]
            if thing.kind == "person":
                pose = Pose(
                    heading=place.heading + idle_turn(thing.look, t_s),
                    sway=idle_sway(thing.look, t_s),
                )
                shown += self._person(
                    thing,
                    self.spot(place),
                    place.depth,
                    pose,
                    state.holding.get(instance),
                    moving=False,
                )
            else:
                shown += self.resting(thing, place)
        if event is not None:
            shown += self._action(event, state, t_s)
        return sorted(shown, key=lambda appearance: appearance.depth)

    def spot(self, place: Placement) -> Point:
        """Picture pixel of a placement."""
        return place.u * self.width + place.shift * self.height, place.v * self.height

    def view_left_top(self, t_s: float) -> Point:
        """Picture pixel that the upper left corner of the view shows at `t_s`."""
        right, down = self._sensor.shake_px(t_s)
        return self._sensor.pan_px(t_s) + right, down

    # -- what does not move
    # -------------------------------------------------------------------------------------------------------

    def _fixture(
        self, fixture: Fixture, state: SceneState, event: Event | None, t_s: float
    ) -> Appearance:
        area = fixture.area
        width, height = (
            (area.right - area.left) * self.width,
            (area.bottom - area.top) * self.height,
        )
        mine = event is not None and event.instance == fixture.instance
        if fixture.kind == "door":
            width = min(width, 0.52 * height)
            openness = 1.0 if state.door_open else 0.0
            if mine and event is not None:
                share = ease((t_s - event.t_start) / (event.t_end - event.t_start))
                openness = share if event.action == "opens" else 1 - share
            sprite = self.props.keep(
                ("door", round(openness * 64)),
                lambda: draw_door(fixture, width, height, round(openness * 64) / 64),
            )
        else:
            width = min(width, 0.8 * height)
            on = bool(state.lamp_on)
            sprite = self.props.keep(("lamp", on), lambda: draw_lamp(fixture, width, height, on))
        x, y = (area.left + area.right) / 2 * self.width, area.bottom * self.height
        depth = -1.0 if fixture.style == "pendant" or fixture.kind == "door" else area.bottom
        return Appearance(fixture.instance, depth, sprite, x, y, moving=mine)

    def resting(self, thing: Thing, place: Placement) -> list[Appearance]:
        """A thing at rest on its shadow."""
        x, y = self.spot(place)
        return self._thing_with_shadow(
            thing, self.props.thing(thing), x, y, place.depth, moving=False
        )

    def _thing_with_shadow(
        self, thing: Thing, sprite: Sprite, x: float, y: float, depth: float, *, moving: bool
    ) -> list[Appearance]:
        under = self.props.shadow(thing.width * self.height * 0.55)
        return [
            Appearance(0, depth, under, x, y),
            Appearance(thing.instance, depth + 1e-6, sprite, x, y, moving),
        ]

    # -- people
    # -------------------------------------------------------------------------------------------------------------------

    def _tall(self, depth: float) -> float:
        """Height in pixels of a person at `depth`; who passes under the camera grows no further."""
        return self._scene.height_at(min(depth, 1.12)) * self.height

    def _person(
        self,
        thing: Thing,
        spot: Point,
        depth: float,
        pose: Pose,
        held: int | None,
        *,
        moving: bool,
        nudge: Point | None = None,
    ) -> list[Appearance]:
        """A person and what is held: before the chest, or, with `nudge`, so many pixels from where
        the pose has the hands.
        """
        tall = self._tall(depth)
        figure = self.props.figure(thing)
        if held is not None and nudge is None:
            pose = holding(pose)
        x, y = spot
        sprite = figure.draw(pose, tall, self._pitch, (x - np.floor(x), y - np.floor(y)))
        under = self.props.shadow(0.17 * tall)
        shown = [
            Appearance(0, depth - 1e-3, under, x, y),
            Appearance(thing.instance, depth, sprite, np.floor(x), np.floor(y), moving),
        ]
        if held is not None:
            carried = self.script.things[held]
            right, down = self._in_hands(figure, pose, tall, carried)
            if nudge is not None:
                right, down = right + nudge[0], down + nudge[1]
            order = -1e-4 if np.cos(pose.heading) < -0.5 else 1e-4
            shown.append(
                Appearance(
                    held,
                    depth + order,
                    self.props.thing(carried),
                    x + right,
                    y + down,
                    moving,
                    held=True,
                )
            )
        return shown

    def _in_hands(self, figure: Figure, pose: Pose, tall: float, carried: Thing) -> Point:
        """Pixels from a person's feet to the foot of what is held."""
        right, down = figure.hands_at(pose, self._pitch)
        return right * tall, down * tall + 0.45 * carried.size * self.height

    # -- events
    # -------------------------------------------------------------------------------------------------------------------

    def _action(self, event: Event, state: SceneState, t_s: float) -> list[Appearance]:
        if event.action in ("enters", "leaves"):
            return self._passing(event, state, t_s)
        if event.action in ("rolls in", "rolls away"):
            return self._rolling(event, t_s)
        if event.action in ("takes", "puts down", "picks up"):
            return (
                self._handled(event, state, t_s)
                if event.stand is not None
                else by_hand(self, event, t_s)
            )
        return []

    def _passing(self, event: Event, state: SceneState, t_s: float) -> list[Appearance]:
        assert event.place is not None
        person = self.script.things[event.instance]
        inside = self.spot(event.place)
        enters = event.action == "enters"
        outwards = {"left": -np.pi / 2, "right": np.pi / 2, "bottom": 0.0, "top": np.pi}[event.edge]
        heading = float(outwards + np.pi if enters else outwards)
        held = state.holding.get(event.instance)
        border_s = event.t_start if enters else event.t_end
        outside = inside
        seconds = event.t_end - event.t_start
        tall = self._tall(inside[1] / self.height)
        # Again and again, for who passes under the camera grows with where that is.
        for _ in range(3):
            walk = self._walk(inside, outside, event, heading, enters)
            _, pose = walk.at(0.0 if enters else 1.0, seconds, tall, held is not None)
            shown = self._person(
                person, (0.0, 0.0), outside[1] / self.height, pose, held, moving=True
            )
            outside = self.beyond(
                inside, event.edge, [item for item in shown if item.instance], border_s
            )
        walk = self._walk(inside, outside, event, heading, enters)
        spot, pose = walk.at((t_s - event.t_start) / seconds, seconds, tall, held is not None)
        return self._person(person, spot, spot[1] / self.height, pose, held, moving=True)

    def _walk(
        self, inside: Point, outside: Point, event: Event, heading: float, enters: bool
    ) -> Walk:
        assert event.place is not None
        resting = event.place.heading
        if enters:
            return Walk(outside, inside, heading, heading, resting, starts_outside=True)
        return Walk(inside, outside, heading, resting, heading, ends_outside=True)

    def beyond(
        self,
        inside: Point,
        edge: str,
        shown: list[Appearance],
        t_s: float,
        towards: Point | None = None,
    ) -> Point:
        """Where the origin of `shown` (placed relative to it) must be for its last pixel to lie
        just outside `edge` at `t_s`.
        """
        boxes = [(item.x, item.y, item.sprite.solid_box()) for item in shown]
        left, top = self.view_left_top(t_s)
        # One pixel more, for sprites are laid on whole pixels.
        need = {
            "left": left - max(x + box[2] for x, _, box in boxes) - 1,
            "right": left + self.width - min(x + box[0] for x, _, box in boxes) + 1,
            "bottom": top + self.height - min(y + box[1] for _, y, box in boxes) + 1,
            "top": top - max(y + box[3] for _, y, box in boxes) - 1,
        }[edge]
        if edge in ("left", "right"):
            slope = towards[1] / towards[0] if towards is not None else 0.0
            return need, inside[1] + (need - inside[0]) * slope
        slope = towards[0] / towards[1] if towards is not None else 0.0
        return inside[0] + (need - inside[1]) * slope, need

    def _rolling(self, event: Event, t_s: float) -> list[Appearance]:
        assert event.place is not None
        thing = self.script.things[event.instance]
        ball = self.props.ball(thing)
        inside = self.spot(event.place)
        enters = event.action == "rolls in"
        still = Appearance(thing.instance, 0.0, ball.turned(0.0), 0.0, 0.0)
        outside = self.beyond(inside, event.edge, [still], event.t_start if enters else event.t_end)
        share = (t_s - event.t_start) / (event.t_end - event.t_start)
        along = ease_out(share) if enters else 1 - ease_in(share)
        x = outside[0] + (inside[0] - outside[0]) * along
        turned = ball.turned((x - inside[0]) / (thing.size * self.height / 2))
        return self._thing_with_shadow(thing, turned, x, inside[1], event.place.depth, moving=True)

    def _handled(self, event: Event, state: SceneState, t_s: float) -> list[Appearance]:
        assert event.place is not None and event.stand is not None
        person, thing = self.script.things[event.actor], self.script.things[event.instance]
        before, stand = state.resting[event.actor], event.stand
        picks = event.action == "picks up"
        carried = (t_s >= event.t_contact) == picks
        start, end = self.spot(before), self.spot(stand)
        tall = self._tall(stand.depth)
        shown: list[Appearance] = []
        if not carried:
            shown += self.resting(thing, event.place)
        if t_s < event.t_approached:
            seconds = event.t_approached - event.t_start
            way = (end[0] - start[0], (end[1] - start[1]) / max(0.25, float(np.sin(self._pitch))))
            walk = Walk(
                start, end, float(np.arctan2(way[0], way[1])), before.heading, stand.heading
            )
            spot, pose = walk.at((t_s - event.t_start) / seconds, seconds, tall, not picks)
            depth = before.depth + (stand.depth - before.depth) * (spot[1] - start[1]) / (
                (end[1] - start[1]) or 1.0
            )
            return shown + self._person(
                person, spot, depth, pose, thing.instance if carried else None, moving=True
            )
        x, y = self.spot(event.place)
        forward = abs(x - end[0]) / tall
        grip = 0.45 * thing.size * self.height
        target = (forward, (end[1] - y + grip) / (tall * float(np.cos(self._pitch))))
        bend = bend_share(event, t_s)
        pose = bend_down(Pose(heading=stand.heading), bend, target, carried)
        # Arms may be too short by a little; what is handled still lifts off from, and comes to,
        # exactly where it rests.
        lowest = bend_down(Pose(heading=stand.heading), 1.0, target, True)
        right, down = self._in_hands(self.props.figure(person), lowest, tall, thing)
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
