"""How many streams a GPU holds: by memory for their contexts, and by time for their ticks.

    python deploy/capacity.py --model CHECKPOINT --gpu h100
    python deploy/capacity.py --model CHECKPOINT --gpu-gb 48 --bandwidth 864 --tflops 362

CHECKPOINT is a folder with a config.json; its weights are not needed. The figures are computed, not
measured: `docs/deploy.md` says how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIGA = 1e9
REREAD_SHARE = 0.5
"""Share of a full context that stays, and that the server reads again."""

PROMPT_TOKENS = 100
"""Tokens of the question about one instruction."""

MARKER_TOKENS = 12
"""Tokens around a picture: its time and the marks."""

SPOKEN_TOKENS = 20
"""Tokens of an utterance."""

COMPUTE_SHARE = 0.5
"""Share of the peak that prefill and the vision tower reach."""


class CannotCompute(ValueError):
    """The model or the GPU is not described well enough."""


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet.

    Attributes:
        memory_gb: memory, GB (1e9 bytes).
        bandwidth_gbs: memory bandwidth, GB/s.
        tflops: peak of dense products in bfloat16 or float16, TFLOP/s.
    """

    memory_gb: float
    bandwidth_gbs: float
    tflops: float


GPUS = {
    "orin-nano": Gpu(8, 102, 17),
    "agx-orin": Gpu(64, 205, 43),
    "rtx-4090": Gpu(24, 1008, 165),
    "l40s": Gpu(48, 864, 362),
    "a100": Gpu(80, 2039, 312),
    "h100": Gpu(80, 3350, 989),
    "h200": Gpu(141, 4800, 989),
}
"""Data sheet values. A Jetson shares its memory with everything else that runs on it."""


@dataclass(frozen=True)
class ModelSize:
    """What matters of a model's shape.

    Attributes:
        total: number of parameters.
        vision: those of the vision tower and its projector.
        decoding: those that are read for each written token.
        computing: those of the language model that a token of the prompt is multiplied with.
        attention: numbers of all query heads of all layers together.
        kv_numbers: for each layer with a cache (numbers a token, longest window or 0).
        vision_attention: numbers of all heads of all layers of the vision tower together.
        merged: patches of one vision token.
        patch_numbers: numbers of one patch as the vision tower takes it.
    """

    total: int
    vision: int
    decoding: int
    computing: int
    attention: int
    kv_numbers: tuple[tuple[int, int], ...]
    vision_attention: int
    merged: int
    patch_numbers: int

    def kv_bytes(self, tokens: int, bytes_each: float) -> float:
        """Bytes of the keys and values of a context of `tokens` tokens."""
        return sum(
            numbers * bytes_each * (min(tokens, window) if window else tokens)
            for numbers, window in self.kv_numbers
        )


@dataclass(frozen=True)
class Load:
    """What the streams ask for.

    Attributes:
        context: most tokens of a stream.
        vision_tokens: tokens of a picture.
        rate_hz: ticks a second.
        instructions: standing instructions, each of which is judged at every tick.
        speaking: share of the judgements that end in an utterance.
    """

    context: int
    vision_tokens: int
    rate_hz: float = 1.0
    instructions: int = 3
    speaking: float = 0.02

    @property
    def frame_tokens(self) -> int:
        """Tokens that a tick adds to the context."""
        return self.vision_tokens + MARKER_TOKENS

    @property
    def seconds(self) -> float:
        """The longest part of the stream that fits into the context, seconds."""
        return self.context / self.frame_tokens / self.rate_hz


@dataclass(frozen=True)
class Capacity:
    """What one GPU can do for streams of one kind.

    Attributes:
        stream_gb: memory of the context of one stream, GB.
        pictures_gb: host memory for the pictures in that context, which the server keeps prepared
            so that a node need not send them again, GB.
        by_memory: streams whose contexts fit.
        tick_ms: computing time of one tick of one stream, ms.
        by_time: streams whose ticks can all be computed in time.
    """

    stream_gb: float
    pictures_gb: float
    by_memory: int
    tick_ms: float
    by_time: int

    @property
    def streams(self) -> int:
        """The streams that the GPU can serve."""
        return min(self.by_memory, self.by_time)


def model_size(checkpoint: Path) -> ModelSize:
    """The size of the model that the config.json of `checkpoint` describes; exact counts.

    Raises:
        CannotCompute: there is no config.json, or transformers cannot build such a model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    folder = checkpoint.parent if checkpoint.name == "config.json" else checkpoint
    if not (folder / "config.json").is_file():
        raise CannotCompute(f"{folder} has no config.json; give the folder of a checkpoint")
    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(config)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise CannotCompute(f"{folder}: transformers cannot build the model ({error})") from error
    text = config.get_text_config()
    experts = getattr(text, "num_experts", 0) or 1
    used = (getattr(text, "num_experts_per_tok", 0) or 1) / experts
    counts = {"vision": 0, "text": 0.0, "all": 0}
    for name, parameter in model.named_parameters():
        counts["all"] += parameter.numel()
        if any(part in name for part in ("visual", "vision", "projector", "connector")):
            counts["vision"] += parameter.numel()
        else:
            share = used if ".experts." in name else 1.0
            counts["text"] += share * parameter.numel()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    decoding = counts["text"] - (0 if embedding is head else embedding.numel())
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    vision = config.vision_config
    return ModelSize(
        total=int(counts["all"]),
        vision=int(counts["vision"]),
        decoding=int(decoding),
        computing=int(decoding - head.numel()),
        attention=text.num_hidden_layers * text.num_attention_heads * size,
        kv_numbers=_kv_numbers(text, size),
        vision_attention=_first(vision, "depth", "num_hidden_layers")
        * _first(vision, "embed_dim", "hidden_size"),
        merged=(getattr(vision, "spatial_merge_size", None) or 1) ** 2,
        patch_numbers=3
        * (getattr(vision, "temporal_patch_size", None) or 1)
        * vision.patch_size**2,
    )


def _kv_numbers(text: Any, head_size: int) -> tuple[tuple[int, int], ...]:
    """For each layer with keys and values (numbers a token, longest window or 0)."""
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    windows = {"full_attention": 0, "sliding_attention": getattr(text, "sliding_window", 0) or 0}
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    # Layers with linear attention have a state that does not grow; it is small.
    return tuple((2 * heads * head_size, windows[kind]) for kind in kinds if kind in windows)


def _first(config: Any, *names: str) -> int:
    return next(int(getattr(config, name)) for name in names if getattr(config, name, None))


def capacity(
    size: ModelSize,
    gpu: Gpu,
    load: Load,
    *,
    weight_bytes: float = 2.0,
    kv_bytes: float = 2.0,
    memory_share: float = 0.9,
    work_gb: float = 4.0,
    busy_share: float = 0.7,
) -> Capacity:
    """How many streams of `load` the GPU can serve.

    Args:
        size: the model.
        gpu: the GPU.
        load: what each stream asks for.
        weight_bytes: bytes of a weight: 2 for bfloat16, 1 for fp8, about 0.55 for 4 bits.
        kv_bytes: bytes of a stored number of keys and values: 2, or 1 for fp8.
        memory_share: share of the GPU's memory that the server may use.
        work_gb: memory for the computation itself, GB.
        busy_share: share of the time that is planned for; the rest is for what comes in bursts.
    """
    free_gb = gpu.memory_gb * memory_share - size.total * weight_bytes / GIGA - work_gb
    stream_gb = size.kv_bytes(load.context, kv_bytes) / GIGA
    flops = gpu.tflops * 1e12 * COMPUTE_SHARE
    bytes_s = gpu.bandwidth_gbs * GIGA
    # A context that is full is cut to REREAD_SHARE, and all of that is seen and read once more
    # until it is full again.
    frames = 1.0 + REREAD_SHARE / (1.0 - REREAD_SHARE)
    mean_context = load.context * (1.0 + REREAD_SHARE) / 2.0
    seeing_s = frames * vision_flops(size, load.vision_tokens) / flops
    # The questions of a tick come side by side, so each of them reads the newest picture's tokens.
    each = load.frame_tokens + PROMPT_TOKENS
    read = (frames - 1.0) * load.frame_tokens + load.instructions * each
    reading_s = read * token_flops(size, mean_context) / flops
    spoken = load.instructions * load.speaking * SPOKEN_TOKENS
    a_token = size.decoding * weight_bytes + size.kv_bytes(int(mean_context), kv_bytes)
    tick_s = seeing_s + reading_s + spoken * a_token / bytes_s
    # The weights are read at least once for all streams of a tick together.
    left_s = busy_share / load.rate_hz - size.decoding * weight_bytes / bytes_s
    kept = load.context / load.frame_tokens
    return Capacity(
        stream_gb=stream_gb,
        pictures_gb=kept * load.vision_tokens * size.merged * size.patch_numbers * 2.0 / GIGA,
        by_memory=max(0, int(free_gb / stream_gb)),
        tick_ms=1e3 * tick_s,
        by_time=max(0, int(left_s / tick_s)),
    )


def vision_flops(size: ModelSize, vision_tokens: int) -> float:
    """Operations of the vision tower for one picture; windows of attention are not counted on."""
    patches = vision_tokens * size.merged
    return 2.0 * size.vision * patches + 4.0 * size.vision_attention * patches**2


def token_flops(size: ModelSize, context: float) -> float:
    """Operations for one token of a prompt behind `context` tokens."""
    return 2.0 * size.computing + 4.0 * size.attention * context


def table(
    size: ModelSize, gpu: Gpu, loads: Sequence[Load], **how: float
) -> list[tuple[Load, Capacity]]:
    """The capacity for each load; `how` are more arguments of `capacity`."""
    return [(load, capacity(size, gpu, load, **how)) for load in loads]


COLUMNS = (
    "context",
    "vision tokens",
    "seconds kept",
    "GB a stream",
    "GB of pictures",
    "by memory",
    "ms a tick",
    "by time",
    "streams",
)


def lines_of(rows: Sequence[tuple[Load, Capacity]]) -> list[str]:
    """The table in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for load, found in rows:
        cells = (
            f"{load.context:,}",
            str(load.vision_tokens),
            f"{load.seconds:.0f}",
            f"{found.stream_gb:.2f}",
            f"{found.pictures_gb:.2f}",
            str(found.by_memory),
            f"{found.tick_ms:.1f}",
            str(found.by_time),
            f"**{found.streams}**",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Print the table for the model and GPU of the command line; 2 if they are not usable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True, help="folder with a config.json")
    parser.add_argument("--gpu", choices=sorted(GPUS), help="a GPU whose data sheet is known here")
    parser.add_argument("--gpu-gb", type=float, help="memory, GB")
    parser.add_argument("--bandwidth", type=float, help="memory bandwidth, GB/s")
    parser.add_argument("--tflops", type=float, help="peak of dense 16-bit products, TFLOP/s")
    parser.add_argument("--context", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--vision-tokens", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rate-hz", type=float, default=Load.rate_hz)
    parser.add_argument("--instructions", type=int, default=Load.instructions)
    parser.add_argument("--weight-bytes", type=float, default=2.0, help="2, 1 (fp8), 0.55 (4 bit)")
    parser.add_argument("--kv-bytes", type=float, default=2.0, help="2, or 1 for fp8")
    given = parser.parse_args(arguments)
    try:
        gpu = _gpu_of(given)
        _check_positive(given)
        size = model_size(given.model)
    except CannotCompute as error:
        print(error, file=sys.stderr)
        return 2
    loads = [
        Load(context, tokens, given.rate_hz, given.instructions)
        for context in given.context
        for tokens in given.vision_tokens
    ]
    how = {"weight_bytes": given.weight_bytes, "kv_bytes": given.kv_bytes}
    print(
        f"{size.total / 1e9:.2f} G parameters ({size.vision / 1e9:.2f} G of them see),"
        f" {size.total * given.weight_bytes / GIGA:.1f} GB;"
        f" {size.kv_bytes(1, given.kv_bytes) / 1024:.0f} KiB of keys and values a token.\n"
        f"GPU: {gpu.memory_gb:g} GB, {gpu.bandwidth_gbs:g} GB/s, {gpu.tflops:g} TFLOP/s."
        f" {given.rate_hz:g} ticks a second, {given.instructions} instructions.\n"
    )
    print("\n".join(lines_of(table(size, gpu, loads, **how))))
    return 0


def _gpu_of(given: argparse.Namespace) -> Gpu:
    known = GPUS.get(given.gpu or "")
    values = {
        "--gpu-gb": given.gpu_gb or (known and known.memory_gb),
        "--bandwidth": given.bandwidth or (known and known.bandwidth_gbs),
        "--tflops": given.tflops or (known and known.tflops),
    }
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise CannotCompute(f"{', '.join(missing)} is missing; give it, or one of --gpu")
    return Gpu(*(float(value) for value in values.values() if value))


def _check_positive(given: argparse.Namespace) -> None:
    checked = {
        "--gpu-gb": given.gpu_gb,
        "--bandwidth": given.bandwidth,
        "--tflops": given.tflops,
        "--rate-hz": given.rate_hz,
        "--weight-bytes": given.weight_bytes,
        "--kv-bytes": given.kv_bytes,
        "--context": min(given.context),
        "--vision-tokens": min(given.vision_tokens),
    }
    for name, value in checked.items():
        if value is not None and not value > 0:
            raise CannotCompute(f"{name} is {value}; give more than 0")
    if given.instructions < 0:
        raise CannotCompute(f"--instructions is {given.instructions}; give at least 0")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
