"""Summaries by the running model: written beside its looks, a slice at a time, on real weights and
a real memory file.
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
from summary_fixtures import summaries, tend

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.config.settings import Settings
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.memory import Memory
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
def rambling(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    """Random weights: what it writes is about nothing."""
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
    """A chunk of ten seconds for each of `said`, which is said in the middle of it, and the
    beginning of the next.
    """
    for number in range(10 * len(said) + 1):
        memory.write(step(number, said=said[number // 10] if number % 10 == 5 else ""))
        tend(memory)


@contextmanager
def a_ball(path: Path, model: StreamingModel) -> Iterator[tuple[Memory, ModelSummarizer]]:
    """A memory whose one chunk, in which a ball rolls in, waits for `model` to sum it up."""
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, "a ball rolls in")
        yield memory, summarizer_of(memory, model)


def finish(summarizer: ModelSummarizer, memory: Memory) -> int:
    """Let the model write all that waits; in how many slices."""
    slices = 0
    while summarizer.has_work:
        summarizer.advance()
        slices += 1
    tend(memory)
    return slices


def test_what_the_model_writes_takes_the_place_of_the_extract_that_stood_before(
    path: Path, speaking: StreamingModel
) -> None:
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
        assert health.summarizer == f"extractive, put better by {speaking.model_id}"


def test_what_a_model_writes_about_nothing_is_refused_and_the_extract_stands(
    path: Path, rambling: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        watch(memory, "a xylophone plays", "two xylophones play")
        finish(summarizer_of(memory, rambling), memory)
        assert [one.text for one in summaries(memory)] == [
            "0:04–0:05 a xylophone plays",
            "0:04–0:05 two xylophones play",
        ]
        assert {one.model_id for one in summaries(memory)} == {"extractive"}
        assert memory.idle_health.failures == 2
        assert "memory.summarizer 'model': a summary of" in memory.idle_health.fault
        assert "is refused" in memory.idle_health.fault


def test_a_summary_is_written_in_slices_no_longer_than_a_token_or_a_piece_of_the_prompt(
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
        # To begin is a slice, too; then it is a forward a slice, at last one for each word; the end
        # mark is not fed.
        assert len(fed) == slices - 1
        assert max(fed) == 32
        assert fed[-6:] == [1] * 6
        assert len(fed) > 7


def looks(model: StreamingModel, summarizer: ModelSummarizer | None) -> list[StepResult]:
    """Eight looks of two cameras with a question in every fourth, and slices of a summary between
    them.
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
            assert summarizer.has_work, "there is something to write between all looks"
            summarizer.advance()
        harness.prepare()
    return results


def test_looks_are_the_same_bit_by_bit_while_a_summary_is_written(
    path: Path, rambling: StreamingModel
) -> None:
    alone = looks(rambling, None)
    with Memory.open(by_model(path, chunk_s=100)) as memory:
        begin(memory)
        for number in range(60):
            memory.write(step(2 * number, said="a ball rolls in, a cup falls and the door opens"))
        tend(memory)
        beside = looks(rambling, summarizer_of(memory, rambling))
    assert any(result.utterances for result in alone)
    for one, other in zip(alone, beside, strict=True):
        assert one.decisions == other.decisions
        assert one.utterances == other.utterances
        for camera, vector in one.picture_vectors.items():
            assert (vector == other.picture_vectors[camera]).all()


def test_a_summary_that_changed_while_it_was_written_is_written_anew(
    path: Path, speaking: StreamingModel
) -> None:
    with Memory.open(by_model(path)) as memory:
        begin(memory)
        for number in (3, 9.2):
            memory.write(step(number, said="a cup" if number == 3 else ""))
        tend(memory)
        summarizer = summarizer_of(memory, speaking)
        for _ in range(3):
            summarizer.advance()
        memory.write(step(9.6, said="a ball rolls in"))
        memory.write(step(10))
        tend(memory)
        finish(summarizer, memory)
        (found,) = summaries(memory)
        assert (found.text, memory.idle_health.written) == (SUMMARY, 1)
        assert found.end_ns == seconds(9.6)


def test_what_was_forgotten_while_the_model_wrote_about_it_is_not_stored(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(3):
            summarizer.advance()
        memory.forget(Forget(start_ns=seconds(4), end_ns=seconds(6)))
        finish(summarizer, memory)
        assert not any("ball" in one.text for one in summaries(memory))
        assert memory.idle_health.written == 0


def extract_stands(path: Path) -> bool:
    """Whether the next start finds the extract of the one chunk and makes no second summary."""
    with Memory.open(by_model(path)) as memory:
        begin(memory, "the next")
        tend(memory)
        return [one.text for one in summaries(memory)] == [
            "0:04–0:05 a ball rolls in",
            "1× silence",
        ]


def test_a_memory_that_is_closed_in_the_middle_of_a_summary_loses_nothing(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(3):
            summarizer.advance()
        memory.close()
        # The model's thread may not have heard yet.
        while summarizer.has_work:
            summarizer.advance()
    assert extract_stands(path)


def test_a_program_that_is_killed_in_the_middle_of_a_summary_loses_nothing(
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
    assert extract_stands(path)


def test_what_is_written_while_the_file_refuses_is_stored_when_it_can_be(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        while summarizer.has_work:
            summarizer.advance()
        with locked_by_another_program(path), pytest.raises(MemoryFileError):
            memory.run_maintenance()
        assert [one.text for one in summaries(memory)] == ["0:04–0:05 a ball rolls in"]
        tend(memory)
        assert [one.text for one in summaries(memory)] == [SUMMARY]


def test_what_is_put_down_is_gone_on_with_later(path: Path, speaking: StreamingModel) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(3):
            summarizer.advance()
        summarizer.stop()
        assert memory.idle_health.waiting == 1
        finish(summarizer, memory)
        assert [one.text for one in summaries(memory)] == [SUMMARY]


def test_recorded_material_waits_for_its_summaries(path: Path, speaking: StreamingModel) -> None:
    with Memory.open(by_model(path, chunk_summaries=2)) as memory:
        writer = SyncWriter(memory, summarizer_of(memory, speaking))
        writer.begin_session("monday", "model", "test", seconds(0))
        standing = []
        for number in range(25):
            writer.submit(step(number, said="a ball rolls in" if number % 10 == 5 else ""))
            writer.write_summaries()
            standing.append([one.text for one in summaries(memory)])
        writer.end_session()
        # At the tick that ends a chunk its summary is there, so that the next chunk can begin with
        # it.
        assert standing[8] == []
        assert standing[10] == [SUMMARY]
        # Two chunks, and the block that they were merged into.
        assert [one.text for one in summaries(memory)].count(SUMMARY) == 3
        assert memory.idle_health.waiting == 0


def test_a_model_whose_numbers_break_leaves_the_extract_and_the_next_summary_is_tried(
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


def test_a_model_that_is_refused_again_and_again_is_asked_no_more_and_that_is_said(
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
            "it is asked no more: set memory.summarizer to 'extractive' or 'endpoint'"
            in health.fault
        )
        watch_on = [
            step(number, said="a xylophone plays" if number % 10 == 5 else "")
            for number in range(121, 132)
        ]
        for each in watch_on:
            memory.write(each)
            tend(memory)
        assert not summarizer.has_work


def test_a_stream_without_idle_time_says_that_no_model_sums_up(
    path: Path, speaking: StreamingModel
) -> None:
    with a_ball(path, speaking) as (memory, summarizer):
        for _ in range(MAX_BUSY_STEPS - 1):
            summarizer.note_step()
        assert memory.idle_health.fault == ""
        summarizer.note_step()
        assert (
            f"1 summaries wait, but {MAX_BUSY_STEPS} looks one after the other left no time"
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


def test_a_newer_job_of_a_summary_replaces_the_one_that_waits_and_of_too_many_the_oldest_goes() -> (
    None
):
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


def test_of_a_text_that_is_too_long_the_whole_sentences_are_taken_that_fit() -> None:
    text = "A ball is there. It rolled in at 0:05. Then a cup fell"
    assert whole_sentences(text, 54) == text
    assert whole_sentences(text, 53) == "A ball is there. It rolled in at 0:05."
    assert whole_sentences(text, 20) == "A ball is there."
    assert whole_sentences(text, 10) == text


def test_lines_are_told_with_their_times() -> None:
    assert lines_of(material_of("a ball\nrolls in", "a cup")) == [
        "0:00 a ball rolls in",
        "0:01 a cup",
    ]


def test_a_model_that_has_no_way_to_write_is_refused(path: Path) -> None:
    class Silent:
        model_id = "silent"

    with pytest.raises(
        SummarizerError, match=r"memory\.summarizer 'model': silent writes no texts"
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
def test_no_model_is_asked_where_none_is_to_sum_up(path: Path, summarizer: str) -> None:
    assert summary_writer(by_model(path, summarizer=summarizer), object()) is None
    with Memory.open(by_model(path, summarizer=summarizer)) as memory:
        begin(memory)
        watch(memory, "a ball rolls in")
        assert memory.summary_jobs is None
        assert memory.idle_health.summarizer == summarizer
        assert memory.idle_health.waiting == 0
