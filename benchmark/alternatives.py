"""Measures other stores on the same rows and questions: emem, LanceDB, and a scan of every row.

    build/alternatives/bin/python benchmark/alternatives.py ROWS.jsonl --out build/bench/found.json

It needs numpy and the libraries that it measures. `benchmark/memory.py --alternatives` writes the
rows and runs this with another Python, so that the libraries do not mix with ours. None of the
stores uses a text model here: for all of them, words become vectors of 384 numbers by hashing. So
the store is timed and not a model.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 384
Row = dict[str, Any]
Found = dict[str, Any]


def embed(texts: list[str]) -> np.ndarray:
    """Embed texts: float32 (texts, 384), unit length; each word adds one to a hashed position."""
    vectors = np.zeros((len(texts), SIZE), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, zlib.crc32(word.encode()) % SIZE] += 1
    return np.asarray(
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32
    )


class Scan:
    """Rows in a SQLite table without an index; every question is a scan of all rows."""

    name, modes = "naive scan", ("words", "place", "time")

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "scan.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS row (t REAL, x REAL, y REAL, text TEXT)"
        )

    def add(self, row: Row) -> None:
        self._connection.execute(
            "INSERT INTO row VALUES (?, ?, ?, ?)", [row["t"], row["x"], row["y"], row["text"]]
        )

    def words(self, text: str) -> int:
        clause = " OR ".join("text LIKE ?" for _ in text.split())
        likely = [f"%{word}%" for word in text.split()]
        return len(
            self._connection.execute(
                f"SELECT * FROM row WHERE {clause} ORDER BY t DESC LIMIT 20", likely
            ).fetchall()
        )

    def place(self, x: float, y: float, radius: float) -> int:
        near = "(x - ?) * (x - ?) + (y - ?) * (y - ?) <= ? * ? ORDER BY t DESC LIMIT 20"
        return len(
            self._connection.execute(
                f"SELECT * FROM row WHERE {near}", [x, x, y, y, radius, radius]
            ).fetchall()
        )

    def time(self, start: float, end: float) -> int:
        return len(
            self._connection.execute(
                "SELECT * FROM row WHERE t BETWEEN ? AND ? ORDER BY t DESC LIMIT 20", [start, end]
            ).fetchall()
        )

    def close(self) -> None:
        self._connection.close()


class Emem:
    """emem as documented: add, semantic_search, spatial_query, temporal_query, recall."""

    name, modes = "emem", ("words", "place", "time", "fused")

    def __init__(self, folder: Path) -> None:
        import emem  # type: ignore[import-not-found, unused-ignore]
        from emem.embeddings import (  # type: ignore[import-not-found, unused-ignore]
            CallableEmbeddingProvider,
        )

        self._now = 0.0
        provider = CallableEmbeddingProvider(embed, dim=SIZE)
        self._memory = emem.SpatioTemporalMemory(
            db_path=str(folder / "emem.db"),
            embedding_provider=provider,
            get_current_time=lambda: self._now,
        )

    def add(self, row: Row) -> None:
        self._now = row["t"]
        self._memory.add(row["text"], x=row["x"], y=row["y"], timestamp=row["t"])

    def words(self, text: str) -> int:
        return len(self._memory.semantic_search(text, n_results=20))

    def place(self, x: float, y: float, radius: float) -> int:
        return len(self._memory.spatial_query(x, y, radius=radius, n_results=20))

    def time(self, start: float, end: float) -> int:
        return len(self._memory.store.temporal_query(time_range=(start, end), n_results=20))

    def fused(self, text: str) -> int:
        return len(self._memory.recall(text, n_results=20))

    def close(self) -> None:
        self._memory.close()


class Lance:
    """LanceDB, one table with a vector in each row; without an index the search is exact."""

    name, modes = "lancedb", ("words", "place", "time")

    def __init__(self, folder: Path) -> None:
        import lancedb  # type: ignore[import-not-found, unused-ignore]

        self._database = lancedb.connect(folder / "lance")
        existing = (folder / "lance" / "rows.lance").exists()
        self._table: Any = self._database.open_table("rows") if existing else None

    def add(self, row: Row) -> None:
        self.add_many([row])

    def add_many(self, rows: list[Row]) -> None:
        full = [
            {**row, "vector": vector}
            for row, vector in zip(rows, embed([row["text"] for row in rows]), strict=True)
        ]
        if self._table is None:
            self._table = self._database.create_table("rows", data=full)
        else:
            self._table.add(full)

    def words(self, text: str) -> int:
        return len(self._table.search(embed([text])[0]).limit(20).to_list())

    def place(self, x: float, y: float, radius: float) -> int:
        box = f"x BETWEEN {x - radius} AND {x + radius} AND y BETWEEN {y - radius} AND {y + radius}"
        return len(self._table.search().where(box).limit(20).to_list())

    def time(self, start: float, end: float) -> int:
        return len(self._table.search().where(f"t BETWEEN {start} AND {end}").limit(20).to_list())

    def close(self) -> None:
        self._table = None


ALTERNATIVES = {alternative.name: alternative for alternative in (Scan, Emem, Lance)}


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """p50, p99 and maximum."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "max_ms": round(max(milliseconds), 3),
    }


def questions(rows: list[Row], times: int, seed: int) -> dict[str, list[tuple[Any, ...]]]:
    """The same questions for every store, by kind."""
    rng = random.Random(seed)
    said = [row["text"] for row in rows if len(row["text"].split()) > 1]
    words = [(" ".join(rng.sample(rng.choice(said).split(), 2)),) for _ in range(times)]
    places = [(rng.uniform(0, 20), rng.uniform(0, 20), 1.0) for _ in range(times)]
    starts = [rng.choice(rows)["t"] for _ in range(times)]
    return {
        "words": words,
        "place": places,
        "time": [(start, start + 600.0) for start in starts],
        "fused": words,
    }


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Add the milliseconds of the block to `into`."""
    started = time.perf_counter()
    yield
    into.append((time.perf_counter() - started) * 1e3)


def measure(
    make: Callable[[Path], Any],
    modes: tuple[str, ...],
    rows: list[Row],
    times: int,
    folder: Path,
    one_by_one: int,
) -> Found:
    """Fill a store row by row and ask.

    A store with bulk loading gets only the last `one_by_one` rows singly; only these are timed.
    """
    store = make(folder)
    adding: list[float] = []
    bulk = rows[:-one_by_one] if hasattr(store, "add_many") else []
    if bulk:
        store.add_many(bulk)
    for row in rows[len(bulk) :]:
        with timed(adding):
            store.add(row)
    found: Found = {"rows": len(rows), "add": percentiles(adding), "added_singly": len(adding)}
    asked = questions(rows, times, 0)
    for mode in modes:
        took: list[float] = []
        for arguments in asked[mode]:
            with timed(took):
                getattr(store, mode)(*arguments)
        found[mode] = percentiles(took)
    closing: list[float] = []
    with timed(closing):
        store.close()
    found["close_ms"] = round(closing[0], 1)
    found["file_mb"] = round(
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1
    )
    return found


def open_and_ask(name: str, folder: Path, text: str) -> float:
    """Milliseconds from import to the first answer in a new process."""
    code = (
        "import sys, time; started = time.perf_counter(); sys.path.insert(0,"
        f" {str(Path(__file__).parent)!r}); import alternatives\n"
    )
    code += "from pathlib import Path\n"
    code += (
        f"alternatives.ALTERNATIVES[{name!r}](Path({str(folder)!r})).words({text!r});"
        " print((time.perf_counter() - started) * 1e3)"
    )
    return float(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
    )


def main() -> None:
    """Measure every store that is installed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, help="JSON lines: t (s), x, y (m), text")
    parser.add_argument("--times", type=int, default=200, help="questions of each kind")
    parser.add_argument(
        "--one-by-one",
        type=int,
        default=500,
        help="rows that a store with bulk loading gets one by one",
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.rows.read_text().split("\n") if line]
    report: dict[str, Found] = {}
    for name, alternative in ALTERNATIVES.items():
        with tempfile.TemporaryDirectory(dir=arguments.rows.parent) as folder:
            try:
                found = measure(
                    alternative,
                    alternative.modes,
                    rows,
                    arguments.times,
                    Path(folder),
                    arguments.one_by_one,
                )
            except ImportError as error:
                report[name] = {"not measured": str(error)}
                continue
            found["open_to_first_answer_ms"] = round(
                min(open_and_ask(name, Path(folder), "red ball") for _ in range(3)), 1
            )
            found["version"] = (
                "SQLite " + sqlite3.sqlite_version
                if alternative is Scan
                else importlib.metadata.version(name)
            )
        report[name] = found
        print(name, json.dumps(found), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
