"""Ablation of the language stage: losses, two or three states, context lengths.

Every variant starts from the same weights, uses the same rooms encoded by the same frozen tower,
and gets the same number of steps with the same number of ticks. All are scored under teacher
forcing on the same held-out rooms. A run that was stopped resumes.

    python benchmark/ablation.py --steps 300 --worlds 300 --held-out 40
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from machine import machine
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from stream_vlm.backbone.checkpoint.loader import SHIPPED
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.training.common.loop import TrainingPlan, accelerator_for
from stream_vlm_lab.training.common.losses import OBJECTIVES
from stream_vlm_lab.training.shipped_model.architecture import STREAM, new_model
from stream_vlm_lab.training.shipped_model.language_stage import score_language, train_language
from stream_vlm_lab.training.shipped_model.make import (
    LANGUAGE_TICKS,
    QUESTION_RATES,
    encoded_streams,
    keep_freed_memory,
)
from stream_vlm_lab.training.shipped_model.render_cache import RenderCache, drawing_digest
from stream_vlm_lab.training.shipped_model.sequences import (
    HistoryNoise,
    SequenceWriter,
    TokenStream,
)

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Variant:
    """One way to train the language part.

    Attributes:
        loss: name of the loss.
        has_standby: False trains a model with two states.
        turns: length of the context in turns.
    """

    loss: str = "fixed"
    has_standby: bool = True
    turns: int = STREAM.max_turns


VARIANTS = {
    "start": None,
    "cross entropy": Variant(loss="ce"),
    "fixed weights 1/1.5/4 (shipped)": Variant(),
    "focal, balanced (Streamo)": Variant(loss="focal"),
    "silence 0.8, response 1.5 (Harness)": Variant(loss="weighted"),
    "silence 0.4, response 1.5 (sister)": Variant(loss="weighted-sum"),
    "two states": Variant(has_standby=False),
    "7 turns": Variant(turns=7),
    "14 turns": Variant(turns=14),
    "56 turns": Variant(turns=LANGUAGE_TICKS),
}
"""Variants by name; `start` is the untrained start.

Attributes that a variant does not set are those of the shipped model.
"""

COLUMNS = (
    *(
        f"{state}{kind}"
        for state in ("silence", "standby", "response")
        for kind in (" precision", "")
    ),
    "words",
)


def arguments_of(command: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=SHIPPED,
        help="checkpoint with the vision tower, and without --fresh with the language part",
    )
    parser.add_argument("--fresh", action="store_true", help="start from a random language part")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="NAME",
        help=f"some of: {', '.join(VARIANTS)}",
    )
    parser.add_argument("--steps", type=int, default=300, help="training steps of each variant")
    parser.add_argument(
        "--batch",
        type=int,
        default=8,
        help=(
            f"windows of {STREAM.max_turns} ticks in a step; for other lengths the same number of"
            " ticks"
        ),
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help="peak learning rate; default: 1e-3 with --fresh, else 3e-4",
    )
    parser.add_argument(
        "--worlds", type=int, default=300, help="simulated rooms to train on, 28 s of each"
    )
    parser.add_argument(
        "--first-world",
        type=int,
        default=60_000,
        help="seed of the first room; the checkpoint must not have been trained on these rooms",
    )
    parser.add_argument("--held-out", type=int, default=40, help="held-out rooms to score on")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="seeds of the runs of each variant; scores are averaged",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of this process")
    parser.add_argument("--processes", type=int, default=1, help="processes that render rooms")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/ablation"),
        help="directory for rendered rooms, vision tokens and runs",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/ablation/ablation.json"), help="file for the scores"
    )
    return parser.parse_args(command)


@dataclass
class Ablation:
    """The encoded rooms and the model that all variants start from."""

    arguments: argparse.Namespace
    accelerator: Accelerator
    tokenizer: Any
    streams: list[TokenStream]
    held_out: list[TokenStream]

    def scores(self, name: str, seed: int) -> dict[str, float]:
        """Train the variant `name`, unless it is finished already, and score it."""
        arguments, variant = self.arguments, VARIANTS[name]
        settings = self._settings(name, seed)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        folder = arguments.work / f"run-{digest[:10]}"
        kept = folder / "scores.json"
        if kept.is_file():
            found: dict[str, float] = json.loads(kept.read_text())["scores"]
            return found
        folder.mkdir(parents=True, exist_ok=True)
        model = self._start(seed)
        state = None
        if variant is not None:
            batch = max(1, round(arguments.batch * STREAM.max_turns / variant.turns))
            plan = TrainingPlan(folder, name, settings, seed, arguments.steps, None, save_every=100)
            writer = SequenceWriter(
                self.tokenizer, HistoryNoise(), QUESTION_RATES, has_standby=variant.has_standby
            )
            rate = arguments.learning_rate or (1e-3 if arguments.fresh else 3e-4)
            objective = OBJECTIVES[variant.loss]
            state = train_language(
                self.accelerator,
                model,
                self.streams,
                writer,
                plan,
                objective=objective,
                batch=batch,
                ticks=variant.turns,
                learning_rate=rate,
            ).state_path
        variant = variant or Variant()
        exact = SequenceWriter(
            self.tokenizer,
            HistoryNoise(0.0, 0.0, 0.0),
            QUESTION_RATES,
            has_standby=variant.has_standby,
        )
        scores = score_language(model, self.held_out, exact, ticks=variant.turns)
        kept.write_text(json.dumps({"settings": settings, "scores": scores}, indent=2) + "\n")
        if state is not None:
            state.unlink(missing_ok=True)
        return scores

    def _start(self, seed: int) -> Any:
        """A fresh copy of the common start model."""
        model = new_model(self.tokenizer, seed)
        known = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.arguments.checkpoint, dtype=torch.float32
        ).state_dict()
        if self.arguments.fresh:
            known = {weight: value for weight, value in known.items() if ".visual." in weight}
        model.load_state_dict(known, strict=not self.arguments.fresh)
        model.model.visual.requires_grad_(False)
        return model.to(self.accelerator.device)

    def _settings(self, name: str, seed: int) -> dict[str, Any]:
        arguments = self.arguments
        options = ("fresh", "steps", "batch", "learning_rate", "worlds", "first_world", "held_out")
        chosen = {option: getattr(arguments, option) for option in options}
        return chosen | {
            "variant": name,
            "seed": seed,
            "checkpoint": str(arguments.checkpoint),
            "drawn": drawing_digest(),
        }


def table(rows: dict[str, dict[str, float]]) -> str:
    """Scores by variant as a Markdown table; `-` if a variant does not have the state."""
    short = [
        f"{column} R" if f"{column} precision" in COLUMNS else column.replace(" precision", " P")
        for column in COLUMNS
    ]
    lines = [f"| | {' | '.join(short)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, scores in rows.items():
        lines.append(
            f"| {name} | "
            + " | ".join(f"{scores[column]:.3f}" if column in scores else "-" for column in COLUMNS)
            + " |"
        )
    return "\n".join(lines)


def main(command: Sequence[str] | None = None) -> int:
    """Run the variants, print a table and write the scores."""
    arguments = arguments_of(command)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    accelerator = accelerator_for("no")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.checkpoint)
    tower = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        arguments.checkpoint, dtype=torch.float32
    ).to(accelerator.device)
    arguments.work.mkdir(parents=True, exist_ok=True)
    cache = RenderCache(arguments.work, STREAM.rate_hz, arguments.processes)
    seeds = range(arguments.first_world, arguments.first_world + arguments.worlds)
    held_out = range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.held_out)
    streams = [
        encoded_streams(tower, cache, part, arguments.work, what)
        for part, what in ((seeds, "rooms"), (held_out, "held-out rooms"))
    ]
    ablation = Ablation(arguments, accelerator, tokenizer, *streams)
    rows: dict[str, dict[str, float]] = {}
    for name in arguments.variants:
        runs = [ablation.scores(name, seed) for seed in arguments.seeds]
        rows[name] = {column: mean(run[column] for run in runs) for column in runs[0]}
        print(table({name: rows[name]}).splitlines()[-1], flush=True)
    # Only the names of directories; their place on this machine does not matter.
    chosen = {
        name: value.name if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"machine": machine(), "settings": chosen, "scores": rows}, indent=2) + "\n"
    )
    print(table(rows))
    print(f"scores: {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
