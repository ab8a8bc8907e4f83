"""The command line starts fast, and reports every failure in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from colour_mind import colour_mind
from model_fixtures import write_checkpoint
from model_server import serve_model

from stream_vlm import extensions
from stream_vlm.cli import COMMANDS, main
from stream_vlm.cli.options.times import TimeError, parse_time, show_span
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory
from stream_vlm.types import NANOSECONDS, Decision, EventSpan, Frame, Pose, State, StepResult, Tick

NOW = datetime(2026, 3, 15, 12, 30, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture
def memory_file(tmp_path: Path) -> Path:
    """A memory of two events: a red ball at 2 s near (1, 0), a door at 10 s near (5, 0)."""
    path = tmp_path / "run" / "memory.db"
    path.parent.mkdir()
    with Memory.open(MemorySettings(path=str(path))) as memory:
        memory.begin_session("s", "model", "test", 0)
        for index, (label, seconds, x) in enumerate(
            [("red ball rolls in from the left", 2, 1.0), ("door opens", 10, 5.0)]
        ):
            stamp = seconds * NANOSECONDS
            frame = Frame(
                "front", stamp, "optical", np.zeros((8, 8, 3), np.uint8), Pose("map", x, 0.0, 0.0)
            )
            event = EventSpan(
                f"e{index}", "front", "optical", stamp, label, stamp - NANOSECONDS, stamp, 0.9
            )
            decision = Decision(State.RESPONSE, {State.RESPONSE: 1.0}, label, 0.9)
            memory.write(
                StepResult("s", Tick(index, stamp, (frame,)), {"front": decision}, events=(event,))
            )
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["recall", "--help"], ["run", "--help"]])
def test_help_and_recall_start_without_loading_torch(arguments: list[str]) -> None:
    program = (
        f"import sys; from stream_vlm.cli import main; main({arguments!r}); print('torch' in"
        " sys.modules, 'cv2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"


def test_recall_answers_without_loading_torch(memory_file: Path) -> None:
    arguments = ["recall", "ball", "--memory", str(memory_file)]
    program = (
        f"import sys; from stream_vlm.cli import main; main({arguments!r}); print('torch' in"
        " sys.modules, 'cv2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "red ball rolls in from the left" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize(
    "command", [name for name in (*COMMANDS, *extensions.LAB_COMMANDS) if name != "train"]
)
def test_every_command_has_a_help_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: stream-vlm {command}" in capsys.readouterr().out


def test_the_help_lists_the_commands_of_the_lab_beside_the_librarys_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert re.findall(r"^  (\S+)", listed, re.MULTILINE) == [*COMMANDS, *extensions.LAB_COMMANDS]


@pytest.mark.parametrize("command", extensions.LAB_COMMANDS)
def test_a_command_of_the_lab_says_what_to_install_where_the_lab_is_absent(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extensions, "added", lambda group: {})
    assert main([command, "CHECKPOINT", "--minutes", "5"]) == 1
    said = capsys.readouterr().err
    assert f"stream-vlm: {command} needs stream_vlm_lab: pip install 'stream-vlm[lab]'" in said
    assert len(said.splitlines()) == 1


def test_a_command_of_the_lab_names_the_library_that_is_missing(tmp_path: Path) -> None:
    arguments = ["eval", "--world", "heldout", "--out", str(tmp_path / "out")]
    program = (
        "import sys; sys.modules['matplotlib'] = None; from stream_vlm.cli import main;"
        f" sys.exit(main({arguments!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "eval needs matplotlib, which is not installed: pip install 'stream-vlm[lab]'" in (
        done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_command_that_cannot_be_imported_stays_in_the_help_and_reports_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("fly", "no_such_package.cli:fly", extensions.COMMANDS)
    monkeypatch.setattr(extensions, "added", lambda group: {"fly": broken})
    assert main(["--help"]) == 0
    assert "fly" in capsys.readouterr().out
    assert main(["fly", "--high"]) == 1
    assert "fly needs no_such_package, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["run", "no-such.mp4", "--out", "OUT"],
            "no-such.mp4: no such source; it can be a video file",
        ),
        (["run", "world:x", "--out", "OUT"], "'x' is not a seed"),
        (["run", "world:1", "--seconds", "-1", "--out", "OUT"], "above 0"),
        (
            ["run", "world:1", "--out", "OUT", "--set", "stream.rate_hz=fast"],
            "stream.rate_hz: 'fast' is refused",
        ),
        (
            ["run", "world:1", "--out", "OUT", "--set", "stream.speed=1"],
            "stream.speed: no such setting",
        ),
        (["run", "world:1", "--out", "OUT", "--set", "stream.rate_hz"], "write NAME=VALUE"),
        (["run", "world:1", "--out", "OUT", "--set", "memory.path=/x.db"], "choose DIR with --out"),
        (
            ["run", "world:1", "--out", "OUT", "--set", "camera.a.topic=/x"],
            "the cameras are those of the source",
        ),
        (["replay", "no-such-bag", "--out", "OUT"], "no-such-bag: not a rosbag2 recording"),
        (["recall", "--memory", "OUT/no.db"], "no.db"),
        (["recall", "--limit", "0", "--memory", "OUT/no.db"], "limit: 0"),
        (["recall", "--near", "nan", "0", "1", "--memory", "OUT/no.db"], "place: x = nan"),
        (["recall", "--from", "later", "--memory", "OUT/no.db"], "'later' is not a time"),
        (["recall", "--from", "20", "--to", "10", "--memory", "OUT/no.db"], "is after end"),
    ],
)
def test_bad_input_gets_one_clear_message_and_a_failing_exit_status(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("OUT", str(tmp_path)) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "world:1"],
        ["fly"],
        ["recall", "--order", "best"],
        ["simulate", "--seed", "-1", "--out", "x"],
    ],
)
def test_wrong_arguments_exit_with_2_and_an_error_message(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Error:" in capsys.readouterr().err


def test_recall_finds_words_in_a_memory_file(
    memory_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recall", "ball", "--memory", str(memory_file)]) == 0
    out = capsys.readouterr().out
    assert "1.0 - 2.0 s" in out
    assert "red ball rolls in" in out
    assert "(1.00, 0.00) map" in out
    assert "door" not in out


def test_recall_takes_the_folder_of_a_run(
    memory_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["recall", "--memory", str(memory_file.parent), "--order", "newest", "--limit", "1"])
        == 0
    )
    out = capsys.readouterr().out
    assert "door opens" in out
    assert "1 of 2 records" in out


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--from", "5"], ["door opens"]),
        (["--to", "5"], ["red ball rolls in from the left"]),
        (["--near", "5", "0", "1"], ["door opens"]),
        (["--camera", "back"], []),
        (["--order", "oldest"], ["red ball rolls in from the left", "door opens"]),
        (["--kind", "observation", "--limit", "1", "--order", "oldest"], [""]),
    ],
)
def test_recall_applies_its_filters(
    arguments: list[str], found: list[str], memory_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recall", "--memory", str(memory_file), "--json", *arguments]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["text"] for record in records] == found


def test_recall_as_json_keeps_nanoseconds_exact(
    memory_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["recall", "door", "--memory", str(memory_file), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["end_ns"] == 10 * NANOSECONDS
    assert record["end"] == 10.0
    assert record["pose"]["x"] == 5.0


def test_recall_does_not_create_a_memory(tmp_path: Path) -> None:
    assert main(["recall", "--memory", str(tmp_path / "memory.db")]) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("now", NOW),
        ("10 min ago", NOW - timedelta(minutes=10)),
        ("1 hour ago", NOW - timedelta(hours=1)),
        ("90s ago", NOW - timedelta(seconds=90)),
        ("2 days ago", NOW - timedelta(days=2)),
        ("9:05", NOW.replace(hour=9, minute=5)),
        ("9:05:30", NOW.replace(hour=9, minute=5, second=30)),
        ("yesterday", NOW.replace(hour=0, minute=0) - timedelta(days=1)),
        ("yesterday 9:05", NOW.replace(hour=9, minute=5) - timedelta(days=1)),
        ("2026-01-31 14:05:30", datetime(2026, 1, 31, 14, 5, 30, tzinfo=NOW.tzinfo)),
        ("2026-01-31t14:05:30+00:00", datetime(2026, 1, 31, 14, 5, 30, tzinfo=timezone.utc)),
    ],
)
def test_times_are_read_as_people_write_them(words: str, moment: datetime) -> None:
    assert parse_time(words, NOW) == int(moment.timestamp()) * NANOSECONDS


@pytest.mark.parametrize(
    ("words", "ns"),
    [("0", 0), ("12.5", 12_500_000_000), ("12.5 s", 12_500_000_000), ("3s", 3_000_000_000)],
)
def test_plain_seconds_count_from_the_beginning_of_a_recording(words: str, ns: int) -> None:
    assert parse_time(words, NOW) == ns


@pytest.mark.parametrize(
    "words", ["", "later", "25:00", "10 parsecs ago", "-5", "2026-13-01", "9" * 30 + " days ago"]
)
def test_words_that_are_not_a_time_are_refused_with_examples(words: str) -> None:
    with pytest.raises(TimeError, match=r"is not a time; write '14:05'"):
        parse_time(words, NOW)


def test_a_span_prints_the_shared_date_only_once() -> None:
    day = int(datetime(2026, 1, 31, 14, 5, 30).timestamp()) * NANOSECONDS
    assert show_span(day, day + 5 * NANOSECONDS) == "2026-01-31 14:05:30 - 14:05:35"
    assert show_span(NANOSECONDS, 2 * NANOSECONDS) == "1.0 - 2.0 s"
    assert show_span(NANOSECONDS, NANOSECONDS) == "1.0 s"


def test_the_doctor_reports_what_to_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "memory.db").write_text(
        "not a database at all, but long enough to be looked at" * 50
    )
    assert (
        main(
            [
                "doctor",
                "--model",
                str(tmp_path / "nothing"),
                "--memory",
                str(tmp_path / "memory.db"),
            ]
        )
        == 1
    )
    findings = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert findings["model"].startswith("WRONG")
    assert str(tmp_path / "nothing") in findings["model"]
    assert findings["memory"].startswith("WRONG")
    assert "not a SQLite file" in findings["memory"]
    assert findings["python"].startswith("ok")
    assert findings["libraries"].startswith("ok")


def test_the_doctor_says_what_a_server_can_do_as_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("httpx", reason="httpx sends the requests")
    arguments = ["doctor", "--memory", str(tmp_path / "memory.db"), "--model-url"]
    with serve_model(colour_mind) as server:
        assert main([*arguments, server.url]) == 0
        findings = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
        assert "eyes: states by log probabilities" in findings["server"]
        assert "pictures are sent once" in findings["server"]
        assert not {"model", "device"} & set(findings)
        assert main([*arguments, server.url, "--model-name", "ears"]) == 1
    findings = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert findings["server"].startswith("WRONG")
    assert "has no model 'ears'; it has eyes" in findings["server"]


def test_simulate_writes_a_video_with_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--seed", "3", "--minutes", "0.1", "--out", str(tmp_path / "w")]) == 0
    labels = json.loads((tmp_path / "w" / "labels.json").read_text())
    assert labels["seed"] == 3
    assert labels["duration_s"] == pytest.approx(6.0)
    assert "labels.json, video.mp4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "refused", [["--seed", "3", "--size", "7", "9"], ["--seed", "3", "--fps", "0.5"]]
)
def test_simulate_refuses_an_impossible_camera(
    refused: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *refused, "--out", str(tmp_path / "w")]) == 1
    assert "is refused" in capsys.readouterr().err


def test_a_real_checkpoint_gives_the_same_results_for_a_simulated_stream_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "checkpoint"))
    for folder in ("once", "again"):
        assert (
            main(
                [
                    "run",
                    "world:5",
                    "--seconds",
                    "4",
                    "--model",
                    checkpoint,
                    "--out",
                    str(tmp_path / folder),
                ]
            )
            == 0
        )
    assert "8 ticks over 3.5 s of stream" in capsys.readouterr().out
    for name in ("utterances.jsonl", "events.jsonl", "states.jsonl"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert len((tmp_path / "once" / "states.jsonl").read_text().splitlines()) == 8


def test_a_refused_run_loads_no_model_and_changes_nothing_in_the_folder(
    memory_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = memory_file.read_bytes()
    assert (
        main(
            [
                "run",
                "world:5",
                "--model",
                str(tmp_path / "nothing"),
                "--out",
                str(memory_file.parent),
            ]
        )
        == 1
    )
    assert "already has a run" in capsys.readouterr().err
    assert memory_file.read_bytes() == before


def test_recall_computes_an_answer_and_lists_its_evidence(
    memory_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "recall",
                "--memory",
                str(memory_file),
                "--answer",
                "auto",
                "how",
                "often",
                "did",
                "you",
                "see",
                "a",
                "zebra",
            ]
        )
        == 0
    )
    assert "no record of 'zebra'" in capsys.readouterr().out
    assert main(["recall", "--memory", str(memory_file), "--answer", "last", "ball"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("last: ")
    assert "ball" in said[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "world:1", "--out", "OUT", "--watch", "caf\udce9"],
        ["run", "world:1", "--out", "OUT", "--set", "model.directory=caf\udce9"],
        ["run", "caf\udce9.mp4", "--out", "OUT"],
        ["replay", "bag", "--out", "OUT", "--topic", "/caf\udce9"],
        ["recall", "caf\udce9", "--memory", "m.db"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_text_that_is_not_utf_8_is_a_wrong_argument(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main([str(out) if word == "OUT" else word for word in arguments]) == 2
    said = capsys.readouterr().err
    assert "caf\\udce9" in said
    assert "UTF-8" in said
    assert not out.exists()


def test_the_installed_command_refuses_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    words = [b"stream-vlm", b"run", b"world:1", b"--out", bytes(tmp_path / "o"), b"--watch"]
    finished = subprocess.run([*words, b"caf\xe9"], capture_output=True, check=False, timeout=300)
    assert finished.returncode == 2
    assert b"UTF-8" in finished.stderr
    assert b"Traceback" not in finished.stderr


def test_a_file_whose_name_is_not_utf_8_can_be_printed(tmp_path: Path) -> None:
    data = os.fsencode(tmp_path) + b"/caf\xe9.json"
    Path(os.fsdecode(data)).write_text("[]")
    words = [b"stream-vlm", b"dataset", b"convert", data, b"--from", b"messages"]
    finished = subprocess.run(words, capture_output=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert b"0 rows read, 0 refused" in finished.stdout
