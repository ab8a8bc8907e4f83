"""The loop of `run` and `replay`: ticks through the harness as fast as the model goes, everything
said left in one folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from stream_vlm.config.settings import Settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.memory.answers.prompt_recall import PromptRecaller
from stream_vlm.memory.memory import Memory, SessionError
from stream_vlm.memory.recording.sync_writer import SyncWriter
from stream_vlm.memory.storage.writer_lock import WriterLock
from stream_vlm.memory.summaries.by_model import ModelSummarizer, summary_writer
from stream_vlm.memory.summaries.newest import NewestSummaries
from stream_vlm.model_protocol import Model, WatchRefused
from stream_vlm.run_records import as_line, records_of
from stream_vlm.sources.source import Source
from stream_vlm.sources.ticks import TickReader
from stream_vlm.text_models.sentence_embedder import load_text_model
from stream_vlm.types import Query, StepResult, StreamError, Tick

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
    # First, so that a model of text that cannot be loaded costs no run that is to be replaced.
    embedder = load_text_model(settings.memory)
    # A model that cannot do as it is told takes no run away from the folder and leaves none there.
    summarizes = summary_writer(settings.memory, model)
    prepare_folder(folder, existing)
    settings = settings.model_copy(
        update={"memory": settings.memory.model_copy(update={"path": str(folder / MEMORY_FILE)})}
    )
    reader = TickReader(source.frames(), settings.stream.rate_hz)
    started = time.perf_counter()
    watched = Watched(session_id=source.name)
    harness: StreamingHarness | None = None
    first_ns = 0
    mode = "a" if existing == "append" else "w"
    with Memory.open(settings.memory) as memory:
        memory.use_embedder(embedder)
        jobs = memory.summary_jobs
        writer = SyncWriter(
            memory,
            (
                ModelSummarizer(jobs, summarizes, model.model_id)
                if jobs is not None and summarizes is not None
                else None
            ),
        )
        files = [(folder / name).open(mode, encoding="utf-8") for name in RECORD_FILES]
        try:
            # A live source is not waited for: its next picture would make this one late.
            for tick, upcoming in (
                ((tick, None) for tick in reader) if source.live else with_next(reader)
            ):
                if harness is None:
                    first_ns = min(frame.stamp_ns for frame in tick.frames)
                    watched.session_id = _begin_session(
                        memory, source.name, model.model_id, first_ns
                    )
                    newest_summaries = NewestSummaries(memory)
                    newest_summaries.refresh()
                    harness = StreamingHarness(
                        settings, model, watched.session_id, writer, newest_summaries.lines
                    )
                    if watch_for:
                        asked = _watch_query(
                            watch_for,
                            watched.session_id,
                            tick.stamp_ns,
                            PromptRecaller(memory, settings),
                        )
                        tick = replace(tick, queries=(asked,))
                next_look_s = time.perf_counter() + 1.0 / settings.stream.rate_hz
                result = harness.step(tick, upcoming=upcoming)
                if watch_for and not harness.watching:
                    raise WatchRefused("; ".join(result.faults.values()))
                # A live source does not wait: what is left until its next picture is used.
                writer.write_summaries(next_look_s if source.live else None)
                newest_summaries.refresh()
                harness.prepare()
                for file, records in zip(files, records_of(result, first_ns), strict=True):
                    file.write("".join(as_line(record) for record in records))
                    file.flush()
                watched.ticks += 1
                watched.utterances += len(result.utterances)
                watched.events += len(result.events)
                watched.seconds = (tick.stamp_ns - first_ns) / 1e9
                for camera in result.faults:
                    watched.faults[camera] = watched.faults.get(camera, 0) + 1
                if on_step is not None:
                    on_step(result, watched.seconds)
            writer.end_session()
        finally:
            for file in files:
                file.close()
    watched.stale = reader.stale
    watched.elapsed_s = time.perf_counter() - started
    return watched


def with_next(ticks: Iterable[Tick]) -> Iterator[tuple[Tick, Tick | None]]:
    """Each tick with the one after it; None after the last.

    Where the ticks break off, the one before is given first.
    """
    iterator = iter(ticks)
    tick = next(iterator, None)
    while tick is not None:
        broken: StreamError | None = None
        try:
            after = next(iterator, None)
        except StreamError as error:
            after, broken = None, error
        yield tick, after
        if broken is not None:
            raise broken
        tick = after


def _watch_query(text: str, session_id: str, stamp_ns: int, recaller: PromptRecaller) -> Query:
    past = recaller.context(recaller.recall(text), stamp_ns)
    return Query(f"{session_id}-watch", text, stamp_ns, is_watch=True, past=past)


def _begin_session(memory: Memory, name: str, model_id: str, first_ns: int) -> str:
    """Begin a session named after the source; in a memory that already has one of that name, the
    next free number is added.
    """
    number = 1
    while True:
        session_id = name if number == 1 else f"{name}-{number}"
        try:
            memory.begin_session(session_id, model_id, "watching a source without ROS", first_ns)
            return session_id
        except SessionError:
            number += 1
