"""The benchmarks run to the end and write their reports; speed is not checked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clip_fixtures import write_video
from places import REPOSITORY

BENCHMARK = REPOSITORY / "benchmark"


def report(script: str, out: Path, *arguments: str) -> Any:
    command = [sys.executable, str(BENCHMARK / script), *arguments, "--out", str(out)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    return json.loads(out.read_text())


SHAPES = ("tiny-qwen2.5", "tiny-qwen3")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of one run with both shapes."""
    out = tmp_path_factory.mktemp("streaming") / "streaming.json"
    few = ["--tokens", "72", "--seconds", "8", "--context", "4", "--samples", "2"]
    few += ["--streams", "2"]
    whole = report("streaming.py", out, "--shapes", *SHAPES, *few)
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert {"processor", "cores", "torch"} <= set(whole["machine"])
    return whole


@pytest.mark.parametrize("number", range(len(SHAPES)), ids=SHAPES)
def test_every_context_method_is_measured_on_each_model(streamed: Any, number: int) -> None:
    assert len(streamed["models"]) == len(SHAPES)
    model = streamed["models"][number]
    names = [row["name"] for row in model["rows"]]
    assert [name for name in names if name.startswith("ours")] == [
        "ours: last_turns",
        "ours: chunked",
        "ours: sliding",
    ]
    assert [name[:3] for name in names if not name.startswith("ours")] == [
        "(a)",
        "(b)",
        "(c)",
        "(d)",
    ]
    for row in model["rows"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["first_token_ms"] > 0
        assert row["tokens_per_s"] > 0
        assert row["cache_mb"] > 0
    assert {"copy_gb_per_s", "decode_bandwidth_bound_ms", "silent_step_compute_bound_ms"} <= set(
        model["bounds"]
    )
    assert model["streams"][0]["streams"] == 2


def test_the_soak_test_reports_the_first_and_the_last_hour_and_memory(tmp_path: Path) -> None:
    outcome = report("soak.py", tmp_path / "soak.json", "--steps", "48")
    assert outcome["steps"] == 48
    assert outcome["failed_commits"] == 0
    assert outcome["rows"] > 0
    for name in ("p95_first_hour_ms", "p95_last_hour_ms", "rss_start_mb", "rss_end_mb"):
        assert outcome[name] > 0


def test_stores_that_are_not_installed_are_reported_as_not_measured(
    tmp_path: Path,
) -> None:
    rows = [
        {"t": 1000.0 + number, "x": number % 20, "y": 1.0, "text": f"red ball {number}"}
        for number in range(30)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = report(
        "alternatives.py",
        tmp_path / "alternatives.json",
        str(tmp_path / "rows.jsonl"),
        "--times",
        "5",
        "--one-by-one",
        "5",
    )
    assert set(found) == {"naive scan", "emem", "lancedb"}
    scan = found["naive scan"]
    assert (scan["rows"], scan["added_singly"]) == (30, 30)
    assert all(
        0 < scan[mode]["p50_ms"] <= scan[mode]["p99_ms"]
        for mode in ("add", "words", "place", "time")
    )
    for alternative in ("emem", "lancedb"):
        assert "not measured" in found[alternative] or found[alternative]["rows"] == 30


def test_object_links_are_measured_for_the_rule_and_for_schemes_by_words(
    tmp_path: Path,
) -> None:
    whole = report(
        "memory_links.py", tmp_path / "links.json", "--events-per-minute", "0.4", "--missed", "0.3"
    )
    assert whole["events"] > 50
    tables = [table for table in whole.values() if isinstance(table, dict)]
    assert len(tables) == 2
    for table in tables:
        assert set(table) > {
            "the rule",
            "same words",
            "same words, same room",
            "same words, same visit",
        }
        assert table["same words"]["all"]["recall"] == 1.0, (
            "linking everything with the same words misses no pair"
        )
        assert table["the rule"]["all"]["precision"] > table["same words"]["all"]["precision"]
        assert all(
            0.0 <= figure["precision"] <= 1.0 for by in table.values() for figure in by.values()
        )


def test_the_ablation_scores_every_variant_and_reuses_finished_runs(
    tmp_path: Path,
) -> None:
    small = [
        "--worlds",
        "1",
        "--held-out",
        "1",
        "--steps",
        "1",
        "--batch",
        "1",
        "--work",
        str(tmp_path),
        "--variants",
        "start",
        "two states",
    ]
    whole = report("ablation.py", tmp_path / "ablation.json", *small)
    assert list(whole["scores"]) == ["start", "two states"]
    assert {"standby", "response precision", "words"} <= set(whole["scores"]["start"])
    assert "standby" not in whole["scores"]["two states"]
    for run in tmp_path.glob("run-*/scores.json"):
        kept = json.loads(run.read_text())
        run.write_text(json.dumps(kept | {"scores": dict.fromkeys(kept["scores"], 0.125)}))
    again = report("ablation.py", tmp_path / "ablation.json", *small)
    assert again["scores"]["start"]["words"] == 0.125


def test_the_rule_for_new_scenes_is_judged_on_labelled_clips(tmp_path: Path) -> None:
    clips: dict[str, Any] = {}
    for number, grey in enumerate((20, 120, 220, 70)):
        write_video(tmp_path / f"{number}.mp4", [grey] * 40, 10.0)
        clips[f"{number}.mp4"] = {"presence": [{"enters": 2.0, "leaves": None}]}
    (tmp_path / "annotations.json").write_text(json.dumps({"clips": clips}))
    found = report("scene_change.py", tmp_path / "out.json", str(tmp_path), "--factors", "3")
    assert [(row["half"], row["cuts"], row["cuts_found"]) for row in found["rows"]] == [
        ("chosen on", 1, 1),
        ("put aside", 1, 1),
    ]
    assert [(row["labels"], row["labels_found"], row["wrong"]) for row in found["rows"]] == [
        (2, 0, 0)
    ] * 2
