"""What is stored of a step, and how a memory continues after a restart."""

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from memory_fixtures import SESSION, begin, picture, seconds, settings, step
from numpy.typing import NDArray

from stream_vlm.memory.memory import Memory, SessionError
from stream_vlm.memory.search.query import RecallError, RecallQuery, RecallRecord
from stream_vlm.memory.storage.connections import CHECKPOINT_BYTES
from stream_vlm.memory.storage.errors import RowRefused
from stream_vlm.memory.storage.step_rows import KINDS
from stream_vlm.types import Decision, Frame, Pose, Query, State, StepResult, Tick

POSE = Pose("map", 1.25, -2.5, 0.125, 0.0, 0.0, 0.6, 0.8)


def everything(memory: Memory) -> list[RecallRecord]:
    return list(memory.recall(RecallQuery(kinds=KINDS, order="oldest", limit=1000)).records)


def decoded(memory: Memory, record_id: int) -> NDArray[np.uint8]:
    """Return the stored picture as uint8 RGB, (H, W, 3)."""
    image = cv2.imdecode(np.frombuffer(memory.frame(record_id).jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def pictures_in(file: Path) -> int:
    with sqlite3.connect(file) as connection:
        return int(connection.execute("SELECT count(*) FROM picture").fetchone()[0])


def test_a_silent_step_is_stored_as_an_observation(memory: Memory) -> None:
    memory.write(step(2.5, pose=POSE))
    (record,) = everything(memory)
    assert (record.kind, record.state, record.text) == ("observation", "silence", "")
    assert (record.camera, record.frame_id, record.session_id, record.model_id) == (
        "front",
        "front_optical",
        SESSION,
        "model-of-the-test",
    )
    assert record.start_ns == record.end_ns == seconds(2.5)
    assert record.pose == POSE
    assert record.confidence == 0.5
    assert record.score == 0.0


def test_an_event_keeps_its_span_and_is_linked_to_its_utterance(
    memory: Memory,
) -> None:
    memory.write(step(7, said="a red ball rolls in", since=3))
    observation, event, utterance = sorted(everything(memory), key=lambda record: record.record_id)
    assert [observation.kind, event.kind, utterance.kind] == ["observation", "event", "utterance"]
    assert (event.start_ns, event.end_ns) == (seconds(3), seconds(7))
    assert utterance.start_ns == utterance.end_ns == seconds(7)
    assert event.text == utterance.text == "a red ball rolls in"
    assert event.event_id == utterance.event_id != ""
    assert event.confidence == 0.75


def test_a_question_and_its_answer_are_linked_records(memory: Memory) -> None:
    memory.write(step(1, asked="what is there?", said="a cup"))
    records = {record.kind: record for record in everything(memory)}
    assert set(records) == {"observation", "query", "answer"}
    assert records["query"].text == "what is there?"
    assert records["query"].state == ""
    assert records["answer"].text == "a cup"
    assert records["answer"].query_id == records["query"].query_id != ""


def test_a_frame_that_the_model_could_not_use_is_not_stored(memory: Memory) -> None:
    good = Frame("front", seconds(0), "", picture())
    bad = Frame("rear", seconds(0), "", picture())
    memory.write(
        StepResult(
            SESSION,
            Tick(0, seconds(0), (good, bad)),
            {"front": Decision(State.SILENCE, {State.SILENCE: 1.0})},
            faults={"rear": "too dark"},
        )
    )
    assert [record.camera for record in everything(memory)] == ["front"]


def test_a_question_without_a_frame_is_stored(memory: Memory) -> None:
    memory.write(
        StepResult(SESSION, Tick(0, seconds(0), (), (Query("q", "anyone there?", seconds(0)),)), {})
    )
    (record,) = everything(memory)
    assert (record.kind, record.camera, record.text, record.has_frame) == (
        "query",
        "",
        "anyone there?",
        False,
    )


def test_records_of_one_frame_share_one_picture(memory: Memory, file: Path) -> None:
    memory.write(step(1, said="the door opens"))
    records = everything(memory)
    assert len(records) == 3
    assert pictures_in(file) == 1
    assert len({memory.frame(record.record_id) for record in records}) == 1


def test_a_stored_picture_keeps_its_stamp_frame_and_colours(memory: Memory) -> None:
    memory.write(step(4, image=picture(red=200, width=800, height=600)))
    (record,) = everything(memory)
    stored = memory.frame(record.record_id)
    assert (stored.stamp_ns, stored.camera, stored.frame_id) == (
        seconds(4),
        "front",
        "front_optical",
    )
    image = decoded(memory, record.record_id)
    assert image.shape == (240, 320, 3)
    assert np.abs(image.reshape(-1, 3).mean(axis=0) - [200, 0, 0]).max() < 3


def test_a_small_picture_is_not_enlarged(memory: Memory) -> None:
    memory.write(step(4, image=picture(width=100, height=60)))
    (record,) = everything(memory)
    assert decoded(memory, record.record_id).shape == (60, 100, 3)


def test_pictures_of_silent_steps_are_stored_at_most_once_per_period(
    file: Path,
) -> None:
    with Memory.open(settings(file, thumbnail_period_s=1.0)) as memory:
        begin(memory)
        for quarter in range(9):
            memory.write(step(quarter / 4))
        assert [record.has_frame for record in everything(memory)] == [
            True,
            False,
            False,
            False,
        ] * 2 + [True]


def test_the_picture_of_an_utterance_is_stored_within_the_period_too(file: Path) -> None:
    with Memory.open(settings(file, thumbnail_period_s=60.0)) as memory:
        begin(memory)
        memory.write(step(0))
        memory.write(step(1, said="the lamp is switched on"))
        found = {(record.kind, record.has_frame) for record in everything(memory)}
    assert found == {("observation", True), ("event", True), ("utterance", True)}


def test_each_camera_has_its_own_picture_period(file: Path) -> None:
    with Memory.open(settings(file, thumbnail_period_s=60.0)) as memory:
        begin(memory)
        memory.write(step(0, camera="front"))
        memory.write(step(1, camera="rear"))
        assert [record.has_frame for record in everything(memory)] == [True, True]


def test_a_picture_that_cannot_be_encoded_does_not_cost_the_step(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.write(step(0, said="a cup", image=np.zeros((0, 0, 3), np.uint8)))
    assert [record.has_frame for record in everything(memory)] == [False] * 3
    assert "front: picture of shape (0, 0, 3) is not stored" in caplog.text


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_pose_that_is_not_finite_is_not_stored(
    memory: Memory, number: float, caplog: pytest.LogCaptureFixture
) -> None:
    memory.write(step(0, pose=Pose("map", number, 0.0, 0.0)))
    assert everything(memory)[0].pose is None
    assert "not finite" in caplog.text


def test_half_a_surrogate_pair_in_the_models_words_does_not_cost_the_step(memory: Memory) -> None:
    memory.write(step(0, said="a cup \ud83d"))
    assert memory.recall(RecallQuery("cup")).records[0].text == "a cup ?"


@pytest.mark.parametrize("stamp_ns", [0, -5, 2**53 + 1, 2**63 - 1])
def test_any_int64_time_is_stored_to_the_nanosecond(memory: Memory, stamp_ns: int) -> None:
    frame = Frame("front", stamp_ns, "", picture())
    memory.write(
        StepResult(
            SESSION,
            Tick(0, stamp_ns, (frame,)),
            {"front": Decision(State.SILENCE, {State.SILENCE: 1.0})},
        )
    )
    (record,) = everything(memory)
    assert (record.start_ns, record.end_ns) == (stamp_ns, stamp_ns)
    assert memory.frame(record.record_id).stamp_ns == stamp_ns


def test_a_missing_picture_and_a_missing_record_give_different_errors(
    file: Path,
) -> None:
    with Memory.open(settings(file, thumbnail_period_s=60.0)) as memory:
        begin(memory)
        memory.write(step(0))
        memory.write(step(1))
        with pytest.raises(RecallError, match="record 2: has no stored picture"):
            memory.frame(2)
        for missing in (3, 0, -1, 2**63):
            with pytest.raises(RecallError, match=f"record {missing}: no such record"):
                memory.frame(missing)


def test_after_a_restart_every_session_is_recalled(file: Path) -> None:
    for session in ("monday", "tuesday"):
        with Memory.open(settings(file)) as memory:
            begin(memory, session)
            memory.write(step(1, said=f"a ball on {session}", session=session))
    with Memory.open(settings(file)) as memory:
        found = memory.recall(RecallQuery("ball", kinds=("event",)))
        assert {record.session_id for record in found.records} == {"monday", "tuesday"}
        assert memory.count() == 6


def test_a_session_can_begin_only_once(memory: Memory) -> None:
    with pytest.raises(
        SessionError,
        match=f"session '{SESSION}' is already in .*give the new session another name",
    ):
        begin(memory)


def test_a_step_of_a_session_that_was_not_begun_is_refused(memory: Memory) -> None:
    with pytest.raises(SessionError, match="session 'tuesday' was not begun"):
        memory.write(step(0, session="tuesday"))


def test_a_step_is_stored_in_one_transaction(memory: Memory, file: Path) -> None:
    with pytest.raises(RowRefused, match="a row breaks a rule of the tables"):
        memory.write(step(5, said="an event that ends before it begins", since=6))
    assert memory.count() == 0
    assert everything(memory) == []
    assert pictures_in(file) == 0


def test_writer_and_reader_count_the_same(memory: Memory, file: Path) -> None:
    memory.write(step(0))
    memory.write(step(1, said="a cup"))
    with Memory.open(settings(file), read_only=True) as reader:
        assert memory.count() == reader.count() == 4


def test_only_its_owner_may_read_the_memory(file: Path, memory: Memory) -> None:
    memory.write(step(0))
    for part in (file, file.with_name("memory.db-wal"), file.with_name("memory.db-shm")):
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, part


def test_folders_are_created_and_a_tilde_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with Memory.open(settings(Path("~/deep/er/memory.db"))) as memory:
        assert memory.path == tmp_path / "deep" / "er" / "memory.db"
    assert memory.path.exists()


@pytest.mark.parametrize("name", ["a b#c?d%20.db", "größe.db", "quote'.db"])
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    with Memory.open(settings(tmp_path / name)) as memory:
        begin(memory)
        memory.write(step(0, said="a cup"))
        assert memory.recall(RecallQuery("cup")).total == 2
    assert (tmp_path / name).exists()


def test_threads_that_recall_while_steps_are_written_see_only_whole_steps(
    memory: Memory,
) -> None:
    def totals(_: int) -> list[int]:
        return [memory.recall(RecallQuery("ball")).total for _ in range(40)]

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(totals, number) for number in range(4)]
        for number in range(100):
            memory.write(step(number, said="a ball rolls"))
        seen = [total for reader in readers for total in reader.result()]
    # Each step adds an event and an utterance.
    assert all(total % 2 == 0 for total in seen)
    assert memory.recall(RecallQuery("ball")).total == 200


def test_the_indices_follow_rows_deleted_by_other_tools(memory: Memory, file: Path) -> None:
    memory.write(step(0, said="a ball", pose=POSE))
    memory.write(step(1, said="a cup", pose=POSE))
    with sqlite3.connect(file) as tool:
        tool.execute("DELETE FROM record WHERE text = 'a ball'")
        tool.execute("UPDATE record SET text = 'a mug' WHERE text = 'a cup'")
        tool.execute("INSERT INTO record_text (record_text) VALUES ('integrity-check')")
        assert tool.execute("SELECT count(*) FROM record_place").fetchone() == (4,)
    assert memory.recall(RecallQuery("ball cup")).total == 0
    assert memory.recall(RecallQuery("mug")).total == 2


def test_a_search_imports_neither_torch_nor_opencv(file: Path) -> None:
    with Memory.open(settings(file)) as memory:
        begin(memory)
    ask = (
        "import sys\nfrom stream_vlm.config.memory_settings import MemorySettings\nfrom"
        " stream_vlm.memory.search.query import RecallQuery\nfrom stream_vlm.memory.memory import"
        " Memory\nMemory.open(MemorySettings(path=sys.argv[1]),"
        " read_only=True).recall(RecallQuery('ball'))\nprint(sorted({'torch', 'cv2', 'rclpy',"
        " 'transformers'} & set(sys.modules)))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", ask, str(file)], check=True, capture_output=True, text=True
    ).stdout
    assert said == "[]\n"


def test_the_wal_is_checkpointed_between_steps_and_not_within_a_commit(
    memory: Memory, file: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)

    def growth(number: int, first: int, *, settled: bool) -> int:
        before = file.stat().st_size
        for index in range(first, first + number):
            memory.write(step(index, image=noise))
            if settled:
                memory.run_maintenance()
        return file.stat().st_size - before

    enough = 300  # of more than 40 kB each
    assert growth(enough, 0, settled=False) == 0
    assert growth(enough, enough, settled=True) > CHECKPOINT_BYTES
    assert sum(record.kind == "observation" for record in everything(memory)) == 2 * enough
