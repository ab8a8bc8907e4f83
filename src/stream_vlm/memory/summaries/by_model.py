"""Summaries by the running model: written on its own thread, a slice of work at a time, in the
moments that its looks leave.
"""

from __future__ import annotations

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.storage.errors import SummarizerError
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.memory.summaries.prompt import TASK, lines_of, whole_sentences
from stream_vlm.model_protocol import TextWriter, WritesTexts, Writing
from stream_vlm.types import StreamError

SETTING = "memory.summarizer 'model'"

CHARS_PER_TOKEN = 2
"""A summary is given a token for every so many of its characters: texts have two to five a token,
so few are cut.
"""

MIN_TOKENS = 64
"""A summary has at least so many."""

MAX_FAILURES_IN_A_ROW = 10
"""Summaries that came to nothing one after the other, from which it is clear that the model cannot
write them.
"""

MAX_BUSY_STEPS = 200
"""Looks, one after the other, that left no moment for a summary that waits, before that is said."""


def summary_writer(settings: MemorySettings, model: object) -> TextWriter | None:
    """How `model` writes summaries, where the settings have it do so; None where they do not.

    Raises:
        SummarizerError: it cannot be told what to write.
    """
    if settings.summarizer != "model":
        return None
    if not isinstance(model, WritesTexts):
        name = getattr(model, "model_id", type(model).__name__)
        raise SummarizerError(
            f"{SETTING}: {name} writes no texts between its looks; take a Qwen2.5-VL or Qwen3-VL,"
            " or set it to 'extractive' or 'endpoint'"
        )
    most_tokens = max(MIN_TOKENS, settings.summary_chars // CHARS_PER_TOKEN)
    try:
        return model.text_writer(
            TASK.format(max_chars=settings.summary_chars), settings.summary_tokens, most_tokens
        )
    except StreamError as error:
        raise SummarizerError(
            f"{SETTING}: {error}; or set it to 'extractive' or 'endpoint'"
        ) from error


class ModelSummarizer:
    """Takes one job after the other and has the model write it.

    Belongs to the model's thread; only `waits` may be asked on others.

    A job is begun, done a slice a call of `advance`, and finished or failed; what is stored changes
    only once it is finished.
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

    def advance(self) -> bool:
        """Do the next slice of what is being written, or begin with what waits; whether a summary
        is finished by that.

        Whatever goes wrong leaves the summary as it was.
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
        except Exception as error:  # whatever a model stumbles over: its looks go on, and another summary may succeed
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
        """A look begins; where one follows the other without `advance` between them, there is no
        time to write.
        """
        if not self.has_work:
            return
        self._busy_steps += 1
        if self._busy_steps == MAX_BUSY_STEPS:
            self.jobs.report_no_time(
                f"{SETTING}: {self.jobs.unfinished} summaries wait, but {MAX_BUSY_STEPS} looks one after"
                " the other left no time to write; lower stream.rate_hz, take a smaller model, or"
                " set it to 'endpoint'"
            )

    def stop(self) -> None:
        """Stop writing and give back what that took; the job waits for whoever goes on."""
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
                f"{self.jobs.fault}; {MAX_FAILURES_IN_A_ROW} came to nothing one after the other, it is"
                " asked no more: set memory.summarizer to 'extractive' or 'endpoint', or take a"
                " larger model"
            )

    def _clear(self) -> None:
        self._job = self._writing = None
