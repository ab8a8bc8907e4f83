"""Measures the cost of a tick as the stream grows: our methods and baselines on the same model.

    # The shipped model on this machine:
    build/jazzy/run python benchmark/streaming.py
    # Published shapes with random weights, on CUDA:
    build/jazzy/run python benchmark/streaming.py --shapes qwen2.5-vl-7b --streams 1 8 64

Each row is a method to keep 200 s of a 1 Hz stream in the context. Ours are the policies over the
fixed-slot cache. There are four baselines: (a) a context that grows without limit, (b) a sliding
window that is computed again at each tick, (c) the last four frames computed again, (d) chunks
without reuse of their prefix. Times are medians of ticks at the same times of the stream. Writes
JSON and a picture.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from context_methods import ContextMethod, MethodResult, context_methods
from machine import machine, resident_mb
from shapes import GRIDS, SHAPES, random_model

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.config.settings import load_settings
from stream_vlm.context.segments import SegmentKind
from stream_vlm.model_protocol import Turn
from stream_vlm.types import NANOSECONDS, Decision, Frame, Query, State, StreamError

matplotlib.use("agg")

PICTURES = 32
QUERY = "what happened last ?"


def frames(camera: str, seed: int) -> Iterator[Frame]:
    """An endless stream of noise at 1 Hz."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(PICTURES)]
    index = 0
    while True:
        yield Frame(camera, (index + 1) * NANOSECONDS, camera, images[index % PICTURES])
        index += 1


def silent(decision: Decision) -> Decision:
    return Decision(State.SILENCE, decision.probabilities)


def speak(decision: Decision) -> Decision:
    return Decision(State.RESPONSE, decision.probabilities)


def synchronise(model: StreamingModel) -> None:
    if torch.cuda.is_available() and "cuda" in model.device:
        torch.cuda.synchronize()


def timed_step(model: StreamingModel, turns: Sequence[Turn]) -> float:
    """Run one step; returns its time in ms, including the work of the device.

    Raises:
        StreamError: the model refused a frame.
    """
    synchronise(model)
    started = time.perf_counter()
    outcomes = model.step(turns)
    synchronise(model)
    for outcome in outcomes:
        if isinstance(outcome, StreamError):
            raise outcome
    return 1e3 * (time.perf_counter() - started)


def measure_method(
    model: StreamingModel, method: ContextMethod, seconds: int, samples: int
) -> MethodResult:
    """Run one method over `seconds` of stream and measure it.

    A method that recomputes does so at `samples` ticks only; between them it continues from its
    cache.
    """
    context = model.settings.context
    stream = model.open_stream("camera")
    assert isinstance(stream, CachedStream)
    stream.keeps_vision = method.recompute
    row = MethodResult(method.name)
    chosen = (
        set(np.linspace(0, seconds - 1, samples, dtype=int).tolist())
        if method.recompute
        else set(range(seconds))
    )
    for index, frame in zip(range(seconds), frames("camera", 0), strict=False):
        context.recompute = method.recompute and index in chosen
        step_ms = timed_step(model, [Turn(stream, frame, gate=silent, memory=list)])
        stream.prepare()
        if index in chosen and index:
            row.ticks.append((float(index), step_ms, sum(map(len, stream.context))))
    context.recompute = method.recompute
    _measure_speech(model, stream, row)
    context.recompute = False
    row.cache_mb, row.process_mb = (
        stream.cache_bytes / 1e6,
        torch.cuda.memory_allocated() / 1e6 if "cuda" in model.device else resident_mb(),
    )
    return row


def _measure_speech(model: StreamingModel, stream: CachedStream, row: MethodResult) -> None:
    """Measure a few answers after the stream: time to the first word, and words a second."""
    firsts, rates = [], []
    for number, frame in zip(range(5), frames("camera", 1), strict=False):
        late = Frame(
            frame.camera, frame.stamp_ns + 10**6 * NANOSECONDS, frame.frame_id, frame.image
        )
        timed_step(model, [Turn(stream, late, query=Query(f"q{number}", QUERY, 0), gate=speak)])
        newest = stream.context[-1].turn
        # The last word is fed to the model in the next turn.
        written = 1 + sum(
            len(segment)
            for segment in stream.context
            if segment.turn == newest and segment.kind is SegmentKind.ACTION
        )
        a_word_s = model.seconds["decode"] / written
        if number:
            firsts.append(1e3 * (model.seconds["vision"] + model.seconds["prefill"] + a_word_s))
            rates.append(1.0 / a_word_s)
    row.first_token_ms, row.tokens_per_s = float(np.median(firsts)), float(np.median(rates))


def positions_s(model: StreamingModel, tokens_a_turn: int) -> float:
    """Seconds of a 1 Hz stream until a growing context uses all positions of the model."""
    trained: int = model.checkpoint.model.config.text_config.max_position_embeddings
    return float(int((trained - 1024) / (1.25 * tokens_a_turn)))


def compare(
    model: StreamingModel, context_s: float, seconds: int, samples: int
) -> list[MethodResult]:
    """Measure every method on one model."""
    rows = []
    settings = model.settings
    turn = model.open_stream("turn")
    timed_step(model, [Turn(turn, next(frames("turn", 2)), gate=silent)])
    tokens_a_turn = sum(len(segment) for segment in turn.context if segment.turn >= 0) + 2
    for method in context_methods(context_s):
        settings.context.policy = method.policy  # type: ignore[assignment]
        length = (
            method.seconds
            if method.seconds is not None
            else min(positions_s(model, tokens_a_turn), float(seconds))
        )
        settings.context.max_seconds = length
        row = measure_method(
            model, method, int(min(seconds, length)) if method.seconds is None else seconds, samples
        )
        if method.seconds is None and length < seconds:
            row.ended_s = length
        rows.append(row)
        print(line(row), flush=True)
    settings.context.policy, settings.context.max_seconds = "auto", 0.0
    return rows


HEADER = (
    f"{'':<34}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}"
    f"{'1st tok':>10}{'tok/s':>9}{'context':>9}{'cache':>8}{'process':>9}"
)


def line(row: MethodResult) -> str:
    """One row of the table: ms, ms, ms, ms, ms, 1/s, tokens, MB, MB.

    With a GPU the last column is the memory of the GPU.
    """
    ended = f"   ended after {row.ended_s:.0f} s: no positions left" if row.ended_s else ""
    cells = "".join(f"{row.percentile(percent):8.1f}" for percent in (50, 95, 99, 100))
    return (
        f"{row.name:<34}{cells}{row.first_token_ms:10.1f}{row.tokens_per_s:9.0f}"
        f"{row.ticks[-1][2]:9d}{row.cache_mb:8.0f}{row.process_mb:9.0f}{ended}"
    )


def many_streams(model: StreamingModel, count: int, seconds: int) -> dict[str, float]:
    """Step time with `count` cameras in one step, and with `count` steps of one camera."""
    streams = [model.open_stream(f"camera{number}") for number in range(count)]
    sources = [frames(stream.camera, number % 4) for number, stream in enumerate(streams)]

    def turns() -> list[Turn]:
        return [
            Turn(stream, next(source), gate=silent)
            for stream, source in zip(streams, sources, strict=True)
        ]

    together = [timed_step(model, turns()) for _ in range(seconds)]
    alone = [sum(timed_step(model, [turn]) for turn in turns()) for _ in range(3)]
    late = together[len(together) // 2 :]
    return {
        "streams": count,
        "p50_ms": float(np.percentile(late, 50)),
        "p95_ms": float(np.percentile(late, 95)),
        "one_by_one_ms": float(np.median(alone)),
        "cache_mb": sum(stream.cache_bytes for stream in streams) / 1e6,
    }


def bounds(model: StreamingModel, tokens: int, patches: int) -> dict[str, float]:
    """Lower bounds of the step time on this device, in ms.

    They are the bytes of the weights over the measured copy bandwidth, and the arithmetic over the
    measured speed of matrix products.
    """
    loaded = model.checkpoint.model
    parameter = loaded.lm_head.weight
    text = (
        sum(weight.numel() for weight in loaded.model.language_model.layers.parameters())
        + parameter.numel()
    )
    vision = sum(weight.numel() for weight in loaded.model.visual.parameters())
    source = torch.empty(
        1 << (28 if parameter.device.type == "cuda" else 25),
        dtype=torch.uint8,
        device=parameter.device,
    )
    target = torch.empty_like(source)
    side = 8192 if parameter.device.type == "cuda" else 1024
    square = torch.randn(side, side, device=parameter.device, dtype=parameter.dtype)
    bandwidth = 2 * source.numel() / best_of(model, lambda: target.copy_(source))
    arithmetic = 2 * side**3 / best_of(model, lambda: square @ square)
    return {
        "copy_gb_per_s": bandwidth / 1e9,
        "matrix_tflop_per_s": arithmetic / 1e12,
        "decode_bandwidth_bound_ms": 1e3 * text * parameter.element_size() / bandwidth,
        "silent_step_bandwidth_bound_ms": (
            1e3 * (text + vision) * parameter.element_size() / bandwidth
        ),
        "silent_step_compute_bound_ms": 1e3 * 2 * (text * tokens + vision * patches) / arithmetic,
    }


def best_of(model: StreamingModel, work: object) -> float:
    """Time of the fastest of ten runs in seconds."""
    seconds = []
    for _ in range(10):
        synchronise(model)
        started = time.perf_counter()
        work()  # type: ignore[operator]
        synchronise(model)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def plot(reports: Sequence[dict[str, object]], path: Path) -> None:
    """Draw the step time over stream time, one panel for each model."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(reports), figsize=(7.5 * len(reports), 5), squeeze=False
    )
    for panel, report in zip(panels[0], reports, strict=True):
        rows: list[MethodResult] = report["rows"]  # type: ignore[assignment]
        for row in rows:
            seconds, steps, _ = zip(*row.ticks, strict=True)
            is_ours = row.name.startswith("ours")
            # A running median, because single ticks on a shared machine vary a lot.
            window = max(1, len(steps) // 40)
            smooth = [
                float(np.median(steps[max(0, at - window) : at + window + 1]))
                for at in range(len(steps))
            ]
            panel.plot(
                seconds,
                smooth,
                label=row.name,
                linewidth=2.2 if is_ours else 1.4,
                linestyle="-" if is_ours else "--",
            )
        panel.set(
            yscale="log", xlabel="stream time (s)", ylabel="step (ms)", title=str(report["model"])
        )
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def rounded(value: Any) -> Any:
    """Round all floats in `value` to 5 significant digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shapes",
        nargs="*",
        default=[],
        choices=[*SHAPES],
        help="shapes with random weights instead of the shipped model",
    )
    parser.add_argument(
        "--tokens",
        nargs="*",
        type=int,
        default=[128],
        choices=[*GRIDS],
        help="vision tokens of a frame for these shapes",
    )
    parser.add_argument(
        "--streams",
        nargs="*",
        type=int,
        default=[1, 2, 4],
        help="numbers of cameras in one step",
    )
    parser.add_argument(
        "--context", type=float, default=200.0, help="length of the context in seconds"
    )
    parser.add_argument("--seconds", type=int, default=600, help="length of the stream in seconds")
    parser.add_argument(
        "--samples",
        type=int,
        default=12,
        help="number of ticks at which the recomputing baselines are measured",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/streaming.json"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    reports: list[dict[str, object]] = []
    for name, tokens in [
        (shape, tokens) for shape in arguments.shapes for tokens in arguments.tokens
    ] or [("", 0)]:
        settings = load_settings({"stream.rate_hz": 1.0})
        model = (
            random_model(name, tokens, device, dtype, settings, arguments.seed)
            if name
            else load_cached_model(settings)
        )
        height, width = model.checkpoint.pictures.target_size(480, 640)
        rows_columns = model.checkpoint.pictures.grid(height, width)
        title = (
            f"{name or model.model_id}, {rows_columns[0] * rows_columns[1]} vision tokens,"
            f" {device.type} {dtype}"
        )
        limits = bounds(
            model,
            tokens=rows_columns[0] * rows_columns[1] + 8,
            patches=4 * rows_columns[0] * rows_columns[1],
        )
        print(f"\n{title}\n{HEADER}")
        rows = compare(model, arguments.context, arguments.seconds, arguments.samples)
        ours, baseline = (
            rows[0].percentile(50),
            next(row for row in rows if row.name.startswith("(b)")).percentile(50),
        )
        print(f"throughput of last_turns relative to (b): {baseline / ours:.1f} times")
        print("bounds: " + ", ".join(f"{key} {value:.3g}" for key, value in limits.items()))
        streams = [
            many_streams(model, count, min(arguments.seconds, 60)) for count in arguments.streams
        ]
        for entry in streams:
            print("  " + "  ".join(f"{key} {value:.1f}" for key, value in entry.items()))
        reports.append(
            {
                "model": title,
                "rows": rows,
                "bounds": limits,
                "streams": streams,
                "times_throughput_of_b": baseline / ours,
            }
        )
        del model
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    plot(reports, arguments.out.with_suffix(".png"))
    for report in reports:
        report["rows"] = [
            asdict(row)
            | {f"p{percent}_ms": row.percentile(percent) for percent in (50, 95, 99, 100)}
            for row in report["rows"]  # type: ignore[attr-defined]
        ]
    whole = {
        "machine": machine(),
        "seed": arguments.seed,
        "context_s": arguments.context,
        "stream_s": arguments.seconds,
        "models": reports,
    }
    arguments.out.write_text(json.dumps(rounded(whole)) + "\n")
    print(f"-> {arguments.out}, {arguments.out.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
