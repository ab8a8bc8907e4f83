"""One object owns model, loop, memory and writer; the ROS node, `run` and a notebook all use it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from stream_vlm.config.settings import Settings, with_cameras
from stream_vlm.delegate import Delegate
from stream_vlm.loop.harness import NO_LIMITS, PartialText, StreamingHarness
from stream_vlm.loop.standing_instructions import (
    check_settings_for,
    followed,
    standing_instructions,
)
from stream_vlm.memory.answers.prompt_recall import PromptRecaller
from stream_vlm.memory.captions.by_endpoint import EndpointCaptioner
from stream_vlm.memory.captions.by_model import ModelCaptioner, picture_writer
from stream_vlm.memory.captions.queue import CaptionQueue
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_texts import BackgroundTexts, BackgroundWriter
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.recording.sync_writer import SyncWriter
from stream_vlm.memory.storage.errors import SessionError
from stream_vlm.memory.storage.picture_texts import PictureText
from stream_vlm.memory.storage.step_rows import ANSWER
from stream_vlm.memory.summaries.by_model import ModelSummarizer, summary_writer
from stream_vlm.memory.summaries.newest import NewestSummaries
from stream_vlm.model_protocol import (
    Judgement,
    KnowsItsRate,
    Model,
    ModelAway,
    PictureWriter,
    TextWriter,
    Turn,
    WatchRefused,
)
from stream_vlm.sources.source import Source
from stream_vlm.sources.ticks import TickReader, with_next
from stream_vlm.text_models.sentence_embedder import SentenceEmbedder, load_text_model
from stream_vlm.types import (
    NANOSECONDS,
    AbandonedEvent,
    EventSpan,
    Frame,
    Instruction,
    Limits,
    Query,
    StepResult,
    StreamError,
    Tick,
)
from stream_vlm.unicode_text import check_text

_log = logging.getLogger(__name__)

ModelLoader = Callable[[Settings], Model]
"""Loads the model that the settings name; raises StreamError when it cannot."""

OnResult = Callable[[StepResult, StreamError | None], None]
"""Hears of every step, in order: after it is stored, or with the error why it is not stored yet."""


def load_model(settings: Settings) -> Model:
    """The checkpoint that `model.directory` names, or the one that ships with the package."""
    # torch and transformers take seconds to import; whoever brings a model does without them.
    from stream_vlm import backbone

    return backbone.load_model(settings)


@dataclass(frozen=True)
class Models:
    """The models of a pipeline, loaded.

    Attributes:
        model: watches the stream.
        text_model: gives vectors of sentences, where `memory.text_model` names one.
        summary_writer: writes summaries by `model`, where `memory.summarizer` is model.
        picture_writer: writes captions by `model`, where `memory.captioner` says so.
    """

    model: Model
    text_model: SentenceEmbedder | None = None
    summary_writer: TextWriter | None = None
    picture_writer: PictureWriter | None = None

    @classmethod
    def load(cls, settings: Settings, load: ModelLoader = load_model) -> Models:
        """Load what `settings` name.

        Raises:
            StreamError: a model cannot be loaded, or cannot do what the settings ask of it.
        """
        text_model = load_text_model(settings.memory)
        model = load(settings)
        return cls(
            model,
            text_model,
            summary_writer(settings.memory, model),
            picture_writer(settings.memory, model, settings.model.language),
        )


class Pipeline:
    """From frames to the memory: model, loop, memory and writer behind one `step`.

    Without `on_result` each step is stored before `step` returns: for recordings, scripts and
    notebooks, with `run`. With `on_result` a thread of its own stores the steps, so that a live
    stream never waits for a disk. One thread calls `step`, `prepare` and `run`; `memory` answers
    any thread.

        with Pipeline(load_settings({"memory.path": "seen.db"})) as pipeline:
            for result in pipeline.run(open_source("clip.mp4")):
                print(result.events)
    """

    def __init__(
        self,
        settings: Settings,
        models: Models | None = None,
        *,
        load: ModelLoader = load_model,
        on_result: OnResult | None = None,
        run_long: Callable[[Callable[[], Models]], Models] = lambda load_all: load_all(),
    ) -> None:
        """Open the memory, then load the models, for the memory is quick to refuse.

        Args:
            settings: read at every step; a changed value is used from the next step on.
            models: models that are loaded already.
            load: loads the model where `models` are not given; give a function of your own to watch
                with a model of your own.
            on_result: hears of every step, on the writer's thread.
            run_long: calls what it is given, the loading of the models, and returns the result. One
                that raises instead leaves the loading; the memory is closed then.

        Raises:
            StreamError: the memory or a model cannot be used; nothing stays open.
        """
        self.settings = settings
        self._on_result = on_result
        self.harness: StreamingHarness | None = None
        """The loop, from `start` to `stop`."""
        with ExitStack() as stack:
            self.memory = stack.enter_context(Memory.open(settings.memory))
            loaded = models or run_long(lambda: Models.load(settings, load))
            self.model = loaded.model
            check_settings_for(self.model, settings)
            if isinstance(self.model, KnowsItsRate):
                settings.stream.take_own_rate(self.model.rate_hz)
            self.memory.use_embedder(loaded.text_model)
            jobs = self.memory.summary_jobs
            self.summarizer = (
                ModelSummarizer(jobs, loaded.summary_writer, self.model.model_id)
                if jobs is not None and loaded.summary_writer is not None
                else None
            )
            """Writes summaries by the model in idle slices, where the settings say so."""
            captions = self.memory.captions
            assert captions is not None
            self._captions: CaptionQueue | None = None
            endpoint: EndpointCaptioner | None = None
            writers: list[BackgroundWriter] = []
            if self.summarizer is not None:
                writers.append(self.summarizer)
            if loaded.picture_writer is not None:
                self._captions = captions
                writers.append(ModelCaptioner(captions, loaded.picture_writer, self.model.model_id))
            elif settings.memory.captioner == "endpoint":
                self._captions = captions
                endpoint = EndpointCaptioner(settings.memory, captions, settings.model.language)
            self.delegate = (
                Delegate(settings.delegate, self._store_answer) if settings.delegate.url else None
            )
            """A larger model for hard questions, where `delegate.url` names one."""
            if self.delegate is not None:
                stack.callback(self.delegate.close)
            self.background = BackgroundTexts(writers)
            """What the model writes in idle slices: summaries and captions."""
            self.summaries = NewestSummaries(self.memory)
            self.summaries.refresh()
            self.recaller = PromptRecaller(self.memory, settings)
            """Finds what the memory knows about a question or a watch."""
            self.writer: MemoryWriter | SyncWriter
            if on_result is None:
                self.writer = SyncWriter(self.memory, self.background, endpoint)
            else:
                self.writer = MemoryWriter(self.memory, self._on_stored, on_result)
            self._stack = stack.pop_all()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, timeout_s: float = 10.0) -> None:
        """Store what waits, for at most `timeout_s` seconds, and free everything."""
        try:
            self.stop()
        finally:
            if isinstance(self.writer, MemoryWriter):
                self.writer.close(timeout_s)
            self._stack.close()

    @property
    def session_id(self) -> str:
        """The session of the next step; empty while the loop is stopped."""
        return self.harness.session_id if self.harness is not None else ""

    def start(self, session_id: str) -> None:
        """Start the loop with fresh contexts; `begin_session` follows with the first frame."""
        self.harness = StreamingHarness(self.settings, self.model, session_id, self.summaries.lines)

    def stop(self) -> None:
        """Stop the loop and free the contexts; model and memory stay."""
        self.finish()
        self.harness = None

    def finish(self) -> StepResult | None:
        """End the events that were reported and still go on; store them as a step without frames.

        Returns:
            That step, or None if there are no such events.
        """
        result = self.harness.finish() if self.harness is not None else None
        if result is not None:
            self.writer.submit(result)
        return result

    def warm_up(self) -> None:
        """Process one black picture and forget it, so that the first real one is not slower.

        Raises:
            StreamError: the model cannot process a picture at all. A server that is away is waited
                for while the stream runs.
        """
        black = Frame("warm-up", 1, "", np.zeros((480, 640, 3), np.uint8))
        judged = tuple(map(Judgement, standing_instructions(self.settings, self.model)[:1]))
        turn = Turn(self.model.open_stream(black.camera), black, judgements=judged)
        outcome = self.model.step([turn])[0]
        if isinstance(outcome, StreamError) and not isinstance(outcome, ModelAway):
            raise outcome

    def begin_session(self, session_id: str, reason: str, started_ns: int) -> None:
        """Begin a session with a clean context, and have it stored.

        Args:
            session_id: a name that the memory does not have yet.
            reason: why it begins, in a few words.
            started_ns: stamp of its first frame, ns.

        Raises:
            SessionError: the memory has a session of this name (without `on_result`).
        """
        self.finish()
        self.writer.begin_session(session_id, self.model.model_id, reason, started_ns)
        if self.harness is None:
            self.start(session_id)
        elif self.harness.session_id != session_id:
            self.harness.open_session(session_id)

    def step(
        self,
        tick: Tick,
        on_partial: PartialText | None = None,
        limits: Limits = NO_LIMITS,
        upcoming: Tick | None = None,
    ) -> StepResult:
        """Process one tick and hand the result to the writer; see `StreamingHarness.step`."""
        if self.harness is None:
            raise RuntimeError("the loop is stopped; call begin_session before the first step")
        result = self.harness.step(tick, on_partial, limits, upcoming)
        for event in result.abandoned:
            _log_abandoned(event)
        for span in result.events:
            _log_long(span, tick.stamp_ns)
        if self.delegate is not None:
            # Before the answer of this step can be found unsure, so that its picture is there.
            self.delegate.note(result)
        self.writer.submit(result)
        if self._captions is not None:
            self._captions.note(result)
        return result

    def prepare(self) -> None:
        """Use the time until the next tick; see `StreamingHarness.prepare`."""
        if self.harness is not None:
            self.harness.prepare()

    @property
    def watching(self) -> frozenset[str]:
        """Query ids of the watches that are active."""
        return self.harness.watching if self.harness is not None else frozenset()

    def end_watches(self, query_ids: Iterable[str]) -> None:
        """End these watches; those that are over already are left alone."""
        for query_id in query_ids:
            if self.harness is not None:
                self.harness.end_watch(query_id)

    @property
    def followed(self) -> tuple[Instruction, ...]:
        """The instructions that the model follows now, without the watches."""
        return followed(self.settings, self.model)

    def check(self, settings: Settings) -> None:
        """Check that the loaded model can do what `settings` ask of it.

        Raises:
            SettingError: it cannot; the message names the setting and the remedy.
        """
        check_settings_for(self.model, settings)

    def flush(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` until every step is stored; whether none waits any more."""
        return isinstance(self.writer, SyncWriter) or self.writer.flush(timeout_s)

    def run(self, source: Source, watch_for: str = "") -> Run:
        """Watch `source` to its end; iterate over the result of this call.

        Args:
            source: its name becomes the session's, its cameras are watched.
            watch_for: what to watch for from the first picture on, in plain words.

        Raises:
            TextRefused: `watch_for` has half a character.
        """
        check_text(watch_for, "what to watch for")
        return Run(self, source, watch_for)

    def _store_answer(
        self, session_id: str, frame: Frame, text: str, model_id: str, query_id: str
    ) -> None:
        self.memory.add_text(
            PictureText(ANSWER, session_id, frame, text, model_id, query_id=query_id)
        )

    def _on_stored(self, result: StepResult) -> None:
        assert self._on_result is not None
        self._on_result(result, None)
        # After everything was published, on the writer's thread: the model's thread never waits
        # for a disk.
        self.summaries.refresh_when_due()


def _log_abandoned(event: AbandonedEvent) -> None:
    open_s = (event.stamp_ns - event.start_ns) / NANOSECONDS
    if event.too_long:
        _log.warning(
            "%s: an event that began %.1f s ago is still not complete and is closed as abandoned;"
            " raise events.max_open_s if real events take longer",
            event.camera,
            open_s,
        )
    else:
        _log.debug("%s: an event that began %.1f s ago ended in silence", event.camera, open_s)


def _log_long(event: EventSpan, stamp_ns: int) -> None:
    if event.still_on and event.end_ns == stamp_ns:
        _log.warning(
            "%s: an event that began %.1f s ago still goes on and is closed (%s); it is not"
            " reported again; raise events.max_open_s if real events take longer",
            event.camera,
            (stamp_ns - event.start_ns) / NANOSECONDS,
            event.label,
        )


class Run:
    """One source on its way through a pipeline: iterate over it once, to step through it.

    Session, ticks and results depend on the source, the settings and the model only, so a recording
    that is watched again gives the same results.

    Attributes:
        session_id: the session's name; empty before the first step.
        first_ns: stamp of the first frame, ns.
    """

    def __init__(self, pipeline: Pipeline, source: Source, watch_for: str) -> None:
        if isinstance(pipeline.writer, MemoryWriter):
            raise RuntimeError("run needs a pipeline that stores each step at once: no on_result")
        self._pipeline, self._source, self._watch_for = pipeline, source, watch_for
        self._writer = pipeline.writer
        self._ticks = TickReader(source.frames(), pipeline.settings.stream.tick_rate_hz)
        self.session_id = ""
        self.first_ns = 0

    @property
    def stale(self) -> int:
        """Frames that were left out because their stamp was not after the one before."""
        return self._ticks.stale

    def __iter__(self) -> Iterator[StepResult]:
        """Step through the source; each result is stored before it is given.

        If reported events still go on at the end of the source, a last step without frames ends
        them.

        Raises:
            WatchRefused: the model cannot be told what to watch for.
            StreamError: the memory or the source cannot be used; what was stored before is kept.
        """
        pipeline, live = self._pipeline, self._source.live
        pipeline.settings = with_cameras(pipeline.settings, self._source.cameras)
        pipeline.stop()
        # The next picture of a live source is not waited for: that would make this one late.
        ticks = ((tick, None) for tick in self._ticks) if live else with_next(self._ticks)
        for tick, upcoming in ticks:
            if not self.session_id:
                tick = self._begin(tick)
            next_tick_s = time.perf_counter() + 1.0 / pipeline.settings.stream.tick_rate_hz
            result = pipeline.step(tick, upcoming=upcoming)
            if self._watch_for and not pipeline.watching:
                raise WatchRefused("; ".join(result.faults.values()))
            # A live source does not wait, so only the time until its next picture is used.
            self._writer.write_texts(next_tick_s if live else None)
            pipeline.summaries.refresh()
            pipeline.prepare()
            yield result
        last = pipeline.finish()
        if last is not None:
            yield last
        self._writer.end_session()
        pipeline.stop()

    def _begin(self, tick: Tick) -> Tick:
        """Begin the session; the first tick, with the watch if there is one."""
        self.first_ns = min(frame.stamp_ns for frame in tick.frames)
        self.session_id = self._begin_named_session()
        self._pipeline.summaries.refresh()
        if not self._watch_for:
            return tick
        recaller = self._pipeline.recaller
        recalled = recaller.context(recaller.recall(self._watch_for), tick.stamp_ns)
        name = f"{self.session_id}-watch"
        watch = Query(name, self._watch_for, tick.stamp_ns, is_watch=True, recalled=recalled)
        return replace(tick, queries=(watch,))

    def _begin_named_session(self) -> str:
        """Begin a session named after the source, numbered where the memory has that name."""
        number = 1
        while True:
            name = self._source.name if number == 1 else f"{self._source.name}-{number}"
            try:
                self._pipeline.begin_session(name, "watching a source without ROS", self.first_ns)
                return name
            except SessionError:
                number += 1
