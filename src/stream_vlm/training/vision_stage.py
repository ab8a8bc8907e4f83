"""First stage: the vision tower learns what is where, how it moves and what colour it has, from dense labels.

Trained end to end from captions alone, a small model stays at the majority state; taught to see first, it learns to speak within minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from stream_vlm.training.architecture import PICTURE_SIZE, PICTURES
from stream_vlm.training.descent import Descent
from stream_vlm.training.rendering import COLUMNS, NAMES, ROWS, THING_CLASSES, RenderedStream
from stream_vlm.vision.tower import TorchVisionTower
from stream_vlm.world.language import PORTABLE_KINDS

PATCH_VALUES = 3 * PICTURES.temporal_patch_size * PICTURES.patch_size**2
PATCH_GRID = tuple(side // PICTURES.patch_size for side in PICTURE_SIZE)
PLACE_NUMBERS = torch.cat([torch.arange(ROWS).repeat_interleave(COLUMNS)[:, None], torch.arange(COLUMNS).repeat(ROWS)[:, None]], dim=1)
"""(cells, 2): row and column of each cell."""

THING_WEIGHTS = torch.tensor([8.0 if name in PORTABLE_KINDS else 4.0 for name in THING_CLASSES])
"""Most cells are empty, so what is there counts more; small things are in the fewest cells and hardest to tell apart."""
NAME_WEIGHTS = {"kind": 1.5, "colour": 1.0, "handled kind": 1.5, "handled colour": 0.7, "action": 0.7}

NOISE = torch.randn(1 << 21, generator=torch.Generator().manual_seed(0))


class DenseHeads(nn.Module):
    """Reads the dense targets off vision tokens; thrown away after training."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.classes = nn.Linear(hidden, len(THING_CLASSES))
        self.names = nn.ModuleList(nn.Linear(hidden, len(choices)) for choices in NAMES.values())
        self.vectors = nn.Linear(hidden, 4)
        self.rows = nn.Linear(hidden, ROWS)
        self.columns = nn.Linear(hidden, COLUMNS)

    def loss(self, tokens: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the losses of classes, names, vectors and the cell's own place; `tokens` (batch, cells, hidden)."""
        weight = 1.0 + (THING_WEIGHTS.to(tokens) - 1.0) * targets["classes"]
        classes = functional.binary_cross_entropy_with_logits(self.classes(tokens), targets["classes"], weight=weight)
        named = torch.zeros((), device=tokens.device)
        for index, (name, head) in enumerate(zip(NAMES, self.names, strict=True)):
            missed = functional.cross_entropy(head(tokens).flatten(0, 1), targets["names"][..., index].flatten(), ignore_index=-1)
            named = named + NAME_WEIGHTS[name] * torch.nan_to_num(missed)
        place = PLACE_NUMBERS.to(tokens.device).repeat(len(tokens), 1)
        placed = functional.cross_entropy(self.rows(tokens).flatten(0, 1), place[:, 0])
        placed = placed + functional.cross_entropy(self.columns(tokens).flatten(0, 1), place[:, 1])
        seen = (targets["names"][..., :1] >= 0)
        misses = functional.smooth_l1_loss(self.vectors(tokens), targets["vectors"], reduction="none") * seen
        return 4.0 * classes + named + 0.3 * placed + misses.sum() / seen.sum().clamp(min=1)


class PairDataset:
    """Previous and current pictures of many streams with their dense targets."""

    def __init__(self, streams: Sequence[RenderedStream]) -> None:
        self.frames = np.concatenate([stream.frames for stream in streams])
        dense = [stream.dense for stream in streams if stream.dense is not None]
        self.classes = np.concatenate([target.classes for target in dense])
        self.names = np.concatenate([target.names for target in dense])
        self.vectors = np.concatenate([np.concatenate([target.motion, target.place], axis=-1) for target in dense])
        starts = np.cumsum([0] + [len(stream.frames) for stream in streams])[:-1]
        self.previous = np.arange(len(self.frames)) - 1
        self.previous[starts] = starts

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, indices: NDArray[np.int64], rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Normalised patches of augmented pairs, (batch * patches, ...), and their targets."""
        pairs = np.stack([self.frames[self.previous[indices]], self.frames[indices]], axis=1)
        classes, names, vectors = self.classes[indices], self.names[indices], self.vectors[indices]
        flipped = rng.random(len(indices)) < 0.5
        pairs[flipped] = pairs[flipped][:, :, :, ::-1]
        classes, names, vectors = (_flip(cells, flipped) for cells in (classes, names, vectors))
        vectors[flipped] *= np.array([1.0, -1.0, 1.0, -1.0], dtype=np.float32)
        targets = {
            "classes": torch.from_numpy(classes),
            "names": torch.from_numpy(names),
            "vectors": torch.from_numpy(vectors),
        }
        patches = augment(PICTURES.patches(pairs).view(len(indices), -1, PATCH_VALUES), rng)
        if PICTURES.place_marks:
            PICTURES.mark_places(patches, *PATCH_GRID)  # anew, for they are no part of what the light changes
        return patches, targets


def augment(patches: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary contrast, brightness, tint and noise of normalised patches (N, patches, 3 * values a channel), in place."""
    number = len(patches)
    gain = rng.uniform(0.75, 1.25, (number, 1, 1, 1)) * rng.uniform(0.93, 1.07, (number, 1, 3, 1))
    offset = rng.uniform(-0.25, 0.25, (number, 1, 1, 1))
    by_channel = patches.view(number, patches.shape[1], 3, -1)
    by_channel.mul_(torch.from_numpy(gain.astype(np.float32))).add_(torch.from_numpy(offset.astype(np.float32)))
    # Fresh normal numbers for every pixel would cost more than the forward pass: slices of one long draw do as well.
    start = int(rng.integers(len(NOISE) - patches[0].numel()))
    noise = NOISE[start : start + patches[0].numel()].view(patches.shape[1:])
    for picture, strength in zip(patches, rng.uniform(0, 0.09, number), strict=True):
        picture.add_(noise, alpha=float(strength))
    return patches


def train_vision(
    model: Any, streams: Sequence[RenderedStream], *, epochs: float, batch: int, learning_rate: float, seed: int, log: list[dict[str, float]]
) -> DenseHeads:
    """Train `model`'s vision tower in place; returns the heads, for looking at what it learned."""
    rng = np.random.default_rng(seed)
    data = PairDataset(streams)
    tower = model.model.visual
    device = next(tower.parameters()).device
    heads = DenseHeads(tower.config.out_hidden_size).to(device)
    parameters = [*tower.parameters(), *heads.parameters()]
    steps = max(1, int(len(data) * epochs / batch))
    descent = Descent(parameters, learning_rate, steps, warm_up=0.1)
    encoder = TorchVisionTower(tower, PICTURES)
    order = np.concatenate([rng.permutation(len(data)) for _ in range(int(epochs) + 1)])
    progress = tqdm(range(steps), desc="vision", unit="step", mininterval=5.0)
    average = 0.0
    # The next batch is made while this one is learned from.
    maker = ThreadPoolExecutor(1)
    coming = maker.submit(data.batch, order[:batch], rng)
    for step in progress:
        patches, targets = coming.result()
        coming = maker.submit(data.batch, order[(step + 1) * batch : (step + 2) * batch], rng)
        targets = {name: value.to(device) for name, value in targets.items()}
        with torch.autocast(device.type, dtype=torch.bfloat16):
            tokens = encoder.encode_patches(patches.to(device), batch, *PICTURE_SIZE)
        loss = heads.loss(tokens.float(), targets)
        descent.step(loss)
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{average:.3f}")
            log.append({"stage": 1.0, "step": float(step), "loss": average})
    maker.shutdown(cancel_futures=True)
    return heads


@torch.inference_mode()
def score_vision(model: Any, heads: DenseHeads, streams: Sequence[RenderedStream]) -> dict[str, float]:
    """F1 of each class and accuracy of names on streams that were not trained on."""
    tower = model.model.visual
    device = next(tower.parameters()).device
    hits = np.zeros((len(THING_CLASSES), 3))
    right, total = np.zeros(len(NAMES)), np.zeros(len(NAMES))
    for stream in streams:
        assert stream.dense is not None
        tokens = encode_stream(tower, stream.frames, device).float()
        said = (heads.classes(tokens) > 0).cpu().numpy()
        true = stream.dense.classes > 0
        for index in range(len(THING_CLASSES)):
            hits[index] += [
                (said[..., index] & true[..., index]).sum(),
                (said[..., index] & ~true[..., index]).sum(),
                (~said[..., index] & true[..., index]).sum(),
            ]
        for index, head in enumerate(heads.names):
            names = stream.dense.names[..., index]
            named = names >= 0
            right[index] += (head(tokens).argmax(-1).cpu().numpy()[named] == names[named]).sum()
            total[index] += named.sum()
    scores = {name: 2 * tp / max(1.0, 2 * tp + fp + fn) for name, (tp, fp, fn) in zip(THING_CLASSES, hits, strict=True)}
    return {name: float(score) for name, score in scores.items()} | dict(zip(NAMES, (right / np.maximum(1, total)).tolist(), strict=True))


def encode_stream(tower: Any, frames: NDArray[np.uint8], device: torch.device, batch: int = 64) -> torch.Tensor:
    """Vision tokens (ticks, cells, hidden) in bfloat16 of one stream's frames (ticks, H, W, 3), each paired with the one before."""
    encoder = TorchVisionTower(tower, PICTURES)
    pieces = []
    for start in range(0, len(frames), batch):
        current = frames[start : start + batch]
        previous = frames[np.maximum(np.arange(start, start + len(current)) - 1, 0)]
        patches = PICTURES.patches(np.stack([previous, current], axis=1)).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            tokens = encoder.encode_patches(patches, len(current), *PICTURE_SIZE)
        pieces.append(tokens.to(torch.bfloat16))
    return torch.cat(pieces)


def _flip(cells: NDArray[Any], flipped: NDArray[np.bool_]) -> NDArray[Any]:
    """Mirror per-cell values (N, cells, ...) left to right where `flipped`."""
    mirrored = cells.copy()
    shaped = cells[flipped].reshape(int(flipped.sum()), ROWS, COLUMNS, -1)
    mirrored[flipped] = shaped[:, :, ::-1].reshape(cells[flipped].shape)
    return mirrored
