"""Every example runs as its first lines say, and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clip_fixtures import write_video
from places import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
LONGEST_S = 300.0


def run(*command: str | Path) -> str:
    """What a command prints; it must succeed."""
    process = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=LONGEST_S
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the first example left, and what it printed."""
    folder = tmp_path_factory.mktemp("watched")
    return folder, run(EXAMPLES / "watch_a_clip.py", "world:7", folder)


def test_a_stream_is_watched_and_its_events_are_printed(watched: tuple[Path, str]) -> None:
    folder, printed = watched
    assert "enters from the" in printed
    assert printed.splitlines()[-1] == f"kept in {folder / 'memory.db'}"


def test_a_memory_is_asked(watched: tuple[Path, str]) -> None:
    printed = run(EXAMPLES / "ask_a_memory.py", watched[0] / "memory.db", "person")
    assert "records about 'person'" in printed
    assert "how often: " in printed
    assert " times" in printed


def test_a_source_of_one_s_own_is_watched() -> None:
    assert run(EXAMPLES / "own_source.py").startswith("20 steps, ")


def test_a_model_of_one_s_own_speaks(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [20] * 8 + [220] * 8, fps=4.0)
    printed = run(EXAMPLES / "own_model.py", clip)
    assert printed.count("the light changes") == 1
    assert "records by brightness-example" in printed


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = tmp_path / "notebook.py"
    script.write_text(code + "\nprint(f'{len(events)} events, picture {picture.size}')\n")
    last = run(script).splitlines()[-1]
    assert int(last.split()[0]) > 0
    assert "picture (" in last


def test_the_python_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    block = (REPOSITORY / "README.md").read_text().split("```python\n")[1].split("```")[0]
    write_video(tmp_path / "clip.mp4", [20] * 8 + [220] * 8, fps=4.0)
    script = tmp_path / "readme.py"
    script.write_text(block)
    process = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_S
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "seen.db").is_file()
