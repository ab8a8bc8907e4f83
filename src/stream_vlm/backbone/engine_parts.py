"""What the streams of one loaded checkpoint share: weights, texts, vision tower and settings."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vlm.backbone.checkpoint.loader import Checkpoint
from stream_vlm.backbone.tokens.detokenizer import WordStream, without_control
from stream_vlm.backbone.tokens.turn_tokens import TurnTokens, read_turn_tokens
from stream_vlm.config.settings import Settings
from stream_vlm.context.turn_formats import TurnFormat, TurnWriter
from stream_vlm.vision.prefetch import EncodedAhead
from stream_vlm.vision.tower import TorchVisionTower


@dataclass(frozen=True)
class EngineParts:
    """A checkpoint made ready for streams; streams and steps take this and never the model.

    Attributes:
        checkpoint: weights, tokenizer and stream configuration.
        settings: the settings of the whole program; some change while streams run.
        tower: turns pictures into vision tokens.
        writer: writes turns in the checkpoint's format.
        tokens: token ids of the fixed parts of a turn.
        ahead: encodes the pictures of the next step while words are decoded; None on a CPU, where
            it would only change the order of the same work.
    """

    checkpoint: Checkpoint
    settings: Settings
    tower: TorchVisionTower
    writer: TurnWriter
    tokens: TurnTokens
    ahead: EncodedAhead | None

    @property
    def turns(self) -> TurnFormat:
        """The format of the checkpoint's turns."""
        return self.checkpoint.stream.turns

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
        """Number of positions that the model was trained to tell apart."""
        return int(self.checkpoint.model.config.text_config.max_position_embeddings)

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

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of `text`, special tokens written out in it included, none added."""
        return _encode(self.checkpoint, text)

    def plain(self, text: str) -> str:
        """A user's `text` without anything that this tokenizer would read as a control token."""
        return without_control(self.checkpoint.tokenizer, text)

    def words(self) -> WordStream:
        """A new decoder from token ids to whole words."""
        return WordStream(self.checkpoint.tokenizer)


def make_engine_parts(checkpoint: Checkpoint, settings: Settings) -> EngineParts:
    """The parts that `checkpoint` gives.

    Raises:
        CheckpointError: its tokenizer cannot express the states.
    """
    tower = TorchVisionTower(checkpoint.model.model.visual, checkpoint.pictures)
    writer = TurnWriter(
        checkpoint.stream.turns,
        lambda text: _encode(checkpoint, text),
        checkpoint.model.config.image_token_id,
    )
    device = checkpoint.model.device
    return EngineParts(
        checkpoint,
        settings,
        tower,
        writer,
        read_turn_tokens(checkpoint.tokenizer, writer, checkpoint.model_id),
        EncodedAhead(tower, device) if device.type == "cuda" else None,
    )


def _encode(checkpoint: Checkpoint, text: str) -> tuple[int, ...]:
    return tuple(checkpoint.tokenizer.encode(text, add_special_tokens=False)) if text else ()
