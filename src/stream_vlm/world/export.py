"""A simulated stream as files: a video that any player opens, and its labels beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from stream_vlm.world.labels import labels_document
from stream_vlm.world.render import World
from stream_vlm.world.script import WorldError

LONGEST_MINUTES = 24 * 60


@dataclass(frozen=True)
class StreamFiles:
    """Where a written stream lies."""

    video: Path
    labels: Path
    frames: int


def write_stream(
    seed: int,
    minutes: float,
    out_dir: Path | str,
    *,
    fps: float = 10.0,
    size: tuple[int, int] = (320, 240),
    events_per_minute: float = 10.0,
    progress: bool = True,
) -> StreamFiles:
    """Write `video.mp4` and `labels.json` into `out_dir`, which is made when missing; existing ones are replaced.

    Args:
        minutes: length of the stream, more than 0 and at most a day.
        fps: frames a second of the video, 1 to 60.
        size: width and height in pixels; see `World`.
        progress: show a progress bar.

    Raises:
        WorldError: a value is out of range, or the video cannot be written; the message says which and what to do.
    """
    if not 0 < minutes <= LONGEST_MINUTES:
        raise WorldError(f"minutes: {minutes} is refused; use more than 0 and at most {LONGEST_MINUTES} (a day)")
    if not 1 <= fps <= 60:
        raise WorldError(f"fps: {fps} is refused; use 1 to 60 frames a second")
    world = World(seed, minutes * 60, size, events_per_minute=events_per_minute)
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorldError(f"{folder}: cannot be used as the output folder ({error.strerror}); choose another") from error
    files = StreamFiles(folder / "video.mp4", folder / "labels.json", max(1, round(world.script.duration_s * fps)))
    writer = cv2.VideoWriter(str(files.video), cv2.VideoWriter.fourcc(*"mp4v"), fps, world.size)
    if not writer.isOpened():
        raise WorldError(f"{files.video}: cannot be written; is the folder writable and does this OpenCV carry its video writer?")
    try:
        for index in tqdm(range(files.frames), desc=f"world:{seed}", unit="frame", disable=not progress):
            image = world.view(min(index / fps, world.script.duration_s)).image
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    files.labels.write_text(json.dumps(labels_document(world, fps), indent=1) + "\n", encoding="utf-8")
    return files
