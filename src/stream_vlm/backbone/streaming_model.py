"""A loaded model that any number of cameras share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.files import ForeignArchitecture
from stream_vlm.backbone.checkpoint.loader import Checkpoint, load_checkpoint
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.engine_parts import make_engine_parts
from stream_vlm.backbone.foreign.cache_probe import why_not_kept
from stream_vlm.backbone.foreign.chat_pieces import CannotSplit, split_chat
from stream_vlm.backbone.foreign.kept_model import KeepingModel
from stream_vlm.backbone.foreign.loader import load_foreign
from stream_vlm.backbone.recompute.model import RecomputingModel
from stream_vlm.backbone.streaming.background_text import ChatTextWriter
from stream_vlm.backbone.streaming.batched_step import BatchedStep
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.streaming.context_budget import check_smallest_context
from stream_vlm.backbone.streaming.picture_text import ChatPictureWriter
from stream_vlm.backbone.tokens.detokenizer import unknown_words
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import Outcome, Turn, Upcoming
from stream_vlm.types import StreamError


class StreamingModel:
    """A loaded checkpoint with a KV cache; each camera gets a stream with its own cache.

    Attributes:
        parts: what all streams share.
        seconds: wall time of the last step by stage, seconds.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        """Take over the loaded `checkpoint`.

        Raises:
            CheckpointError: the tokenizer of `checkpoint` cannot express the states.
            ContextTooLong: not even two turns fit into the positions of the model.
        """
        if settings.model.threads:
            torch.set_num_threads(settings.model.threads)
        settings.stream.take_own_rate(checkpoint.stream.rate_hz)
        self.parts = make_engine_parts(checkpoint, settings)
        check_smallest_context(self.parts)
        self.seconds: Mapping[str, float] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The loaded checkpoint."""
        return self.parts.checkpoint

    @property
    def settings(self) -> Settings:
        """All settings of the program."""
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
        """Whether smaller pictures cost less; False for a model with one fixed picture size."""
        return self.checkpoint.pictures.fixed_size is None

    @property
    def reads_memory(self) -> bool:
        """Whether the turn format has a place for what the memory found."""
        return bool(self.parts.turns.recalled)

    @property
    def judges_instructions(self) -> bool:
        """Whether it is an instruct model; see `model_protocol.JudgesInstructions`."""
        return self.parts.turns.instruct

    @property
    def follows_watches(self) -> bool:
        """Whether the turn format has a place for a watch."""
        return bool(self.parts.turns.watch)

    @property
    def rate_hz(self) -> float:
        """Ticks a second in training; see `model_protocol.KnowsItsRate`."""
        return self.checkpoint.stream.rate_hz

    @property
    def activity_threshold(self) -> float:
        """The value in `stream_config.json`; see `model_protocol.Model.activity_threshold`."""
        return self.checkpoint.stream.activity_threshold

    @property
    def engine(self) -> str:
        """A description of the model and its context, for people."""
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
        """Run one step of several streams; see `model_protocol.Model.step`."""
        step = BatchedStep(self.parts, turns, upcoming)
        outcomes = step.run()
        self.seconds = step.seconds
        return outcomes

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vector of a picture that belongs to no stream.

        It can be compared with `Outcome.picture_vector`. If the model pairs frames, the picture
        fills the whole temporal patch, so it shows no motion.

        Args:
            image: uint8 RGB, (H, W, 3).

        Returns:
            float32, (hidden,), length 1.

        Raises:
            PictureError: the picture cannot be processed.
        """
        pictures = self.checkpoint.pictures
        still = np.stack([pictures.resize(image)] * pictures.temporal_patch_size)
        return self.parts.tower.encode(still[None])[0].pooled().cpu().numpy()

    def text_writer(self, task: str, most_read: int, most_written: int) -> ChatTextWriter:
        """A writer for one instruction; see `model_protocol.WritesTexts.text_writer`.

        Raises:
            CheckpointError: the checkpoint is not a chat model, or its context is too short.
        """
        return ChatTextWriter(self.parts, task, most_read, most_written)

    def picture_writer(self, task: str, most_written: int) -> ChatPictureWriter:
        """A writer of texts about pictures; see `model_protocol.DescribesPictures`.

        Raises:
            CheckpointError: the checkpoint is not a chat model.
        """
        return ChatPictureWriter(self.parts, task, most_written)

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that the tokenizer has no token for."""
        return unknown_words(self.checkpoint.tokenizer, text)


def load_cached_model(settings: Settings) -> StreamingModel:
    """Load the checkpoint that `settings.model` names, with a KV cache.

    Raises:
        ForeignArchitecture: its architecture cannot run with the slot cache.
        CheckpointError: it is missing, incomplete or damaged, or its tokenizer cannot express the
            states.
    """
    return StreamingModel(load_checkpoint(settings.model, settings.vision.max_tokens), settings)


def load_foreign_model(settings: Settings) -> KeepingModel | RecomputingModel:
    """Load a checkpoint of another architecture.

    Its own cache is kept between ticks if a probe shows that this changes nothing; else, or if the
    settings ask for it, the newest pictures are recomputed at every tick.

    Raises:
        CheckpointError: `context.policy` needs the slot cache; or see
            `foreign.loader.load_foreign`.
    """
    policy = settings.context.policy
    if policy not in ("auto", "chunked", "last_frames"):
        raise CheckpointError(
            f"context.policy {policy!r}: not possible with the architecture of model.directory"
            f" {settings.model.directory}, whose cache only grows; set it to auto, chunked or"
            " last_frames"
        )
    checkpoint = load_foreign(settings.model)
    if settings.context.recompute or policy == "last_frames":
        return RecomputingModel(checkpoint, settings)
    try:
        pieces = split_chat(checkpoint.processor, checkpoint.system)
    except CannotSplit as error:
        return RecomputingModel(checkpoint, settings, str(error))
    reason = why_not_kept(checkpoint, pieces)
    if reason:
        return RecomputingModel(checkpoint, settings, reason)
    return KeepingModel(checkpoint, settings, pieces)


def load_model(settings: Settings) -> StreamingModel | KeepingModel | RecomputingModel:
    """Load the checkpoint that `settings.model` names.

    It runs with the slot cache if its architecture can, else as `load_foreign_model` says.

    Raises:
        CheckpointError: it is missing, incomplete or damaged, its architecture cannot be used, or
            its tokenizer cannot express the states.
    """
    try:
        return load_cached_model(settings)
    except ForeignArchitecture:
        return load_foreign_model(settings)
