"""The model thread without middleware: which ticks are processed, and what uses idle time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from ros_fixtures import DARK, DEADLINE_S, image

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.config.settings import Settings
from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.memory.captions.by_model import ModelCaptioner
from stream_vlm.memory.captions.queue import CaptionQueue
from stream_vlm.memory.recording.background_texts import BackgroundTexts
from stream_vlm.memory.storage.picture_texts import PictureTexts
from stream_vlm.memory.summaries import by_model
from stream_vlm.memory.summaries.by_model import ModelSummarizer
from stream_vlm.memory.summaries.extractive import Material, SummaryItem
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.pipeline import Pipeline
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import Decision, Limits, State, StepResult, Tick
from stream_vlm_ros.common.health_counters import CameraHealth, FaultLog, StepHealth
from stream_vlm_ros.inputs.camera_subscription import CameraMessage
from stream_vlm_ros.inputs.session_tracker import SessionTracker
from stream_vlm_ros.model_thread.worker import Worker
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.picture_query import PictureQuery


class FakePipeline:
    """Records its calls. A step ends when `may_finish_step` is set."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.model: Any = self
        self.model_id = "fake"
        self.background = BackgroundTexts([])
        self.limits: list[Limits] = []
        """The limits of each step."""
        self.stamps: list[int] = []
        """The stamp of each step."""
        self.steps_before_prepare: list[int] = []
        """How many steps began before each call of `prepare`."""
        self.step_s = 0.0
        """Shortest duration of a step, seconds."""
        self.may_finish_step = threading.Event()
        self.may_finish_step.set()
        self.decisions: dict[str, Decision] = {}
        self.faults: dict[str, str] = {}

    watching: frozenset[str] = frozenset()

    def begin_session(self, session_id: str, reason: str, started_ns: int) -> None: ...

    def end_watches(self, query_ids: Sequence[str]) -> None: ...

    def step(self, tick: Tick, on_partial: object, limits: Limits) -> StepResult:
        self.limits.append(limits)
        self.stamps.append(tick.stamp_ns)
        time.sleep(self.step_s)
        assert self.may_finish_step.wait(DEADLINE_S)
        return StepResult("session", tick, self.decisions, faults=self.faults)

    def prepare(self) -> None:
        self.steps_before_prepare.append(len(self.stamps))


class Environment:
    """A worker with a fake pipeline and the other objects that it needs."""

    def __init__(self, pipeline: FakePipeline | None = None) -> None:
        self.pipeline = pipeline or FakePipeline()
        self.sampler: LatestFrames[CameraMessage] = LatestFrames()
        self.governor = LoadGovernor(self.pipeline.settings, takes_any_size=True)
        self.errors: list[str] = []
        self.requests = ModelRequests(["camera"], "not active")
        self.requests.open()
        self.steps = StepHealth(FaultLog(self.errors.append))
        self.camera = CameraHealth("/image", self.errors.append)
        self.worker = Worker(
            cast(Pipeline, self.pipeline),
            self.requests,
            sessions=SessionTracker(self.sampler, PoseBuffer(), ["camera"], self.errors.append),
            poses=None,
            cameras={"camera": self.camera},
            steps=self.steps,
            governor=self.governor,
            log_error=self.errors.append,
        )
        self.frames = 0

    def frame(self) -> None:
        """A camera message arrives; the stamps are 1, 2, 3 ... ns."""
        self.frames += 1
        self.sampler.put(CameraMessage("camera", self.frames, image(DARK, self.frames)))

    def tick(self) -> None:
        """The timer of the node fires."""
        self.worker.tick()

    def wait_until_idle(self) -> None:
        """Wait until the worker has done everything that was due.

        It serves one picture query before each step or slice. So when the second query is served,
        the work that followed the first one is done.
        """
        for _ in range(2):
            results = query_picture(self, JPEG)
            wait(lambda results=results: bool(results))  # type: ignore[misc]


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def env() -> Iterator[Environment]:
    """A running worker."""
    made = Environment()
    made.worker.start()
    yield made
    made.pipeline.may_finish_step.set()
    made.worker.stop()
    assert made.errors == []


def degrade(env: Environment) -> None:
    """Report slow steps to the governor until only every 4th tick is processed."""
    while env.governor.level < env.governor.worst:
        env.governor.observe(60.0)


def test_the_pipeline_prepares_after_a_step(env: Environment) -> None:
    env.frame()
    env.tick()
    wait(lambda: bool(env.pipeline.steps_before_prepare))
    assert env.pipeline.limits == [Limits()]


def test_the_pipeline_does_not_prepare_while_a_tick_waits(env: Environment) -> None:
    env.pipeline.may_finish_step.clear()
    env.frame()
    env.tick()
    wait(lambda: len(env.pipeline.limits) == 1)
    env.frame()
    env.tick()
    env.pipeline.may_finish_step.set()
    wait(lambda: bool(env.pipeline.steps_before_prepare))
    assert env.pipeline.steps_before_prepare == [2]


def test_ticks_that_come_during_a_step_lead_to_one_step(env: Environment) -> None:
    env.pipeline.may_finish_step.clear()
    env.frame()
    env.tick()
    wait(lambda: len(env.pipeline.limits) == 1)
    for _ in range(5):
        env.frame()
        env.tick()
    env.pipeline.may_finish_step.set()
    wait(lambda: bool(env.pipeline.steps_before_prepare))
    assert env.pipeline.stamps == [1, 6]


def test_under_load_only_every_fourth_tick_is_processed_and_steps_are_limited(
    env: Environment,
) -> None:
    degrade(env)
    for steps in (1, 2):
        for _ in range(3):
            env.frame()
            env.tick()
            env.wait_until_idle()
        env.frame()
        env.tick()
        wait(lambda steps=steps: len(env.pipeline.stamps) == steps)  # type: ignore[misc]
    assert env.pipeline.stamps == [4, 8]
    assert set(env.pipeline.limits) == {Limits(0.25, 8)}


def test_if_a_processed_tick_has_no_frame_the_next_tick_is_processed(env: Environment) -> None:
    degrade(env)
    for _ in range(4):
        env.tick()
    env.wait_until_idle()
    env.frame()
    env.tick()
    wait(lambda: len(env.pipeline.stamps) == 1)


@pytest.mark.parametrize(("is_processed", "refused"), [(True, 0), (False, 1)])
def test_only_a_frame_without_a_decision_counts_as_refused(
    env: Environment, is_processed: bool, refused: int
) -> None:
    env.pipeline.faults = {"camera": "camera: a watch that was withdrawn cannot be followed"}
    if is_processed:
        env.pipeline.decisions = {"camera": Decision(State.SILENCE, {State.SILENCE: 1.0})}
    env.frame()
    env.tick()
    env.wait_until_idle()
    assert env.camera.refused.count == refused
    assert len(env.errors) == refused
    env.errors.clear()


def test_slow_steps_raise_the_level_of_the_governor(env: Environment) -> None:
    env.pipeline.settings.load_shedding.budget = 0.1
    env.pipeline.settings.stream.rate_hz = 30.0
    env.pipeline.step_s = 0.02
    while env.governor.level == 0:
        before = env.steps.steps
        env.frame()
        env.tick()
        wait(lambda before=before: env.steps.steps > before)  # type: ignore[misc]
    assert env.steps.steps == 4


JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


class Embedder:
    """A model that embeds pictures; it records the thread and the number of steps before."""

    model_id = "fake"

    def __init__(self, pipeline: FakePipeline) -> None:
        self.threads: list[str] = []
        self.steps_before: list[int] = []
        self._pipeline = pipeline

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.threads.append(threading.current_thread().name)
        self.steps_before.append(len(self._pipeline.stamps))
        return np.array(picture.shape, np.float32)


def query_picture(env: Environment, file: bytes) -> list[object]:
    """Let the model embed `file`; the returned list gets the vector or the failure."""
    results: list[object] = []
    env.requests.pictures.put(
        PictureQuery(
            file=file,
            on_vector=lambda vector, model_id: results.append((vector.tolist(), model_id)),
            on_failure=results.append,
        )
    )
    return results


def test_a_picture_query_is_served_on_the_model_thread_without_a_tick(
    env: Environment,
) -> None:
    env.pipeline.model = embedder = Embedder(env.pipeline)
    results = query_picture(env, JPEG)
    wait(lambda: bool(results))
    assert results == [([8.0, 8.0, 3.0], "fake")]
    assert embedder.threads == ["stream_vlm model"]
    assert env.pipeline.stamps == []


class FakeText:
    """A text of 100 slices. The third slice ends when `may_finish_slice` is set."""

    text = ""
    is_over = False

    def __init__(self, pipeline: SummarizingPipeline) -> None:
        self._pipeline = pipeline
        self._left = 100

    def advance(self) -> None:
        self._pipeline.calls.append("slice")
        self._left -= 1
        if self._pipeline.calls.count("slice") == 3:
            self._pipeline.in_third_slice.set()
            assert self._pipeline.may_finish_slice.wait(DEADLINE_S)
        if not self._left:
            self.text, self.is_over = "the door opens", True


class SummarizingPipeline(FakePipeline):
    """A pipeline whose model writes summaries; `calls` has its steps and slices in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.in_third_slice, self.may_finish_slice = threading.Event(), threading.Event()
        self.during_step: Callable[[Tick], None] = lambda tick: None

    def step(self, tick: Tick, on_partial: object, limits: Limits) -> StepResult:
        self.calls.append("step")
        result = super().step(tick, on_partial, limits)
        self.during_step(tick)
        return result

    def begin(self, about: Any) -> FakeText:
        return FakeText(self)


def job(record_id: int) -> Job:
    return Job(
        record_id,
        "0:00 the door opens",
        Material(0, (SummaryItem(0, 0, "the door opens", 1.0),)),
        400,
    )


@pytest.fixture
def summarizing() -> Iterator[tuple[Environment, SummarizingPipeline, SummaryJobs]]:
    """A worker that is not started yet, its pipeline and the queue of summaries."""
    pipeline = SummarizingPipeline()
    jobs = SummaryJobs(lambda: None)
    pipeline.background = BackgroundTexts([ModelSummarizer(jobs, pipeline, pipeline.model_id)])
    env = Environment(pipeline)
    yield env, pipeline, jobs
    pipeline.may_finish_slice.set()
    env.worker.stop()
    assert env.errors == []


def test_a_tick_during_a_summary_waits_for_one_slice_only(
    summarizing: tuple[Environment, SummarizingPipeline, SummaryJobs],
) -> None:
    env, pipeline, jobs = summarizing
    env.worker.start()
    jobs.submit(job(1))
    assert pipeline.in_third_slice.wait(DEADLINE_S)
    env.frame()
    env.tick()
    pipeline.may_finish_slice.set()
    wait(lambda: "step" in pipeline.calls)
    assert pipeline.calls[: pipeline.calls.index("step") + 1] == ["slice", "slice", "slice", "step"]
    wait(lambda: jobs.written is not None)
    assert pipeline.calls.count("slice") == 100
    assert pipeline.calls.count("step") == 1


def test_no_slice_runs_between_two_steps_without_idle_time(
    summarizing: tuple[Environment, SummarizingPipeline, SummaryJobs],
) -> None:
    env, pipeline, jobs = summarizing
    env.worker.start()
    jobs.submit(job(1))
    assert pipeline.in_third_slice.wait(DEADLINE_S)
    pipeline.may_finish_step.clear()
    for _ in range(10):
        env.frame()
        env.tick()
    pipeline.may_finish_slice.set()
    wait(lambda: pipeline.calls[-1] == "step")
    env.frame()
    env.tick()
    pipeline.may_finish_step.set()
    wait(lambda: pipeline.calls.count("step") == 2)
    first = pipeline.calls.index("step")
    assert pipeline.calls[first : first + 2] == ["step", "step"]


def test_steps_without_idle_time_are_reported_if_summaries_wait(
    summarizing: tuple[Environment, SummarizingPipeline, SummaryJobs],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env, pipeline, jobs = summarizing
    monkeypatch.setattr(by_model, "MAX_BUSY_STEPS", 5)
    jobs.submit(job(1))

    def tick_again(tick: Tick) -> None:
        if len(pipeline.stamps) < 5:
            env.frame()
            env.tick()

    pipeline.during_step = tick_again
    env.frame()
    env.tick()
    env.worker.start()
    assert pipeline.in_third_slice.wait(DEADLINE_S)
    assert pipeline.calls == ["step"] * 5 + ["slice"] * 3
    assert "1 summaries wait, but 5 steps in a row left no time to write" in jobs.fault


def test_a_worker_that_stops_during_a_summary_puts_it_back_into_the_queue(
    summarizing: tuple[Environment, SummarizingPipeline, SummaryJobs],
) -> None:
    env, pipeline, jobs = summarizing
    env.worker.start()
    jobs.submit(job(1))
    assert pipeline.in_third_slice.wait(DEADLINE_S)
    stopping = threading.Thread(target=env.worker.stop)
    stopping.start()
    wait(lambda: env.worker.is_stopping)
    pipeline.may_finish_slice.set()
    stopping.join(DEADLINE_S)
    assert not stopping.is_alive()
    assert pipeline.calls == ["slice"] * 3
    assert jobs.take() == job(1)


class CaptioningPipeline(SummarizingPipeline):
    """A pipeline whose model describes each picture; `begun` has the stamps of these pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions = {"camera": Decision(State.SILENCE, {State.SILENCE: 1.0})}
        self.texts = PictureTexts(lambda: None)
        self.captions = CaptionQueue(MemorySettings(caption_s=0.5), self.texts)
        self.background = BackgroundTexts([ModelCaptioner(self.captions, self, self.model_id)])
        self.begun: list[int] = []

    def step(self, tick: Tick, on_partial: object, limits: Limits) -> StepResult:
        result = super().step(tick, on_partial, limits)
        self.captions.note(result)
        return result

    def begin(self, about: Any) -> FakeText:
        self.begun.append(about.stamp_ns)
        return super().begin(about)


@pytest.fixture
def captioning() -> Iterator[tuple[Environment, CaptioningPipeline]]:
    """A running worker whose model describes pictures."""
    pipeline = CaptioningPipeline()
    env = Environment(pipeline)
    env.worker.start()
    yield env, pipeline
    pipeline.may_finish_slice.set()
    pipeline.may_finish_step.set()
    env.worker.stop()
    assert env.errors == []


def test_a_tick_during_a_caption_waits_for_one_slice_only(
    captioning: tuple[Environment, CaptioningPipeline],
) -> None:
    env, pipeline = captioning
    env.frame()
    env.tick()
    assert pipeline.in_third_slice.wait(DEADLINE_S)
    env.frame()
    env.tick()
    pipeline.may_finish_slice.set()
    wait(lambda: pipeline.calls.count("step") == 2)
    second = len(pipeline.calls) - pipeline.calls[::-1].index("step")
    assert pipeline.calls[: second - 1] == ["step", "slice", "slice", "slice"]
    wait(lambda: pipeline.texts.oldest is not None)
    caption = pipeline.texts.oldest
    assert caption is not None
    assert (caption.text, caption.frame.stamp_ns) == ("The door opens", 1)
    assert pipeline.calls.count("slice") == 100


def test_no_caption_is_begun_between_two_steps_without_idle_time(
    captioning: tuple[Environment, CaptioningPipeline],
) -> None:
    env, pipeline = captioning
    pipeline.may_finish_slice.set()
    pipeline.may_finish_step.clear()
    env.frame()
    env.tick()
    wait(lambda: pipeline.calls == ["step"])
    for _ in range(10):
        env.frame()
        env.tick()
    pipeline.may_finish_step.set()
    wait(lambda: pipeline.texts.oldest is not None)
    assert pipeline.calls[:2] == ["step", "step"]
    # The picture that came last is described, not the one that was due first.
    assert pipeline.begun == [11]


def test_a_picture_query_is_served_between_steps_without_idle_time(env: Environment) -> None:
    env.pipeline.model = embedder = Embedder(env.pipeline)
    env.pipeline.may_finish_step.clear()
    env.frame()
    env.tick()
    wait(lambda: len(env.pipeline.limits) == 1)
    results = query_picture(env, JPEG)
    env.frame()
    env.tick()
    env.pipeline.may_finish_step.set()
    wait(lambda: bool(results) and env.pipeline.stamps == [1, 2])
    assert embedder.steps_before == [1]
