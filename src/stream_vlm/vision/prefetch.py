"""Encodes the next pictures on the GPU while the words of the current step are decoded.

Decoding leaves most of a GPU idle, because a forward pass for one token waits for memory. On CUDA
the vision tower therefore encodes the next picture on a second CUDA stream, started from the same
thread.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.vision.tower import TorchVisionTower, VisionTokens


@dataclass(frozen=True)
class _Encoded:
    pictures: NDArray[np.uint8]
    tokens: VisionTokens
    done: Any


class VisionPrefetcher:
    """Vision tokens of pictures of the next step, by key."""

    def __init__(self, tower: TorchVisionTower, device: torch.device) -> None:
        self._tower = tower
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._kept: dict[Hashable, _Encoded] = {}

    def encode(self, key: Hashable, pictures: NDArray[np.uint8]) -> None:
        """Start to encode one temporal patch and keep its tokens under `key`.

        Args:
            key: the key to take the tokens by.
            pictures: uint8 RGB, (T, H, W, 3).
        """
        if self._side is None:
            self._kept[key] = _Encoded(pictures, self._tower.encode(pictures[None])[0], None)
            return
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            tokens = self._tower.encode(pictures[None])[0]
            self._kept[key] = _Encoded(pictures, tokens, self._side.record_event())

    def take(self, key: Hashable, pictures: NDArray[np.uint8]) -> VisionTokens | None:
        """Remove and return the tokens kept under `key`.

        Returns:
            The tokens, or None if there are none or if they were made from other pictures than
            `pictures`.
        """
        kept = self._kept.pop(key, None)
        if kept is None or not np.array_equal(kept.pictures, pictures):
            return None
        if kept.done is not None:
            main = torch.cuda.current_stream()
            main.wait_event(kept.done)
            for tensor in (kept.tokens.tokens, *kept.tokens.deepstack):
                tensor.record_stream(main)
        return kept.tokens

    def forget(self) -> None:
        """Drop all tokens that were not taken."""
        self._kept.clear()
