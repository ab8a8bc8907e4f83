"""First stage: the vision tower learns what is where, how it moves and what colour it has, from
dense labels.

Trained end to end from captions alone, a small model stays at the majority state; taught to see
first, it learns to speak within minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from stream_vlm.vision.tower import TorchVisionTower
from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.training.common.loop import Loop, Plan
from stream_vlm_lab.training.common.optimizers import Rate, muon_and_adamw
from stream_vlm_lab.training.common.order import Order
from stream_vlm_lab.training.shipped_model.architecture import PICTURE_SIZE, PICTURES
from stream_vlm_lab.training.shipped_model.frame_pairs import PairDataset
from stream_vlm_lab.training.shipped_model.rendering import (
    COLUMNS,
    NAMES,
    ROWS,
    THING_CLASSES,
    RenderedStream,
)

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

Made = TypeVar("Made")

PLACE_NUMBERS = torch.cat(
    [
        torch.arange(ROWS).repeat_interleave(COLUMNS)[:, None],
        torch.arange(COLUMNS).repeat(ROWS)[:, None],
    ],
    dim=1,
)
"""(cells, 2): row and column of each cell."""

THING_WEIGHTS = torch.tensor([8.0 if name in PORTABLE_KINDS else 4.0 for name in THING_CLASSES])
"""Most cells are empty, so what is there counts more; small things are in the fewest cells and
hardest to tell apart.
"""
NAME_WEIGHTS = {
    "kind": 1.5,
    "colour": 1.0,
    "handled kind": 1.5,
    "handled colour": 0.7,
    "action": 0.7,
}


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
        """Sum of the losses of classes, names, vectors and the cell's own place; `tokens` (batch,
        cells, hidden).
        """
        weight = 1.0 + (THING_WEIGHTS.to(tokens) - 1.0) * targets["classes"]
        classes = functional.binary_cross_entropy_with_logits(
            self.classes(tokens), targets["classes"], weight=weight
        )
        named = torch.zeros((), device=tokens.device)
        for index, (name, head) in enumerate(zip(NAMES, self.names, strict=True)):
            missed = functional.cross_entropy(
                head(tokens).flatten(0, 1), targets["names"][..., index].flatten(), ignore_index=-1
            )
            named = named + NAME_WEIGHTS[name] * torch.nan_to_num(missed)
        place = PLACE_NUMBERS.to(tokens.device).repeat(len(tokens), 1)
        placed = functional.cross_entropy(self.rows(tokens).flatten(0, 1), place[:, 0])
        placed = placed + functional.cross_entropy(self.columns(tokens).flatten(0, 1), place[:, 1])
        seen = targets["names"][..., :1] >= 0
        misses = (
            functional.smooth_l1_loss(self.vectors(tokens), targets["vectors"], reduction="none")
            * seen
        )
        return 4.0 * classes + named + 0.3 * placed + misses.sum() / seen.sum().clamp(min=1)


class TrainingTower(TorchVisionTower):
    """The tower in training: on a CPU the gradient of the fused attention is slower than that of
    its written-out form for pictures this small.
    """

    def mixed(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """As the tower's own, with the table of weights (N, heads, patches, patches) in memory."""
        if query.device.type != "cpu":
            return super().mixed(query, key, value)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return torch.softmax(scores.float(), dim=-1).to(value.dtype) @ value


class VisionLearner(nn.Module):
    """The tower of a model with the heads that read dense targets off its tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = model.model.visual
        self.heads = DenseHeads(self.tower.config.out_hidden_size)
        self._encode: Any = TrainingTower(self.tower, PICTURES).encode_patches

    def forward(self, patches: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of `patches` (pictures, patches a picture, values)."""
        with torch.autocast(patches.device.type, dtype=torch.bfloat16):
            tokens = self._encode(patches, len(patches), *PICTURE_SIZE)
        return self.heads.loss(tokens.float(), targets)

    def compile_for(self, patches: torch.Tensor, targets: dict[str, torch.Tensor]) -> str:
        """Compile the tower for batches like this one; returns why it cannot be, or "".

        The learner works either way.
        """
        plain = self._encode
        self._encode = torch.compile(plain, dynamic=False)
        try:
            self(patches, targets).backward()
        except (RuntimeError, OSError, ImportError) as error:
            self._encode = plain
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        finally:
            self.zero_grad(set_to_none=True)
        return ""


def train_vision(
    accelerator: Accelerator,
    model: Any,
    streams: Sequence[RenderedStream],
    plan: Plan,
    *,
    batch: int,
    learning_rate: float,
    compiles: bool,
) -> tuple[DenseHeads, Loop]:
    """Train `model`'s vision tower in place.

    Returns:
        The heads, for looking at what it learned, and the loop, whose state may go when the tower
        is kept.
    """
    data = PairDataset(streams)
    learner = VisionLearner(model)
    rate = Rate(learning_rate, warm_up=0.04, floor=0.04)
    loop = Loop(accelerator, plan, learner, lambda parameters: muon_and_adamw(parameters, rate))
    draw = partial(
        _draw, data, Order(len(data), batch * accelerator.num_processes, plan.seed), accelerator
    )
    if compiles:
        patches, targets = draw(0)
        fault = learner.compile_for(patches, targets)
        if fault:
            accelerator.print(
                f"the tower is not compiled, steps take longer ({fault}); --no-compile leaves out"
                " the attempt"
            )
    loop.run(made_ahead(draw, loop.numbers), lambda module, drawn: [lambda: module(*drawn)])
    return learner.heads, loop


def _draw(
    data: PairDataset, order: Order, accelerator: Accelerator, step: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What this process takes in step number `step`, on its device."""
    mine = order.of_step(step)[accelerator.process_index :: accelerator.num_processes]
    patches, targets = data.batch(
        np.array(mine), np.random.default_rng((order.seed, step, accelerator.process_index))
    )
    return patches.to(accelerator.device), {
        name: value.to(accelerator.device) for name, value in targets.items()
    }


def made_ahead(make: Callable[[int], Made], numbers: Iterable[int]) -> Iterator[Made]:
    """`make` of each of `numbers`; the next one is made in a thread while this one is learned from."""
    with ThreadPoolExecutor(1) as maker:
        waiting: deque[Future[Made]] = deque()
        for number in numbers:
            waiting.append(maker.submit(make, number))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@torch.inference_mode()
def score_vision(
    model: Any, heads: DenseHeads, streams: Sequence[RenderedStream]
) -> dict[str, float]:
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
    scores = {
        name: 2 * tp / max(1.0, 2 * tp + fp + fn)
        for name, (tp, fp, fn) in zip(THING_CLASSES, hits, strict=True)
    }
    return {name: float(score) for name, score in scores.items()} | dict(
        zip(NAMES, (right / np.maximum(1, total)).tolist(), strict=True)
    )


def encode_stream(
    tower: Any, frames: NDArray[np.uint8], device: torch.device, batch: int = 64
) -> torch.Tensor:
    """Vision tokens (ticks, cells, hidden) in bfloat16 of one stream's frames (ticks, H, W, 3),
    each paired with the one before.
    """
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
