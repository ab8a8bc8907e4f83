"""Places of different frames, and of different sessions of odometry, are never compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory_fixtures import SESSION, begin, looking_into, seconds, settings, step

from stream_vlm.config.map_frames import is_map
from stream_vlm.config.settings import load_settings
from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.maintenance.export_import import export_lines
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import Place, RecallError, RecallQuery
from stream_vlm.memory.storage.file import open_for_reading
from stream_vlm.types import Pose

NOW = 100_000.0
"""Later than all other steps, seconds."""


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(settings(tmp_path / "memory.db")) as opened:
        yield opened


def see(memory: Memory, session: str, *seen: tuple[str, str, float]) -> None:
    """Store a session; each of `seen` is what was said, the frame of the pose, and its x."""
    begin(memory, session)
    for number, (said, frame_id, x) in enumerate(seen):
        memory.write(step(number, said=said, pose=Pose(frame_id, x, 0.0, 0.0), session=session))


def found(memory: Memory, frame_id: str = "", session_id: str = "", **more: object) -> list[str]:
    """What was seen within 1 m of the origin of the frame, oldest first."""
    query = RecallQuery(
        place=Place(0.0, 0.0, 1.0, frame_id),
        session_id=session_id,
        kinds=("event",),
        order="oldest",
        **more,  # type: ignore[arg-type]
    )
    return [record.text for record in memory.recall(query).records]


def test_a_place_is_compared_with_poses_of_its_frame_only(memory: Memory) -> None:
    see(memory, "one", ("a cat", "map", 0.0), ("a dog", "odom", 0.5), ("a cow", "map", 9.0))
    assert found(memory, "map") == ["a cat"]
    assert found(memory, "odom") == ["a dog"]
    assert found(memory, "/map/") == ["a cat"], "a slash is no part of the name"


def test_a_slash_in_a_stored_frame_is_no_part_of_its_name(memory: Memory) -> None:
    see(memory, "one", ("a cat", "/map", 0.0), ("a dog", "map", 0.5))
    assert found(memory) == found(memory, "map") == ["a cat", "a dog"]


def test_without_a_frame_the_only_one_is_taken(memory: Memory) -> None:
    see(memory, "one", ("a cat", "world", 0.0), ("a dog", "world", 5.0))
    assert found(memory) == ["a cat"]


@pytest.mark.parametrize("how", ["recall", "answer", "forget", "count"])
def test_without_a_frame_a_memory_with_several_refuses_and_names_them(
    memory: Memory, how: str
) -> None:
    see(memory, "one", ("a cat", "map", 0.0), ("a dog", "odom", 0.0), ("an ox", "r2/map", 0.0))
    place = Place(0.0, 0.0, 1.0)
    ask: dict[str, Callable[[], object]] = {
        "recall": lambda: memory.recall(RecallQuery(place=place)),
        "answer": lambda: memory.answer(Question(RecallQuery("when was a cat", place=place))),
        "forget": lambda: memory.forget(Forget(place=place)),
        "count": lambda: memory.forget(Forget(place=place), dry_run=True),
    }
    with pytest.raises(RecallError, match=r"name one of the frames .*: map, odom, r2/map$"):
        ask[how]()
    assert memory.recall(RecallQuery(kinds=("event",))).total == 3


@pytest.mark.parametrize("wanted", ["base_link", "Map", "r1/map", "ma"])
def test_a_frame_without_poses_is_refused_and_those_with_poses_are_named(
    memory: Memory, wanted: str
) -> None:
    see(memory, "one", ("a cat", "map", 0.0), ("a dog", "odom", 0.0))
    with pytest.raises(RecallError, match=rf"no pose in '{wanted}'; .* map, odom$"):
        found(memory, wanted)
    with pytest.raises(RecallError, match=r"map, odom$"):
        memory.forget(Forget(place=Place(0.0, 0.0, 1.0, wanted)))


def test_a_memory_without_poses_finds_nothing_and_refuses_a_frame(memory: Memory) -> None:
    begin(memory)
    memory.write(step(1, said="a cat"))
    assert found(memory) == []
    with pytest.raises(RecallError, match="no pose in 'map'; it has no poses"):
        found(memory, "map")


def test_sessions_are_compared_in_a_map_and_never_in_odometry(memory: Memory) -> None:
    see(memory, "one", ("a cat", "map", 0.0), ("a dog", "odom", 0.0))
    see(memory, "two", ("a cow", "map", 0.5), ("a pig", "odom", 0.5), ("a hen", "odom", 7.0))
    assert found(memory, "map") == ["a cat", "a cow"]
    assert found(memory, "odom") == ["a pig"], "only the newest session"
    assert found(memory, "odom", "one") == ["a dog"], "an earlier session is named"
    assert found(memory, "map", "two") == ["a cow"]


@pytest.mark.parametrize(
    ("frame_id", "expected"),
    [("robot1/map", ["a cat", "a cow"]), ("robot1/odom", ["a cow"]), ("maps", ["a cow"])],
)
def test_a_prefix_of_a_frame_does_not_decide_whether_it_is_a_map(
    memory: Memory, frame_id: str, expected: list[str]
) -> None:
    see(memory, "one", ("a cat", frame_id, 0.0))
    see(memory, "two", ("a cow", frame_id, 0.0))
    assert found(memory) == expected


def test_the_setting_says_which_frames_are_maps(tmp_path: Path) -> None:
    changed = settings(tmp_path / "memory.db").model_copy(update={"map_frames": ["world"]})
    with Memory.open(changed) as memory:
        see(memory, "one", ("a cat", "world", 0.0), ("a dog", "map", 0.0))
        see(memory, "two", ("a cow", "world", 0.0), ("a pig", "map", 0.0))
        assert found(memory, "world") == ["a cat", "a cow"]
        assert found(memory, "map") == ["a pig"]


def test_the_command_line_gives_the_maps_with_commas_between() -> None:
    settings_of = load_settings({"memory.map_frames": "world, map"})
    assert settings_of.memory.map_frames == ["world", "map"]


def test_is_map_compares_whole_names() -> None:
    assert is_map("map", ["map"])
    assert is_map("/a/b/map", ["/map/"])
    assert is_map("a/map", ["a/map"])
    assert not is_map("b/map", ["a/map"])
    assert not is_map("mymap", ["map"])
    assert not is_map("", ["map", ""])


def test_the_present_session_without_a_pose_finds_none_of_an_earlier_one(memory: Memory) -> None:
    see(memory, "one", ("a cat", "odom", 0.0))
    see(memory, "two", ("a dog", "odom", 0.0))
    begin(memory, "three")
    for ask in (
        lambda: found(memory),
        lambda: memory.forget(Forget(place=Place(0.0, 0.0, 1.0))),
    ):
        with pytest.raises(RecallError, match=r"'three', has no pose in 'odom'.*\(two, one\)$"):
            ask()
    assert found(memory, session_id="two") == ["a dog"]


def test_the_session_that_is_written_is_the_present_one_also_after_an_import(
    tmp_path: Path, memory: Memory
) -> None:
    see(memory, "ours", ("a cat", "odom", 0.0))
    with Memory.open(settings(tmp_path / "other.db")) as other:
        see(other, "theirs", ("a dog", "odom", 0.0))
    db = open_for_reading(tmp_path / "other.db", 1.0)
    (tmp_path / "other.jsonl").write_bytes(b"".join(export_lines(db)))
    db.close()
    memory.import_from(tmp_path / "other.jsonl")
    assert found(memory) == ["a cat"]


def test_an_unknown_session_is_refused(memory: Memory) -> None:
    see(memory, "one", ("a cat", "map", 0.0))
    with pytest.raises(RecallError, match="no session 'two'"):
        found(memory, session_id="two")
    with pytest.raises(RecallError, match="no session 'two'"):
        memory.recall(RecallQuery(session_id="two"))
    with pytest.raises(RecallError, match="no session 'two'"):
        memory.forget(Forget(session_id="two"))


@pytest.mark.parametrize("words", ["", "animal"])
def test_a_session_filters_without_a_place_too(memory: Memory, words: str) -> None:
    see(memory, "one", ("an animal: cat", "map", 0.0))
    see(memory, "two", ("an animal: cow", "map", 0.0))
    records = memory.recall(RecallQuery(words, session_id="one", kinds=("event",))).records
    assert [record.text for record in records] == ["an animal: cat"]


def test_words_and_a_place_are_compared_within_the_frame(memory: Memory) -> None:
    see(memory, "one", ("a cat", "odom", 0.0))
    see(memory, "two", ("a cat", "odom", 0.0), ("a cat", "map", 0.0))
    assert len(found(memory, "odom", text="cat")) == 1
    answer = memory.answer(
        Question(RecallQuery("how often was a cat seen", place=Place(0.0, 0.0, 1.0, "odom")))
    )
    assert (answer.value, answer.records[0].session_id) == (1.0, "two")


def test_forget_deletes_within_the_frame_and_session_only(memory: Memory) -> None:
    see(memory, "one", ("a cat", "odom", 0.0), ("a dog", "map", 0.0))
    see(memory, "two", ("a cow", "odom", 0.0), ("a pig", "map", 0.0))
    what = Forget(place=Place(0.0, 0.0, 1.0, "odom"))
    assert memory.forget(what, dry_run=True).records == memory.forget(what).records > 0
    left = [record.text for record in memory.recall(RecallQuery(kinds=("event",))).records]
    assert sorted(left) == ["a cat", "a dog", "a pig"]
    memory.forget(Forget(place=Place(0.0, 0.0, 1.0, "map"), session_id="two"))
    assert sorted(r.text for r in memory.recall(RecallQuery(kinds=("event",))).records) == [
        "a cat",
        "a dog",
    ]
    memory.forget(Forget(session_id="one"))
    assert memory.recall(RecallQuery(kinds=("event",))).total == 0


def test_poses_of_an_old_file_without_a_frame_are_still_found(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with Memory.open(settings(path)) as memory:
        see(memory, SESSION, ("a cat", "map", 0.0), ("a dog", "map", 5.0))
    with looking_into(path) as connection:
        # As version 5 wrote it, with poses that have no frame.
        connection.execute("DROP INDEX record_by_pose_frame")
        connection.execute("DROP INDEX record_by_session_start")
        connection.execute("DROP TABLE known_copy")
        connection.execute("PRAGMA user_version = 5")
        connection.execute("UPDATE record SET pose_frame = '' WHERE x = 0")
        connection.execute("UPDATE record SET pose_frame = NULL WHERE x = 5")
    with Memory.open(settings(path)) as memory:
        assert found(memory) == ["a cat"]
        assert memory.recall(RecallQuery(place=Place(5.0, 0.0, 1.0), kinds=("event",))).total == 1
        see(memory, "two", ("a cow", "map", 0.0))
        assert found(memory) == ["a cow"], "the frame that has a name is taken"


@pytest.mark.parametrize(("frame_id", "says"), [("odom", True), ("map", False)])
def test_where_says_that_a_position_is_of_earlier_odometry(
    memory: Memory, frame_id: str, says: bool
) -> None:
    see(memory, "one", ("a red ball rolls in", frame_id, 2.0))
    asked = Question(RecallQuery("where is the red ball"))
    assert memory.answer(asked).text == f"seen from (2.00, 0.00) in {frame_id}: a red ball rolls in"
    begin(memory, "two")
    assert ("earlier session one, which had another origin" in memory.answer(asked).text) == says


@pytest.mark.parametrize(("frame_id", "same"), [("map", False), ("odom", True)])
def test_a_distance_between_sessions_of_odometry_tells_no_objects_apart(
    memory: Memory, frame_id: str, same: bool
) -> None:
    see(memory, "one", ("a red ball is put down", frame_id, 0.0))
    begin(memory, "two")
    memory.write(
        step(9, said="a red ball is taken", pose=Pose(frame_id, 12.0, 0.0, 0.0), session="two")
    )
    records = memory.recall(RecallQuery("ball", kinds=("event",), end_ns=seconds(NOW))).records
    assert (len({record.object_id for record in records}) == 1) == same
