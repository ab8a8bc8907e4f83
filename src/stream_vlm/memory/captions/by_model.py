"""Have the running model write captions on its own thread, a slice at a time between its steps."""

from __future__ import annotations

import logging
from collections.abc import Callable

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.captions.prompt import caption_task
from stream_vlm.memory.captions.queue import CaptionQueue, Shown
from stream_vlm.memory.storage.errors import CaptionerError
from stream_vlm.model_protocol import (
    DescribesPictures,
    JudgesInstructions,
    ModelAway,
    PictureWriter,
    Writing,
)
from stream_vlm.types import StreamError

SETTING = "memory.captioner 'model'"
"""The setting that fault messages name."""

REMEDY = "set memory.captioner to 'endpoint' or 'off', or use a larger model"

CHARS_PER_TOKEN = 2
"""Characters of a caption per token of its limit; texts have two to five, so few are truncated."""

MAX_BUSY_STEPS = 200
"""After so many steps in a row without time for a caption that is due, this is reported."""

_log = logging.getLogger(__name__)


def picture_writer(
    settings: MemorySettings, model: object, language: str = ""
) -> PictureWriter | None:
    """Return how `model` writes captions, or None if it is not to.

    Args:
        settings: of the memory.
        model: the running model.
        language: name of the language of the captions, or empty.

    Raises:
        CaptionerError: the settings want captions of a model that cannot write them.
    """
    chosen = settings.captioner
    if chosen not in ("auto", "model"):
        return None
    if chosen == "auto" and not (
        isinstance(model, JudgesInstructions) and model.judges_instructions
    ):
        return None
    name = getattr(model, "model_id", type(model).__name__)
    try:
        if not isinstance(model, DescribesPictures):
            raise CaptionerError(f"{name} cannot write texts about pictures between its steps")
        return model.picture_writer(
            caption_task(settings.caption_chars, language),
            max(16, settings.caption_chars // CHARS_PER_TOKEN),
        )
    except StreamError as error:
        if chosen == "auto":
            _log.warning("no captions are stored (memory.captioner auto): %s", error)
            return None
        raise CaptionerError(f"{SETTING}: {error}; set it to 'endpoint' or 'off'") from error


class ModelCaptioner:
    """Takes one due picture after the other and lets the model describe it.

    It belongs to the model's thread. Each call of `advance` does one slice.

    Args:
        queue: the pictures and the captions.
        writer: the model's writer.
        model_id: name of the model.
    """

    def __init__(self, queue: CaptionQueue, writer: PictureWriter, model_id: str) -> None:
        self._queue, self._writer = queue, writer
        queue.set_writer(model_id, SETTING, REMEDY)
        self._shown: Shown | None = None
        self._writing: Writing | None = None
        self._busy_steps = 0

    @property
    def has_work(self) -> bool:
        """Whether there is something to write."""
        return self._writing is not None or self._queue.has_due

    def listen(self, on_work: Callable[[], None]) -> None:
        """Do nothing: pictures become due in a step only, and the model's thread runs it."""

    def advance(self) -> bool:
        """Do the next slice of the current caption, or begin the caption of the newest picture.

        Returns:
            Whether this finished a caption.
        """
        self._busy_steps = 0
        try:
            if self._writing is None:
                self._shown = self._queue.take()
                if self._shown is not None:
                    self._writing = self._writer.begin(self._shown.frame)
                return False
            self._writing.advance()
        except ModelAway:
            # A server that is away is no reason to stop: it may be back at the next picture.
            self.stop()
            return False
        except Exception as error:
            # Whatever the model raises: its steps must continue, and the next picture may succeed.
            self._clear()
            self._queue.fail(
                f"{SETTING}: {error}"
                if isinstance(error, StreamError)
                else f"{SETTING}: the model failed: {error!r}"
            )
            return False
        shown, writing = self._shown, self._writing
        assert shown is not None
        if not writing.is_over:
            return False
        self._clear()
        return self._queue.finish(shown, writing.text)

    def note_step(self) -> None:
        """Count a step; many in a row without `advance` between them mean that there is no time."""
        if not self.has_work:
            return
        self._busy_steps += 1
        if self._busy_steps == MAX_BUSY_STEPS:
            self._queue.report_no_time(
                f"{SETTING}: a caption waits, but {MAX_BUSY_STEPS} steps in a row left no time to"
                " write; lower stream.rate_hz, use a smaller model, or set memory.captioner to"
                " 'endpoint' or 'off'"
            )

    def stop(self) -> None:
        """Stop writing and free what it used; the caption is lost."""
        if self._shown is not None:
            self._queue.drop()
        self._clear()

    def _clear(self) -> None:
        self._shown = self._writing = None
