"""`--near`, `--frame`, `--session` and `--map-frame` of `stream-vlm recall` and `memory forget`."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_fixtures import begin, settings, step

from stream_vlm.cli import main
from stream_vlm.memory.memory import Memory
from stream_vlm.types import Pose

SEEN = {"cat", "dog", "cow", "pig"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A memory of two sessions, each with an event at the origin of map and one of odom."""
    path = tmp_path / "memory.db"
    with Memory.open(settings(path)) as memory:
        for session, seen in (("one", ("cat", "dog")), ("two", ("cow", "pig"))):
            begin(memory, session)
            for at, (said, frame_id) in enumerate(zip(seen, ("map", "odom"), strict=True)):
                pose = Pose(frame_id, 0.0, 0.0, 0.0)
                memory.write(step(at, said=said, pose=pose, session=session))
    return path


def words_in(capsys: pytest.CaptureFixture[str]) -> set[str]:
    printed = capsys.readouterr().out
    return {word for word in SEEN if word in printed}


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (["--frame", "map"], {"cat", "cow"}),
        (["--frame", "odom"], {"pig"}),
        (["--frame", "odom", "--session", "one"], {"dog"}),
        (["--frame", "odom", "--map-frame", "odom"], {"dog", "pig"}),
        (["--frame", "map", "--map-frame", "world"], {"cow"}),
    ],
)
def test_recall_and_forget_compare_places_of_one_frame(
    file: Path, capsys: pytest.CaptureFixture[str], options: list[str], seen: set[str]
) -> None:
    near = ["--near", "0", "0", "1", *options, "--memory", str(file)]
    assert main(["recall", "--kind", "event", *near]) == 0
    assert words_in(capsys) == seen
    assert main(["memory", "forget", *near]) == 0
    capsys.readouterr()
    assert main(["recall", "--kind", "event", "--memory", str(file)]) == 0
    assert words_in(capsys) == SEEN - seen


@pytest.mark.parametrize("command", [["recall"], ["memory", "forget"]])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--near", "0", "0", "1"], "name one of the frames of this memory as frame_id: map, odom"),
        (["--near", "0", "0", "1", "--frame", "world"], "no pose in 'world'"),
        (["--near", "0", "0", "1", "--frame", "odom", "--session", "x"], "no session 'x'"),
        (["--frame", "odom"], "--frame names the frame of --near, which is not given"),
    ],
)
def test_a_place_that_cannot_be_compared_is_refused_in_one_sentence(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    options: list[str],
    says: str,
) -> None:
    assert main([*command, *options, "--memory", str(file)]) != 0
    assert says in capsys.readouterr().err
