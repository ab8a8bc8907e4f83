"""`run` and `replay` without ROS: the pipeline over a source, its results left in one folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stream_vlm.config.settings import Settings
from stream_vlm.memory.storage.writer_lock import WriterLock
from stream_vlm.model_protocol import Model
from stream_vlm.pipeline import Models, Pipeline
from stream_vlm.run_records import as_line, records_of
from stream_vlm.sources.source import Source
from stream_vlm.types import NANOSECONDS, StepResult, StreamError

RECORD_FILES = ("utterances.jsonl", "events.jsonl", "states.jsonl")
MEMORY_FILE = "memory.db"

Existing = Literal["refuse", "replace", "append"]
"""What to do with a folder that already holds a run."""


class ResultsError(StreamError):
    """The folder for the results cannot be used; the message names it and the remedy."""


@dataclass
class Watched:
    """What a run came to.

    Attributes:
        seconds: seconds of stream watched, first tick to last.
        elapsed_s: wall time it took.
        stale: frames left out because their stamp was not after the one before.
        faults: by camera, how many ticks the model could not use.
    """

    session_id: str
    ticks: int = 0
    utterances: int = 0
    events: int = 0
    seconds: float = 0.0
    elapsed_s: float = 0.0
    stale: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    def count(self, result: StepResult, first_ns: int) -> None:
        """Take in the result of one step of a run whose first frame was stamped `first_ns` (ns)."""
        self.ticks += 1
        self.utterances += len(result.utterances)
        self.events += len(result.events)
        self.seconds = (result.tick.stamp_ns - first_ns) / NANOSECONDS
        for camera in result.faults:
            self.faults[camera] = self.faults.get(camera, 0) + 1


def prepare_folder(folder: Path, existing: Existing) -> None:
    """Make `folder` ready for a run.

    Raises:
        ResultsError: it cannot be made, or it holds a run already and `existing` is "refuse".
        MemoryFileError: `existing` is "replace" and a run in it is still under way.
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
                f"{folder}: already holds a run ({', '.join(present)}); --force replaces it,"
                " --append goes on in its memory"
            )
        if existing == "replace":
            # Another run that still writes here is told from one that ended; its memory is not
            # taken away under it.
            lock = WriterLock.take((folder / MEMORY_FILE).resolve(), 0.0)
            for file in files:
                file.unlink(missing_ok=True)
            lock.release()
    except OSError as error:
        raise ResultsError(
            f"{folder}: cannot hold the results: {error.strerror}; give a folder that you may write"
            " with --out"
        ) from error


def watch(
    source: Source,
    settings: Settings,
    model: Model,
    folder: Path,
    existing: Existing = "refuse",
    on_step: Callable[[StepResult, float], None] | None = None,
    watch_for: str = "",
) -> Watched:
    """Watch `source` to its end and leave utterances.jsonl, events.jsonl, states.jsonl and
    memory.db in `folder`.

    Session, ticks and results depend on the source, the settings and the model only, so watching a
    recording again gives the same files.

    Args:
        on_step: called after each step with its result and the seconds of stream so far.
        watch_for: what to wait for from the first picture on, in plain words.

    Raises:
        WatchRefused: the model cannot be told what to wait for.
        StreamError: the model of text, the folder, the memory or the source cannot be used; what
            was watched before is kept.
    """
    models = Models.load(settings, lambda _: model)
    # Only now, so that a model that cannot do as it is told takes no earlier run away.
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
        run = pipeline.run(source, watch_for)
        for result in run:
            for file, records in zip(files, records_of(result, run.first_ns), strict=True):
                file.write("".join(as_line(record) for record in records))
                file.flush()
            watched.session_id = run.session_id
            watched.count(result, run.first_ns)
            if on_step is not None:
                on_step(result, watched.seconds)
        watched.stale = run.stale
    watched.elapsed_s = time.perf_counter() - started
    return watched
