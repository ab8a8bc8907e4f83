"""`stream-vlm finetune`: a Qwen-VL checkpoint learns when to speak on a user's own streams, with the losses of the published systems.

On several GPUs: `accelerate launch -m stream_vlm.training.finetune CHECKPOINT DATA --out DIR ...`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from stream_vlm.backbone.model import StreamingModel, load_cached_model
from stream_vlm.config import load_settings
from stream_vlm.context.turns import FORMATS
from stream_vlm.stream import StreamError
from stream_vlm.training.chunks import CHUNK_S, OVERLAP_S, overlapped_chunks
from stream_vlm.training.data.messages import read_messages
from stream_vlm.training.data.sample import Reading, Refusal, StreamSample, Videos
from stream_vlm.training.data.streamo import read_raw
from stream_vlm.training.data.text_stream import read_text_stream
from stream_vlm.training.losses import OBJECTIVES, Objective, count_kinds
from stream_vlm.training.tuning.learner import PARTS, StreamLearner
from stream_vlm.training.tuning.progress import Losses, load_state, save_state
from stream_vlm.training.tuning.result import save_result
from stream_vlm.training.tuning.rows import Batch, Drawn, Order, Rows, account, collate, steps_of
from stream_vlm.training.tuning.sequences import SampleWriter

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

READERS = {"streamo-raw": read_raw, "messages": read_messages, "text-stream": read_text_stream}
FINISHED = "training.json"
MAKES_NO_DIFFERENCE = ("checkpoint", "data", "out", "videos", "save_every", "workers")
"""Options that may change between a killed run and the one that goes on from it; checkpoint and data are compared by their content."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a run."""
    parser.add_argument("checkpoint", type=Path, help="Qwen2.5-VL or Qwen3-VL directory")
    parser.add_argument("data", type=Path, help="file of samples")
    parser.add_argument("--from", dest="form", choices=READERS, default="messages", help="form of the file")
    parser.add_argument("--videos", type=Path, help="folder of the videos; default: where the file is")
    parser.add_argument("--out", type=Path, required=True, help="directory of the result; a killed run goes on from what it left there")
    parser.add_argument("--turns", choices=("auto", *FORMATS), default="auto", help="turn format, as the setting model.turns")
    parser.add_argument("--chunk", type=float, help="seconds attended to together; default: what the checkpoint keeps, 24 with sliding windows")
    parser.add_argument("--overlap", type=float, help="seconds by which chunks overlap; default: 0, 12 with sliding windows")
    parser.add_argument("--loss", choices=OBJECTIVES, default="ce", help="see docs/training.md")
    parser.add_argument("--train", nargs="+", choices=PARTS, default=["lora"], help="which parts move; the vision tower is frozen unless named")
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapters")
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="highest, reached after a warm-up over 3 %% of the steps")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the samples")
    parser.add_argument("--steps", type=int, help="steps, instead of --epochs")
    parser.add_argument("--batch", type=int, default=1, help="samples of a forward, in each process")
    parser.add_argument("--accumulate", type=int, default=1, help="forwards of a step")
    parser.add_argument("--bf16", action="store_true", help="what does not move in bfloat16, products in bfloat16")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again in the backward pass; saves memory, costs time")
    parser.add_argument("--seed", type=int, default=0, help="seed of adapters and of the samples' order")
    parser.add_argument("--save-every", type=int, default=50, help="steps between saved states")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode ahead")


@dataclass
class Run:
    """One run, from data that was read to a directory that the node loads."""

    arguments: argparse.Namespace
    accelerator: Accelerator
    streaming: StreamingModel
    rows: Rows
    later: dict[int, Refusal] = field(default_factory=dict)

    def train(self) -> dict[str, Any]:
        """Take every step that is left and write the result.

        Raises:
            StreamError: the loss is not finite, no row can be used, or the saved state is of another run.
        """
        from accelerate.utils import gather_object  # type: ignore[import-untyped]

        arguments, accelerator = self.arguments, self.accelerator
        per_process = arguments.batch * arguments.accumulate
        order = Order(len(self.rows), per_process * accelerator.num_processes, arguments.seed)
        steps = arguments.steps or math.ceil(arguments.epochs * len(self.rows) / order.per_step)
        settings = _settings(arguments, self.streaming, accelerator.num_processes, steps)
        torch.manual_seed(arguments.seed)
        plain = StreamLearner(self.streaming, arguments.train, arguments.rank, saves_memory=arguments.checkpointing).train()
        optimizer = torch.optim.AdamW(plain.trainable.values(), lr=arguments.learning_rate, weight_decay=0.0)
        schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.03 * steps), steps)
        state_path = arguments.out / "state.pt"
        state = load_state(state_path, settings)
        first = 0
        if state is not None:
            first = state["steps"]
            plain.load_state_dict(state["weights"], strict=False)
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            accelerator.print(f"goes on from {state_path} after step {first} of {steps}")
        learner, optimizer = accelerator.prepare(plain, optimizer)
        share = slice(accelerator.process_index, None, accelerator.num_processes)
        drawn = steps_of(self.rows, order, range(first, steps), share, arguments.workers)
        is_main = accelerator.is_main_process
        with Losses(arguments.out, first) if is_main else nullcontext() as losses:
            if losses is not None and not losses.has_curves:
                accelerator.print("TensorBoard is not installed: losses are in losses.jsonl only (pip install tensorboard)")
            progress = tqdm(range(first, steps), desc="fine-tuning", unit="step", initial=first, total=steps, disable=not is_main)
            for step in progress:
                # Whatever is random in a step follows from its number, so that going on needs no history.
                torch.manual_seed(arguments.seed * 1_000_003 + step * accelerator.num_processes + accelerator.process_index)
                loss = self._step(learner, optimizer, next(drawn))
                rate = schedule.get_last_lr()[0]
                schedule.step()
                progress.set_postfix(loss=f"{loss:.4f}")
                if losses is not None:
                    losses.add(step, {"loss": loss, "learning_rate": rate})
                if is_main and (step + 1) % arguments.save_every == 0 and step + 1 < steps:
                    weights = {name: parameter.detach() for name, parameter in plain.trainable.items()}
                    kept = {"weights": weights, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
                    save_state(state_path, {"settings": settings, "steps": step + 1, **kept})
        accelerator.wait_for_everyone()
        self.later.update({refusal.row: refusal for refusal in gather_object(list(self.later.values()))})
        if is_main:
            save_result(plain.merged(), self.streaming.checkpoint, arguments.checkpoint, arguments.out, _turn_s(self.rows.samples))
            state_path.unlink(missing_ok=True)
        return settings

    def _step(self, learner: Any, optimizer: Any, drawn: list[Drawn]) -> float:
        """Move the weights a step and return its loss."""
        accelerator, objective = self.accelerator, OBJECTIVES[self.arguments.loss]
        for item in drawn:
            self.later.update({refusal.row: refusal for refusal in item.refusals})
        size = self.arguments.batch
        batches = [collate([item.sequence for item in drawn[at : at + size]], accelerator.device) for at in range(0, len(drawn), size)]
        counts = accelerator.reduce(sum_counts(batches), "sum")
        divisor = objective.divisor(counts)
        total = torch.zeros((), device=accelerator.device)
        for batch in batches:
            with nullcontext() if batch is batches[-1] else accelerator.no_sync(learner):
                part = _total(objective, learner, batch, counts)
                # Gradients of several processes are averaged, the loss is a sum over all of them.
                accelerator.backward(part * accelerator.num_processes / divisor)
            total += part.detach()
        loss = float(accelerator.reduce(total, "sum")) / divisor
        if not math.isfinite(loss):
            raise StreamError(f"the loss is {loss}; lower --learning-rate, or go on without --bf16 from the last saved state")
        accelerator.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss


def sum_counts(batches: Sequence[Batch]) -> torch.Tensor:
    """How many targets of each kind (5,) the micro-batches of a step hold together."""
    return torch.stack([count_kinds(batch.kinds[batch.chosen]) for batch in batches]).sum(dim=0)


def _total(objective: Objective, learner: Any, batch: Batch, counts: torch.Tensor) -> torch.Tensor:
    logits = learner(batch)
    return objective.total(logits, batch.targets[batch.chosen], batch.kinds[batch.chosen], counts)


def _turn_s(samples: Sequence[StreamSample]) -> float:
    turn = samples[0].turns[0]
    return turn.end_s - turn.start_s


def _settings(arguments: argparse.Namespace, streaming: StreamingModel, processes: int, steps: int) -> dict[str, Any]:
    """What the losses of a run depend on."""
    chosen = {name: value for name, value in vars(arguments).items() if name not in MAKES_NO_DIFFERENCE}
    content = hashlib.sha256(arguments.data.read_bytes()).hexdigest()[:16]
    return chosen | {"steps": steps, "processes": processes, "checkpoint": streaming.model_id, "data": content}


def _chunked(reading: Reading, arguments: argparse.Namespace, streaming: StreamingModel) -> tuple[list[int], list[StreamSample]]:
    """The samples of `reading` in pieces that fit the context, with the row that each comes from."""
    stream = streaming.checkpoint.stream
    is_sliding = stream.policy == "sliding"
    chunk_s = arguments.chunk or (CHUNK_S if is_sliding else stream.max_turns * _turn_s(reading.samples))
    overlap_s = arguments.overlap if arguments.overlap is not None else OVERLAP_S if is_sliding else 0.0
    pieces = [
        (row, piece)
        for row, sample in zip(reading.rows, reading.samples, strict=True)
        for piece in overlapped_chunks(sample, chunk_s, overlap_s)
    ]
    return [row for row, _ in pieces], [piece for _, piece in pieces]


def main(arguments: argparse.Namespace) -> int:
    """Fine-tune CHECKPOINT on the streams of DATA and write a directory that the node loads; rows that cannot be used are counted and named."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise StreamError(f"fine-tuning needs accelerate: pip install accelerate ({error})") from error
    if (arguments.out / FINISHED).is_file():
        raise StreamError(f"{arguments.out}: holds a finished run; give another --out or remove it")
    accelerator = Accelerator(mixed_precision="bf16" if arguments.bf16 else "no")
    videos = Videos(arguments.videos or arguments.data.parent)
    reading: Reading = READERS[arguments.form](arguments.data, videos)
    later: dict[int, Refusal] = {}
    try:
        if not reading.samples:
            raise StreamError(f"{arguments.data}: no row can be used; `stream-vlm convert {arguments.data} --from {arguments.form}` names them all")
        # Weights that do not move need no more bits than products have.
        values = {"model.directory": str(arguments.checkpoint), "model.device": "cpu", "model.turns": arguments.turns}
        streaming = load_cached_model(load_settings(values | {"model.dtype": "bfloat16" if arguments.bf16 else "float32"}))
        stream, pictures = streaming.checkpoint.stream, streaming.checkpoint.pictures
        numbers, samples = _chunked(reading, arguments, streaming)
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = Rows(numbers, samples, videos, SampleWriter(streaming), pictures, stream.frames_per_turn)
        settings = Run(arguments, accelerator, streaming, rows, later).train()
    finally:
        whole = account(reading, later)
        accelerator.print(f"{arguments.data}: {whole.account()}")
    if accelerator.is_main_process:
        report = {"rows": len(whole.samples), "refused": whole.counts, "settings": settings, "torch": torch.__version__}
        (arguments.out / FINISHED).write_text(json.dumps(report, indent=2) + "\n")
    accelerator.print(f"checkpoint: {arguments.out} (try it: stream-vlm run VIDEO --out build/try --model {arguments.out})")
    accelerator.end_training()
    return 0


def command(arguments: Sequence[str], name: str = "stream-vlm finetune") -> int:
    """Parse `arguments` and run."""
    parser = argparse.ArgumentParser(prog=name, description=main.__doc__)
    add_arguments(parser)
    return main(parser.parse_args(list(arguments)))


if __name__ == "__main__":
    try:
        sys.exit(command(sys.argv[1:], "stream_vlm.training.finetune"))
    except StreamError as error:
        sys.exit(f"finetune: {error}")
