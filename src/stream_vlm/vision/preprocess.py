"""From camera pictures to the patches that a Qwen vision tower takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import StreamError

if TYPE_CHECKING:
    import torch

MARK_STRENGTH = 4.0
"""Amplitude of place marks; normalised pictures have a standard deviation of about 1."""


class PictureError(StreamError):
    """A picture that the model cannot process; the message names its size and the remedy."""


@dataclass(frozen=True)
class PictureFormat:
    """The picture format of a checkpoint.

    Attributes:
        patch_size: side of a patch, pixels.
        merge_size: patches on each side of the square that becomes one vision token.
        temporal_patch_size: pictures in one temporal patch.
        mean, std: mean and standard deviation of the three channels, for values in 0..1.
        fixed_size: (height, width) in pixels to which every picture is stretched, or None to keep
            the aspect ratio within the pixel budget.
        min_pixels, max_pixels: pixel budget of a picture if `fixed_size` is None.
        pair_frames: True puts the previous and the current picture into one temporal patch, which
            shows motion; False repeats the current picture.
        place_marks: True encodes the row and column of each patch in its first pixel; see
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
        """The size to which a picture is resized: a whole number of merged patches on each side.

        Args:
            height: height of the picture, pixels.
            width: width of the picture, pixels.

        Returns:
            (height, width) in pixels.

        Raises:
            PictureError: a side is zero, or one side is more than 200 times as long as the other.
        """
        if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
            raise PictureError(
                f"a picture of {width} x {height} pixels cannot be processed; both sides must be"
                " above 0, and their ratio at most 1:200"
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
        """This format with `share` of its pixel budget; a format with a fixed size is unchanged."""
        return (
            self
            if share >= 1.0 or self.fixed_size
            else replace(self, max_pixels=max(self.min_pixels, int(self.max_pixels * share)))
        )

    @property
    def fewest_tokens(self) -> int:
        """Vision tokens of the smallest picture."""
        unit = self.patch_size * self.merge_size
        if self.fixed_size is not None:
            rows, columns = self.grid(*self.fixed_size)
            return rows * columns
        return max(1, math.ceil(self.min_pixels / (unit * unit)))

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize uint8 RGB (H, W, 3) to `target_size`.

        Shrinking averages over areas, so thin objects do not flicker.
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
        """Cut pictures into flattened patches, in the order that Qwen's towers expect.

        Args:
            pictures: uint8 RGB, (N, T, H, W, 3), with T = `temporal_patch_size`, and H and W from
                `target_size`.

        Returns:
            float32, (N * patches in a picture, 3 * T * patch_size * patch_size), normalised.
        """
        # Imported here: a process that only resizes pictures starts without torch.
        import torch

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
        """Overwrite the first pixel of each patch with a code of its row and column, in place.

        With rotary positions a tower knows the distance between patches, but not where the
        picture's borders are. The marks give it the absolute place without a change to its
        architecture. They cost one pixel of each patch.

        Args:
            patches: (N, rows * columns, 3 * T * patch_size * patch_size), as from `patches`.
            rows: rows of patches in a picture.
            columns: columns of patches in a picture.
        """
        import torch

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
        """(rows, columns) of merged vision tokens of a resized picture."""
        unit = self.patch_size * self.merge_size
        return height // unit, width // unit
