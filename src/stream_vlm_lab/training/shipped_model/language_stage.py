"""Second training stage: the language part learns when to speak and what to say.

The vision tokens are computed once, before the stage begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from stream_vlm.types import State
from stream_vlm_lab.training.common.loop import TrainingLoop, TrainingPlan
from stream_vlm_lab.training.common.losses import Objective
from stream_vlm_lab.training.common.micro_batches import objective_parts
from stream_vlm_lab.training.common.optimizers import LearningRateSchedule, muon_and_adamw
from stream_vlm_lab.training.shipped_model.sequences import (
    SequenceWriter,
    TokenStream,
    TrainingSequence,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

LENGTH_STEP = 128


@dataclass(frozen=True)
class WindowBatch:
    """Windows of streams as right-padded tensors.

    Padding has no target. Attention is causal, so padding does not influence other tokens.

    Attributes:
        ids: int64 (windows, tokens), token ids.
        positions: int64 (3, windows, tokens), rotary positions.
        targets: int64 (windows, tokens), -1 where there is none.
        kinds: int64 (windows, tokens), the `TargetKind` of each target.
        vision: (pictures * cells, hidden), the vision tokens of all windows concatenated.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    kinds: torch.Tensor
    vision: torch.Tensor

    @property
    def chosen(self) -> torch.Tensor:
        """True where there is a target: bool (windows, tokens)."""
        return self.targets >= 0


def collate(sequences: Sequence[TrainingSequence], device: torch.device) -> WindowBatch:
    """Make one batch on `device`.

    Lengths are rounded up to a multiple of `LENGTH_STEP`. All steps then allocate blocks of the
    same sizes, which avoids memory fragmentation.
    """
    longest = max(len(sequence.ids) for sequence in sequences)
    shape = len(sequences), -(-longest // LENGTH_STEP) * LENGTH_STEP
    ids, kinds = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    targets, where = np.full(shape, -1, dtype=np.int64), np.zeros((3, *shape), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        end = len(sequence.ids)
        ids[row, :end], where[:, row, :end] = sequence.ids, sequence.positions
        targets[row, :end], kinds[row, :end] = sequence.targets, sequence.kinds
    on_device = [torch.from_numpy(array).to(device) for array in (ids, where, targets, kinds)]
    vision = torch.cat([sequence.vision for sequence in sequences]).to(device)
    return WindowBatch(on_device[0], on_device[1], on_device[2], on_device[3], vision)


class LanguageLearner(nn.Module):
    """The language part of a model with its output head; it takes vision tokens as input."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.language_model, self.lm_head = model.model.language_model, model.lm_head
        self._picture: int = model.config.image_token_id

    def forward(self, batch: WindowBatch) -> torch.Tensor:
        """Logits (targets, vocabulary) in float32, in the order of `batch.chosen`."""
        embeddings = self.language_model.embed_tokens(batch.ids)
        is_picture = batch.ids == self._picture
        embeddings = embeddings.masked_scatter(
            is_picture.unsqueeze(-1), batch.vision.to(embeddings.dtype)
        )
        with torch.autocast(embeddings.device.type, dtype=torch.bfloat16):
            hidden = self.language_model(
                inputs_embeds=embeddings, position_ids=batch.positions, use_cache=False
            ).last_hidden_state
            logits: torch.Tensor = self.lm_head(hidden[batch.chosen]).float()
        return logits


def train_language(
    accelerator: Accelerator,
    model: Any,
    streams: Sequence[TokenStream],
    writer: SequenceWriter,
    plan: TrainingPlan,
    *,
    objective: Objective,
    batch: int,
    ticks: int,
    learning_rate: float,
    saved: Callable[[], None] | None = None,
) -> TrainingLoop:
    """Train the language part in place on random windows of `ticks` ticks.

    Attention is causal, so each window also trains every shorter context.

    Args:
        accelerator: the devices to train on.
        model: the model; only its language part and head are trained.
        streams: the training data.
        writer: writes windows as token sequences.
        plan: how long to train and where to write.
        objective: the loss.
        batch: windows in a step, for each process.
        ticks: length of a window.
        learning_rate: peak learning rate.
        saved: called after each saved state.

    Returns:
        The training loop. Its saved state can be removed when the model has been saved.
    """
    rate = LearningRateSchedule(learning_rate, warm_up=0.04, floor=0.04)
    loop = TrainingLoop(
        accelerator,
        plan,
        LanguageLearner(model),
        lambda parameters: muon_and_adamw(parameters, rate),
    )

    def make_batch(step: int) -> WindowBatch:
        rng = np.random.default_rng((plan.seed, step, accelerator.process_index))
        chosen = rng.integers(len(streams), size=batch)
        starts = [int(rng.integers(len(streams[index].states) - ticks + 1)) for index in chosen]
        return collate(
            [
                writer.write(streams[index], start, ticks, rng)
                for index, start in zip(chosen, starts, strict=True)
            ],
            accelerator.device,
        )

    loop.run(
        map(make_batch, loop.steps_left),
        lambda module, windows: objective_parts(accelerator, objective, module, [windows]),
        saved,
    )
    return loop


@torch.inference_mode()
def score_language(
    model: Any, streams: Sequence[TokenStream], writer: SequenceWriter, ticks: int
) -> dict[str, float]:
    """Score a model under teacher forcing on held-out streams.

    Returns:
        For each state its recall (`silence`, ...) and precision (`silence precision`, ...), and the
        accuracy of the words (`words`); all in 0..1.
    """
    rng = np.random.default_rng(0)
    learner = LanguageLearner(model)
    device = next(model.parameters()).device
    states = [state for state in State if writer.knows(state)]
    markers = torch.tensor([writer.marker(state) for state in states], device=device)
    confusion = torch.zeros(len(states), len(states), dtype=torch.int64)
    words = torch.zeros(2, dtype=torch.int64)
    for stream in streams:
        for start in range(0, len(stream.states) - ticks + 1, ticks):
            batch = collate([writer.write(stream, start, ticks, rng)], device)
            logits = learner(batch)
            targets = batch.targets[batch.chosen]
            is_word = ~torch.isin(targets, markers)
            words += torch.tensor(
                [int((logits.argmax(-1) == targets)[is_word].sum()), int(is_word.sum())]
            )
            # Only the logits of the state markers are compared, as the node does.
            true = (targets[~is_word, None] == markers).int().argmax(-1)
            predicted = logits[~is_word][:, markers].argmax(-1)
            confusion += (
                torch.bincount(true * len(states) + predicted, minlength=confusion.numel())
                .view_as(confusion)
                .cpu()
            )
    scores = {
        state.value: float(confusion[at, at] / confusion[at].sum().clamp(min=1))
        for at, state in enumerate(states)
    }
    scores |= {
        f"{state.value} precision": float(confusion[at, at] / confusion[:, at].sum().clamp(min=1))
        for at, state in enumerate(states)
    }
    return scores | {"words": float(words[0] / words[1].clamp(min=1))}
