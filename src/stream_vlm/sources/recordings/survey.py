"""Read when the messages of a recording were stamped and recorded, before any is decoded."""

from __future__ import annotations

from array import array
from collections.abc import Collection

import numpy as np

from stream_vlm.sources.recordings.cdr import stamp_of
from stream_vlm.sources.recordings.recording import Recording
from stream_vlm.sources.recordings.topic_clock import TopicTimes
from stream_vlm.types import NANOSECONDS

BEYOND_NS = 60 * NANOSECONDS
"""So much more than is asked for is looked at, because a clock is judged by what follows too."""
CHECK_NS = 10 * NANOSECONDS
"""How often, in time of recording, it is checked whether enough was read."""


class _Column:
    def __init__(self) -> None:
        self.recorded = array("q")
        self.header = array("q")
        self.readable = bytearray()

    def span_ns(self) -> int | None:
        """How far the headers have advanced; None where they do not."""
        span = self.header[-1] - self.header[0] if self.header else 0
        return span if span > 0 else None

    def times(self) -> TopicTimes:
        return TopicTimes(
            np.array(self.recorded, np.int64),
            np.array(self.header, np.int64),
            np.array(self.readable, np.bool_),
        )


def survey(
    recording: Recording, topics: Collection[str], seconds: float | None
) -> tuple[dict[str, TopicTimes], bool]:
    """Return the times of all messages of `topics`, and whether the recording was read to its end.

    It reads 16 bytes of a message and keeps 17, so an hour of a camera at 30 Hz takes 2 MB.

    Args:
        recording: the recording.
        topics: names of topics.
        seconds: how much of the stream will be read; None reads all of it.
    """
    columns = {topic: _Column() for topic in topics}
    first_ns: int | None = None
    check_ns = 0
    for topic, recorded_ns, head in recording.messages(topics, heads_only=True):
        if first_ns is None:
            first_ns = recorded_ns
            check_ns = first_ns + BEYOND_NS + round((seconds or 0.0) * NANOSECONDS)
        elif seconds is not None and recorded_ns > check_ns:
            spans = [column.span_ns() for column in columns.values()]
            if all(span is None or span > seconds * NANOSECONDS for span in spans):
                return {name: column.times() for name, column in columns.items()}, False
            check_ns = recorded_ns + CHECK_NS
        stamp_ns = stamp_of(head)
        column = columns[topic]
        column.recorded.append(recorded_ns)
        column.header.append(stamp_ns or 0)
        column.readable.append(stamp_ns is not None)
    return {name: column.times() for name, column in columns.items()}, True
