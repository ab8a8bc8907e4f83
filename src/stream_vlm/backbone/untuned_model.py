"""What all models have in common that were not tuned for streams, whatever runs them."""

from __future__ import annotations

from stream_vlm.config.stream_settings import DEFAULT_RATE_HZ


class UntunedModel:
    """The answers of an untuned chat model to the questions of `model_protocol.Model`."""

    @property
    def judges_instructions(self) -> bool:
        """True: the model is asked about each instruction."""
        return True

    @property
    def reads_memory(self) -> bool:
        """True: a chat can contain what the memory found."""
        return True

    @property
    def rate_hz(self) -> float:
        """One tick a second: such a model names no rate of its own."""
        return DEFAULT_RATE_HZ

    @property
    def activity_threshold(self) -> float:
        """0: nothing is calibrated for such a model."""
        return 0.0
