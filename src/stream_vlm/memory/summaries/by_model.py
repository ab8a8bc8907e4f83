"""Have the running model write summaries on its own thread, a slice at a time between its steps."""

from __future__ import annotations

from collections.abc import Callable

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.storage.errors import SummarizerError
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.memory.summaries.prompt import TASK, lines_of, whole_sentences
from stream_vlm.model_protocol import TextWriter, WritesTexts, Writing
from stream_vlm.types import StreamError

SETTING = "memory.summarizer 'model'"
"""The setting that fault messages name."""

CHARS_PER_TOKEN = 2
"""Characters of a summary per token of its limit; texts have two to five, so few are truncated."""

MIN_TOKENS = 64
"""The token limit of a summary is at least this."""

MAX_FAILURES_IN_A_ROW = 10
"""After so many failed summaries in a row the model is not asked again."""

MAX_BUSY_STEPS = 200
"""After so many steps in a row without time for a waiting summary, this is reported."""


def summary_writer(settings: MemorySettings, model: object) -> TextWriter | None:
    """Return how `model` writes summaries, or None if the settings use another summarizer.

    Raises:
        SummarizerError: the model cannot write summaries.
    """
    if settings.summarizer != "model":
        return None
    if not isinstance(model, WritesTexts):
        name = getattr(model, "model_id", type(model).__name__)
        raise SummarizerError(
            f"{SETTING}: {name} cannot write texts between its steps; use a Qwen2.5-VL or Qwen3-VL,"
            " or set it to 'extractive' or 'endpoint'"
        )
    max_tokens = max(MIN_TOKENS, settings.summary_chars // CHARS_PER_TOKEN)
    try:
        return model.text_writer(
            TASK.format(max_chars=settings.summary_chars), settings.summary_tokens, max_tokens
        )
    except StreamError as error:
        raise SummarizerError(
            f"{SETTING}: {error}; or set it to 'extractive' or 'endpoint'"
        ) from error


class ModelSummarizer:
    """Takes one job after the other and lets the model write it.

    It belongs to the model's thread; only `has_work` may be used on other threads. Each call of
    `advance` does one slice of a job. The stored summary changes only when the job is finished.

    Args:
        jobs: the queue of jobs.
        writer: the model's text writer.
        model_id: name of the model.
    """

    def __init__(self, jobs: SummaryJobs, writer: TextWriter, model_id: str) -> None:
        self._writer = writer
        self.jobs = jobs
        jobs.set_writer(model_id, SETTING)
        self._job: Job | None = None
        self._writing: Writing | None = None
        self._failures_in_a_row = 0
        self._busy_steps = 0

    @property
    def has_work(self) -> bool:
        """Whether there is something to write."""
        return self._writing is not None or self.jobs.has_waiting

    def listen(self, on_work: Callable[[], None]) -> None:
        """Call `on_work` whenever a job was added, on the thread that added it."""
        self.jobs.listen(on_work)

    def advance(self) -> bool:
        """Do the next slice of the current job, or start the next job.

        If it fails, the summary keeps its text.

        Returns:
            Whether this finished a summary.
        """
        self._busy_steps = 0
        if self._job is not None and self.jobs.is_stale(self._job):
            self._clear()
            self.jobs.drop()
        try:
            if self._writing is None:
                self._begin()
                return False
            self._writing.advance()
        except Exception as error:
            # Whatever the model raises: its steps must continue, and the next job may succeed.
            self._clear()
            self.jobs.fail(
                f"{SETTING}: {error}"
                if isinstance(error, StreamError)
                else f"{SETTING}: the model failed: {error!r}"
            )
            self._count_result(succeeded=False)
            return False
        job, writing = self._job, self._writing
        assert job is not None
        if not writing.is_over and len(writing.text) <= job.max_chars:
            return False
        self._clear()
        finished = self.jobs.finish(job, whole_sentences(writing.text, job.max_chars))
        self._count_result(succeeded=finished)
        return finished

    def note_step(self) -> None:
        """Count a step; many in a row without `advance` between them mean that there is no time."""
        if not self.has_work:
            return
        self._busy_steps += 1
        if self._busy_steps == MAX_BUSY_STEPS:
            self.jobs.report_no_time(
                f"{SETTING}: {self.jobs.unfinished} summaries wait, but {MAX_BUSY_STEPS} steps in a"
                " row left no time to write; lower stream.rate_hz, use a smaller model, or set it"
                " to 'endpoint'"
            )

    def stop(self) -> None:
        """Stop writing and free what it used; the job goes back to the queue."""
        job = self._job
        self._clear()
        if job is not None:
            self.jobs.requeue(job)

    def _begin(self) -> None:
        self._job = self.jobs.take()
        if self._job is not None:
            self._writing = self._writer.begin(lines_of(self._job.material))

    def _count_result(self, *, succeeded: bool) -> None:
        self._failures_in_a_row = 0 if succeeded else self._failures_in_a_row + 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.jobs.give_up(
                f"{self.jobs.fault}; after {MAX_FAILURES_IN_A_ROW} failures in a row the model is"
                " not asked again: set memory.summarizer to 'extractive' or 'endpoint', or use a"
                " larger model"
            )

    def _clear(self) -> None:
        self._job = self._writing = None
