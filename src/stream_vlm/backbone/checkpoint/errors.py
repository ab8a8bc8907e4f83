"""Errors of a stream; each message contains the remedy."""

from __future__ import annotations

from stream_vlm.types import StreamError


class ModelFault(StreamError):
    """The model's output cannot be used, for example because logits are not finite."""


class QuestionTooLong(StreamError):
    """A question does not fit into the context together with the picture.

    The message says how many tokens are needed and how many fit.
    """


def not_finite(camera: str) -> ModelFault:
    """The error for logits that are not finite; the caller clears the stream of `camera`."""
    return ModelFault(
        f"{camera}: the model's logits are not finite; its context is cleared (try model.dtype"
        " float32)"
    )
