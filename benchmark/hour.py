"""An hour of stream as fast as it goes: does a step cost the same at the end as at the start, and does memory stay flat?

    build/jazzy/run python benchmark/hour.py

Everything a robot's step does is in it: resizing, vision, prefill into the kept cache, decision, words, and the memory's writer with its commit and
thumbnail on a thread of its own. Beside it, in the same run, what a step would cost that computes its whole context anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from stream_vlm.backbone import StreamingModel, load_model
from stream_vlm.backbone.forward import CachedForward
from stream_vlm.backbone.stream import CachedStream
from stream_vlm.config import Settings, load_settings
from stream_vlm.harness import StreamingHarness
from stream_vlm.memory.store import Memory
from stream_vlm.memory.writer import MemoryWriter
from stream_vlm.stream import NANOSECONDS, Frame, StepResult, StreamError, Tick
from stream_vlm.vision.tokens import VisionTokens
from stream_vlm.world.render import World

BLOCKS = 6
"""The stream is reported in so many parts."""
WORLD_S = 60.0


def resident_mb() -> float:
    """Memory of this process that is in RAM, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def recompute_ms(model: StreamingModel, stream: CachedStream) -> float:
    """What one forward over the whole of `stream`'s context takes, with vision tokens of the right shape."""
    kept = stream.context
    pictures = sum(len(segment) for segment in kept if segment.grid is not None)
    hidden = model.checkpoint.model.config.text_config.hidden_size
    fresh = CachedForward(model.checkpoint.model, sum(map(len, kept)))
    vision = VisionTokens(torch.zeros(pictures, hidden))
    with torch.inference_mode():
        started = time.perf_counter()
        fresh.feed(kept, vision)
        return (time.perf_counter() - started) * 1e3


def watch(settings: Settings, model: StreamingModel, minutes: int, seed: int) -> dict[str, object]:
    """Watch `minutes` one-minute worlds, one after another in one session, and report."""
    rate_hz = settings.stream.rate_hz
    failures: list[str] = []

    def failed(result: StepResult, error: StreamError) -> None:
        failures.append(str(error))

    steps: list[float] = []
    recomputed: list[float] = []
    resident: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory.open(settings.memory.model_copy(update={"path": f"{folder}/memory.db"}))
        writer = MemoryWriter(memory, lambda result: None, failed)
        harness = StreamingHarness(settings, model, "hour", writer)
        writer.begin_session("hour", model.model_id, "benchmark", 0)
        index = 0
        for minute in range(minutes):
            world = World(seed + minute, WORLD_S)
            for beat in range(int(WORLD_S * rate_hz)):
                stamp_ns = round(index / rate_hz * NANOSECONDS)
                frame = Frame("camera", stamp_ns, "camera_optical_frame", world.view(beat / rate_hz).image)
                steps.append(harness.step(Tick(index, stamp_ns, (frame,))).seconds["step"] * 1e3)
                index += 1
                if index % 200 == 0:
                    stream = harness.stream("camera")
                    assert isinstance(stream, CachedStream)
                    recomputed.append(recompute_ms(model, stream))
            # Faster than real time, so the writer is given what real time would give it.
            writer.flush(60.0)
            resident.append(resident_mb())
        rows = memory.count()
        writer.close()
    blocks = [{"p50_ms": float(np.percentile(part, 50)), "p95_ms": float(np.percentile(part, 95))} for part in np.array_split(steps, BLOCKS)]
    median = float(np.percentile(steps, 50))
    return {
        "minutes": minutes,
        "steps": len(steps),
        "step_p50_ms": median,
        "step_p95_ms": float(np.percentile(steps, 95)),
        "step_p99_ms": float(np.percentile(steps, 99)),
        "by_part": blocks,
        "recomputing_p50_ms": float(np.percentile(recomputed, 50)),
        "times_cheaper_than_recomputing": float(np.percentile(recomputed, 50)) / median,
        "resident_mb_after_each_minute": [round(value, 1) for value in resident],
        "rows": rows,
        "failed_commits": len(failures),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=3_000_000)
    parser.add_argument("--out", type=Path, default=Path("build/bench/hour.json"))
    arguments = parser.parse_args()
    settings = load_settings({})
    model = load_model(settings)
    outcome = watch(settings, model, arguments.minutes, arguments.seed)
    outcome["machine"] = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(outcome, indent=2) + "\n")
    resident = outcome["resident_mb_after_each_minute"]
    assert isinstance(resident, list)
    by_part = outcome["by_part"]
    assert isinstance(by_part, list)
    parts = "  ".join(f"{part['p50_ms']:.1f}/{part['p95_ms']:.1f}" for part in by_part)
    print(f"{outcome['steps']} steps, {outcome['minutes']} minutes of stream")
    for name in ("step_p50_ms", "step_p95_ms", "step_p99_ms", "recomputing_p50_ms", "times_cheaper_than_recomputing"):
        print(f"  {name:32} {outcome[name]:.2f}")
    print(f"  by part (p50/p95 ms)             {parts}")
    print(f"  resident MB                      {resident[0]} after the first minute, {resident[-1]} after the last")
    print(f"  rows {outcome['rows']}, failed commits {outcome['failed_commits']}\n-> {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
