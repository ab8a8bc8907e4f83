"""Writes a simulated stream as files: a video and its labels."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stream_vlm_lab.simulation.labels.ground_truth import labels_document
from stream_vlm_lab.simulation.labels.streamo_format import raw_row
from stream_vlm_lab.simulation.labels.tasks import tasks_of
from stream_vlm_lab.simulation.raster.sprite import Image
from stream_vlm_lab.simulation.script.script import WorldError
from stream_vlm_lab.simulation.world import World


@dataclass(frozen=True)
class StreamFiles:
    """The files of a written stream.

    Attributes:
        video: the video.
        labels: the labels.
        frames: number of frames in the video.
        tasks: the tasks in Streamo's raw format; None without tasks.
    """

    video: Path
    labels: Path
    frames: int
    tasks: Path | None = None


def write_stream(
    world: World,
    out_dir: Path | str,
    *,
    fps: float = 10.0,
    tasks: Collection[str] = (),
    tasks_each: int = 4,
    progress: bool = True,
) -> StreamFiles:
    """Write `video.mp4` and `labels.json` of `world`; existing files are replaced.

    The video has a picture for every frame. If a picture was dropped, the previous one is repeated,
    as in a recorder; the labels say when.

    Args:
        world: the stream.
        out_dir: folder to write into; it is created if it does not exist.
        fps: frames a second of the video, 1 to 60.
        tasks: kinds of tasks, of `tasks.KINDS`; they are added to the labels and written to
            `streamo-raw.json`.
        tasks_each: most tasks of each kind.
        progress: show a progress bar.

    Raises:
        WorldError: a value is out of range, or the video cannot be written.
    """
    if not 1 <= fps <= 60:
        raise WorldError(f"fps: {fps} is refused; use 1 to 60 frames a second")
    seed = world.script.seed
    asked = tasks_of(world, tasks, each=tasks_each)
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorldError(
            f"{folder}: cannot be used as the output folder ({error.strerror}); choose another"
        ) from error
    files = StreamFiles(
        folder / "video.mp4", folder / "labels.json", max(1, round(world.script.duration_s * fps))
    )
    if tasks:
        files = replace(files, tasks=folder / "streamo-raw.json")
    writer = cv2.VideoWriter(str(files.video), cv2.VideoWriter.fourcc(*"mp4v"), fps, world.size)
    if not writer.isOpened():
        raise WorldError(
            f"{files.video}: cannot be written; check the permissions of the folder and that OpenCV"
            " is built with a video writer"
        )
    try:
        for image in tqdm(
            _pictures(world, files.frames, fps),
            total=files.frames,
            desc=f"world:{seed}",
            unit="frame",
            disable=not progress,
        ):
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    document = labels_document(world, fps)
    if files.tasks is not None:
        document["tasks"] = [asdict(task) for task in asked]
        rows = [
            raw_row(task, files.video.name, files.frames / fps, f"stream-vlm simulate {seed}")
            for task in asked
        ]
        files.tasks.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    files.labels.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return files


def _pictures(world: World, count: int, fps: float) -> Iterator[Image]:
    """One picture for each frame; a dropped one is replaced by the previous one, or black."""
    image = np.zeros((world.size[1], world.size[0], 3), np.uint8)
    for index in range(count):
        t_s = min(index / fps, world.script.duration_s)
        if world.has_picture(t_s):
            image = world.view(t_s).image
        yield image
