"""A short day of the node, with two lives and two kills, loses nothing; speed is not checked."""

import json
import subprocess
import sys
from pathlib import Path

from places import REPOSITORY

BENCHMARK = REPOSITORY / "benchmark"


def test_a_short_day_of_the_node_loses_nothing_and_reports_each_life(tmp_path: Path) -> None:
    out = tmp_path / "endurance.json"
    command = [sys.executable, str(BENCHMARK / "endure.py"), "--hours", "0.2", "--seed", "3"]
    finished = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, timeout=900
    )
    outcome = json.loads(out.read_text())
    # Growth is not asked here: it needs a longer run.
    assert outcome["stopped"] == "", finished.stderr
    assert outcome["driver_errors"] == []
    totals = outcome["totals"]
    assert [each for hour in outcome["hours"] for each in hour["lost"]] == []
    assert [each for hour in outcome["hours"] for each in hour["far"].get("lost", ())] == []
    assert [totals[f"{name}_lost"] for name in ("requests", "records", "far_requests")] == [0, 0, 0]
    assert (totals["frames_dropped_wrongly"], totals["files_not_sound"]) == (0, 0)
    assert len(outcome["hours"]) == totals["kills"] == 2
    for hour in outcome["hours"]:
        assert hour["steps"] > 0
        assert hour["records_expected"] > 0
        assert hour["rss_mb"] > 0
    assert out.with_suffix(".png").stat().st_size > 10_000
