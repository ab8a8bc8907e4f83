"""Have a model behind an endpoint of the OpenAI chat protocol write captions.

It is called on a separate thread, so neither a step nor a commit waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.captions.prompt import caption_task
from stream_vlm.memory.captions.queue import CaptionQueue, Shown
from stream_vlm.memory.storage.errors import CaptionerError
from stream_vlm.text_models.chat_client import ChatClient, ChatFailed, ChatUnavailable
from stream_vlm.text_models.picture_data import PictureRefused, data_url

KEY = "STREAM_VLM_CAPTION_KEY"
"""Environment variable with the key of the endpoint."""


class EndpointCaptioner:
    """Sends one due picture after the other to the endpoint, until the queue is closed.

    Args:
        settings: with the endpoint and its model.
        queue: the pictures and the captions.
        language: name of the language of the captions, or empty.
        environment: where the key of the endpoint is read from.

    Raises:
        CaptionerError: the settings name no endpoint or no model, or httpx is not installed.
    """

    def __init__(
        self,
        settings: MemorySettings,
        queue: CaptionQueue,
        language: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        for name, value in (
            ("caption_url", settings.caption_url),
            ("caption_model", settings.caption_model),
        ):
            if not value.strip():
                raise CaptionerError(
                    f"memory.{name}: is empty; memory.captioner 'endpoint' needs it. Set it, or"
                    " set memory.captioner to 'auto' or 'off'"
                )
        try:
            self._client = ChatClient(
                settings.caption_url,
                settings.caption_model,
                environment.get(KEY, ""),
                settings.caption_timeout_s,
            )
        except ChatUnavailable as error:
            raise CaptionerError(f"memory.captioner: {error}, or set it to 'off'") from error
        self._queue = queue
        self._task = caption_task(settings.caption_chars, language)
        self._timeout_s = settings.caption_timeout_s
        queue.set_writer(settings.caption_model, "memory.captioner 'endpoint'")
        self._thread = threading.Thread(target=self._run, name="memory-captions", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until no picture is due or being captioned, at most for the time of two requests."""
        self._queue.wait_done(2 * self._timeout_s)

    def _run(self) -> None:
        while (shown := self._queue.take(wait=True)) is not None:
            self._do(shown)
        self._client.close()

    def _do(self, shown: Shown) -> None:
        try:
            reply = self._client.ask_about([data_url(shown.frame.image)], self._task)
        except (ChatFailed, PictureRefused) as error:
            self._queue.fail(f"memory.caption_url: no caption from the endpoint ({error})")
            return
        self._queue.finish(shown, reply)
