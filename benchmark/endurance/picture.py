"""Draws the report of a day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "endurance"


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw what was counted at the end of each life, over simulated hours."""
    hours = report["hours"]
    ends, elapsed = [], 0.0
    for hour in hours:
        elapsed += hour["simulated_s"] / 3600.0
        ends.append(elapsed)
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    totals = report["totals"]
    figure.suptitle(
        f"{elapsed:.1f} simulated hours, {report['factor_reached']:.0f} times as fast as real,"
        f" {totals['kills']} kill -9, {totals['steps']} steps\n"
        f"lost: {totals['frames_dropped_wrongly']} frames, {totals['requests_lost']} answers,"
        f" {totals['records_lost']} of {totals['records_expected_at_the_end']} records"
    )

    def line(axis: Any, title: str, unit: str, *series: tuple[str, list[float]]) -> None:
        for name, values in series:
            axis.plot(ends, values, marker="o", markersize=3, label=name)
        axis.set(title=title, xlabel="simulated hour", ylabel=unit, ylim=(0, None))
        if len(series) > 1:
            axis.legend(fontsize="small")

    def of(name: str) -> list[float]:
        return [hour[name] for hour in hours]

    line(axes[0, 0], "Steps in a life", "steps", ("all", of("steps")), ("late", of("late_steps")))
    line(axes[0, 1], "Step time", "ms", ("p50", of("step_p50_ms")), ("p95", of("step_p95_ms")))
    line(axes[0, 2], "Resident memory before the kill", "MB", ("", of("rss_mb")))
    line(
        axes[1, 0],
        "Before the kill",
        "number",
        ("threads", of("threads")),
        ("file descriptors", of("descriptors")),
    )
    line(axes[1, 1], "Memory file", "MB", ("", of("file_mb")))
    for samples in report["within"]:
        ages = [each["age_s"] for each in samples]
        axes[1, 2].plot(ages, [each["rss_mb"] for each in samples], linewidth=0.8)
    axes[1, 2].set(
        title="Resident memory within each life", xlabel="age in real seconds", ylabel="MB"
    )
    axes[1, 2].set_ylim(0, None)
    figure.savefig(path, dpi=110)
