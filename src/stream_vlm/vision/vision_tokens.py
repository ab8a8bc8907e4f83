"""What a vision tower makes of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class VisionTokens:
    """Merged vision tokens of one picture, or of several one after another.

    Attributes:
        tokens: (tokens, hidden), what stands in the place of the picture's placeholders.
        deepstack: for each of the language model's first layers, (tokens, hidden) that is added to
            its outcome at the same places (Qwen3-VL); empty for towers without such features.
    """

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def pooled(self) -> torch.Tensor:
        """One vector for what the picture looks like: the mean of its tokens with length 1,
        float32, (hidden,), where the tokens are.
        """
        return functional.normalize(self.tokens.mean(0, dtype=torch.float32), dim=0)

    @staticmethod
    def joined(pictures: Sequence[VisionTokens]) -> VisionTokens:
        """Several pictures' tokens one after another."""
        levels = zip(*(picture.deepstack for picture in pictures), strict=True)
        return VisionTokens(
            torch.cat([picture.tokens for picture in pictures]),
            tuple(torch.cat(level) for level in levels),
        )
