"""Summaries in a real file: one a chunk and camera, linked with all that they cover, also after a restart, a kill and a full disk."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from judge_server import serve_judge
from memory_fixtures import SESSION, begin, locked_by_another_program, seconds, settings, step
from sqlite_utils import Database

from stream_vlm.cli import main
from stream_vlm.config import MemorySettings
from stream_vlm.memory import retention, store
from stream_vlm.memory.connections import Connections
from stream_vlm.memory.direct import DirectWriter
from stream_vlm.memory.errors import MemoryFileError
from stream_vlm.memory.file import open_for_writing
from stream_vlm.memory.forget import Forget
from stream_vlm.memory.opening import Opened
from stream_vlm.memory.recall import RecallQuery, RecallRecord
from stream_vlm.memory.store import Memory
from stream_vlm.memory.summaries import session_of
from stream_vlm.memory.writer import MemoryWriter
from stream_vlm.stream import NANOSECONDS

LONG_S = 30.0
"""Only a broken writer needs as long."""


def chunks_of(seconds_each: float, path: Path, **changes: object) -> MemorySettings:
    return MemorySettings.model_validate({**settings(path).model_dump(), "chunk_s": seconds_each, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def memory(path: Path) -> Iterator[Memory]:
    with Memory.open(chunks_of(10, path)) as memory:
        begin(memory)
        yield memory


def tend(memory: Memory) -> None:
    while memory.tend():
        pass


def summaries(memory: Memory) -> list[RecallRecord]:
    """Mid summaries and blocks, in the order of their beginnings."""
    found = memory.recall(RecallQuery(kinds=("summary",), order="oldest", limit=1000))
    assert found.total == len(found.records)
    return list(found.records)


def texts(memory: Memory, tier: str = "mid") -> list[str]:
    with sqlite3.connect(memory.path) as connection:
        numbers = {number for (number,) in connection.execute("SELECT record_id FROM summary WHERE tier = ?", [tier])}
    return [summary.text for summary in summaries(memory) if summary.record_id in numbers]


def covers(memory: Memory, record_id: int) -> set[int]:
    with sqlite3.connect(memory.path) as connection:
        return {number for (number,) in connection.execute("SELECT record_id FROM summary_covers WHERE summary_id = ?", [record_id])}


def raw(memory: Memory, camera: str = "front") -> set[int]:
    """Numbers of all that is no summary."""
    with sqlite3.connect(memory.path) as connection:
        return {number for (number,) in connection.execute("SELECT id FROM record WHERE kind <> 'summary' AND camera = ?", [camera])}


def test_each_chunk_of_each_camera_has_one_summary_that_covers_all_of_its_records(memory: Memory) -> None:
    for number in range(35):
        for camera in ("front", "rear"):
            memory.write(step(number, said=f"{camera} {number}" if number in (3, 12, 13, 34) else "", camera=camera))
            tend(memory)
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


def test_a_running_chunk_has_a_first_summary_before_its_end_that_is_completed_when_it_is_over(memory: Memory) -> None:
    for number in range(9):
        memory.write(step(number, said="a ball" if number == 5 else ""))
        tend(memory)
    assert summaries(memory) == []
    memory.write(step(9.2))
    tend(memory)
    (ahead,) = summaries(memory)
    assert ahead.text == "0:04–0:05 a ball"
    memory.write(step(9.6, said="a cup"))
    tend(memory)
    assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball"]
    memory.write(step(10))
    tend(memory)
    (complete,) = summaries(memory)
    assert (complete.record_id, complete.text) == (ahead.record_id, "0:04–0:05 a ball; 0:08–0:09 a cup")
    assert covers(memory, complete.record_id) == {number for number in raw(memory) if number != max(raw(memory))}


def test_an_answer_is_told_with_its_question_and_an_event_once(memory: Memory) -> None:
    memory.write(step(2, said="a ball rolls in"))
    memory.write(step(3, said="yes, a red one", asked="is there a ball?"))
    memory.end_session()
    assert texts(memory) == ["0:01–0:02 a ball rolls in; 0:03 “is there a ball?” yes, a red one"]


def test_mids_are_merged_into_long_blocks_and_the_history_tells_the_newest(path: Path) -> None:
    with Memory.open(chunks_of(10, path, mid_summaries=3, long_blocks=2)) as memory:
        begin(memory)
        for number in range(0, 120, 2):
            memory.write(step(number, said=f"thing {number // 10}" if number % 10 == 4 else ""))
            tend(memory)
        memory.end_session()
        assert texts(memory) == [f"0:03–0:04 thing {number}" for number in range(12)]
        assert texts(memory, "long") == [
            "; ".join(f"0:{10 * place + 3:02d}–0:{10 * place + 4:02d} thing {3 * block + place}" for place in range(3)) for block in range(3)
        ]
        told = [record.text.split("thing ", 1)[1] for record in memory.history("front")]
        assert [text.split(";")[0] for text in told] == ["3", "6", "9", "10", "11"]
        blocks = [one for one in summaries(memory) if ";" in one.text]
        assert all(len(covers(memory, block.record_id)) == 3 for block in blocks)


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_what_a_run_left_unsummarised_is_made_up_for_at_the_next_start(path: Path, how: str) -> None:
    if how == "killed":
        write_and_die = (
            "import os, signal, sys\n"
            "sys.path.insert(0, sys.argv[2])\n"
            "from memory_fixtures import begin, settings, step\n"
            "from stream_vlm.memory.store import Memory\n"
            "memory = Memory.open(settings(sys.argv[1]))\n"
            "begin(memory)\n"
            "for number in range(25):\n"
            "    memory.write(step(number, said='a ball' if number % 10 == 5 else ''))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        died = subprocess.run([sys.executable, "-c", write_and_die, str(path), str(Path(__file__).parent)])
        assert died.returncode == -signal.SIGKILL
    else:
        with Memory.open(chunks_of(10, path, summarizer="off")) as memory:
            begin(memory)
            for number in range(25):
                memory.write(step(number, said="a ball" if number % 10 == 5 else ""))
                tend(memory)
            memory.end_session()
            assert summaries(memory) == []
    with Memory.open(chunks_of(10, path)) as memory:
        begin(memory, "the next")
        tend(memory)
        assert texts(memory) == ["0:04–0:05 a ball", "0:04–0:05 a ball", "5× silence"]
        tend(memory)
        assert len(texts(memory)) == 3


def test_what_idle_work_asks_after_each_step_takes_no_more_work_in_a_larger_memory(memory: Memory, path: Path) -> None:
    def worked() -> int:
        steps = []
        with closing(sqlite3.connect(path)) as connection:
            db = Database(connection)
            newest = session_of(db, SESSION)  # the schema is read once
            connection.set_progress_handler(lambda: steps.append(1), 1)
            assert session_of(db, SESSION) == newest
        return len(steps)

    memory.write(step(0))
    small = worked()
    for index in range(1, 300):
        memory.write(step(0.1 * index))
    tend(memory)
    assert 0 < worked() < small + 20


def test_a_clock_that_jumps_back_ends_the_chunk_and_no_summary_spans_both_sessions(memory: Memory) -> None:
    for number in range(15):
        memory.write(step(number, said="before" if number == 12 else ""))
        tend(memory)
    begin(memory, "after the jump")
    memory.write(step(5, said="after", session="after the jump"))
    tend(memory)
    assert {(one.session_id, one.text) for one in summaries(memory)} == {(SESSION, "10× silence"), (SESSION, "0:01–0:02 before")}
    memory.end_session()
    for one in summaries(memory):
        with sqlite3.connect(memory.path) as connection:
            sessions = connection.execute(
                "SELECT DISTINCT session_id FROM record JOIN summary_covers ON record_id = id WHERE summary_id = ?", [one.record_id]
            ).fetchall()
        assert sessions == [(one.session_id,)]


def test_a_summary_goes_with_what_is_forgotten_and_is_made_again_without_it(memory: Memory) -> None:
    for number in range(25):
        memory.write(step(number, said={3: "a xylophone", 6: "a ball", 15: "a cup"}.get(number, "")))
        tend(memory)
    assert "xylophone" in texts(memory)[0]
    memory.forget(Forget(start_ns=seconds(2), end_ns=seconds(4)))
    assert not any("xylophone" in text for text in texts(memory))
    tend(memory)
    assert texts(memory) == ["0:05–0:06 a ball", "0:04–0:05 a cup"]
    assert b"xylophone" not in memory.path.read_bytes() + memory.path.with_name("memory.db-wal").read_bytes()


def test_a_summary_is_found_by_words_and_by_its_kind_only_when_asked_for(memory: Memory) -> None:
    for number in range(12):
        memory.write(step(number, said="a ball rolls in" if number == 4 else ""))
        tend(memory)
    assert {record.kind for record in memory.recall(RecallQuery("ball")).records} == {"event", "utterance"}
    (found,) = memory.recall(RecallQuery("rolling", kinds=("summary",))).records
    assert found.text == "0:03–0:04 a ball rolls in"
    assert memory.count() == 15


class Told:
    """Counts what the writer told."""

    def __init__(self) -> None:
        self.stored = 0
        self.failed = 0

    def writer(self, memory: Memory) -> MemoryWriter:
        return MemoryWriter(memory, lambda result: self._count("stored"), lambda result, error: self._count("failed"))

    def _count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)


def test_the_writers_thread_summarises_while_no_step_waits_and_the_rest_when_it_closes(path: Path) -> None:
    told = Told()
    with Memory.open(chunks_of(10, path)) as memory:
        writer = told.writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(25):
            writer.submit(step(number, said="a ball" if number == 22 else ""))
        assert writer.rest(LONG_S)
        assert texts(memory) == ["10× silence", "10× silence"]
        assert writer.health.idle.summarised == 2
        assert writer.health.rows == 25 + 2 + 2
        writer.close()
        assert texts(memory)[2:] == ["0:01–0:02 a ball"]
    assert told.stored == 25


def test_a_file_that_refuses_while_a_summary_is_made_loses_nothing_and_it_is_made_later(path: Path) -> None:
    told = Told()
    with Memory.open(chunks_of(10, path)) as memory:
        writer = told.writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        writer.submit(step(0))
        assert writer.rest(LONG_S)
        with locked_by_another_program(path):
            for number in range(1, 15):
                writer.submit(step(number))
            assert not writer.rest(0.2)
            assert summaries(memory) == []
        assert writer.rest(LONG_S)
        assert texts(memory) == ["10× silence"]
        assert writer.health.lost == 0
        writer.close()


def test_a_full_disk_while_summarising_is_said_loses_nothing_and_ends_when_there_is_room(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = open_for_writing(path, 0.0)
    told = Told()
    with Memory(chunks_of(10, path, summary_chars=8000), Opened(Connections(path, 0.0, db), 0)) as memory:
        begin(memory)
        for number in range(15):
            memory.write(step(number, said=" ".join(f"word{number}x{index}" for index in range(100))))
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        writer = told.writer(memory)
        full = threading.Event()
        for _ in range(300):
            if writer.health.idle_fault:
                full.set()
                break
            writer.rest(0.1)
        assert full.is_set() and "the disk is full" in writer.health.idle_fault
        assert summaries(memory) == [] and memory.count() == 45
        db.execute("PRAGMA max_page_count = 1000000")
        for _ in range(300):
            if texts(memory):
                break
            writer.rest(0.1)
        assert len(texts(memory)) == 1
        assert writer.rest(LONG_S)
        assert writer.health.idle_fault == ""
        writer.close()
    assert caplog.text.count("wait") == 1


def test_a_fault_in_the_idle_work_is_said_once_and_steps_are_stored_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    with Memory.open(chunks_of(10, path)) as memory:
        monkeypatch.setattr(store.IdleWork, "work", lambda self: 1 / 0)
        writer = told.writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(5):
            writer.submit(step(number))
            assert writer.flush(LONG_S)
        assert writer.rest(LONG_S)
        assert "division by zero" in writer.health.idle_fault
        writer.close()
    assert (told.stored, told.failed) == (5, 0)


def test_recorded_material_is_summarised_as_it_is_watched_and_to_its_end(path: Path) -> None:
    with Memory.open(chunks_of(10, path)) as memory:
        begin(memory)
        writer = DirectWriter(memory)
        for number in range(15):
            writer.submit(step(number))
        assert texts(memory) == ["10× silence"]
        writer.end_session()
        assert texts(memory) == ["10× silence", "5× silence"]


def with_endpoint(path: Path, url: str) -> MemorySettings:
    return chunks_of(10, path, summarizer="endpoint", summary_url=url, summary_model="wordy", summary_timeout_s=20.0)


def test_an_endpoint_puts_a_summary_better_and_is_told_only_what_was_recorded(path: Path) -> None:
    with serve_judge(lambda text: "<think>hm</think>In the end a cup stands there; before, a ball rolled by.") as server:
        with Memory.open(with_endpoint(path, server.url)) as memory:
            begin(memory)
            for number in range(12):
                memory.write(step(number, said={3: "a ball rolls in", 7: "a cup is put down"}.get(number, "")))
            memory.end_session(LONG_S, for_endpoint=True)
            first, second = summaries(memory)
            assert first.text == "In the end a cup stands there; before, a ball rolled by."
            assert first.model_id == "wordy"
            assert len(covers(memory, first.record_id)) == 14
            # Nothing happened in the second: there is nothing to put better.
            assert second.text == "2× silence"
            assert memory.idle_health.written == 1
            (found,) = memory.recall(RecallQuery("stands", kinds=("summary",))).records
            assert found.record_id == first.record_id
            assert memory.recall(RecallQuery("rolls 0:02", kinds=("summary",))).total == 1
        assert [request["messages"][1]["content"] for request in server.requests] == ["0:02 a ball rolls in\n0:06 a cup is put down"]
        assert server.requests[0]["model"] == "wordy"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (500, "no summary from the endpoint"),
        ("", "refused: it is empty"),
        ("Sorry, I cannot see anything.", "refused: it names nothing of what it should cover"),
        ("a ball " * 100, "refused: it has 699 characters, more than 400"),
        (b"{}", "no summary from the endpoint"),
    ],
    ids=["error", "empty", "about nothing", "too long", "another protocol"],
)
def test_what_an_endpoint_fails_to_write_leaves_the_records_words_and_is_said_once(
    path: Path, reply: str | int | bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serve_judge(lambda text: reply) as server, Memory.open(with_endpoint(path, server.url)) as memory:
        begin(memory)
        for number in range(25):
            memory.write(step(number, said="a ball" if number % 10 == 5 else ""))
        memory.end_session(LONG_S, for_endpoint=True)
        assert texts(memory) == ["0:04–0:05 a ball", "0:04–0:05 a ball", "5× silence"]
        assert said in memory.idle_health.fault
        assert memory.idle_health.failures == 2
    assert caplog.text.count("the summary keeps the records' own words") == 1


def test_what_was_forgotten_while_an_endpoint_wrote_about_it_is_not_stored(path: Path) -> None:
    asked, forgotten = threading.Event(), threading.Event()

    def reply(text: str) -> str:
        asked.set()
        forgotten.wait(LONG_S)
        return "A xylophone was played."

    with serve_judge(reply) as server, Memory.open(with_endpoint(path, server.url)) as memory:
        begin(memory)
        for number in range(12):
            memory.write(step(number, said="a xylophone is played" if number == 3 else ""))
        tend(memory)
        assert asked.wait(LONG_S)
        memory.forget(Forget(start_ns=seconds(2), end_ns=seconds(4)))
        forgotten.set()
        memory.end_session(LONG_S, for_endpoint=True)
        assert not any("xylophone" in text for text in texts(memory))
        assert memory.idle_health.written == 0


def test_an_endpoint_wakes_a_writer_that_nobody_feeds(path: Path) -> None:
    with serve_judge(lambda text: "There was a ball.") as server, Memory.open(with_endpoint(path, server.url)) as memory:
        writer = Told().writer(memory)
        writer.begin_session(SESSION, "model", "test", seconds(0))
        for number in range(12):
            writer.submit(step(number, said="a ball" if number == 3 else ""))
        for _ in range(300):
            if texts(memory)[:1] == ["There was a ball."]:
                break
            writer.rest(0.1)
            threading.Event().wait(0.1)
        assert texts(memory) == ["There was a ball."]
        writer.close()


@pytest.mark.parametrize("missing", ["summary_url", "summary_model"])
def test_an_endpoint_that_is_not_named_is_refused_at_the_start(path: Path, missing: str) -> None:
    chosen = with_endpoint(path, "http://localhost:1/v1").model_copy(update={missing: ""})
    with pytest.raises(MemoryFileError, match=f"memory.{missing}: is empty"):
        Memory.open(chosen)
    with Memory.open(settings(path)):
        """The file was let go."""


def test_the_shell_shows_summaries_what_was_dropped_and_what_is_gone(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PERIOD_S", 0.0)
    with Memory.open(chunks_of(600, path, keep_records_h=1.0)) as memory:
        begin(memory)
        for number in range(0, 7000, 100):
            memory.write(step(number, said="a ball rolls in" if number == 300 else ""))
            tend(memory)
        memory.end_session()
    assert main(["recall", "--kind", "summary", "--order", "oldest", "--limit", "1", "--memory", str(path)]) == 0
    said = capsys.readouterr().out
    assert "4:59–5:00 a ball rolls in (" in said and "of its records are gone)" in said
    assert main(["memory", "stats", "--memory", str(path)]) == 0
    said = capsys.readouterr().out
    assert "12 mid, 2 long; " in said and "of the records that they were made from are gone" in said
    assert "dropped since the file was made: " in said
    page = tmp_path / "day.html"
    assert main(["memory", "report", str(page), "--day", "2023-11-14", "--memory", str(path)]) == 0
    assert "4:59–5:00 a ball rolls in" in page.read_text(encoding="utf-8")
