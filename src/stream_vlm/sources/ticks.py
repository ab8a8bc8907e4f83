"""Group recorded frames into ticks at a target rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stream_vlm.loop.sampler import TickClock
from stream_vlm.sources.source import SourceError
from stream_vlm.types import NANOSECONDS, Frame, StreamError, Tick

MAX_STEP_BACK_NS = NANOSECONDS
"""A stamp may be older by this much (a late message); more counts as a second recording."""


class TickReader:
    """Groups frames into ticks at a target rate; each tick has at most one frame per camera.

    Each camera contributes its first frame at or after the tick's time, so that reading the same
    recording again gives the same ticks. A frame whose stamp does not advance is skipped and
    counted in `stale`. `seen` counts all frames that were read.
    """

    def __init__(self, frames: Iterable[Frame], rate_hz: float) -> None:
        self._frames = frames
        self._clock = TickClock(rate_hz)
        self.stale = 0
        self.seen = 0

    def __iter__(self) -> Iterator[Tick]:
        """Yield the ticks in order; a tick's stamp is that of its newest frame.

        Raises:
            SourceError: the stamps of a camera jump back by more than a second, or the source
                itself ends early.
        """
        newest: dict[str, int] = {}
        pending: dict[str, Frame] = {}
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
            # A frame of another camera may be a little older than the newest one; the tick clock
            # never goes back.
            now_ns = frame.stamp_ns if now_ns is None else max(now_ns, frame.stamp_ns)
            if self._clock.due(now_ns):
                if pending:
                    yield _tick(index, pending)
                    index += 1
                pending = {frame.camera: frame}
            else:
                pending.setdefault(frame.camera, frame)
        if pending:
            yield _tick(index, pending)

    def _refuse_jump(self, frame: Frame, last_ns: int) -> None:
        back_ns = last_ns - frame.stamp_ns
        if back_ns > MAX_STEP_BACK_NS:
            raise SourceError(
                f"{frame.camera}: stamps jump back by {back_ns / NANOSECONDS:.1f} s, from {last_ns}"
                f" to {frame.stamp_ns} ns; the source contains two recordings: split it at that"
                " point and replay each part"
            )


def _tick(index: int, pending: dict[str, Frame]) -> Tick:
    frames = tuple(pending[camera] for camera in sorted(pending))
    return Tick(index=index, stamp_ns=max(frame.stamp_ns for frame in frames), frames=frames)


def with_next(ticks: Iterable[Tick]) -> Iterator[tuple[Tick, Tick | None]]:
    """Each tick with the one after it; None after the last.

    Where the ticks break off, the one before is given first.
    """
    iterator = iter(ticks)
    tick = next(iterator, None)
    while tick is not None:
        broken: StreamError | None = None
        try:
            after = next(iterator, None)
        except StreamError as error:
            after, broken = None, error
        yield tick, after
        if broken is not None:
            raise broken
        tick = after
