"""Captions by the running model: written between its steps, stored with picture, pose and vectors.

The tests use real weights and a real memory file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chat_fixtures import load, write_chat_checkpoint, write_speaking_checkpoint
from memory_fixtures import (
    SESSION,
    begin,
    locked_by_another_program,
    looking_into,
    picture,
    seconds,
    settings,
    step,
)
from model_fixtures import FAMILIES, random_frame, write_sentence_model
from summary_fixtures import run_idle_work, summaries

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.cli import main
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.config.settings import Settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.memory.answers.prompt_recall import recall_for_prompt
from stream_vlm.memory.captions.by_model import MAX_BUSY_STEPS, ModelCaptioner, picture_writer
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery, RecallRecord
from stream_vlm.memory.storage.errors import CaptionerError, MemoryFileError
from stream_vlm.text_models.sentence_embedder import load_text_model
from stream_vlm.types import Pose, StepResult, Tick

CAPTION = "There was a ball rolls in"
HERE = Pose("map", 1.0, 2.0, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> StreamingModel:
    return load(write_speaking_checkpoint(tmp_path_factory.mktemp("speaking")))


@pytest.fixture(scope="module", params=FAMILIES)
def random_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    return load(write_chat_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


def by_model(path: Path, **changes: float | str) -> MemorySettings:
    return settings(path, **{"captioner": "model", **changes})


def captioner_of(memory: Memory, model: StreamingModel) -> ModelCaptioner:
    writer = picture_writer(memory.settings, model)
    assert memory.captions is not None
    assert writer is not None
    return ModelCaptioner(memory.captions, writer, model.model_id)


def see(memory: Memory, result: StepResult) -> None:
    """Store a step and offer its pictures."""
    memory.write(result)
    assert memory.captions is not None
    memory.captions.note(result)


def finish(captioner: ModelCaptioner, memory: Memory) -> None:
    while captioner.has_work:
        captioner.advance()
    run_idle_work(memory)


def captions(memory: Memory, **query: Any) -> list[RecallRecord]:
    found = memory.recall(
        RecallQuery(**{"kinds": ("caption",), "order": "oldest", "limit": 1000, **query})
    )
    return list(found.records)


def test_a_caption_has_stamp_pose_picture_and_vector_of_its_frame(
    path: Path, speaking: StreamingModel
) -> None:
    vector = np.eye(8, dtype=np.float32)[3]
    with Memory.open(by_model(path, thumbnail_period_s=100)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        # Of the second step no picture is stored but that of its caption.
        for at, red in ((0, 0), (30, 240)):
            result = step(at, pose=HERE, image=picture(red))
            see(memory, replace(result, picture_vectors={"front": vector}))
            finish(captioner, memory)
        first, second = captions(memory)
        assert [one.text for one in (first, second)] == [CAPTION, CAPTION]
        assert (second.camera, second.session_id) == ("front", SESSION)
        assert second.start_ns == second.end_ns == second.stamp_ns == seconds(30)
        assert second.frame_id == "front_optical"
        assert second.pose == HERE
        assert second.model_id == speaking.model_id
        stored = memory.frame(second.record_id)
        shown = cv2.imdecode(np.frombuffer(stored.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None
        assert abs(int(shown[0, 0, 2]) - 240) < 10
    with looking_into(path) as db:
        # The vectors name the model that watches, so that a picture search finds both.
        assert db.execute(
            "SELECT count(*) FROM picture_vector JOIN vector_model ON vector_model.id ="
            " vector_model_id WHERE name = 'model-of-the-test'"
        ).fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM picture").fetchone() == (2,)


def test_a_caption_is_found_by_words_meaning_place_and_time(
    path: Path, speaking: StreamingModel, tmp_path: Path
) -> None:
    model = write_sentence_model(tmp_path / "sentences")
    with Memory.open(by_model(path, text_model=str(model))) as memory:
        memory.use_embedder(load_text_model(memory.settings))
        begin(memory)
        captioner = captioner_of(memory, speaking)
        for at in range(25):
            see(memory, step(at, pose=HERE))
            finish(captioner, memory)
        assert memory.recall(RecallQuery("ball")).total == 3
        assert memory.recall(RecallQuery("where is the red ball", order="fused")).records
        assert len(captions(memory, start_ns=seconds(5), end_ns=seconds(15))) == 1
        found = recall_for_prompt(memory, RecallQuery("was there a ball?"), 20)
        assert [one.text for one in found.records] == [CAPTION] * 3
        assert found.has_match
    with looking_into(path) as db:
        assert db.execute(
            "SELECT count(*) FROM record_vector JOIN record ON record.id = record_id WHERE kind ="
            " 'caption'"
        ).fetchone() == (3,)


def test_captions_are_in_the_summary_of_their_chunk(path: Path, speaking: StreamingModel) -> None:
    with Memory.open(by_model(path, chunk_s=10, caption_s=4)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        for at in range(12):
            see(memory, step(at))
            finish(captioner, memory)
        assert [one.text for one in summaries(memory)] == [f"0:00–0:08 3× {CAPTION}"]


def test_a_forgotten_time_has_no_captions_any_more(path: Path, speaking: StreamingModel) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        for at in range(25):
            see(memory, step(at))
            finish(captioner, memory)
        memory.forget(Forget(start_ns=seconds(9), end_ns=seconds(11)))
        assert [one.end_ns for one in captions(memory)] == [seconds(0), seconds(20)]


def test_a_caption_written_while_the_file_cannot_be_written_is_stored_later(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        see(memory, step(0))
        while captioner.has_work:
            captioner.advance()
        with locked_by_another_program(path), pytest.raises(MemoryFileError):
            memory.run_maintenance()
        assert captions(memory) == []
        run_idle_work(memory)
        assert [one.text for one in captions(memory)] == [CAPTION]


def test_a_caption_of_a_file_that_was_replaced_is_dropped(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        see(memory, step(0))
        while captioner.has_work:
            captioner.advance()
        for name in ("memory.db", "memory.db-wal", "memory.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        run_idle_work(memory)
        assert captions(memory) == []
        see(memory, step(20))
        finish(captioner, memory)
        assert [one.end_ns for one in captions(memory)] == [seconds(20)]


def test_steps_give_the_same_bits_while_captions_are_written(
    path: Path, random_model: StreamingModel
) -> None:
    def steps(captioner: ModelCaptioner | None, memory: Memory | None) -> list[StepResult]:
        harness = StreamingHarness(random_model.settings, random_model, SESSION)
        results = []
        for index in range(8):
            frames = tuple(random_frame(index, camera) for camera in ("front", "rear"))
            results.append(harness.step(Tick(index, frames[0].stamp_ns, frames)))
            if captioner is not None and memory is not None:
                assert memory.captions is not None
                memory.captions.note(results[-1])
                assert captioner.has_work, "there is something to write between all steps"
                for _ in range(4):
                    captioner.advance()
            harness.prepare()
        return results

    alone = steps(None, None)
    with Memory.open(by_model(path, caption_s=0.5)) as memory:
        begin(memory)
        beside = steps(captioner_of(memory, random_model), memory)
    for one, other in zip(alone, beside, strict=True):
        assert one.decisions == other.decisions
        assert one.utterances == other.utterances
        for camera, vector in one.picture_vectors.items():
            assert (vector == other.picture_vectors[camera]).all()


def test_after_a_model_failure_the_next_picture_is_tried(path: Path, tmp_path: Path) -> None:
    model = load(write_speaking_checkpoint(tmp_path / "speaking"))
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, model)
        head = model.checkpoint.model.lm_head.weight
        sound = head.clone()
        head[:] = float("nan")
        see(memory, step(0))
        finish(captioner, memory)
        assert "not finite" in memory.idle_health.captions.fault
        head[:] = sound
        see(memory, step(10))
        finish(captioner, memory)
        assert [one.end_ns for one in captions(memory)] == [seconds(10)]
        assert memory.idle_health.captions.fault == ""


def test_a_stream_without_idle_time_reports_that_there_is_no_time_for_captions(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        see(memory, step(0))
        for _ in range(MAX_BUSY_STEPS):
            captioner.note_step()
        assert "left no time to write" in memory.idle_health.captions.fault


def test_stopping_in_the_middle_of_a_caption_leaves_nothing_of_it(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        see(memory, step(0))
        for _ in range(3):
            captioner.advance()
        captioner.stop()
        assert not captioner.has_work
        run_idle_work(memory)
        assert captions(memory) == []


def test_auto_takes_a_model_that_judges_instructions_and_no_other(
    path: Path, speaking: StreamingModel
) -> None:
    class Tuned:
        model_id, judges_instructions = "tuned", False

    class Instruct:
        model_id, judges_instructions = "instruct", True
        picture_writer = speaking.picture_writer

    class Silent:
        model_id, judges_instructions = "silent", True

    auto = by_model(path, captioner="auto")
    assert picture_writer(auto, Tuned()) is None
    assert picture_writer(auto, object()) is None
    assert picture_writer(auto, Instruct()) is not None
    assert picture_writer(auto, Silent()) is None
    assert picture_writer(by_model(path, captioner="off"), Instruct()) is None


def test_a_model_that_cannot_describe_pictures_is_refused_with_what_to_set_instead(
    path: Path,
) -> None:
    with pytest.raises(CaptionerError) as refused:
        picture_writer(by_model(path), load_cached_model(Settings()))
    assert str(refused.value).startswith("memory.captioner 'model': stream-vlm-small-")
    assert str(refused.value).endswith("set it to 'endpoint' or 'off'")
    with pytest.raises(CaptionerError, match="object cannot write texts about pictures"):
        picture_writer(by_model(path), object())


def test_captions_are_exported_imported_and_on_the_page_of_their_day(
    path: Path, speaking: StreamingModel, tmp_path: Path
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        captioner = captioner_of(memory, speaking)
        for at in (0, 20):
            see(memory, step(at, pose=HERE))
            finish(captioner, memory)
    out, page = tmp_path / "memory.jsonl", tmp_path / "day.html"
    assert main(["memory", "export", str(out), "--memory", str(path)]) == 0
    with Memory.open(settings(tmp_path / "other.db")) as other:
        other.import_from(out)
        assert [(one.text, one.pose) for one in captions(other)] == [(CAPTION, HERE)] * 2
        assert other.frame(captions(other)[0].record_id).jpeg
    assert main(["memory", "report", str(page), "--memory", str(path)]) == 0
    assert page.read_text().count(f"</span> {CAPTION}") == 2
