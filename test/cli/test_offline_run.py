"""A run without ROS gives the same results every time, and never overwrites a run by default."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from bag_fixtures import write_bag
from chat_fixtures import SUMMARY, load, write_speaking_checkpoint
from mcap_fixtures import Channel, McapFile
from mcap_fixtures import film as recorded_film
from memory_fixtures import vector_models
from model_fixtures import write_sentence_model

from stream_vlm.cli.offline_run import (
    MEMORY_FILE,
    RECORD_FILES,
    ResultsError,
    prepare_folder,
    watch,
)
from stream_vlm.cli.run import summary
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.config.settings import Settings, load_settings, with_cameras
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.memory.search.vectors import VectorModel
from stream_vlm.memory.storage.errors import MemoryFileError, SummarizerError
from stream_vlm.model_protocol import Outcome, Turn, Upcoming, WatchRefused, one_by_one
from stream_vlm.sources import SourceError, open_source
from stream_vlm.text_models.sentence_embedder import EmbeddingError, SentenceEmbedder
from stream_vlm.types import NANOSECONDS, Decision, Frame, Query, State, StreamError

FIRST_NS = 1_700_000_000 * NANOSECONDS


class BrightnessStream:
    """Decides by brightness alone: dark is silence, grey is standby, bright is a response.

    A black frame is refused.
    """

    def step(
        self,
        frame: Frame,
        query: Query | None,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None = None,
    ) -> Decision:
        level = float(frame.image.mean())
        if level == 0:
            raise StreamError(f"{frame.camera}: a black picture shows nothing")
        state = State.SILENCE if level < 80 else State.STANDBY if level < 160 else State.RESPONSE
        probabilities = {each: 0.8 if each is state else 0.1 for each in State}
        return gate(
            Decision(state, probabilities, "light turns on" if state is State.RESPONSE else "", 0.8)
        )

    def reset(self) -> None: ...

    def prepare(self) -> None: ...


class BrightnessModel:
    model_id = "brightness"
    reads_memory = False
    activity_threshold = 0.0
    seconds = {"step": 0.0}

    def unknown_words(self, text: str) -> Sequence[str]:
        return ()

    def open_stream(self, camera: str) -> BrightnessStream:
        return BrightnessStream()

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        return one_by_one(
            turns,
            lambda turn: Outcome(
                cast(BrightnessStream, turn.stream).step(
                    turn.frame, turn.query, turn.gate, turn.on_text
                )
            ),
        )


def film(
    camera: str = "front", levels: tuple[int, ...] = (20, 20, 120, 120, 200, 20, 20, 120, 200, 20)
) -> Iterator[Frame]:
    """Yield two frames per second."""
    for index, level in enumerate(levels):
        stamp_ns = FIRST_NS + index * NANOSECONDS // 2
        yield Frame(
            camera, stamp_ns, f"{camera}_optical", np.full((48, 64, 3), level, dtype=np.uint8)
        )


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_bag(tmp_path / "kitchen", film(), {"front": "/front/image_raw"})
    return tmp_path / "kitchen"


def watch_bag(bag: Path, folder: Path, **options: str):  # type: ignore[no-untyped-def]
    source = open_source(str(bag))
    changes = {name.replace("__", "."): options.pop(name) for name in list(options) if "__" in name}
    return watch(
        source,
        with_cameras(load_settings(changes), source.cameras),
        BrightnessModel(),
        folder,
        **options,  # type: ignore[arg-type]
    )


@dataclass
class NoPictures:
    """A source that has no picture: it ends at once, or breaks with `fault`."""

    fault: str = ""
    name: str = "no-camera"
    cameras: tuple[str, ...] = ("front",)
    duration_s: float | None = None
    live: bool = False

    def frames(self) -> Iterator[Frame]:
        if self.fault:
            raise SourceError(self.fault)
        yield from ()


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_events_are_written_in_seconds_of_stream(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    events = lines(tmp_path / "out" / "events.jsonl")
    assert [
        (event["label"], event["t_start"], event["t_end"], event["camera"]) for event in events
    ] == [
        ("light turns on", 0.75, 1.75, "front"),
        ("light turns on", 3.25, 3.75, "front"),
    ]
    assert all(event["confidence"] == pytest.approx(0.8) for event in events)


def test_every_utterance_and_state_is_written(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    assert [said["t"] for said in lines(tmp_path / "out" / "utterances.jsonl")] == [2.0, 4.0]
    states = [state["state"] for state in lines(tmp_path / "out" / "states.jsonl")]
    assert states == ["silence"] * 2 + ["standby"] * 2 + ["response"] + ["silence"] * 2 + [
        "standby",
        "response",
        "silence",
    ]


def test_the_memory_has_the_events_at_their_own_stamps(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    with Memory.open(
        MemorySettings(path=str(tmp_path / "out" / "memory.db")), read_only=True
    ) as memory:
        records = memory.recall(RecallQuery(kinds=("event",), order="oldest")).records
    quarter = NANOSECONDS // 4
    assert [
        (record.start_ns - FIRST_NS, record.stamp_ns - FIRST_NS, record.frame_id)
        for record in records
    ] == [
        (3 * quarter, 8 * quarter, "front_optical"),
        (13 * quarter, 16 * quarter, "front_optical"),
    ]


def test_with_a_text_model_every_text_gets_a_vector(bag: Path, tmp_path: Path) -> None:
    directory = write_sentence_model(tmp_path / "tiny-words")
    watch_bag(bag, tmp_path / "out", memory__text_model=str(directory))
    path = tmp_path / "out" / "memory.db"
    with Memory.open(MemorySettings(path=str(path)), read_only=True) as memory:
        received = memory.recall(RecallQuery(kinds=("event", "utterance", "summary"))).total
    assert vector_models(path) == (
        VectorModel(SentenceEmbedder(directory).name, 24, "record", received),
    )


def test_an_unusable_text_model_is_refused_before_a_run_is_replaced(
    bag: Path, tmp_path: Path
) -> None:
    watch_bag(bag, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(EmbeddingError, match=r"has no config\.json"):
        watch_bag(bag, tmp_path / "out", existing="replace", memory__text_model=str(tmp_path))
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("name", ["utterances.jsonl", "events.jsonl", "states.jsonl"])
def test_watching_a_recording_twice_gives_the_same_bytes(
    bag: Path, tmp_path: Path, name: str
) -> None:
    for folder in ("once", "again"):
        watch_bag(bag, tmp_path / folder)
    assert (
        (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() != b""
    )


def test_the_models_summaries_of_a_recording_are_the_same_each_time(
    bag: Path, tmp_path: Path
) -> None:
    model = load(write_speaking_checkpoint(tmp_path / "checkpoint"))
    source = open_source(str(bag))
    # The model says the same at every step.
    said = {
        "memory.summarizer": "model",
        "memory.chunk_s": 2.0,
        "decision.repeat_suppression_s": 0.0,
    }
    settings = with_cameras(load_settings(said), source.cameras)
    received = []
    for folder in ("once", "again"):
        watch(open_source(str(bag)), settings, model, tmp_path / folder)
        with Memory.open(
            MemorySettings(path=str(tmp_path / folder / "memory.db")), read_only=True
        ) as memory:
            records = memory.recall(RecallQuery(kinds=("summary",), order="oldest")).records
        received.append(
            [(record.start_ns - FIRST_NS, record.text, record.model_id) for record in records]
        )
    assert (
        received[0]
        == received[1]
        == [(2 * number * NANOSECONDS, SUMMARY, model.model_id) for number in range(3)]
    )


def test_a_model_that_cannot_write_summaries_is_refused_before_a_run_is_replaced(
    bag: Path, tmp_path: Path
) -> None:
    watch_bag(bag, tmp_path / "out")
    before = (tmp_path / "out" / "states.jsonl").read_bytes()
    source = open_source(str(bag))
    settings = with_cameras(load_settings({"memory.summarizer": "model"}), source.cameras)
    for folder in ("out", "new"):
        with pytest.raises(
            SummarizerError,
            match=(
                r"memory\.summarizer 'model': brightness cannot write texts between its steps;"
                " use a Qwen"
            ),
        ):
            watch(source, settings, BrightnessModel(), tmp_path / folder, existing="replace")
    assert (tmp_path / "out" / "states.jsonl").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_a_folder_with_a_run_is_refused_and_not_changed(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(ResultsError, match=r"already has a run .*--force.*--append"):
        watch_bag(bag, tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_replacing_a_run_starts_from_an_empty_memory(bag: Path, tmp_path: Path) -> None:
    first = watch_bag(bag, tmp_path / "out")
    second = watch_bag(bag, tmp_path / "out", existing="replace")
    assert first.session_id == second.session_id == "kitchen"
    assert len(lines(tmp_path / "out" / "events.jsonl")) == 2


def test_appending_continues_the_memory_with_a_new_session(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    assert watch_bag(bag, tmp_path / "out", existing="append").session_id == "kitchen-2"
    with Memory.open(
        MemorySettings(path=str(tmp_path / "out" / "memory.db")), read_only=True
    ) as memory:
        records = memory.recall(RecallQuery(kinds=("event",), order="oldest")).records
    assert sorted({record.session_id for record in records}) == ["kitchen", "kitchen-2"]
    assert len({record.event_id for record in records}) == 4


def test_several_cameras_are_watched_together(tmp_path: Path) -> None:
    frames = sorted([*film("left"), *film("right", (20,) * 10)], key=lambda frame: frame.stamp_ns)
    write_bag(tmp_path / "bag", frames, {"left": "/left/image_raw", "right": "/right/image_raw"})
    watched = watch_bag(tmp_path / "bag", tmp_path / "out")
    assert watched.ticks == 10
    assert {event["camera"] for event in lines(tmp_path / "out" / "events.jsonl")} == {"left"}
    assert len(lines(tmp_path / "out" / "states.jsonl")) == 20


def test_a_frame_that_the_model_cannot_use_is_counted_and_the_run_continues(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", film(levels=(20, 0, 120, 200)), {"front": "/front/image_raw"})
    watched = watch_bag(tmp_path / "bag", tmp_path / "out")
    assert watched.faults == {"front": 1}
    assert watched.ticks == 4
    assert watched.events == 1


def test_results_before_a_source_failed_are_kept(tmp_path: Path) -> None:
    class BreakingSource:
        name, cameras, duration_s, live = "broken", ("front",), None, False

        def frames(self) -> Iterator[Frame]:
            yield from film()
            raise SourceError("clip: breaks off after 10 pictures")

    settings: Settings = with_cameras(load_settings({}), ("front",))
    with pytest.raises(SourceError, match="breaks off"):
        watch(BreakingSource(), settings, BrightnessModel(), tmp_path / "out")
    assert len(lines(tmp_path / "out" / "events.jsonl")) == 2


def test_a_folder_that_cannot_be_created_is_reported(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"file/out: cannot be used for the results"):
        watch_bag(bag, tmp_path / "file" / "out")


def test_a_source_that_gives_no_picture_costs_no_earlier_run(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in RECORD_FILES}
    files = [*(tmp_path / "out").iterdir()]
    settings = load_settings({})
    for source, says in (
        (NoPictures("the cable is loose"), "the cable is loose"),
        (NoPictures(), "no-camera: has no picture, so the run in .* is not replaced"),
    ):
        with pytest.raises(SourceError, match=says):
            watch(source, settings, BrightnessModel(), tmp_path / "out", existing="replace")
    assert [*(tmp_path / "out").iterdir()] == files
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before


def test_a_run_that_is_still_being_written_is_not_replaced(tmp_path: Path) -> None:
    with Memory.open(MemorySettings(path=str(tmp_path / MEMORY_FILE))):
        with pytest.raises(MemoryFileError, match="writes it already"):
            prepare_folder(tmp_path, "replace")
        assert (tmp_path / MEMORY_FILE).exists()


class FollowingModel(BrightnessModel):
    """A model that follows watches: it records them, and refuses one for a sound."""

    def __init__(self) -> None:
        self.received: list[Query | None] = []

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        self.received += [turn.watch for turn in turns]
        if any(turn.watch is not None and "sound" in turn.watch.text for turn in turns):
            return [WatchRefused(f"{turn.frame.camera}: this model cannot hear") for turn in turns]
        return super().step(turns, upcoming)


def test_a_watch_is_in_every_turn_and_its_reports_have_its_id(bag: Path, tmp_path: Path) -> None:
    source, model = open_source(str(bag)), FollowingModel()
    watch(
        source,
        with_cameras(load_settings({}), source.cameras),
        model,
        tmp_path / "out",
        watch_for="a light that turns on",
    )
    assert {received.text for received in model.received if received is not None} == {
        "a light that turns on"
    }
    assert None not in model.received
    with Memory.open(
        MemorySettings(path=str(tmp_path / "out" / "memory.db")), read_only=True
    ) as memory:
        (asked,) = memory.recall(RecallQuery(kinds=("query",))).records
        reports = memory.recall(RecallQuery(kinds=("answer",))).records
    assert asked.text == "a light that turns on"
    assert [report.query_id for report in reports] == [asked.query_id] * 2


def test_a_watch_recalls_records_of_the_continued_memory(bag: Path, tmp_path: Path) -> None:
    watch_bag(bag, tmp_path / "out")
    source, model = open_source(str(bag)), FollowingModel()
    watch(
        source,
        with_cameras(load_settings({}), source.cameras),
        model,
        tmp_path / "out",
        "append",
        watch_for="a light that turns on",
    )
    first = model.received[0]
    assert first is not None
    said = [one.text for one in first.recalled.lines]
    assert said[:2] == ["light turns on"] * 2
    assert all("light turns on" in summary for summary in said[2:]), "then what sums them up"


def test_a_watch_that_the_model_refuses_ends_the_run_with_the_reason(
    bag: Path, tmp_path: Path
) -> None:
    source = open_source(str(bag))
    with pytest.raises(WatchRefused, match="this model cannot hear"):
        watch(
            source,
            with_cameras(load_settings({}), source.cameras),
            FollowingModel(),
            tmp_path / "out",
            watch_for="a sound",
        )


@pytest.mark.parametrize("first_s", [0.0, -5.0])
def test_a_simulation_that_starts_at_zero_or_before_is_watched_from_its_first_picture(
    tmp_path: Path, first_s: float
) -> None:
    path = McapFile([recorded_film(stamps_s=[first_s + index / 2 for index in range(20)])]).write(
        tmp_path / "a.mcap"
    )
    watched = watch_bag(path, tmp_path / "out")
    assert (watched.ticks, watched.seconds, watched.left_out) == (20, 9.5, {})
    states = lines(tmp_path / "out" / "states.jsonl")
    assert [state["t"] for state in states] == [index / 2 for index in range(20)]


def test_what_a_recording_leaves_out_is_in_the_totals_and_in_the_last_line(tmp_path: Path) -> None:
    rows = list(recorded_film().messages)
    rows[6] = (rows[6][0], rows[6][1][:40])
    path = McapFile([Channel("/cam/image_raw", rows)]).write(tmp_path / "a.mcap")
    watched = watch_bag(path, tmp_path / "out")
    assert (watched.ticks, watched.left_out) == (19, {"cam": {"no picture": 1}})
    assert "cam: 1 left out (no picture)" in summary(watched, tmp_path / "out")
