"""The installed command trains to its end, with the processes that it starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY

from stream_vlm.types import StreamError
from stream_vlm_lab.training.shipped_model.rendering import render_stream, render_streams

LIMIT_S = 1500.0
"""Far more than the training takes on a busy machine; a run that hangs is stopped by it."""

TINY = (
    *("--vision-worlds", "2", "--vision-epochs", "0.5", "--vision-batch", "4"),
    *("--language-worlds", "1", "--language-steps", "1", "--language-batch", "1"),
    *("--held-out-worlds", "1", "--no-compile"),
)


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "losses.jsonl").open()]


def test_the_installed_command_renders_in_processes_and_trains_to_its_end(tmp_path: Path) -> None:
    finished = run("stream-vlm", "train", *TINY, "--processes", "2", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    out = tmp_path / "build" / "train"
    report = json.loads((out / "checkpoint" / "training.json").read_text())
    assert {"vision", "language"} <= report.keys()
    assert (out / "checkpoint" / "model.safetensors").is_file()
    shown = re.findall(r"vision: +100%.*loss ([\d.]+)", finished.stderr)
    assert shown
    assert float(shown[-1]) == pytest.approx(losses(out / "vision-0")[-1], abs=1e-4)


def test_every_script_runs_only_as_the_main_program() -> None:
    """A process that a script starts imports the script again; that must start nothing."""
    scripts = [path for path in (REPOSITORY / "scripts").iterdir() if path.is_file()]
    assert scripts
    for script in scripts:
        imported = (
            "import importlib.machinery, importlib.util, sys;"
            f"loader = importlib.machinery.SourceFileLoader('__mp_main__', {str(script)!r});"
            "spec = importlib.util.spec_from_loader(loader.name, loader);"
            "loader.exec_module(importlib.util.module_from_spec(spec)); print('imported only')"
        )
        finished = run(sys.executable, "-c", imported, cwd=REPOSITORY)
        assert finished.stdout == "imported only\n", f"{script}: {finished.stderr[-500:]}"


def test_a_process_that_ends_early_ends_the_rendering_with_a_sentence(tmp_path: Path) -> None:
    """A program without a guard: its processes start the program again and end at once."""
    program = tmp_path / "unguarded.py"
    program.write_text(
        "from stream_vlm.types import StreamError\n"
        "from stream_vlm_lab.training.shipped_model.rendering import render_streams\n"
        "try:\n"
        "    list(render_streams(range(8), 2, 2.0, dense=False, processes=2))\n"
        "except StreamError as error:\n"
        "    print(error)\n"
    )
    finished = run(sys.executable, str(program), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "ended before its work was done" in finished.stdout
    assert "--processes 1" in finished.stdout


def test_processes_render_the_same_rooms_in_order() -> None:
    def rendered(processes: int) -> list[Any]:
        streams = render_streams(range(3, 8), 2, 2.0, dense=False, processes=processes)
        return [
            (stream.seed, stream.frames.tobytes(), stream.states, stream.texts)
            for stream in streams
        ]

    alone, shared = rendered(1), rendered(2)
    assert [seed for seed, *_ in shared] == [3, 4, 5, 6, 7]
    assert shared == alone


def test_a_process_that_renders_starts_without_torch() -> None:
    """Each would otherwise need seconds and hundreds of MB only to start."""
    program = "import sys\nimport {}\nassert not {{'torch', 'transformers'}} & set(sys.modules)"
    finished = run(sys.executable, "-c", program.format(render_stream.__module__), cwd=REPOSITORY)
    assert finished.returncode == 0, finished.stderr[-500:]


def test_a_fault_in_a_room_is_not_taken_for_a_process_that_ended() -> None:
    with pytest.raises(Exception, match=r".") as caught:
        list(render_streams([-1], 2, 2.0, dense=False, processes=2))
    assert not isinstance(caught.value, StreamError) or "ended before" not in str(caught.value)
