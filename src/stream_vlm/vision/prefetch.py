"""Pictures that are known before their turn, encoded beside the words of the turn before.

Decoding words leaves most of a GPU idle: a forward of one token waits for memory. On CUDA the
vision tower's work for the next picture is put on a stream of its own meanwhile, from the same
thread.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.vision.tower import TorchVisionTower
from stream_vlm.vision.vision_tokens import VisionTokens


@dataclass(frozen=True)
class _Encoded:
    pictures: NDArray[np.uint8]
    tokens: VisionTokens
    done: Any


class EncodedAhead:
    """Vision tokens of pictures that are still to come."""

    def __init__(self, tower: TorchVisionTower, device: torch.device) -> None:
        self._tower = tower
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._kept: dict[Hashable, _Encoded] = {}

    def encode(self, key: Hashable, pictures: NDArray[np.uint8]) -> None:
        """Begin to encode one temporal patch, uint8 RGB (T, H, W, 3), and keep the outcome under
        `key`.
        """
        if self._side is None:
            self._kept[key] = _Encoded(pictures, self._tower.encode(pictures[None])[0], None)
            return
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            tokens = self._tower.encode(pictures[None])[0]
            self._kept[key] = _Encoded(pictures, tokens, self._side.record_event())

    def take(self, key: Hashable, pictures: NDArray[np.uint8]) -> VisionTokens | None:
        """The tokens kept under `key`, once; None when there are none, or when they are not of
        exactly these `pictures`.
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
        """Drop what was not taken."""
        self._kept.clear()
