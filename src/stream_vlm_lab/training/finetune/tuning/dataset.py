"""Rows of training data on their way to a step: in which order, with which pictures, and what
becomes of those that cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from stream_vlm.types import StreamError
from stream_vlm.vision.preprocess import PictureFormat
from stream_vlm_lab.training.common.order import Order
from stream_vlm_lab.training.data.sample import (
    Reading,
    Reason,
    Refusal,
    RowRefused,
    StreamSample,
    Videos,
)
from stream_vlm_lab.training.finetune.tuning.sequences import SampleWriter, TuningSequence


@dataclass(frozen=True)
class Drawn:
    """A sequence, and the rows that were met on the way to it and cannot be used."""

    sequence: TuningSequence
    refusals: tuple[Refusal, ...]


@dataclass
class Rows(Dataset[Drawn]):
    """Samples with their row numbers, decoded and written when they are drawn.

    A row that turns out unusable only then (its video breaks off, it is longer than the context) is
    refused, and the next one takes its place, so that every process of a step has its share.

    Attributes:
        frames_per_turn: frames that one turn shows together.
    """

    numbers: Sequence[int]
    samples: Sequence[StreamSample]
    videos: Videos
    writer: SampleWriter
    pictures: PictureFormat
    frames_per_turn: int = 1
    _refused: dict[int, Refusal] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Drawn:
        """Sample `index`, or the next usable one.

        Raises:
            StreamError: no sample can be used.
        """
        refusals: list[Refusal] = []
        for place in (*range(index, len(self.samples)), *range(index)):
            if place not in self._refused:
                try:
                    return Drawn(self._sequence(self.samples[place]), tuple(refusals))
                except RowRefused as refused:
                    self._refused[place] = Refusal(
                        self.numbers[place], refused.reason, refused.detail
                    )
            refusals.append(self._refused[place])
        raise StreamError(
            f"none of the {len(self)} samples can be used; the first: {refusals[0].reason.value}:"
            f" {refusals[0].detail}"
        )

    def _sequence(self, sample: StreamSample) -> TuningSequence:
        try:
            shown = [
                self.pictures.resize(frame.image)
                for frame in self.videos.pictures(_by_frames(sample, self.frames_per_turn))
            ]
            patches = self._patches(shown)
        except RowRefused:
            raise
        except (StreamError, ValueError) as error:
            raise RowRefused(Reason.UNDECODABLE, str(error)) from error
        return self.writer.write(sample, patches)

    def _patches(self, shown: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """One temporal patch (T, H, W, 3) a turn, as the node makes them: of the turn's frames, or
        of the frame before it and its own.
        """
        count = self.frames_per_turn
        turns = [list(shown[place : place + count]) for place in range(0, len(shown), count)]
        if self.pictures.pair_frames:
            turns = [[*turns[max(0, at - 1)], *turn] for at, turn in enumerate(turns)]
        filled = [
            [turn[0]] * (self.pictures.temporal_patch_size - len(turn)) + turn for turn in turns
        ]
        return np.stack([np.stack(turn[-self.pictures.temporal_patch_size :]) for turn in filled])


def _by_frames(sample: StreamSample, frames_per_turn: int) -> StreamSample:
    """`sample` with a turn for every frame that its turns show."""
    turns = []
    for turn in sample.turns:
        step_s = (turn.end_s - turn.start_s) / frames_per_turn
        turns += [
            replace(turn, start_s=turn.start_s + at * step_s) for at in range(frames_per_turn)
        ]
    return replace(sample, turns=tuple(turns))


@dataclass(frozen=True)
class _Shares:
    """The indices that one process takes in each of `steps`, which may be without end."""

    order: Order
    steps: Iterable[int]
    share: slice

    def __iter__(self) -> Iterator[list[int]]:
        return (self.order.of_step(step)[self.share] for step in self.steps)


def steps_of(
    rows: Rows, order: Order, steps: Iterable[int], share: slice, workers: int
) -> Iterator[list[Drawn]]:
    """What each of `steps` takes; `share` is this process's part of it, `workers` processes decode
    ahead.
    """
    return iter(
        DataLoader(
            rows, batch_sampler=_Shares(order, steps, share), collate_fn=list, num_workers=workers
        )
    )


def account(reading: Reading, later: dict[int, Refusal]) -> Reading:
    """`reading` with the rows of `later` (by row number), which proved unusable only when they were
    drawn, among its refusals.
    """
    kept = [
        (row, sample)
        for row, sample in zip(reading.rows, reading.samples, strict=True)
        if row not in later
    ]
    return Reading(
        [sample for _, sample in kept],
        [row for row, _ in kept],
        [*reading.refusals, *later.values()],
    )
