"""Run the pipeline over a source without ROS, and write the results to a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stream_vlm.config.settings import Settings
from stream_vlm.memory.storage.writer_lock import WriterLock
from stream_vlm.model_protocol import Model
from stream_vlm.pipeline import Models, Pipeline
from stream_vlm.run_records import as_line, records_of
from stream_vlm.sources.source import Source, SourceError, left_out_by
from stream_vlm.types import NANOSECONDS, Frame, StepResult, StreamError

RECORD_FILES = ("utterances.jsonl", "events.jsonl", "states.jsonl")
MEMORY_FILE = "memory.db"

Existing = Literal["refuse", "replace", "append"]
"""What to do if the folder already has a run."""


class ResultsError(StreamError):
    """The folder for the results cannot be used; the message names it and the remedy."""


@dataclass
class Watched:
    """The totals of a run.

    Attributes:
        session_id: name of the session.
        ticks: how many ticks were processed.
        utterances: how many utterances there were.
        events: how many events there were.
        seconds: seconds of stream, from the first tick to the last.
        elapsed_s: elapsed wall time, seconds.
        stale: frames that were skipped because their stamp did not advance.
        faults: by camera, how many ticks the model could not use.
        left_out: by camera and reason, how many messages the source left out.
    """

    session_id: str
    ticks: int = 0
    utterances: int = 0
    events: int = 0
    seconds: float = 0.0
    elapsed_s: float = 0.0
    stale: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, result: StepResult, first_ns: int) -> None:
        """Add the result of one step; `first_ns` is the stamp of the run's first frame (ns)."""
        self.ticks += bool(result.tick.frames)
        self.utterances += len(result.utterances)
        self.events += len(result.events)
        self.seconds = (result.tick.stamp_ns - first_ns) / NANOSECONDS
        for camera in result.faults:
            self.faults[camera] = self.faults.get(camera, 0) + 1


def prepare_folder(folder: Path, existing: Existing) -> None:
    """Prepare `folder` for a run.

    Raises:
        ResultsError: it cannot be created, or it already has a run and `existing` is "refuse".
        MemoryFileError: `existing` is "replace" and another program still writes the run.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [
            folder / name
            for name in (*RECORD_FILES, MEMORY_FILE, f"{MEMORY_FILE}-wal", f"{MEMORY_FILE}-shm")
        ]
        present = [file.name for file in files if file.exists()]
        if present and existing == "refuse":
            raise ResultsError(
                f"{folder}: already has a run ({', '.join(present)}); --force replaces it,"
                " --append continues its memory"
            )
        if existing == "replace":
            # The lock shows whether another program still writes here; its memory is not deleted.
            lock = WriterLock.take((folder / MEMORY_FILE).resolve(), 0.0)
            for file in files:
                file.unlink(missing_ok=True)
            lock.release()
    except OSError as error:
        raise ResultsError(
            f"{folder}: cannot be used for the results: {error.strerror}; give a folder with --out"
            " that this user may write"
        ) from error


@dataclass
class _BegunSource:
    """A source whose first frame was read already."""

    source: Source
    first: Frame
    rest: Iterator[Frame]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.source.cameras

    @property
    def duration_s(self) -> float | None:
        return self.source.duration_s

    @property
    def live(self) -> bool:
        return self.source.live

    def frames(self) -> Iterator[Frame]:
        yield self.first
        yield from self.rest


def _begin(source: Source, folder: Path) -> _BegunSource:
    """Read the first frame of `source`.

    Raises:
        SourceError: there is none; the message says that the run in `folder` is kept.
    """
    frames = source.frames()
    first = next(frames, None)
    if first is None:
        raise SourceError(f"{source.name}: has no picture, so the run in {folder} is not replaced")
    return _BegunSource(source, first, frames)


def watch(
    source: Source,
    settings: Settings,
    model: Model,
    folder: Path,
    existing: Existing = "refuse",
    on_step: Callable[[StepResult, float], None] | None = None,
    watch_for: str = "",
) -> Watched:
    """Watch `source` to its end, and write the results to `folder`.

    The files are utterances.jsonl, events.jsonl, states.jsonl and memory.db. Session, ticks and
    results depend only on the source, the settings and the model, so watching a recording again
    gives the same files.

    Args:
        source: what to watch.
        settings: of the pipeline; the memory's path is set to the folder.
        model: the loaded model.
        folder: for the results.
        existing: what to do if the folder already has a run.
        on_step: called after each step with its result and the seconds of stream so far.
        watch_for: an event to wait for from the first frame on, in plain words; empty for none.

    Returns:
        The totals of the run.

    Raises:
        WatchRefused: the model cannot follow a watch.
        StreamError: the text model, the folder, the memory or the source cannot be used; earlier
            results are kept.
    """
    models = Models.load(settings, lambda _: model)
    shown: Source = source
    if existing == "replace":
        shown = _begin(source, folder)
    # Only now, so that a model which does not fit the settings, or a source which cannot be read,
    # costs no earlier run.
    prepare_folder(folder, existing)
    path = str(folder / MEMORY_FILE)
    memory = settings.memory.model_copy(update={"path": path})
    started = time.perf_counter()
    watched = Watched(session_id=source.name)
    with ExitStack() as stack:
        pipeline = stack.enter_context(
            Pipeline(settings.model_copy(update={"memory": memory}), models)
        )
        mode = "a" if existing == "append" else "w"
        files = [
            stack.enter_context((folder / name).open(mode, encoding="utf-8"))
            for name in RECORD_FILES
        ]
        run = pipeline.run(shown, watch_for)
        for result in run:
            for file, records in zip(files, records_of(result, run.first_ns), strict=True):
                file.write("".join(as_line(record) for record in records))
                file.flush()
            watched.session_id = run.session_id
            watched.count(result, run.first_ns)
            if on_step is not None:
                on_step(result, watched.seconds)
        watched.stale = run.stale
        watched.left_out = left_out_by(source)
    watched.elapsed_s = time.perf_counter() - started
    return watched
