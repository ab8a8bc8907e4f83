"""What bears on a question, read from a real file: computed where it can be, then the records
nearest to it; and the summaries beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_fixtures import SESSION, START_NS, seconds, settings, step

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
def test_a_question_that_looks_back_is_about_the_past(question: str) -> None:
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


def test_the_computed_answer_and_what_it_rests_on_come_first(memory: Memory) -> None:
    found = recall_for_prompt(memory, RecallQuery("when did you last see the red ball?"), 20)
    assert found.is_known
    assert found.has_match
    assert found.was_asked
    assert [record.text for record in found.records] == ["red ball rolls away", "red ball rolls in"]
    past = found.context(seconds(150))
    assert past.computed == f"last: red ball rolls away, at {moment(seconds(30))} (2 min ago)"
    assert [(one.end_ns, one.text) for one in past.remembered] == [
        (seconds(30), "red ball rolls away"),
        (seconds(10), "red ball rolls in"),
    ]


def test_an_event_and_the_utterance_that_reports_it_are_recalled_once(memory: Memory) -> None:
    found = recall_for_prompt(memory, RecallQuery("the door?"), 20)
    assert [record.text for record in found.records] == ["door opens"]


def test_a_question_without_words_brings_the_newest(memory: Memory) -> None:
    for question in ("what do you see?", "tell me"):
        found = recall_for_prompt(memory, RecallQuery(question), 2)
        assert [record.text for record in found.records] == [
            "person in blue enters",
            "red ball rolls away",
        ]


def test_who_asks_what_happened_and_not_when_is_told_the_newest_in_their_order(
    memory: Memory,
) -> None:
    for at in range(100, 160, 3):
        memory.write(step(at, said=f"knock {at}"))
    found = recall_for_prompt(memory, RecallQuery("what happened?"), 20)
    assert found.sentence(seconds(200)) == "; then ".join(
        f"knock {at}" for at in range(130, 160, 3)
    )


def test_what_is_not_remembered_is_said_not_to_be_known(memory: Memory) -> None:
    zebra = recall_for_prompt(memory, RecallQuery("when did you see the zebra?"), 20)
    assert (zebra.is_known, zebra.has_match, zebra.records) == (False, False, ())
    assert zebra.sentence(seconds(60)) == "I do not know: nothing remembered bears on it"
    assert zebra.context(seconds(60)) == RecalledContext()
    near = recall_for_prompt(memory, RecallQuery("when did the green ball roll in?"), 20)
    assert not near.is_known
    assert near.has_match
    assert (
        near.sentence(seconds(60))
        == "I do not know; the nearest that is remembered: 'red ball rolls away'"
    )


def test_the_filters_of_a_question_hold_for_what_is_recalled(memory: Memory) -> None:
    early = recall_for_prompt(
        memory, RecallQuery("when did you last see the red ball?", end_ns=seconds(25)), 20
    )
    assert [record.text for record in early.records] == ["red ball rolls in"]


def test_only_recall_brings_something_to_a_question(memory: Memory) -> None:
    for in_prompt in ("recall", "full_history", "off"):
        recaller = PromptRecaller(memory, load_settings({"memory.in_prompt": in_prompt}))
        found = recaller.recall("when did the door open?")
        assert found.is_known, "the evidence is there in any case"
        assert bool(recaller.context(found, seconds(60))) is (in_prompt == "recall")


def test_a_question_that_the_memory_cannot_take_is_asked_without_it(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    recaller = PromptRecaller(memory, load_settings({}))
    assert recaller.recall("word " * 300) == PromptRecall()
    assert "nothing is recalled" in caplog.text


def test_a_camera_that_is_named_is_the_only_one_that_is_remembered_with(memory: Memory) -> None:
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
    """A summary as idle time leaves it: a record of its kind and a row that says of which tier."""
    with memory._connections.writing() as db:
        db.execute(
            "INSERT INTO record (kind, camera, session_id, frame_id, start_ns, end_ns, text, state,"
            " confidence, event_id, query_id, model_id) VALUES ('summary', ?, ?, '', ?, ?, ?, '',"
            " 1.0, '', '', 'model')",
            [camera, SESSION, seconds(at), seconds(at + 5), text],
        )
        db.execute("INSERT INTO summary (record_id, tier) SELECT max(id), ? FROM record", [tier])


def test_the_mid_summaries_of_a_camera_are_read_beside_the_model_oldest_first(
    memory: Memory,
) -> None:
    newest_summaries = NewestSummaries(memory)
    newest_summaries.refresh()
    assert newest_summaries.lines("front") == []
    summarise(memory, 5, "a ball came and went")
    summarise(memory, 0, "nothing yet")
    summarise(memory, 0, "a quiet morning", tier="long")
    summarise(memory, 5, "a wall", camera="rear")
    assert newest_summaries.lines("front") == [], "what was read stays until it is read anew"
    newest_summaries.refresh()
    assert newest_summaries.lines("front") == [
        f"{moment(seconds(0))}-{moment(seconds(5))} nothing yet",
        f"{moment(seconds(5))}-{moment(seconds(10))} a ball came and went",
    ]


def test_summaries_bear_on_a_question_after_all_that_they_tell_of(memory: Memory) -> None:
    summarise(memory, 50, "0:10 red ball rolls in; 0:30 red ball rolls away; 0:40 zebra walks by")
    found = recall_for_prompt(memory, RecallQuery("the red ball?"), 20)
    assert [record.kind for record in found.records] == ["event", "event", "summary"]
    forgotten = recall_for_prompt(memory, RecallQuery("when did a zebra walk by?"), 20)
    assert forgotten.has_match
    assert [record.kind for record in forgotten.records] == ["summary"]


def test_summaries_read_before_stay_where_the_file_refuses(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    summarise(memory, 5, "a ball came and went")
    newest_summaries = NewestSummaries(memory)
    newest_summaries.refresh()
    memory.close()
    newest_summaries.refresh()
    assert len(newest_summaries.lines("front")) == 1
    assert "not read anew" in caplog.text


def test_they_are_read_seldom_while_a_robot_runs(memory: Memory) -> None:
    newest_summaries = NewestSummaries(memory)
    newest_summaries.refresh_when_due()
    summarise(memory, 5, "a ball came and went")
    newest_summaries.refresh_when_due()
    assert newest_summaries.lines("front") == []
