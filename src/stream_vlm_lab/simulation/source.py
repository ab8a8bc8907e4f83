"""A source of frames from a simulated camera, whose events are known exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.simulation.camera.faults import FAULTS
from stream_vlm_lab.simulation.world import World

DEFAULT_SECONDS = 60.0
OPTIONS = ("faults", "faults_per_minute", "events_per_minute", "quiet_minutes", "longest_event_s")
"""Options of a simulated camera, as `World` takes them."""


class SimulatedSource:
    """A simulated stream as a source; pictures are rendered one by one.

    Args:
        seed: the same seed, length and options give the same stream.
        seconds: length of the stream.
        fps: pictures a second.
        size: (width, height) in pixels.
        camera: name of the camera.
        options: options of `World`; see `options_of`.

    Raises:
        SourceError: the length or the rate is not positive.
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
                f"world:{seed}: {seconds} seconds at {fps} pictures a second are refused; both"
                " must be above 0"
            )
        given = [
            f"{name}-{'-'.join(value) if name == 'faults' else f'{value:g}'}"
            for name, value in sorted((options or {}).items())
        ]
        self.name = "-".join([f"world-{seed}", *given])
        self.cameras = (camera,)
        self.duration_s = seconds
        self.world = World(seed, seconds, size=size, **(options or {}))
        self._fps = fps

    def frames(self) -> Iterator[Frame]:
        """Yield pictures, uint8 RGB (H, W, 3), stamped from 0; dropped pictures are left out."""
        camera = self.cameras[0]
        for index in range(round(self.duration_s * self._fps)):
            t_s = index / self._fps
            if not self.world.has_picture(t_s):
                continue
            yield Frame(
                camera,
                round(t_s * NANOSECONDS),
                f"{camera}_optical_frame",
                self.world.view(t_s).image,
            )


def open_simulated(spec: str, seconds: float | None) -> SimulatedSource:
    """Open `world:SEED`, optionally followed by `:NAME=VALUE` (see `options_of`).

    Args:
        spec: the source as text, such as `world:7:quiet_minutes=10`.
        seconds: length of the stream; None for `DEFAULT_SECONDS`.

    Raises:
        SourceError: there is no seed, or an option does not exist.
        WorldError: an option is out of range.
    """
    _, _, rest = spec.partition(":")
    seed, _, words = rest.partition(":")
    if not seed.isdecimal():
        raise SourceError(
            f"{spec}: '{seed}' is not a seed; write world:SEED with a whole number, such as world:7"
        )
    return SimulatedSource(
        int(seed), DEFAULT_SECONDS if seconds is None else seconds, options=options_of(words)
    )


def options_of(words: str) -> dict[str, Any]:
    """Parse options of `World`, such as `faults=dropped,jpeg:quiet_minutes=10`.

    `faults=all` stands for all kinds; an empty text for no options.

    Raises:
        SourceError: an option does not exist, or its value is not a number.
    """
    options: dict[str, Any] = {}
    for part in filter(None, words.split(":")):
        name, _, value = part.partition("=")
        if name not in OPTIONS or not value:
            raise SourceError(
                f"'{part}' is not an option of a simulated camera; write NAME=VALUE with one of"
                f" {', '.join(OPTIONS)}"
            )
        if name == "faults":
            options[name] = FAULTS if value == "all" else tuple(value.split(","))
            continue
        try:
            options[name] = float(value)
        except ValueError as error:
            raise SourceError(f"'{part}': {value!r} is not a number") from error
    return options
