"""What can go wrong with a stream over a model, each with its remedy in the message."""

from __future__ import annotations

from stream_vlm.types import StreamError


class ModelFault(StreamError):
    """The model gave something that cannot be used, for example logits that are not numbers."""


class QuestionTooLong(StreamError):
    """A question that does not fit into the context beside the picture; the message says how long
    it is and may be.
    """


def not_finite(camera: str) -> ModelFault:
    """The fault of logits that are not numbers; who finds it clears the stream of `camera`."""
    return ModelFault(
        f"{camera}: the model's logits are not finite; its context is cleared (try model.dtype"
        " float32)"
    )
