"""Summaries by the running model: written between its steps, a slice at a time.

The tests use real weights and a real memory file.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chat_fixtures import SUMMARY, load, write_chat_checkpoint, write_speaking_checkpoint
from memory_fixtures import begin, locked_by_another_program, seconds, settings, step
from model_fixtures import FAMILIES, random_frame
from places import SUPPORT
from summary_fixtures import run_idle_work, summaries

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.config.settings import Settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.recording.background_texts import BackgroundTexts
from stream_vlm.memory.recording.sync_writer import SyncWriter
from stream_vlm.memory.storage.errors import MemoryFileError, SummarizerError
from stream_vlm.memory.summaries.by_model import (
    MAX_BUSY_STEPS,
    MAX_FAILURES_IN_A_ROW,
    ModelSummarizer,
    summary_writer,
)
from stream_vlm.memory.summaries.extractive import Material, SummaryItem
from stream_vlm.memory.summaries.jobs import MAX_WAITING, Job, SummaryJobs
from stream_vlm.memory.summaries.prompt import lines_of, whole_sentences
from stream_vlm.types import NANOSECONDS, Query, StepResult, Tick


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture(scope="module", params=FAMILIES)
def random_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    """A model with random weights: its summaries are about nothing."""
    return load(write_chat_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def speaking_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_checkpoint(tmp_path_factory.mktemp("speaking"))


@pytest.fixture(scope="module")
def speaking(speaking_directory: Path) -> StreamingModel:
    return load(speaking_directory)


def by_model(path: Path, **changes: float | str) -> MemorySettings:
    return settings(path, **{"chunk_s": 10, "summarizer": "model", **changes})


def summarizer_of(memory: Memory, model: StreamingModel) -> ModelSummarizer:
    writer = summary_writer(memory.settings, model)
    assert memory.summary_jobs is not None
    assert writer is not None
    return ModelSummarizer(memory.summary_jobs, writer, model.model_id)


def watch(memory: Memory, *said: str) -> None:
    """Write a chunk of ten seconds for each of `said`, and the start of the next chunk.

    Each text is said in the middle of its chunk.
    """
    for number in range(10 * len(said) + 1):
        memory.write(step(number, said=said[number // 10] if number % 10 == 5 else ""))
        run_idle_work(memory)


@contextmanager
def a_ball(path: Path, model: StreamingModel) -> Iterator[tuple[Memory, ModelSummarizer]]:
    """A memory with one chunk, in which a ball rolls in; `model` has not summarised it yet."""
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, "a ball rolls in")
        yield memory, summarizer_of(memory, model)


def finish(summarizer: ModelSummarizer, memory: Memory) -> int:
    """Let the model write all that waits; return how many slices it took."""
    slices = 0
    while summarizer.has_work:
        summarizer.advance()
        slices += 1
    run_idle_work(memory)
    return slices


def test_the_text_of_the_model_replaces_the_extract(path: Path, speaking: StreamingModel) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, "a ball rolls in")
        assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball rolls in"]
        assert memory.idle_health.waiting == 1
        finish(summarizer_of(memory, speaking), memory)
        (found,) = summaries(memory)
        assert (found.text, found.model_id) == (SUMMARY, speaking.model_id)
        health = memory.idle_health
        assert (health.written, health.waiting, health.failures, health.fault) == (1, 0, 0, "")
        assert health.summarizer == f"extractive, rewritten by {speaking.model_id}"


def test_a_text_about_nothing_is_rejected_and_the_extract_is_kept(
    path: Path, random_model: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, "a xylophone plays", "two xylophones play")
        finish(summarizer_of(memory, random_model), memory)
        assert [one.text for one in summaries(memory)] == [
            "0:04–0:05 a xylophone plays",
            "0:04–0:05 two xylophones play",
        ]
        assert {one.model_id for one in summaries(memory)} == {"extractive"}
        assert memory.idle_health.failures == 2
        assert "memory.summarizer 'model': a summary by" in memory.idle_health.fault
        assert "is rejected" in memory.idle_health.fault


def test_a_slice_is_at_most_one_token_or_one_piece_of_the_prompt(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        fed: list[int] = []
        language_model = speaking.checkpoint.model.model.language_model
        handle = language_model.layers[0].register_forward_pre_hook(
            lambda layer, inputs: fed.append(inputs[0].shape[1])
        )
        try:
            slices = finish(summarizer, memory)
        finally:
            handle.remove()
        # The start is a slice, and so is each forward pass, first over the prompt and then one per
        # token. The end token is not fed to the model.
        assert len(fed) == slices - 1
        assert max(fed) == 32
        assert fed[-6:] == [1] * 6
        assert len(fed) > 7


def steps_with_slices(
    model: StreamingModel, summarizer: ModelSummarizer | None
) -> list[StepResult]:
    """Run eight steps of two cameras with slices of a summary between them.

    Every fourth step has a question.
    """
    harness = StreamingHarness(model.settings, model, "s")
    results = []
    for index in range(8):
        frames = tuple(random_frame(index, camera) for camera in ("front", "rear"))
        asked = (
            (Query(f"q{index}", "is the door open ?", frames[0].stamp_ns, "front"),)
            if index % 4 == 3
            else ()
        )
        results.append(harness.step(Tick(index, frames[0].stamp_ns, frames, asked)))
        for _ in range(2 if summarizer is not None else 0):
            assert summarizer is not None
            assert summarizer.has_work, "there is something to write between all steps"
            summarizer.advance()
        harness.prepare()
    return results


def test_steps_give_the_same_bits_while_a_summary_is_written(
    path: Path, random_model: StreamingModel
) -> None:
    alone = steps_with_slices(random_model, None)
    with Memory.open(by_model(path, chunk_s=100)) as memory:
        begin(memory)
        for number in range(60):
            memory.write(step(2 * number, said="a ball rolls in, a cup falls and the door opens"))
        run_idle_work(memory)
        beside = steps_with_slices(random_model, summarizer_of(memory, random_model))
    assert any(result.utterances for result in alone)
    for one, other in zip(alone, beside, strict=True):
        assert one.decisions == other.decisions
        assert one.utterances == other.utterances
        for camera, vector in one.picture_vectors.items():
            assert (vector == other.picture_vectors[camera]).all()


def test_a_summary_that_changed_while_it_was_written_is_written_again(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        for number in (3, 9.2):
            memory.write(step(number, said="a cup" if number == 3 else ""))
        run_idle_work(memory)
        summarizer = summarizer_of(memory, speaking)
        for _ in range(3):
            summarizer.advance()
        memory.write(step(9.6, said="a ball rolls in"))
        memory.write(step(10))
        run_idle_work(memory)
        finish(summarizer, memory)
        (found,) = summaries(memory)
        assert (found.text, memory.idle_health.written) == (SUMMARY, 1)
        assert found.end_ns == seconds(9.6)


def test_a_summary_of_records_deleted_meanwhile_is_not_stored(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(3):
            summarizer.advance()
        memory.forget(Forget(start_ns=seconds(4), end_ns=seconds(6)))
        finish(summarizer, memory)
        assert not any("ball" in one.text for one in summaries(memory))
        assert memory.idle_health.written == 0


def extract_is_kept(path: Path) -> bool:
    """Return whether the next start finds the extract of the one chunk and adds no summary."""
    with Memory.open(by_model(path)) as memory:
        begin(memory, "the next")
        run_idle_work(memory)
        return [one.text for one in summaries(memory)] == [
            "0:04–0:05 a ball rolls in",
            "1× silence",
        ]


def test_closing_the_memory_in_the_middle_of_a_summary_loses_nothing(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(3):
            summarizer.advance()
        memory.close()
        # The model's thread may not know yet that the memory is closed.
        while summarizer.has_work:
            summarizer.advance()
    assert extract_is_kept(path)


def test_killing_the_program_in_the_middle_of_a_summary_loses_nothing(
    path: Path, speaking_directory: Path
) -> None:
    write_half = (
        "import os, signal, sys\n"
        "sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\n"
        "from chat_fixtures import load\n"
        "from memory_fixtures import begin\n"
        "from stream_vlm.memory.memory import Memory\n"
        "from test_by_model import by_model, summarizer_of, watch\n"
        "memory = Memory.open(by_model(Path(sys.argv[1])))\n"
        "begin(memory)\n"
        "watch(memory, 'a ball rolls in')\n"
        "summarizer = summarizer_of(memory, load(Path(sys.argv[2])))\n"
        "for _ in range(5):\n"
        "    summarizer.advance()\n"
        "assert summarizer.has_work\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [
            *(sys.executable, "-c", write_half, str(path), str(speaking_directory), str(SUPPORT)),
            str(Path(__file__).parent),
        ]
    )
    assert killed.returncode == -signal.SIGKILL
    assert extract_is_kept(path)


def test_a_summary_written_while_the_file_cannot_be_written_is_stored_later(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        while summarizer.has_work:
            summarizer.advance()
        with locked_by_another_program(path), pytest.raises(MemoryFileError):
            memory.run_maintenance()
        assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball rolls in"]
        run_idle_work(memory)
        assert [one.text for one in summaries(memory)] == [SUMMARY]


def test_a_stopped_summary_is_written_later(path: Path, speaking: StreamingModel) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(3):
            summarizer.advance()
        summarizer.stop()
        assert memory.idle_health.waiting == 1
        finish(summarizer, memory)
        assert [one.text for one in summaries(memory)] == [SUMMARY]


def test_the_sync_writer_waits_for_summaries(path: Path, speaking: StreamingModel) -> None:
    with Memory.open(by_model(path, chunk_summaries=2)) as memory:
        writer = SyncWriter(memory, BackgroundTexts([summarizer_of(memory, speaking)]))
        writer.begin_session("monday", "model", "test", seconds(0))
        standing = []
        for number in range(25):
            writer.submit(step(number, said="a ball rolls in" if number % 10 == 5 else ""))
            writer.write_texts()
            standing.append([one.text for one in summaries(memory)])
        writer.end_session()
        # After the tick that ends a chunk its summary exists, so that the next chunk can start with
        # it.
        assert standing[8] == []
        assert standing[10] == [SUMMARY]
        # Two chunks, and the long block that they were merged into.
        assert [one.text for one in summaries(memory)].count(SUMMARY) == 3
        assert memory.idle_health.waiting == 0


def test_after_a_model_failure_the_extract_is_kept_and_the_next_summary_is_tried(
    path: Path, speaking_directory: Path
) -> None:
    model = load(speaking_directory)
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, "a ball rolls in", "a ball rolls in again")
        summarizer = summarizer_of(memory, model)
        head = model.checkpoint.model.lm_head.weight
        sound = head.clone()
        head[:] = float("nan")
        for _ in range(2):
            summarizer.advance()
        assert "not finite" in memory.idle_health.fault
        assert memory.idle_health.failures == 1
        head[:] = sound
        finish(summarizer, memory)
        assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball rolls in", SUMMARY]
        assert memory.idle_health.fault == ""


def test_after_many_rejections_in_a_row_the_model_is_not_asked_again(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, *["a xylophone plays"] * (MAX_FAILURES_IN_A_ROW + 2))
        summarizer = summarizer_of(memory, speaking)
        finish(summarizer, memory)
        health = memory.idle_health
        assert (health.failures, health.waiting) == (MAX_FAILURES_IN_A_ROW, 0)
        assert (
            "the model is not asked again: set memory.summarizer to 'extractive' or 'endpoint'"
            in health.fault
        )
        watch_on = [
            step(number, said="a xylophone plays" if number % 10 == 5 else "")
            for number in range(121, 132)
        ]
        for each in watch_on:
            memory.write(each)
            run_idle_work(memory)
        assert not summarizer.has_work


def test_a_stream_without_idle_time_reports_that_there_is_no_time_for_summaries(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(MAX_BUSY_STEPS - 1):
            summarizer.note_step()
        assert memory.idle_health.fault == ""
        summarizer.note_step()
        assert (
            f"1 summaries wait, but {MAX_BUSY_STEPS} steps in a row left no time"
            in memory.idle_health.fault
        )
        assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball rolls in"]
        finish(summarizer, memory)
        assert memory.idle_health.fault == ""


def material_of(*texts: str) -> Material:
    return Material(
        0,
        tuple(
            SummaryItem(index * NANOSECONDS, index * NANOSECONDS, text, 1.0)
            for index, text in enumerate(texts)
        ),
    )


def test_a_newer_job_replaces_the_waiting_one_and_a_full_queue_drops_the_oldest() -> None:
    jobs = SummaryJobs(lambda: None)
    jobs.set_writer("model", "memory.summarizer 'model'")
    for number in (1, 2, 1):
        jobs.submit(Job(number, f"{number} of {jobs.unfinished}", material_of("a ball"), 400))
    first, second = jobs.take(), jobs.take()
    assert first is not None
    assert second is not None
    assert jobs.take() is None
    assert (first.record_id, second.record_id, second.text) == (2, 1, "1 of 2")
    for number in range(MAX_WAITING + 1):
        jobs.submit(Job(number, "", material_of("a ball"), 400))
    oldest = jobs.take()
    assert oldest is not None
    assert oldest.record_id == 1
    assert f"more than {MAX_WAITING} summaries wait" in jobs.fault


def test_a_text_that_is_too_long_is_cut_after_a_whole_sentence() -> None:
    text = "A ball is there. It rolled in at 0:05. Then a cup fell"
    assert whole_sentences(text, 54) == text
    assert whole_sentences(text, 53) == "A ball is there. It rolled in at 0:05."
    assert whole_sentences(text, 20) == "A ball is there."
    assert whole_sentences(text, 10) == text


def test_the_lines_of_a_prompt_have_times() -> None:
    assert lines_of(material_of("a ball\nrolls in", "a cup")) == [
        "0:00 a ball rolls in",
        "0:01 a cup",
    ]


def test_a_model_that_cannot_write_texts_is_refused(path: Path) -> None:
    class Silent:
        model_id = "silent"

    with pytest.raises(
        SummarizerError, match=r"memory\.summarizer 'model': silent cannot write texts"
    ):
        summary_writer(by_model(path), Silent())


def test_the_shipped_model_is_refused_with_what_to_set_instead(path: Path) -> None:
    with pytest.raises(SummarizerError) as rejection:
        summary_writer(by_model(path), load_cached_model(Settings()))
    sentence = str(rejection.value)
    assert sentence.startswith("memory.summarizer 'model': stream-vlm-small-")
    assert "has no chat template" in sentence
    assert sentence.endswith("or set it to 'extractive' or 'endpoint'")


@pytest.mark.parametrize("summarizer", ["extractive", "off"])
def test_without_the_setting_no_model_writes_summaries(path: Path, summarizer: str) -> None:
    assert summary_writer(by_model(path, summarizer=summarizer), object()) is None
    with Memory.open(by_model(path, summarizer=summarizer)) as memory:
        begin(memory)
        watch(memory, "a ball rolls in")
        assert memory.summary_jobs is None
        assert memory.idle_health.summarizer == summarizer
        assert memory.idle_health.waiting == 0
