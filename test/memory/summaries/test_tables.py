"""Summaries in a real file: one per chunk and camera, linked to its records, also after a kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_fixtures import SESSION, begin, looking_into, seconds, step
from places import SUPPORT
from sqlite_utils import Database
from summary_fixtures import chunks_of, covers, run_idle_work, summaries, texts

from stream_vlm.cli import main
from stream_vlm.memory.maintenance import retention
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.summaries.schedule import Chunk, Plan
from stream_vlm.memory.summaries.tables import chunk_source, session_span, uncovered_chunks
from stream_vlm.types import NANOSECONDS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def memory(path: Path) -> Iterator[Memory]:
    with Memory.open(chunks_of(10, path)) as memory:
        begin(memory)
        yield memory


def raw(memory: Memory, camera: str = "front") -> set[int]:
    """Return the numbers of all records that are not summaries."""
    with sqlite3.connect(memory.path) as connection:
        return {
            number
            for (number,) in connection.execute(
                "SELECT id FROM record WHERE kind <> 'summary' AND camera = ?", [camera]
            )
        }


def test_each_chunk_of_a_camera_has_one_summary_that_covers_all_of_its_records(
    memory: Memory,
) -> None:
    for number in range(35):
        for camera in ("front", "rear"):
            memory.write(
                step(
                    number,
                    said=f"{camera} {number}" if number in (3, 12, 13, 34) else "",
                    camera=camera,
                )
            )
            run_idle_work(memory)
    memory.end_session()
    for camera in ("front", "rear"):
        mine = [summary for summary in summaries(memory) if summary.camera == camera]
        assert [(one.start_ns - seconds(0)) / NANOSECONDS for one in mine] == [0, 10, 20, 30]
        assert [(one.end_ns - seconds(0)) / NANOSECONDS for one in mine] == [9, 19, 29, 34]
        assert [one.text for one in mine] == [
            f"0:02–0:03 {camera} 3",
            f"0:01–0:02 {camera} 12; 0:02–0:03 {camera} 13",
            "10× silence",
            f"0:03–0:04 {camera} 34",
        ]
        assert {one.model_id for one in mine} == {"extractive"}
        linked = [covers(memory, one.record_id) for one in mine]
        assert sum(len(one) for one in linked) == len(set().union(*linked))
        assert set().union(*linked) == raw(memory, camera)


def records_of(db: Database, chunk: Chunk, plan: Plan) -> tuple[int, ...]:
    """Return the numbers of the records that the summary of `chunk` is made from."""
    source = chunk_source(db, chunk, seconds(0), plan)
    assert source is not None
    return source.records


@given(
    chunk_s=st.integers(1, 3600),
    after_s=st.lists(st.floats(-5000, 40_000), min_size=1, max_size=12),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_every_record_of_a_session_belongs_to_exactly_one_chunk(
    chunk_s: int, after_s: list[float]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        with Memory.open(chunks_of(chunk_s, path)) as memory:
            begin(memory)
            for stamp in sorted(after_s):
                memory.write(step(stamp))
        with looking_into(path) as connection:
            db, plan = Database(connection), Plan(chunk_s * NANOSECONDS, 5, 42)
            chunks, _ = uncovered_chunks(db, 0, 1000, plan)
            chunk_of = {
                record: chunk.number for chunk in chunks for record in records_of(db, chunk, plan)
            }
            ends = dict(db.execute("SELECT id, end_ns FROM record").fetchall())
    # A stamp before the session's start belongs to its first chunk.
    assert chunk_of == {
        record: max(0, (end_ns - seconds(0)) // (chunk_s * NANOSECONDS))
        for record, end_ns in ends.items()
    }
    assert {chunk.number for chunk in chunks} == set(chunk_of.values())


def test_a_running_chunk_gets_a_first_summary_that_is_completed_at_its_end(
    memory: Memory,
) -> None:
    for number in range(9):
        memory.write(step(number, said="a ball" if number == 5 else ""))
        run_idle_work(memory)
    assert summaries(memory) == []
    memory.write(step(9.2))
    run_idle_work(memory)
    (ahead,) = summaries(memory)
    assert ahead.text == "0:04–0:05 a ball"
    memory.write(step(9.6, said="a cup"))
    run_idle_work(memory)
    assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball"]
    memory.write(step(10))
    run_idle_work(memory)
    (complete,) = summaries(memory)
    assert (complete.record_id, complete.text) == (
        ahead.record_id,
        "0:04–0:05 a ball; 0:08–0:09 a cup",
    )
    assert covers(memory, complete.record_id) == {
        number for number in raw(memory) if number != max(raw(memory))
    }


def test_a_summary_has_an_answer_with_its_question_and_an_event_once(memory: Memory) -> None:
    memory.write(step(2, said="a ball rolls in"))
    memory.write(step(3, said="yes, a red one", asked="is there a ball?"))
    memory.end_session()
    assert texts(memory) == ["0:01–0:02 a ball rolls in; 0:03 “is there a ball?” yes, a red one"]


def test_mid_summaries_are_merged_into_long_blocks_and_the_history_has_the_newest(
    path: Path,
) -> None:
    with Memory.open(chunks_of(10, path, chunk_summaries=3, merged_summaries=2)) as memory:
        begin(memory)
        for number in range(0, 120, 2):
            memory.write(step(number, said=f"thing {number // 10}" if number % 10 == 4 else ""))
            run_idle_work(memory)
        memory.end_session()
        assert texts(memory) == [f"0:03–0:04 thing {number}" for number in range(12)]
        assert texts(memory, "long") == [
            "; ".join(
                f"0:{10 * place + 3:02d}–0:{10 * place + 4:02d} thing {3 * block + place}"
                for place in range(3)
            )
            for block in range(3)
        ]
        numbers = [record.text.split("thing ", 1)[1] for record in memory.history("front")]
        assert [text.split(";")[0] for text in numbers] == ["3", "6", "9", "10", "11"]
        blocks = [one for one in summaries(memory) if ";" in one.text]
        assert all(len(covers(memory, block.record_id)) == 3 for block in blocks)


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_chunks_left_without_summary_are_summarised_at_the_next_start(path: Path, how: str) -> None:
    if how == "killed":
        write_and_die = (
            "import os, signal, sys\n"
            "sys.path.insert(0, sys.argv[2])\n"
            "from memory_fixtures import begin, settings, step\n"
            "from stream_vlm.memory.memory import Memory\n"
            "memory = Memory.open(settings(sys.argv[1]))\n"
            "begin(memory)\n"
            "for number in range(25):\n"
            "    memory.write(step(number, said='a ball' if number % 10 == 5 else ''))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        died = subprocess.run([sys.executable, "-c", write_and_die, str(path), str(SUPPORT)])
        assert died.returncode == -signal.SIGKILL
    else:
        with Memory.open(chunks_of(10, path, summarizer="off")) as memory:
            begin(memory)
            for number in range(25):
                memory.write(step(number, said="a ball" if number % 10 == 5 else ""))
                run_idle_work(memory)
            memory.end_session()
            assert summaries(memory) == []
    with Memory.open(chunks_of(10, path)) as memory:
        begin(memory, "the next")
        run_idle_work(memory)
        assert texts(memory) == ["0:04–0:05 a ball", "0:04–0:05 a ball", "5× silence"]
        run_idle_work(memory)
        assert len(texts(memory)) == 3


def test_the_queries_of_idle_work_after_a_step_do_not_grow_with_the_memory(
    memory: Memory, path: Path
) -> None:
    def worked() -> int:
        steps = []
        with closing(sqlite3.connect(path)) as connection:
            db = Database(connection)
            newest = session_span(db, SESSION)  # the schema is read once
            connection.set_progress_handler(lambda: steps.append(1), 1)
            assert session_span(db, SESSION) == newest
        return len(steps)

    memory.write(step(0))
    small = worked()
    for index in range(1, 300):
        memory.write(step(0.1 * index))
    run_idle_work(memory)
    assert 0 < worked() < small + 20


def test_a_clock_jump_ends_the_chunk_and_no_summary_spans_both_sessions(
    memory: Memory,
) -> None:
    for number in range(15):
        memory.write(step(number, said="before" if number == 12 else ""))
        run_idle_work(memory)
    begin(memory, "after the jump")
    memory.write(step(5, said="after", session="after the jump"))
    run_idle_work(memory)
    assert {(one.session_id, one.text) for one in summaries(memory)} == {
        (SESSION, "10× silence"),
        (SESSION, "0:01–0:02 before"),
    }
    memory.end_session()
    for one in summaries(memory):
        with sqlite3.connect(memory.path) as connection:
            sessions = connection.execute(
                "SELECT DISTINCT session_id FROM record JOIN summary_covers ON record_id = id WHERE"
                " summary_id = ?",
                [one.record_id],
            ).fetchall()
        assert sessions == [(one.session_id,)]


def test_a_summary_of_deleted_records_is_deleted_and_made_again_without_them(
    memory: Memory,
) -> None:
    for number in range(25):
        memory.write(
            step(number, said={3: "a xylophone", 6: "a ball", 15: "a cup"}.get(number, ""))
        )
        run_idle_work(memory)
    assert "xylophone" in texts(memory)[0]
    memory.forget(Forget(start_ns=seconds(2), end_ns=seconds(4)))
    assert not any("xylophone" in text for text in texts(memory))
    run_idle_work(memory)
    assert texts(memory) == ["0:05–0:06 a ball", "0:04–0:05 a cup"]
    assert (
        b"xylophone"
        not in memory.path.read_bytes() + memory.path.with_name("memory.db-wal").read_bytes()
    )


def test_a_summary_is_found_by_its_words_only_if_its_kind_is_requested(memory: Memory) -> None:
    for number in range(12):
        memory.write(step(number, said="a ball rolls in" if number == 4 else ""))
        run_idle_work(memory)
    assert {record.kind for record in memory.recall(RecallQuery("ball")).records} == {
        "event",
        "utterance",
    }
    (found,) = memory.recall(RecallQuery("rolling", kinds=("summary",))).records
    assert found.text == "0:03–0:04 a ball rolls in"
    assert memory.count() == 15


def test_the_command_line_shows_summaries_and_what_was_dropped(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PERIOD_S", 0.0)
    with Memory.open(chunks_of(600, path, keep_records_h=1.0)) as memory:
        begin(memory)
        for number in range(0, 7000, 100):
            memory.write(step(number, said="a ball rolls in" if number == 300 else ""))
            run_idle_work(memory)
        memory.end_session()
    assert (
        main(
            [
                "recall",
                "--kind",
                "summary",
                "--order",
                "oldest",
                "--limit",
                "1",
                "--memory",
                str(path),
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "4:59–5:00 a ball rolls in (" in said
    assert "of its records are deleted)" in said
    assert main(["memory", "stats", "--memory", str(path)]) == 0
    said = capsys.readouterr().out
    assert "12 mid, 2 long; " in said
    assert "of the records that they were made from are deleted" in said
    assert "dropped by retention since the file was made: " in said
    page = tmp_path / "day.html"
    assert main(["memory", "report", str(page), "--day", "2023-11-14", "--memory", str(path)]) == 0
    assert "4:59–5:00 a ball rolls in" in page.read_text(encoding="utf-8")
