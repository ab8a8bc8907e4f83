"""What a source is: a named, finite or endless run of frames, read without ROS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from stream_vlm.types import Frame, StreamError


class SourceError(StreamError):
    """A source that cannot be opened or read; the message names it and the remedy."""


class Source(Protocol):
    """Anything that yields the frames of one or more cameras.

    Reading is lazy: `frames` may be called once per source and holds one picture at a time. Stamps
    of one camera increase; frames of several cameras come in the order they were recorded in.
    """

    @property
    def name(self) -> str:
        """Short and the same at every opening of the same source; session ids are made of it."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that `frames` may show."""
        ...

    @property
    def duration_s(self) -> float | None:
        """Length in seconds of stream, or None when it is not known before the end."""
        ...

    @property
    def live(self) -> bool:
        """True when frames appear in real time (a webcam), so that a reader must not expect to be
        faster.
        """
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order.

        Raises:
            SourceError: the source breaks off or holds something that is no picture; frames before
                that were yielded.
        """
        ...
