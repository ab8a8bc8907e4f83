"""What every model of another architecture offers to the loop, however it keeps its context."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from stream_vlm.backbone.checkpoint.errors import ModelFault, not_finite
from stream_vlm.backbone.foreign.loader import ForeignCheckpoint
from stream_vlm.backbone.tokens.state_decision import NotFinite
from stream_vlm.backbone.untuned_model import UntunedModel
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import Outcome, Turn, Upcoming, one_by_one
from stream_vlm.types import StreamError

log = logging.getLogger(__name__)


class ForeignStream(Protocol):
    """The context of one camera."""

    @property
    def camera(self) -> str:
        """Name of the camera."""
        ...

    def reset(self) -> None:
        """Clear the context."""
        ...

    def prepare(self) -> None:
        """See `model_protocol.ModelStream.prepare`."""
        ...

    def take(self, turn: Turn, seconds: dict[str, float]) -> Outcome:
        """Read the picture of a turn, and answer and judge what the turn asks.

        Args:
            turn: the turn.
            seconds: wall time by stage, in seconds; the time of this turn is added.

        Raises:
            StreamError: the turn cannot be taken; the stream is unchanged.
            NotFinite: the logits are not finite.
        """
        ...


class ForeignModel(UntunedModel):
    """A loaded image-text-to-text checkpoint of any architecture that transformers knows.

    Attributes:
        settings: all settings of the program.
        checkpoint: the loaded checkpoint.
        seconds: wall time of the last step by stage, seconds.
    """

    def __init__(self, checkpoint: ForeignCheckpoint, settings: Settings) -> None:
        """Take over the loaded `checkpoint`."""
        if settings.model.threads:
            torch.set_num_threads(settings.model.threads)
        self.settings = settings
        self.checkpoint = checkpoint
        settings.stream.take_own_rate(self.rate_hz)
        self.seconds: Mapping[str, float] = {}

    @property
    def model_id(self) -> str:
        """Name and digest of the checkpoint."""
        return self.checkpoint.model_id

    @property
    def device(self) -> str:
        """Where it runs, for example "cpu" or "cuda:0"."""
        return str(self.checkpoint.model.device)

    @property
    def takes_any_size(self) -> bool:
        """Whether smaller pictures cost less; False for a model with one fixed picture size."""
        return self.checkpoint.follows_picture_size

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that the tokenizer has no token for."""
        return self.checkpoint.writer.unknown_words(text)

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Run one step of several streams, one after the other; see `model_protocol.Model.step`.

        `upcoming` is never called.
        """
        seconds: dict[str, float] = {}
        outcomes = one_by_one(turns, lambda turn: self._take(turn, seconds))
        self.seconds = seconds
        return outcomes

    def _take(self, turn: Turn, seconds: dict[str, float]) -> Outcome:
        """Take one turn; a fault of the model clears the context of its camera.

        Raises:
            StreamError: the turn cannot be taken.
        """
        stream: ForeignStream = turn.stream  # type: ignore[assignment]  # opened by this model
        try:
            return stream.take(turn, seconds)
        except NotFinite as error:
            stream.reset()
            raise not_finite(stream.camera) from error
        except torch.OutOfMemoryError as error:
            stream.reset()
            torch.cuda.empty_cache()
            raise ModelFault(
                f"{stream.camera}: the {self.device} device is out of memory and the context is"
                " cleared; lower context.frames or context.max_seconds, watch fewer cameras, or use"
                " a smaller model"
            ) from error
