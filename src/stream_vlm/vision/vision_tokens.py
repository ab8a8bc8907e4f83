"""The output of a vision tower for one or several pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class VisionTokens:
    """Merged vision tokens of one picture, or of several pictures in a row.

    Attributes:
        tokens: (tokens, hidden), embeddings that replace the picture's placeholder tokens.
        deepstack: one tensor (tokens, hidden) for each of the first layers of the language model;
            it is added to the layer's output at these tokens (Qwen3-VL). Empty for towers without
            such features.
    """

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def pooled(self) -> torch.Tensor:
        """The picture as one vector: the mean of its tokens, scaled to length 1.

        Returns:
            float32, (hidden,), on the device of the tokens.
        """
        return functional.normalize(self.tokens.mean(0, dtype=torch.float32), dim=0)

    @staticmethod
    def joined(pictures: Sequence[VisionTokens]) -> VisionTokens:
        """Concatenate the tokens of several pictures."""
        levels = zip(*(picture.deepstack for picture in pictures), strict=True)
        return VisionTokens(
            torch.cat([picture.tokens for picture in pictures]),
            tuple(torch.cat(level) for level in levels),
        )
