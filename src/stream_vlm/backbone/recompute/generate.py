"""Lets `generate` of transformers take the tokens that a reply chooses."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from stream_vlm.backbone.foreign.reply import Reply


class ReplyLogits(LogitsProcessor):
    """Makes `generate` of transformers take the tokens that a `Reply` chooses."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        """Return scores (1, vocabulary) that are -inf except for the chosen token."""
        token = self._reply.choose(scores[0].float())
        chosen = torch.full_like(scores, -torch.inf)
        chosen[0, token] = 0.0
        return chosen


class ReplyEnd(StoppingCriteria):
    """Ends `generate` of transformers when a `Reply` is complete."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> Any:
        """Whether each row is complete; there is one row."""
        return torch.full((input_ids.shape[0],), self._reply.is_over, device=input_ids.device)
