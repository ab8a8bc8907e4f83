"""From camera pictures to the patches a Qwen vision tower eats."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.types import StreamError

MARK_STRENGTH = 4.0
"""Amplitude of place marks, in standard deviations of a picture's values."""


class PictureError(StreamError):
    """A picture the model cannot look at; the message names its size and the remedy."""


@dataclass(frozen=True)
class PictureFormat:
    """How a checkpoint wants its pictures.

    Attributes:
        patch_size, merge_size, temporal_patch_size: of the vision tower, pixels and patches.
        mean, std: of the three channels, for values in 0..1.
        fixed_size: (height, width) in pixels that every picture is stretched to, or None to keep
            proportions within the pixel budget.
        min_pixels, max_pixels: budget of a picture when `fixed_size` is None.
        pair_frames: True puts the previous and the current picture into one temporal patch, which
            shows motion; False repeats the current one.
        place_marks: True writes each patch's row and column over its first pixel; see
            `mark_places`.
    """

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fixed_size: tuple[int, int] | None = None
    min_pixels: int = 3_136
    max_pixels: int = 100_352
    pair_frames: bool = False
    place_marks: bool = False

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels, whole numbers of merged patches, that a picture is resized to.

        Raises:
            PictureError: a side is zero, or the picture is more than 200 times longer than wide.
        """
        if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
            raise PictureError(
                f"a picture of {width} x {height} pixels cannot be looked at; sides must be above 0"
                " and within 1:200"
            )
        if self.fixed_size is not None:
            return self.fixed_size
        unit = self.patch_size * self.merge_size
        rows, columns = max(1, round(height / unit)), max(1, round(width / unit))
        pixels = rows * columns * unit * unit
        if pixels > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows, columns = (
                max(1, math.floor(height / shrink / unit)),
                max(1, math.floor(width / shrink / unit)),
            )
        elif pixels < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = math.ceil(height * grow / unit), math.ceil(width * grow / unit)
        return rows * unit, columns * unit

    def limited(self, share: float) -> PictureFormat:
        """The same with `share` of its pixel budget; a format of one fixed size stays as it is."""
        return (
            self
            if share >= 1.0 or self.fixed_size
            else replace(self, max_pixels=max(self.min_pixels, int(self.max_pixels * share)))
        )

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize uint8 RGB (H, W, 3) to `target_size`; shrinking averages, so that thin things do
        not flicker.
        """
        height, width = self.target_size(image.shape[0], image.shape[1])
        if image.shape[:2] == (height, width):
            return image
        shrinks = height * width < image.shape[0] * image.shape[1]
        resized = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        return np.asarray(resized, dtype=np.uint8)

    def patches(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Cut pictures into flattened patches in the order Qwen's towers expect.

        Args:
            pictures: uint8 RGB (N, T, H, W, 3), T = `temporal_patch_size`, H and W as `target_size`
                gives them.

        Returns:
            float32 (N * patches a picture, 3 * T * patch * patch), normalised.
        """
        number, times, height, width, _ = pictures.shape
        patch, merge = self.patch_size, self.merge_size
        rows, columns = height // patch, width // patch
        values = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 1, 4, 2, 3).float()
        mean = torch.tensor(self.mean).view(1, 1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std).view(1, 1, 3, 1, 1) * 255.0
        values = (values - mean) / std
        values = values.view(
            number, times, 3, rows // merge, merge, patch, columns // merge, merge, patch
        )
        patches = values.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * times * patch * patch)
        if self.place_marks:
            self.mark_places(patches.view(number, rows * columns, -1), rows, columns)
        return patches

    def mark_places(self, patches: torch.Tensor, rows: int, columns: int) -> None:
        """Write where each patch lies over its first pixel, in place; `patches` (N, rows * columns,
        3 * T * patch * patch).

        A tower whose positions are rotary knows only how far patches are apart, and nothing of the
        picture's borders. The marks tell it left from right without a change to its architecture,
        for the price of one pixel in `patch_size` squared.
        """
        merge, channels = self.merge_size, 3 * self.temporal_patch_size
        down = (torch.arange(rows) + 0.5) / rows
        right = (torch.arange(columns) + 0.5) / columns
        waves = []
        for turns in range(1, channels // 2 + 2):
            waves += [
                torch.cos(turns * torch.pi * right).expand(rows, columns),
                torch.cos(turns * torch.pi * down)[:, None].expand(rows, columns),
            ]
        marks = MARK_STRENGTH * torch.stack(waves[:channels], dim=-1)
        marks = (
            marks.view(rows // merge, merge, columns // merge, merge, channels)
            .transpose(1, 2)
            .reshape(rows * columns, channels)
        )
        patches.view(len(patches), rows * columns, channels, -1)[..., 0] = marks.to(patches)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of merged vision tokens for a resized picture."""
        unit = self.patch_size * self.merge_size
        return height // unit, width // unit
