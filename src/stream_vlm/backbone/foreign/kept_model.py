"""A model of another architecture whose own cache is kept between ticks."""

from __future__ import annotations

from stream_vlm.backbone.foreign.chat_pieces import ChatPieces
from stream_vlm.backbone.foreign.kept_stream import CHUNK_TURNS, KeptStream
from stream_vlm.backbone.foreign.loader import ForeignCheckpoint
from stream_vlm.backbone.foreign.model import ForeignModel, log
from stream_vlm.backbone.foreign.turn_texts import TurnTexts
from stream_vlm.backbone.tokens.token_sampler import TokenSampler
from stream_vlm.config.settings import Settings


class KeepingModel(ForeignModel):
    """A checkpoint that streams: every tick appends its picture to the model's own cache."""

    def __init__(
        self, checkpoint: ForeignCheckpoint, settings: Settings, pieces: ChatPieces
    ) -> None:
        """Take over the loaded `checkpoint`.

        Args:
            checkpoint: a checkpoint whose cache can be kept (`cache_probe.why_not_kept`).
            settings: all settings of the program.
            pieces: the texts of its chat template.
        """
        super().__init__(checkpoint, settings)
        self._pieces = pieces
        log.info("%s: %s", self.model_id, self.engine)

    @property
    def engine(self) -> str:
        """A description of the model and its context, for people."""
        architecture = self.checkpoint.model.config.model_type
        return f"{architecture}: context kept in its own cache between ticks"

    def open_stream(self, camera: str) -> KeptStream:
        """A new stream for `camera`, with an empty context."""
        settings = self.settings
        return KeptStream(
            camera,
            TurnTexts(self.checkpoint, camera, settings.context.memory_tokens),
            self._pieces,
            TokenSampler(settings.sampling),
            lambda: settings.decision.max_new_tokens,
            self._chunk_turns,
            settings.context.frames,
        )

    def _chunk_turns(self) -> int:
        seconds = self.settings.context.max_seconds
        return (
            max(2, round(seconds * self.settings.stream.tick_rate_hz))
            if seconds > 0
            else CHUNK_TURNS
        )
