"""Bad input gets one clear message, and the node continues and loses nothing that is stored.

The message is in the log and on /diagnostics, or it is the answer of a service.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_fixtures import (
    BRIGHT,
    BRIGHTNESS_NODE,
    DARK,
    HALF_LIGHT,
    Camera,
    Robot,
    compressed_image,
    image,
    robot_in,
)
from std_msgs.msg import String
from stream_vlm_ros.srv import GetFrame, Recall

from stream_vlm.types import NANOSECONDS
from stream_vlm_ros.common.stamps import nanoseconds, stamp_message

WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class TwoCameras:
    """A robot whose node watches two cameras."""

    robot: Robot
    drivers: dict[str, Camera]


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoCameras]:
    """One node, which gets the bad pictures and the bad requests of several tests in turn."""
    with robot_in(tmp_path_factory.mktemp("robot")) as made:
        made.start_node(
            cameras=["front", "rear"],
            camera__front__topic="front/image",
            camera__rear__topic="rear/image",
            camera__rear__transport="compressed",
        )
        drivers = {
            "front": made.camera("front/image"),
            "rear": made.camera("rear/image", "compressed"),
        }
        made.wait(
            lambda: {state.camera for state in list(made.states)} == {"front", "rear"},
            "states of both cameras",
        )
        yield TwoCameras(made, drivers)


def with_fields(**fields: Any) -> Callable[[int], Any]:
    def make(now_ns: int) -> Any:
        message = image(DARK, now_ns)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return make


def too_little_data(now_ns: int) -> Any:
    message = image(DARK, now_ns)
    del message.data[100:]
    return message


def truncated_jpeg(now_ns: int) -> Any:
    message = compressed_image(DARK, now_ns)
    del message.data[len(message.data) // 2 :]
    return message


def not_a_jpeg(now_ns: int) -> Any:
    message = compressed_image(DARK, now_ns)
    message.data = [1, 2, 3, 4]
    return message


@pytest.mark.parametrize(
    ("camera", "make", "says"),
    [
        ("front", with_fields(encoding="8UC9"), "front: encoding '8UC9' does not name its colours"),
        ("front", with_fields(height=0), "front: a picture of 64x0 pixels"),
        ("front", with_fields(step=64), "front: step 64 is shorter than a row"),
        ("front", too_little_data, "front: 100 bytes of data, but step x height is 192 x 48"),
        ("rear", truncated_jpeg, "rear: the JPEG of"),
        ("rear", not_a_jpeg, "rear: a compressed picture of format 'jpeg' could not be decoded"),
        ("front", lambda now_ns: image(DARK, 0), "have the stamp 0 ns"),
        (
            "front",
            lambda now_ns: image(DARK, now_ns + 3600 * NANOSECONDS),
            "3600.0 s ahead of the node's clock",
        ),
        ("front", lambda now_ns: image(DARK, now_ns - NANOSECONDS // 2), "is not after"),
    ],
)
def test_a_bad_picture_is_refused_with_the_reason_and_good_ones_are_still_processed(
    two_cameras: TwoCameras, camera: str, make: Callable[[int], Any], says: str
) -> None:
    robot, driver = two_cameras.robot, two_cameras.drivers[camera]
    robot.forget_diagnostics()

    def reported() -> bool:
        driver.publish(make(robot.now_ns()))
        return says in robot.log

    # Publish until it is reported: best-effort transport may lose a bad picture, and a newer
    # picture may replace it before it is decoded.
    robot.wait(reported, f"'{says}' in the log")
    status = robot.wait_for_diagnostic(f"camera {camera}", f"{camera}: ", WARN)
    values = {value.key: value.value for value in status.values}
    assert int(values["frames refused"]) >= 1
    assert values["last fault"].startswith(f"{camera}: ")
    before = len(robot.states)
    robot.wait(
        lambda: {state.camera for state in robot.states[before:]} == {"front", "rear"},
        "later states of both cameras",
    )


def test_an_event_that_ends_in_silence_is_counted_as_abandoned(two_cameras: TwoCameras) -> None:
    robot, front = two_cameras.robot, two_cameras.drivers["front"]

    def abandoned() -> int:
        return max(
            (
                int(value.value)
                for array in robot.diagnostics()
                for status in array.status
                if status.name.endswith("camera front")
                for value in status.values
                if value.key == "events abandoned"
            ),
            default=0,
        )

    before = abandoned()
    events = len(robot.events)
    front.brightness = HALF_LIGHT
    robot.wait(
        lambda: any(nanoseconds(state.under_way_since) for state in robot.states[-2:]),
        "an event that is under way",
    )
    front.brightness = DARK
    robot.wait(lambda: abandoned() > before, "an abandoned event on /diagnostics")
    assert len(robot.events) == events


@pytest.mark.parametrize(
    ("request_fields", "says"),
    [
        ({"limit": 1_000_000_000}, "limit"),
        ({"near": True, "x": math.nan, "radius": 1.0}, "nan"),
        ({"near": True, "radius": 0.0}, "radius"),
        ({"near": True, "radius": -1.0}, "radius"),
        ({"start": stamp_message(2 * NANOSECONDS), "end": stamp_message(NANOSECONDS)}, "after end"),
        ({"kinds": ["gossip"]}, "gossip"),
        ({"order": "alphabetical"}, "alphabetical"),
    ],
)
def test_a_recall_request_with_a_bad_value_is_refused_and_the_message_names_it(
    two_cameras: TwoCameras, request_fields: dict[str, Any], says: str
) -> None:
    answer = two_cameras.robot.call(Recall, "recall", **request_fields)
    assert not answer.success
    assert says in answer.message
    assert list(answer.records) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ""),
        ("bright AND (", ""),
        ("NEAR(a b", ""),
        ("text:bright", ""),
        ("'; DROP TABLE record; --", ""),
        ("ü€😀", ""),
        ('"', "has no word in it"),
        ("*", "has no word in it"),
        ("a" * 5000, "5000 characters"),
    ],
)
def test_a_text_is_searched_or_refused_with_a_message_and_changes_nothing(
    two_cameras: TwoCameras, text: str, says: str
) -> None:
    robot = two_cameras.robot
    before = robot.call(Recall, "recall", kinds=["observation"], limit=1).total
    answer = robot.call(Recall, "recall", text=text)
    assert answer.success == (not says), answer.message
    assert says in answer.message
    assert robot.call(Recall, "recall", kinds=["observation"], limit=1).total >= before > 0


@pytest.mark.parametrize("record_id", [0, -1, 2**62])
def test_get_frame_of_an_unknown_record_is_refused(two_cameras: TwoCameras, record_id: int) -> None:
    answer = two_cameras.robot.call(GetFrame, "get_frame", record_id=record_id)
    assert not answer.success
    assert f"record {record_id}: no such record" in answer.message


def test_a_silent_camera_is_reported_with_its_topic_and_what_to_do(robot: Robot) -> None:
    robot.start_node(diagnostics__silent_after_s=0.3)
    status = robot.wait_for_diagnostic("camera camera", "nothing publishes on", WARN)
    assert f"{robot.namespace}/image_raw" in status.message
    assert "camera.camera.topic" in status.message
    assert status.hardware_id == f"{robot.namespace}/image_raw"
    camera = robot.camera()
    robot.wait_for_diagnostic("camera camera", "Hz", DiagnosticStatus.OK)
    camera.stop()
    robot.wait_for_diagnostic("camera camera", "no picture arrives", WARN)


def test_a_topic_with_the_other_transport_is_reported_with_the_parameter_to_set(
    robot: Robot,
) -> None:
    robot.camera("image_raw", "compressed")
    robot.start_node(diagnostics__silent_after_s=0.3)
    status = robot.wait_for_diagnostic(
        "camera camera", "carries sensor_msgs/msg/CompressedImage", WARN
    )
    assert "set camera.camera.transport to compressed" in status.message


def test_a_topic_of_another_type_is_reported_with_its_type(robot: Robot) -> None:
    publisher = robot.node.create_publisher(String, "image_raw", 10)
    robot.start_node(diagnostics__silent_after_s=0.3)
    robot.wait_for_diagnostic(
        "camera camera", "carries std_msgs/msg/String, not sensor_msgs/msg/Image", WARN
    )
    publisher.publish(String(data="not a picture"))
    assert robot.lifecycle_state() == "active"


@pytest.mark.parametrize(
    ("policy", "ours", "theirs"),
    [
        ("reliability", "reliable", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)),
        (
            "durability",
            "transient_local",
            QoSProfile(depth=1, durability=DurabilityPolicy.VOLATILE),
        ),
    ],
)
def test_incompatible_qos_is_reported_with_its_topic_and_policy(
    robot: Robot, policy: str, ours: str, theirs: QoSProfile
) -> None:
    robot.camera(qos=theirs)
    override = f"qos_overrides.{robot.namespace}/image_raw.subscription.{policy}"
    robot.start_node(diagnostics__silent_after_s=0.3, **dict[str, Any]({override: ours}))
    status = robot.wait_for_diagnostic("camera camera", policy.upper(), WARN)
    assert f"{robot.namespace}/image_raw" in status.message
    assert override in status.message


def test_recorded_stamps_without_sim_time_are_processed_with_a_warning(robot: Robot) -> None:
    camera = robot.camera()
    camera.stop()
    robot.start_node()
    robot.wait_for_active()
    stamps = itertools.count(1_700_000_000 * NANOSECONDS, NANOSECONDS // 10)

    def warned() -> bool:
        camera.publish(image(DARK, next(stamps)))
        return any(
            "set use_sim_time" in status.message
            for array in robot.diagnostics()
            for status in array.status
        )

    robot.wait(warned, "a warning that names use_sim_time")
    robot.wait(lambda: robot.states, "states")


def test_a_step_that_raises_is_reported_and_the_next_steps_run_in_a_new_session(
    robot: Robot,
) -> None:
    camera = robot.camera()
    robot.start_node(environment={"BRIGHTNESS_CRASH_AT": "77"})
    robot.wait(lambda: robot.states, "a state")
    first = robot.states[0].session_id
    camera.brightness = 77
    robot.wait_for_diagnostic("model", "a step failed: ArithmeticError: brightness 77", ERROR)
    assert "Traceback" in robot.log
    camera.brightness = BRIGHT
    robot.wait(lambda: robot.states[-1].session_id != first, "states of a new session")


BAD_START_VALUES: list[tuple[dict[str, Any], str]] = [
    (
        {"model__directory": "/no/such/checkpoint"},
        "model.directory: /no/such/checkpoint does not exist",
    ),
    ({"stream__rate_hz": 99.0}, "stream.rate_hz: the value given at the start is refused"),
    ({"cameras": ["a", "a"]}, "names a camera twice"),
    ({"memory__path": "/proc/no/memory.db"}, "/proc/no/memory.db"),
    ({"memory__key_file": "/no/such/key"}, "memory.key_file: /no/such/key cannot be read"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Robot]]:
    """One robot for each entry of `BAD_START_VALUES`; their nodes start at the same time."""
    with ExitStack() as stack:
        robots = [
            stack.enter_context(robot_in(tmp_path_factory.mktemp("robot")))
            for _ in BAD_START_VALUES
        ]
        for made, (parameters, _) in zip(robots, BAD_START_VALUES, strict=True):
            made.start_node(**parameters)
        yield robots


@pytest.mark.parametrize(
    "number",
    range(len(BAD_START_VALUES)),
    ids=[",".join(parameters) for parameters, _ in BAD_START_VALUES],
)
def test_a_node_that_cannot_be_configured_says_why_and_stays_unconfigured(
    refused: list[Robot], number: int
) -> None:
    robot, (_, says) = refused[number], BAD_START_VALUES[number]
    status = robot.wait_for_diagnostic("node", says, ERROR)
    assert status.message.startswith("configure failed: ")
    assert says in robot.log
    assert "Traceback" not in robot.log
    assert robot.lifecycle_state() == "unconfigured"
    assert robot.end_node() == 0


def _write_text(path: Path) -> None:
    path.write_text(
        "this is not a database, and long enough not to be mistaken for an empty one " * 20
    )


def _write_newer_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE record (id INTEGER PRIMARY KEY)")
        db.execute("PRAGMA user_version = 999")
    db.close()


@pytest.mark.parametrize("make", [_write_text, _write_newer_version])
def test_a_memory_file_that_cannot_be_used_is_not_changed(
    robot: Robot, make: Callable[[Path], None]
) -> None:
    make(robot.memory)
    before = robot.memory.read_bytes()
    robot.start_node()
    robot.wait_for_diagnostic("node", f"configure failed: {robot.memory}", ERROR)
    assert robot.memory.read_bytes() == before
    robot.memory.unlink()
    assert robot.transition("configure")


def test_a_node_with_a_locked_memory_still_speaks_and_stores_everything_later(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(memory__busy_timeout_s=0.1)
    robot.wait(lambda: robot.states, "a state")
    other = sqlite3.connect(robot.memory, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    robot.wait_for_diagnostic("memory", "locked", ERROR)
    camera.brightness = BRIGHT
    utterance = robot.wait_for_text("it became bright")
    other.execute("ROLLBACK")
    other.close()
    robot.wait_for_diagnostic("memory", "records", DiagnosticStatus.OK)
    recalled = robot.wait(
        lambda: robot.call(Recall, "recall", text="bright", kinds=["utterance"]).records,
        "the utterance in the memory",
    )
    assert recalled[0].end == utterance.header.stamp


def test_a_node_with_a_full_disk_still_speaks(robot: Robot) -> None:
    """A limit on the file size replaces a full disk, because writing fails in the same place."""
    camera = robot.camera()
    robot.start_node(command=(sys.executable, "-c", _LIMITED, *BRIGHTNESS_NODE[1:]))
    robot.wait_for_diagnostic("memory", str(robot.memory), ERROR)
    camera.brightness = BRIGHT
    robot.wait_for_text("it became bright")
    assert robot.lifecycle_state() == "active"


_LIMITED = f"""
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
sys.path.insert(0, {os.path.dirname(BRIGHTNESS_NODE[1])!r})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
