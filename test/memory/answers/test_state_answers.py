"""Both sides of states are asked: open and closed, on and off, there and gone; and negations."""

from pathlib import Path

import pytest
from memory_fixtures import begin, seconds, settings, step

from stream_vlm.memory.answers.evidence import Answer
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery


def asked(folder: Path, story: str, question: str, **filters: object) -> Answer:
    """Store one event every ten seconds and ask."""
    with Memory.open(settings(folder / "memory.db")) as memory:
        begin(memory)
        for number, text in enumerate(story.split("; ")):
            memory.write(step(10 * number + 10, said=text))
        return memory.answer(Question(RecallQuery(question, **filters)))  # type: ignore[arg-type]


DOOR = "door closes; door opens"
LAMP = "lamp turns on; lamp turns off"
BALL = "red ball rolls in; red ball rolls away"


@pytest.mark.parametrize(
    ("story", "question", "word"),
    [
        (DOOR, "is the door closed?", "no"),
        (DOOR, "is the door shut?", "no"),
        (DOOR, "is the door open?", "yes"),
        (DOOR, "is the door still open?", "yes"),
        (DOOR, "isn't the door open?", "yes"),
        (DOOR, "isn\u2019t the door closed?", "no"),
        (DOOR, "is the door not open?", "no"),
        (DOOR, "is the door no longer closed?", "yes"),
        (DOOR, "is the door open or closed?", "open"),
        ("door opens and closes again", "is the door closed?", "yes"),
        (LAMP, "is the lamp off?", "yes"),
        (LAMP, "is the lamp on?", "no"),
        (LAMP, "is the lamp on or off?", "off"),
        (LAMP, "is the lamp switched on?", "no"),
        (LAMP, "is the lamp lit?", "no"),
        ("someone turns the lamp on", "is the lamp off?", "no"),
        (BALL, "is the ball gone?", "yes"),
        (BALL, "is the ball still there?", "no"),
        ("red ball rolls away; red ball rolls in", "is the ball gone?", "no"),
        ("hand takes the key and puts it down", "is the key gone?", "no"),
        ("engine starts", "has the engine stopped?", "no"),
        ("gate is locked; guard unlocks the gate", "is the gate locked?", "no"),
        ("the jar is covered; someone uncovers the jar", "is the jar uncovered?", "yes"),
        ("the hose is connected; the hose is disconnected", "is the hose connected?", "no"),
        ("someone fills the cup; someone empties the cup", "is the cup full?", "no"),
        ("the floor is wet; the floor dries", "is the floor dry?", "yes"),
        ("hatch opens while the pump stops", "is the pump running?", "no"),
        ("hatch opens while the pump stops", "is the hatch closed?", "no"),
        ("box opens; a man stands close to the box", "is the box closed?", "no"),
        ("door opens; nobody closes the door", "is the door closed?", "no"),
        ("door opens; the door doesn't close", "is the door open?", "yes"),
        ("door closes; the door is no longer closed", "is the door closed?", "no"),
        ("the tap is not open", "is the tap open?", "no"),
    ],
)
def test_a_question_about_a_state_is_answered_for_the_side_that_it_names(
    tmp_path: Path, story: str, question: str, word: str
) -> None:
    answer = asked(tmp_path, story, question)
    assert (answer.known, answer.text.split(":")[0]) == (True, word)
    assert answer.value == (word != "no" and word != "off")


@pytest.mark.parametrize(
    ("story", "question"),
    [
        ("the soup is served", "is the soup hot?"),
        ("the gate is locked", "is the gate open?"),
        ("the pump does not start", "is the pump running?"),
    ],
)
def test_a_state_that_is_not_known_gives_what_was_last_seen(
    tmp_path: Path, story: str, question: str
) -> None:
    answer = asked(tmp_path, story, question)
    assert (answer.known, answer.value) == (False, 0.0)
    assert answer.text == f"not known; last seen: {story}"
    assert answer.stamp_ns == seconds(10)


def test_how_long_counts_the_side_that_is_named(tmp_path: Path) -> None:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for at, text in ((10, "door opens"), (40, "door closes"), (45, "door opens"), (50, "")):
            memory.write(step(at, said=text))
        assert memory.answer(Question(RecallQuery("how long was the door open?"))).value == 35.0
        # From the session's first picture to the first opening, and from 40 to 45.
        assert memory.answer(Question(RecallQuery("how long was the door closed?"))).value == 6.0


def test_has_it_been_closed_also_says_what_happened_since(tmp_path: Path) -> None:
    answer = asked(tmp_path, DOOR, "has the door been closed?")
    assert answer.text == "last: door closes; since then: door opens"


@pytest.mark.parametrize(
    ("story", "question", "number"),
    [
        ("door opens; door does not open", "how often did the door open?", 1),
        ("door opens; the door hasn't opened yet", "how often did the door open?", 1),
        ("nobody enters; a man enters", "how often did someone enter?", 1),
        ("no one enters", "how often did anyone enter?", 0),
        ("there is no ball on the table", "how often did you see a ball?", 0),
        ("the ball is no longer there", "how often did you see the ball?", 0),
        ("a man leaves without closing the window", "how often did the window close?", 0),
        ("a man without a hat enters", "how often did a man enter?", 1),
        ("a man with no hat enters", "how often did a man enter?", 1),
        ("not only the door opens", "how often did the door open?", 1),
        ("a dog barks but the door does not open", "how often did the dog bark?", 1),
        ("the key fails to open the door", "how often did the key open?", 0),
    ],
)
def test_what_a_sentence_denies_is_not_counted(
    tmp_path: Path, story: str, question: str, number: int
) -> None:
    assert asked(tmp_path, story, question).value == number


def test_did_nobody_is_answered_no_by_somebody(tmp_path: Path) -> None:
    answer = asked(tmp_path, "a man enters", "did nobody enter?")
    assert answer.text == "no: last: a man enters"


def test_never_is_said_only_of_words_and_times_that_the_memory_knows(tmp_path: Path) -> None:
    with Memory.open(settings(tmp_path / "memory.db")) as memory:
        begin(memory)
        for at in (*range(0, 100, 5), *range(1000, 1100, 5)):
            memory.write(step(at, said={20: "a cat enters", 1020: "a dog leaves"}.get(at, "")))

        def text(question: str, **filters: object) -> str:
            query = RecallQuery(question, **filters)  # type: ignore[arg-type]
            return memory.answer(Question(query)).text

        often = "how often did the dog enter?"
        assert text(often, end_ns=seconds(95)).startswith("never: no record matches 'dog enter'")
        with_gap = text(often)
        assert with_gap.startswith("never while watching")
        assert "except" in with_gap
        assert text(often, start_ns=seconds(-900), end_ns=seconds(95)).startswith(
            "never while watching"
        )
        for filters in (
            {"end_ns": seconds(-100)},
            {"start_ns": seconds(5000)},
            {"start_ns": seconds(200), "end_ns": seconds(800)},
            {"cameras": ("rear",)},
        ):
            answer = memory.answer(Question(RecallQuery(often, **filters)))
            assert not answer.known
            assert "never" not in answer.text
            assert "nothing was watched then" in answer.text
        assert text("how often did you see a zebra?").startswith("no record of 'zebra'")
