"""Kills the memory's writer with SIGKILL at random times under load and counts what was lost.

    make crash
    build/jazzy/run python benchmark/crash.py --encrypted --kills 30    # an encrypted file

Each writer is a process of its own on a real file. It opens the memory like the node, with the
check at opening and the recovery of the log. It answers a recall and then stores steps with
pictures, as fast as the disk allows. It prints the number of each step that the writer has
committed. Most writers are killed while they store steps, some while they open the file.

After every kill the next writer is timed, from the start of its process until it has answered and
committed. Then the whole file is checked, and everything that was reported as committed must be
there. Exits with 1 if something is missing or a file is damaged.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from event_step import event_step
from sqlite_utils import Database

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage.encryption import Key, connect
from stream_vlm.types import NANOSECONDS, Frame, Pose, StepResult

FIRST_NS = 1_700_000_000 * NANOSECONDS
WORK_S, OPEN_S = 0.4, 0.15
"""Latest time of a kill in seconds: after the first commit, and after opening began."""
WHILE_OPENING = 0.2
"""Share of the kills while the file is opened."""
RECORDS_A_STEP = 3
SERVING_WITHIN_S = 2.0


def step(number: int, session: str, image: np.ndarray) -> StepResult:
    """One tick of one camera: an observation, an event and its utterance, with a picture."""
    stamp_ns = FIRST_NS + number * NANOSECONDS
    frame = Frame("front", stamp_ns, "front_optical", image, Pose("map", number % 20, 1.0, 0.0))
    return event_step(session, number, frame, f"ball {number} rolls in", stamp_ns - NANOSECONDS)


def run_writer(path: Path, session: str, key_file: str) -> None:
    """Open, answer, and write until killed.

    Prints "opening", then "serving" with the processor time in seconds, then the number of every
    committed step.
    """
    images = np.random.default_rng(0).integers(0, 256, (8, 240, 320, 3), dtype=np.uint8)
    print("opening", flush=True)
    memory = Memory.open(MemorySettings(path=str(path), key_file=key_file))
    memory.recall(RecallQuery("ball"))
    writer = MemoryWriter(
        memory,
        lambda result: print(result.tick.index, flush=True),
        lambda result, error: sys.exit(str(error)),
    )
    writer.begin_session(session, "none", "crash", FIRST_NS)
    number = 0
    while True:
        writer.submit(step(number, session, images[number % len(images)]))
        if number == 0:
            writer.flush(60)
            print(f"serving {time.process_time():.3f}", flush=True)
        elif number % 10 == 9:
            writer.flush(60)
        number += 1


@dataclass
class MemoryFile:
    """One memory file and what must be in it.

    Attributes:
        path: the file.
        committed: committed step numbers by session.
        key: the key of an encrypted file.
    """

    path: Path
    committed: dict[str, set[int]] = field(default_factory=dict)
    key: Key | None = None

    def lost(self) -> int:
        """Number of committed records that are missing."""
        with self._reading() as db:
            if not _has_tables(db):
                return sum(RECORDS_A_STEP * len(numbers) for numbers in self.committed.values())
            missing = 0
            for session, numbers in self.committed.items():
                stamps = db.execute(
                    "SELECT end_ns FROM record WHERE session_id = ? AND picture_id IS NOT NULL",
                    [session],
                ).fetchall()
                stored: dict[int, int] = {}
                for (end_ns,) in stamps:
                    number = (end_ns - FIRST_NS) // NANOSECONDS
                    stored[number] = stored.get(number, 0) + 1
                missing += sum(RECORDS_A_STEP - stored.get(number, 0) for number in numbers)
            return missing

    def incomplete(self) -> int:
        """Number of steps that are stored only in part."""
        with self._reading() as db:
            if not _has_tables(db):
                return 0
            count = (
                "SELECT count(*) FROM (SELECT 1 FROM record WHERE kind <> 'summary' GROUP BY"
                " session_id, end_ns HAVING count(*) <> ?)"
            )
            return int(db.execute(count, [RECORDS_A_STEP]).fetchone()[0])

    def is_sound(self) -> bool:
        """Whether the file passes the integrity checks of SQLite, and of SQLCipher with a key."""
        with self._reading() as db:
            sound: bool = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if self.key is not None:
                sound = sound and not db.execute("PRAGMA cipher_integrity_check").fetchall()
            return sound and not db.execute("PRAGMA foreign_key_check").fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Database]:
        db = connect(self.path, self.key, "mode=ro", 60.0)
        try:
            yield db
        finally:
            db.close()


def _has_tables(db: Database) -> bool:
    """Whether the file has its tables; a kill before that leaves an empty file."""
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone())


def run_until_killed(file: MemoryFile, life: str, rng: random.Random) -> tuple[float, float] | None:
    """Start one writer and kill it.

    Returns:
        Clock time and processor time in seconds from the start of the process until it served; None
        if it was killed before that.
    """
    started = time.perf_counter()
    command = [
        sys.executable,
        __file__,
        "--writer",
        str(file.path),
        life,
        str(file.key.file) if file.key is not None else "",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        heard = [process.stdout.readline()]
        if heard != ["opening\n"]:
            raise RuntimeError(f"the writer did not start: {heard}")
        serving: tuple[float, float] | None = None
        if rng.random() < WHILE_OPENING:
            time.sleep(rng.uniform(0, OPEN_S))
        else:
            while heard[-1] and not heard[-1].startswith("serving "):
                heard.append(process.stdout.readline())
            if heard[-1]:
                serving = (time.perf_counter() - started, float(heard[-1].split()[1]))
            time.sleep(rng.uniform(0, WORK_S))
        process.send_signal(signal.SIGKILL)
        # A line without its end was cut off by the kill and does not count.
        heard += [
            line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        ]
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the writer ended by itself with {process.returncode}: {heard[-3:]}")
    file.committed[life] = {int(line) for line in heard if line.strip().isdigit()}
    return serving


def run(
    folder: Path, kills: int, kills_a_file: int, seed: int, key: Key | None = None
) -> dict[str, object]:
    """Kill `kills` writers and return the report; with `key` the files are encrypted."""
    rng = random.Random(seed)
    restarts: list[tuple[float, float]] = []
    lost = incomplete = corrupt = committed = opening = files = 0
    file = MemoryFile(folder / "memory.db", key=key)
    for kill in range(kills):
        if kill % kills_a_file == 0:
            for old in folder.glob("memory-*"):
                old.unlink()
            file, files = MemoryFile(folder / f"memory-{kill}.db", key=key), files + 1
        serving = run_until_killed(file, f"life {kill}", rng)
        opening += serving is None
        if serving is not None:
            restarts.append(serving)
        committed += RECORDS_A_STEP * len(file.committed[f"life {kill}"])
        # After the last kill of a file, the checks themselves recover its log. Between two kills
        # the next writer must do that, so a copy is checked.
        checked = (
            file
            if kill % kills_a_file == kills_a_file - 1
            else MemoryFile(_copied(file.path), file.committed, key)
        )
        if file.path.exists():
            lost, incomplete, corrupt = (
                lost + checked.lost(),
                incomplete + checked.incomplete(),
                corrupt + (not checked.is_sound()),
            )
        if sys.stderr.isatty():
            print(
                f"\r{kill + 1} of {kills} kills, {committed} records committed, {lost} lost",
                end="",
                file=sys.stderr,
            )
    return {
        "kills": kills,
        "killed_while_opening": opening,
        "files": files,
        "committed_records": committed,
        "lost_records": lost,
        "incomplete_steps": incomplete,
        "corrupt_files": corrupt,
        "restarts": len(restarts),
        "restart_to_serving_s": _percentiles([clock for clock, _ in restarts]),
        "restart_processor_s": _percentiles([processor for _, processor in restarts]),
        "restarts_over_2_s": sum(clock > SERVING_WITHIN_S for clock, _ in restarts),
        "load_average": round(os.getloadavg()[0], 2),
        "seed": seed,
        "encrypted": key is not None,
    }


def _new_key(folder: Path) -> Key | None:
    """Write a random passphrase to a file of `folder` that only its owner can read."""
    file = folder / "key"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(base64.b64encode(os.urandom(32)) + b"\n")
    return Key.read(str(file))


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(seconds), 3)}


def _copied(path: Path) -> Path:
    """Copy the file and its log, for checks that must not recover the original."""
    copy = path.with_name("memory-copy.db")
    for ending in ("", "-wal", "-journal", "-shm"):
        target, source = Path(f"{copy}{ending}"), Path(f"{path}{ending}")
        target.unlink(missing_ok=True)
        if source.exists() and ending != "-shm":  # SQLite makes the index of the log again
            target.write_bytes(source.read_bytes())
    return copy


def main() -> int:
    """Run the benchmark and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument(
        "--kills-a-file", type=int, default=20, help="number of kills before a new file is used"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder for the temporary memory files; chooses the disk that is tested",
    )
    parser.add_argument("--out", type=Path, default=Path("build/crash/report.json"))
    parser.add_argument(
        "--encrypted", action="store_true", help="encrypt the files with a new key (SQLCipher)"
    )
    parser.add_argument(
        "--writer", nargs=3, metavar=("FILE", "SESSION", "KEY_FILE"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.writer:
        run_writer(Path(arguments.writer[0]), *arguments.writer[1:])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        key = _new_key(Path(folder)) if arguments.encrypted else None
        report = run(Path(folder), arguments.kills, arguments.kills_a_file, arguments.seed, key)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return (
        1 if report["lost_records"] or report["incomplete_steps"] or report["corrupt_files"] else 0
    )


if __name__ == "__main__":
    sys.exit(main())
