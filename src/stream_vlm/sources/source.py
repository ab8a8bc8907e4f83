"""The interface of every source: a named stream of frames, finite or endless."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stream_vlm.types import Frame, StreamError


class SourceError(StreamError):
    """A source that cannot be opened or read; the message names it and the remedy."""


@dataclass(frozen=True)
class Reconnect:
    """How long a stream is waited for.

    Attributes:
        timeout_s: to open the stream, and for its next picture, seconds.
        first_wait_s: before the first new attempt of an outage; each later one waits twice as long.
        longest_wait_s: the longest of these waits, seconds.
    """

    timeout_s: float = 10.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and 0 < self.first_wait_s <= self.longest_wait_s):
            raise SourceError(
                f"timeout {self.timeout_s} s, waits from {self.first_wait_s} to"
                f" {self.longest_wait_s} s: each must be above 0, and the first wait not longer"
                " than the longest"
            )

    def waits_s(self) -> Iterator[float]:
        """Yield the waits of one outage, without end."""
        wait_s = self.first_wait_s
        while True:
            yield wait_s
            wait_s = min(2 * wait_s, self.longest_wait_s)


class Source(Protocol):
    """Anything that yields the frames of one or more cameras.

    Reading is lazy: call `frames` once per source; it holds one frame at a time. Stamps of one
    camera increase. Frames of several cameras come in the order in which they were recorded.
    """

    @property
    def name(self) -> str:
        """A short name, the same each time the source is opened; session ids are made from it."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that `frames` may yield."""
        ...

    @property
    def duration_s(self) -> float | None:
        """Length in seconds of stream, or None when it is unknown before the end."""
        ...

    @property
    def live(self) -> bool:
        """True when frames arrive in real time (a webcam) and cannot be read faster."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order.

        Raises:
            SourceError: the source ends early or contains something that is not a picture. Frames
                before that have been yielded.
        """
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A source that goes on after what it cannot use, and counts it.

    Attributes:
        left_out: how many messages were left out, by camera (or another name) and reason.
    """

    left_out: dict[str, dict[str, int]]


def left_out_by(source: Source) -> dict[str, dict[str, int]]:
    """Return what `source` has left out so far, by name and reason."""
    return source.left_out if isinstance(source, LeavesOut) else {}
