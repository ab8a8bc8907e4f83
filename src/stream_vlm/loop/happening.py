"""One happening that a standing instruction is about: from its beginning, over its report, on."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_vlm.types import EventSpan, Frame


@dataclass(frozen=True)
class Report:
    """What was said about a happening, and the frame that it is based on."""

    event_id: str
    text: str
    frame: Frame


@dataclass(frozen=True)
class Gap:
    """A short silence: what was before ended at `end_ns`, what was after began at `start_ns`."""

    end_ns: int
    start_ns: int


@dataclass
class Happening:
    """A happening that is under way, or was just reported.

    Attributes:
        start_ns: its beginning, int64 ns.
        earliest_ns: stamp of the frame before the first that shows it, int64 ns.
        last_active_ns: stamp of the last frame that showed it, int64 ns.
        last_response_ns: stamp of the last frame with a response, whether it was said or not.
        quiet_since_ns: when the silence began that goes on, as far as a frame shows it; None while
            the newest frame shows the happening.
        end_ns: end of the event if the silence lasts.
        is_instant: whether one frame alone shows it. Then the event begins at the frame before and
            ends at that frame.
        is_closed: whether it counts as over, although it still goes on, because it took too long.
        confidences: of the decisions up to the report.
        report: what was said about it.
        gap: the last silence in it that was too short to end it.
    """

    start_ns: int
    earliest_ns: int
    last_active_ns: int
    last_response_ns: int = 0
    quiet_since_ns: int | None = None
    end_ns: int = 0
    is_instant: bool = True
    is_closed: bool = False
    confidences: list[float] = field(default_factory=list)
    report: Report | None = None
    gap: Gap | None = None

    def fall_silent(self, stamp_ns: int, reach_ns: int, *, at_midpoint: bool) -> None:
        """Note that the frame of `stamp_ns` does not show it; `reach_ns` is the time before it."""
        if self.quiet_since_ns is None:
            self.quiet_since_ns = stamp_ns - reach_ns // 2
            self.end_ns = self.last_active_ns + (reach_ns // 2 if at_midpoint else reach_ns)

    @property
    def report_ns(self) -> int:
        """Stamp of the frame of the report, int64 ns; 0 without a report."""
        return self.report.frame.stamp_ns if self.report is not None else 0

    def see(self, stamp_ns: int, boundary_ns: int) -> None:
        """Note that the frame of `stamp_ns` shows it.

        Args:
            stamp_ns: stamp of the frame.
            boundary_ns: when it began, if it did not go on but begins with this frame.
        """
        if self.quiet_since_ns is not None:
            self.gap = Gap(self.end_ns, boundary_ns)
        self.is_instant = self.is_instant and stamp_ns == self.last_active_ns
        self.last_active_ns = stamp_ns
        self.quiet_since_ns = None

    def span(self, camera: str, instruction_id: str, end_ns: int, *, still_on: bool) -> EventSpan:
        """The event; it must have been reported."""
        assert self.report is not None
        frame = self.report.frame
        return EventSpan(
            event_id=self.report.event_id,
            camera=camera,
            frame_id=frame.frame_id,
            stamp_ns=frame.stamp_ns,
            label=self.report.text,
            start_ns=self.earliest_ns if self.is_instant else self.start_ns,
            end_ns=frame.stamp_ns if self.is_instant else max(end_ns, self.start_ns),
            confidence=sum(self.confidences) / len(self.confidences),
            instruction_id=instruction_id,
            still_on=still_on,
            pose=frame.pose,
        )
