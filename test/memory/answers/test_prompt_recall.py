"""What is recalled for a question from a real file: the computed answer, records and summaries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_fixtures import SESSION, START_NS, looking_into, seconds, settings, step

from stream_vlm.config.settings import load_settings
from stream_vlm.memory.answers.prompt_recall import (
    PromptRecall,
    PromptRecaller,
    is_about_the_past,
    recall_for_prompt,
)
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.summaries.newest import NewestSummaries
from stream_vlm.time_words import moment
from stream_vlm.types import RecalledContext

HAPPENED = [
    (10, "red ball rolls in"),
    (20, "door opens"),
    (30, "red ball rolls away"),
    (40, "person in blue enters"),
]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as opened:
        opened.begin_session(SESSION, "model", "start", START_NS)
        for at, said in HAPPENED:
            opened.write(step(at, said=said))
        yield opened


@pytest.mark.parametrize(
    "question",
    [
        "when did the door open?",
        "When was it bright?",
        "how often did the ball roll in?",
        "how many times did someone enter?",
        "how long was the lamp on?",
        "did anyone come in?",
        "have you seen my keys?",
        "has the door been opened?",
        "what happened before the door opened?",
        "where did you last see the cup?",
        "who came after lunch?",
        "was the door open five minutes ago?",
    ],
)
def test_a_question_in_the_past_tense_is_about_the_past(question: str) -> None:
    assert is_about_the_past(question)


@pytest.mark.parametrize(
    "question",
    [
        "is the door open?",
        "is the ball still there?",
        "are there people in the room?",
        "what colour is the cup?",
        "how many cups are on the table?",
        "where is the red ball?",
        "what do you see?",
        "who is at the door?",
        "what stands between the cups?",
        "how bright is it?",
    ],
)
def test_a_question_about_what_can_be_seen_is_about_now(question: str) -> None:
    assert not is_about_the_past(question)


def test_the_evidence_of_the_computed_answer_comes_first(memory: Memory) -> None:
    found = recall_for_prompt(memory, RecallQuery("when did you last see the red ball?"), 20)
    assert found.is_known
    assert found.has_match
    assert found.was_asked
    assert [record.text for record in found.records] == ["red ball rolls away", "red ball rolls in"]
    context = found.context(seconds(150))
    assert context.computed == f"last: red ball rolls away, at {moment(seconds(30))} (2 min ago)"
    assert [(one.end_ns, one.text) for one in context.lines] == [
        (seconds(30), "red ball rolls away"),
        (seconds(10), "red ball rolls in"),
    ]


def test_an_event_and_the_utterance_that_reports_it_are_recalled_once(memory: Memory) -> None:
    found = recall_for_prompt(memory, RecallQuery("the door?"), 20)
    assert [record.text for record in found.records] == ["door opens"]


def test_a_question_without_words_recalls_the_newest_records(memory: Memory) -> None:
    for question in ("what do you see?", "tell me"):
        found = recall_for_prompt(memory, RecallQuery(question), 2)
        assert [record.text for record in found.records] == [
            "person in blue enters",
            "red ball rolls away",
        ]


def test_what_happened_without_a_time_recalls_the_newest_events_in_order(
    memory: Memory,
) -> None:
    for at in range(100, 160, 3):
        memory.write(step(at, said=f"knock {at}"))
    found = recall_for_prompt(memory, RecallQuery("what happened?"), 20)
    assert found.sentence(seconds(200)) == "; then ".join(
        f"knock {at}" for at in range(130, 160, 3)
    )


def test_an_object_without_records_is_not_known(memory: Memory) -> None:
    zebra = recall_for_prompt(memory, RecallQuery("when did you see the zebra?"), 20)
    assert (zebra.is_known, zebra.has_match, zebra.records) == (False, False, ())
    assert zebra.sentence(seconds(60)) == "I do not know: the memory has no record of it"
    assert zebra.context(seconds(60)) == RecalledContext()
    near = recall_for_prompt(memory, RecallQuery("when did the green ball roll in?"), 20)
    assert not near.is_known
    assert near.has_match
    assert (
        near.sentence(seconds(60)) == "I do not know; the closest record is: 'red ball rolls away'"
    )


def test_the_filters_of_a_question_apply_to_what_is_recalled(memory: Memory) -> None:
    early = recall_for_prompt(
        memory, RecallQuery("when did you last see the red ball?", end_ns=seconds(25)), 20
    )
    assert [record.text for record in early.records] == ["red ball rolls in"]


def test_only_the_setting_recall_adds_records_to_a_prompt(memory: Memory) -> None:
    for in_prompt in ("recall", "full_history", "off"):
        recaller = PromptRecaller(memory, load_settings({"memory.in_prompt": in_prompt}))
        found = recaller.recall("when did the door open?")
        assert found.is_known, "the evidence is there in any case"
        assert bool(recaller.context(found, seconds(60))) is (in_prompt == "recall")


def test_a_question_that_the_memory_refuses_goes_to_the_model_without_recall(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    recaller = PromptRecaller(memory, load_settings({}))
    assert recaller.recall("word " * 300) == PromptRecall()
    assert "the memory cannot be searched for 'word word" in caplog.text


def test_a_question_to_a_camera_recalls_only_what_that_camera_saw(memory: Memory) -> None:
    memory.write(step(50, said="door opens", camera="rear"))
    recaller = PromptRecaller(memory, load_settings({}))
    assert {record.camera for record in recaller.recall("when did the door open?").records} == {
        "front",
        "rear",
    }
    assert {
        record.camera for record in recaller.recall("when did the door open?", "rear").records
    } == {"rear"}


def summarise(
    memory: Memory, at: float, text: str, tier: str = "mid", camera: str = "front"
) -> None:
    """Store a summary as the idle work does: a record, and a row with its tier."""
    with looking_into(memory.path) as db:
        db.execute(
            "INSERT INTO record (kind, camera, session_id, frame_id, start_ns, end_ns, text, state,"
            " confidence, event_id, query_id, model_id) VALUES ('summary', ?, ?, '', ?, ?, ?, '',"
            " 1.0, '', '', 'model')",
            [camera, SESSION, seconds(at), seconds(at + 5), text],
        )
        db.execute("INSERT INTO summary (record_id, tier) SELECT max(id), ? FROM record", [tier])


def test_the_chunk_summaries_of_a_camera_are_listed_oldest_first(
    memory: Memory,
) -> None:
    newest_summaries = NewestSummaries(memory)
    newest_summaries.refresh()
    assert newest_summaries.lines("front") == []
    summarise(memory, 5, "a ball came and went")
    summarise(memory, 0, "nothing yet")
    summarise(memory, 0, "a quiet morning", tier="long")
    summarise(memory, 5, "a wall", camera="rear")
    assert newest_summaries.lines("front") == [], "the lines change only with a refresh"
    newest_summaries.refresh()
    assert newest_summaries.lines("front") == [
        f"{moment(seconds(0))}-{moment(seconds(5))} nothing yet",
        f"{moment(seconds(5))}-{moment(seconds(10))} a ball came and went",
    ]


def test_summaries_are_recalled_after_records(memory: Memory) -> None:
    summarise(memory, 50, "0:10 red ball rolls in; 0:30 red ball rolls away; 0:40 zebra walks by")
    found = recall_for_prompt(memory, RecallQuery("the red ball?"), 20)
    assert [record.kind for record in found.records] == ["event", "event", "summary"]
    forgotten = recall_for_prompt(memory, RecallQuery("when did a zebra walk by?"), 20)
    assert forgotten.has_match
    assert [record.kind for record in forgotten.records] == ["summary"]


def test_summaries_read_before_are_kept_if_the_file_cannot_be_read(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    summarise(memory, 5, "a ball came and went")
    newest_summaries = NewestSummaries(memory)
    newest_summaries.refresh()
    memory.close()
    newest_summaries.refresh()
    assert len(newest_summaries.lines("front")) == 1
    assert "cannot be read, older ones are used" in caplog.text


def test_summaries_are_not_read_again_before_they_are_due(memory: Memory) -> None:
    newest_summaries = NewestSummaries(memory)
    newest_summaries.refresh_when_due()
    summarise(memory, 5, "a ball came and went")
    newest_summaries.refresh_when_due()
    assert newest_summaries.lines("front") == []
