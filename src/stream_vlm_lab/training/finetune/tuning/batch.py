"""Puts the sequences of a micro-batch into tensors: one per row, or several packed into a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stream_vlm_lab.training.finetune.tuning.sequences import NO_TARGET, TuningSequence

PADDING = -1


@dataclass(frozen=True)
class Batch:
    """Right-padded tensors of a micro-batch.

    Attributes:
        ids: int64 (rows, tokens), token ids.
        positions: int64 (3, rows, tokens), rotary positions; every sequence starts at 0.
        targets: int64 (rows, tokens), `NO_TARGET` where there is none.
        kinds: int64 (rows, tokens), the `TargetKind` of each target.
        owners: int64 (rows, tokens), number of the sequence of each token, `PADDING` for none.
        pictures: uint8 RGB (turns, T, H, W, 3) of each sequence, in the order of the rows.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    kinds: torch.Tensor
    owners: torch.Tensor
    pictures: list[NDArray[np.uint8]]

    @property
    def chosen(self) -> torch.Tensor:
        """True where there is a target: bool (rows, tokens)."""
        return self.targets != NO_TARGET

    @property
    def mask(self) -> torch.Tensor | None:
        """Attention mask: bool (rows, 1, tokens, tokens), or None.

        A token attends to itself and the earlier tokens (last axis) of its own sequence. None means
        plain causal attention, for batches with one sequence in each row: there, padding on the
        right has no influence.
        """
        if len(self.pictures) == len(self.ids):
            return None
        same = self.owners[:, None, :, None] == self.owners[:, None, None, :]
        return same & torch.ones(same.shape[-2:], dtype=torch.bool, device=same.device).tril()


def collate(
    sequences: Sequence[TuningSequence], device: torch.device, *, packed: bool = False
) -> Batch:
    """Make one micro-batch of `sequences` on `device`.

    Args:
        sequences: the sequences of the micro-batch.
        device: device of the tensors.
        packed: put several sequences into a row; no row is longer than the longest sequence.
    """
    lengths = [len(sequence.ids) for sequence in sequences]
    rows = packed_rows(lengths) if packed else [[number] for number in range(len(sequences))]
    shape = len(rows), max(lengths)
    ids, kinds = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    targets, where = (
        np.full(shape, NO_TARGET, dtype=np.int64),
        np.zeros((3, *shape), dtype=np.int64),
    )
    owners = np.full(shape, PADDING, dtype=np.int64)
    for row, numbers in enumerate(rows):
        begin = 0
        for number in numbers:
            sequence, end = sequences[number], begin + lengths[number]
            ids[row, begin:end], kinds[row, begin:end], targets[row, begin:end] = (
                sequence.ids,
                sequence.kinds,
                sequence.targets,
            )
            where[:, row, begin:end], owners[row, begin:end] = sequence.positions, number
            begin = end
    on_device = [
        torch.from_numpy(array).to(device) for array in (ids, where, targets, kinds, owners)
    ]
    pictures = [sequences[number].pictures for numbers in rows for number in numbers]
    return Batch(on_device[0], on_device[1], on_device[2], on_device[3], on_device[4], pictures)


def packed_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Assign sequences of `lengths` tokens to rows; returns the sequence numbers of each row.

    No row is longer than the longest sequence. Sequences are placed longest first, each into the
    first row that has room.
    """
    room = max(lengths)
    rows: list[list[int]] = []
    left: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        row = next((row for row, free in enumerate(left) if free >= lengths[number]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(number)
        left[row] -= lengths[number]
    return rows
