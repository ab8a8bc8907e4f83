"""From recorded frames to ticks: what the model looks at when nobody waits for real time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stream_vlm.loop.sampler import TickClock
from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame, Tick

MAX_STEP_BACK_NS = NANOSECONDS
"""Stamps may step back by this much (a late message) before the recording counts as two."""


class TickReader:
    """Cuts frames into ticks at a target rate, the cameras of one beat together.

    Each camera shows the first frame at or after the beat, so that reading the same recording again
    gives the same ticks. A frame that is not after its camera's last one is left out and counted in
    `stale`; `seen` counts all frames read.
    """

    def __init__(self, frames: Iterable[Frame], rate_hz: float) -> None:
        self._frames = frames
        self._clock = TickClock(rate_hz)
        self.stale = 0
        self.seen = 0

    def __iter__(self) -> Iterator[Tick]:
        """Yield the ticks in order; a tick's stamp is that of its newest frame.

        Raises:
            SourceError: a camera's stamps jump back by more than a second, or the source itself
                breaks off.
        """
        newest: dict[str, int] = {}
        beat: dict[str, Frame] = {}
        now_ns: int | None = None
        index = 0
        for frame in self._frames:
            self.seen += 1
            last = newest.get(frame.camera)
            if last is not None and frame.stamp_ns <= last:
                self._refuse_jump(frame, last)
                self.stale += 1
                continue
            newest[frame.camera] = frame.stamp_ns
            # Another camera's frame may be a little older than the newest; the beat never runs
            # backwards.
            now_ns = frame.stamp_ns if now_ns is None else max(now_ns, frame.stamp_ns)
            if self._clock.due(now_ns):
                if beat:
                    yield _tick(index, beat)
                    index += 1
                beat = {frame.camera: frame}
            else:
                beat.setdefault(frame.camera, frame)
        if beat:
            yield _tick(index, beat)

    def _refuse_jump(self, frame: Frame, last_ns: int) -> None:
        back_ns = last_ns - frame.stamp_ns
        if back_ns > MAX_STEP_BACK_NS:
            raise SourceError(
                f"{frame.camera}: stamps jump back by {back_ns / NANOSECONDS:.1f} s, from {last_ns}"
                f" to {frame.stamp_ns} ns; these are two recordings in one, split them at that"
                " point and replay each"
            )


def _tick(index: int, beat: dict[str, Frame]) -> Tick:
    frames = tuple(beat[camera] for camera in sorted(beat))
    return Tick(index=index, stamp_ns=max(frame.stamp_ns for frame in frames), frames=frames)
