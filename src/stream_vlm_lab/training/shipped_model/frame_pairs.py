"""Training data of the vision tower: pairs of pictures with dense targets, and augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm_lab.training.shipped_model.picture_format import PICTURE_SIZE, PICTURES
from stream_vlm_lab.training.shipped_model.rendering import COLUMNS, ROWS, RenderedStream

LONGEST_SHIFT, SHIFTED = 5, 0.7
"""Largest shift of a pair of pictures in pixels, and the share of pairs that are shifted."""

PATCH_VALUES = 3 * PICTURES.temporal_patch_size * PICTURES.patch_size**2
PATCH_GRID = tuple(side // PICTURES.patch_size for side in PICTURE_SIZE)
NOISE = torch.randn(1 << 21, generator=torch.Generator().manual_seed(0))


class PairDataset:
    """Previous and current pictures of many streams with their dense targets.

    Pictures are not copied: they stay on disk or in memory, as the streams hold them.
    """

    def __init__(self, streams: Sequence[RenderedStream]) -> None:
        self.frames = [stream.frames for stream in streams]
        self._ends = np.cumsum([len(frames) for frames in self.frames])
        dense = [stream.dense for stream in streams if stream.dense is not None]
        self.classes = np.concatenate([target.classes for target in dense])
        self.names = np.concatenate([target.names for target in dense])
        self.vectors = np.concatenate(
            [np.concatenate([target.motion, target.place], axis=-1) for target in dense]
        )

    def __len__(self) -> int:
        return len(self.classes)

    def pairs(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pictures `indices`, each with the previous picture of its stream before it.

        Args:
            indices: int64 (N,), picture numbers counted over all streams.

        Returns:
            uint8 RGB (N, 2, H, W, 3).
        """
        streams = np.searchsorted(self._ends, indices, side="right")
        ticks = indices - (self._ends[streams] - [len(self.frames[stream]) for stream in streams])
        return np.stack(
            [
                self.frames[stream][[max(0, tick - 1), tick]]
                for stream, tick in zip(streams, ticks, strict=True)
            ]
        )

    def batch(
        self, indices: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Normalised patches of augmented pairs, (batch, patches, values), and their targets."""
        pairs = self.pairs(indices)
        classes, names, vectors = self.classes[indices], self.names[indices], self.vectors[indices]
        flipped = rng.random(len(indices)) < 0.5
        pairs[flipped] = pairs[flipped][:, :, :, ::-1]
        classes, names, vectors = (_flip(cells, flipped) for cells in (classes, names, vectors))
        vectors[flipped] *= np.array([1.0, -1.0, 1.0, -1.0], dtype=np.float32)
        pairs, moved = shift(pairs, rng)
        vectors[..., 2:] += moved[:, None]
        targets = {
            "classes": torch.from_numpy(classes),
            "names": torch.from_numpy(names),
            "vectors": torch.from_numpy(vectors),
        }
        patches = augment(PICTURES.patches(pairs).view(len(indices), -1, PATCH_VALUES), rng)
        if PICTURES.place_marks:
            # Written again, because augmentation must not change the marks.
            PICTURES.mark_places(patches, *PATCH_GRID)
        return patches, targets


def shift(
    pairs: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Shift most of `pairs` (N, 2, H, W, 3) by a few pixels; edge pixels are repeated.

    Without shifts the tower learns where the cell borders are. The targets of a cell do not change,
    because a cell is much larger than the shift.

    Returns:
        The shifted pairs, and the shift of each in cells: float32 (N, 2), (down, right).
    """
    by = rng.integers(-LONGEST_SHIFT, LONGEST_SHIFT + 1, (len(pairs), 2)) * (
        rng.random((len(pairs), 1)) < SHIFTED
    )
    height, width = pairs.shape[2:4]
    moved = np.empty_like(pairs)
    for index, (down, right) in enumerate(by):
        rows, columns = (
            np.clip(np.arange(height) - down, 0, height - 1),
            np.clip(np.arange(width) - right, 0, width - 1),
        )
        moved[index] = pairs[index][:, rows][:, :, columns]
    return moved, (by / (height / ROWS, width / COLUMNS)).astype(np.float32)


def augment(patches: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary contrast, brightness, tint and noise of normalised patches in place.

    Args:
        patches: float32 (N, patches, 3 * values per channel).
        rng: source of random numbers.
    """
    number = len(patches)
    gain = rng.uniform(0.75, 1.25, (number, 1, 1, 1)) * rng.uniform(0.93, 1.07, (number, 1, 3, 1))
    offset = rng.uniform(-0.25, 0.25, (number, 1, 1, 1))
    by_channel = patches.view(number, patches.shape[1], 3, -1)
    by_channel.mul_(torch.from_numpy(gain.astype(np.float32))).add_(
        torch.from_numpy(offset.astype(np.float32))
    )
    # Drawing new normal numbers for every pixel would cost more than the forward pass, so slices of
    # one long draw are used.
    start = int(rng.integers(len(NOISE) - patches[0].numel()))
    noise = NOISE[start : start + patches[0].numel()].view(patches.shape[1:])
    for picture, strength in zip(patches, rng.uniform(0, 0.09, number), strict=True):
        picture.add_(noise, alpha=float(strength))
    return patches


def _flip(cells: NDArray[Any], flipped: NDArray[np.bool_]) -> NDArray[Any]:
    """Mirror per-cell values (N, cells, ...) left to right where `flipped` (N,) is True."""
    mirrored: NDArray[Any] = cells.copy()
    shaped = cells[flipped].reshape(int(flipped.sum()), ROWS, COLUMNS, *cells.shape[2:])
    mirrored[flipped] = shaped[:, :, ::-1].reshape(cells[flipped].shape)
    return mirrored
