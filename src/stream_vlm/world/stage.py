"""Where everything stands in the picture at a moment, and how it is drawn there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_vlm.world.figure import Pose
from stream_vlm.world.fixtures import draw_door, draw_lamp
from stream_vlm.world.motion import Walk, bend_down, bend_share, ease, ease_in, ease_out, holding, idle_sway, idle_turn
from stream_vlm.world.props import Props
from stream_vlm.world.scene import Fixture
from stream_vlm.world.script import Event, Placement, SceneState, Script, Thing
from stream_vlm.world.sensor import Sensor
from stream_vlm.world.sprite import Sprite

Spot = tuple[float, float]
IN_FRONT = 9.0
"""Depth of what hides everything else: hands."""


@dataclass(frozen=True)
class Appearance:
    """One sprite in its place: `x`, `y` are picture pixels before pan and shake; larger `depth` is drawn later."""

    instance: int
    depth: float
    sprite: Sprite
    x: float
    y: float
    moving: bool = False
    held: bool = False


class Stage:
    """Turns the script at a moment into sprites in their places."""

    def __init__(self, script: Script, sensor: Sensor, width: int, height: int) -> None:
        self._script, self._scene, self._sensor = script, script.scene, sensor
        self._width, self._height = width, height
        self._pitch = self._scene.camera.pitch
        self._props = Props(script, width, height)

    def appearances(self, t_s: float) -> list[Appearance]:
        """Everything to be drawn at `t_s` seconds, farthest first."""
        state, event = self._script.at(t_s)
        shown: list[Appearance] = []
        for fixture in self._scene.fixtures:
            shown.append(self._fixture(fixture, state, event, t_s))
        busy = {event.instance, event.actor} if event else set()
        for instance, place in state.resting.items():
            if instance in busy:
                continue
            thing = self._script.things[instance]
            if thing.kind == "person":
                pose = Pose(heading=place.heading + idle_turn(thing.look, t_s), sway=idle_sway(thing.look, t_s))
                shown += self._person(thing, self.spot(place), place.depth, pose, state.holding.get(instance), moving=False)
            else:
                shown += self._resting(thing, place)
        if event is not None:
            shown += self._action(event, state, t_s)
        return sorted(shown, key=lambda appearance: appearance.depth)

    def spot(self, place: Placement) -> Spot:
        """Picture pixel of a placement."""
        return place.u * self._width + place.shift * self._height, place.v * self._height

    def view_left_top(self, t_s: float) -> Spot:
        """Picture pixel that the upper left corner of the view shows at `t_s`."""
        right, down = self._sensor.shake_px(t_s)
        return self._sensor.pan_px(t_s) + right, down

    # -- what does not move -------------------------------------------------------------------------------------------------------

    def _fixture(self, fixture: Fixture, state: SceneState, event: Event | None, t_s: float) -> Appearance:
        area = fixture.area
        width, height = (area.right - area.left) * self._width, (area.bottom - area.top) * self._height
        mine = event is not None and event.instance == fixture.instance
        if fixture.kind == "door":
            width = min(width, 0.52 * height)
            openness = 1.0 if state.door_open else 0.0
            if mine and event is not None:
                share = ease((t_s - event.t_start) / (event.t_end - event.t_start))
                openness = share if event.action == "opens" else 1 - share
            sprite = self._props.keep(("door", round(openness * 64)), lambda: draw_door(fixture, width, height, round(openness * 64) / 64))
        else:
            width = min(width, 0.8 * height)
            on = bool(state.lamp_on)
            sprite = self._props.keep(("lamp", on), lambda: draw_lamp(fixture, width, height, on))
        x, y = (area.left + area.right) / 2 * self._width, area.bottom * self._height
        depth = -1.0 if fixture.style == "pendant" or fixture.kind == "door" else area.bottom
        return Appearance(fixture.instance, depth, sprite, x, y, moving=mine)

    def _resting(self, thing: Thing, place: Placement) -> list[Appearance]:
        x, y = self.spot(place)
        return self._thing_with_shadow(thing, self._props.thing(thing), x, y, place.depth, moving=False)

    def _thing_with_shadow(self, thing: Thing, sprite: Sprite, x: float, y: float, depth: float, *, moving: bool) -> list[Appearance]:
        under = self._props.shadow(thing.width * self._height * 0.55)
        return [Appearance(0, depth, under, x, y), Appearance(thing.instance, depth + 1e-6, sprite, x, y, moving)]

    # -- people -------------------------------------------------------------------------------------------------------------------

    def _tall(self, depth: float) -> float:
        """Height in pixels of a person at `depth`; who passes under the camera grows no further."""
        return self._scene.height_at(min(depth, 1.12)) * self._height

    def _person(
        self, thing: Thing, spot: Spot, depth: float, pose: Pose, held: int | None, *, moving: bool, lowered: bool = False
    ) -> list[Appearance]:
        """A person and what is held; `lowered` means the pose says already where the hands are."""
        tall = self._tall(depth)
        figure = self._props.figure(thing)
        if held is not None and not lowered:
            pose = holding(pose)
        x, y = spot
        sprite = figure.draw(pose, tall, self._pitch, (x - np.floor(x), y - np.floor(y)))
        under = self._props.shadow(0.17 * tall)
        shown = [Appearance(0, depth - 1e-3, under, x, y), Appearance(thing.instance, depth, sprite, np.floor(x), np.floor(y), moving)]
        if held is not None:
            carried = self._script.things[held]
            right, down = figure.hands_at(pose, self._pitch)
            away = np.cos(pose.heading) < -0.5
            shown.append(
                Appearance(
                    held,
                    depth + (-1e-4 if away else 1e-4),
                    self._props.thing(carried),
                    x + right * tall,
                    y + down * tall + 0.45 * carried.size * self._height,
                    moving,
                    held=True,
                )  # fmt: skip
            )
        return shown

    # -- events -------------------------------------------------------------------------------------------------------------------

    def _action(self, event: Event, state: SceneState, t_s: float) -> list[Appearance]:
        if event.action in ("enters", "leaves"):
            return self._passing(event, state, t_s)
        if event.action in ("rolls in", "rolls away"):
            return self._rolling(event, t_s)
        if event.action in ("takes", "puts down", "picks up"):
            return self._handled(event, state, t_s) if event.stand is not None else self._by_hand(event, t_s)
        return []

    def _passing(self, event: Event, state: SceneState, t_s: float) -> list[Appearance]:
        assert event.place is not None
        person = self._script.things[event.instance]
        inside = self.spot(event.place)
        enters = event.action == "enters"
        outwards = {"left": -np.pi / 2, "right": np.pi / 2, "bottom": 0.0}[event.edge]
        heading = float(outwards + np.pi if enters else outwards)
        held = state.holding.get(event.instance)
        border_s = event.t_start if enters else event.t_end
        outside = inside
        seconds = event.t_end - event.t_start
        tall = self._tall(inside[1] / self._height)
        # Again and again, for who passes under the camera grows with where that is.
        for _ in range(3):
            walk = self._walk(inside, outside, event, heading, enters)
            _, pose = walk.at(0.0 if enters else 1.0, seconds, tall, held is not None)
            shown = self._person(person, (0.0, 0.0), outside[1] / self._height, pose, held, moving=True)
            outside = self._beyond(inside, event.edge, [item for item in shown if item.instance], border_s)
        walk = self._walk(inside, outside, event, heading, enters)
        spot, pose = walk.at((t_s - event.t_start) / seconds, seconds, tall, held is not None)
        return self._person(person, spot, spot[1] / self._height, pose, held, moving=True)

    def _walk(self, inside: Spot, outside: Spot, event: Event, heading: float, enters: bool) -> Walk:
        assert event.place is not None
        resting = event.place.heading
        if enters:
            return Walk(outside, inside, heading, heading, resting, starts_outside=True)
        return Walk(inside, outside, heading, resting, heading, ends_outside=True)

    def _beyond(self, inside: Spot, edge: str, shown: list[Appearance], t_s: float, towards: Spot | None = None) -> Spot:
        """Where the origin of `shown` (placed relative to it) must be for its last pixel to lie just outside `edge` at `t_s`."""
        boxes = [(item.x, item.y, item.sprite.solid_box()) for item in shown]
        left, top = self.view_left_top(t_s)
        # One pixel more, for sprites are laid on whole pixels.
        need = {
            "left": left - max(x + box[2] for x, _, box in boxes) - 1,
            "right": left + self._width - min(x + box[0] for x, _, box in boxes) + 1,
            "bottom": top + self._height - min(y + box[1] for _, y, box in boxes) + 1,
            "top": top - max(y + box[3] for _, y, box in boxes) - 1,
        }[edge]
        if edge in ("left", "right"):
            slope = towards[1] / towards[0] if towards is not None else 0.0
            return need, inside[1] + (need - inside[0]) * slope
        slope = towards[0] / towards[1] if towards is not None else 0.0
        return inside[0] + (need - inside[1]) * slope, need

    def _rolling(self, event: Event, t_s: float) -> list[Appearance]:
        assert event.place is not None
        thing = self._script.things[event.instance]
        ball = self._props.ball(thing)
        inside = self.spot(event.place)
        enters = event.action == "rolls in"
        still = Appearance(thing.instance, 0.0, ball.turned(0.0), 0.0, 0.0)
        outside = self._beyond(inside, event.edge, [still], event.t_start if enters else event.t_end)
        share = (t_s - event.t_start) / (event.t_end - event.t_start)
        along = ease_out(share) if enters else 1 - ease_in(share)
        x = outside[0] + (inside[0] - outside[0]) * along
        turned = ball.turned((x - inside[0]) / (thing.size * self._height / 2))
        return self._thing_with_shadow(thing, turned, x, inside[1], event.place.depth, moving=True)

    def _handled(self, event: Event, state: SceneState, t_s: float) -> list[Appearance]:
        assert event.place is not None and event.stand is not None
        person, thing = self._script.things[event.actor], self._script.things[event.instance]
        before, stand = state.resting[event.actor], event.stand
        picks = event.action == "picks up"
        carried = (t_s >= event.t_contact) == picks
        start, end = self.spot(before), self.spot(stand)
        tall = self._tall(stand.depth)
        shown: list[Appearance] = []
        if not carried:
            shown += self._resting(thing, event.place)
        if t_s < event.t_approached:
            seconds = event.t_approached - event.t_start
            way = (end[0] - start[0], (end[1] - start[1]) / max(0.25, float(np.sin(self._pitch))))
            walk = Walk(start, end, float(np.arctan2(way[0], way[1])), before.heading, stand.heading)
            spot, pose = walk.at((t_s - event.t_start) / seconds, seconds, tall, not picks)
            depth = before.depth + (stand.depth - before.depth) * (spot[1] - start[1]) / ((end[1] - start[1]) or 1.0)
            return shown + self._person(person, spot, depth, pose, thing.instance if carried else None, moving=True)
        x, y = self.spot(event.place)
        forward = abs(x - end[0]) / tall
        grip = 0.45 * thing.size * self._height
        target = (forward, (end[1] - y + grip) / (tall * float(np.cos(self._pitch))))
        pose = bend_down(Pose(heading=stand.heading), bend_share(event, t_s), target, carried)
        if start != end and event.t_approached == event.t_start:
            end = _between(start, end, ease((t_s - event.t_start) / (event.t_contact - event.t_start)))
        return shown + self._person(person, end, stand.depth, pose, thing.instance if carried else None, moving=True, lowered=True)

    # -- hands --------------------------------------------------------------------------------------------------------------------

    def _by_hand(self, event: Event, t_s: float) -> list[Appearance]:
        assert event.place is not None
        thing = self._script.things[event.instance]
        hand = self._script.things[event.actor]
        foot = self.spot(event.place)
        grip = thing.size * self._height * 0.5
        grasp = foot[0], foot[1] - grip
        back = self._arm_direction(event, grasp)
        direction = float(np.arctan2(back[1], back[0]))
        takes = event.action == "takes"
        going_in = t_s < event.t_contact
        carrying = going_in != takes
        border_s = event.t_start if going_in else event.t_end
        at_border = self._props.grip(hand, thing, direction, _closed(event, border_s))
        edge_shown = [Appearance(event.actor, 0, sprite, 0.0, 0.0) for sprite in at_border]
        if carrying:
            edge_shown.append(Appearance(thing.instance, 0, self._props.thing(thing), 0.0, grip))
        outside = self._beyond(grasp, event.edge, edge_shown, border_s, back)
        if going_in:
            share = 1 - ease_out((t_s - event.t_start) / max(event.t_contact - 0.25 - event.t_start, 0.3))
        else:
            share = ease_in((t_s - event.t_contact) / (event.t_end - event.t_contact))
        x, y = _between(grasp, outside, share)
        y -= float(np.sin(np.pi * min(share * 1.4, 1.0))) * 0.03 * self._height
        arm, thumb = self._props.grip(hand, thing, direction, _closed(event, t_s))
        shown = [Appearance(event.actor, IN_FRONT, arm, x, y, moving=True)]
        if carrying:
            shown.append(Appearance(thing.instance, IN_FRONT + 0.1, self._props.thing(thing), x, y + grip, moving=True, held=True))
        else:
            shown += self._resting(thing, event.place)
        near = share < 0.02 and not carrying
        if near:
            # Between the hand and its thumb while they close around it.
            shown[-1] = Appearance(thing.instance, IN_FRONT + 0.1, self._props.thing(thing), *foot)
        shown.append(Appearance(event.actor, IN_FRONT + 0.2, thumb, x, y, moving=True))
        return shown

    def _arm_direction(self, event: Event, grasp: Spot) -> Spot:
        """Unit vector from the grasp back along the arm: through the edge it came from, slanted to where there is room."""
        rng = np.random.default_rng(event.look)
        slant = float(rng.uniform(0, 0.45))
        along, across = float(np.cos(slant)), float(np.sin(slant))
        if event.edge in ("left", "right"):
            return (-along if event.edge == "left" else along), (across if grasp[1] < 0.7 * self._height else -across)
        return (across if grasp[0] < 0.5 * self._width else -across), (along if event.edge == "bottom" else -along)


def _closed(event: Event, t_s: float) -> float:
    """How far the hand is closed: 0 open, 1 around the thing; it closes and opens in a quarter of a second at the contact."""
    near_s = 0.25
    if event.action == "takes":
        return 0.15 + 0.85 * ease((t_s - (event.t_contact - near_s)) / near_s)
    return 1 - ease((t_s - event.t_contact) / near_s)


def _between(first: Spot, second: Spot, share: float) -> Spot:
    return first[0] + (second[0] - first[0]) * share, first[1] + (second[1] - first[1]) * share
