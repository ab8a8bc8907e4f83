"""The torch vision tower of a loaded checkpoint: pictures in, merged vision tokens out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stream_vlm.vision.pixels import PictureFormat
from stream_vlm.vision.tokens import VisionTokens

VISION_ROPE_THETA = 10_000.0


class TorchVisionTower:
    """Runs a Qwen2.5-VL vision tower on picture pairs of one size.

    A tower whose every block attends to the whole picture runs as one batch: patches go through a matrix product rather than a 3-D convolution
    and all pictures through one attention call, with the same outcome. A tower with windowed blocks runs as transformers runs it.
    """

    def __init__(self, tower: Any, picture_format: PictureFormat) -> None:
        self.tower = tower
        self.format = picture_format
        self._attends_to_all = set(tower.fullatt_block_indexes) >= set(range(len(tower.blocks)))

    def encode(self, pictures: NDArray[np.uint8]) -> list[VisionTokens]:
        """Encode resized pictures.

        Args:
            pictures: uint8 RGB (N, T, H, W, 3) with T = temporal_patch_size and sizes as `PictureFormat.target_size` gives them.

        Returns:
            The tokens of each picture, rows * columns of them, in the tower's dtype, on its device.
        """
        parameter = next(self.tower.parameters())
        patches = self.format.patches(pictures).to(device=parameter.device, dtype=parameter.dtype)
        return [VisionTokens(tokens) for tokens in self.encode_patches(patches, pictures.shape[0], pictures.shape[2], pictures.shape[3])]

    def encode_patches(self, patches: torch.Tensor, number: int, height: int, width: int) -> torch.Tensor:
        """Encode the `patches` of `number` pictures of `height` x `width` pixels: (N, rows * columns, hidden)."""
        rows, columns = height // self.format.patch_size, width // self.format.patch_size
        if self._attends_to_all:
            return self._encode_batch(patches.view(number, rows * columns, -1), rows, columns)
        grid = torch.tensor([[1, rows, columns]] * number, device=patches.device)
        tokens: torch.Tensor = self.tower(patches, grid_thw=grid).pooler_output
        return tokens.view(number, -1, tokens.shape[-1])

    def _encode_batch(self, patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """`patches` (N, rows * columns, values) → (N, merged tokens, hidden)."""
        tower = self.tower
        hidden = functional.linear(patches, tower.patch_embed.proj.weight.flatten(1))
        cosines, sines = self._rotation(rows, columns, hidden.device)
        for block in tower.blocks:
            hidden = hidden + self._attend(block.attn, block.norm1(hidden), cosines, sines)
            hidden = hidden + block.mlp(block.norm2(hidden))
        tokens: torch.Tensor = tower.merger(hidden)
        return tokens.view(len(patches), -1, tokens.shape[-1])

    @staticmethod
    def _attend(attention: Any, hidden: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        number, length, width = hidden.shape
        query, key, value = attention.qkv(hidden).view(number, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = (_rotate(states, cosines, sines).to(value.dtype) for states in (query, key))
        attended = functional.scaled_dot_product_attention(query, key, value)
        projected: torch.Tensor = attention.proj(attended.transpose(1, 2).reshape(number, length, width))
        return projected

    def _rotation(self, rows: int, columns: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (patches, head_dim) of the patches' rows and columns, in the order of `PictureFormat.patches`."""
        merge = self.format.merge_size
        head_dim = self.tower.blocks[0].attn.head_dim
        place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
        place = place.view(rows // merge, merge, columns // merge, merge, 2).transpose(1, 2).reshape(-1, 2)
        frequencies = 1.0 / VISION_ROPE_THETA ** (torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
        angles = (place[..., None].float() * frequencies).flatten(1).repeat(1, 2).to(device)
        return angles.cos(), angles.sin()


def _rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    half = states.shape[-1] // 2
    return states * cosines + torch.cat((-states[..., half:], states[..., :half]), dim=-1) * sines
