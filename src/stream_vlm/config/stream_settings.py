"""Settings of the sampling: how often the model processes a frame."""

from __future__ import annotations

from pydantic import PrivateAttr, field_validator

from stream_vlm.config.field import Group, setting

DEFAULT_RATE_HZ = 1.0
"""Ticks a second of a checkpoint that does not say how many it was trained with."""
OWN_MODEL_HZ = 2.0
"""Ticks a second of a model that is no checkpoint and does not say how many it wants."""
SLOWEST_HZ = 0.1


class StreamSettings(Group):
    """How often the model processes a frame."""

    rate_hz: float = setting(
        0.0,
        "How many frames of each camera the model processes per second. It always takes the newest"
        " frame; older ones are dropped. 0 takes the rate that the checkpoint was trained with"
        " (rate_hz in stream_config.json; 1 Hz if it names none). Other values begin at 0.1.",
        unit="Hz",
        minimum=0.0,
        maximum=30.0,
    )
    _own_rate_hz: float = PrivateAttr(default=OWN_MODEL_HZ)

    @field_validator("rate_hz")
    @classmethod
    def _own_or_possible(cls, rate_hz: float) -> float:
        if 0.0 < rate_hz < SLOWEST_HZ:
            raise ValueError(f"use 0 for the checkpoint's own rate, or at least {SLOWEST_HZ:g}")
        return rate_hz

    def take_own_rate(self, rate_hz: float) -> None:
        """Say which rate the loaded model was trained with; `rate_hz` 0 means this one."""
        self._own_rate_hz = rate_hz

    @property
    def tick_rate_hz(self) -> float:
        """Ticks a second: `rate_hz`, or where it is 0 the rate that the model was trained with."""
        return self.rate_hz or self._own_rate_hz
