"""Computed answers from a real file: when, how often, how long, where, between, still there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_fixtures import begin, seconds, settings, step

from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallError, RecallQuery
from stream_vlm.types import Pose


def at(x: float, y: float) -> Pose:
    return Pose("map", x, y, 0.0)


STORY = (
    step(10, said="red ball rolls in from the left", pose=at(0, 0)),
    step(20, said="door opens", pose=at(1, 0)),
    step(30, said="blue ball rolls in from the right", pose=at(5, 5)),
    step(40, said="door closes", pose=at(5, 6)),
    step(50, said="red ball rolls away to the right", since=45, pose=at(5, 6)),
    step(60, said="door opens"),
    step(70, said="someone claps", since=66),
    step(80),
)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for result in STORY:
            memory.write(result)
        yield memory


def ask(memory: Memory, text: str, mode: str = "auto", **filters: object) -> Answer:
    return memory.answer(Question(RecallQuery(text, **filters), mode))  # type: ignore[arg-type]


def said(answer: Answer) -> list[str]:
    return [record.text for record in answer.records]


def test_first_seen_is_the_start_of_the_first_record(memory: Memory) -> None:
    answer = ask(memory, "when did you first see a ball?")
    assert (answer.mode, answer.stamp_ns, said(answer)) == (
        "first",
        seconds(9),
        ["red ball rolls in from the left"],
    )


def test_last_seen_is_the_end_of_the_last_record(memory: Memory) -> None:
    answer = ask(memory, "when did you last see the red ball?")
    assert (answer.mode, answer.stamp_ns, answer.total) == ("last", seconds(50), 2)


def test_a_record_must_have_every_word_to_be_evidence(memory: Memory) -> None:
    assert ask(memory, "when did you last see the blue door?").known is False


def test_how_often_does_not_count_the_utterances_that_report_events(memory: Memory) -> None:
    answer = ask(memory, "how often did the door open?")
    assert (answer.mode, answer.value, answer.text, len(answer.records)) == (
        "how_often",
        2.0,
        "2 times, probably 2 different objects",
        2,
    )


def test_how_long_adds_up_the_periods_and_an_open_one_ends_with_the_session(
    memory: Memory,
) -> None:
    answer = ask(memory, "how long was the door open?")
    assert (answer.mode, answer.value) == ("how_long", 20.0 + 20.0)
    assert ask(memory, "how long was the red ball there?").value == 40.0


def test_an_end_without_a_beginning_counts_from_the_start_of_the_session(memory: Memory) -> None:
    begin(memory, "tuesday")
    memory.write(step(2000, session="tuesday"))
    memory.write(step(2030, session="tuesday", said="lamp turns off"))
    memory.write(step(2040, session="tuesday"))
    assert ask(memory, "how long was the lamp on?").value == 30.0
    assert ask(memory, "how long was the lamp on?", start_ns=seconds(2020)).value == 10.0


def test_how_long_adds_up_the_spans_of_events_that_begin_or_end_no_state(memory: Memory) -> None:
    assert ask(memory, "how long did someone clap?").value == 4.0


def test_an_open_state_ends_with_its_session(memory: Memory) -> None:
    begin(memory, "tuesday")
    memory.write(step(1000, session="tuesday", said="door opens"))
    memory.write(step(1005, session="tuesday"))
    assert ask(memory, "how long was the door open?").value == 45.0


def test_where_is_the_pose_of_the_last_record_that_has_one(memory: Memory) -> None:
    answer = ask(memory, "where did you last see the door open?")
    assert answer.mode == "where"
    assert answer.records[0].pose == at(1, 0)
    assert "(1.00, 0.00) in map" in answer.text


@pytest.mark.parametrize(
    ("said_then", "question"),
    [
        ("hand takes the red cup", "when did someone take the cup?"),
        ("a man took the red cup", "when did someone take the cup?"),
        ("the red cup was taken", "when was the cup taken?"),
        ("a man took the red cup", "when was the cup taken?"),
        ("a woman brought the mail", "when did someone bring the mail?"),
        ("a child threw the ball", "when did someone throw a ball?"),
        ("the cup was thrown away", "when did anybody throw the cup away?"),
        ("a man dropped the cup", "when did someone drop the cup?"),
        ("person puts the box on the table", "when did someone put the box on the table?"),
        ("the man left the room", "when did the man leave?"),
        ("the man left the room", "when has the man left?"),
        ("the vase fell off the table", "when did the vase fall?"),
        ("a woman stood at the window", "when did the woman stand at the window?"),
        ("a cat sat on the chair", "when did the cat sit on the chair?"),
        ("a man held a phone", "when did someone hold the phone?"),
        ("the window broke", "when did the window break?"),
        ("a man lit the candle", "when did someone light the candle?"),
        ("a dog ran through the garden", "when did you last see the dog running?"),
        ("a dog runs through the garden", "when did the dog run through the garden?"),
        ("person in red enters", "did anyone come in?"),
        ("a man came in", "how often did someone come in?"),
    ],
)
def test_someone_matches_any_person_and_any_form_of_the_verb(
    tmp_path: Path, said_then: str, question: str
) -> None:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for at, text in (
            (5, "lamp goes out"),
            (10, said_then),
            (15, "person in blue leaves to the left" if "come" in question else "lamp comes on"),
        ):
            memory.write(step(at, said=text))
        answer = ask(memory, question)
        assert (answer.known, said(answer), answer.total) == (True, [said_then], 1)
        assert said_then in [record.text for record in memory.recall(RecallQuery(question)).records]


def test_to_the_left_does_not_count_as_leaving(memory: Memory) -> None:
    memory.write(step(90, said="person enters from the left"))
    assert ask(memory, "when did the person leave?").known is False
    memory.write(step(91, said="person left"))
    assert ask(memory, "when did the person leave?").stamp_ns == seconds(91)
    assert ask(memory, "who left last?").stamp_ns == seconds(91)
    assert said(ask(memory, "have you seen the ball from the left?")) == [
        "red ball rolls in from the left"
    ]


@pytest.mark.parametrize(
    ("story", "question", "there"),
    [
        (("cup is there", "a man took the cup"), "is the cup still there?", 0.0),
        (("a woman brought the cup",), "is the cup still there?", 1.0),
        (("a man dropped the key",), "is the key still there?", 1.0),
        (("a man came in", "the man left the room"), "is the man still there?", 0.0),
        (("a man came in", "the man has left"), "is the man still there?", 0.0),
        (("the lamp came on", "the lamp went out"), "is the lamp on?", 0.0),
        (("a bag was stolen",), "is the bag still there?", 0.0),
    ],
)
def test_events_in_the_past_tense_begin_and_end_states_too(
    tmp_path: Path, story: tuple[str, ...], question: str, there: float
) -> None:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for number, text in enumerate(story):
            memory.write(step(10 + number, said=text))
        answer = ask(memory, question)
        assert (answer.known, answer.value) == (True, there)


@pytest.mark.parametrize(
    ("text", "there", "since"),
    [
        ("is the blue ball still there?", 1.0, 30),
        ("is the red ball still there?", 0.0, 50),
        ("is the door open?", 1.0, 60),
        ("is the door still closed?", 0.0, 60),
    ],
)
def test_still_there_is_decided_by_the_last_change(
    memory: Memory, text: str, there: float, since: int
) -> None:
    answer = ask(memory, text)
    assert (answer.mode, answer.value, answer.stamp_ns) == ("still_there", there, seconds(since))


def test_between_lists_the_events_of_the_time_range_in_order(memory: Memory) -> None:
    answer = ask(memory, "what happened?", start_ns=seconds(15), end_ns=seconds(35))
    assert (answer.mode, said(answer)) == (
        "between",
        ["door opens", "blue ball rolls in from the right"],
    )


def test_before_and_after_are_the_neighbours_of_the_last_matching_event(memory: Memory) -> None:
    assert (
        ask(memory, "what happened before the door closed?").records[0].text
        == "blue ball rolls in from the right"
    )
    after = ask(memory, "what happened after the door closed?")
    assert said(after) == ["red ball rolls away to the right", "door closes"]


def test_right_after_asks_for_the_next_event_and_to_the_right_is_a_side(memory: Memory) -> None:
    assert (
        ask(memory, "what happened right after the blue ball rolled in from the right?")
        .records[0]
        .text
        == "door closes"
    )


def test_after_the_last_event_the_answer_is_not_known(memory: Memory) -> None:
    assert ask(memory, "what happened after someone clapped?").known is False


def test_an_object_that_was_never_seen_is_not_known_and_counted_zero_times(memory: Memory) -> None:
    for text in (
        "when did you last see a zebra?",
        "where is the zebra?",
        "is the zebra still there?",
        "how long was the zebra there?",
    ):
        answer = ask(memory, text)
        assert (answer.known, answer.records) == (False, ())
        assert "zebra" in answer.text
    often = ask(memory, "how often did you see a zebra?")
    assert (often.known, often.value, often.records) == (True, 0.0, ())


def test_filters_apply_to_answers(memory: Memory) -> None:
    assert ask(memory, "how often did the door open?", place=Place(1, 0, 0.5)).value == 1.0
    assert ask(memory, "how often did the door open?", end_ns=seconds(30)).value == 1.0
    assert ask(memory, "how often did the door open?", cameras=("rear",)).value == 0.0


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (
            "red ball",
            "auto",
            "mode: 'red ball' is not a question of a known kind; name one of first, last",
        ),
        ("red ball", "why", "mode: 'why' is unknown; choose among auto, first"),
        ("is it still there?", "auto", "names no object; say what the question is about"),
    ],
)
def test_a_question_of_an_unknown_kind_is_refused(text: str, mode: str, message: str) -> None:
    with pytest.raises(RecallError, match=message):
        Question(RecallQuery(text), mode)
