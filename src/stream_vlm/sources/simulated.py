"""Frames from the simulated camera, whose events are known exactly."""

from __future__ import annotations

from collections.abc import Iterator

from stream_vlm.sources.source import SourceError
from stream_vlm.stream import NANOSECONDS, Frame
from stream_vlm.world.render import World

DEFAULT_SECONDS = 60.0


class SimulatedSource:
    """A stream of `stream_vlm.world`, rendered picture by picture.

    Args:
        seed: the same seed and length show the same stream.
        seconds: length of the stream.
        fps: pictures a second.
        size: (width, height) in pixels.
        camera: name of the camera its frames belong to.

    Raises:
        SourceError: a length or rate that is not positive.
    """

    live = False

    def __init__(
        self,
        seed: int,
        seconds: float = DEFAULT_SECONDS,
        fps: float = 10.0,
        size: tuple[int, int] = (320, 240),
        camera: str = "camera",
    ) -> None:
        if not seconds > 0 or not fps > 0:
            raise SourceError(f"world:{seed}: {seconds} seconds at {fps} pictures a second show nothing; both must be above 0")
        self.name = f"world-{seed}"
        self.cameras = (camera,)
        self.duration_s = seconds
        self.world = World(seed, seconds, size=size)
        self._fps = fps

    def frames(self) -> Iterator[Frame]:
        """Yield pictures, uint8 RGB (H, W, 3), stamped from 0."""
        camera = self.cameras[0]
        for index in range(round(self.duration_s * self._fps)):
            t_s = index / self._fps
            yield Frame(camera, round(t_s * NANOSECONDS), f"{camera}_optical_frame", self.world.view(t_s).image)
