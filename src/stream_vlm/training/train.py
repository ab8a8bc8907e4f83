"""`stream-vlm train` and `make train`: from a seed to a checkpoint that the node loads at once."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from stream_vlm.training.architecture import STREAM, new_model, save_checkpoint, word_tokenizer
from stream_vlm.training.language_stage import score_language, train_language
from stream_vlm.training.rendering import render_streams
from stream_vlm.training.sequences import HistoryNoise, SequenceWriter, TokenStream
from stream_vlm.training.vision_stage import encode_stream, score_vision, train_vision
from stream_vlm.world.language import vocabulary
from stream_vlm.world.splits import HELD_OUT_SEED

DENSE_TICKS, LANGUAGE_TICKS = 8, 56
"""Ticks taken from each world. Many worlds for a short time teach more than few for long: a tower that saw 200 rooms knew those by heart."""

QUESTION_RATES = (0.02, 0.1, 0.4)
"""Shares of silent ticks at which something is asked: some windows are left alone, others are examined."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the trainer."""
    parser.add_argument("--out", type=Path, default=Path("build/train/checkpoint"), help="directory of the finished checkpoint")
    parser.add_argument("--work", type=Path, default=Path("build/train"), help="directory of finished stages; a killed run goes on from them")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, worlds and sampling")
    parser.add_argument("--start-from", type=Path, help="checkpoint directory to go on from, instead of weights drawn from the seed")
    parser.add_argument("--vision-from", type=Path, help="safetensors file of an earlier run's vision tower to go on from")
    parser.add_argument("--vision-worlds", type=int, default=4000, help="worlds with dense labels for the vision tower, 4 s of each")
    parser.add_argument("--vision-epochs", type=float, default=2.5, help="passes over them")
    parser.add_argument("--language-worlds", type=int, default=2000, help="worlds for the language part, 28 s of each")
    parser.add_argument("--language-steps", type=int, default=1200, help="batches of 16 windows")
    parser.add_argument("--held-out-worlds", type=int, default=60, help="unseen worlds to score on")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes that render")


def keep_freed_memory() -> None:
    """Tell glibc not to hand large blocks back to the system after each step, which costs a CPU run most of its time in page faults."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    mallopt(mmap_threshold, 2**31 - 1)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 256 << 20)


def main(arguments: argparse.Namespace) -> int:
    """Train, score on held-out streams and write the checkpoint with `training.json` beside it."""
    started = time.time()
    keep_freed_memory()
    arguments.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = word_tokenizer(vocabulary())
    model = new_model(tokenizer, arguments.seed).to(device)
    if arguments.start_from:
        model.load_state_dict(Qwen2_5_VLForConditionalGeneration.from_pretrained(arguments.start_from, dtype=torch.float32).state_dict())
    log: list[dict[str, float]] = []
    report: dict[str, Any] = {"seed": arguments.seed, "device": str(device), "torch": torch.__version__}
    report["vision"] = _vision(model, arguments, log)
    report["language"] = _language(model, tokenizer, arguments, log)
    report["seconds"] = round(time.time() - started)
    save_checkpoint(model, tokenizer, arguments.out)
    (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.work / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    print(json.dumps(report, indent=2))
    print(f"checkpoint: {arguments.out} (try it: stream-vlm run world:{HELD_OUT_SEED} --out build/try --set model.directory={arguments.out})")
    return 0


def _vision(model: Any, arguments: argparse.Namespace, log: list[dict[str, float]]) -> dict[str, float]:
    """First stage, or its weights from an earlier run with the same seed."""
    finished = arguments.work / f"vision-{arguments.seed}.safetensors"
    scores = finished.with_suffix(".json")
    if finished.is_file() and scores.is_file():
        model.model.visual.load_state_dict(load_file(finished))
        print(f"vision: taken from {finished}; remove it to train anew")
        kept: dict[str, float] = json.loads(scores.read_text())
        return kept
    if arguments.vision_from:
        model.model.visual.load_state_dict(load_file(arguments.vision_from))
    streams = list(_render(range_of(arguments.seed, arguments.vision_worlds), arguments, dense=True, what="dense worlds"))
    heads = train_vision(
        model, streams, epochs=arguments.vision_epochs, batch=64, learning_rate=1e-3, seed=arguments.seed, log=log
    )
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.held_out_worlds)
    score = score_vision(model, heads, list(_render(held_out, arguments, dense=True, what="held-out worlds")))
    save_file({name: value.contiguous() for name, value in model.model.visual.state_dict().items()}, finished)
    scores.write_text(json.dumps(score))
    for stale in arguments.work.glob(f"tokens-{arguments.seed}-*.pt"):
        stale.unlink()  # encoded by the tower that this one replaces
    return score


def _language(
    model: Any, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace, log: list[dict[str, float]]
) -> dict[str, float]:
    """Second stage."""
    model.model.visual.requires_grad_(False)
    # Worlds that the tower has not seen, so that its tokens are no better than they will be in use.
    seeds = range_of(arguments.seed, arguments.vision_worlds + arguments.language_worlds)[arguments.vision_worlds :]
    streams = _tokens(model, seeds, arguments, "language worlds")
    writer = SequenceWriter(tokenizer, HistoryNoise(), QUESTION_RATES)
    train_language(
        model,
        streams,
        writer,
        steps=arguments.language_steps,
        batch=16,
        ticks=STREAM.max_turns,
        learning_rate=1e-3,
        seed=arguments.seed,
        log=log,
        save=lambda: save_checkpoint(model, tokenizer, arguments.out),
    )
    held_out = _tokens(model, range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.held_out_worlds), arguments, "held-out worlds")
    exact = SequenceWriter(tokenizer, HistoryNoise(0.0, 0.0, 0.0), QUESTION_RATES)
    return score_language(model, held_out, exact, ticks=STREAM.max_turns)


def _tokens(model: Any, seeds: Sequence[int], arguments: argparse.Namespace, what: str) -> list[TokenStream]:
    """Render and encode streams, or take them from an earlier run with the same vision tower."""
    cache = arguments.work / f"tokens-{arguments.seed}-{seeds[0]}-{len(seeds)}.pt"
    if cache.is_file():
        kept: list[TokenStream] = torch.load(cache, weights_only=False)
        return kept
    tower = model.model.visual
    device = next(tower.parameters()).device
    streams = []
    with torch.no_grad():
        for rendered in _render(seeds, arguments, dense=False, what=what):
            vision = encode_stream(tower, rendered.frames, device).cpu()
            streams.append(TokenStream(vision, rendered.states, rendered.texts, rendered.questions))
    torch.save(streams, cache)
    return streams


def _render(seeds: Sequence[int], arguments: argparse.Namespace, *, dense: bool, what: str) -> Iterable[Any]:
    ticks = DENSE_TICKS if dense else LANGUAGE_TICKS
    rendered = render_streams(seeds, ticks, STREAM.rate_hz, dense=dense, processes=arguments.processes)
    return tqdm(rendered, total=len(seeds), desc=what, unit="world", mininterval=5.0)


def range_of(seed: int, count: int) -> range:
    """World seeds of a training run; runs with different seeds see different worlds.

    Raises:
        ValueError: the range would reach the held-out seeds.
    """
    first = seed * 10_000
    if first + count > HELD_OUT_SEED:
        raise ValueError(f"--seed {seed} with {count} streams reaches the held-out worlds; use a seed below {HELD_OUT_SEED // 10_000}")
    return range(first, first + count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    raise SystemExit(main(parser.parse_args()))
