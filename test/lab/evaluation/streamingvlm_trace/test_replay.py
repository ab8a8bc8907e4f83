"""The engine reproduces recorded StreamingVLM runs: the same tokens, positions and values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming_rule import Rule
from trace_recording import Recorder, Run, write_streaming_vlm_checkpoint

from stream_vlm.backbone.checkpoint.loader import load_checkpoint
from stream_vlm.cli import main
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm_lab.evaluation.streamingvlm_trace.files import TraceError, find_traces, read_trace
from stream_vlm_lab.evaluation.streamingvlm_trace.replay import replay_trace

RUNS = [
    Run("vision_outlives_text", Rule(4, 2, 8, 8)),
    Run("text_outlives_vision", Rule(2, 4, 8, 8)),
    Run("no_cut", Rule(3, 3, None, None)),
    Run("oblong_with_penalty", Rule(3, 2, 6, 5), size=(84, 140), penalty=1.3),
    Run("window_of_one", Rule(1, 1, 8, 8)),
    Run("text_of_one", Rule(3, 1, 4, 4)),
    Run("vision_of_one_and_nothing_before", Rule(1, 3, 4, 4), previous_text="", query=""),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streaming_vlm_checkpoint(tmp_path_factory.mktemp("streaming") / "model")


@pytest.fixture(scope="module")
def recorded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short trace; copy it before changing it."""
    folder = tmp_path_factory.mktemp("recorded")
    Recorder(checkpoint, Run("short", Rule(2, 2, 4, 4), rounds=4)).record(folder)
    return folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the short trace; a test may change it."""
    return Path(shutil.copytree(recorded, tmp_path / "traces"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply `change` to what a .json or .npz file holds."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    change(content)
    np.savez(path, **content)


@pytest.fixture(scope="session")
def golden(repository: Path) -> Path:
    """Folder of the published traces beside the checkout; without it, tests are skipped."""
    folder = repository.parent / "shared" / "golden" / "streamingvlm"
    if not folder.is_dir():
        pytest.skip(f"no published traces at {folder}")
    return folder


def test_the_engine_agrees_with_the_published_traces(golden: Path) -> None:
    loaded = load_checkpoint(
        ModelSettings(directory=str(golden / "model"), device="cpu", dtype="float32")
    )
    for path in find_traces(golden):
        replay = replay_trace(loaded, read_trace(path))
        assert [comparison for comparison in replay.comparisons if not comparison.agrees] == []
        compared = {comparison.quantity for comparison in replay.comparisons}
        assert {
            "kept tokens",
            "positions at prefill",
            "positions at the end",
            "first logits",
            "generated ids",
            "kept at the end",
        } <= compared
        if replay.name == "small_4_4_16_16":
            assert {"all logits", "un-rotated keys", "values"} <= compared


@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_the_engine_agrees_with_runs_recorded_by_an_independent_implementation(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    Recorder(checkpoint, run).record(tmp_path)
    trace = read_trace(find_traces(tmp_path)[0])
    replay = replay_trace(
        load_checkpoint(ModelSettings(directory=str(checkpoint), device="cpu", dtype="float32")),
        trace,
    )
    assert [comparison for comparison in replay.comparisons if not comparison.agrees] == []
    assert {"kept tokens", "positions at the end", "all logits", "generated ids"} <= {
        comparison.quantity for comparison in replay.comparisons
    }


def test_the_recordings_have_replies_that_end_and_replies_that_are_cut_off(recorded: Path) -> None:
    trace = read_trace(find_traces(recorded)[0])
    lengths = np.diff(trace.arrays["gen_ids_off"])
    ends = [
        trace.ragged("gen_ids", number)[-1] == trace.settings.special_ids["<|im_end|>"]
        for number in range(4)
    ]
    assert lengths.max() == trace.settings.max_new_tokens
    assert any(ends)
    assert not all(ends)


def test_the_command_prints_every_quantity_and_exits_with_0_where_all_agree(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-trace", str(checkpoint), str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "short: 4 rounds" in printed
    assert "1 of 1 traces agree" in printed
    assert "DEVIATES" not in printed


def swap_kept(arrays: dict[str, Any]) -> None:
    arrays["kept_src"][[-1, -2]] = arrays["kept_src"][[-2, -1]]


def shift_logits(arrays: dict[str, Any]) -> None:
    arrays["logits_first"][2, 5] += 2e-3


def set_logit_to_nan(arrays: dict[str, Any]) -> None:
    arrays["logits_first"][1, 1] = np.nan


def shift_position(arrays: dict[str, Any]) -> None:
    arrays["pos_all"][1, 30] += 1


def add_to_cache_length(arrays: dict[str, Any]) -> None:
    arrays["kv_len_after"][3] += 1


def change_generated_token(arrays: dict[str, Any]) -> None:
    arrays["gen_ids"][0] = (arrays["gen_ids"][0] + 1) % 200


@pytest.mark.parametrize(
    ("change", "quantity", "first_round"),
    [
        (swap_kept, "kept tokens", 3),
        (shift_logits, "first logits", 2),
        (set_logit_to_nan, "first logits", 1),
        (shift_position, "positions at the end", 0),
        (add_to_cache_length, "held per layer", 3),
        (change_generated_token, "generated ids", 0),
    ],
)
def test_the_command_names_what_deviates_and_exits_with_1(
    change: Callable[[dict[str, Any]], None],
    quantity: str,
    first_round: int,
    checkpoint: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rewrite(folder / "trace_short.npz", change)
    assert main(["verify-trace", str(checkpoint), str(folder)]) == 1
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.strip().startswith(quantity))
    assert f"DEVIATES from round {first_round}" in line
    assert "0 of 1 traces agree" in printed


def test_a_replay_with_another_window_deviates(checkpoint: Path, folder: Path) -> None:
    rewrite(folder / "trace_short.json", lambda settings: settings.update(window_size=3))
    loaded = load_checkpoint(
        ModelSettings(directory=str(checkpoint), device="cpu", dtype="float32")
    )
    replay = replay_trace(loaded, read_trace(folder / "trace_short.json"))
    assert not replay.agrees
    assert (
        next(
            comparison for comparison in replay.comparisons if comparison.quantity == "kept tokens"
        ).first_round
        == 2
    )


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such folder"):
        find_traces(tmp_path / "absent")
    with pytest.raises(TraceError, match="contains no trace"):
        find_traces(tmp_path)


@pytest.mark.parametrize("name", ["trace_short.json", "trace_short.npz", "frames_short.npz"])
def test_a_missing_or_damaged_file_is_named(
    name: str, folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    assert main(["verify-trace", str(checkpoint), str(folder)]) == 1
    assert name in capsys.readouterr().err
    (folder / name).unlink()
    assert main(["verify-trace", str(checkpoint), str(folder)]) == 1
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("trace_short.json", lambda settings: settings.update(window_size=0), "window_size"),
        ("trace_short.json", lambda settings: settings.pop("text_round"), "text_round"),
        ("trace_short.json", lambda settings: settings.update(text_sink=None), "text_sink"),
        ("trace_short.json", lambda settings: settings.update(pos_mode="append"), "pos_mode"),
        ("trace_short.json", lambda settings: settings.update(rounds=5), "into 5 rounds"),
        (
            "trace_short.json",
            lambda settings: settings["special_ids"].update({"<|im_end|>": 3}),
            "give the checkpoint of the trace",
        ),
        ("trace_short.json", lambda settings: settings.update(fps=1), "temporal patch"),
        ("trace_short.npz", lambda arrays: arrays.pop("pos_all"), "has no array 'pos_all'"),
        (
            "trace_short.npz",
            lambda arrays: arrays.update(gen_ids=arrays["gen_ids"][:-1]),
            "gen_ids_off does not divide",
        ),
        (
            "trace_short.npz",
            lambda arrays: arrays.update(logits_first=arrays["logits_first"][:, :9]),
            "logits over 9 tokens",
        ),
        (
            "trace_short.npz",
            lambda arrays: arrays.update(kv_len_after=arrays["kv_len_after"][1:]),
            "kv_len_after",
        ),
        (
            "frames_short.npz",
            lambda arrays: arrays.update(frames=arrays["frames"][:3]),
            "frames are uint8 (3, 56, 56, 3)",
        ),
        (
            "frames_short.npz",
            lambda arrays: arrays.update(frames=arrays["frames"][:, :50]),
            "not whole vision tokens",
        ),
    ],
)
def test_files_that_do_not_match_each_other_are_refused_with_the_remedy(
    name: str,
    change: Callable[[dict[str, Any]], None],
    message: str,
    checkpoint: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rewrite(folder / name, change)
    assert main(["verify-trace", str(checkpoint), str(folder)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
