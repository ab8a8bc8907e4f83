"""Events of the same object are linked by the rule of the file, with a confidence."""

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import SESSION, begin, seconds, settings, step

from stream_vlm.cli import main
from stream_vlm.memory.answers.event_sentence import CHANGES, ParsedEvent, parse_event
from stream_vlm.memory.answers.object_links import FITS, NEW
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallError, RecallQuery, RecallRecord
from stream_vlm.types import Pose, StepResult

KITCHEN, CELLAR = Pose("map", 0.0, 0.0, 0.0), Pose("map", 12.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "noun", "words", "change"),
    [
        ("person in red enters from the left", "person", ("red",), "comes"),
        ("red ball rolls away to the left", "ball", ("red",), "goes"),
        ("hand takes the red cup", "cup", ("red",), "taken"),
        ("person picks up the blue box", "box", ("blue",), "picked up"),
        ("A man puts the old cup down on the table", "cup", ("old",), "put down"),
        ("a man in a blue shirt opens the door", "door", (), "on"),
        ("lamp goes out", "lamp", (), "off"),
        ("person turns the lamp off", "lamp", (), "off"),
        ("The red cup is taken by a hand", "cup", ("red",), "taken"),
        ("he takes the cup and puts it down", "cup", (), "put down"),
        ("a red ball is lying on the floor", "ball", ("red",), "seen"),
        ("a man took the red cup", "cup", ("red",), "taken"),
        ("someone stole the bike", "bike", (), "taken"),
        ("a woman brought the mail", "mail", (), "comes"),
        ("person brings the red cup in", "cup", ("red",), "comes"),
        ("a man dropped the key", "key", (), "put down"),
        ("a woman threw the bottle away", "bottle", (), "taken"),
        ("the old car drove away", "car", ("old",), "goes"),
        ("a bird flew in", "bird", (), "comes"),
        ("the man left the room", "man", (), "goes"),
        ("the red cup is gone", "cup", ("red",), "goes"),
        ("the candle has gone out", "candle", (), "off"),
        ("the man put the box down", "box", (), "put down"),
        ("the vase fell off the table", "vase", (), "seen"),
        ("a woman stood at the window", "woman", (), "seen"),
        ("a cat sat on the chair", "cat", (), "seen"),
        ("a man held a phone", "man", (), "seen"),
        ("the green bottle broke", "bottle", ("green",), "seen"),
        ("a man sat down and took the cup", "cup", (), "taken"),
    ],
)
def test_a_sentence_is_parsed_into_object_and_change(
    text: str, noun: str, words: tuple[str, ...], change: str
) -> None:
    assert parse_event(text) == ParsedEvent(noun, words, change)


@pytest.mark.parametrize(
    "text", ["", "hello there", "somebody takes it away", "someone arrives", "???", "the the the"]
)
def test_a_sentence_without_an_object_is_not_parsed(text: str) -> None:
    assert parse_event(text) is None


def test_every_change_has_its_weights() -> None:
    assert set(FITS) == set(NEW) == set(CHANGES)
    assert all(set(fits) <= set(CHANGES) for fits in FITS.values())


def write(
    memory: Memory,
    *said: str,
    pose: Pose | None = None,
    session: str = SESSION,
    start: float = 0.0,
    apart: float = 60.0,
) -> None:
    """Write the events, each `apart` seconds after the one before."""
    for number, text in enumerate(said):
        memory.write(step(start + (number + 1) * apart, said=text, pose=pose, session=session))


def events(memory: Memory) -> list[RecallRecord]:
    return list(memory.recall(RecallQuery(kinds=("event",), order="oldest", limit=1000)).records)


def objects(memory: Memory) -> list[int]:
    """Return the object of each event in order; objects are numbered from 1 as first seen."""
    return [record.object_id for record in events(memory)]


@pytest.mark.parametrize(
    ("said", "linked"),
    [
        pytest.param(
            ["red ball rolls in", "red ball rolls away"], [1, 1], id="what came can leave"
        ),
        pytest.param(["hand takes the red cup"], [1], id="what was never seen to come is new"),
        pytest.param(
            ["person picks up the red cup", "person puts down the red cup"],
            [1, 1],
            id="what was picked up can be put down",
        ),
        pytest.param(
            ["red ball rolls in", "blue ball rolls away"],
            [1, 2],
            id="another colour is another object",
        ),
        pytest.param(
            ["red ball rolls in", "red box is there"], [1, 2], id="another kind is another object"
        ),
        pytest.param(
            ["hand takes the red cup", "hand puts down the red cup"],
            [1, 2],
            id="what left cannot be put down without having come back",
        ),
        pytest.param(
            ["red ball rolls in", "red ball rolls in", "red ball rolls away"],
            [1, 2, 2],
            id="what is there cannot come in: two at once",
        ),
        pytest.param(
            ["red ball rolls in", "red ball rolls away", "red ball rolls in"],
            [1, 1, 2],
            id="what left a minute ago is another",
        ),
        pytest.param(
            ["door opens", "door closes", "door opens"], [1, 1, 1], id="a door stays the same door"
        ),
        pytest.param(
            ["red ball rolls in", "hand takes the ball"], [1, 1], id="fewer words may mean the same"
        ),
        pytest.param(
            ["someone arrives", "red ball rolls in"], [0, 1], id="no object named, no link"
        ),
    ],
)
def test_an_event_that_can_follow_is_of_the_same_object_and_one_that_cannot_of_another(
    memory: Memory, said: list[str], linked: list[int]
) -> None:
    write(memory, *said)
    assert objects(memory) == linked


def test_an_object_that_comes_back_within_seconds_is_probably_the_same(memory: Memory) -> None:
    write(memory, "person in red enters", "person in red leaves", "person in red enters", apart=5.0)
    assert objects(memory) == [1, 1, 1]
    assert events(memory)[2].object_confidence < 0.7, "it may be another all the same"


def test_a_door_is_the_same_after_a_restart_and_another_one_at_another_place(
    memory: Memory,
) -> None:
    write(memory, "door opens", pose=KITCHEN)
    begin(memory, "tuesday")
    write(memory, "door closes", pose=KITCHEN, session="tuesday", start=3600)
    write(memory, "door closes", pose=CELLAR, session="tuesday", start=7200)
    assert objects(memory) == [1, 1, 2]


def test_the_confidence_of_a_link_falls_with_time_and_if_two_objects_fit(memory: Memory) -> None:
    write(memory, "red cup is there", "red cup is taken")
    write(
        memory,
        "blue cup is there",
        "hand puts down the blue cup",
        "hand takes the blue cup",
        start=1000,
    )
    sure = [record.object_confidence for record in events(memory)]
    assert objects(memory) == [1, 1, 2, 3, 3]
    assert sure[1] > 0.9 > 0.6 > sure[4], "of two blue cups either may have been taken"
    assert all(0.0 < number <= 1.0 for number in sure)


def test_pictures_decide_between_objects_that_fit_equally_well(memory: Memory) -> None:
    def looking(at: float, said: str, *vector: float) -> StepResult:
        return StepResult(
            **{
                **vars(step(at, said=said)),
                "picture_vectors": {"front": np.array(vector, np.float32)},
            }
        )

    memory.write(looking(10, "red cup is there", 1, 0))
    memory.write(looking(20, "hand puts down the red cup", 0, 1))
    memory.write(looking(30, "hand takes the red cup", 0.9, 0.1))
    assert objects(memory) == [1, 2, 1]
    assert events(memory)[2].object_confidence > 0.8


def test_relink_gives_the_same_links_as_writing(memory: Memory) -> None:
    rng = random.Random(3)
    said = [
        f"hand {rng.choice(['takes', 'puts down', 'picks up'])} the {rng.choice(['red', 'blue'])}"
        f" {rng.choice(['cup', 'box'])}"
        for _ in range(40)
    ] + ["door opens", "lamp turns on", "door closes"]
    write(memory, *said)
    before = [(record.object_id, record.object_confidence) for record in events(memory)]
    assert memory.relink() == len(said)
    after = [(record.object_id, record.object_confidence) for record in events(memory)]
    first = {one: number for number, (one, _) in reversed(list(enumerate(before)))}
    again = {one: number for number, (one, _) in reversed(list(enumerate(after)))}
    assert [first[one] for one, _ in before] == [again[one] for one, _ in after]
    assert [sure for _, sure in after] == pytest.approx([sure for _, sure in before])


def test_all_events_of_an_object_are_recalled_by_its_number(memory: Memory) -> None:
    write(
        memory,
        "red cup is there",
        "red ball rolls in",
        "person picks up the red cup",
        "red ball rolls away",
        "person puts down the red cup",
    )
    cup = RecallQuery(object_id=1, order="oldest")
    assert [record.text for record in memory.recall(cup).records] == [
        "red cup is there", "person picks up the red cup", "person puts down the red cup",
    ]  # fmt: skip
    assert memory.recall(RecallQuery("picks", object_id=1)).total == 1
    assert memory.recall(RecallQuery(object_id=99)).total == 0
    assert memory.answer(Question(RecallQuery("cup", object_id=1), "still_there")).value == 1.0
    with pytest.raises(RecallError, match="object_id: -1 is not an object number"):
        RecallQuery(object_id=-1)


def test_another_object_that_did_not_leave_is_still_there(memory: Memory) -> None:
    write(
        memory,
        "hand puts down the red cup",
        "hand puts down the blue cup",
        "hand takes the red cup",
    )
    cup = memory.answer(Question(RecallQuery("is the cup still there?")))
    assert (cup.value, cup.stamp_ns) == (1.0, seconds(120))
    assert (
        cup.text
        == "yes: last seen: hand puts down the blue cup; a later event was about another object:"
        " hand takes the red cup"
    )
    assert memory.answer(Question(RecallQuery("is the red cup still there?"))).value == 0.0


def test_a_second_object_with_the_same_words_that_did_not_leave_is_mentioned(
    memory: Memory,
) -> None:
    write(memory, "red ball rolls in", "red ball rolls in", "red ball rolls away")
    said = memory.answer(Question(RecallQuery("is the red ball still there?")))
    assert said.value == 0.0
    assert (
        said.text
        == "no: last seen: red ball rolls away; a similar object was not seen to leave: red ball"
        " rolls in"
    )


def test_how_often_names_the_number_of_objects(memory: Memory) -> None:
    write(
        memory,
        "red ball rolls in",
        "red ball rolls away",
        "red ball rolls in",
        "door opens",
        "door opens",
    )
    assert (
        memory.answer(Question(RecallQuery("how often did you see the red ball?"))).text
        == "3 times, probably 2 different objects"
    )
    assert (
        memory.answer(Question(RecallQuery("how often did the door open?"))).text
        == "2 times, probably the same object"
    )


def test_deleting_all_events_of_an_object_deletes_the_object(memory: Memory, file: Path) -> None:
    write(
        memory,
        "hand puts down the vermilion teapot",
        "door opens",
        "hand takes the vermilion teapot",
    )
    memory.forget(Forget(start_ns=seconds(170)))
    assert objects(memory) == [1, 2]
    memory.forget(Forget(end_ns=seconds(70)))
    assert objects(memory) == [2]
    with sqlite3.connect(file) as tool:
        assert tool.execute("SELECT id FROM thing").fetchall() == [(2,)]
    memory.close()
    assert b"vermilion" not in file.read_bytes()
    assert b"teapot" not in file.read_bytes()


def test_links_are_exported_and_imported_under_new_numbers(
    memory: Memory, file: Path, tmp_path: Path
) -> None:
    write(memory, "red ball rolls in", "door opens", "red ball rolls away")
    memory.close()
    export, other = tmp_path / "export.jsonl", tmp_path / "other.db"
    assert main(["memory", "export", str(export), "--memory", str(file)]) == 0
    with Memory.open(settings(other)) as target:
        begin(target, "sunday")
        write(target, "lamp turns on", session="sunday")
        target.import_from(export)
        assert [(record.object_id, record.text) for record in events(target)] == [
            (1, "lamp turns on"),
            (2, "red ball rolls in"),
            (3, "door opens"),
            (2, "red ball rolls away"),
        ]


def test_a_memory_of_an_older_version_is_linked_on_request(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as before, Memory.open(settings(file)) as memory:
        before.setattr("stream_vlm.memory.insert_rows.link", lambda *_: None)
        begin(memory)
        write(memory, "red ball rolls in", "red ball rolls away")
        assert objects(memory) == [0, 0]
    assert main(["memory", "link", "--memory", str(file)]) == 0
    assert "2 events are linked to an object" in capsys.readouterr().out
    assert main(["recall", "--object", "1", "--order", "oldest", "--memory", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "1 (0.9" in shown[2]
    assert "red ball rolls away" in shown[2]
    assert "2 of 2 records" in shown[3]


def test_links_are_computed_again_with_the_maps_that_are_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lamp in the kitchen and one far away: of two sessions, only a map can say so."""
    with Memory.open(settings(file)) as memory:
        begin(memory)
        write(memory, "lamp turns on", pose=Pose("world", 0.0, 0.0, 0.0))
        begin(memory, "tuesday")
        far = Pose("world", 50.0, 0.0, 0.0)
        write(memory, "lamp turns off", pose=far, session="tuesday", start=600)
        assert objects(memory) == [1, 1]
    for maps, lamps in ((("--map-frame", "world"), 2), ((), 1)):
        assert main(["memory", "link", *maps, "--memory", str(file)]) == 0
        with Memory.open(settings(file), read_only=True) as memory:
            assert len(set(objects(memory))) == lamps
    assert "2 events are linked" in capsys.readouterr().out


def test_an_object_that_left_before_a_restart_is_not_the_one_that_leaves_after_it(
    memory: Memory,
) -> None:
    write(memory, "person in red enters", "person in red leaves", "person in blue enters")
    begin(memory, "tuesday")
    write(memory, "person in red leaves", "person in blue leaves", session="tuesday", start=600)
    assert objects(memory) == [1, 1, 2, 3, 2]
