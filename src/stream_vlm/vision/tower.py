"""The torch vision tower of a loaded checkpoint: pictures in, merged vision tokens out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stream_vlm.vision.pixels import PictureFormat


class TorchVisionTower:
    """Runs a Qwen vision tower on picture pairs."""

    def __init__(self, tower: nn.Module, picture_format: PictureFormat) -> None:
        self.tower = tower
        self.format = picture_format

    def encode(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Encode resized pictures.

        Args:
            pictures: uint8 RGB (N, T, H, W, 3) with T = temporal_patch_size and sizes as `PictureFormat.target_size` gives them.

        Returns:
            (N, rows * columns, hidden) in the tower's dtype, on its device.
        """
        parameter = next(self.tower.parameters())
        number, _, height, width, _ = pictures.shape
        patches = self.format.patches(pictures).to(device=parameter.device, dtype=parameter.dtype)
        grid = torch.tensor([[1, height // self.format.patch_size, width // self.format.patch_size]] * number, device=parameter.device)
        tokens: torch.Tensor = self.tower(patches, grid_thw=grid).pooler_output
        return tokens.view(number, -1, tokens.shape[-1])
