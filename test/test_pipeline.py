"""The pipeline: a source, a live stream and a notebook go one and the same way to the memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import BrightnessModel
from chat_fixtures import CHATML, write_speaking_checkpoint
from colour_mind import colour_mind
from instruct_fixtures import write_instruct_checkpoint
from judge_server import serve_judge
from judging_model import JudgingModel
from model_fixtures import FAMILIES
from model_server import serve_model

from stream_vlm.config.field import SettingError
from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.config.settings import Settings, load_settings
from stream_vlm.loop.standing_instructions import instruction_id
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.recording.background_writer import MemoryWriter
from stream_vlm.memory.search.query import RecallQuery, RecallRecord
from stream_vlm.memory.storage.errors import SessionError
from stream_vlm.model_protocol import WatchRefused
from stream_vlm.pipeline import Pipeline
from stream_vlm.types import NANOSECONDS, Frame, Pose, State, StepResult, StreamError, Tick

DARK, HALF_LIGHT, BRIGHT = 0, 128, 255
FLUSH_S = 30.0


class Film:
    """Grey pictures, two a second."""

    live = False
    duration_s = None

    def __init__(self, *brightness: int, camera: str = "front", name: str = "film") -> None:
        self.name, self.cameras = name, (camera,)
        self._brightness = brightness

    def frames(self) -> Iterator[Frame]:
        for index, level in enumerate(self._brightness):
            yield frame(index, level, self.cameras[0])


def frame(index: int, level: int, camera: str = "front") -> Frame:
    stamp_ns = NANOSECONDS + index * NANOSECONDS // 2
    return Frame(camera, stamp_ns, f"{camera}_optical", np.full((4, 4, 3), level, np.uint8))


def tick(index: int, level: int) -> Tick:
    shown = frame(index, level)
    return Tick(index, shown.stamp_ns, (shown,))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"cameras": ["front"], "memory.path": str(tmp_path / "memory.db")})


def texts(pipeline: Pipeline, kind: str) -> Sequence[str]:
    found = pipeline.memory.recall(RecallQuery(kinds=(kind,), order="oldest", limit=100))
    return [record.text for record in found.records]


def test_every_result_of_a_run_is_in_the_memory_when_it_is_given(settings: Settings) -> None:
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        stored = 0
        for _ in pipeline.run(Film(DARK, HALF_LIGHT, BRIGHT)):
            assert pipeline.memory.count() > stored
            stored = pipeline.memory.count()
        assert texts(pipeline, "event") == ["it became bright"]


def test_a_second_run_of_a_source_is_a_session_of_its_own(settings: Settings) -> None:
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        first, second = pipeline.run(Film(DARK, BRIGHT)), pipeline.run(Film(DARK, BRIGHT))
        events = [event for run in (first, second) for result in run for event in result.events]
        assert (first.session_id, second.session_id) == ("film", "film-2")
        assert len({event.event_id for event in events}) == 2


def test_a_run_watches_the_cameras_of_its_source(settings: Settings) -> None:
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        results = list(pipeline.run(Film(DARK, BRIGHT, camera="rear"), watch_for="it is bright"))
    assert results[-1].utterances[0].camera == "rear"
    assert results[-1].utterances[0].query_id == "film-watch"


def test_a_watch_that_the_model_refuses_ends_the_run(settings: Settings) -> None:
    with (
        Pipeline(settings, load=BrightnessModel) as pipeline,
        pytest.raises(WatchRefused, match="cannot hear"),
    ):
        list(pipeline.run(Film(DARK), watch_for="a sound"))


def test_a_live_pipeline_tells_of_each_step_in_order_on_the_writer_s_thread(
    settings: Settings,
) -> None:
    heard: list[tuple[StepResult, StreamError | None, str]] = []

    def on_result(result: StepResult, error: StreamError | None) -> None:
        heard.append((result, error, threading.current_thread().name))

    with Pipeline(settings, load=BrightnessModel, on_result=on_result) as pipeline:
        pipeline.begin_session("s", "test", NANOSECONDS)
        results = [pipeline.step(tick(index, DARK)) for index in range(3)]
        assert pipeline.flush(FLUSH_S)
        assert [(result, error) for result, error, _ in heard] == [(one, None) for one in results]
        assert {name for _, _, name in heard} == {"memory-writer"}
        assert pipeline.memory.count() == 3


def test_a_live_pipeline_tells_why_a_step_is_not_stored(settings: Settings) -> None:
    heard: list[StreamError | None] = []
    with Pipeline(
        settings, load=BrightnessModel, on_result=lambda _, error: heard.append(error)
    ) as pipeline:
        pipeline.start("never begun")
        pipeline.step(tick(0, DARK))
        assert pipeline.flush(FLUSH_S)
    assert len(heard) == 1
    assert "'never begun' was not begun" in str(heard[0])


def test_a_started_loop_begins_anew_after_it_was_stopped(settings: Settings) -> None:
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        pipeline.begin_session("s", "test", NANOSECONDS)
        pipeline.step(tick(0, DARK))
        pipeline.stop()
        assert pipeline.session_id == ""
        pipeline.begin_session("t", "test", 2 * NANOSECONDS)
        assert pipeline.step(tick(1, BRIGHT)).utterances == (), "no picture came before this one"


def test_a_session_of_a_name_that_is_taken_is_refused(settings: Settings) -> None:
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        pipeline.begin_session("s", "test", NANOSECONDS)
        with pytest.raises(SessionError, match="'s'"):
            pipeline.begin_session("s", "test", NANOSECONDS)


def test_a_model_that_cannot_be_loaded_leaves_the_memory_closed(settings: Settings) -> None:
    def fail(_: Settings) -> BrightnessModel:
        raise StreamError("no such model")

    with pytest.raises(StreamError, match="no such model"):
        Pipeline(settings, load=fail)
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        assert pipeline.memory.count() == 0


def test_an_event_that_is_open_too_long_is_logged_with_its_remedy_and_not_stored(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(
        update={"events": settings.events.model_copy(update={"max_open_s": 1.0})}
    )
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        list(pipeline.run(Film(*[DARK] + [HALF_LIGHT] * 4)))
        assert texts(pipeline, "event") == []
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("front: an event that began 1.2 s ago")
    assert "events.max_open_s" in record.getMessage()


class Tour(Film):
    """A film of a robot that drives a metre between two pictures."""

    def frames(self) -> Iterator[Frame]:
        for index, shown in enumerate(super().frames()):
            yield replace(shown, pose=Pose("map", float(index), 0.0, 0.0))


class Wall(Film):
    """A film of pictures that are large enough for any model."""

    def frames(self) -> Iterator[Frame]:
        for shown in super().frames():
            yield replace(shown, image=np.repeat(np.repeat(shown.image, 16, axis=0), 24, axis=1))


def captions(pipeline: Pipeline) -> list[RecallRecord]:
    query = RecallQuery("ball", kinds=("caption",), order="oldest", limit=100)
    return list(pipeline.memory.recall(query).records)


def test_a_run_with_an_instruct_model_fills_the_memory_with_captions(
    settings: Settings, tmp_path: Path
) -> None:
    """Each caption is found by its words, with the pose, the picture and the vector it had."""
    directory = write_speaking_checkpoint(tmp_path / "speaking")
    settings.model.directory = str(directory)
    settings.memory.captioner = "model"
    settings.memory.caption_s = 2.0
    settings.memory.thumbnail_period_s = 100.0
    with Pipeline(settings) as pipeline:
        for _ in pipeline.run(Tour(*range(100, 110))):
            pass
        found = captions(pipeline)
        assert [record.text for record in found] == ["There was a ball rolls in"] * 3
        assert [record.stamp_ns for record in found] == [
            NANOSECONDS + at * NANOSECONDS for at in (0, 2, 4)
        ]
        assert [record.pose.x for record in found if record.pose is not None] == [0.0, 4.0, 8.0]
        for record in found:
            assert pipeline.memory.frame(record.record_id).jpeg
            similar = pipeline.memory.search_by_record(record.record_id, RecallQuery(limit=100))
            assert {one.stamp_ns for one in similar.records} >= {one.stamp_ns for one in found}
        assert pipeline.memory.idle_health.captions.written == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_downloaded_instruct_model_describes_what_it_sees_by_itself(
    settings: Settings, tmp_path: Path, family: str
) -> None:
    """Nothing is set but the directory of the model."""
    says = {"Ċ": "It", "It": "Ġwas", "Ġwas": "Ġred", "Ġred": "<|im_end|>"}
    directory = write_instruct_checkpoint(tmp_path / family, family, follows=says)
    (directory / "chat_template.jinja").write_text(CHATML)
    settings.model.directory = str(directory)
    settings.model.language = "English"
    with Pipeline(settings) as pipeline:
        for _ in pipeline.run(Wall(*[100] * 30)):
            pass
        assert texts(pipeline, "caption") == ["It was red"] * 2
        assert pipeline.memory.idle_health.captions.captioner == pipeline.model.model_id


def test_the_captions_of_a_run_are_the_same_each_time(settings: Settings, tmp_path: Path) -> None:
    settings.model.directory = str(write_speaking_checkpoint(tmp_path / "speaking"))
    settings.memory.captioner = "model"
    settings.memory.caption_s = 1.0
    found = []
    with Pipeline(settings) as pipeline:
        for name in ("monday", "tuesday"):
            for _ in pipeline.run(Film(*range(10), name=name)):
                pass
            found.append([one.stamp_ns for one in captions(pipeline) if one.session_id == name])
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_an_endpoint_captions_what_a_model_of_another_kind_watches(settings: Settings) -> None:
    settings.memory.captioner = "endpoint"
    settings.memory.caption_model = "eyes"
    settings.memory.caption_s = 2.0
    with serve_judge(lambda content: "A ball lies on the floor.") as server:
        settings.memory.caption_url = server.url
        with Pipeline(settings, load=BrightnessModel) as pipeline:
            for _ in pipeline.run(Film(*range(100, 110))):
                pass
            assert [record.model_id for record in captions(pipeline)] == ["eyes"] * 3


def test_a_server_as_the_model_describes_what_it_sees_by_itself(settings: Settings) -> None:
    """Nobody has set a captioner: a model that judges instructions writes captions."""
    settings.memory.caption_s = 2.0
    with serve_model(colour_mind) as server:
        settings.model.url = server.url
        with Pipeline(settings) as pipeline:
            for _ in pipeline.run(Film(*range(100, 110))):
                pass
            assert texts(pipeline, "caption") == ["It is grey."] * 3
            assert pipeline.memory.idle_health.captions.captioner == pipeline.model.model_id


def test_a_model_that_was_tuned_for_streams_writes_no_captions_by_itself(
    settings: Settings,
) -> None:
    with Pipeline(settings, load=BrightnessModel) as pipeline:
        for _ in pipeline.run(Film(*range(100, 130))):
            pass
        assert texts(pipeline, "caption") == []
        assert pipeline.memory.idle_health.captions.captioner == "off"


def test_a_live_pipeline_stores_captions_of_its_idle_time(
    settings: Settings, tmp_path: Path
) -> None:
    settings.model.directory = str(write_speaking_checkpoint(tmp_path / "speaking"))
    settings.memory.captioner = "model"
    with Pipeline(settings, on_result=lambda result, error: None) as pipeline:
        pipeline.begin_session("live", "test", NANOSECONDS)
        pipeline.step(tick(0, 100))
        while pipeline.background.has_work:
            pipeline.background.advance()
        assert pipeline.flush(FLUSH_S)
        assert isinstance(pipeline.writer, MemoryWriter)
        assert pipeline.writer.wait_idle(FLUSH_S)
        assert texts(pipeline, "caption") == ["There was a ball rolls in"]


FIRE = "brighter than 200"


def judged(settings: Settings, *instructions: str) -> Settings:
    return settings.model_copy(update={"instructions": list(instructions)})


def load_judging(settings: Settings) -> JudgingModel:
    return JudgingModel()


def test_an_event_of_an_instruction_is_stored_when_it_ends(settings: Settings) -> None:
    film = Film(*[DARK] * 2, *[BRIGHT] * 6, *[DARK] * 6)
    with Pipeline(judged(settings, FIRE), load=load_judging) as pipeline:
        list(pipeline.run(film))
        (said,) = pipeline.memory.recall(RecallQuery(kinds=("utterance",))).records
        (event,) = pipeline.memory.recall(RecallQuery(kinds=("event",))).records
    assert said.query_id == event.query_id == instruction_id(FIRE)
    assert said.event_id == event.event_id
    assert (event.start_ns, event.end_ns) == (
        NANOSECONDS + 3 * NANOSECONDS // 4,
        NANOSECONDS + 15 * NANOSECONDS // 4,
    )


def test_its_picture_is_the_one_that_was_reported(settings: Settings) -> None:
    film = Film(*[DARK] * 2, *[BRIGHT] * 6, *[DARK] * 6)
    with Pipeline(judged(settings, FIRE), load=load_judging) as pipeline:
        list(pipeline.run(film))
        (said,) = pipeline.memory.recall(RecallQuery(kinds=("utterance",))).records
        (event,) = pipeline.memory.recall(RecallQuery(kinds=("event",))).records
    assert said.stamp_ns == event.stamp_ns == NANOSECONDS * 2
    assert event.has_frame


def test_an_event_that_goes_on_at_the_end_of_a_source_is_stored(settings: Settings) -> None:
    with Pipeline(judged(settings, FIRE), load=load_judging) as pipeline:
        results = list(pipeline.run(Film(DARK, BRIGHT, BRIGHT)))
        assert texts(pipeline, "event") == [f"it is {FIRE}"]
    assert (results[-1].tick.frames, len(results[-1].events)) == ((), 1)


def test_a_new_session_first_stores_the_events_of_the_old_one(settings: Settings) -> None:
    with Pipeline(judged(settings, FIRE), load=load_judging) as pipeline:
        pipeline.begin_session("first", "test", 1)
        for index, level in enumerate([DARK, BRIGHT]):
            pipeline.step(tick(index, level))
        pipeline.begin_session("second", "test", 1)
        (event,) = pipeline.memory.recall(RecallQuery(kinds=("event",))).records
    assert event.session_id == "first"


def test_to_forget_one_report_keeps_the_other_reports_of_the_instruction(
    settings: Settings,
) -> None:
    film = Film(*[DARK] * 2, *[BRIGHT] * 2, *[DARK] * 8, *[BRIGHT] * 2, *[DARK] * 8)
    with Pipeline(judged(settings, FIRE), load=load_judging) as pipeline:
        list(pipeline.run(film))
        assert len(texts(pipeline, "event")) == 2
        pipeline.memory.forget(Forget(start_ns=0, end_ns=4 * NANOSECONDS))
        assert len(texts(pipeline, "event")) == len(texts(pipeline, "utterance")) == 1


class NoWatches(BrightnessModel):
    follows_watches = False


def test_instructions_are_refused_by_a_model_that_can_follow_none(settings: Settings) -> None:
    with pytest.raises(SettingError, match=r"^instructions: brightness can follow none"):
        Pipeline(judged(settings, FIRE), load=NoWatches)


def test_a_second_look_is_refused_by_a_model_that_gives_none(settings: Settings) -> None:
    settings.decision.verify = "on"
    with pytest.raises(SettingError, match=r"^decision\.verify: on is refused"):
        Pipeline(settings, load=BrightnessModel)


def test_a_tuned_model_follows_the_instructions_as_one_watch(settings: Settings) -> None:
    words = ["it gets dark", "it gets bright"]
    with Pipeline(judged(settings, *words), load=BrightnessModel) as pipeline:
        (followed,) = pipeline.followed
        results = list(pipeline.run(Film(DARK, BRIGHT, DARK, HALF_LIGHT)))
    assert followed.text == "it gets dark; it gets bright"
    said = [each for result in results for each in result.utterances]
    assert [(each.text, each.query_id, each.instruction_id) for each in said] == [
        ("it became bright", "", followed.instruction_id),
        ("it became dark", "", followed.instruction_id),
    ]


def test_while_a_watch_is_active_a_tuned_model_follows_only_the_watch(settings: Settings) -> None:
    with Pipeline(judged(settings, "it gets dark"), load=BrightnessModel) as pipeline:
        run = pipeline.run(Film(DARK, BRIGHT, DARK), watch_for="it gets bright")
        said = [each for result in run for each in result.utterances]
    assert [(each.text, each.query_id, each.instruction_id) for each in said] == [
        ("it became bright", "film-watch", "")
    ]


def test_a_tuned_model_that_cannot_follow_these_instructions_goes_on_without(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with Pipeline(judged(settings, "a sound"), load=BrightnessModel) as pipeline:
        results = list(pipeline.run(Film(DARK, BRIGHT, DARK, BRIGHT)))
    assert [list(result.decisions) for result in results] == [["front"]] * 4
    assert len([line for line in caplog.messages if "an instruction is not followed" in line]) == 1


CHATTERS = {
    "\u010a": "Response",
    "Response": "\u0120red",
    "\u0120red": "\u0120door",
    "\u0120door": "\u0120opens",
    "\u0120opens": "<|im_end|>",
}
"""An instruct model that writes the same response about each instruction at each picture."""


def test_an_instruct_model_that_never_stops_reports_each_instruction_once(
    settings: Settings, tmp_path: Path
) -> None:
    settings.model.directory = str(
        write_instruct_checkpoint(tmp_path / "instruct", "qwen3_vl", follows=CHATTERS)
    )
    settings.decision.verify_threshold = 0.0
    with Pipeline(settings) as pipeline:
        results = list(pipeline.run(Film(*range(100, 110))))
        ids = sorted(each.instruction_id for each in pipeline.followed)
    said = [each for result in results for each in result.utterances]
    events = [event for result in results for event in result.events]
    assert len(ids) == len(DEFAULT_INSTRUCTIONS)
    assert sorted(each.instruction_id for each in said) == ids
    assert sorted(event.instruction_id for event in events) == ids
    assert {each.text for each in said} == {"red door opens"}
    states = [result.decisions["front"].state for result in results if result.tick.frames]
    assert states == [State.RESPONSE, *[State.STANDBY] * (len(states) - 1)]
