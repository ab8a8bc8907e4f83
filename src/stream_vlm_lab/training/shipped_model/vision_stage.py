"""First training stage: the vision tower learns from dense labels of every picture cell.

The labels say what is in a cell, which colour it has and how it moves. A small model that is
trained end to end from captions alone predicts only the most frequent state. With a trained tower
the language part learns within minutes.
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
from stream_vlm_lab.training.common.loop import SampleOrder, TrainingLoop, TrainingPlan
from stream_vlm_lab.training.common.optimizers import LearningRateSchedule, muon_and_adamw
from stream_vlm_lab.training.shipped_model.frame_pairs import PairDataset
from stream_vlm_lab.training.shipped_model.picture_format import PICTURE_SIZE, PICTURES
from stream_vlm_lab.training.shipped_model.rendering import (
    COLUMNS,
    NAMES,
    ROWS,
    THING_CLASSES,
    RenderedStream,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

BatchT = TypeVar("BatchT")

PLACE_NUMBERS = torch.cat(
    [
        torch.arange(ROWS).repeat_interleave(COLUMNS)[:, None],
        torch.arange(COLUMNS).repeat(ROWS)[:, None],
    ],
    dim=1,
)
"""int64 (cells, 2): row and column of each cell."""

THING_WEIGHTS = torch.tensor([8.0 if name in PORTABLE_KINDS else 4.0 for name in THING_CLASSES])
"""Weight of the positive cells of each class.

Most cells are empty, so positive cells get a higher weight. Small things fill the fewest cells and
are the hardest to tell apart, so their weight is highest.
"""
NAME_WEIGHTS = {
    "kind": 1.5,
    "colour": 1.0,
    "handled kind": 1.5,
    "handled colour": 0.7,
    "action": 0.7,
}


class DenseHeads(nn.Module):
    """Predicts the dense targets from vision tokens; used in training only."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.classes = nn.Linear(hidden, len(THING_CLASSES))
        self.names = nn.ModuleList(nn.Linear(hidden, len(choices)) for choices in NAMES.values())
        self.vectors = nn.Linear(hidden, 4)
        self.rows = nn.Linear(hidden, ROWS)
        self.columns = nn.Linear(hidden, COLUMNS)

    def loss(self, tokens: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Weighted sum of the losses of classes, names, vectors and the cell's own position.

        Args:
            tokens: (batch, cells, hidden).
            targets: `classes`, `names` and `vectors` as in `PairDataset.batch`.
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
    """The vision tower with an attention that trains faster on a CPU.

    For pictures this small, the backward pass of the fused attention is slower than that of plain
    matrix products.
    """

    def mixed(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention with its weights (N, heads, patches, patches) in memory, on a CPU."""
        if query.device.type != "cpu":
            return super().mixed(query, key, value)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return torch.softmax(scores.float(), dim=-1).to(value.dtype) @ value


class VisionLearner(nn.Module):
    """The vision tower of a model with heads that predict dense targets from its tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = model.model.visual
        self.heads = DenseHeads(self.tower.config.out_hidden_size)
        self._encode: Any = TrainingTower(self.tower, PICTURES).encode_patches

    def forward(self, patches: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of `patches` (pictures, patches per picture, values)."""
        with torch.autocast(patches.device.type, dtype=torch.bfloat16):
            tokens = self._encode(patches, len(patches), *PICTURE_SIZE)
        return self.heads.loss(tokens.float(), targets)

    def compile_for(self, patches: torch.Tensor, targets: dict[str, torch.Tensor]) -> str:
        """Compile the tower for batches of this shape.

        Returns:
            Why compilation failed, or "". If it failed, the tower is used uncompiled.
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
    plan: TrainingPlan,
    *,
    batch: int,
    learning_rate: float,
    compiles: bool,
) -> tuple[DenseHeads, TrainingLoop]:
    """Train `model`'s vision tower in place.

    Args:
        accelerator: the devices to train on.
        model: the model; only its vision tower is trained.
        streams: streams with dense targets.
        plan: how long to train and where to write.
        batch: pairs of pictures in a step, for each process.
        learning_rate: peak learning rate.
        compiles: try to compile the tower.

    Returns:
        The heads, to score the tower, and the training loop. Its saved state can be removed when
        the tower has been saved.
    """
    data = PairDataset(streams)
    learner = VisionLearner(model)
    rate = LearningRateSchedule(learning_rate, warm_up=0.04, floor=0.04)
    loop = TrainingLoop(
        accelerator, plan, learner, lambda parameters: muon_and_adamw(parameters, rate)
    )
    draw = partial(
        _draw,
        data,
        SampleOrder(len(data), batch * accelerator.num_processes, plan.seed),
        accelerator,
    )
    if compiles:
        patches, targets = draw(0)
        fault = learner.compile_for(patches, targets)
        if fault:
            accelerator.print(
                f"the vision tower could not be compiled, so steps take longer ({fault});"
                " --no-compile skips the attempt"
            )
    loop.run(prefetched(draw, loop.steps_left), lambda module, batch: [lambda: module(*batch)])
    return learner.heads, loop


def _draw(
    data: PairDataset, order: SampleOrder, accelerator: Accelerator, step: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The batch of this process in step number `step`, on its device."""
    mine = order.of_step(step)[accelerator.process_index :: accelerator.num_processes]
    patches, targets = data.batch(
        np.array(mine), np.random.default_rng((order.seed, step, accelerator.process_index))
    )
    return patches.to(accelerator.device), {
        name: value.to(accelerator.device) for name, value in targets.items()
    }


def prefetched(make: Callable[[int], BatchT], numbers: Iterable[int]) -> Iterator[BatchT]:
    """Yield `make(number)` for each of `numbers`; a thread makes the next one in advance."""
    with ThreadPoolExecutor(1) as maker:
        waiting: deque[Future[BatchT]] = deque()
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
    """F1 of each class and accuracy of the names on held-out streams, in 0..1."""
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
    """Vision tokens of one stream; each frame is paired with the previous one.

    Args:
        tower: the vision tower.
        frames: uint8 RGB (ticks, H, W, 3).
        device: where to compute.
        batch: frames in a forward pass.

    Returns:
        bfloat16 (ticks, cells, hidden).
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
