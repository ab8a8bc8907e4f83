"""Rendered rooms on disk, so that each is rendered once and pictures need no memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import stream_vlm_lab.simulation
from stream_vlm.types import State
from stream_vlm_lab.training.shipped_model import rendering
from stream_vlm_lab.training.shipped_model.picture_format import PICTURE_SIZE
from stream_vlm_lab.training.shipped_model.rendering import (
    DenseTargets,
    RenderedStream,
    render_streams,
)

STREAMS_PER_FILE = 50
"""Rooms in a cache file.

A file begins at a multiple of this number, so that runs of different lengths can share files.
"""


def drawing_sources() -> list[Path]:
    """Return the source files that draw and label rooms, in a fixed order."""
    folder = Path(stream_vlm_lab.simulation.__file__).parent
    return [*sorted(folder.rglob("*.py")), Path(rendering.__file__)]


def digest_of(sources: Iterable[Path]) -> str:
    """Return a digest of the contents of `sources`."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


def drawing_digest() -> str:
    """Return the digest of `drawing_sources`; when it changes, rooms are rendered again."""
    return digest_of(drawing_sources())


@dataclass(frozen=True)
class RenderCache:
    """Simulated streams at tick rate; those that are not in `folder` yet are rendered.

    Attributes:
        folder: folder of the cache; it has one directory for each `drawing_digest`.
        rate_hz: ticks a second.
        processes: number of processes that render.
    """

    folder: Path
    rate_hz: float
    processes: int

    def streams(self, seeds: range, ticks: int, *, dense: bool, what: str) -> list[RenderedStream]:
        """The streams of `seeds`, in this order; frames are memory-mapped files.

        Args:
            seeds: room seeds.
            ticks: ticks of each stream.
            dense: with targets for every cell instead of questions.
            what: label of the progress bar.
        """
        files = [
            _CacheFile(
                self._directory
                / f"{'dense' if dense else 'questions'}-{ticks}-{part[0]}-{len(part)}",
                part,
            )
            for part in _split(seeds)
        ]
        missing_files = [file for file in files if not file.is_complete]
        if missing_files:
            self._directory.mkdir(parents=True, exist_ok=True)
            missing = [seed for file in missing_files for seed in file.seeds]
            rendered = render_streams(
                missing, ticks, self.rate_hz, dense=dense, processes=self.processes
            )
            streams = iter(
                tqdm(rendered, total=len(missing), desc=what, unit="room", mininterval=5.0)
            )
            for file in missing_files:
                file.write(streams, ticks)
        return [stream for file in files for stream in file.streams()]

    @property
    def _directory(self) -> Path:
        return self.folder / f"rooms-{drawing_digest()}"


def _split(seeds: range) -> Iterator[range]:
    """Split `seeds` at the multiples of `STREAMS_PER_FILE`."""
    first = seeds.start
    while first < seeds.stop:
        end = min(seeds.stop, (first // STREAMS_PER_FILE + 1) * STREAMS_PER_FILE)
        yield range(first, end)
        first = end


@dataclass(frozen=True)
class _CacheFile:
    """A file of frames and a file of labels.

    The labels are written last: if they exist, both files are complete.
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
    def is_complete(self) -> bool:
        return self._labels.is_file()

    def write(self, rendered: Iterator[RenderedStream], ticks: int) -> None:
        """Write the next streams of `rendered`, one for each of `seeds`."""
        frames = np.lib.format.open_memmap(
            self._frames,
            mode="w+",
            dtype=np.uint8,
            shape=(len(self.seeds), ticks, *PICTURE_SIZE, 3),
        )
        streams = []
        for index in range(len(self.seeds)):
            stream = next(rendered)
            frames[index] = stream.frames
            streams.append(stream)
        frames.flush()
        partial = self._labels.with_suffix(".partial.npz")
        # numpy's stub mistakes the first name for an option of `savez`.
        np.savez(partial, **_arrays(streams))  # type: ignore[arg-type]
        partial.replace(self._labels)

    def streams(self) -> Iterator[RenderedStream]:
        """Read the streams of this file."""
        frames = np.load(self._frames, mmap_mode="r")
        with np.load(self._labels) as archive:
            labels = {name: archive[name] for name in archive.files}
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
