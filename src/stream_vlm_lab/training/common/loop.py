"""The training loop: order of the samples, progress bar, loss log, several GPUs, resuming."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stream_vlm.types import StreamError
from stream_vlm_lab.training.common.optimizers import ScheduledOptimizers
from stream_vlm_lab.training.common.progress import LossLog, load_state, save_state

if TYPE_CHECKING:
    from accelerate import Accelerator

BatchT = TypeVar("BatchT")
LossPart = Callable[[], torch.Tensor]
"""Computes one part of a step's loss.

It is called just before its backward pass, so that only one part's activations are in memory.
"""


def accelerator_for(mixed_precision: str) -> Accelerator:
    """Create accelerate's `Accelerator` for this process; `mixed_precision` is "no" or "bf16".

    Raises:
        StreamError: accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        raise StreamError(f"training needs accelerate: pip install accelerate ({error})") from error
    # The other processes wait while the first one renders and encodes, which may take hours.
    long_timeout = InitProcessGroupKwargs(timeout=timedelta(days=1))
    return Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[long_timeout])


@dataclass(frozen=True)
class SampleOrder:
    """Shuffles the samples anew in every epoch.

    The shuffle depends only on `seed` and the epoch, so a resumed run needs no history.

    Attributes:
        rows: number of samples.
        per_step: samples in a step, over all processes.
        seed: seed of the shuffles.
    """

    rows: int
    per_step: int
    seed: int

    def of_step(self, step: int) -> list[int]:
        """Return the sample indices of step number `step`."""
        places = (
            divmod(place, self.rows)
            for place in range(step * self.per_step, (step + 1) * self.per_step)
        )
        return [_shuffle(self.rows, self.seed, epoch)[within] for epoch, within in places]


@lru_cache(maxsize=2)
def _shuffle(rows: int, seed: int, epoch: int) -> list[int]:
    return [int(index) for index in np.random.default_rng((seed, epoch)).permutation(rows)]


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train and where to write.

    Attributes:
        folder: folder of the loss log, the TensorBoard curves and the saved state.
        what: label of the progress bar.
        settings: everything the losses depend on. A saved state with other settings is refused.
        seed: seed of all random numbers.
        steps: number of training steps; None where `seconds` decides.
        seconds: time limit of all steps together, measured from the first one.
        save_every: steps between saved states.
    """

    folder: Path
    what: str
    settings: dict[str, Any]
    seed: int
    steps: int | None
    seconds: float | None
    save_every: int


class TrainingLoop:
    """Runs the training steps of a plan and resumes a killed run.

    The random numbers of a step depend only on the seed and the step's number. A run that was
    killed and resumed therefore has the same losses as one that was not killed. With
    `TrainingPlan.seconds` the learning rate follows the clock, so the losses differ.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        plan: TrainingPlan,
        learner: nn.Module,
        make_optimizers: Callable[[Sequence[nn.Parameter]], ScheduledOptimizers],
    ) -> None:
        """Prepare `learner` for training and load the saved state if there is one.

        Args:
            accelerator: the devices to train on.
            plan: how long to train and where to write.
            learner: its parameters with `requires_grad` are trained.
            make_optimizers: makes the optimizers for these parameters.

        Raises:
            StreamError: the saved state is damaged or belongs to a run with other settings.
        """
        self._accelerator, self._plan, self._learner = accelerator, plan, learner
        state = load_state(self.state_path, plan.settings)
        self._first_step, self._progress_before = 0, 0.0
        if state is not None:
            self._first_step, self._progress_before = state["steps"], state["progress"]
            learner.load_state_dict(state["weights"], strict=False)
            remark = (
                " (with --minutes: the losses will differ from an uninterrupted run)"
                if plan.steps is None
                else f" of {plan.steps}"
            )
            accelerator.print(
                f"resuming from {self.state_path} after step {self._first_step}{remark}"
            )
        self._module: Any = accelerator.prepare(learner)
        self._optimizers = make_optimizers(list(self._trainable.values()))
        if state is not None:
            self._optimizers.load_state_dict(state["optimizers"])

    @property
    def state_path(self) -> Path:
        """The saved state from which a killed run resumes; the caller removes it at the end."""
        return self._plan.folder / "state.pt"

    @property
    def steps_left(self) -> Iterable[int]:
        """Numbers of the steps that are left; endless with a time limit."""
        return (
            itertools.count(self._first_step)
            if self._plan.steps is None
            else range(self._first_step, self._plan.steps)
        )

    @property
    def _trainable(self) -> dict[str, nn.Parameter]:
        return {
            name: parameter
            for name, parameter in self._learner.named_parameters()
            if parameter.requires_grad
        }

    def run(
        self,
        batches: Iterable[BatchT],
        parts: Callable[[Any, BatchT], Sequence[LossPart]],
        saved: Callable[[], None] | None = None,
    ) -> None:
        """Run every step that is left.

        Args:
            batches: one batch for each of `steps_left`.
            parts: called with (module, batch), returns the parts of this process's loss. Their sum
                is averaged over all processes.
            saved: called by the first process after each saved state.

        Raises:
            StreamError: the loss is not finite.
        """
        accelerator, plan = self._accelerator, self._plan
        is_main, started = accelerator.is_main_process, time.monotonic()
        with (
            LossLog(plan.folder, self._first_step) if is_main else nullcontext() as losses,
            tqdm(
                desc=plan.what,
                unit="step",
                initial=self._first_step,
                total=plan.steps,
                disable=not is_main,
                mininterval=1.0,
            ) as bar,
        ):
            if losses is not None and not losses.has_curves:
                accelerator.print(
                    "TensorBoard is not installed, so losses are only written to losses.jsonl (pip"
                    " install tensorboard)"
                )
            for step, batch in zip(self.steps_left, batches, strict=False):
                progress = self._progress(step, started)
                if progress >= 1.0:
                    break
                torch.manual_seed(
                    plan.seed * 1_000_003
                    + step * accelerator.num_processes
                    + accelerator.process_index
                )
                loss = self._backward(parts(self._module, batch))
                rate = self._optimizers.step(progress)
                # The same number as in losses.jsonl: a running mean would hide for many steps what
                # the loss is now.
                bar.set_postfix_str(
                    f"loss {loss:.4f}" + ("" if plan.steps else f", {progress:.0%} of the time"),
                    refresh=False,
                )
                bar.update()
                if losses is not None:
                    losses.add(step, {"loss": loss, "learning_rate": rate})
                if is_main and (step + 1) % plan.save_every == 0 and step + 1 != plan.steps:
                    self._save(step + 1, progress)
                    if saved is not None:
                        saved()
        accelerator.wait_for_everyone()

    def _progress(self, step: int, started: float) -> float:
        """Fraction of the training that is done at the middle of step number `step`.

        It is the same in all processes.
        """
        if self._plan.steps is not None:
            return (step + 0.5) / self._plan.steps
        from accelerate.utils import broadcast

        elapsed = time.monotonic() - started
        progress = self._progress_before + elapsed / (self._plan.seconds or math.inf)
        return float(broadcast(torch.tensor(progress, device=self._accelerator.device)))

    def _backward(self, parts: Sequence[LossPart]) -> float:
        """Compute the gradients of a step; returns its loss over all processes."""
        accelerator = self._accelerator
        total = torch.zeros((), device=accelerator.device)
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else accelerator.no_sync(self._module):
                piece = part()
                accelerator.backward(piece)
            total += piece.detach()
        loss = float(accelerator.reduce(total, "mean"))
        if not math.isfinite(loss):
            raise StreamError(
                f"the loss is {loss}; start again with a lower --learning-rate, or without --bf16"
                " if it was given"
            )
        accelerator.clip_grad_norm_(self._module.parameters(), 1.0)
        return loss

    def _save(self, steps: int, progress: float) -> None:
        weights = {name: parameter.detach() for name, parameter in self._trainable.items()}
        state = {
            "settings": self._plan.settings,
            "steps": steps,
            "progress": progress,
            "weights": weights,
            "optimizers": self._optimizers.state_dict(),
        }
        save_state(self.state_path, state)
