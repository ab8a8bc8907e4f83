"""Which picture is to be captioned next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.captions.prompt import caption_in
from stream_vlm.memory.captions.scene_change import SceneChange
from stream_vlm.memory.storage.picture_texts import PictureText, PictureTexts
from stream_vlm.memory.storage.step_rows import CAPTION
from stream_vlm.types import NANOSECONDS, Frame, StepResult

NEW_SCENE_SHARE = 0.2
"""After this share of `memory.caption_s` a new scene is captioned."""

MAX_FAILURES_IN_A_ROW = 10
"""After so many failed captions in a row no more are asked for."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """A picture that can be captioned.

    Attributes:
        session_id: the session of the step that processed it.
        frame: the picture with its stamp and pose.
        vector: the picture as one vector, float32, (size,); None if the model gave none.
    """

    session_id: str
    frame: Frame
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class CaptionHealth:
    """What was captioned, for diagnostics.

    Attributes:
        captioner: the model that writes captions, or "off".
        written: captions written since the start.
        failures: how many captions failed.
        fault: why the last one failed; empty after a success.
    """

    captioner: str = "off"
    written: int = 0
    failures: int = 0
    fault: str = ""


class _Camera:
    """The newest picture of one camera, and when its last caption was."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self.captioned_ns: int | None = None
        self.is_new_scene = False
        self._change = SceneChange()
        self._see(shown)

    def note(self, shown: Shown) -> None:
        self.shown = shown
        self._see(shown)

    def _see(self, shown: Shown) -> None:
        if shown.vector is not None and self._change.is_new(shown.vector):
            self.is_new_scene = True

    def waited_ns(self) -> int | None:
        """Time from the last captioned picture to the newest; None if there was no caption."""
        if self.captioned_ns is None:
            return None
        return self.shown.frame.stamp_ns - self.captioned_ns


class CaptionQueue:
    """Holds the newest picture of each camera until it is taken.

    A picture is due if the camera has no caption yet, if the last one is `memory.caption_s` old, or
    earlier if the scene has changed. An older picture is never captioned after a newer one came.
    Any thread may call any method; one thread takes pictures.

    Args:
        settings: of the memory; `caption_s` may change.
        texts: takes the captions.
    """

    def __init__(self, settings: MemorySettings, texts: PictureTexts) -> None:
        self._settings = settings
        self._texts = texts
        self._setting = ""
        self._model_id = ""
        self._remedy = ""
        self._session_id = ""
        self._cameras: dict[str, _Camera] = {}
        self._newest_ns = 0
        self._taken: Shown | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._failures_in_a_row = 0
        self._counts = {"written": 0, "failures": 0}
        self._fault = ""

    def set_writer(self, model_id: str, setting: str, remedy: str = "") -> None:
        """Set who writes.

        Args:
            model_id: the model.
            setting: the setting that faults name.
            remedy: what to do if the model fails again and again, so that it is not asked any more.
                Empty asks it for ever, as a server that may come back.
        """
        self._model_id, self._setting, self._remedy = model_id, setting, remedy

    @property
    def health(self) -> CaptionHealth:
        """What was done so far."""
        with self._changed:
            return CaptionHealth(
                self._model_id or "off",
                self._counts["written"],
                self._counts["failures"],
                self._fault,
            )

    def note(self, result: StepResult) -> None:
        """Take the pictures of a step that the model could use; returns at once."""
        with self._changed:
            if self._closed:
                return
            if result.session_id != self._session_id:
                self._session_id, self._cameras, self._newest_ns = result.session_id, {}, 0
            vectors: Mapping[str, NDArray[np.float32]] = result.picture_vectors
            for frame in result.tick.frames:
                if frame.camera not in result.decisions:
                    continue
                shown = Shown(result.session_id, frame, vectors.get(frame.camera))
                if (known := self._cameras.get(frame.camera)) is None:
                    self._cameras[frame.camera] = _Camera(shown)
                else:
                    known.note(shown)
                self._newest_ns = max(self._newest_ns, frame.stamp_ns)
            self._changed.notify_all()

    @property
    def has_due(self) -> bool:
        """Whether a picture is due."""
        with self._changed:
            return self._due() is not None

    def take(self, *, wait: bool = False) -> Shown | None:
        """Return the picture that is due, of the camera that waits longest, or None.

        With `wait`, wait for one; None then means that the queue is closed. `finish`, `fail` or
        `drop` must follow.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._due() is not None)
            camera = self._due()
            if camera is None:
                return None
            camera.captioned_ns = camera.shown.frame.stamp_ns
            camera.is_new_scene = False
            self._taken = camera.shown
            return self._taken

    def finish(self, shown: Shown, reply: str) -> bool:
        """Keep the caption of `shown` in `reply`; return whether there is one."""
        text = caption_in(reply, self._settings.caption_chars)
        if not text:
            self.fail(
                f"{self._setting}: a caption by {self._model_id} is rejected: it has no whole"
                f" sentence of at most {self._settings.caption_chars} characters"
                " (memory.caption_chars)"
            )
            return False
        with self._changed:
            self._failures_in_a_row, self._fault = 0, ""
            self._counts["written"] += 1
            is_open, model_id = not self._closed, self._model_id
        if is_open:
            frame, session_id = shown.frame, shown.session_id
            self._texts.add(PictureText(CAPTION, session_id, frame, text, model_id, shown.vector))
        with self._changed:
            # Only now: whoever waits for this caption finds it among the texts to store.
            self._taken = None
            self._changed.notify_all()
        return True

    def fail(self, fault: str) -> None:
        """Report that the taken picture got no caption, because of `fault`."""
        with self._changed:
            is_first, self._fault = not self._fault, fault
            self._taken = None
            self._counts["failures"] += 1
            self._failures_in_a_row += 1
            gives_up = bool(self._remedy) and self._failures_in_a_row == MAX_FAILURES_IN_A_ROW
            if gives_up:
                self._fault = (
                    f"{fault}; after {MAX_FAILURES_IN_A_ROW} failures in a row no more captions are"
                    f" asked for: {self._remedy}"
                )
            self._changed.notify_all()
        if gives_up:
            self.close()
        if is_first or gives_up:
            _log.warning("%s", self._fault)

    def drop(self) -> None:
        """Report that the taken picture is not captioned any more."""
        with self._changed:
            self._taken = None
            self._changed.notify_all()

    def report_no_time(self, fault: str) -> None:
        """Report that there is no time to write, as `fault` says."""
        with self._changed:
            is_first, self._fault = not self._fault, fault
        if is_first:
            _log.warning("%s", fault)

    def wait_done(self, timeout_s: float) -> None:
        """Wait until no picture is due or being captioned, for at most `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (self._taken is None and self._due() is None), timeout_s
            )

    def close(self) -> None:
        """Take no more pictures; a caption that is being written is lost."""
        with self._changed:
            self._closed = True
            self._cameras = {}
            self._changed.notify_all()

    def _due(self) -> _Camera | None:
        period_ns = round(self._settings.caption_s * NANOSECONDS)
        due: _Camera | None = None
        for camera in self._cameras.values():
            # A camera that stands still shows the past: that is no news.
            if self._newest_ns - camera.shown.frame.stamp_ns > period_ns:
                continue
            waited_ns = camera.waited_ns()
            if waited_ns is None:
                return camera
            needed_ns = NEW_SCENE_SHARE * period_ns if camera.is_new_scene else period_ns
            if waited_ns > 0 and waited_ns >= needed_ns:
                longest = (due.waited_ns() or 0) if due is not None else 0
                due = camera if waited_ns > longest else due
        return due
