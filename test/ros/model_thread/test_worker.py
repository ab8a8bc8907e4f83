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
from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.memory.summaries import by_model
from stream_vlm.memory.summaries.by_model import ModelSummarizer
from stream_vlm.memory.summaries.extractive import Material, SummaryItem
from stream_vlm.memory.summaries.jobs import Job, SummaryJobs
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import Limits, StepResult, Tick
from stream_vlm_ros.common.health_counters import CameraHealth, FaultLog, StepHealth
from stream_vlm_ros.inputs.camera_subscription import CameraMessage
from stream_vlm_ros.inputs.session_tracker import Sessions
from stream_vlm_ros.model_thread.worker import Stream, Worker
from stream_vlm_ros.requests.picture_query import PictureQuery, picture_query_queue
from stream_vlm_ros.requests.question import question_queue
from stream_vlm_ros.requests.watch_registry import WatchRegistry


class Harness:
    """Notes what is asked of it, and is busy in a step for as long as a test holds it there."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.model = self
        self.model_id = "noting"
        self.limits: list[Limits] = []
        self.stamps: list[int] = []
        self.steps_before_preparing: list[int] = []
        self.step_s = 0.0
        self.go_on = threading.Event()
        self.go_on.set()

    def open_session(self, session_id: str) -> None: ...

    def step(self, tick: Tick, on_partial: object, limits: Limits) -> StepResult:
        self.limits.append(limits)
        self.stamps.append(tick.stamp_ns)
        time.sleep(self.step_s)
        assert self.go_on.wait(DEADLINE_S)
        return StepResult("session", tick, {})

    watching: frozenset[str] = frozenset()

    def prepare(self) -> None:
        self.steps_before_preparing.append(len(self.stamps))

    @property
    def prepared(self) -> int:
        return len(self.steps_before_preparing)

    def begin_session(self, *described: object) -> None:
        """The writer's part."""

    def submit(self, result: StepResult) -> None:
        """The writer's part."""


class Bench:
    """A worker with all around it that it needs."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.sampler: LatestFrames[CameraMessage] = LatestFrames()
        self.governor = LoadGovernor(self.harness.settings, takes_any_size=True)
        self.errors: list[str] = []
        poses = PoseBuffer()
        self.stream = Stream(
            harness=cast(StreamingHarness, self.harness),
            sessions=Sessions(self.sampler, poses, ["camera"], self.errors.append),
            questions=question_queue(),
            watches=WatchRegistry(["camera"]),
            picture_queries=picture_query_queue(),
            poses=poses,
            cameras={"camera": CameraHealth("/image", self.errors.append)},
            steps=StepHealth(FaultLog(self.errors.append)),
            governor=self.governor,
            writer=cast(Any, self.harness),
        )
        self.worker = Worker(self.stream, self.errors.append)
        self.stream.picture_queries.listen(self.worker.notify)
        self.shown = 0

    def show(self) -> None:
        self.shown += 1
        self.sampler.put(CameraMessage("camera", self.shown, image(DARK, self.shown)))


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
    made.harness.go_on.set()
    made.worker.stop()
    assert made.errors == []


def degrade(bench: Bench) -> None:
    """Let the governor see nothing but slow steps until every fourth beat is looked at."""
    while bench.governor.level < bench.governor.worst:
        bench.governor.observe(60.0)


def test_the_time_after_a_step_is_used_to_prepare(bench: Bench) -> None:
    bench.show()
    bench.worker.tick()
    wait(lambda: bench.harness.prepared == 1)
    assert bench.harness.limits == [Limits()]


def test_nothing_is_prepared_while_the_next_beat_waits(bench: Bench) -> None:
    bench.harness.go_on.clear()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.harness.limits) == 1)
    bench.show()
    bench.worker.tick()
    bench.harness.go_on.set()
    wait(lambda: bench.harness.prepared == 1)
    assert bench.harness.steps_before_preparing == [2]


def test_beats_that_come_during_a_step_lead_to_one_look(bench: Bench) -> None:
    bench.harness.go_on.clear()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.harness.limits) == 1)
    for _ in range(5):
        bench.show()
        bench.worker.tick()
    bench.harness.go_on.set()
    wait(lambda: bench.harness.prepared == 1)
    assert bench.harness.stamps == [1, 6]


def test_a_beat_that_is_held_back_is_not_looked_at_and_limits_reach_the_step(bench: Bench) -> None:
    degrade(bench)
    for looks in (1, 2):
        for _ in range(3):
            bench.show()
            bench.worker.tick()
            time.sleep(0.02)  # a worker that looks at every beat does so now
        bench.show()
        bench.worker.tick()
        wait(lambda looks=looks: len(bench.harness.stamps) == looks)  # type: ignore[misc]
    assert bench.harness.stamps == [4, 8]
    assert set(bench.harness.limits) == {Limits(0.25, 8)}


def test_a_beat_without_a_picture_is_made_up_for_at_the_next(bench: Bench) -> None:
    degrade(bench)
    for _ in range(4):
        bench.worker.tick()
    time.sleep(0.05)  # long enough to look and find nothing
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.harness.stamps) == 1)


def test_the_governor_hears_how_long_steps_take(bench: Bench) -> None:
    bench.harness.settings.load_shedding.budget = 0.1
    bench.harness.settings.stream.rate_hz = 30.0
    bench.harness.step_s = 0.02
    while bench.governor.level == 0:
        taken = bench.stream.steps.steps
        bench.show()
        bench.worker.tick()
        wait(lambda taken=taken: bench.stream.steps.steps > taken)  # type: ignore[misc]
    assert bench.stream.steps.steps == 4


JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


class Looking(Harness):
    """One that gives vectors of pictures, and notes on which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_on: list[str] = []

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.looked_on.append(threading.current_thread().name)
        return np.array(picture.shape, np.float32)


def ask_for(bench: Bench, file: bytes) -> list[object]:
    """Have the model look at `file`; what its asker hears comes into the list."""
    heard: list[object] = []
    bench.stream.picture_queries.put(
        PictureQuery(
            file=file,
            on_vector=lambda vector, model_id: heard.append((vector.tolist(), model_id)),
            on_failure=heard.append,
        )
    )
    return heard


def test_a_picture_that_is_asked_about_is_looked_at_on_the_model_s_thread_without_a_beat(
    bench: Bench,
) -> None:
    bench.harness = bench.stream.harness = bench.harness.model = looking = Looking()  # type: ignore[assignment]
    heard = ask_for(bench, JPEG)
    wait(lambda: bool(heard))
    assert heard == [([8.0, 8.0, 3.0], "noting")]
    assert looking.looked_on == ["stream_vlm model"]
    assert looking.stamps == []


class Writing:
    """A text of a hundred slices, one of which a test holds."""

    text = ""
    is_over = False

    def __init__(self, harness: Telling) -> None:
        self._harness = harness
        self._left = 100

    def advance(self) -> None:
        self._harness.told.append("slice")
        self._left -= 1
        if self._harness.told.count("slice") == self._harness.held_slice:
            self._harness.holds.set()
            assert self._harness.go_on_writing.wait(DEADLINE_S)
        if not self._left:
            self.text, self.is_over = "the door opens", True


class Telling(Harness):
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
    bench, model = Bench(), Telling()
    bench.harness = bench.stream.harness = model  # type: ignore[assignment]
    jobs = SummaryJobs(lambda: None)
    bench.stream.summaries = ModelSummarizer(jobs, model, model.model_id)
    jobs.listen(bench.worker.notify)
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
    assert "1 summaries wait, but 5 looks one after the other left no time to write" in jobs.fault


def test_a_worker_that_stops_in_the_middle_of_a_summary_gives_it_back(
    telling: tuple[Bench, Telling, SummaryJobs],
) -> None:
    bench, model, jobs = telling
    bench.worker.start()
    jobs.submit(job(1))
    assert model.holds.wait(DEADLINE_S)
    stopping = threading.Thread(target=bench.worker.stop)
    stopping.start()
    wait(lambda: bench.worker._stopping)
    model.go_on_writing.set()
    stopping.join(DEADLINE_S)
    assert model.told == ["slice"] * 3
    assert jobs.take() == job(1)


def test_a_picture_is_looked_at_between_steps_that_never_leave_time(bench: Bench) -> None:
    bench.harness = bench.stream.harness = Looking()  # type: ignore[assignment]
    bench.harness.go_on.clear()
    bench.show()
    bench.worker.tick()
    wait(lambda: len(bench.harness.limits) == 1)
    heard = ask_for(bench, JPEG)
    time.sleep(0.05)
    assert not heard, "the model is in a step"
    bench.show()
    bench.worker.tick()
    bench.harness.go_on.set()
    wait(lambda: bool(heard) and bench.harness.stamps == [1, 2])
