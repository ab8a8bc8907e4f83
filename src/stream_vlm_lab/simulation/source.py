"""Frames from the simulated camera, whose events are known exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.simulation.camera.faults import FAULTS
from stream_vlm_lab.simulation.world import World

DEFAULT_SECONDS = 60.0
OPTIONS = ("faults", "faults_per_minute", "events_per_minute", "quiet_minutes", "longest_event_s")
"""What may be said about a simulated camera, as `World` takes it."""


class SimulatedSource:
    """A stream of `stream_vlm_lab.simulation`, rendered picture by picture.

    Args:
        seed: the same seed and length show the same stream.
        seconds: length of the stream.
        fps: pictures a second.
        size: (width, height) in pixels.
        camera: name of the camera its frames belong to.
        options: of `World`; see `options_of`. Dropped pictures do not come.

    Raises:
        SourceError: a length or rate that is not positive.
        WorldError: an option is out of range.
    """

    live = False

    def __init__(
        self,
        seed: int,
        seconds: float = DEFAULT_SECONDS,
        fps: float = 10.0,
        size: tuple[int, int] = (320, 240),
        camera: str = "camera",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not seconds > 0 or not fps > 0:
            raise SourceError(
                f"world:{seed}: {seconds} seconds at {fps} pictures a second show nothing; both"
                " must be above 0"
            )
        told = [
            f"{name}-{'-'.join(value) if name == 'faults' else f'{value:g}'}"
            for name, value in sorted((options or {}).items())
        ]
        self.name = "-".join([f"world-{seed}", *told])
        self.cameras = (camera,)
        self.duration_s = seconds
        self.world = World(seed, seconds, size=size, **(options or {}))
        self._fps = fps

    def frames(self) -> Iterator[Frame]:
        """Yield pictures, uint8 RGB (H, W, 3), stamped from 0; none where one is dropped."""
        camera = self.cameras[0]
        for index in range(round(self.duration_s * self._fps)):
            t_s = index / self._fps
            if not self.world.delivers(t_s):
                continue
            yield Frame(
                camera,
                round(t_s * NANOSECONDS),
                f"{camera}_optical_frame",
                self.world.view(t_s).image,
            )


def open_simulated(spec: str, seconds: float | None) -> SimulatedSource:
    """Open `world:SEED`, perhaps with `:NAME=VALUE` behind it (see `options_of`).

    Args:
        spec: the whole text of the source, such as `world:7:quiet_minutes=10`.
        seconds: length of the stream; None for `DEFAULT_SECONDS`.

    Raises:
        SourceError: no seed, or an option that does not exist.
        WorldError: an option is out of range.
    """
    _, _, rest = spec.partition(":")
    seed, _, words = rest.partition(":")
    if not seed.isdecimal():
        raise SourceError(
            f"{spec}: '{seed}' is no seed; a simulated camera is written world:SEED with a whole"
            " number, such as world:7"
        )
    return SimulatedSource(
        int(seed), DEFAULT_SECONDS if seconds is None else seconds, options=options_of(words)
    )


def options_of(words: str) -> dict[str, Any]:
    """Options of `World` as they are typed: `faults=dropped,jpeg:quiet_minutes=10`; `faults=all`
    for every kind, nothing for none.

    Raises:
        SourceError: no such option, or a value that is no number where one is needed.
    """
    options: dict[str, Any] = {}
    for part in filter(None, words.split(":")):
        name, _, value = part.partition("=")
        if name not in OPTIONS or not value:
            raise SourceError(
                f"'{part}' says nothing about a simulated camera; write NAME=VALUE with one of"
                f" {', '.join(OPTIONS)}"
            )
        if name == "faults":
            options[name] = FAULTS if value == "all" else tuple(value.split(","))
            continue
        try:
            options[name] = float(value)
        except ValueError as error:
            raise SourceError(f"'{part}': {value!r} is no number") from error
    return options
