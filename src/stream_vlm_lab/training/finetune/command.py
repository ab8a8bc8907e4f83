"""Fine-tunes a Qwen-VL checkpoint on a user's own streams, with the losses of published systems."""

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
from stream_vlm.backbone.checkpoint.stream_config import StreamConfig
from stream_vlm.backbone.streaming_model import StreamingModel, load_cached_model
from stream_vlm.config.settings import load_settings
from stream_vlm.context.turn_formats import FORMATS
from stream_vlm.types import State, StreamError
from stream_vlm_lab.training.common.loop import (
    LossPart,
    SampleOrder,
    TrainingLoop,
    TrainingPlan,
    accelerator_for,
)
from stream_vlm_lab.training.common.losses import OBJECTIVES
from stream_vlm_lab.training.common.micro_batches import objective_parts
from stream_vlm_lab.training.common.optimizers import LearningRateSchedule, adamw
from stream_vlm_lab.training.data.messages import read_messages
from stream_vlm_lab.training.data.sample import ReadResult, Refusal, StreamSample, VideoFolder
from stream_vlm_lab.training.data.streamo import read_raw
from stream_vlm_lab.training.data.text_stream import read_text_stream
from stream_vlm_lab.training.finetune.chunks import CHUNK_S, OVERLAP_S, overlapped_chunks
from stream_vlm_lab.training.finetune.tuning.batch import collate
from stream_vlm_lab.training.finetune.tuning.context import within_positions
from stream_vlm_lab.training.finetune.tuning.dataset import (
    DatasetItem,
    SampleDataset,
    step_batches,
    with_late_refusals,
)
from stream_vlm_lab.training.finetune.tuning.learner import PARTS, StreamLearner
from stream_vlm_lab.training.finetune.tuning.markers import add_markers, check_learnable, in_words
from stream_vlm_lab.training.finetune.tuning.save import save_result
from stream_vlm_lab.training.finetune.tuning.sequences import SampleWriter

if TYPE_CHECKING:
    from accelerate import Accelerator

READERS = {"streamo-raw": read_raw, "messages": read_messages, "text-stream": read_text_stream}
FINISHED = "training.json"
LEARNING_RATE = 1e-5
RESUME_OPTIONS = (
    *("form", "turns", "add_markers", "chunk", "overlap", "loss", "train", "rank", "learning_rate"),
    *("epochs", "batch", "accumulate", "bf16", "checkpointing", "seed", "pack"),
)
"""Options that must not change when a killed run is resumed.

Checkpoint and data must not change either; they are compared by content.
"""


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """Declare the options of fine-tuning."""
    parser.add_argument(
        "--from", dest="form", choices=READERS, default="messages", help="format of DATA"
    )
    parser.add_argument("--videos", type=Path, help="folder of the videos; default: that of DATA")
    parser.add_argument(
        "--turns",
        choices=("auto", *(name for name, turns in FORMATS.items() if not turns.instruct)),
        default="auto",
        help="turn format, like the setting model.prompt_format",
    )
    parser.add_argument(
        "--add-markers",
        action="store_true",
        help="add the state markers of --turns to the tokenizer if it does not have them",
    )
    parser.add_argument(
        "--chunk",
        type=float,
        help=(
            "length of a training chunk in seconds; default: the checkpoint's context, 24 with"
            " sliding windows"
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
        help="parts to train; parts that are not named are frozen",
    )
    parser.add_argument("--rank", type=int, default=16, help="rank of the LoRA adapters")
    parser.add_argument("--epochs", type=float, default=1.0, help="number of epochs")
    parser.add_argument("--steps", type=int, help="number of training steps, instead of --epochs")
    parser.add_argument(
        "--batch", type=int, default=1, help="samples in a micro-batch, for each process"
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="put several short samples into one row; same losses, less padding",
    )
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches in a step")
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="keep frozen weights in bfloat16 and multiply matrices in bfloat16",
    )
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="gradient checkpointing: needs less memory, takes more time",
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that decode videos in advance"
    )


@dataclass
class FineTuning:
    """One fine-tuning run: from the samples that were read to a directory that the node can load.

    Attributes:
        arguments: the parsed command line.
        accelerator: the devices to train on.
        streaming: the checkpoint; its model is trained in place.
        stream: its stream configuration, with a context that fits the model's positions.
        rows: the training samples.
        new_tokens: token ids that `--add-markers` added.
        late_refusals: rows that proved unusable during training, by row number.
    """

    arguments: argparse.Namespace
    accelerator: Accelerator
    streaming: StreamingModel
    stream: StreamConfig
    rows: SampleDataset
    new_tokens: list[int]
    late_refusals: dict[int, Refusal] = field(default_factory=dict)

    def train(self) -> dict[str, Any]:
        """Run every step that is left and write the result; returns the settings of the run.

        Raises:
            StreamError: the loss is not finite, no row can be used, or the saved state belongs to a
                run with other settings.
        """
        from accelerate.utils import gather_object

        arguments, accelerator = self.arguments, self.accelerator
        order = SampleOrder(
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
        plan = TrainingPlan(
            arguments.out,
            "fine-tuning",
            settings,
            arguments.seed,
            steps,
            seconds,
            arguments.save_every,
        )
        rate = LearningRateSchedule(
            arguments.learning_rate or LEARNING_RATE, warm_up=0.03, floor=0.0
        )
        loop = TrainingLoop(accelerator, plan, learner, lambda parameters: adamw(parameters, rate))
        share = slice(accelerator.process_index, None, accelerator.num_processes)
        loop.run(
            step_batches(self.rows, order, loop.steps_left, share, arguments.workers), self._parts
        )
        refusals = gather_object(list(self.late_refusals.values()))
        self.late_refusals.update({refusal.row: refusal for refusal in refusals})
        if accelerator.is_main_process:
            save_result(
                learner.merged(),
                self.streaming.checkpoint.tokenizer,
                self.stream,
                arguments.checkpoint,
                arguments.out,
                _turn_s(self.rows.samples),
            )
            loop.state_path.unlink(missing_ok=True)
        return settings

    def _parts(self, learner: Any, items: list[DatasetItem]) -> list[LossPart]:
        """The loss parts of a step, one for each micro-batch."""
        for item in items:
            self.late_refusals.update({refusal.row: refusal for refusal in item.refusals})
        size, device = self.arguments.batch, self.accelerator.device
        parts = [
            [item.sequence for item in items[at : at + size]] for at in range(0, len(items), size)
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
    """Everything that the losses of a run depend on."""
    chosen = {name: getattr(arguments, name) for name in RESUME_OPTIONS}
    content = hashlib.sha256(arguments.data.read_bytes()).hexdigest()[:16]
    return chosen | {
        "steps": steps,
        "processes": processes,
        "checkpoint": streaming.model_id,
        "data": content,
    }


def _split_into_chunks(
    reading: ReadResult, arguments: argparse.Namespace, stream: StreamConfig
) -> tuple[list[int], list[StreamSample]]:
    """Split the samples of `reading` into chunks; returns their row numbers and the chunks."""
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


def _load_model(
    arguments: argparse.Namespace, accelerator: Accelerator
) -> tuple[StreamingModel, list[int]]:
    """Load the checkpoint; returns it and the ids of the tokens that `--add-markers` added."""
    # With --bf16, matrices are multiplied in bfloat16, so frozen weights need no higher precision.
    values = {
        "model.directory": str(arguments.checkpoint),
        "model.device": "cpu",
        "model.dtype": "bfloat16" if arguments.bf16 else "float32",
    }
    if arguments.add_markers:
        settings = load_settings(values | {"model.prompt_format": "instruct"})
        checkpoint, new_tokens = add_markers(
            load_checkpoint(settings.model), arguments.checkpoint, arguments.turns
        )
        check_learnable(new_tokens, arguments.train)
        added = (
            "are in the tokenizer already"
            if not new_tokens
            else f"were added to the tokenizer ({len(new_tokens)} new tokens)"
        )
        accelerator.print(f"{arguments.checkpoint}: the markers of {arguments.turns} {added}")
        return StreamingModel(checkpoint, settings), new_tokens
    streaming = load_cached_model(load_settings(values | {"model.prompt_format": arguments.turns}))
    if streaming.parts.turns.instruct:
        streaming = StreamingModel(in_words(streaming.checkpoint), streaming.settings)
        accelerator.print(
            f"{arguments.checkpoint}: the tokenizer has no state markers, so the model learns the"
            f" words {', '.join(state.value.capitalize() for state in State)} for the states; use"
            " --turns streamo --add-markers to add markers"
        )
    return streaming, []


def main(arguments: argparse.Namespace) -> int:
    """Fine-tune CHECKPOINT on the streams of DATA and write a directory that the node can load.

    Rows that cannot be used are printed with their reasons.
    """
    if (arguments.out / FINISHED).is_file():
        raise StreamError(
            f"{arguments.out}: contains a finished run; give another --out or remove it"
        )
    accelerator = accelerator_for("bf16" if arguments.bf16 else "no")
    videos = VideoFolder(arguments.videos or arguments.data.parent)
    reading: ReadResult = READERS[arguments.form](arguments.data, videos)
    late_refusals: dict[int, Refusal] = {}
    try:
        if not reading.samples:
            raise StreamError(
                f"{arguments.data}: no row can be used; `stream-vlm dataset convert"
                f" {arguments.data} --from {arguments.form}` lists the reasons"
            )
        streaming, new_tokens = _load_model(arguments, accelerator)
        stream = within_positions(streaming, reading.samples, videos)
        numbers, samples = _split_into_chunks(reading, arguments, stream)
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = SampleDataset(
            numbers,
            samples,
            videos,
            SampleWriter(streaming.parts),
            streaming.checkpoint.pictures,
            stream.frames_per_turn,
        )
        settings = FineTuning(
            arguments, accelerator, streaming, stream, rows, new_tokens, late_refusals
        ).train()
    finally:
        complete = with_late_refusals(reading, late_refusals)
        accelerator.print(f"{arguments.data}: {complete.summary()}")
    if accelerator.is_main_process:
        report = {
            "rows": len(complete.samples),
            "refused": complete.counts,
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
