"""Charts of an examination: event F1, SW-F1, false alarms and outcomes of watches of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stream_vlm_lab.evaluation.scoring.scores import TOLERANCES_S

INK, FAINT = "#22303c", "#8a97a3"
OUTCOME_COLOURS = {
    "correct": "#3f9a6d",
    "correctly silent": "#a9d3bd",
    "late": "#f2c14e",
    "missed": "#c9d1d8",
    "false alarm": "#d1603d",
}
"""Colours of the outcomes of a watch."""
COLOURS = ("#3d7ea6", "#f2a14e", "#9aa5ae", "#d1603d", "#3f9a6d", "#7a5ca6")


def draw_chart(models: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw the scores of models as a PNG at `path`, 1600 pixels wide.

    Args:
        models: scores by the model's name, as `score_streams` returns them.
        title: title of the picture.
        path: the PNG file.
    """
    figure = Figure(figsize=(16, 5.2), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, 4, wspace=0.28, left=0.045, right=0.985, top=0.8, bottom=0.2)
    axes = [figure.add_subplot(grid[place]) for place in range(4)]
    names = list(models)
    for place, (which, name) in enumerate(
        (
            ("what_and_when", "event F1: what and when"),
            ("something_happened", "event F1: something happened"),
        )
    ):
        for colour, model in zip(COLOURS, names, strict=False):
            values = [
                models[model]["event_f1"][f"{tolerance} s"][which]["f1"]
                for tolerance in TOLERANCES_S
            ]
            axes[place].plot(TOLERANCES_S, values, marker="o", color=colour, linewidth=2)
        axes[place].set_xlabel("tolerance on the event's end (s)", color=INK)
        _style_axes(axes[place], name)
        axes[place].set_ylim(0, 1.02)
    together = [models[model]["speaking"]["together"] for model in names]
    _bars(
        axes[2],
        names,
        [score["sw_f1_published"] for score in together],
        [score["sw_f1_equal_weights"] for score in together],
    )
    _style_axes(axes[2], "SW-F1: published (pale), equal weights")
    axes[2].set_ylim(0, 1.02)
    alarms = [models[model]["false_alarms_per_silent_hour"] or 0.0 for model in names]
    _bars(axes[3], names, None, alarms)
    axes[3].set_yscale("symlog", linthresh=1.0)
    _style_axes(axes[3], "false alarms in an hour of silence")
    handles = [
        axes[0].plot([], [], marker="o", color=colour, linewidth=2)[0]
        for colour, _ in zip(COLOURS, names, strict=False)
    ]
    figure.legend(handles, names, loc="lower center", ncols=len(names), frameon=False, fontsize=11)
    figure.suptitle(title, x=0.045, ha="left", fontsize=15, fontweight="bold", color=INK)
    figure.savefig(path)


def draw_watches(watches: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw the outcomes of watches as a PNG at `path`, one bar for each model.

    Args:
        watches: scores by the model's name, as `score_watches` returns them.
        title: title of the picture.
        path: the PNG file.
    """
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(watches)), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.22, 0.3, 0.75, 0.55))
    rows = list(enumerate(watches.values()))
    for row, scores in rows:
        if "why" in scores:
            axes.text(
                0.1,
                row,
                "does not support watches",
                va="center",
                fontsize=10,
                color=FAINT,
                style="italic",
            )
    scored = [(row, scores) for row, scores in rows if "why" not in scores]
    reached = [0] * len(scored)
    for outcome, colour in OUTCOME_COLOURS.items():
        counts = [scores[outcome.replace(" ", "_")] for _, scores in scored]
        axes.barh(
            [row for row, _ in scored],
            counts,
            left=reached,
            color=colour,
            label=outcome,
            height=0.66,
        )
        reached = [before + count for before, count in zip(reached, counts, strict=True)]
    axes.set_xlim(0, max(1, *(scores["watches"] for scores in watches.values())))
    axes.set_yticks(range(len(watches)), list(watches), fontsize=11, color=INK)
    axes.set_ylim(len(watches) - 0.4, -0.6)
    _style_axes(axes, title)
    axes.grid(visible=False)
    axes.set_xlabel("watches", color=INK)
    figure.legend(loc="lower center", ncols=len(OUTCOME_COLOURS), frameon=False, fontsize=10)
    figure.savefig(path)


def _bars(
    axes: Axes, names: Sequence[str], pale: Sequence[float] | None, full: Sequence[float]
) -> None:
    places = range(len(names))
    colours = [COLOURS[place % len(COLOURS)] for place in places]
    if pale is not None:
        axes.bar(places, pale, width=0.8, color=colours, alpha=0.35)
    axes.bar(places, full, width=0.5 if pale is not None else 0.8, color=colours)
    for place, value in zip(places, full, strict=True):
        axes.text(
            place,
            value,
            f"{value:.2f}" if value < 10 else f"{value:.0f}",
            ha="center",
            va="bottom",
            fontsize=10,
            color=INK,
        )
    axes.set_xticks([])


def _style_axes(axes: Axes, name: str) -> None:
    axes.set_title(name, loc="left", fontsize=12, color=INK)
    axes.grid(axis="y", color="#e3e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
