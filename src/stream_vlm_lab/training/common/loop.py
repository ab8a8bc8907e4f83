"""The loop that every training runs in: a bar, losses written down, many GPUs, and a state from
which a killed run goes on to the same losses.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from stream_vlm.types import StreamError
from stream_vlm_lab.training.common.optimizers import Descent
from stream_vlm_lab.training.common.progress import Losses, load_state, save_state

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

Drawn = TypeVar("Drawn")
Part = Callable[[], torch.Tensor]
"""A part of a step's loss, computed when its turn comes, so that the activations of one part are
held at a time.
"""


def accelerator_for(mixed_precision: str) -> Accelerator:
    """accelerate's view of this process and its devices; `mixed_precision` is "no" or "bf16".

    Raises:
        StreamError: accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs  # type: ignore[import-untyped]
    except ImportError as error:
        raise StreamError(f"training needs accelerate: pip install accelerate ({error})") from error
    # The others wait while the first process renders and encodes, which may take hours.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=1))
    return Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[patience])


@dataclass(frozen=True)
class Plan:
    """What is to be done and how long.

    Attributes:
        folder: where losses, curves and the state are kept.
        what: a word for the bar.
        settings: what the losses depend on; a state is gone on from under the same only.
        steps: how many steps there are, None where `seconds` decides.
        seconds: how long the steps may take together, measured from the first one.
        save_every: steps between saved states.
    """

    folder: Path
    what: str
    settings: dict[str, Any]
    seed: int
    steps: int | None
    seconds: float | None
    save_every: int


class Loop:
    """Takes the steps of a plan.

    Whatever is random in a step follows from its number, so that going on needs no history: a run
    that was killed and started again has the losses of one that ran through. With `Plan.seconds`
    the rate follows the clock, and that holds no more.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        plan: Plan,
        learner: nn.Module,
        descend: Callable[[Sequence[nn.Parameter]], Descent],
    ) -> None:
        """Prepare `learner`, of which the parameters that want gradients are trained, and go on
        from the saved state where there is one.

        Raises:
            StreamError: the state is damaged or of another run.
        """
        self._accelerator, self._plan, self._learner = accelerator, plan, learner
        state = load_state(self.state_path, plan.settings)
        self._first, self._done_before = 0, 0.0
        if state is not None:
            self._first, self._done_before = state["steps"], state["share"]
            learner.load_state_dict(state["weights"], strict=False)
            by_clock = (
                " (by the clock, so not to the same losses)"
                if plan.steps is None
                else f" of {plan.steps}"
            )
            accelerator.print(f"goes on from {self.state_path} after step {self._first}{by_clock}")
        self._module: Any = accelerator.prepare(learner)
        self._descent = descend(list(self._trainable.values()))
        if state is not None:
            self._descent.load_state_dict(state["descent"])

    @property
    def state_path(self) -> Path:
        """The file a killed run goes on from; whoever keeps the outcome removes it."""
        return self._plan.folder / "state.pt"

    @property
    def numbers(self) -> Iterable[int]:
        """Numbers of the steps that are left, without end where the clock decides."""
        return (
            itertools.count(self._first)
            if self._plan.steps is None
            else range(self._first, self._plan.steps)
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
        drawn: Iterable[Drawn],
        parts: Callable[[Any, Drawn], Sequence[Part]],
        saved: Callable[[], None] | None = None,
    ) -> None:
        """Take every step that is left.

        Args:
            drawn: what each of `numbers` takes.
            parts: of (the module to call, what was drawn) the parts of this process's loss, whose
                sum is averaged over the processes.
            saved: called by the first process after each saved state.

        Raises:
            StreamError: the loss is not finite.
        """
        accelerator, plan = self._accelerator, self._plan
        is_main, begun, average = accelerator.is_main_process, time.monotonic(), math.nan
        with (
            Losses(plan.folder, self._first) if is_main else nullcontext() as losses,
            tqdm(
                desc=plan.what,
                unit="step",
                initial=self._first,
                total=plan.steps,
                disable=not is_main,
                mininterval=1.0,
            ) as bar,
        ):
            if losses is not None and not losses.has_curves:
                accelerator.print(
                    "TensorBoard is not installed: losses are in losses.jsonl only (pip install"
                    " tensorboard)"
                )
            for step, taken in zip(self.numbers, drawn, strict=False):
                share = self._share(step, begun)
                if share >= 1.0:
                    break
                torch.manual_seed(
                    plan.seed * 1_000_003
                    + step * accelerator.num_processes
                    + accelerator.process_index
                )
                loss = self._learn(parts(self._module, taken))
                rate = self._descent.step(share)
                average = loss if math.isnan(average) else 0.98 * average + 0.02 * loss
                bar.set_postfix_str(
                    f"loss {average:.4f}" + ("" if plan.steps else f", {share:.0%} of the time"),
                    refresh=False,
                )
                bar.update()
                if losses is not None:
                    losses.add(step, {"loss": loss, "learning_rate": rate})
                if is_main and (step + 1) % plan.save_every == 0 and step + 1 != plan.steps:
                    self._save(step + 1, share)
                    if saved is not None:
                        saved()
        accelerator.wait_for_everyone()

    def _share(self, step: int, begun: float) -> float:
        """How much of the training is done in the middle of step number `step`, the same in all
        processes.
        """
        if self._plan.steps is not None:
            return (step + 0.5) / self._plan.steps
        from accelerate.utils import broadcast

        share = self._done_before + (time.monotonic() - begun) / (self._plan.seconds or math.inf)
        return float(broadcast(torch.tensor(share, device=self._accelerator.device)))

    def _learn(self, parts: Sequence[Part]) -> float:
        """Gradients of a step, and its loss over all processes."""
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
                f"the loss is {loss}; begin anew with a lower --learning-rate, or without --bf16"
                " where that is given"
            )
        accelerator.clip_grad_norm_(self._module.parameters(), 1.0)
        return loss

    def _save(self, steps: int, share: float) -> None:
        weights = {name: parameter.detach() for name, parameter in self._trainable.items()}
        kept = {
            "settings": self._plan.settings,
            "steps": steps,
            "share": share,
            "weights": weights,
            "descent": self._descent.state_dict(),
        }
        save_state(self.state_path, kept)
