"""A source of your own: anything that yields frames can be watched.

    python examples/own_source.py

Here the frames are drawn; in your program they come from a camera driver or a socket.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stream_vlm import Pipeline, load_settings
from stream_vlm.types import Frame


class Blinking:
    """A camera that shows a light, one second on and one second off, at 2 Hz."""

    name = "blinking"
    cameras = ("front",)
    duration_s = 10.0
    live = False

    def frames(self) -> Iterator[Frame]:
        """Yield the frames with increasing stamps (ns)."""
        for index in range(20):
            image = np.full((240, 320, 3), 230 if index // 2 % 2 else 20, np.uint8)
            yield Frame("front", (index + 1) * 500_000_000, "front_optical_frame", image)


settings = load_settings({"memory.path": str(Path(tempfile.mkdtemp(), "memory.db"))})
with Pipeline(settings) as pipeline:
    steps = list(pipeline.run(Blinking()))
    print(f"{len(steps)} steps, {sum(len(step.events) for step in steps)} events")
    print(f"{pipeline.memory.count()} records in {pipeline.memory.path}")
