"""Turns the decisions of one camera into events with a beginning and an end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.types import NANOSECONDS, AbandonedEvent, Decision, EventSpan, Frame, State

LONGEST_TICK_NS = 2 * NANOSECONDS
"""A longer gap between two frames means that the camera was off."""


def reach_ns(previous_ns: int | None, stamp_ns: int) -> int:
    """How long before a frame a change that it shows may have happened, ns.

    Args:
        previous_ns: stamp of the frame before; None for the first frame.
        stamp_ns: stamp of the frame.
    """
    return min(stamp_ns - previous_ns, LONGEST_TICK_NS) if previous_ns is not None else 0


def boundary_ns(settings: EventSettings, previous_ns: int | None, stamp_ns: int) -> int:
    """Start or end of an event that the frame of `stamp_ns` is the first to show, int64 ns."""
    if settings.boundary == "midpoint":
        return stamp_ns - reach_ns(previous_ns, stamp_ns) // 2
    return stamp_ns


class Observation(NamedTuple):
    """What one decision changed; it can abandon an old event and complete a new one.

    Attributes:
        completed: the event that the decision completed, or None.
        abandoned: the open event that was abandoned, or None.
    """

    completed: EventSpan | None = None
    abandoned: AbandonedEvent | None = None


NOTHING = Observation()
"""A decision that changed nothing."""


@dataclass
class EventTracker:
    """Finds the events of one camera and when they began and ended.

    A standby opens an event and a response closes it (Streamo, arXiv 2512.21334). A response
    without a standby before it is an instant event, whose span begins at the previous frame. An
    open event is abandoned after silence longer than `events.grace_s`, or when it is open longer
    than `events.max_open_s`.

    A change that a frame is the first to show happened after the previous frame, half a tick
    earlier on average. With `events.boundary` "midpoint" both ends of a span are halfway between
    two frames; with "frames" they are the stamps of the frames. A gap longer than `LONGEST_TICK_NS`
    counts as a gap of that length. `EventSpan.stamp_ns` is always the stamp of the frame of the
    response.

    Attributes:
        session_id: the session; part of each event id.
        camera: the camera; part of each event id.
        settings: the settings `events`.
        under_way_since: beginning of the open event, int64 ns, or None.
    """

    session_id: str
    camera: str
    settings: EventSettings
    under_way_since: int | None = None
    _standby_confidences: list[float] = field(default_factory=list)
    _last_seen_under_way: int = 0
    _previous_stamp: int | None = None
    _completed: int = 0

    def observe(self, frame: Frame, decision: Decision) -> Observation:
        """Take in the decision about `frame` and return what it changes.

        The decision must not be an answer to a question.
        """
        abandoned = self._abandon_stale(frame.stamp_ns)
        completed = None
        if decision.state is State.STANDBY:
            if self.under_way_since is None:
                self.under_way_since = self._boundary_ns(frame.stamp_ns)
            self._last_seen_under_way = frame.stamp_ns
            self._standby_confidences.append(decision.confidence)
        elif decision.state is State.RESPONSE:
            completed = self._close(frame, decision)
        self._previous_stamp = frame.stamp_ns
        return Observation(completed, abandoned)

    def _close(self, frame: Frame, decision: Decision) -> EventSpan:
        if self.under_way_since is not None:
            start_ns, end_ns = self.under_way_since, self._boundary_ns(frame.stamp_ns)
        else:
            reach = reach_ns(self._previous_stamp, frame.stamp_ns)
            start_ns, end_ns = frame.stamp_ns - reach, frame.stamp_ns
        confidences = [*self._standby_confidences, decision.confidence]
        self._completed += 1
        self._clear_open_event()
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

    def _abandon_stale(self, stamp_ns: int) -> AbandonedEvent | None:
        start_ns = self.under_way_since
        if start_ns is None:
            return None
        # The decision about this frame is not known yet, so the last tick is no silence.
        quiet = (
            stamp_ns - self._last_seen_under_way
            > self.settings.grace_s * NANOSECONDS + self._tick_ns(stamp_ns)
        )
        too_long = stamp_ns - start_ns > self.settings.max_open_s * NANOSECONDS
        if not (quiet or too_long):
            return None
        self._clear_open_event()
        return AbandonedEvent(self.camera, start_ns, stamp_ns, too_long=not quiet)

    def _boundary_ns(self, stamp_ns: int) -> int:
        return boundary_ns(self.settings, self._previous_stamp, stamp_ns)

    def _tick_ns(self, stamp_ns: int) -> int:
        """Time since the previous frame, ns; 0 for the first frame."""
        return stamp_ns - self._previous_stamp if self._previous_stamp is not None else 0

    def _clear_open_event(self) -> None:
        self.under_way_since = None
        self._standby_confidences.clear()
