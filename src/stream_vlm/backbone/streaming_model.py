"""A loaded model that any number of cameras share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.files import ForeignArchitecture
from stream_vlm.backbone.checkpoint.loader import Checkpoint, load_checkpoint
from stream_vlm.backbone.engine_parts import make_engine_parts
from stream_vlm.backbone.recompute.model import RecomputingModel
from stream_vlm.backbone.streaming.background_text import ChatTextWriter
from stream_vlm.backbone.streaming.batched_step import Step
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.tokens.detokenizer import unknown_words
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import Outcome, Turn, Upcoming
from stream_vlm.types import StreamError


class StreamingModel:
    """A checkpoint made ready to watch; each camera gets a stream with a cache of its own.

    Attributes:
        parts: what its streams share.
        seconds: wall time of the last step by stage.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        """Take over the loaded `checkpoint`.

        Raises:
            CheckpointError: the tokenizer of `checkpoint` cannot express the states.
        """
        if settings.model.threads:
            torch.set_num_threads(settings.model.threads)
        self.parts = make_engine_parts(checkpoint, settings)
        self.seconds: Mapping[str, float] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The loaded checkpoint."""
        return self.parts.checkpoint

    @property
    def settings(self) -> Settings:
        """The settings of the whole program."""
        return self.parts.settings

    @property
    def model_id(self) -> str:
        """Name and digest of the checkpoint."""
        return self.parts.model_id

    @property
    def device(self) -> str:
        """Where it runs, for example "cpu" or "cuda:0"."""
        return self.parts.device

    @property
    def takes_any_size(self) -> bool:
        """Whether it looks at smaller pictures with less work; False for one fixed picture size."""
        return self.checkpoint.pictures.fixed_size is None

    @property
    def reads_memory(self) -> bool:
        """Whether its turns have a place for what is remembered about a question."""
        return bool(self.parts.turns.remembered)

    @property
    def activity_threshold(self) -> float:
        """What its `stream_config.json` says; see `model.Model.activity_threshold`."""
        return self.checkpoint.stream.activity_threshold

    @property
    def engine(self) -> str:
        """How it looks, in words for people."""
        kept = (
            "recomputed every tick (context.recompute)"
            if self.settings.context.recompute
            else "kept in a cache between ticks"
        )
        return f"{self.checkpoint.model.config.model_type}: context {kept}"

    def open_stream(self, camera: str) -> CachedStream:
        """A new stream for `camera`, with an empty context."""
        return CachedStream(self.parts, camera)

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Take one turn in each of several different streams, in one forward; see
        `model.Model.step`.
        """
        step = Step(self.parts, turns, upcoming)
        outcomes = step.run()
        self.seconds = step.seconds
        return outcomes

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a picture that belongs to no stream looks like, comparable with `Outcome.picture_vector`
        hears; `image` uint8 RGB (H, W, 3).

        Where frames are paired, it stands for a moment in which nothing moves.

        Returns:
            float32, (hidden,), length 1.

        Raises:
            PictureError: the picture cannot be looked at.
        """
        pictures = self.checkpoint.pictures
        still = np.stack([pictures.resize(image)] * pictures.temporal_patch_size)
        return self.parts.tower.encode(still[None])[0].pooled().cpu().numpy()

    def text_writer(self, task: str, most_read: int, most_written: int) -> ChatTextWriter:
        """A writer for `task`; see `model.WritesTexts`.

        Raises:
            CheckpointError: the checkpoint is no chat model, or tells too few positions apart.
        """
        return ChatTextWriter(self.parts, task, most_read, most_written)

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that it has no token for."""
        return unknown_words(self.checkpoint.tokenizer, text)


def load_cached_model(settings: Settings) -> StreamingModel:
    """Load a checkpoint that the cached engine knows.

    Raises:
        ForeignArchitecture: it is of another architecture.
        CheckpointError: it is missing, partial, damaged, or its tokenizer cannot express the
            states.
    """
    return StreamingModel(load_checkpoint(settings.model), settings)


def load_model(settings: Settings) -> StreamingModel | RecomputingModel:
    """Load the checkpoint that `settings.model` names: with a cache where its architecture has one
    here, else recomputing its context.

    Raises:
        CheckpointError: it is missing, partial, damaged, of an architecture that cannot watch, or
            its tokenizer cannot express the states.
    """
    try:
        return load_cached_model(settings)
    except ForeignArchitecture:
        return RecomputingModel(settings)
