"""The loss log of a training run, and the saved state from which a killed run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from stream_vlm.types import StreamError


class LossLog:
    """Writes one JSON object a step to `losses.jsonl`, and TensorBoard curves if it is installed.

    A killed run repeats the steps after its last saved state, so their old lines are removed.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open the log in `folder` and remove the lines from step number `first_step` on."""
        self._path = folder / "losses.jsonl"
        lines = self._path.read_text().splitlines() if self._path.is_file() else []
        kept = [
            line for line in lines if line.endswith("}") and json.loads(line)["step"] < first_step
        ]
        self._path.write_text("".join(f"{line}\n" for line in kept))
        self._curves = self._open_curves(folder / "tensorboard", first_step)

    @property
    def has_curves(self) -> bool:
        """Whether TensorBoard is installed."""
        return self._curves is not None

    @staticmethod
    def _open_curves(folder: Path, first_step: int) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return SummaryWriter(str(folder), purge_step=first_step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the `values` of step number `step`."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._curves is not None:
            for name, value in values.items():
                self._curves.add_scalar(name, value, step)

    def __enter__(self) -> LossLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._curves is not None:
            self._curves.close()


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path` atomically: after a kill the old or the new file is complete."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Load the state in `path`; returns None if there is no file.

    Raises:
        StreamError: the file is damaged, or belongs to a run with other settings.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = state["settings"]
    except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise StreamError(
            f"{path}: is damaged ({error}); remove it to start the run from the beginning"
        ) from error
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        name = changed[0]
        raise StreamError(
            f"{path}: belongs to a run with {name} {before.get(name)!r}, this run has"
            f" {settings[name]!r}; use the same options, or give another --out"
        )
    return state
