"""The torch vision tower of a loaded checkpoint: pictures in, merged vision tokens out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stream_vlm.vision.preprocess import PictureFormat

VISION_ROPE_THETA = 10_000.0
"""Base of the rotary frequencies if the tower's configuration gives none."""


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


class TorchVisionTower:
    """Runs the vision tower of a Qwen2.5-VL or Qwen3-VL model on pictures of one size.

    If every block attends to the whole picture, all pictures run as one batch: a matrix product
    replaces the 3-D convolution over patches, and one attention call takes all pictures. The result
    is the same. A tower with windowed blocks is called through transformers.
    """

    def __init__(self, tower: Any, picture_format: PictureFormat) -> None:
        self.tower = tower
        self.format = picture_format
        # Only Qwen2.5-VL has windowed blocks; it lists the blocks without a window.
        self._attends_to_all = set(
            getattr(tower, "fullatt_block_indexes", range(len(tower.blocks)))
        ) >= set(range(len(tower.blocks)))
        self._deepstack: list[int] = list(getattr(tower, "deepstack_visual_indexes", ()))

    def encode(self, pictures: NDArray[np.uint8]) -> list[VisionTokens]:
        """Encode resized pictures.

        Args:
            pictures: uint8 RGB, (N, T, H, W, 3), with T = `temporal_patch_size`, and H and W from
                `PictureFormat.target_size`.

        Returns:
            For each picture its tokens, (rows * columns, hidden), in the tower's dtype and on its
            device.
        """
        parameter = next(self.tower.parameters())
        patches = self.format.patches(pictures).to(device=parameter.device, dtype=parameter.dtype)
        tokens, levels = self._features(
            patches, pictures.shape[0], pictures.shape[2], pictures.shape[3]
        )
        return [
            VisionTokens(tokens[index], tuple(level[index] for level in levels))
            for index in range(len(tokens))
        ]

    def encode_patches(
        self, patches: torch.Tensor, number: int, height: int, width: int
    ) -> torch.Tensor:
        """Encode the patches of several pictures of one size.

        Args:
            patches: as from `PictureFormat.patches`, on the tower's device and in its dtype.
            number: number of pictures, N.
            height: height of the pictures, pixels.
            width: width of the pictures, pixels.

        Returns:
            (N, rows * columns, hidden), the merged tokens.
        """
        return self._features(patches, number, height, width)[0]

    def _features(
        self, patches: torch.Tensor, number: int, height: int, width: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The merged tokens and each deepstack level, all (N, rows * columns, hidden)."""
        rows, columns = height // self.format.patch_size, width // self.format.patch_size
        if self._attends_to_all:
            return self._encode_batch(patches.view(number, rows * columns, -1), rows, columns)
        grid = torch.tensor([[1, rows, columns]] * number, device=patches.device)
        tokens: torch.Tensor = self.tower(patches, grid_thw=grid).pooler_output
        return tokens.view(number, -1, tokens.shape[-1]), []

    def _encode_batch(
        self, patches: torch.Tensor, rows: int, columns: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Like `_features`, from `patches` of shape (N, rows * columns, values)."""
        tower = self.tower
        convolution = tower.patch_embed.proj
        hidden = functional.linear(patches, convolution.weight.flatten(1), convolution.bias)
        if hasattr(tower, "pos_embed"):
            hidden = hidden + self._learned_places(rows, columns).to(hidden)
        cosines, sines = self._rotation(rows, columns, hidden.device)
        levels: list[torch.Tensor] = []
        for index, block in enumerate(tower.blocks):
            hidden = hidden + self._attend(block.attn, block.norm1(hidden), cosines, sines)
            hidden = hidden + block.mlp(block.norm2(hidden))
            if index in self._deepstack:
                levels.append(
                    self._of_pictures(
                        tower.deepstack_merger_list[len(levels)](hidden), len(patches)
                    )
                )
        return self._of_pictures(tower.merger(hidden), len(patches)), levels

    @staticmethod
    def _of_pictures(tokens: torch.Tensor, number: int) -> torch.Tensor:
        return tokens.view(number, -1, tokens.shape[-1])

    def _learned_places(self, rows: int, columns: int) -> torch.Tensor:
        """Qwen3-VL's learned position embeddings, interpolated to the picture's rows and columns.

        Returns:
            float32, (patches, hidden), in the order of `PictureFormat.patches`.
        """
        table = self.tower.pos_embed.weight.float()
        side = math.isqrt(len(table))
        square = table.view(1, side, side, -1).permute(0, 3, 1, 2)
        stretched = functional.interpolate(
            square, size=(rows, columns), mode="bilinear", align_corners=True
        )
        return self._in_patch_order(stretched[0].permute(1, 2, 0))

    def _in_patch_order(self, places: torch.Tensor) -> torch.Tensor:
        """Reorder `places`, (rows, columns, values), into the order of `PictureFormat.patches`.

        Returns:
            (patches, values).
        """
        merge = self.format.merge_size
        rows, columns, values = places.shape
        return (
            places.view(rows // merge, merge, columns // merge, merge, values)
            .transpose(1, 2)
            .reshape(-1, values)
        )

    def _attend(
        self, attention: Any, hidden: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        number, length, width = hidden.shape
        query, key, value = (
            attention.qkv(hidden)
            .view(number, length, 3, attention.num_heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        query, key = (_rotate(states, cosines, sines).to(value.dtype) for states in (query, key))
        attended = self.mixed(query, key, value)
        projected: torch.Tensor = attention.proj(
            attended.transpose(1, 2).reshape(number, length, width)
        )
        return projected

    def mixed(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Scaled dot-product attention; all tensors are (N, heads, patches, head_dim).

        Training replaces this method on devices where its gradient is slow.
        """
        return functional.scaled_dot_product_attention(query, key, value)

    def _rotation(
        self, rows: int, columns: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary positions of the patches.

        Returns:
            Two tensors (patches, head_dim), in the order of `PictureFormat.patches`.
        """
        head_dim = self.tower.blocks[0].attn.head_dim
        theta = (getattr(self.tower.config, "rope_parameters", None) or {}).get(
            "rope_theta", VISION_ROPE_THETA
        )
        place = self._in_patch_order(
            torch.stack(
                torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1
            )
        )
        frequencies = 1.0 / theta ** (torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
        angles = (place[..., None].float() * frequencies).flatten(1).repeat(1, 2).to(device)
        return angles.cos(), angles.sin()


def _rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    half = states.shape[-1] // 2
    return states * cosines + torch.cat((-states[..., half:], states[..., :half]), dim=-1) * sines
