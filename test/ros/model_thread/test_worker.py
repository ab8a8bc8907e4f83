"""The thread that owns the model, without middleware: which beats are looked at, and what is done
in the time that is left.
"""

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

from stream_vlm.config.settings import Settings
from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.memory.summaries import by_model
from stream_vlm.memory.summaries.by_model import ModelSummarizer
from stream_vlm.memory.summaries.extractive import Material, SummaryItem
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.pipeline import Pipeline
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import Limits, StepResult, Tick
from stream_vlm_ros.common.health_counters import CameraHealth, FaultLog, StepHealth
from stream_vlm_ros.inputs.camera_subscription import CameraMessage
from stream_vlm_ros.inputs.session_tracker import SessionTracker
from stream_vlm_ros.model_thread.worker import Worker
from stream_vlm_ros.requests.model_requests import ModelRequests
from stream_vlm_ros.requests.picture_query import PictureQuery


class NotingPipeline:
    """Notes what is asked of it, and stays in a step for as long as a test holds it there."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.model: Any = self
        self.model_id = "noting"
        self.summarizer: ModelSummarizer | None = None
        self.limits: list[Limits] = []
        self.stamps: list[int] = []
        self.steps_before_preparing: list[int] = []
        self.step_s = 0.0
        self.go_on = threading.Event()
        self.go_on.set()

    watching: frozenset[str] = frozenset()

    def begin_session(self, session_id: str, reason: str, started_ns: int) -> None: ...

    def end_watches(self, query_ids: Sequence[str]) -> None: ...

    def step(self, tick: Tick, on_partial: object, limits: Limits) -> StepResult:
        self.limits.append(limits)
        self.stamps.append(tick.stamp_ns)
        time.sleep(self.step_s)
        assert self.go_on.wait(DEADLINE_S)
        return StepResult("session", tick, {})

    def prepare(self) -> None:
        self.steps_before_preparing.append(len(self.stamps))

    @property
    def prepared(self) -> int:
        return len(self.steps_before_preparing)


class Bench:
    """A worker with all around it that it needs."""

    def __init__(self, pipeline: NotingPipeline | None = None) -> None:
        self.pipeline = pipeline or NotingPipeline()
        self.sampler: LatestFrames[CameraMessage] = LatestFrames()
        self.governor = LoadGovernor(self.pipeline.settings, takes_any_size=True)
        self.errors: list[str] = []
        self.requests = ModelRequests(["camera"], "not active")
        self.requests.open()
        self.steps = StepHealth(FaultLog(self.errors.append))
        self.worker = Worker(
            cast(Pipeline, self.pipeline),
            self.requests,
            sessions=SessionTracker(self.sampler, PoseBuffer(), ["camera"], self.errors.append),
            poses=None,
            cameras={"camera": CameraHealth("/image", self.errors.append)},
            steps=self.steps,
            governor=self.governor,
            log_error=self.errors.append,
        )
        self.shown = 0

    def show(self) -> None:
        self.shown += 1
        self.sampler.put(CameraMessage("camera", self.shown, image(DARK, self.shown)))

    def settle(self) -> None:
        """Wait until the worker has done all that was due.

        One picture is served before each step or slice, so the second one comes after whatever the
        first one preceded.
        """
        for _ in range(2):
            heard = ask_for(self, JPEG)
            wait(lambda heard=heard: bool(heard))  # type: ignore[misc]


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.worker.start()
    yield made
    made.pipeline.go_on.set()
    made.worker.stop()
    assert made.errors == []


def degrade(bench: Bench) -> None:
    """Let the governor see nothing but slow steps until every fourth beat is looked at."""
    while bench.governor.level < bench.governor.worst:
        bench.governor.observe(60.0)


def test_the_time_after_a_step_is_used_to_prepare(bench: Bench) -> None:
    bench.show()
    bench.worker.tick()
    wait(lambda: bench.pipeline.prepared == 1)
    assert bench.pipeline.limits == [Limits()]


def test_nothing_is_prepared_while_the_next_beat_waits(bench: Bench) -> None:
    bench.pipeline.go_on.clear()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.pipeline.limits) == 1)
    bench.show()
    bench.worker.tick()
    bench.pipeline.go_on.set()
    wait(lambda: bench.pipeline.prepared == 1)
    assert bench.pipeline.steps_before_preparing == [2]


def test_beats_that_come_during_a_step_lead_to_one_look(bench: Bench) -> None:
    bench.pipeline.go_on.clear()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.pipeline.limits) == 1)
    for _ in range(5):
        bench.show()
        bench.worker.tick()
    bench.pipeline.go_on.set()
    wait(lambda: bench.pipeline.prepared == 1)
    assert bench.pipeline.stamps == [1, 6]


def test_a_beat_that_is_held_back_is_not_looked_at_and_limits_reach_the_step(bench: Bench) -> None:
    degrade(bench)
    for looks in (1, 2):
        for _ in range(3):
            bench.show()
            bench.worker.tick()
            bench.settle()
        bench.show()
        bench.worker.tick()
        wait(lambda looks=looks: len(bench.pipeline.stamps) == looks)  # type: ignore[misc]
    assert bench.pipeline.stamps == [4, 8]
    assert set(bench.pipeline.limits) == {Limits(0.25, 8)}


def test_a_beat_without_a_picture_is_made_up_for_at_the_next(bench: Bench) -> None:
    degrade(bench)
    for _ in range(4):
        bench.worker.tick()
    bench.settle()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.pipeline.stamps) == 1)


def test_the_governor_hears_how_long_steps_take(bench: Bench) -> None:
    bench.pipeline.settings.load_shedding.budget = 0.1
    bench.pipeline.settings.stream.rate_hz = 30.0
    bench.pipeline.step_s = 0.02
    while bench.governor.level == 0:
        taken = bench.steps.steps
        bench.show()
        bench.worker.tick()
        wait(lambda taken=taken: bench.steps.steps > taken)  # type: ignore[misc]
    assert bench.steps.steps == 4


JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


class Embedder:
    """A model that gives vectors of pictures; notes on which thread, and after how many steps."""

    model_id = "noting"

    def __init__(self, pipeline: NotingPipeline) -> None:
        self.threads: list[str] = []
        self.steps_before: list[int] = []
        self._pipeline = pipeline

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.threads.append(threading.current_thread().name)
        self.steps_before.append(len(self._pipeline.stamps))
        return np.array(picture.shape, np.float32)


def ask_for(bench: Bench, file: bytes) -> list[object]:
    """Have the model embed `file`; what the caller hears comes into the list."""
    heard: list[object] = []
    bench.requests.pictures.put(
        PictureQuery(
            file=file,
            on_vector=lambda vector, model_id: heard.append((vector.tolist(), model_id)),
            on_failure=heard.append,
        )
    )
    return heard


def test_a_picture_that_is_asked_about_is_embedded_on_the_model_s_thread_without_a_tick(
    bench: Bench,
) -> None:
    bench.pipeline.model = embedder = Embedder(bench.pipeline)
    heard = ask_for(bench, JPEG)
    wait(lambda: bool(heard))
    assert heard == [([8.0, 8.0, 3.0], "noting")]
    assert embedder.threads == ["stream_vlm model"]
    assert bench.pipeline.stamps == []


class Writing:
    """A text of a hundred slices, one of which a test holds."""

    text = ""
    is_over = False

    def __init__(self, pipeline: Telling) -> None:
        self._pipeline = pipeline
        self._left = 100

    def advance(self) -> None:
        self._pipeline.told.append("slice")
        self._left -= 1
        if self._pipeline.told.count("slice") == self._pipeline.held_slice:
            self._pipeline.holds.set()
            assert self._pipeline.go_on_writing.wait(DEADLINE_S)
        if not self._left:
            self.text, self.is_over = "the door opens", True


class Telling(NotingPipeline):
    """One that can be told what to write, and notes looks and slices in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.held_slice = 3
        self.holds, self.go_on_writing = threading.Event(), threading.Event()
        self.during_step: Callable[[Tick], None] = lambda tick: None

    def step(self, tick: Tick, on_partial: object, limits: Limits) -> StepResult:
        self.told.append("look")
        result = super().step(tick, on_partial, limits)
        self.during_step(tick)
        return result

    def begin(self, lines: Sequence[str]) -> Writing:
        return Writing(self)


def job(record_id: int) -> Job:
    return Job(
        record_id,
        "0:00 the door opens",
        Material(0, (SummaryItem(0, 0, "the door opens", 1.0),)),
        400,
    )


@pytest.fixture
def telling() -> Iterator[tuple[Bench, Telling, SummaryJobs]]:
    """A worker that has not been started, its model and the summaries that wait for it."""
    model = Telling()
    jobs = SummaryJobs(lambda: None)
    model.summarizer = ModelSummarizer(jobs, model, model.model_id)
    bench = Bench(model)
    yield bench, model, jobs
    model.go_on_writing.set()
    bench.worker.stop()
    assert bench.errors == []


def test_a_beat_that_comes_while_a_summary_is_written_waits_for_that_slice_alone(
    telling: tuple[Bench, Telling, SummaryJobs],
) -> None:
    bench, model, jobs = telling
    bench.worker.start()
    jobs.submit(job(1))
    assert model.holds.wait(DEADLINE_S)
    bench.show()
    bench.worker.tick()
    model.go_on_writing.set()
    wait(lambda: "look" in model.told)
    assert model.told[: model.told.index("look") + 1] == ["slice", "slice", "slice", "look"]
    wait(lambda: jobs.written is not None)
    assert model.told.count("slice") == 100
    assert model.told.count("look") == 1


def test_a_summary_waits_while_beats_leave_no_time(
    telling: tuple[Bench, Telling, SummaryJobs],
) -> None:
    bench, model, jobs = telling
    bench.worker.start()
    jobs.submit(job(1))
    assert model.holds.wait(DEADLINE_S)
    model.go_on.clear()
    for _ in range(10):
        bench.show()
        bench.worker.tick()
    model.go_on_writing.set()
    wait(lambda: model.told[-1] == "look")
    bench.show()
    bench.worker.tick()
    model.go_on.set()
    wait(lambda: model.told.count("look") == 2)
    first = model.told.index("look")
    assert model.told[first : first + 2] == ["look", "look"]


def test_looks_that_leave_no_time_are_counted_and_said(
    telling: tuple[Bench, Telling, SummaryJobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, model, jobs = telling
    monkeypatch.setattr(by_model, "MAX_BUSY_STEPS", 5)
    jobs.submit(job(1))

    def a_beat_comes_during(tick: Tick) -> None:
        if len(model.stamps) < 5:
            bench.show()
            bench.worker.tick()

    model.during_step = a_beat_comes_during
    bench.show()
    bench.worker.tick()
    bench.worker.start()
    assert model.holds.wait(DEADLINE_S)
    assert model.told == ["look"] * 5 + ["slice"] * 3
    assert "1 summaries wait, but 5 steps in a row left no time to write" in jobs.fault


def test_a_worker_that_stops_in_the_middle_of_a_summary_gives_it_back(
    telling: tuple[Bench, Telling, SummaryJobs],
) -> None:
    bench, model, jobs = telling
    bench.worker.start()
    jobs.submit(job(1))
    assert model.holds.wait(DEADLINE_S)
    stopping = threading.Thread(target=bench.worker.stop)
    stopping.start()
    wait(lambda: bench.worker.is_stopping)
    model.go_on_writing.set()
    stopping.join(DEADLINE_S)
    assert model.told == ["slice"] * 3
    assert jobs.take() == job(1)


def test_a_picture_is_embedded_between_steps_that_leave_no_time(bench: Bench) -> None:
    bench.pipeline.model = embedder = Embedder(bench.pipeline)
    bench.pipeline.go_on.clear()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.pipeline.limits) == 1)
    heard = ask_for(bench, JPEG)
    bench.show()
    bench.worker.tick()
    bench.pipeline.go_on.set()
    wait(lambda: bool(heard) and bench.pipeline.stamps == [1, 2])
    assert embedder.steps_before == [1]
