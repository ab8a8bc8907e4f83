"""Everything in the picture at a time, as sprites with their positions."""

from __future__ import annotations

from stream_vlm_lab.simulation.camera.camera_optics import Sensor
from stream_vlm_lab.simulation.drawing.fixtures import draw_door, draw_lamp
from stream_vlm_lab.simulation.drawing.grasp import by_hand
from stream_vlm_lab.simulation.drawing.motion import ease, ease_in, ease_out
from stream_vlm_lab.simulation.drawing.people import People
from stream_vlm_lab.simulation.drawing.picture_plane import PicturePlane
from stream_vlm_lab.simulation.raster.sprite import PlacedSprite, Point
from stream_vlm_lab.simulation.scene.scene import Fixture
from stream_vlm_lab.simulation.script.script import Event, SceneState, Script


class SceneSprites:
    """Turns the script at a time into placed sprites."""

    def __init__(self, script: Script, sensor: Sensor, width: int, height: int) -> None:
        self._plane = PicturePlane(script, sensor, width, height)
        self._people = People(self._plane)

    def placed_sprites(self, t_s: float) -> list[PlacedSprite]:
        """Everything to draw at `t_s` seconds, farthest first."""
        state, event = self._plane.script.at(t_s)
        shown: list[PlacedSprite] = []
        for fixture in self._plane.script.scene.fixtures:
            shown.append(self._fixture(fixture, state, event, t_s))
        busy = {event.instance, event.actor} if event else set()
        for instance, place in state.resting.items():
            if instance in busy:
                continue
            thing = self._plane.script.things[instance]
            if thing.kind == "person":
                shown += self._people.resting(thing, place, state.holding.get(instance), t_s)
            else:
                shown += self._plane.resting(thing, place)
        if event is not None:
            shown += self._action(event, state, t_s)
        return sorted(shown, key=lambda appearance: appearance.depth)

    def view_left_top(self, t_s: float) -> Point:
        """See `PicturePlane.view_left_top`."""
        return self._plane.view_left_top(t_s)

    def _fixture(
        self, fixture: Fixture, state: SceneState, event: Event | None, t_s: float
    ) -> PlacedSprite:
        area = fixture.area
        width, height = (
            (area.right - area.left) * self._plane.width,
            (area.bottom - area.top) * self._plane.height,
        )
        mine = event is not None and event.instance == fixture.instance
        if fixture.kind == "door":
            width = min(width, 0.52 * height)
            openness = 1.0 if state.door_open else 0.0
            if mine and event is not None:
                share = ease((t_s - event.t_start) / (event.t_end - event.t_start))
                openness = share if event.action == "opens" else 1 - share
            sprite = self._plane.sprites.get(
                ("door", round(openness * 64)),
                lambda: draw_door(fixture, width, height, round(openness * 64) / 64),
            )
        else:
            width = min(width, 0.8 * height)
            on = bool(state.lamp_on)
            sprite = self._plane.sprites.get(
                ("lamp", on), lambda: draw_lamp(fixture, width, height, on)
            )
        x, y = (area.left + area.right) / 2 * self._plane.width, area.bottom * self._plane.height
        depth = -1.0 if fixture.style == "pendant" or fixture.kind == "door" else area.bottom
        return PlacedSprite(fixture.instance, depth, sprite, x, y, moving=mine)

    def _action(self, event: Event, state: SceneState, t_s: float) -> list[PlacedSprite]:
        if event.action in ("enters", "leaves"):
            return self._people.passing(event, state, t_s)
        if event.action in ("rolls in", "rolls away"):
            return self._rolling(event, t_s)
        if event.action in ("takes", "puts down", "picks up"):
            return (
                self._people.handling(event, state, t_s)
                if event.stand is not None
                else by_hand(self._plane, event, t_s)
            )
        return []

    def _rolling(self, event: Event, t_s: float) -> list[PlacedSprite]:
        assert event.place is not None
        thing = self._plane.script.things[event.instance]
        ball = self._plane.sprites.ball(thing)
        inside = self._plane.pixel_of(event.place)
        enters = event.action == "rolls in"
        still = PlacedSprite(thing.instance, 0.0, ball.turned(0.0), 0.0, 0.0)
        outside = self._plane.outside(
            inside, event.edge, [still], event.t_start if enters else event.t_end
        )
        share = (t_s - event.t_start) / (event.t_end - event.t_start)
        along = ease_out(share) if enters else 1 - ease_in(share)
        x = outside[0] + (inside[0] - outside[0]) * along
        turned = ball.turned((x - inside[0]) / (thing.size * self._plane.height / 2))
        return self._plane.with_shadow(thing, turned, x, inside[1], event.place.depth, moving=True)
