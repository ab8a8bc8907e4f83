"""Makes the shipped model from a seed: two training stages, scores and a checkpoint."""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from stream_vlm.types import StreamError
from stream_vlm_lab.simulation.scene.captions import vocabulary
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.training.common.loop import TrainingPlan, accelerator_for
from stream_vlm_lab.training.common.losses import OBJECTIVES
from stream_vlm_lab.training.shipped_model.architecture import (
    STREAM,
    new_model,
    save_checkpoint,
    word_tokenizer,
)
from stream_vlm_lab.training.shipped_model.language_stage import score_language, train_language
from stream_vlm_lab.training.shipped_model.render_cache import RenderCache, drawing_digest
from stream_vlm_lab.training.shipped_model.sequences import (
    HistoryNoise,
    SequenceWriter,
    TokenStream,
)
from stream_vlm_lab.training.shipped_model.vision_stage import (
    encode_stream,
    score_vision,
    train_vision,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

DENSE_TICKS, LANGUAGE_TICKS = 8, 56
"""Ticks taken from each simulated room, in the vision stage and in the language stage.

Short clips of many rooms train better than long clips of few rooms: a tower that was trained on 200
rooms memorised them.
"""

QUESTION_RATES = (0.02, 0.1, 0.4)
"""Shares of silent ticks at which a question is asked; each window uses one of them."""

LEARNING_RATE = 1e-3
VISION_BATCH, LANGUAGE_BATCH = 64, 16
"""Pairs of pictures (vision stage) and windows (language stage) of a step, in each process."""
VISION_TIME = 0.6
"""Share of `--minutes` after which the vision stage ends."""


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """Declare the options of making the shipped model."""
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/train"),
        help="directory for rendered rooms and finished stages, about 12 GB",
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        help="checkpoint directory to start from, instead of random weights",
    )
    parser.add_argument(
        "--vision-from",
        type=Path,
        help="safetensors file with the vision tower of an earlier run to start from",
    )
    parser.add_argument(
        "--vision-worlds",
        type=int,
        default=4000,
        help="simulated rooms with dense labels for the vision tower, 4 s of each",
    )
    parser.add_argument(
        "--vision-epochs", type=float, default=2.5, help="epochs of the vision stage"
    )
    parser.add_argument(
        "--language-worlds",
        type=int,
        default=2000,
        help="simulated rooms for the language part, 28 s of each",
    )
    parser.add_argument(
        "--language-steps",
        type=int,
        default=1200,
        help="training steps of the language stage",
    )
    parser.add_argument(
        "--vision-batch",
        type=int,
        default=None,
        help=f"pairs of pictures in a step of the vision stage; default: {VISION_BATCH}",
    )
    parser.add_argument(
        "--language-batch",
        type=int,
        default=None,
        help=f"windows in a step of the language stage; default: {LANGUAGE_BATCH}",
    )
    parser.add_argument(
        "--held-out-worlds", type=int, default=60, help="held-out rooms to score on"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="processes that render rooms"
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compile the vision tower; without a C++ compiler it is trained uncompiled",
    )


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system.

    Otherwise a training on the CPU spends most of its time in page faults.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    mallopt(mmap_threshold, 2**31 - 1)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 256 << 20)


def main(arguments: argparse.Namespace) -> int:
    """Train both stages, score on held-out streams, write the checkpoint and `training.json`."""
    started = time.monotonic()
    keep_freed_memory()
    accelerator = accelerator_for("no")
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer(vocabulary())
    model = new_model(tokenizer, arguments.seed).to(accelerator.device)
    if arguments.start_from:
        model.load_state_dict(
            Qwen2_5_VLForConditionalGeneration.from_pretrained(
                arguments.start_from, dtype=torch.float32
            ).state_dict()
        )
    training = ShippedModelTraining(arguments, accelerator, tokenizer, model, started)
    scores = {"vision": training.vision(), "language": training.language()}
    if accelerator.is_main_process:
        report: dict[str, Any] = {
            "seed": arguments.seed,
            "device": str(accelerator.device),
            "torch": torch.__version__,
            **scores,
        }
        report["seconds"] = round(time.monotonic() - started)
        save_checkpoint(model, tokenizer, arguments.out)
        training.language_state.unlink(missing_ok=True)
        (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
        print(json.dumps(report, indent=2))
        print(
            f"checkpoint: {arguments.out} (try it: stream-vlm run world:{HELD_OUT_SEED} --out"
            f" build/try --set model.directory={arguments.out})"
        )
    accelerator.end_training()
    return 0


@dataclass
class ShippedModelTraining:
    """The two training stages; each saves its state in `--work`, so that a killed run can resume.

    Attributes:
        arguments: the parsed command line.
        accelerator: the devices to train on.
        tokenizer: the tokenizer of `model`.
        model: the model; it is trained in place.
        started: time at which the command started, by `time.monotonic`.
        cache: the rendered rooms.
    """

    arguments: argparse.Namespace
    accelerator: Accelerator
    tokenizer: PreTrainedTokenizerFast
    model: Any
    started: float
    cache: RenderCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = RenderCache(self.arguments.work, STREAM.rate_hz, self.arguments.processes)

    @property
    def language_state(self) -> Path:
        """The saved state from which a killed language stage resumes."""
        return Path(self.arguments.work) / f"language-{self.arguments.seed}" / "state.pt"

    def vision(self) -> dict[str, float]:
        """Train the vision tower, or load it from a run with the same seed; returns its scores."""
        arguments, accelerator, model = self.arguments, self.accelerator, self.model
        finished = arguments.work / f"vision-{arguments.seed}.safetensors"
        scores = finished.with_suffix(".json")
        if finished.is_file() and scores.is_file():
            model.model.visual.load_state_dict(load_file(finished))
            accelerator.print(f"vision: loaded from {finished}; remove it to train again")
            saved_scores: dict[str, float] = json.loads(scores.read_text())
            return saved_scores
        if arguments.vision_from:
            model.model.visual.load_state_dict(load_file(arguments.vision_from))
        with accelerator.main_process_first():
            streams = self.cache.streams(
                training_seeds(arguments.seed, arguments.vision_worlds),
                DENSE_TICKS,
                dense=True,
                what="rooms with dense labels",
            )
        batch = arguments.vision_batch or VISION_BATCH
        pairs = len(streams) * DENSE_TICKS * arguments.vision_epochs
        steps = max(1, int(pairs / (batch * accelerator.num_processes)))
        plan = self._plan(
            "vision",
            steps,
            VISION_TIME,
            ("vision_worlds", "vision_epochs", "vision_from", "start_from", "vision_batch"),
        )
        heads, loop = train_vision(
            accelerator,
            model,
            streams,
            plan,
            batch=batch,
            learning_rate=arguments.learning_rate or LEARNING_RATE,
            compiles=arguments.compile,
        )
        with accelerator.main_process_first():
            held_out = self.cache.streams(
                self._held_out, DENSE_TICKS, dense=True, what="held-out rooms"
            )
        score = score_vision(model, heads, held_out)
        if accelerator.is_main_process:
            save_file(
                {
                    name: value.contiguous()
                    for name, value in model.model.visual.state_dict().items()
                },
                finished,
            )
            scores.write_text(json.dumps(score))
            loop.state_path.unlink(missing_ok=True)
        return score

    def language(self) -> dict[str, float]:
        """Train the language part; returns its scores."""
        arguments, accelerator, model = self.arguments, self.accelerator, self.model
        model.model.visual.requires_grad_(False)
        # These rooms were not used to train the tower, so its tokens are as good as they will be on
        # new streams, and not better.
        seeds = training_seeds(arguments.seed, arguments.vision_worlds + arguments.language_worlds)[
            arguments.vision_worlds :
        ]
        with accelerator.main_process_first():
            streams = encoded_streams(model, self.cache, seeds, arguments.work, "language rooms")
        train_language(
            accelerator,
            model,
            streams,
            SequenceWriter(self.tokenizer, HistoryNoise(), QUESTION_RATES),
            self._plan(
                "language",
                arguments.language_steps,
                1.0,
                ("vision_worlds", "language_worlds", "start_from", "loss", "language_batch"),
            ),
            objective=OBJECTIVES[arguments.loss or "fixed"],
            batch=arguments.language_batch or LANGUAGE_BATCH,
            ticks=STREAM.max_turns,
            learning_rate=arguments.learning_rate or LEARNING_RATE,
            saved=lambda: save_checkpoint(model, self.tokenizer, arguments.out),
        )
        with accelerator.main_process_first():
            held_out = encoded_streams(
                model, self.cache, self._held_out, arguments.work, "held-out rooms"
            )
        exact = SequenceWriter(self.tokenizer, HistoryNoise(0.0, 0.0, 0.0), QUESTION_RATES)
        return score_language(model, held_out, exact, ticks=STREAM.max_turns)

    @property
    def _held_out(self) -> range:
        return range(HELD_OUT_SEED, HELD_OUT_SEED + self.arguments.held_out_worlds)

    def _plan(
        self, stage: str, steps: int, time_share: float, options: tuple[str, ...]
    ) -> TrainingPlan:
        """The plan of a stage.

        Args:
            stage: name of the stage.
            steps: number of training steps, used without `--minutes`.
            time_share: share of `--minutes` after which the stage ends.
            options: names of the options that the stage's losses depend on.

        Raises:
            StreamError: rendering and the stages before took that long already.
        """
        arguments = self.arguments
        seconds = None
        if arguments.minutes:
            seconds = self.started + 60.0 * arguments.minutes * time_share - time.monotonic()
            if seconds <= 0:
                raise StreamError(
                    f"--minutes {arguments.minutes:g}: no time is left for the {stage} stage; start"
                    " again, the rendered rooms are kept"
                )
        settings: dict[str, Any] = {
            name: str(getattr(arguments, name)) for name in ("seed", "learning_rate", *options)
        }
        settings |= {
            "worlds": drawing_digest(),
            "steps": None if seconds else steps,
            "processes": self.accelerator.num_processes,
        }
        folder = arguments.work / f"{stage}-{arguments.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        return TrainingPlan(
            folder,
            stage,
            settings,
            arguments.seed,
            None if seconds else steps,
            seconds,
            arguments.save_every,
        )


def encoded_streams(
    model: Any, cache: RenderCache, seeds: range, folder: Path, what: str
) -> list[TokenStream]:
    """Streams of `seeds` as vision tokens of `model`'s tower.

    They are loaded from `folder` if the same tower has encoded them before.

    Args:
        model: the model whose tower encodes.
        cache: the rendered rooms.
        seeds: room seeds.
        folder: where encoded streams are kept.
        what: label of the progress bar.
    """
    tower = model.model.visual
    digest = hashlib.sha256(drawing_digest().encode())
    for weight in tower.state_dict().values():
        digest.update(weight.detach().float().cpu().numpy().tobytes())
    file = folder / f"tokens-{digest.hexdigest()[:8]}-{seeds.start}-{len(seeds)}.pt"
    if file.is_file():
        saved: list[TokenStream] = torch.load(file, weights_only=False)
        return saved
    rendered = cache.streams(seeds, LANGUAGE_TICKS, dense=False, what=what)
    streams = []
    with torch.no_grad():
        for stream in tqdm(rendered, desc=f"{what}, encoded", unit="room", mininterval=5.0):
            vision = encode_stream(tower, stream.frames, next(tower.parameters()).device).cpu()
            streams.append(TokenStream(vision, stream.states, stream.texts, stream.questions))
    partial = file.with_suffix(".partial")
    torch.save(streams, partial)
    partial.replace(file)
    return streams


def training_seeds(seed: int, count: int) -> range:
    """Room seeds of a training run; runs with different seeds use different rooms.

    Raises:
        StreamError: the range would reach the held-out seeds.
    """
    first = seed * 10_000
    if first + count > HELD_OUT_SEED:
        raise StreamError(
            f"--seed {seed} with {count} streams reaches the held-out rooms; use a seed below"
            f" {HELD_OUT_SEED // 10_000}"
        )
    return range(first, first + count)
