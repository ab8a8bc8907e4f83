"""A simulated stream as files: a video that any player opens, and its labels beside it."""

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
    """Where a written stream lies; `tasks` is the file of tasks in Streamo's raw form, None where
    none were asked for.
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
    """Write `video.mp4` and `labels.json` of `world` into `out_dir`, which is made when missing;
    existing ones are replaced.

    A video file has a picture for every beat, so where a picture was dropped it shows the one
    before again, as a recorder does; the labels say when.

    Args:
        fps: frames a second of the video, 1 to 60.
        tasks: kinds of tasks, of `tasks.KINDS`: they are added to the labels and written as
            `streamo-raw.json`.
        tasks_each: how many of a kind at most.
        progress: show a progress bar.

    Raises:
        WorldError: a value is out of range, or the video cannot be written; the message says which
            and what to do.
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
            f"{files.video}: cannot be written; is the folder writable and does this OpenCV carry"
            " its video writer?"
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
    """One picture a beat; a dropped one is the one before, or black where none came yet."""
    image = np.zeros((world.size[1], world.size[0], 3), np.uint8)
    for index in range(count):
        t_s = min(index / fps, world.script.duration_s)
        if world.delivers(t_s):
            image = world.view(t_s).image
        yield image
