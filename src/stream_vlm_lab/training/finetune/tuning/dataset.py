"""The training data set: decodes samples when they are needed and replaces unusable ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from stream_vlm.types import StreamError
from stream_vlm.vision.preprocess import PictureFormat
from stream_vlm_lab.training.common.loop import SampleOrder
from stream_vlm_lab.training.data.sample import (
    ReadResult,
    Refusal,
    RefusalReason,
    RowRefused,
    StreamSample,
    VideoFolder,
)
from stream_vlm_lab.training.finetune.tuning.sequences import SampleWriter, TuningSequence


@dataclass(frozen=True)
class DatasetItem:
    """A training sequence, and the unusable rows that it replaces."""

    sequence: TuningSequence
    refusals: tuple[Refusal, ...]


@dataclass
class SampleDataset(Dataset[DatasetItem]):
    """Samples with their row numbers; videos are decoded when a sample is needed.

    Only then some rows turn out to be unusable: the video ends too early, or the sequence is longer
    than the model's context. Such a row is refused and replaced by the next one, so that every
    process gets its full part of the step.

    Attributes:
        numbers: row number of each sample, for messages.
        samples: the samples.
        videos: where the videos are.
        writer: writes samples as token sequences.
        pictures: picture size and format of the model.
        frames_per_turn: frames that one turn shows together.
    """

    numbers: Sequence[int]
    samples: Sequence[StreamSample]
    videos: VideoFolder
    writer: SampleWriter
    pictures: PictureFormat
    frames_per_turn: int = 1
    _refused: dict[int, Refusal] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> DatasetItem:
        """Return sample `index`, or the next usable one.

        Raises:
            StreamError: no sample can be used.
        """
        refusals: list[Refusal] = []
        for place in (*range(index, len(self.samples)), *range(index)):
            if place not in self._refused:
                try:
                    return DatasetItem(self._sequence(self.samples[place]), tuple(refusals))
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
            patches = self.temporal_patches(shown)
        except RowRefused:
            raise
        except (StreamError, ValueError) as error:
            raise RowRefused(RefusalReason.UNDECODABLE, str(error)) from error
        return self.writer.write(sample, patches)

    def temporal_patches(self, shown: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Make one temporal patch (T, H, W, 3) for each turn, as the node does.

        It holds the frames of the turn, and with `pair_frames` those of the previous turn too.
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
    """Split every turn of `sample` into turns of one frame."""
    turns = []
    for turn in sample.turns:
        step_s = (turn.end_s - turn.start_s) / frames_per_turn
        turns += [
            replace(turn, start_s=turn.start_s + at * step_s) for at in range(frames_per_turn)
        ]
    return replace(sample, turns=tuple(turns))


@dataclass(frozen=True)
class _Shares:
    """The sample indices of one process for each of `steps`, which may be endless."""

    order: SampleOrder
    steps: Iterable[int]
    share: slice

    def __iter__(self) -> Iterator[list[int]]:
        return (self.order.of_step(step)[self.share] for step in self.steps)


def step_batches(
    rows: SampleDataset, order: SampleOrder, steps: Iterable[int], share: slice, workers: int
) -> Iterator[list[DatasetItem]]:
    """Return an iterator over the items of each training step.

    Args:
        rows: the data set.
        order: order of the samples.
        steps: numbers of the steps.
        share: selects this process's part of a step.
        workers: processes that decode in advance.
    """
    return iter(
        DataLoader(
            rows, batch_sampler=_Shares(order, steps, share), collate_fn=list, num_workers=workers
        )
    )


def with_late_refusals(reading: ReadResult, late_refusals: dict[int, Refusal]) -> ReadResult:
    """Move the rows of `late_refusals` from the samples of `reading` to its refusals.

    Args:
        reading: what was read from the file.
        late_refusals: rows that proved unusable during training, by row number.
    """
    kept = [
        (row, sample)
        for row, sample in zip(reading.rows, reading.samples, strict=True)
        if row not in late_refusals
    ]
    return ReadResult(
        [sample for _, sample in kept],
        [row for row, _ in kept],
        [*reading.refusals, *late_refusals.values()],
    )
