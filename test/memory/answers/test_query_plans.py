"""No question reads all records: the plans of SQLite use an index for every kind of question."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_fixtures import begin, seconds, settings, step
from sqlite_utils import Database

from stream_vlm.memory.answers.question_kind import MODES, Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import ORDERS, Place, RecallQuery
from stream_vlm.types import Pose

FILTERS = {
    "words": RecallQuery("red ball"),
    "words and time": RecallQuery("ball", start_ns=seconds(5), end_ns=seconds(20)),
    "words and camera": RecallQuery("ball", cameras=("front",)),
    "words and place": RecallQuery("ball", place=Place(0.0, 0.0, 2.0)),
}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for at, said in ((1, "the red ball rolls in"), (9, "the red ball rolls away")):
            memory.write(step(at, said=said, pose=Pose("map", 1.0, 0.0, 0.0)))
        while memory.run_maintenance():
            pass
        yield memory


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plan of every SELECT that is run, one line for each step of a plan."""
    execute = Database.execute
    found: list[str] = []

    def explain(self: Database, sql: str, parameters: Any = None) -> Any:
        if sql.lstrip().startswith(("SELECT", "WITH")):
            steps = execute(self, f"EXPLAIN QUERY PLAN {sql}", parameters or {})
            found.extend(f"{detail} | {sql}" for *_, detail in steps)
        return execute(self, sql, *([parameters] if parameters is not None else []))

    monkeypatch.setattr(Database, "execute", explain)
    return found


def whole_tables(plans: list[str]) -> list[str]:
    """The steps that read all rows of a table that grows with every step of the robot."""
    return [
        plan
        for plan in plans
        for table in ("record", "picture", "sighting", "summary_covers", "record_vector")
        if plan.startswith(f"SCAN {table} ") and "VIRTUAL" not in plan.split("|")[0]
    ]


def test_a_plan_that_reads_all_records_is_found(memory: Memory, plans: list[str]) -> None:
    database = Database(memory.path)
    database.execute("SELECT session_id, min(text) FROM record GROUP BY session_id").fetchall()
    database.close()
    assert whole_tables(plans)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("mode", MODES)
def test_no_kind_of_question_reads_all_records(
    memory: Memory, plans: list[str], mode: str, filters: str
) -> None:
    memory.answer(Question(FILTERS[filters], mode))
    assert plans
    assert whole_tables(plans) == []


@pytest.mark.parametrize("order", ORDERS)
def test_no_search_for_words_reads_all_records(
    memory: Memory, plans: list[str], order: str
) -> None:
    memory.recall(RecallQuery("red ball", order=order))
    assert plans
    assert whole_tables(plans) == []
