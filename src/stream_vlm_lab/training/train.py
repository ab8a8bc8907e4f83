"""`stream-vlm train`: makes the shipped model, or fine-tunes a checkpoint on your own streams.

On several GPUs: `accelerate launch -m stream_vlm_lab.training.train CHECKPOINT DATA --out DIR ...`.
Leave out CHECKPOINT and DATA to make the shipped model.
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
    """Return the parser, the options for the shipped model and the options for fine-tuning."""
    parser = argparse.ArgumentParser(
        prog=name,
        description=(
            "Without CHECKPOINT: make the shipped model. With CHECKPOINT: fine-tune it on DATA."
        ),
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help="Qwen2.5-VL or Qwen3-VL directory to fine-tune"
    )
    parser.add_argument("data", type=Path, nargs="?", help="file of samples for the fine-tuning")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"output directory; default without CHECKPOINT: {DEFAULT_OUT}",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument(
        "--loss",
        choices=OBJECTIVES,
        help=(
            "loss function, see docs/training.md; default: fixed for the shipped model, ce for a"
            " CHECKPOINT"
        ),
    )
    rates = (
        f"{make.LEARNING_RATE:g} for the shipped model, {finetune.LEARNING_RATE:g} for a CHECKPOINT"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"peak learning rate, reached after the warm-up; default: {rates}",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=(
            "stop after this time instead of a number of steps; a killed run that is resumed then"
            " has other losses"
        ),
    )
    parser.add_argument(
        "--save-every",
        type=int,
        default=50,
        help="steps between saved training states, from which a killed run resumes",
    )
    making = parser.add_argument_group("making the shipped model")
    make.add_arguments(making)
    tuning = parser.add_argument_group("fine-tuning a checkpoint")
    finetune.add_arguments(tuning)
    return parser, making, tuning


def command(arguments: Sequence[str], name: str = "stream-vlm train") -> int:
    """Parse `arguments`, train and return the exit code."""
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
        parser.error(f"--minutes {chosen.minutes:g}: must be above 0")
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
