"""`stream-vlm train`: makes the shipped model, or fine-tunes a checkpoint on streams of one's own.

On several GPUs: `accelerate launch -m stream_vlm_lab.training.train CHECKPOINT DATA --out DIR ...`,
or without CHECKPOINT and DATA.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stream_vlm.types import StreamError
from stream_vlm_lab.training.common.losses import OBJECTIVES
from stream_vlm_lab.training.finetune import command as finetune
from stream_vlm_lab.training.shipped_model import make

DEFAULT_OUT = Path("build/train/checkpoint")


def _parser(
    name: str,
) -> tuple[argparse.ArgumentParser, argparse._ArgumentGroup, argparse._ArgumentGroup]:
    """The parser, and the options of one kind of training each."""
    parser = argparse.ArgumentParser(
        prog=name,
        description="Without CHECKPOINT: make the shipped model. With it: fine-tune it on DATA.",
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help="Qwen2.5-VL or Qwen3-VL directory to fine-tune"
    )
    parser.add_argument("data", type=Path, nargs="?", help="file of samples to fine-tune it on")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"directory of the result; default without CHECKPOINT: {DEFAULT_OUT}",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument(
        "--loss",
        choices=OBJECTIVES,
        help="see docs/training.md; default: fixed for the shipped model, ce for a CHECKPOINT",
    )
    rates = (
        f"{make.LEARNING_RATE:g} for the shipped model, {finetune.LEARNING_RATE:g} for a CHECKPOINT"
    )
    parser.add_argument(
        "--learning-rate", type=float, help=f"highest, reached after a warm-up; default: {rates}"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=(
            "end by the clock, not after steps; a killed run then does not go on to the same losses"
        ),
    )
    parser.add_argument(
        "--save-every",
        type=int,
        default=50,
        help="steps between saved states, which a killed run goes on from",
    )
    making = parser.add_argument_group("making the shipped model")
    make.add_arguments(making)
    tuning = parser.add_argument_group("fine-tuning a checkpoint")
    finetune.add_arguments(tuning)
    return parser, making, tuning


def command(arguments: Sequence[str], name: str = "stream-vlm train") -> int:
    """Parse `arguments` and train."""
    parser, making, tuning = _parser(name)
    chosen = parser.parse_args(list(arguments))
    is_tuning = chosen.checkpoint is not None
    for action in (making if is_tuning else tuning)._group_actions:
        if getattr(chosen, action.dest) != action.default:
            whose = (
                "making the shipped model; leave out CHECKPOINT"
                if is_tuning
                else "fine-tuning; give CHECKPOINT and DATA"
            )
            parser.error(f"{action.option_strings[0]} is for {whose}")
    if chosen.minutes is not None and chosen.minutes <= 0:
        parser.error(f"--minutes {chosen.minutes:g}: give a time above 0")
    if is_tuning and (chosen.data is None or chosen.out is None):
        parser.error("fine-tuning needs DATA and --out besides CHECKPOINT")
    if is_tuning:
        return finetune.main(chosen)
    chosen.out = chosen.out or DEFAULT_OUT
    return make.main(chosen)


if __name__ == "__main__":
    try:
        sys.exit(command(sys.argv[1:], "stream_vlm_lab.training.train"))
    except StreamError as error:
        sys.exit(f"train: {error}")
