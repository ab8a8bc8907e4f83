"""Measures how fast the memory stores a step and answers, on this machine.

Prints a table and writes it as JSON. Every step is stored as on a robot: picture encoded, one
transaction, one fsync. Questions are drawn at random from a seed. They cover words, time, place,
camera and combinations of these, over everything stored.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from event_step import event_step
from numpy.typing import NDArray

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.insert_rows import insert_session, insert_step
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallQuery
from stream_vlm.memory.storage.connections import transaction
from stream_vlm.memory.storage.file import open_for_writing
from stream_vlm.memory.storage.step_rows import StepRecorder
from stream_vlm.types import NANOSECONDS, Decision, Frame, Pose, State, StepResult, Tick

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")
THINGS = ("ball", "box", "cup", "door", "lamp", "chair", "person", "bag", "bottle", "plant")
EVENTS = (
    "enters from the left",
    "leaves to the right",
    "is picked up",
    "is put down on the table",
    "opens",
    "closes",
    "rolls in",
)
CAMERAS = ("front", "rear")
FIRST_NS = 1_700_000_000 * NANOSECONDS
SPEAKS_EVERY = 5
MIN_STEPS = 100
"""Fewest steps that are written one by one at each size, even if it is reached already."""

OPEN_AND_ASK = """
import sys, time
started = time.perf_counter()
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.memory import Memory
imported = time.perf_counter()
with Memory.open(MemorySettings(path=sys.argv[1]), read_only=True) as memory:
    memory.recall(RecallQuery("red ball"))
answered = time.perf_counter()
print((answered - imported) * 1e3, (answered - started) * 1e3)
"""

Timings = dict[str, float]


def timings(milliseconds: list[float]) -> Timings:
    """p50, p95, p99 and maximum of `milliseconds`."""
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "max_ms": max(milliseconds),
    }


def pictures(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """A few noisy 640 x 480 pictures with edges, so that their JPEGs have a realistic size."""
    made = []
    for _ in range(8):
        blocks = rng.integers(0, 255, (24, 32, 3)).repeat(20, axis=0).repeat(20, axis=1)
        made.append(np.clip(blocks + rng.normal(0, 4, blocks.shape), 0, 255).astype(np.uint8))
    return made


def steps(rng: random.Random) -> Iterator[StepResult]:
    """An endless stream at 1 Hz: a robot moves through 20 x 20 m and its cameras take turns.

    Every fifth step reports an event.
    """
    shown = pictures(np.random.default_rng(rng.randrange(2**32)))
    x = y = 10.0
    index = 0
    while True:
        stamp_ns = FIRST_NS + index * NANOSECONDS
        x, y = (min(20.0, max(0.0, value + rng.uniform(-0.5, 0.5))) for value in (x, y))
        camera = CAMERAS[index % len(CAMERAS)]
        frame = Frame(
            camera, stamp_ns, f"{camera}_optical", shown[index % len(shown)], Pose("map", x, y, 0.0)
        )
        if index % SPEAKS_EVERY == SPEAKS_EVERY - 1:
            label = f"the {rng.choice(COLOURS)} {rng.choice(THINGS)} {rng.choice(EVENTS)}"
            yield event_step("bench", index, frame, label, stamp_ns - 3 * NANOSECONDS)
        else:
            yield StepResult(
                "bench",
                Tick(index, stamp_ns, (frame,)),
                {camera: Decision(State.SILENCE, {State.SILENCE: 1.0}, "", 0.9)},
            )
        index += 1


def questions(rng: random.Random, seconds: int) -> dict[str, Callable[[], RecallQuery]]:
    """For each kind of question a function that makes one, over a stream of `seconds`."""

    def words(number: int) -> str:
        return " ".join(
            rng.sample([*COLOURS, *THINGS, "enters", "leaves", "table", "opens"], number)
        )

    def ten_minutes(text: str) -> RecallQuery:
        start_ns = FIRST_NS + rng.randrange(seconds) * NANOSECONDS
        return RecallQuery(text, start_ns, start_ns + 600 * NANOSECONDS)

    def place() -> Place:
        return Place(rng.uniform(0, 20), rng.uniform(0, 20), 1.0)

    return {
        "one word": lambda: RecallQuery(words(1)),
        "two words": lambda: RecallQuery(words(2)),
        "eight words": lambda: RecallQuery(words(8)),
        "last seen": lambda: RecallQuery(
            f"when did you last see the {rng.choice(COLOURS)} {rng.choice(THINGS)}", order="newest"
        ),
        "words, 10 minutes": lambda: ten_minutes(words(2)),
        "words, 1 m around": lambda: RecallQuery(words(2), place=place()),
        "words, one camera": lambda: RecallQuery(words(2), cameras=("front",)),
        "10 minutes": lambda: ten_minutes("what did you see"),
        "1 m around": lambda: RecallQuery(place=place()),
        "1 m around, observations too": lambda: RecallQuery(
            place=place(), kinds=("observation", "event")
        ),
        "newest": lambda: RecallQuery(order="newest"),
        "every observation": lambda: RecallQuery(kinds=("observation",), limit=100),
    }


def unlimited_settings(path: Path, picture_period_s: float) -> MemorySettings:
    """The default settings without deletion, because a million records are more than three days."""
    return MemorySettings(
        path=str(path), thumbnail_period_s=picture_period_s,
        keep_records_h=0.0, keep_records_mb=0.0, keep_pictures_h=0.0, keep_pictures_mb=0.0,
        keep_summaries_h=0.0, keep_summaries_mb=0.0,
    )  # fmt: skip


def grow(settings: MemorySettings, stream: Iterator[StepResult], records: int) -> None:
    """Make a new memory of `records`, a thousand steps in a transaction, to save time."""
    recorder = StepRecorder()
    stored = 0
    with closing(open_for_writing(Path(settings.path), settings.busy_timeout_s)) as db:
        with transaction(db, "IMMEDIATE"):
            insert_session(db, Path(settings.path), "grown", "none", "benchmark", FIRST_NS)
        while stored < records:
            with transaction(db, "IMMEDIATE"):
                for result in islice(stream, 1000):
                    rows = recorder.prepare(replace(result, session_id="grown"), settings)
                    insert_step(db, rows, "none", ["map"])
                    stored += len(rows.rows)
                    if stored >= records:
                        break
    with Memory.open(settings) as memory:
        while memory.run_maintenance():
            pass


def fill(memory: Memory, stream: Iterator[StepResult], records: int) -> dict[str, Timings]:
    """Write steps one by one until `records` are stored, and at least `MIN_STEPS`.

    Returns:
        The time to encode a step's picture, to commit the step, and of one piece of idle work after
        it.
    """
    encoding: list[float] = []
    committing: list[float] = []
    maintaining: list[float] = []
    while memory.count() < records or len(committing) < MIN_STEPS:
        result = next(stream)
        started = time.perf_counter()
        rows = memory.prepare(result)
        prepared = time.perf_counter()
        memory.commit(rows)
        committed = time.perf_counter()
        memory.run_maintenance()
        maintaining.append((time.perf_counter() - committed) * 1e3)
        committing.append((committed - prepared) * 1e3)
        encoding.append((prepared - started) * 1e3)
    return {
        "encode": timings(encoding),
        "commit": timings(committing),
        "one piece of idle work afterwards": timings(maintaining),
    }


def ask(memory: Memory, rng: random.Random, seconds: int, times: int) -> dict[str, Timings]:
    """Ask `times` questions of each kind, one after the other.

    Returns:
        Clock times, and p99 of the processor time, which depends less on other work on the machine.
    """
    answered = {}
    for mode, make in questions(rng, seconds).items():
        wall_ms, processor_ms = [], []
        for query in [make() for _ in range(times)]:
            before = time.thread_time()
            wall_ms.append(memory.recall(query).took_ms)
            processor_ms.append((time.thread_time() - before) * 1e3)
        answered[mode] = {**timings(wall_ms), "cpu_p99_ms": timings(processor_ms)["p99_ms"]}
    return answered


def open_to_first_answer(path: Path, times: int) -> dict[str, Timings]:
    """Time from opening to the first answer in a new process, with and without imports."""
    command = [sys.executable, "-c", OPEN_AND_ASK, str(path)]
    took = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(times)
    ]
    opening, importing = ([float(one[place]) for one in took] for place in range(2))
    return {
        "open to first answer": timings(opening),
        "fresh process to first answer": timings(importing),
    }


def alternatives(python: Path, memory: Path, folder: Path, times: int) -> object:
    """Run benchmark/alternatives.py on the rows of `memory`, with as many questions."""
    rows, out = folder / "rows.jsonl", folder / "alternatives.json"
    with sqlite3.connect(memory) as connection, rows.open("w") as file:
        # One record in a line. A silent observation has no words, but a vector store needs some, so
        # its state is used.
        for end_ns, x, y, text, state in connection.execute(
            "SELECT end_ns, x, y, text, state FROM record WHERE x IS NOT NULL ORDER BY id"
        ):
            file.write(
                json.dumps({"t": end_ns / NANOSECONDS, "x": x, "y": y, "text": text or state})
                + "\n"
            )
    command = [
        str(python),
        str(Path(__file__).with_name("alternatives.py")),
        str(rows),
        "--times",
        str(times),
        "--out",
        str(out),
    ]
    print("\nother stores on the same rows, words as hashed vectors (ms)")
    subprocess.run(command, check=True)
    return json.loads(out.read_text())


def print_table(title: str, rows: dict[str, Timings]) -> None:
    """Print one table."""
    print(f"\n{title:<36}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}{'cpu p99':>9}  ms")
    for name, timing in rows.items():
        print(
            f"  {name:<34}"
            + "".join(
                f"{timing[key]:9.2f}"
                for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "cpu_p99_ms")
                if key in timing
            )
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--records",
        type=int,
        nargs="+",
        default=[10_000, 43_200],
        help="sizes of the memory at which questions are asked",
    )
    parser.add_argument("--times", type=int, default=200, help="questions of each kind")
    parser.add_argument(
        "--picture-period",
        type=float,
        default=1.0,
        help="seconds between the pictures of silent steps",
    )
    parser.add_argument(
        "--grown",
        type=int,
        default=0,
        metavar="RECORDS",
        help="start with so many records, stored a thousand steps at a time",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder for the temporary memory file; chooses the disk that is measured",
    )
    parser.add_argument(
        "--alternatives",
        type=Path,
        metavar="PYTHON",
        help="Python with requirements/benchmark.txt: measures other stores too",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/memory.json"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    report: dict[str, object] = {
        "machine": (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
            f" SQLite {sqlite3.sqlite_version}"
        ),
        "questions_a_mode": arguments.times,
    }
    sizes = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "memory.db"
        settings = unlimited_settings(path, arguments.picture_period)
        stream = steps(rng)
        if arguments.grown:
            grow(settings, stream, arguments.grown)
        with Memory.open(settings) as memory:
            memory.begin_session("bench", "none", "benchmark", FIRST_NS)
            for records in sorted(arguments.records):
                write = fill(memory, stream, records)
                seconds = next(stream).tick.index
                recall = ask(memory, rng, seconds, arguments.times)
                opening = open_to_first_answer(path, 20)
                megabytes = path.stat().st_size / 1e6
                print_table(f"writing up to {records} records", write)
                print_table(f"recall from {records} records", recall)
                print_table("opening", opening)
                print(f"  file {megabytes:.0f} MB")
                sizes.append(
                    {
                        "records": records,
                        "file_mb": megabytes,
                        "write": write,
                        "recall": recall,
                        "open": opening,
                    }
                )
        if arguments.alternatives:
            report["alternatives"] = alternatives(
                arguments.alternatives, path, Path(folder), arguments.times
            )
    report["sizes"] = sizes
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{report['machine']}\n→ {arguments.out}")


if __name__ == "__main__":
    main()
