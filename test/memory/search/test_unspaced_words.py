"""Words inside sentences of scripts without spaces are found, and only where they stand."""

import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from memory_fixtures import begin, seconds, settings, step

from stream_vlm.memory.answers.prompt_recall import recall_for_prompt
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.maintenance.export_import import export_lines
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.storage import schema
from stream_vlm.memory.storage.file import open_for_reading

SENTENCES = (
    "一个红球滚进了房间",
    "门开了",
    "红色的门",
    "白い球",
    "赤いボールが転がる",
    "ドアが開いた",
    "빨간 공이 굴러 들어온다",
    "아이가 공을 던진다",
    "ไฟสีแดงเปิดอยู่",
    "ประตูปิดแล้ว",
    "ປະຕູເປີດ",
    "ទ្វារបើក",
    "တံခါးဖွင့်သည်",
    "有人打开door了",
    "लाल गेंद अंदर आई",
    "das Café öffnet",
    "cửa mở ra",
    "die Straße ist leer",
    "the door opens",
)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as opened:
        begin(opened)
        for at, sentence in enumerate(SENTENCES):
            opened.write(step(at, said=sentence))
        yield opened


def found(memory: Memory, words: str) -> set[str]:
    return {record.text for record in memory.recall(RecallQuery(words)).records}


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        ("红球", {"一个红球滚进了房间"}),
        ("球", {"一个红球滚进了房间", "白い球"}),
        ("门", {"门开了", "红色的门"}),
        ("房间", {"一个红球滚进了房间"}),
        ("红球滚进", {"一个红球滚进了房间"}),
        ("一个红球滚进了房间", {"一个红球滚进了房间"}),
        ("ボール", {"赤いボールが転がる"}),
        ("ﾎﾞｰﾙ", {"赤いボールが転がる"}),
        ("ドア", {"ドアが開いた"}),
        ("開", {"ドアが開いた"}),
        ("공", {"빨간 공이 굴러 들어온다", "아이가 공을 던진다"}),
        ("공을", {"아이가 공을 던진다"}),
        ("빨간", {"빨간 공이 굴러 들어온다"}),
        ("ไฟ", {"ไฟสีแดงเปิดอยู่"}),
        ("สีแดง", {"ไฟสีแดงเปิดอยู่"}),
        ("สี", {"ไฟสีแดงเปิดอยู่"}),
        ("ประตู", {"ประตูปิดแล้ว"}),
        ("ເປີດ", {"ປະຕູເປີດ"}),
        ("ទ្វារ", {"ទ្វារបើក"}),
        ("တံခါး", {"တံခါးဖွင့်သည်"}),
        ("打开", {"有人打开door了"}),
        ("door", {"有人打开door了", "the door opens"}),
        ("\uff44\uff4f\uff4f\uff52", {"有人打开door了", "the door opens"}),
        ("गेंद", {"लाल गेंद अंदर आई"}),
        ("cafe", {"das Café öffnet"}),
        ("CAFÉ", {"das Café öffnet"}),
        ("cua", {"cửa mở ra"}),
        ("straße", {"die Straße ist leer"}),
        ("STRASSE", {"die Straße ist leer"}),
        ("opened", {"the door opens"}),
        ("窗", set()),
        ("球红", set()),
        ("สู", set()),
    ],
)
def test_a_word_is_found_inside_a_sentence_and_nowhere_else(
    memory: Memory, words: str, sentences: set[str]
) -> None:
    assert found(memory, words) == sentences
    assert found(memory, unicodedata.normalize("NFD", words)) == sentences


def test_the_event_and_its_utterance_are_both_found(memory: Memory) -> None:
    assert memory.recall(RecallQuery("红球")).total == 2


def test_a_question_without_spaces_finds_the_records_with_its_parts(memory: Memory) -> None:
    assert memory.recall(RecallQuery("你看到红球了吗")).records[0].text == "一个红球滚进了房间"
    recalled = recall_for_prompt(memory, RecallQuery("红球在哪里？"), 5)
    assert recalled.has_match
    assert "no record" not in recalled.sentence(seconds(100))
    assert "一个红球滚进了房间" in recalled.sentence(seconds(100))


def test_an_answer_is_computed_for_a_word_inside_a_sentence(memory: Memory) -> None:
    answer = memory.answer(Question(RecallQuery("how often did you see 红球?")))
    assert (answer.value, answer.records[0].text) == (1.0, "一个红球滚进了房间")
    assert memory.answer(Question(RecallQuery("when did you last see 红球?"))).known


def test_a_forgotten_sentence_leaves_no_word_in_the_index(memory: Memory) -> None:
    memory.forget(Forget(end_ns=seconds(0.5)))
    assert found(memory, "红球") == set()
    with sqlite3.connect(memory.path) as connection:
        connection.execute("INSERT INTO record_text (record_text) VALUES ('integrity-check')")
    assert "红球".encode() not in memory.path.read_bytes()


def test_a_file_of_an_older_version_is_indexed_again_when_it_is_opened_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [one.__name__ for one in schema.MIGRATIONS].index("_v5_words_of_every_script")
    path = tmp_path / "old.db"
    with monkeypatch.context() as older:
        older.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
        older.setattr(schema, "SCHEMA_VERSION", before)
        older.setattr("stream_vlm.memory.insert_rows.indexed_text", lambda text: None)
        with Memory.open(settings(path)) as memory:
            begin(memory)
            for at, sentence in enumerate(SENTENCES):
                memory.write(step(at, said=sentence))
            assert found(memory, "红球") == set()
    with Memory.open(settings(path)) as memory:
        assert found(memory, "红球") == {"一个红球滚进了房间"}
        assert found(memory, "opened") == {"the door opens"}
        begin(memory, "tuesday")
        memory.write(step(100, said="红球滚走了", session="tuesday"))
        assert found(memory, "红球") == {"一个红球滚进了房间", "红球滚走了"}
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO record_text (record_text) VALUES ('integrity-check')")


def test_an_export_and_its_import_find_the_same_words(memory: Memory, tmp_path: Path) -> None:
    with closing(open_for_reading(memory.path, 1.0)) as db:
        (tmp_path / "day.jsonl").write_bytes(b"".join(export_lines(db)))
    with Memory.open(settings(tmp_path / "copy.db")) as copy:
        copy.import_from(tmp_path / "day.jsonl")
        assert found(copy, "红球") == {"一个红球滚进了房间"}
