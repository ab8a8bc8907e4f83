"""What the streams of one loaded checkpoint share: weights, texts, vision tower and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache, partial

from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.newest_pictures import NewestPictures
from stream_vlm.backbone.tokens.detokenizer import WordStream, without_control
from stream_vlm.backbone.tokens.spoken_words import spoken_words
from stream_vlm.backbone.tokens.turn_tokens import TurnTokens, read_turn_tokens
from stream_vlm.config.settings import Settings
from stream_vlm.context.turn_formats import TurnFormat, TurnWriter
from stream_vlm.context.turn_settings import as_set
from stream_vlm.unicode_text import check_text
from stream_vlm.vision.prefetch import VisionPrefetcher
from stream_vlm.vision.tower import TorchVisionTower

CACHED_TEXTS = 1000
"""Texts of turns whose token ids are kept, the last used ones."""


@dataclass(frozen=True)
class EngineParts:
    """A loaded checkpoint with everything that its streams share.

    Attributes:
        checkpoint: weights, tokenizer and stream configuration.
        settings: all settings of the program; some change while streams run.
        tower: turns pictures into vision tokens.
        turns: the format of the checkpoint's turns.
        writer: writes turns in the checkpoint's format.
        tokens: token ids of the fixed parts of a turn.
        prefetcher: encodes the pictures of the next step while words are decoded; None on a CPU,
            where this saves no time.
        newest_pictures: vision tokens of the newest picture of each camera, for texts about it.
    """

    checkpoint: Checkpoint
    settings: Settings
    tower: TorchVisionTower
    turns: TurnFormat
    writer: TurnWriter
    tokens: TurnTokens
    prefetcher: VisionPrefetcher | None
    newest_pictures: NewestPictures = field(default_factory=NewestPictures)

    @property
    def model_id(self) -> str:
        """Name and digest of the checkpoint."""
        return self.checkpoint.model_id

    @property
    def device(self) -> str:
        """Where the model runs, for example "cpu" or "cuda:0"."""
        return str(self.checkpoint.model.device)

    @property
    def max_positions(self) -> int:
        """The longest context that the model was trained for, in positions."""
        return int(self.checkpoint.model.config.text_config.max_position_embeddings)

    @property
    def has_static_shapes(self) -> bool:
        """Whether forward passes of frequent sizes run with fixed shapes.

        CUDA cannot capture a model on several devices, nor int8 weights, whose matrix products
        search for outliers, nor experts, whose tokens are counted at every pass. With
        `model.static_shapes` "auto", quantized models run without fixed shapes.
        """
        choice, quantized = self.settings.model.static_shapes, self.checkpoint.quantized
        model = self.checkpoint.model
        can_capture = (
            len(set(getattr(model, "hf_device_map", {}).values())) <= 1
            and quantized != "int8"
            and not hasattr(model.config.get_text_config(), "num_experts_per_tok")
        )
        return can_capture and (
            choice == "on" or (choice == "auto" and not quantized and model.device.type == "cuda")
        )

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of `text`; special tokens in it become their ids, and none are added.

        Raises:
            TextRefused: `text` has half a character, which no tokenizer takes.
        """
        return _encode(self.checkpoint, text)

    def plain(self, text: str) -> str:
        """A user's `text` without the control tokens of this tokenizer."""
        return without_control(self.checkpoint.tokenizer, text)

    def words(self) -> WordStream:
        """A new decoder from token ids to whole words."""
        if self.turns.instruct:
            return WordStream(self.checkpoint.tokenizer, spoken_words)
        return WordStream(self.checkpoint.tokenizer)


def make_engine_parts(checkpoint: Checkpoint, settings: Settings) -> EngineParts:
    """Make the parts of a loaded checkpoint.

    Raises:
        CheckpointError: the tokenizer cannot express the states.
        SettingError: the settings do not fit the turn format.
    """
    tower = TorchVisionTower(checkpoint.model.model.visual, checkpoint.pictures)
    # The markers of a silent turn are the same at every tick: they are encoded once.
    encode = lru_cache(maxsize=CACHED_TEXTS)(partial(_encode, checkpoint))
    turns = as_set(checkpoint.stream.turns, settings.model, checkpoint.model_id)
    writer = TurnWriter(turns, encode, checkpoint.model.config.image_token_id)
    device = checkpoint.model.device
    return EngineParts(
        checkpoint,
        settings,
        tower,
        turns,
        writer,
        read_turn_tokens(checkpoint.tokenizer, writer, checkpoint.model_id),
        VisionPrefetcher(tower, device) if device.type == "cuda" else None,
    )


def _encode(checkpoint: Checkpoint, text: str) -> tuple[int, ...]:
    if not text:
        return ()
    check_text(text, "the text")
    return tuple(checkpoint.tokenizer.encode(text, add_special_tokens=False))
