"""What encryption at rest costs: a plain and an encrypted memory side by side, each step stored in both and each question asked of both in turn.

Prints a table and writes it as JSON. Both are measured in the same minutes, so that their ratio says more than either time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import FIRST_NS, OPEN_AND_ASK, Timings, questions, steps, timings

from stream_vlm.config import MemorySettings
from stream_vlm.memory.store import Memory

KINDS = ("plain", "encrypted")

Pair = dict[str, list[float]]
"""Milliseconds of the same pieces of work, by kind."""


def fill(memories: dict[str, Memory], records: int, rng: random.Random) -> tuple[Pair, int]:
    """Write the same steps to all until `records` are stored; the time of each commit, and how many seconds of stream that were."""
    spent: Pair = {kind: [] for kind in memories}
    number = 0
    for number, result in enumerate(steps(rng)):
        if memories[KINDS[0]].count() >= records:
            break
        for kind in turn(number):
            rows = memories[kind].prepare(result)
            started = time.perf_counter()
            memories[kind].commit(rows)
            spent[kind].append((time.perf_counter() - started) * 1e3)
            memories[kind].tend()
    return spent, number


def ask(memories: dict[str, Memory], rng: random.Random, seconds: int, times: int) -> dict[str, Pair]:
    """Each mode's questions, `times` of them, asked of all."""
    answered = {}
    for mode, make in questions(rng, seconds).items():
        spent: Pair = {kind: [] for kind in memories}
        for number, query in enumerate(make() for _ in range(times)):
            for kind in turn(number):
                spent[kind].append(memories[kind].recall(query).took_ms)
        answered[mode] = spent
    return answered


def open_and_ask(chosen: dict[str, MemorySettings], times: int) -> Pair:
    """A fresh process each time: import, open, check, answer."""
    spent: Pair = {kind: [] for kind in chosen}
    for number in range(times):
        for kind in turn(number):
            script = OPEN_AND_ASK.replace("path=sys.argv[1]", "path=sys.argv[1], key_file=sys.argv[2]")
            command = [sys.executable, "-c", script, chosen[kind].path, chosen[kind].key_file]
            spent[kind].append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return spent


def turn(number: int) -> tuple[str, ...]:
    """The kinds, each first every other time: what goes first may warm something for the other."""
    return KINDS if number % 2 else KINDS[::-1]


def show(rows: dict[str, Pair]) -> dict[str, dict[str, Timings | float]]:
    """Print one table; its rows for the report."""
    print(f"{'':<32}{'plain p50':>11}{'p99':>9}{'encrypted p50':>15}{'p99':>9}{'ratio of p50':>14}  ms")
    found: dict[str, dict[str, Timings | float]] = {}
    for name, pair in rows.items():
        plain, encrypted = (timings(pair[kind]) for kind in KINDS)
        ratio = encrypted["p50_ms"] / plain["p50_ms"]
        print(f"{name:<32}{plain['p50_ms']:11.2f}{plain['p99_ms']:9.2f}{encrypted['p50_ms']:15.2f}{encrypted['p99_ms']:9.2f}{ratio:14.2f}")
        found[name] = {"plain": plain, "encrypted": encrypted, "ratio_of_p50": ratio}
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000, help="size of the memory at which it is asked")
    parser.add_argument("--times", type=int, default=100, help="questions a mode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the memory files are made and removed again: the disk that is measured")
    parser.add_argument("--out", type=Path, default=Path("build/bench/memory_encryption.json"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        key_file = folder / "key"
        key_file.touch(0o600)
        key_file.write_text(np.random.default_rng(arguments.seed).bytes(32).hex() + "\n")
        chosen = {
            kind: MemorySettings(path=str(folder / f"{kind}.db"), key_file=str(key_file) if kind == "encrypted" else "") for kind in KINDS
        }
        memories = {kind: Memory.open(settings) for kind, settings in chosen.items()}
        try:
            for memory in memories.values():
                memory.begin_session("bench", "none", "benchmark", FIRST_NS)
            committed, seconds = fill(memories, arguments.records, rng)
            asked = ask(memories, rng, seconds, arguments.times)
            opened = open_and_ask(chosen, 5)
            megabytes = {kind: Path(settings.path).stat().st_size / 1e6 for kind, settings in chosen.items()}
        finally:
            for memory in memories.values():
                memory.close()
    rows = show({"commit a step": committed, **asked, "fresh process to first answer": opened})
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    print(f"files: {', '.join(f'{kind} {size:.0f} MB' for kind, size in megabytes.items())}; {arguments.records} records; {machine}")
    report = {"machine": machine, "records": arguments.records, "questions_a_mode": arguments.times, "file_mb": megabytes, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"→ {arguments.out}")


if __name__ == "__main__":
    main()
