"""Draws the confusion matrix of each model: true state against predicted state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK = "#22303c"
STATES = ("silence", "standby", "response")


def confusion_matrix(counts: Mapping[str, int]) -> NDArray[np.int64]:
    """Ticks by true state (rows) and predicted state (columns): int64 (3, 3).

    Rows and columns are in the order of `STATES`.

    Args:
        counts: ticks by "TRUE as PREDICTED", as `score_streams` returns them.
    """
    return np.array(
        [[counts.get(f"{right} as {said}", 0) for said in STATES] for right in STATES],
        dtype=np.int64,
    )


def draw_confusion(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw one matrix for each model as a PNG at `path`.

    Colours show the shares of each true state, numbers show ticks.

    Args:
        counts: for each model by name, ticks by "TRUE as PREDICTED".
        path: the PNG file.
    """
    width = 3.1 * len(counts) + 1.0
    figure = Figure(figsize=(width, 3.7), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    for place, (name, mine) in enumerate(counts.items()):
        axes = figure.add_subplot(1, len(counts), place + 1)
        ticks = confusion_matrix(mine)
        shares = ticks / np.maximum(1, ticks.sum(axis=1, keepdims=True))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(len(STATES)):
            for column in range(len(STATES)):
                pale = shares[row, column] > 0.55
                axes.text(
                    column,
                    row,
                    str(ticks[row, column]),
                    ha="center",
                    va="center",
                    fontsize=11,
                    color="white" if pale else INK,
                )
        axes.set_title(name, fontsize=11.5, color=INK)
        axes.set_xticks(range(len(STATES)), STATES, fontsize=9, color=INK)
        axes.set_yticks(
            range(len(STATES)), STATES if place == 0 else [""] * len(STATES), fontsize=9, color=INK
        )
        axes.set_xlabel("predicted", fontsize=10, color=INK)
        if place == 0:
            axes.set_ylabel("true", fontsize=10, color=INK)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    figure.subplots_adjust(left=1.0 / width, right=0.995, top=0.9, bottom=0.14, wspace=0.12)
    figure.savefig(path)
