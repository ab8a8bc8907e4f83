"""Second stage: the language part learns when to speak and what to say, over vision tokens that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from stream_vlm.stream import State
from stream_vlm.training.descent import Descent
from stream_vlm.training.sequences import SequenceWriter, TokenStream, TrainingSequence

LENGTH_STEP = 128


def collate(sequences: Sequence[TrainingSequence], device: torch.device) -> dict[str, torch.Tensor]:
    """Right-padded tensors of a batch; padding has no target and, attention being causal, no influence.

    Lengths are rounded up, so that step after step asks for blocks of the same sizes and memory does not fall to pieces.
    """
    longest = max(len(sequence.ids) for sequence in sequences)
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    batch = len(sequences)
    ids = np.zeros((batch, length), dtype=np.int64)
    where = np.zeros((3, batch, length), dtype=np.int64)
    targets = np.full((batch, length), -1, dtype=np.int64)
    weights = np.zeros((batch, length), dtype=np.float32)
    for row, sequence in enumerate(sequences):
        end = len(sequence.ids)
        ids[row, :end], where[:, row, :end] = sequence.ids, sequence.positions
        targets[row, :end], weights[row, :end] = sequence.targets, sequence.weights
    arrays = {"ids": ids, "positions": where, "targets": targets, "weights": weights}
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    tensors["vision"] = torch.cat([sequence.vision for sequence in sequences]).to(device)
    return tensors


def language_loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross entropy, divided by the sum of weights, and the logits (targets, vocabulary) it was taken from."""
    language_model = model.model.language_model
    embeddings = language_model.embed_tokens(batch["ids"])
    is_picture = batch["ids"] == model.config.image_token_id
    embeddings = embeddings.masked_scatter(is_picture.unsqueeze(-1), batch["vision"].to(embeddings.dtype))
    device = embeddings.device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        hidden = language_model(inputs_embeds=embeddings, position_ids=batch["positions"], use_cache=False).last_hidden_state
        chosen = batch["targets"] >= 0
        logits = model.lm_head(hidden[chosen]).float()
    losses = functional.cross_entropy(logits, batch["targets"][chosen], reduction="none")
    weights = batch["weights"][chosen]
    return (losses * weights).sum() / weights.sum(), logits


def train_language(
    model: Any,
    streams: Sequence[TokenStream],
    writer: SequenceWriter,
    *,
    steps: int,
    batch: int,
    ticks: int,
    learning_rate: float,
    seed: int,
    log: list[dict[str, float]],
    save: Callable[[], None],
) -> None:
    """Train the language part in place on random windows of `ticks` ticks; `save` is called every 200 steps.

    Attention being causal, each window also teaches every shorter context.
    """
    rng = np.random.default_rng(seed)
    parameters = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    device = parameters[0].device
    descent = Descent(parameters, learning_rate, steps, warm_up=0.05)
    progress = tqdm(range(steps), desc="language", unit="step", mininterval=5.0)
    average = 0.0
    for step in progress:
        chosen = rng.integers(len(streams), size=batch)
        sequences = [
            writer.write(streams[index], int(rng.integers(len(streams[index].states) - ticks + 1)), ticks, rng) for index in chosen
        ]
        loss, _ = language_loss(model, collate(sequences, device))
        descent.step(loss)
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        if step % 20 == 0:
            progress.set_postfix(loss=f"{average:.3f}")
            log.append({"stage": 2.0, "step": float(step), "loss": average})
        if step and step % 200 == 0:
            save()


@torch.inference_mode()
def score_language(model: Any, streams: Sequence[TokenStream], writer: SequenceWriter, ticks: int) -> dict[str, float]:
    """Accuracy of each state and of words under teacher forcing, on streams that were not trained on."""
    rng = np.random.default_rng(0)
    device = next(model.parameters()).device
    markers = {state: writer.marker(state) for state in State}
    right, total = dict.fromkeys([*State, "words"], 0), dict.fromkeys([*State, "words"], 0)
    for stream in streams:
        for start in range(0, len(stream.states) - ticks + 1, ticks):
            batch = collate([writer.write(stream, start, ticks, rng)], device)
            _, logits = language_loss(model, batch)
            targets = batch["targets"][batch["targets"] >= 0]
            said = logits.argmax(-1)
            is_word = ~torch.isin(targets, torch.tensor(list(markers.values()), device=device))
            for key in right:
                rows = targets == markers[key] if isinstance(key, State) else is_word
                right[key] += int((said[rows] == targets[rows]).sum())
                total[key] += int(rows.sum())
    return {getattr(key, "value", key): right[key] / max(1, total[key]) for key in right}
