"""The report of a day: sums, trends, and whether anything was lost or grows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

MAY_GROW_MB = 8.0
"""Growth of resident memory over the whole run below this is noise of the allocator."""
MAY_DIFFER = 3
"""Threads and descriptors may differ by so many from hour to hour: clients come and go."""
WARM = 0.4
"""Share of a life before the trend of its memory is taken."""


def slope(xs: list[float], ys: list[float]) -> float:
    """Slope of the line through the points by least squares; 0 for fewer than three."""
    if len(xs) < 3 or max(xs) == min(xs):
        return 0.0
    return float(np.polyfit(xs, ys, 1)[0])


def summarize(hours: list[dict[str, Any]], within: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Sums and trends over the lives of a day."""
    requests: Counter[str] = Counter()
    for hour in hours:
        requests.update(hour["requests"])
    far_lost = sum(len(hour["far"].get("lost", [])) for hour in hours)
    sums = {
        name: sum(hour[name] for hour in hours)
        for name in (
            "steps",
            "late_steps",
            "frames_dropped_wrongly",
            "frames_lost_in_transport",
            "requests_lost",
            "requests_reached_nobody",
            "parameters_wrong",
            "responses_undeliverable",
            "tracebacks",
            "records_lost",
        )
    }
    numbers = [float(index) for index in range(len(hours))]
    rss = [hour["rss_mb"] for hour in hours]
    per_life = []
    for samples in within:
        warm = [each for each in samples if each["age_s"] >= WARM * samples[-1]["age_s"]]
        per_minute = slope(
            [each["age_s"] / 60.0 for each in warm], [each["rss_mb"] for each in warm]
        )
        per_life.append(round(per_minute, 2))
    trends = {
        "rss_mb_an_hour": round(slope(numbers, rss), 3),
        "rss_mb_over_the_run": round(slope(numbers, rss) * max(len(hours) - 1, 0), 1),
        "rss_mb_a_real_minute_within_a_life": per_life,
        "threads": sorted({hour["threads"] for hour in hours}),
        "descriptors": sorted({hour["descriptors"] for hour in hours}),
        "file_mb": [hour["file_mb"] for hour in hours],
    }
    totals = sums | {
        "records_expected_at_the_end": hours[-1]["records_expected"],
        "files_not_sound": sum(not hour["file_sound"] for hour in hours),
        "far_requests_lost": far_lost,
        "kills": len(hours),
        "sessions": hours[-1]["sessions"],
        "requests": dict(sorted(requests.items())),
    }
    return {"totals": totals, "trends": trends, "findings": findings(totals, trends)}


def findings(totals: dict[str, Any], trends: dict[str, Any]) -> list[str]:
    """What is not as it should be; empty if nothing was lost and nothing grows."""
    found = [
        f"{name}: {totals[name]}"
        for name in (
            "frames_dropped_wrongly",
            "requests_lost",
            "far_requests_lost",
            "parameters_wrong",
            "tracebacks",
            "records_lost",
            "files_not_sound",
        )
        if totals[name]
    ]
    if trends["rss_mb_over_the_run"] > MAY_GROW_MB:
        found.append(f"resident memory grows by {trends['rss_mb_over_the_run']} MB over the run")
    found += [
        f"{name} differ: {trends[name]}"
        for name in ("threads", "descriptors")
        if trends[name][-1] - trends[name][0] > MAY_DIFFER
    ]
    return found
