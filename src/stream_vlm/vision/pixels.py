"""From camera pictures to the patches a Qwen vision tower eats."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm.stream import StreamError


class PictureError(StreamError):
    """A picture the model cannot look at; the message names its size and the remedy."""


@dataclass(frozen=True)
class PictureFormat:
    """How a checkpoint wants its pictures.

    Attributes:
        patch_size, merge_size, temporal_patch_size: of the vision tower, pixels and patches.
        mean, std: of the three channels, for values in 0..1.
        fixed_size: (height, width) in pixels that every picture is stretched to, or None to keep proportions within the pixel budget.
        min_pixels, max_pixels: budget of a picture when `fixed_size` is None.
        pair_frames: True puts the previous and the current picture into one temporal patch, which shows motion; False repeats the current one.
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

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels, whole numbers of merged patches, that a picture is resized to.

        Raises:
            PictureError: a side is zero, or the picture is more than 200 times longer than wide.
        """
        if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
            raise PictureError(f"a picture of {width} x {height} pixels cannot be looked at; sides must be above 0 and within 1:200")
        if self.fixed_size is not None:
            return self.fixed_size
        unit = self.patch_size * self.merge_size
        rows, columns = max(1, round(height / unit)), max(1, round(width / unit))
        pixels = rows * columns * unit * unit
        if pixels > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows, columns = max(1, math.floor(height / shrink / unit)), max(1, math.floor(width / shrink / unit))
        elif pixels < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = math.ceil(height * grow / unit), math.ceil(width * grow / unit)
        return rows * unit, columns * unit

    def limited(self, share: float) -> PictureFormat:
        """The same with `share` of its pixel budget; a format of one fixed size stays as it is."""
        return self if share >= 1.0 or self.fixed_size else replace(self, max_pixels=max(self.min_pixels, int(self.max_pixels * share)))

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize uint8 RGB (H, W, 3) to `target_size`; shrinking averages, so that thin things do not flicker."""
        height, width = self.target_size(image.shape[0], image.shape[1])
        if image.shape[:2] == (height, width):
            return image
        shrinks = height * width < image.shape[0] * image.shape[1]
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        return np.asarray(resized, dtype=np.uint8)

    def patches(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Cut pictures into flattened patches in the order Qwen's towers expect.

        Args:
            pictures: uint8 RGB (N, T, H, W, 3), T = `temporal_patch_size`, H and W as `target_size` gives them.

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
        values = values.view(number, times, 3, rows // merge, merge, patch, columns // merge, merge, patch)
        return values.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * times * patch * patch)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of merged vision tokens for a resized picture."""
        unit = self.patch_size * self.merge_size
        return height // unit, width // unit
