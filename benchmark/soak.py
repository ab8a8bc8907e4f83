"""Runs twelve hours of stream as fast as possible and checks that time and memory stay constant.

    make soak

43,200 ticks at 1 Hz with everything a robot's step does: resizing, vision, prefill into the cache,
decision, words, and the memory's writer with its commits and thumbnails on a thread of its own.
Step times are clock times. The report also has the processor time of the model's thread, which does
not depend on other work on the machine. With OMP_NUM_THREADS=1 this thread does all computations of
the model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine, resident_mb
from tqdm import tqdm

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.config.settings import Settings, load_settings
from stream_vlm.pipeline import Models, Pipeline
from stream_vlm.types import NANOSECONDS, Frame, StepResult, StreamError, Tick
from stream_vlm_lab.simulation.world import World

HOUR = 3600
WORLDS, WORLD_S = 10, 60
FLUSH_EVERY = 60
"""Ticks between waits for the writer; in real time the writer would have this time too."""


def pictures(seed: int, count: int) -> list[np.ndarray]:
    """The first `count` pictures of ten minutes of simulated rooms at 1 Hz."""
    shown: list[np.ndarray] = []
    for number in range(WORLDS):
        world = World(seed + number, float(WORLD_S))
        shown += [
            world.view(float(second)).image for second in range(min(WORLD_S, count - len(shown)))
        ]
        if len(shown) == count:
            break
    return shown


def soak(settings: Settings, model: StreamingModel, steps: int, seed: int) -> dict[str, object]:
    """Run `steps` seconds of stream; returns the report."""
    failures: list[str] = []

    def stored(result: StepResult, error: StreamError | None) -> None:
        if error is not None:
            failures.append(str(error))

    shown = pictures(seed, min(steps, WORLDS * WORLD_S))
    wall, processor = np.zeros(steps), np.zeros(steps)
    resident: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        memory = settings.memory.model_copy(update={"path": f"{folder}/memory.db"})
        settings = settings.model_copy(update={"memory": memory})
        pipeline = Pipeline(settings, Models(model), on_result=stored)
        pipeline.begin_session("soak", "benchmark", 0)
        for index in tqdm(range(steps), unit="step", mininterval=10.0):
            stamp_ns = (index + 1) * NANOSECONDS
            frame = Frame("camera", stamp_ns, "camera_optical_frame", shown[index % len(shown)])
            began = time.thread_time()
            wall[index] = pipeline.step(Tick(index, stamp_ns, (frame,))).seconds["step"] * 1e3
            processor[index] = (time.thread_time() - began) * 1e3
            pipeline.prepare()
            if (index + 1) % FLUSH_EVERY == 0:
                pipeline.flush(60.0)
            if (index + 1) % min(HOUR, max(1, steps // 12)) == 0:
                resident.append(resident_mb())
        pipeline.flush(60.0)
        rows = pipeline.memory.count()
        pipeline.close()
    part = min(HOUR, steps // 2)

    def by_hour(values: np.ndarray, percent: float) -> list[float]:
        return [
            round(float(np.percentile(block, percent)), 3)
            for block in np.array_split(values, max(1, steps // part))
        ]

    return {
        "steps": steps,
        "p95_first_hour_ms": float(np.percentile(wall[:part], 95)),
        "p95_last_hour_ms": float(np.percentile(wall[-part:], 95)),
        "processor_p95_first_hour_ms": float(np.percentile(processor[:part], 95)),
        "processor_p95_last_hour_ms": float(np.percentile(processor[-part:], 95)),
        "rss_start_mb": resident[0],
        "rss_end_mb": resident[-1],
        "rss_start_is": "after the first twelfth of the stream, when all buffers are allocated",
        "p50_ms_by_hour": by_hour(wall, 50),
        "p95_ms_by_hour": by_hour(wall, 95),
        "processor_p95_ms_by_hour": by_hour(processor, 95),
        "rss_mb_by_hour": [round(value, 1) for value in resident],
        "rows": rows,
        "failed_commits": len(failures),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12 * HOUR)
    parser.add_argument("--seed", type=int, default=3_000_000)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, for example context.policy=chunked",
    )
    parser.add_argument("--out", type=Path, default=Path("build/soak/report.json"))
    arguments = parser.parse_args()
    settings = load_settings(
        {"stream.rate_hz": 1.0} | dict(pair.split("=", 1) for pair in arguments.set)
    )
    if torch.get_num_threads() > 1:
        print(
            "the model uses several threads, and processor times are those of the main thread only;"
            " set OMP_NUM_THREADS=1 to measure all"
        )
    outcome = soak(settings, load_cached_model(settings), arguments.steps, arguments.seed)
    outcome["machine"] = machine()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(outcome, indent=2) + "\n")
    for name, value in outcome.items():
        if not isinstance(value, dict):
            print(f"  {name:32} {value}")
    print(f"-> {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
