"""How well new scenes are told from the vectors of pictures, on labelled clips of real cameras.

The clips are played one after the other as one stream, so the first picture of each clip is a cut
to another scene. Every second clip is put aside: choose a factor on the first half, and report it
on the second.

    build/jazzy/run python benchmark/scene_change.py FOLDER --out scene_change.json

FOLDER has clips and an `annotations.json`: `{"clips": {NAME: {"presence": [{"enters": s, "leaves":
s}], "events": [{"t_end": s}]}}}`, times in seconds or null.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_vlm.backbone import load_cached_model
from stream_vlm.config.settings import load_settings
from stream_vlm.memory.captions import scene_change
from stream_vlm.model_protocol import Outcome, Turn
from stream_vlm.sources import open_source
from stream_vlm.sources.ticks import TickReader
from stream_vlm.types import NANOSECONDS

BEFORE_S, AFTER_S = 0.5, 1.2
"""A change belongs to a label if it is so long before or after it at most."""


@dataclass(frozen=True)
class Clip:
    """A clip as picture vectors.

    Attributes:
        name: its file name.
        seconds: time of each picture since the first, seconds.
        vectors: float32, (pictures, size).
        labels: when something comes or goes, seconds.
    """

    name: str
    seconds: list[float]
    vectors: NDArray[np.float32]
    labels: list[float]


@dataclass
class Found:
    """What was found in some clips; `wrong` are changes where nothing is labelled."""

    cuts: int = 0
    cuts_found: int = 0
    labels: int = 0
    labels_found: int = 0
    wrong: int = 0
    quiet_s: float = 0.0


def read_clips(folder: Path, directory: str, rate_hz: float) -> list[Clip]:
    """The clips of `folder` through the vision tower of the checkpoint at `directory`."""
    model = load_cached_model(load_settings({"model.directory": directory}))
    labelled = json.loads((folder / "annotations.json").read_text())["clips"]
    clips = []
    for name in sorted(labelled):
        stream, seconds, vectors = model.open_stream("clip"), [], []
        for tick in TickReader(open_source(str(folder / name)).frames(), rate_hz):
            outcome = model.step([Turn(stream, tick.frames[0], with_vector=True)])[0]
            if isinstance(outcome, Outcome) and outcome.picture_vector is not None:
                seconds.append(tick.frames[0].stamp_ns / NANOSECONDS)
                vectors.append(outcome.picture_vector)
        labels = [
            one.get(edge)
            for one in labelled[name].get("presence", [])
            for edge in ("enters", "leaves")
        ] + [one.get("t_end") for one in labelled[name].get("events", [])]
        since = [at - seconds[0] for at in seconds]
        clips.append(Clip(name, since, np.stack(vectors), [at for at in labels if at is not None]))
    return clips


def find_changes(clips: Sequence[Clip], factor: float, rate_hz: float) -> Found:
    """Play `clips` one after the other and compare the changes with the labels."""
    scene, found = scene_change.SceneChange(factor), Found()
    for number, clip in enumerate(clips):
        changes = [
            (index, at)
            for index, (at, vector) in enumerate(zip(clip.seconds, clip.vectors, strict=True))
            if scene.is_new(vector)
        ]
        if number:
            found.cuts += 1
            found.cuts_found += any(index <= 1 for index, _ in changes)
        # What is there within the first second has come with the cut.
        labels = [label for label in clip.labels if label > 1.0]
        found.labels += len(labels)
        found.labels_found += sum(
            any(_belongs(at, [label]) for _, at in changes) for label in labels
        )
        found.wrong += sum(index > 1 and not _belongs(at, clip.labels) for index, at in changes)
        found.quiet_s += sum(not _belongs(at, clip.labels) for at in clip.seconds[2:]) / rate_hz
    return found


def _belongs(at: float, labels: Sequence[float]) -> bool:
    return any(-BEFORE_S <= at - label <= AFTER_S for label in labels)


def main() -> None:
    """Print a line for each factor and half, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="", help="directory of a checkpoint")
    parser.add_argument("--rate", type=float, default=2.0, help="pictures a second")
    parser.add_argument("--factors", type=float, nargs="+", default=[2, 2.5, 3, 4, 5, 6, 8])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    clips = read_clips(given.folder, given.model, given.rate)
    rows = []
    for factor in given.factors:
        for half, some in (("chosen on", clips[::2]), ("put aside", clips[1::2])):
            found = find_changes(some, factor, given.rate)
            rows.append({"factor": factor, "half": half, **asdict(found)})
            print(
                f"{factor:4g} {half}: cuts {found.cuts_found}/{found.cuts}, labels"
                f" {found.labels_found}/{found.labels}, wrong a minute:"
                f" {60 * found.wrong / max(found.quiet_s, 1.0):.1f} in {found.quiet_s:.0f} s"
            )
    given.out.write_text(json.dumps({"rate_hz": given.rate, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
