"""Rendered worlds kept on disk: no run renders a world twice, and no run holds its pictures in
memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import stream_vlm_lab.simulation
from stream_vlm.types import State
from stream_vlm_lab.training.shipped_model import rendering
from stream_vlm_lab.training.shipped_model.architecture import PICTURE_SIZE
from stream_vlm_lab.training.shipped_model.rendering import (
    DenseTargets,
    RenderedStream,
    render_streams,
)

SHELF = 50
"""Worlds in a file.

Files hold worlds from one multiple of this to the next, so that runs of other lengths share them.
"""


def drawing_digest() -> str:
    """Digest of the sources that draw and label worlds; what was rendered by others is not taken
    for theirs.
    """
    sources = [
        *sorted(Path(stream_vlm_lab.simulation.__file__).parent.rglob("*.py")),
        Path(rendering.__file__),
    ]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


@dataclass(frozen=True)
class Worlds:
    """Streams of simulated worlds at tick rate, rendered where they are not in `folder` yet.

    Attributes:
        folder: where they are kept, in a directory for each version of the sources that draw them.
        processes: processes that render.
    """

    folder: Path
    rate_hz: float
    processes: int

    def streams(self, seeds: range, ticks: int, *, dense: bool, what: str) -> list[RenderedStream]:
        """The stretches of `ticks` ticks of `seeds`, in their order; frames are mapped from the
        disk.

        Args:
            dense: with targets for every cell instead of questions.
            what: a word for the bar.
        """
        shelves = [
            _Shelf(
                self._home / f"{'dense' if dense else 'spoken'}-{ticks}-{part[0]}-{len(part)}", part
            )
            for part in _parted(seeds)
        ]
        absent = [shelf for shelf in shelves if not shelf.is_whole]
        if absent:
            self._home.mkdir(parents=True, exist_ok=True)
            missing = [seed for shelf in absent for seed in shelf.seeds]
            rendered = render_streams(
                missing, ticks, self.rate_hz, dense=dense, processes=self.processes
            )
            coming = iter(
                tqdm(rendered, total=len(missing), desc=what, unit="world", mininterval=5.0)
            )
            for shelf in absent:
                shelf.fill(coming, ticks)
        return [stream for shelf in shelves for stream in shelf.streams()]

    @property
    def _home(self) -> Path:
        return self.folder / f"worlds-{drawing_digest()}"


def _parted(seeds: range) -> Iterator[range]:
    """`seeds` cut at the multiples of `SHELF`."""
    first = seeds.start
    while first < seeds.stop:
        end = min(seeds.stop, (first // SHELF + 1) * SHELF)
        yield range(first, end)
        first = end


@dataclass(frozen=True)
class _Shelf:
    """One file of frames and one of labels; the labels are written last, so where they are the
    shelf is whole.
    """

    path: Path
    seeds: range

    @property
    def _frames(self) -> Path:
        return self.path.with_name(self.path.name + ".frames.npy")

    @property
    def _labels(self) -> Path:
        return self.path.with_name(self.path.name + ".labels.npz")

    @property
    def is_whole(self) -> bool:
        return self._labels.is_file()

    def fill(self, coming: Iterator[RenderedStream], ticks: int) -> None:
        """Write the next streams of `coming`."""
        frames = np.lib.format.open_memmap(
            self._frames,
            mode="w+",
            dtype=np.uint8,
            shape=(len(self.seeds), ticks, *PICTURE_SIZE, 3),
        )
        streams = []
        for index in range(len(self.seeds)):
            stream = next(coming)
            frames[index] = stream.frames
            streams.append(stream)
        frames.flush()
        partial = self._labels.with_suffix(".partial.npz")
        np.savez(partial, **_arrays(streams))  # type: ignore[arg-type]  # numpy's stub takes the first name for its own option
        partial.replace(self._labels)

    def streams(self) -> Iterator[RenderedStream]:
        """What is on the shelf."""
        frames = np.load(self._frames, mmap_mode="r")
        with np.load(self._labels) as kept:
            labels = {name: kept[name] for name in kept.files}
        words = json.loads(str(labels["words"]))
        for index, seed in enumerate(self.seeds):
            states, texts, questions = words[index]
            dense = {
                name: labels[name][index]
                for name in DenseTargets.__dataclass_fields__
                if name in labels
            }
            yield RenderedStream(
                seed,
                frames[index],
                labels["times"][index],
                [State(state) for state in states],
                texts,
                [None if asked is None else (asked[0], asked[1]) for asked in questions],
                DenseTargets(**dense) if dense else None,
            )


def _arrays(streams: Sequence[RenderedStream]) -> dict[str, NDArray[np.generic]]:
    words = [
        [[state.value for state in stream.states], stream.texts, stream.questions]
        for stream in streams
    ]
    arrays: dict[str, NDArray[np.generic]] = {
        "times": np.stack([stream.times for stream in streams]),
        "words": np.array(json.dumps(words)),
    }
    dense = [stream.dense for stream in streams if stream.dense is not None]
    return arrays | {
        name: np.stack([getattr(target, name) for target in dense])
        for name in DenseTargets.__dataclass_fields__
        if dense
    }
