"""Measures the cost of encryption: stores each step and asks each question in two memories.

One is plain, one encrypted. Prints a table and writes it as JSON. Both are measured in the same
minutes, as clock time and as processor time. The ratio of the processor times depends least on
other work on the machine; it does not include the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from memory import FIRST_NS, OPEN_AND_ASK, Timings, questions, steps, timings

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory

KINDS = ("plain", "encrypted")

Pair = dict[str, list[tuple[float, float]]]
"""Measurements by kind of memory: (clock time, processor time) in ms."""


def fill(memories: dict[str, Memory], records: int, rng: random.Random) -> tuple[Pair, int]:
    """Write the same steps to all memories until `records` are stored.

    Returns:
        The time of each commit, and the length of the stream in seconds.
    """
    spent: Pair = {kind: [] for kind in memories}
    number = 0
    for number, result in enumerate(steps(rng)):
        if memories[KINDS[0]].count() >= records:
            break
        for kind in order_of(number):
            rows = memories[kind].prepare(result)
            with measured(spent[kind]):
                memories[kind].commit(rows)
            memories[kind].run_maintenance()
    return spent, number


def ask(
    memories: dict[str, Memory], rng: random.Random, seconds: int, times: int
) -> dict[str, Pair]:
    """Ask all memories `times` questions of each kind."""
    answered = {}
    for mode, make in questions(rng, seconds).items():
        spent: Pair = {kind: [] for kind in memories}
        for number, query in enumerate(make() for _ in range(times)):
            for kind in order_of(number):
                with measured(spent[kind]):
                    memories[kind].recall(query)
        answered[mode] = spent
    return answered


def open_and_ask(chosen: dict[str, MemorySettings], times: int) -> Pair:
    """Time of a whole process that imports, opens, checks and answers; a new process each time."""
    spent: Pair = {kind: [] for kind in chosen}
    script = OPEN_AND_ASK.replace("path=sys.argv[1]", "path=sys.argv[1], key_file=sys.argv[2]")
    for number in range(times):
        for kind in order_of(number):
            with measured(spent[kind], children_processor_s):
                subprocess.run(
                    [sys.executable, "-c", script, chosen[kind].path, chosen[kind].key_file],
                    check=True,
                    capture_output=True,
                )
    return spent


@contextmanager
def measured(
    into: list[tuple[float, float]], processor_s: Callable[[], float] = time.thread_time
) -> Iterator[None]:
    """Add the clock time and the processor time (ms) of the block to `into`."""
    clock, processor = time.perf_counter(), processor_s()
    yield
    into.append(((time.perf_counter() - clock) * 1e3, (processor_s() - processor) * 1e3))


def children_processor_s() -> float:
    """Processor time of all child processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def order_of(number: int) -> tuple[str, ...]:
    """The kinds in alternating order, because the first one may warm up caches for the second."""
    return KINDS if number % 2 else KINDS[::-1]


def print_table(rows: dict[str, Pair]) -> dict[str, dict[str, Timings | float]]:
    """Print one table; returns its rows for the report."""
    print(
        f"{'ms, p50':<32}{'plain':>9}{'encrypted':>11}"
        f"{'plain cpu':>11}{'encrypted cpu':>15}{'ratio of cpu':>14}"
    )
    found: dict[str, dict[str, Timings | float]] = {}
    for name, pair in rows.items():
        clock, processor = (
            {kind: timings([each[column] for each in pair[kind]]) for kind in KINDS}
            for column in (0, 1)
        )
        ratio = processor["encrypted"]["p50_ms"] / processor["plain"]["p50_ms"]
        shown = [timing[kind]["p50_ms"] for timing in (clock, processor) for kind in KINDS]
        print(
            f"{name:<32}{shown[0]:9.2f}{shown[1]:11.2f}"
            f"{shown[2]:11.2f}{shown[3]:15.2f}{ratio:14.2f}"
        )
        found[name] = {
            **clock,
            **{f"{kind}_cpu": timing for kind, timing in processor.items()},
            "ratio_of_cpu_p50": ratio,
        }
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--records", type=int, default=10_000, help="size of the memory when questions are asked"
    )
    parser.add_argument("--times", type=int, default=100, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder for the temporary memory files; chooses the disk that is measured",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/memory_encryption.json"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        key_file = folder / "key"
        key_file.touch(0o600)
        key_file.write_text(np.random.default_rng(arguments.seed).bytes(32).hex() + "\n")
        chosen = {
            kind: MemorySettings(
                path=str(folder / f"{kind}.db"),
                key_file=str(key_file) if kind == "encrypted" else "",
            )
            for kind in KINDS
        }
        memories = {kind: Memory.open(settings) for kind, settings in chosen.items()}
        try:
            for memory in memories.values():
                memory.begin_session("bench", "none", "benchmark", FIRST_NS)
            committed, seconds = fill(memories, arguments.records, rng)
            asked = ask(memories, rng, seconds, arguments.times)
            opened = open_and_ask(chosen, 5)
            megabytes = {
                kind: Path(settings.path).stat().st_size / 1e6 for kind, settings in chosen.items()
            }
        finally:
            for memory in memories.values():
                memory.close()
    rows = print_table(
        {"commit a step": committed, **asked, "fresh process to first answer": opened}
    )
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python"
        f" {platform.python_version()}"
    )
    print(
        f"files: {', '.join(f'{kind} {size:.0f} MB' for kind, size in megabytes.items())};"
        f" {arguments.records} records; {machine}"
    )
    report = {
        "machine": machine,
        "records": arguments.records,
        "questions_a_mode": arguments.times,
        "file_mb": megabytes,
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"→ {arguments.out}")


if __name__ == "__main__":
    main()
