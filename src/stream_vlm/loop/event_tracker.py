"""Decisions over time → event spans: Standby opens a span, Response closes it (Streamo, arXiv
2512.21334).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.types import NANOSECONDS, Decision, EventSpan, Frame, State

LONGEST_TICK_NS = 2 * NANOSECONDS
"""Longer without a frame, a camera was away."""


@dataclass
class EventTracker:
    """Grounds one camera's events in time.

    A Standby opens a span. A Response closes it; without one it reports an instant, whose span
    reaches back to the frame before. Silence longer than the grace period, or a span longer than
    the limit, gives the event up: what never completed is not reported.

    What a frame shows first happened somewhere between the frame before and this one, half a tick
    earlier on average. With `boundary` at "midpoint" both ends of a span lie there, at "frames" they
    are the frames' own stamps. A frame from long ago says little about that: a longer gap than
    `LONGEST_TICK_NS` counts as one of that length. The stamp of the evidence stands beside the
    span.
    """

    session_id: str
    camera: str
    settings: EventSettings
    under_way_since: int | None = None
    _standby_confidences: list[float] = field(default_factory=list)
    _last_seen_under_way: int = 0
    _previous_stamp: int | None = None
    _completed: int = 0

    def observe(self, frame: Frame, decision: Decision) -> EventSpan | None:
        """Take in the decision about `frame` (unasked, not an answer to a query) and return the
        event that it completes, if any.
        """
        self._give_up_stale(frame.stamp_ns)
        span = None
        if decision.state is State.STANDBY:
            if self.under_way_since is None:
                self.under_way_since = self._edge(frame.stamp_ns)
            self._last_seen_under_way = frame.stamp_ns
            self._standby_confidences.append(decision.confidence)
        elif decision.state is State.RESPONSE:
            span = self._close(frame, decision)
        self._previous_stamp = frame.stamp_ns
        return span

    def _close(self, frame: Frame, decision: Decision) -> EventSpan:
        if self.under_way_since is not None:
            start_ns, end_ns = self.under_way_since, self._edge(frame.stamp_ns)
        else:
            start_ns, end_ns = frame.stamp_ns - self._reach_ns(frame.stamp_ns), frame.stamp_ns
        confidences = [*self._standby_confidences, decision.confidence]
        self._completed += 1
        self._forget()
        return EventSpan(
            event_id=f"{self.session_id}-{self.camera}-e{self._completed}",
            camera=self.camera,
            frame_id=frame.frame_id,
            stamp_ns=frame.stamp_ns,
            label=decision.text,
            start_ns=start_ns,
            end_ns=end_ns,
            confidence=sum(confidences) / len(confidences),
        )

    def _give_up_stale(self, stamp_ns: int) -> None:
        if self.under_way_since is None:
            return
        # The decision about this frame is not in yet, so one tick of quiet is no quiet.
        quiet = (
            stamp_ns - self._last_seen_under_way
            > self.settings.grace_s * NANOSECONDS + self._tick_ns(stamp_ns)
        )
        too_long = stamp_ns - self.under_way_since > self.settings.max_open_s * NANOSECONDS
        if quiet or too_long:
            self._forget()

    def _edge(self, stamp_ns: int) -> int:
        return (
            stamp_ns - self._reach_ns(stamp_ns) // 2
            if self.settings.boundary == "midpoint"
            else stamp_ns
        )

    def _reach_ns(self, stamp_ns: int) -> int:
        """How far back what a frame shows may have happened."""
        return min(self._tick_ns(stamp_ns), LONGEST_TICK_NS)

    def _tick_ns(self, stamp_ns: int) -> int:
        """Time since the frame before; 0 for the first."""
        return stamp_ns - self._previous_stamp if self._previous_stamp is not None else 0

    def _forget(self) -> None:
        self.under_way_since = None
        self._standby_confidences.clear()
