"""Which picture is captioned next: the newest one of the camera that waits longest."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from memory_fixtures import seconds, settings, step

from stream_vlm.memory.captions.queue import MAX_FAILURES_IN_A_ROW, CaptionQueue, Shown
from stream_vlm.memory.storage.picture_texts import PictureTexts
from stream_vlm.types import StepResult

SAME, OTHER = (np.array(vector, np.float32) for vector in ([1.0, 0.0], [0.0, 1.0]))


@pytest.fixture
def queue(tmp_path: Path) -> CaptionQueue:
    found = CaptionQueue(settings(tmp_path / "memory.db", caption_s=10), PictureTexts(lambda: None))
    found.set_writer("eyes", "memory.captioner 'model'", "set memory.captioner to 'off'")
    return found


def seen(at: float, vector: np.ndarray = SAME, camera: str = "front") -> StepResult:
    return replace(step(at, camera=camera), picture_vectors={camera: vector})


def captioned(queue: CaptionQueue, *results: StepResult) -> list[tuple[str, int]]:
    """Camera and stamp of each picture that is captioned at once when it is due."""
    found = []
    for result in results:
        queue.note(result)
        while (shown := queue.take()) is not None:
            found.append((shown.frame.camera, shown.frame.stamp_ns))
            queue.finish(shown, "a door.")
    return found


def test_a_camera_gets_a_caption_at_once_and_then_one_each_period(queue: CaptionQueue) -> None:
    assert captioned(queue, *(seen(at) for at in range(25))) == [
        ("front", seconds(at)) for at in (0, 10, 20)
    ]


def test_a_new_scene_gets_a_caption_earlier(queue: CaptionQueue) -> None:
    shows = [SAME] * 13 + [OTHER] * 7
    assert captioned(queue, *(seen(at, vector) for at, vector in enumerate(shows))) == [
        ("front", seconds(at)) for at in (0, 10, 13)
    ]


def test_new_scenes_in_a_row_get_no_caption_each(queue: CaptionQueue) -> None:
    shows = [SAME] * 10 + [OTHER, SAME] * 5
    assert captioned(queue, *(seen(at / 2, vector) for at, vector in enumerate(shows))) == [
        ("front", seconds(at)) for at in (0, 5, 7, 9)
    ]


def test_a_picture_without_a_vector_waits_for_the_period(queue: CaptionQueue) -> None:
    assert captioned(queue, *(step(at) for at in range(12))) == [
        ("front", seconds(0)),
        ("front", seconds(10)),
    ]


def test_the_newest_picture_is_taken_not_the_one_that_was_due_first(queue: CaptionQueue) -> None:
    for at in range(5):
        queue.note(seen(at))
    shown = queue.take()
    assert shown is not None
    assert shown.frame.stamp_ns == seconds(4)
    assert queue.take() is None


def test_cameras_take_turns_and_the_longest_waiting_one_comes_first(queue: CaptionQueue) -> None:
    assert [camera for camera, _ in captioned(queue, seen(0), seen(1, camera="side"))] == [
        "front",
        "side",
    ]
    for at in (11, 12):
        queue.note(seen(at))
        queue.note(seen(at, camera="side"))
    order = []
    while (shown := queue.take()) is not None:
        order.append(shown.frame.camera)
    assert order == ["front", "side"]


def test_a_camera_that_stopped_is_not_captioned_again(queue: CaptionQueue) -> None:
    captioned(queue, seen(0), seen(0, camera="side"))
    queue.note(seen(9))
    queue.note(seen(20, camera="side"))
    shown = queue.take()
    assert shown is not None
    assert shown.frame.camera == "side"
    assert queue.take() is None


def test_a_picture_that_the_model_refused_is_not_captioned(queue: CaptionQueue) -> None:
    queue.note(replace(seen(0), decisions={}, faults={"front": "too small"}))
    assert not queue.has_due


def test_a_new_session_begins_with_a_caption_though_its_clock_went_back(
    queue: CaptionQueue,
) -> None:
    captioned(queue, seen(100))
    assert captioned(queue, replace(seen(3), session_id="tuesday")) == [("front", seconds(3))]


def test_after_many_failures_no_more_captions_are_asked_for(
    queue: CaptionQueue, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MAX_FAILURES_IN_A_ROW):
        queue.note(seen(20 * number))
        shown = queue.take()
        assert shown is not None
        queue.finish(shown, "")
    queue.note(seen(10_000))
    assert not queue.has_due
    health = queue.health
    assert (health.written, health.failures) == (0, MAX_FAILURES_IN_A_ROW)
    assert "a caption by eyes is rejected" in health.fault
    assert health.fault.endswith("no more captions are asked for: set memory.captioner to 'off'")
    assert len(caplog.records) == 2


def test_a_server_is_asked_again_however_often_it_failed(queue: CaptionQueue) -> None:
    queue.set_writer("eyes", "memory.captioner 'endpoint'")
    for number in range(2 * MAX_FAILURES_IN_A_ROW):
        queue.note(seen(20 * number))
        shown = queue.take()
        assert shown is not None
        queue.fail("no network")
    assert captioned(queue, seen(1000)) == [("front", seconds(1000))]


def test_a_success_ends_a_fault(queue: CaptionQueue) -> None:
    queue.note(seen(0))
    shown = queue.take()
    assert shown is not None
    queue.fail("no network")
    assert queue.health.fault == "no network"
    captioned(queue, seen(20))
    assert (queue.health.fault, queue.health.failures, queue.health.written) == ("", 1, 1)


def test_closing_the_queue_ends_a_thread_that_waits_for_a_picture(queue: CaptionQueue) -> None:
    taken: list[Shown | None] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take(wait=True)))
    waiting.start()
    queue.close()
    waiting.join(30)
    assert taken == [None]
