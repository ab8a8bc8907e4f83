"""Baselines without a model: every score has to be compared with theirs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import Frame
from stream_vlm_lab.evaluation.online.online_pass import (
    ExaminedModel,
    FrameResult,
    TimedQuestion,
)

COMMONEST_CAPTION = "person in red enters from the left"
"""The event that the baselines report: the most frequent one in the simulated rooms."""
COMMONEST_ANSWER = "yes"


class AlwaysSilent:
    """Never says anything and answers no question."""

    name = "always silent"

    def start_stream(self, session: str) -> None:
        """Do nothing; this baseline has no state."""

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        """Return silence."""
        return FrameResult("silence")


class AlwaysSpeaking:
    """Reports the same event at every tick and answers every question with the same word."""

    name = "always speaking"

    def __init__(self) -> None:
        self._previous_t = 0.0

    def start_stream(self, session: str) -> None:
        """Reset the time of the previous tick."""
        self._previous_t = 0.0

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        """Return a response with the same event as always."""
        since, self._previous_t = self._previous_t, t
        return speaking(since, t, question)


class MotionThreshold:
    """Reports an event whenever the picture stops changing.

    A picture changes if its grey levels at 48 x 32 pixels differ from the previous picture by more
    than `threshold` on average. The threshold was chosen before the held-out rooms were used. This
    baseline cannot tell what happened, so it always reports the same event.
    """

    name = "motion threshold"

    def __init__(self, threshold: float = 3.0) -> None:
        self._threshold = threshold
        self.start_stream("")

    def start_stream(self, session: str) -> None:
        """Forget the previous picture."""
        self._previous: NDArray[np.int16] | None = None
        self._since: float | None = None

    def step(
        self, index: int, t: float, frame: Frame, question: TimedQuestion | None
    ) -> FrameResult:
        """Compare `frame` with the previous frame."""
        small = cv2.resize(frame.image, (48, 32), interpolation=cv2.INTER_AREA).astype(np.int16)
        changes = (
            self._previous is not None
            and float(np.abs(small - self._previous).mean()) > self._threshold
        )
        self._previous = small
        if changes:
            self._since = t if self._since is None else self._since
            return FrameResult("standby", answer=COMMONEST_ANSWER if question else "")
        since, self._since = self._since, None
        if since is not None:
            return speaking(since, t, question)
        return FrameResult("silence", answer=COMMONEST_ANSWER if question else "")


def speaking(since: float, t: float, question: TimedQuestion | None) -> FrameResult:
    """Report the commonest event from `since` to `t`, or answer with the commonest answer.

    Questions get the answer, everything else the event.
    """
    if question is not None and not question.is_watch:
        return FrameResult("response", answer=COMMONEST_ANSWER)
    event = TimedEvent(COMMONEST_CAPTION, since, t)
    return FrameResult("response", (TimedUtterance(t, COMMONEST_CAPTION),), (event,))


def add_baselines(models: Sequence[ExaminedModel]) -> list[ExaminedModel]:
    """Add each baseline to `models`, unless one of them has its name already."""
    named = {model.name for model in models}
    return [
        *models,
        *(
            baseline
            for baseline in (AlwaysSilent(), AlwaysSpeaking(), MotionThreshold())
            if baseline.name not in named
        ),
    ]
