"""Open a source by the text that a user types."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stream_vlm import extensions
from stream_vlm.redact import redact
from stream_vlm.sources.source import Source, SourceError

if TYPE_CHECKING:
    from stream_vlm.sources.source import Reconnect

POSSIBLE = (
    "a video file, a webcam index such as 0, a stream's address such as rtsp://HOST/PATH or"
    " http://HOST/PATH, world:SEED such as world:7, or a rosbag2 folder, .mcap or .db3 file"
)
"""The possible sources, for help texts and error messages."""

BAG_SUFFIXES = (".mcap", ".db3", ".zstd", ".bag")
"""Endings of recordings; .bag is ROS 1, which is refused with the remedy."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
KNOWN_ELSEWHERE = {
    **dict.fromkeys((".json", ".jsonl", ".csv", ".txt", ".yaml", ".yml", ".xml"), "text"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".xz", ".zst", ".7z", ".rar"), "an archive"),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg", ".m4a"), "sound"),
    **dict.fromkeys((".pcd", ".ply", ".npy", ".npz", ".safetensors", ".pt"), "data"),
}
"""Kinds of files that are no sources, by suffix."""

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
    reconnect: Reconnect | None = None,
) -> Source:
    """Open what `spec` names.

    Args:
        spec: a video file, a webcam index, the address of a stream (rtsp, rtsps, http, https), a
            rosbag2 recording, or a source that another package adds, such as `world:SEED`.
        seconds: how much of the stream to read; None reads all of it (a simulated camera then runs
            for its default length).
        topics: for recordings only, see `BagSource`.
        odom_topic: for recordings only, see `BagSource`.
        pose_max_age_s: for recordings only, see `BagSource`.
        reconnect: for streams only, see `NetworkStream`.

    Raises:
        SourceError: nothing of that name, or it cannot be read; the message lists what is possible.
    """
    # The readers are imported one by one: each brings a library that the others do not need.
    if seconds is not None and not seconds > 0:
        raise SourceError(
            f"{redact(spec)}: {seconds} seconds of stream show nothing; give a length above 0"
        )
    if is_bag(spec):
        _refuse_folder_of_pictures(Path(spec).expanduser())
        from stream_vlm.sources.rosbag import BagSource

        return BagSource(Path(spec).expanduser(), topics, odom_topic, pose_max_age_s, seconds)
    if topics or odom_topic:
        raise SourceError(f"{redact(spec)}: topics can be chosen in a rosbag2 recording only")
    factory = _added_source(spec)
    if factory is not None:
        return factory(spec, seconds)
    if spec.isdecimal():
        from stream_vlm.sources.webcam import WebcamSource

        return WebcamSource(int(spec), seconds=seconds)
    if is_stream(spec):
        from stream_vlm.sources.network_stream import NetworkStream

        return NetworkStream(spec, seconds=seconds, reconnect=reconnect)
    path = Path(spec).expanduser()
    if not path.is_file():
        raise SourceError(_why_unknown(spec, path))
    if path.suffix.lower() in KNOWN_ELSEWHERE:
        kind = KNOWN_ELSEWHERE[path.suffix.lower()]
        raise SourceError(f"{spec}: is {kind}, no source; a source can be {POSSIBLE}")
    from stream_vlm.sources.video import VideoSource

    return VideoSource(path, seconds=seconds)


def is_stream(spec: str) -> bool:
    """True when `spec` is the address of a stream on the network."""
    return spec.partition("://")[0].lower() in ("rtsp", "rtsps", "http", "https") and "://" in spec


def _why_unknown(spec: str, path: Path) -> str:
    """Say why `spec`, which is no file, is no source, and what to give instead."""
    scheme, address, _ = spec.partition("://")
    if address:
        return (
            f"{redact(spec)}: streams of the kind {scheme}:// are not supported; use rtsp, rtsps,"
            " http or https"
        )
    device = re.fullmatch(r"/dev/video(\d+)", spec)
    if device:
        return f"{spec}: a webcam is given by its number alone: {device[1]}"
    if path.is_char_device() or path.is_fifo() or path.is_socket():
        return f"{spec}: a device or pipe is no source; it can be {POSSIBLE}"
    return f"{spec}: no such source; it can be {POSSIBLE}"


def _refuse_folder_of_pictures(path: Path) -> None:
    """Raise a `SourceError` if `path` is a folder of pictures rather than a recording."""
    if not path.is_dir() or (path / "metadata.yaml").exists():
        return
    suffixes = [file.suffix for file in path.iterdir() if file.is_file()]
    pictures = sorted({suffix for suffix in suffixes if suffix.lower() in PICTURE_SUFFIXES})
    if not pictures or any(suffix in BAG_SUFFIXES for suffix in suffixes):
        return
    pattern = shlex.quote(f"{path}/*{pictures[0]}")
    wanted = shlex.quote(f"{path.resolve().name}.mp4")
    raise SourceError(
        f"{path}: a folder of pictures is no source, because it says no times; make a video of it:"
        f" ffmpeg -framerate 10 -pattern_type glob -i {pattern} -c:v libx264 -pix_fmt yuv420p"
        f" {wanted}"
    )


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
