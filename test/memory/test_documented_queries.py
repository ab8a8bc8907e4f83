"""The queries and code of docs/memory.md work."""

import re
import sqlite3
from pathlib import Path

import pytest
import yaml
from memory_fixtures import begin, settings, step
from places import REPOSITORY

from stream_vlm.memory.memory import Memory
from stream_vlm.types import Pose

PAGE = (REPOSITORY / "docs" / "memory.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a `memory.db`: a red ball near (2, 1.5), and a summary of it."""
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        memory.write(step(1, said="red ball rolls in", pose=Pose("map", 2.0, 1.25, 0.0)))
        memory.end_session()
    return tmp_path


@pytest.mark.parametrize(
    "query", blocks("sql"), ids=lambda query: query.splitlines()[0].removeprefix("-- ")
)
def test_each_query_of_the_page_runs_in_sqlite_and_finds_something(
    folder: Path, query: str
) -> None:
    with sqlite3.connect(f"file:{folder / 'memory.db'}?mode=ro", uri=True) as tool:
        assert tool.execute(query).fetchall()


def test_the_python_of_the_page_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (example,) = blocks("python")
    exec(example, {})
    assert "red ball rolls in" in capsys.readouterr().out


def test_the_page_names_every_table_and_column(folder: Path) -> None:
    with sqlite3.connect(folder / "memory.db") as tool:
        tables = [
            name
            for (name,) in tool.execute(
                "SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE%STRICT%'"
            )
        ]
        assert "record" in tables
        for table in tables:
            for _, column, *_ in tool.execute(f"PRAGMA table_info({table})"):
                assert re.search(rf"\b{column}\b", PAGE), f"{table}.{column}"


DATASETTE = yaml.safe_load((REPOSITORY / "config" / "datasette.yaml").read_text())["databases"][
    "memory"
]


@pytest.mark.parametrize("name", DATASETTE["queries"])
def test_each_saved_query_of_datasette_runs_and_finds_something(folder: Path, name: str) -> None:
    asked = {
        "words": "ball",
        "start": "2000-01-01",
        "end": "2100-01-01",
        "x": 2.0,
        "y": 1.0,
        "radius": 1.0,
        "frame": "map",
        "session": "",
    }
    with sqlite3.connect(f"file:{folder / 'memory.db'}?mode=ro", uri=True) as tool:
        assert tool.execute(DATASETTE["queries"][name]["sql"], asked).fetchall()


def test_the_datasette_settings_name_existing_tables_and_columns(folder: Path) -> None:
    with sqlite3.connect(folder / "memory.db") as tool:
        for table, told in DATASETTE["tables"].items():
            columns = {column for _, column, *_ in tool.execute(f"PRAGMA table_info({table})")}
            assert columns
            assert set(told.get("columns", {})) | set(told.get("facets", [])) <= columns
