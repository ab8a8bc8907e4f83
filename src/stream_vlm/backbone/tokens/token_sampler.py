"""Chooses the next token: the most likely one, or a random one as the settings say."""

from __future__ import annotations

from typing import cast

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stream_vlm.config.model_settings import SamplingSettings


class TokenSampler:
    """Chooses tokens for one stream.

    At temperature 0, the default of most formats, it takes the most likely token. Otherwise it
    draws from a generator that is seeded once, so the same stream always gives the same words.
    """

    def __init__(self, settings: SamplingSettings) -> None:
        settings = settings.or_published()
        self._greedy = settings.temperature == 0.0
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._processors = LogitsProcessorList()
        if settings.repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
        if not self._greedy:
            self._processors.append(TemperatureLogitsWarper(settings.temperature))
            if settings.top_k:
                self._processors.append(TopKLogitsWarper(settings.top_k))
            if settings.top_p < 1.0:
                self._processors.append(TopPLogitsWarper(settings.top_p))

    def pick(self, logits: torch.Tensor, written: list[int]) -> int:
        """Choose the next token.

        Args:
            logits: float32, (vocabulary,).
            written: ids of the utterance so far.
        """
        if self._processors:
            ids = torch.tensor([written], device=logits.device).long()
            logits = self._processors(
                cast(torch.LongTensor, ids), cast(torch.FloatTensor, logits[None])
            )[0]
        if self._greedy:
            return int(logits.argmax())
        return int(
            torch.multinomial(torch.softmax(logits, dim=0).cpu(), 1, generator=self._generator)
        )
