"""What a run is made of: where its files are, how fast it is, and the node's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endurance.isolation import Link
from endurance.scenario import TICK_S


@dataclass(frozen=True)
class Setup:
    """What a run is made of.

    Attributes:
        folder: folder for the memory file and the log.
        seed: of everything that is drawn.
        factor: simulated seconds in a second, at most.
        request_period_s: real seconds between two requests of a kind.
        isolated: whether this process is inside namespaces of its own.
        link: the way into the other network namespace; None where that is not permitted.
    """

    folder: Path
    seed: int
    factor: float
    request_period_s: float
    isolated: bool
    link: Link | None

    @property
    def memory(self) -> Path:
        """The memory file, on a disk of its own."""
        return self.folder / "disk" / "memory.db"

    def parameters(self) -> dict[str, Any]:
        """Parameters of the node."""
        return {
            "autostart": True,
            "use_sim_time": True,
            "cameras": ["front", "rear", "far"],
            "camera.front.topic": "front/image",
            "camera.rear.topic": "rear/image",
            "camera.rear.transport": "compressed",
            "camera.far.topic": "far/image",
            "camera.far.transport": "compressed",
            "memory.path": str(self.memory),
            "memory.keep_records_h": 0.0,
            "memory.keep_records_mb": 0.0,
            "memory.keep_pictures_h": 0.0,
            "memory.keep_pictures_mb": 30.0,
            "stream.rate_hz": 1.0 / TICK_S,
            "pose.odom_topic": "odom",
            "pose.max_age_s": 5.0,
            "diagnostics.period_s": 0.5,
            # A picture may overtake the clock, which is fast.
            "diagnostics.future_tolerance_s": 60.0,
            # As many ticks as the default values have at 1 Hz.
            "events.max_open_s": 120.0 * TICK_S,
            "events.grace_s": 1.0 * TICK_S,
            "memory.chunk_s": 200.0 * TICK_S,
        }
