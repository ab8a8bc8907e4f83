"""From what a user types to an open source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_vlm.sources.source import Source, SourceError

POSSIBLE = (
    "a video file, a webcam index such as 0, world:SEED such as world:7, or a rosbag2 folder, .mcap"
    " or .db3 file"
)
"""What a source may be, in the words of help and errors."""

BAG_SUFFIXES = (".mcap", ".db3")


def is_bag(spec: str) -> bool:
    """True when `spec` names an existing rosbag2 recording: a folder, or one of its files."""
    path = Path(spec).expanduser()
    return (bool(spec) and path.is_dir()) or (path.is_file() and path.suffix in BAG_SUFFIXES)


def open_source(
    spec: str,
    *,
    seconds: float | None = None,
    topics: Sequence[str] = (),
    odom_topic: str = "",
    pose_max_age_s: float = 0.5,
) -> Source:
    """Open what `spec` names.

    Args:
        spec: a video file, a webcam index, `world:SEED`, perhaps with `:NAME=VALUE` behind it (see
            `simulated.options_of`), or a rosbag2 recording.
        seconds: how much of the stream to read; None reads all of it (a simulated camera then runs
            for its default length).
        topics, odom_topic, pose_max_age_s: for recordings only, see `BagSource`.

    Raises:
        SourceError: nothing of that name, or it cannot be read; the message lists what is possible.
    """
    # The readers are imported one by one: each brings a library that the others do not need.
    if seconds is not None and not seconds > 0:
        raise SourceError(
            f"{spec}: {seconds} seconds of stream show nothing; give a length above 0"
        )
    if is_bag(spec):
        from stream_vlm.sources.rosbag import BagSource

        return BagSource(Path(spec).expanduser(), topics, odom_topic, pose_max_age_s, seconds)
    if topics or odom_topic:
        raise SourceError(f"{spec}: topics can be chosen in a rosbag2 recording only")
    kind, _, rest = spec.partition(":")
    if kind == "world":
        seed, _, words = rest.partition(":")
        if not seed.isdecimal():
            raise SourceError(
                f"{spec}: '{seed}' is no seed; a simulated camera is written world:SEED with a"
                " whole number, such as world:7"
            )
        from stream_vlm_lab.simulation.source import DEFAULT_SECONDS, SimulatedSource, options_of

        return SimulatedSource(
            int(seed), DEFAULT_SECONDS if seconds is None else seconds, options=options_of(words)
        )
    if spec.isdecimal():
        from stream_vlm.sources.webcam import WebcamSource

        return WebcamSource(int(spec), seconds=seconds)
    path = Path(spec).expanduser()
    if not path.is_file():
        raise SourceError(f"{spec}: no such source; it can be {POSSIBLE}")
    from stream_vlm.sources.video import VideoSource

    return VideoSource(path, seconds=seconds)
