"""Fine-tuning: a Qwen-VL checkpoint learns when to speak on a user's own streams, with the losses
of the published systems.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stream_vlm.backbone.checkpoint.loader import load_checkpoint
from stream_vlm.backbone.streaming_model import StreamingModel, load_cached_model
from stream_vlm.config.settings import load_settings
from stream_vlm.context.turn_formats import FORMATS, PROMPTED
from stream_vlm.types import State, StreamError
from stream_vlm_lab.training.common.loop import Loop, Part, Plan, accelerator_for
from stream_vlm_lab.training.common.losses import OBJECTIVES
from stream_vlm_lab.training.common.micro_batches import objective_parts
from stream_vlm_lab.training.common.optimizers import Rate, adamw
from stream_vlm_lab.training.common.order import Order
from stream_vlm_lab.training.data.messages import read_messages
from stream_vlm_lab.training.data.sample import Reading, Refusal, StreamSample, Videos
from stream_vlm_lab.training.data.streamo import read_raw
from stream_vlm_lab.training.data.text_stream import read_text_stream
from stream_vlm_lab.training.finetune.chunks import CHUNK_S, OVERLAP_S, overlapped_chunks
from stream_vlm_lab.training.finetune.tuning.batch import collate
from stream_vlm_lab.training.finetune.tuning.dataset import Drawn, Rows, account, steps_of
from stream_vlm_lab.training.finetune.tuning.learner import PARTS, StreamLearner
from stream_vlm_lab.training.finetune.tuning.markers import check_learnable, with_markers
from stream_vlm_lab.training.finetune.tuning.save import save_result
from stream_vlm_lab.training.finetune.tuning.sequences import SampleWriter

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

READERS = {"streamo-raw": read_raw, "messages": read_messages, "text-stream": read_text_stream}
FINISHED = "training.json"
LEARNING_RATE = 1e-5
MAKES_A_DIFFERENCE = (
    *("form", "turns", "add_markers", "chunk", "overlap", "loss", "train", "rank", "learning_rate"),
    *("epochs", "batch", "accumulate", "bf16", "checkpointing", "seed", "pack"),
)
"""Options that a killed run and the one that goes on from it share; checkpoint and data are
compared by their content.
"""


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """Declare the options of fine-tuning."""
    parser.add_argument(
        "--from", dest="form", choices=READERS, default="messages", help="form of the file"
    )
    parser.add_argument(
        "--videos", type=Path, help="folder of the videos; default: where the file is"
    )
    parser.add_argument(
        "--turns",
        choices=("auto", *FORMATS),
        default="auto",
        help="turn format, as the setting model.prompt_format",
    )
    parser.add_argument(
        "--add-markers",
        action="store_true",
        help="give the tokenizer the markers of --turns as tokens where it has them not",
    )
    parser.add_argument(
        "--chunk",
        type=float,
        help=(
            "seconds attended to together; default: what the checkpoint keeps, 24 with sliding"
            " windows"
        ),
    )
    parser.add_argument(
        "--overlap",
        type=float,
        help="seconds by which chunks overlap; default: 0, 12 with sliding windows",
    )
    parser.add_argument(
        "--train",
        nargs="+",
        choices=PARTS,
        default=["lora"],
        help="which parts move; the vision tower is frozen unless named",
    )
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapters")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the samples")
    parser.add_argument("--steps", type=int, help="steps, instead of --epochs")
    parser.add_argument(
        "--batch", type=int, default=1, help="samples of a forward, in each process"
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="several short samples in one row of a forward; the same losses for less padding",
    )
    parser.add_argument("--accumulate", type=int, default=1, help="forwards of a step")
    parser.add_argument(
        "--bf16", action="store_true", help="what does not move in bfloat16, products in bfloat16"
    )
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="compute activations again in the backward pass; saves memory, costs time",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that decode ahead")


@dataclass
class Run:
    """One run, from data that was read to a directory that the node loads."""

    arguments: argparse.Namespace
    accelerator: Accelerator
    streaming: StreamingModel
    rows: Rows
    new_tokens: list[int]
    later: dict[int, Refusal] = field(default_factory=dict)

    def train(self) -> dict[str, Any]:
        """Take every step that is left, write the result and return what it depends on.

        Raises:
            StreamError: the loss is not finite, no row can be used, or the saved state is of
                another run.
        """
        from accelerate.utils import gather_object  # type: ignore[import-untyped]

        arguments, accelerator = self.arguments, self.accelerator
        order = Order(
            len(self.rows),
            arguments.batch * arguments.accumulate * accelerator.num_processes,
            arguments.seed,
        )
        steps = (
            None
            if arguments.minutes
            else arguments.steps or math.ceil(arguments.epochs * len(self.rows) / order.per_step)
        )
        settings = _settings(arguments, self.streaming, accelerator.num_processes, steps)
        torch.manual_seed(arguments.seed)
        learner = StreamLearner(
            self.streaming.checkpoint,
            arguments.train,
            arguments.rank,
            saves_memory=arguments.checkpointing,
            new_tokens=self.new_tokens,
        ).train()
        seconds = 60.0 * arguments.minutes if arguments.minutes else None
        plan = Plan(
            arguments.out,
            "fine-tuning",
            settings,
            arguments.seed,
            steps,
            seconds,
            arguments.save_every,
        )
        rate = Rate(arguments.learning_rate or LEARNING_RATE, warm_up=0.03, floor=0.0)
        loop = Loop(accelerator, plan, learner, lambda parameters: adamw(parameters, rate))
        share = slice(accelerator.process_index, None, accelerator.num_processes)
        loop.run(steps_of(self.rows, order, loop.numbers, share, arguments.workers), self._parts)
        self.later.update(
            {refusal.row: refusal for refusal in gather_object(list(self.later.values()))}
        )
        if accelerator.is_main_process:
            save_result(
                learner.merged(),
                self.streaming.checkpoint,
                arguments.checkpoint,
                arguments.out,
                _turn_s(self.rows.samples),
            )
            loop.state_path.unlink(missing_ok=True)
        return settings

    def _parts(self, learner: Any, drawn: list[Drawn]) -> list[Part]:
        """The loss of a step in micro-batches."""
        for item in drawn:
            self.later.update({refusal.row: refusal for refusal in item.refusals})
        size, device = self.arguments.batch, self.accelerator.device
        parts = [
            [item.sequence for item in drawn[at : at + size]] for at in range(0, len(drawn), size)
        ]
        batches = [collate(part, device, packed=self.arguments.pack) for part in parts]
        return objective_parts(
            self.accelerator, OBJECTIVES[self.arguments.loss or "ce"], learner, batches
        )


def _turn_s(samples: Sequence[StreamSample]) -> float:
    turn = samples[0].turns[0]
    return turn.end_s - turn.start_s


def _settings(
    arguments: argparse.Namespace, streaming: StreamingModel, processes: int, steps: int | None
) -> dict[str, Any]:
    """What the losses of a run depend on."""
    chosen = {name: getattr(arguments, name) for name in MAKES_A_DIFFERENCE}
    content = hashlib.sha256(arguments.data.read_bytes()).hexdigest()[:16]
    return chosen | {
        "steps": steps,
        "processes": processes,
        "checkpoint": streaming.model_id,
        "data": content,
    }


def _chunked(
    reading: Reading, arguments: argparse.Namespace, streaming: StreamingModel
) -> tuple[list[int], list[StreamSample]]:
    """The samples of `reading` in pieces that fit the context, with the row that each comes from."""
    stream = streaming.checkpoint.stream
    is_sliding = stream.policy == "sliding"
    chunk_s = arguments.chunk or (
        CHUNK_S if is_sliding else stream.max_turns * _turn_s(reading.samples)
    )
    overlap_s = (
        arguments.overlap if arguments.overlap is not None else OVERLAP_S if is_sliding else 0.0
    )
    pieces = [
        (row, piece)
        for row, sample in zip(reading.rows, reading.samples, strict=True)
        for piece in overlapped_chunks(sample, chunk_s, overlap_s)
    ]
    return [row for row, _ in pieces], [piece for _, piece in pieces]


def _loaded(
    arguments: argparse.Namespace, accelerator: Accelerator
) -> tuple[StreamingModel, list[int]]:
    """The checkpoint, and the ids of the tokens that `--add-markers` added."""
    # Weights that do not move need no more bits than products have.
    values = {
        "model.directory": str(arguments.checkpoint),
        "model.device": "cpu",
        "model.dtype": "bfloat16" if arguments.bf16 else "float32",
    }
    if arguments.add_markers:
        settings = load_settings(values | {"model.prompt_format": "prompted"})
        checkpoint, new_tokens = with_markers(
            load_checkpoint(settings.model), arguments.checkpoint, arguments.turns
        )
        check_learnable(new_tokens, arguments.train)
        added = (
            "are tokens already"
            if not new_tokens
            else f"were added as tokens ({len(new_tokens)} new)"
        )
        accelerator.print(f"{arguments.checkpoint}: the markers of {arguments.turns} {added}")
        return StreamingModel(checkpoint, settings), new_tokens
    streaming = load_cached_model(load_settings(values | {"model.prompt_format": arguments.turns}))
    if arguments.turns == "auto" and streaming.parts.turns == PROMPTED:
        accelerator.print(
            f"{arguments.checkpoint}: the tokenizer has no state markers, so the words"
            f" {', '.join(state.value.capitalize() for state in State)} stand for the states;"
            " --turns streamo --add-markers gives it markers"
        )
    return streaming, []


def main(arguments: argparse.Namespace) -> int:
    """Fine-tune CHECKPOINT on the streams of DATA and write a directory that the node loads; rows
    that cannot be used are counted and named.
    """
    if (arguments.out / FINISHED).is_file():
        raise StreamError(f"{arguments.out}: holds a finished run; give another --out or remove it")
    accelerator = accelerator_for("bf16" if arguments.bf16 else "no")
    videos = Videos(arguments.videos or arguments.data.parent)
    reading: Reading = READERS[arguments.form](arguments.data, videos)
    later: dict[int, Refusal] = {}
    try:
        if not reading.samples:
            raise StreamError(
                f"{arguments.data}: no row can be used; `stream-vlm dataset convert"
                f" {arguments.data} --from {arguments.form}` names them all"
            )
        streaming, new_tokens = _loaded(arguments, accelerator)
        stream, pictures = streaming.checkpoint.stream, streaming.checkpoint.pictures
        numbers, samples = _chunked(reading, arguments, streaming)
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = Rows(
            numbers,
            samples,
            videos,
            SampleWriter(streaming.parts),
            pictures,
            stream.frames_per_turn,
        )
        settings = Run(arguments, accelerator, streaming, rows, new_tokens, later).train()
    finally:
        whole = account(reading, later)
        accelerator.print(f"{arguments.data}: {whole.account()}")
    if accelerator.is_main_process:
        report = {
            "rows": len(whole.samples),
            "refused": whole.counts,
            "settings": settings,
            "torch": torch.__version__,
        }
        (arguments.out / FINISHED).write_text(json.dumps(report, indent=2) + "\n")
    accelerator.print(
        f"checkpoint: {arguments.out} (try it: stream-vlm run VIDEO --out build/try --model"
        f" {arguments.out})"
    )
    accelerator.end_training()
    return 0
