"""Watchers that understand nothing: what any figure has to be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.run_records import TimedEvent, TimedUtterance
from stream_vlm.types import Frame
from stream_vlm_lab.evaluation.online.online_pass import Look, TimedQuestion, Watcher

COMMONEST_CAPTION = "person in red enters from the left"
"""What a baseline says when it has to say something: arrivals are the commonest event of the
simulated rooms.
"""
COMMONEST_ANSWER = "yes"


class AlwaysSilent:
    """Says nothing, whatever happens and whatever is asked."""

    name = "always silent"

    def begin(self, session: str) -> None:
        """Nothing to forget."""

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        """Silence."""
        return Look("silence")


class AlwaysSpeaking:
    """Reports the same event at every tick and answers every question with the same word."""

    name = "always speaking"

    def __init__(self) -> None:
        self._previous_t = 0.0

    def begin(self, session: str) -> None:
        """Forget the last tick."""
        self._previous_t = 0.0

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        """Speak."""
        since, self._previous_t = self._previous_t, t
        return speaking(since, t, question)


class MotionThreshold:
    """Reports an event when the picture has stopped to change, from when it began to.

    A picture changes when its grey levels at 48 x 32 differ from those of the picture before by
    more than `threshold` on average. The threshold was fixed before any held-out room was seen;
    what happened is beyond it, so it always says the same.
    """

    name = "motion threshold"

    def __init__(self, threshold: float = 3.0) -> None:
        self._threshold = threshold
        self.begin("")

    def begin(self, session: str) -> None:
        """Forget the picture before."""
        self._previous: NDArray[np.int16] | None = None
        self._since: float | None = None

    def look(self, index: int, t: float, frame: Frame, question: TimedQuestion | None) -> Look:
        """Compare `frame` with the one before."""
        small = cv2.resize(frame.image, (48, 32), interpolation=cv2.INTER_AREA).astype(np.int16)
        changes = (
            self._previous is not None
            and float(np.abs(small - self._previous).mean()) > self._threshold
        )
        self._previous = small
        if changes:
            self._since = t if self._since is None else self._since
            return Look("standby", answer=COMMONEST_ANSWER if question else "")
        since, self._since = self._since, None
        if since is not None:
            return speaking(since, t, question)
        return Look("silence", answer=COMMONEST_ANSWER if question else "")


def speaking(since: float, t: float, question: TimedQuestion | None) -> Look:
    """A report of the commonest event from `since` to `t`, or the commonest answer where something
    was asked.
    """
    if question is not None and not question.is_watch:
        return Look("response", answer=COMMONEST_ANSWER)
    event = TimedEvent(COMMONEST_CAPTION, since, t)
    return Look("response", (TimedUtterance(t, COMMONEST_CAPTION),), (event,))


def with_baselines(watchers: Sequence[Watcher]) -> list[Watcher]:
    """`watchers` and, where none of them has its name, each baseline that needs no model."""
    named = {watcher.name for watcher in watchers}
    return [
        *watchers,
        *(
            baseline
            for baseline in (AlwaysSilent(), AlwaysSpeaking(), MotionThreshold())
            if baseline.name not in named
        ),
    ]
