"""After a power cut or a kill every reported step is there, and the file is sound."""

import importlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from memory_fixtures import SESSION, begin, picture, seconds, settings, step
from places import REPOSITORY, SUPPORT

from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.encryption import Key, connect

WRITE_FOR_EVER = """
import itertools, sys
sys.path.insert(0, sys.argv[2])
from memory_fixtures import SESSION, seconds, settings, step
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter

memory = Memory.open(settings(sys.argv[1], busy_timeout_s=10.0))
writer = MemoryWriter(
    memory,
    lambda result: print(result.tick.stamp_ns, flush=True),
    lambda result, error: sys.exit(str(error)),
)
session = sys.argv[3]
writer.begin_session(session, "model", "test", seconds(0))
for number in itertools.count():
    writer.submit(step(number, said="a ball rolls in", session=session))
    if number % 20 == 19:
        writer.flush(10)
"""


def observed(path: Path, session: str) -> set[int]:
    """Return the stamps (ns) of all observations of `session`."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT end_ns FROM record WHERE kind = 'observation' AND session_id = ?", [session]
        )
        return {end_ns for (end_ns,) in rows}


def is_sound(path: Path) -> bool:
    with sqlite3.connect(path) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_loses_no_reported_step_and_leaves_a_sound_file(
    tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "memory.db"
    rng = random.Random(seed)
    reported: dict[str, list[int]] = {}
    for life in ("first", "second"):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(path), str(SUPPORT), life]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            heard = [int(writer.stdout.readline()) for _ in range(rng.randrange(1, 80))]
            writer.send_signal(signal.SIGKILL)
            # Lines printed between the last read and the kill count too; a line truncated by the
            # kill does not.
            heard += [
                int(line)
                for line in writer.stdout.read().splitlines(keepends=True)
                if line.endswith("\n")
            ]
        assert writer.returncode == -signal.SIGKILL
        reported[life] = heard
    with Memory.open(settings(path)) as memory:
        for life, heard in reported.items():
            assert set(heard) <= observed(path, life)
        # Each step has an observation, an event and an utterance: none is stored in part.
        steps = memory.recall(RecallQuery(kinds=("observation",))).total
        assert memory.recall(RecallQuery("ball")).total == 2 * steps
        begin(memory, "third")
        memory.write(step(0, said="a cup", session="third"))
        assert memory.recall(RecallQuery("cup")).total == 2
    assert is_sound(path)


@pytest.mark.parametrize("seed", range(8))
def test_a_wal_truncated_by_a_power_cut_keeps_the_first_steps_whole(
    tmp_path: Path, seed: int
) -> None:
    path, log = tmp_path / "memory.db", tmp_path / "memory.db-wal"
    after = tmp_path / "after"
    after.mkdir()
    with Memory.open(settings(path)) as memory:
        begin(memory)
        for number in range(40):
            memory.write(step(number, said="a ball rolls in"))
        for part in (path, log):
            shutil.copy(part, after)
    survived = after / "memory.db-wal"
    with survived.open("r+b") as file:
        file.truncate(random.Random(seed).randrange(survived.stat().st_size))
    with Memory.open(settings(after / "memory.db")) as memory:
        kept = memory.recall(
            RecallQuery(kinds=("observation",), order="oldest", limit=1000)
        ).records
        assert [record.end_ns for record in kept] == [
            seconds(number) for number in range(len(kept))
        ]
        assert memory.count() == 3 * len(kept)
    assert is_sound(after / "memory.db")


CRASH = REPOSITORY / "benchmark" / "crash.py"


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def key(request: pytest.FixtureRequest, tmp_path: Path) -> Key | None:
    if not request.param:
        return None
    pytest.importorskip("sqlcipher3")
    file = tmp_path / "key"
    file.write_text("of the test\n")
    file.chmod(0o600)
    return Key.read(str(file))


@pytest.mark.parametrize("options", [[], ["--encrypted"]], ids=["plain", "encrypted"])
def test_the_crash_report_finds_every_step_after_random_kills(
    tmp_path: Path, options: list[str]
) -> None:
    if options:
        pytest.importorskip("sqlcipher3")
    command = [
        sys.executable,
        str(CRASH),
        "--kills",
        "8",
        "--kills-a-file",
        "4",
        "--seed",
        "3",
        "--out",
        str(tmp_path / "report.json"),
        *options,
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["kills"], report["files"], report["encrypted"]) == (8, 2, bool(options))
    assert report["killed_while_opening"] + report["restarts"] == 8
    assert report["committed_records"] > 0
    assert report["killed_while_opening"] > 0
    faults = (report["lost_records"], report["incomplete_steps"], report["corrupt_files"])
    assert faults == (0, 0, 0)
    assert {"p50", "p99", "max"} == set(report["restart_to_serving_s"])


def test_the_crash_report_detects_missing_incomplete_and_damaged_steps(
    tmp_path: Path, key: Key | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(CRASH.parent))
    crash = importlib.import_module("crash")
    path = tmp_path / "memory.db"
    with Memory.open(settings(path, key_file=str(key.file) if key is not None else "")) as memory:
        begin(memory)
        for number in range(5):
            memory.write(crash.step(number, SESSION, picture()))
    file = crash.MemoryFile(path, {SESSION: set(range(5))}, key)
    assert (file.lost(), file.incomplete(), file.is_sound()) == (0, 0, True)
    file.committed[SESSION].add(5)
    assert file.lost() == 3
    with closing(connect(path, key)) as db:
        db.execute("DELETE FROM record WHERE id = 2")
    assert (file.lost(), file.incomplete()) == (4, 1)
    with closing(connect(path, key)) as db:
        db.execute("UPDATE record SET picture_id = 99 WHERE id = 1")
    assert not file.is_sound()
