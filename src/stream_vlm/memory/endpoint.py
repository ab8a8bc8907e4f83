"""Summaries by a language model behind an endpoint of the OpenAI chat protocol, asked on a thread of its own: no commit waits for it."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stream_vlm.chat import ChatClient, ChatFailed, ChatUnavailable
from stream_vlm.config import MemorySettings
from stream_vlm.memory.errors import MemoryFileError
from stream_vlm.memory.summarize import Material, offset, refusal

KEY = "STREAM_VLM_SUMMARY_KEY"

MOST_WAITING = 50
"""Summaries that wait for the endpoint; of more, the oldest stay as they are."""

MOST_LINES = 400
"""Newest happenings that are shown."""

TASK = (
    "You write the memory of a robot's camera. The user gives what was reported, a line each, with minutes and seconds since the beginning. Sum it "
    "up in at most {most_chars} characters of plain text. Begin with how things stood at the end. Then what cannot be undone, results and their "
    "causes, text and numbers that were read, and what was new; where things were last seen; three to five moments with their times. Where little "
    "happened, one sentence is enough. Say nothing that the lines do not say, and say where they are unsure."
)

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A stored summary that a model may put better: its number, what it says now, and what it is made from."""

    record_id: int
    text: str
    material: Material
    most_chars: int


@dataclass(frozen=True)
class Written:
    """What the model made of a job: words that passed `summarize.refusal`."""

    job: Job
    text: str


class EndpointSummarizer:
    """Hands out jobs to the endpoint one after the other and keeps what comes back until it is fetched.

    A failure and a refusal leave the summary as it is; the first of several in a row is logged, `fault` says the last one until a request succeeds.

    Args:
        on_written: called on this object's thread when something can be fetched.

    Raises:
        MemoryFileError: the settings name no endpoint or no model, or httpx is not installed.
    """

    def __init__(self, settings: MemorySettings, on_written: Callable[[], None], environment: Mapping[str, str] = os.environ) -> None:
        for name, value in (("summary_url", settings.summary_url), ("summary_model", settings.summary_model)):
            if not value.strip():
                raise MemoryFileError(f"memory.{name}: is empty; memory.summarizer 'endpoint' needs it, or set that to 'extractive'")
        try:
            self._client = ChatClient(settings.summary_url, settings.summary_model, environment.get(KEY, ""), settings.summary_timeout_s)
        except ChatUnavailable as error:
            raise MemoryFileError(f"memory.summarizer: {error}; or set it to 'extractive'") from error
        self.model = settings.summary_model
        self.fault = ""
        self.failures = 0
        self._on_written = on_written
        self._jobs: deque[Job] = deque(maxlen=MOST_WAITING)
        self._written: deque[Written] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._asking = False
        self._thread = threading.Thread(target=self._run, name="memory-summaries", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have `job` done when those before it are; returns at once."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def fetch(self) -> Written | None:
        """The next result, or None."""
        with self._changed:
            return self._written.popleft() if self._written else None

    def wait(self, timeout_s: float) -> bool:
        """Wait until something can be fetched, nothing is asked any more, or so many seconds passed; whether something can be fetched."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._written) or not (self._jobs or self._asking), timeout_s)
            return bool(self._written)

    def close(self) -> None:
        """Ask no more. A request under way is not waited for; its reply is lost."""
        with self._changed:
            self._closing = True
            self._jobs.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._closing)
                if self._closing:
                    break
                job = self._jobs.popleft()
                self._asking = True
            self._do(job)
            with self._changed:
                self._asking = False
                self._changed.notify_all()
        self._client.close()

    def _do(self, job: Job) -> None:
        lines = [f"{offset(one.start_ns, job.material.since_ns)} {one.text}" for one in job.material.happenings[-MOST_LINES:]]
        try:
            text = " ".join(_THOUGHTS.sub("", self._client.ask(TASK.format(most_chars=job.most_chars), "\n".join(lines))).split())
            refused = refusal(text, job.material, job.most_chars)
        except ChatFailed as error:
            self._failed(f"memory.summary_url: no summary from the endpoint ({error})")
            return
        if refused:
            self._failed(f"memory.summary_model: a summary of {self.model} is refused: {refused}")
            return
        with self._changed:
            self.fault = ""
            self._written.append(Written(job, text))
        self._on_written()

    def _failed(self, fault: str) -> None:
        if not self.fault:
            _log.warning("%s; the summary keeps the records' own words", fault)
        with self._changed:
            self.failures += 1
            self.fault = fault
