"""Open a source by the text that a user types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stream_vlm import extensions
from stream_vlm.sources.source import Source, SourceError

POSSIBLE = (
    "a video file, a webcam index such as 0, world:SEED such as world:7, or a rosbag2 folder, .mcap"
    " or .db3 file"
)
"""The possible sources, for help texts and error messages."""

BAG_SUFFIXES = (".mcap", ".db3", ".zstd", ".bag")
"""Endings of recordings; .bag is ROS 1, which is refused with the remedy."""

SourceFactory = Callable[[str, "float | None"], Source]
"""Opens a source that another package adds, from its whole text and the seconds to read (None for
its default). Raises `SourceError` where it cannot.
"""


def is_bag(spec: str) -> bool:
    """True when `spec` names an existing rosbag2 recording: a folder, or one of its files."""
    path = Path(spec).expanduser()
    return (bool(spec) and path.is_dir()) or (
        path.is_file() and path.suffix.lower() in BAG_SUFFIXES
    )


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
        spec: a video file, a webcam index, a rosbag2 recording, or a source that another package
            adds, such as `world:SEED`.
        seconds: how much of the stream to read; None reads all of it (a simulated camera then runs
            for its default length).
        topics: for recordings only, see `BagSource`.
        odom_topic: for recordings only, see `BagSource`.
        pose_max_age_s: for recordings only, see `BagSource`.

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
    factory = _added_source(spec)
    if factory is not None:
        return factory(spec, seconds)
    if spec.isdecimal():
        from stream_vlm.sources.webcam import WebcamSource

        return WebcamSource(int(spec), seconds=seconds)
    path = Path(spec).expanduser()
    if not path.is_file():
        raise SourceError(f"{spec}: no such source; it can be {POSSIBLE}")
    from stream_vlm.sources.video import VideoSource

    return VideoSource(path, seconds=seconds)


def _added_source(spec: str) -> SourceFactory | None:
    """The factory that another package adds for `spec`, or None.

    Raises:
        SourceError: the package or one of its libraries is not installed.
    """
    scheme, colon, _ = spec.partition(":")
    if not colon:
        return None
    entry = extensions.added(extensions.SOURCES).get(scheme)
    if entry is None:
        if scheme in extensions.LAB_SOURCES:
            raise SourceError(
                f"{spec}: a simulated camera needs stream_vlm_lab: {extensions.INSTALL_LAB}"
            )
        return None
    try:
        factory: SourceFactory = entry.load()
    except ModuleNotFoundError as error:
        raise SourceError(
            f"{spec}: {error.name} is not installed: {extensions.INSTALL_LAB}"
        ) from error
    return factory
