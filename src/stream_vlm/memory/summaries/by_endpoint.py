"""Have a language model behind an endpoint of the OpenAI chat protocol write summaries.

It is called on a separate thread, so no commit waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.memory.summaries.prompt import TASK, lines_of
from stream_vlm.text_models.chat_client import ChatClient, ChatFailed, ChatUnavailable

KEY = "STREAM_VLM_SUMMARY_KEY"
"""Environment variable with the key of the endpoint."""


class EndpointSummarizer:
    """Sends one summary job after the other to the endpoint, until the jobs are closed.

    Args:
        settings: with the endpoint and its model.
        jobs: the queue of jobs.
        environment: where the key of the endpoint is read from.

    Raises:
        MemoryFileError: the settings name no endpoint or no model, or httpx is not installed.
    """

    def __init__(
        self,
        settings: MemorySettings,
        jobs: SummaryJobs,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        for name, value in (
            ("summary_url", settings.summary_url),
            ("summary_model", settings.summary_model),
        ):
            if not value.strip():
                raise MemoryFileError(
                    f"memory.{name}: is empty; memory.summarizer 'endpoint' needs it. Set it, or"
                    " set memory.summarizer to 'extractive'"
                )
        try:
            self._client = ChatClient(
                settings.summary_url,
                settings.summary_model,
                environment.get(KEY, ""),
                settings.summary_timeout_s,
            )
        except ChatUnavailable as error:
            raise MemoryFileError(
                f"memory.summarizer: {error}, or set it to 'extractive'"
            ) from error
        self._jobs = jobs
        jobs.set_writer(settings.summary_model, "memory.summary_model")
        self._thread = threading.Thread(target=self._run, name="memory-summaries", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.take(wait=True)) is not None:
            self._do(job)
        self._client.close()

    def _do(self, job: Job) -> None:
        try:
            reply = self._client.ask(
                TASK.format(max_chars=job.max_chars), "\n".join(lines_of(job.material))
            )
        except ChatFailed as error:
            self._jobs.fail(f"memory.summary_url: no summary from the endpoint ({error})")
            return
        self._jobs.finish(job, reply)
