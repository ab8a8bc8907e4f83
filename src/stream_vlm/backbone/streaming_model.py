"""A loaded model that any number of cameras share, and how its texts become token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.backbone.checkpoint.files import ForeignArchitecture
from stream_vlm.backbone.checkpoint.loader import Checkpoint, load_checkpoint
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.backbone.recompute.model import RecomputingModel
from stream_vlm.backbone.streaming.background_text import ChatTextWriter
from stream_vlm.backbone.streaming.batched_step import Step
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.backbone.tokens.detokenizer import WordStream, unknown_words, without_control
from stream_vlm.config.settings import Settings
from stream_vlm.context.layout import tokens_in
from stream_vlm.context.turn_formats import TurnWriter
from stream_vlm.model_protocol import Outcome, Turn, Upcoming
from stream_vlm.types import State, StreamError
from stream_vlm.vision.prefetch import EncodedAhead
from stream_vlm.vision.tower import TorchVisionTower


@dataclass(frozen=True)
class TurnTokens:
    """Token ids of the pieces of a turn that never change.

    Attributes:
        head: how many tokens every context begins with.
        markers: by state, the ids that say it; decisions are read from the first of each, which
            differ. A response without an entry begins with its words.
        response_end: ids that say that the words of a response are over, one or none.
        stop: ids that end an utterance.
        picture: the id that stands for one vision token.
    """

    head: int
    markers: dict[State, tuple[int, ...]]
    response_end: tuple[int, ...]
    stop: frozenset[int]
    picture: int

    @property
    def not_a_first_word(self) -> list[int]:
        """Ids that begin another state or end an utterance, so that no response begins with them."""
        return sorted(
            {marker[0] for marker in self.markers.values()} | self.stop | set(self.response_end)
        )


class StreamingModel:
    """A checkpoint made ready to watch: opens one stream with a cache of its own for each camera."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        if settings.model.threads:
            torch.set_num_threads(settings.model.threads)
        self.checkpoint = checkpoint
        self.settings = settings
        self.turns = checkpoint.stream.turns
        self.tower = TorchVisionTower(checkpoint.model.model.visual, checkpoint.pictures)
        self.writer = TurnWriter(
            self.turns, self.encode_text, checkpoint.model.config.image_token_id
        )
        self.tokens = self._turn_tokens()
        device = checkpoint.model.device
        # On a CPU it would only change the order of the same work.
        self.ahead = EncodedAhead(self.tower, device) if device.type == "cuda" else None
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
        """Whether it looks at smaller pictures with less work; False for one fixed picture size."""
        return self.checkpoint.pictures.fixed_size is None

    @property
    def reads_memory(self) -> bool:
        """Whether its turns have a place for what is remembered about a question."""
        return bool(self.turns.remembered)

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

    @property
    def has_static_shapes(self) -> bool:
        """Whether forwards of sizes that come again are run with fixed shapes.

        A model on several devices cannot be recorded, nor int8 weights, whose products look for
        outliers among the numbers; auto leaves all quantized weights alone.
        """
        choice, quantized = self.settings.model.static_shapes, self.checkpoint.quantized
        recordable = (
            len(set(getattr(self.checkpoint.model, "hf_device_map", {}).values())) <= 1
            and quantized != "int8"
        )
        return recordable and (
            choice == "on"
            or (choice == "auto" and not quantized and self.checkpoint.model.device.type == "cuda")
        )

    def open_stream(self, camera: str) -> CachedStream:
        """A new stream for `camera`, with an empty context."""
        return CachedStream(self, camera)

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Take one turn in each of several different streams, in one forward; see
        `model.Model.step`.
        """
        step = Step(self, turns, upcoming)
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
        return self.tower.encode(still[None])[0].pooled().cpu().numpy()

    def text_writer(self, task: str, most_read: int, most_written: int) -> ChatTextWriter:
        """A writer for `task`; see `model.WritesTexts`.

        Raises:
            CheckpointError: the checkpoint is no chat model, or tells too few positions apart.
        """
        return ChatTextWriter(self, task, most_read, most_written)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of `text`, special tokens written out in it included, none added."""
        return (
            tuple(self.checkpoint.tokenizer.encode(text, add_special_tokens=False)) if text else ()
        )

    def plain(self, text: str) -> str:
        """A user's `text` without anything that this tokenizer would read as a control token."""
        return without_control(self.checkpoint.tokenizer, text)

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of `text` that it has no token for."""
        return unknown_words(self.checkpoint.tokenizer, text)

    def words(self) -> WordStream:
        """A fresh decoder from token ids to whole words."""
        return WordStream(self.checkpoint.tokenizer)

    def _turn_tokens(self) -> TurnTokens:
        turns = self.turns
        markers = {
            state: self.encode_text(turns.marker(state)) for state in State if turns.marker(state)
        }
        firsts = [ids[0] for ids in markers.values() if ids]
        unknown = self.checkpoint.tokenizer.unk_token_id
        if len(set(firsts)) < len(markers) or State.SILENCE not in markers or unknown in firsts:
            raise CheckpointError(
                f"{self.model_id}: the state markers {[turns.marker(state) for state in markers]}"
                " do not begin with different tokens of this tokenizer, so states cannot be told"
                " apart; add them as tokens (stream-vlm train --add-markers), name others in"
                " stream_config.json, or set model.prompt_format"
            )
        vocabulary = self.checkpoint.tokenizer.get_vocab()
        stop = frozenset(vocabulary[token] for token in turns.stop if token in vocabulary)
        if not stop:
            raise CheckpointError(
                f"{self.model_id}: none of the stop tokens {turns.stop} is in the tokenizer; name"
                " others in stream_config.json"
            )
        response_end = self.encode_text(turns.response_end)
        if len(response_end) > 1 or unknown in response_end:
            raise CheckpointError(
                f"{self.model_id}: response_end {turns.response_end!r} is not one token of this"
                " tokenizer, so the end of a response could not be told from its words; add it as"
                " a token or name another in stream_config.json"
            )
        return TurnTokens(
            tokens_in(self.writer.head()), markers, response_end, stop, self.writer.picture
        )


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
