"""Bad input gets one clear message, in the log and on /diagnostics or as the service's answer; the
node goes on and nothing stored is lost.
"""

from __future__ import annotations

import math
import os
import resource
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
    Robot,
    compressed_image,
    image,
    robot_in,
)
from std_msgs.msg import String
from stream_vlm_ros.srv import GetFrame, Recall

from stream_vlm.types import NANOSECONDS
from stream_vlm_ros.common.conversions import nanoseconds, stamp_message

WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    with robot_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A node that lives through every bad picture and every bad question of this file, one after
    another.
    """
    with robot_in(tmp_path_factory.mktemp("robot")) as made:
        made.start_node(
            cameras=["front", "rear"],
            camera__front__topic="front/image",
            camera__rear__topic="rear/image",
            camera__rear__transport="compressed",
        )
        made.front = made.camera("front/image")  # type: ignore[attr-defined]
        made.rear = made.camera("rear/image", "compressed")  # type: ignore[attr-defined]
        made.wait(
            lambda: {state.camera for state in list(made.states)} == {"front", "rear"},
            "states of both cameras",
        )
        yield made


def altered(**fields: Any) -> Callable[[int], Any]:
    def make(now_ns: int) -> Any:
        message = image(DARK, now_ns)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return make


def shortened(now_ns: int) -> Any:
    message = image(DARK, now_ns)
    del message.data[100:]
    return message


def half_a_jpeg(now_ns: int) -> Any:
    message = compressed_image(DARK, now_ns)
    del message.data[len(message.data) // 2 :]
    return message


def no_jpeg(now_ns: int) -> Any:
    message = compressed_image(DARK, now_ns)
    message.data = [1, 2, 3, 4]
    return message


@pytest.mark.parametrize(
    ("camera", "make", "says"),
    [
        ("front", altered(encoding="8UC9"), "front: encoding '8UC9' does not name its colours"),
        ("front", altered(height=0), "front: a picture of 64x0 pixels"),
        ("front", altered(step=64), "front: step 64 is shorter than a row"),
        ("front", shortened, "front: 100 bytes of data, but step x height is 192 x 48"),
        ("rear", half_a_jpeg, "rear: the JPEG of"),
        ("rear", no_jpeg, "rear: a compressed picture of format 'jpeg' could not be decoded"),
        ("front", lambda now_ns: image(DARK, 0), "have the stamp 0 ns"),
        (
            "front",
            lambda now_ns: image(DARK, now_ns + 3600 * NANOSECONDS),
            "3600.0 s ahead of the node's clock",
        ),
        ("front", lambda now_ns: image(DARK, now_ns - NANOSECONDS // 2), "is not after"),
    ],
)
def test_a_bad_picture_is_refused_with_its_reason_and_the_good_ones_go_on(
    watching: Robot, camera: str, make: Callable[[int], Any], says: str
) -> None:
    driver = watching.front if camera == "front" else watching.rear  # type: ignore[attr-defined]
    watching.forget_diagnostics()

    def reported() -> bool:
        driver.publish(make(watching.now_ns()))
        return says in watching.log

    # Best effort may lose one, and the newest picture may replace a bad one before it is looked at.
    watching.wait(reported, f"'{says}' in the log")
    status = watching.wait_for_diagnostic(f"camera {camera}", f"{camera}: ", WARN)
    values = {value.key: value.value for value in status.values}
    assert int(values["frames refused"]) >= 1
    assert values["last fault"].startswith(f"{camera}: ")
    heard = len(watching.states)
    watching.wait(
        lambda: {state.camera for state in watching.states[heard:]} == {"front", "rear"},
        "states of both cameras after it",
    )


def test_an_event_that_ends_in_silence_is_counted_as_abandoned(watching: Robot) -> None:
    def abandoned() -> int:
        return max(
            (
                int(value.value)
                for array in watching.diagnostics()
                for status in array.status
                if status.name.endswith("camera front")
                for value in status.values
                if value.key == "events abandoned"
            ),
            default=0,
        )

    before = abandoned()
    events = len(watching.events)
    watching.front.brightness = HALF_LIGHT  # type: ignore[attr-defined]
    watching.wait(
        lambda: any(nanoseconds(state.under_way_since) for state in watching.states[-2:]),
        "an event that is under way",
    )
    watching.front.brightness = DARK  # type: ignore[attr-defined]
    watching.wait(lambda: abandoned() > before, "an abandoned event on /diagnostics")
    assert len(watching.events) == events


@pytest.mark.parametrize(
    ("question", "says"),
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
def test_a_question_to_the_memory_that_cannot_be_meant_says_what_is_allowed(
    watching: Robot, question: dict[str, Any], says: str
) -> None:
    answer = watching.call(Recall, "recall", **question)
    assert not answer.success
    assert says in answer.message
    assert list(answer.records) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"',
        "bright AND (",
        "NEAR(a b",
        "*",
        "text:bright",
        "'; DROP TABLE record; --",
        "ü€😀",
        "a" * 5000,
    ],
)
def test_no_words_can_break_the_search_or_the_memory(watching: Robot, text: str) -> None:
    before = watching.call(Recall, "recall", kinds=["observation"], limit=1).total
    watching.call(Recall, "recall", text=text)
    assert watching.call(Recall, "recall", kinds=["observation"], limit=1).total >= before > 0


@pytest.mark.parametrize("record_id", [0, -1, 2**62])
def test_a_picture_of_a_record_that_is_not_there_says_so(watching: Robot, record_id: int) -> None:
    answer = watching.call(GetFrame, "get_frame", record_id=record_id)
    assert not answer.success
    assert f"record {record_id}: no such record" in answer.message


def test_a_silent_camera_is_named_with_its_topic_and_what_to_do(robot: Robot) -> None:
    robot.start_node(diagnostics__silent_after_s=0.3)
    status = robot.wait_for_diagnostic("camera camera", "nothing publishes on", WARN)
    assert f"{robot.namespace}/image_raw" in status.message
    assert "camera.camera.topic" in status.message
    assert status.hardware_id == f"{robot.namespace}/image_raw"
    camera = robot.camera()
    robot.wait_for_diagnostic("camera camera", "Hz", DiagnosticStatus.OK)
    camera.stop()
    robot.wait_for_diagnostic("camera camera", "no picture arrives", WARN)


def test_a_topic_of_the_other_transport_names_the_parameter_to_set(robot: Robot) -> None:
    robot.camera("image_raw", "compressed")
    robot.start_node(diagnostics__silent_after_s=0.3)
    status = robot.wait_for_diagnostic(
        "camera camera", "carries sensor_msgs/msg/CompressedImage", WARN
    )
    assert "set camera.camera.transport to compressed" in status.message


def test_a_topic_of_another_type_names_the_type(robot: Robot) -> None:
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
def test_a_quality_of_service_that_does_not_match_names_topic_and_policy(
    robot: Robot, policy: str, ours: str, theirs: QoSProfile
) -> None:
    robot.camera(qos=theirs)
    override = f"qos_overrides.{robot.namespace}/image_raw.subscription.{policy}"
    robot.start_node(diagnostics__silent_after_s=0.3, **dict[str, Any]({override: ours}))
    status = robot.wait_for_diagnostic("camera camera", policy.upper(), WARN)
    assert f"{robot.namespace}/image_raw" in status.message
    assert override in status.message


def test_recorded_pictures_on_live_time_are_told_from_the_camera(robot: Robot) -> None:
    camera = robot.camera()
    camera.stop()
    robot.start_node()
    robot.wait_for_active()
    stamps = iter(
        range(1_700_000_000 * NANOSECONDS, 1_700_000_100 * NANOSECONDS, NANOSECONDS // 10)
    )

    def warned() -> bool:
        camera.publish(image(DARK, next(stamps)))
        return any(
            "set use_sim_time" in status.message
            for array in robot.diagnostics()
            for status in array.status
        )

    robot.wait(warned, "a hint at use_sim_time")
    robot.wait(lambda: robot.states, "states")


def test_a_step_that_crashes_is_reported_and_the_next_ones_run_in_a_new_session(
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


WRONG_AT_THE_START: list[tuple[dict[str, Any], str]] = [
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
    """A robot for each of these, whose nodes start at the same time."""
    with ExitStack() as stack:
        robots = [
            stack.enter_context(robot_in(tmp_path_factory.mktemp("robot")))
            for _ in WRONG_AT_THE_START
        ]
        for made, (parameters, _) in zip(robots, WRONG_AT_THE_START, strict=True):
            made.start_node(**parameters)
        yield robots


@pytest.mark.parametrize(
    "number",
    range(len(WRONG_AT_THE_START)),
    ids=[",".join(parameters) for parameters, _ in WRONG_AT_THE_START],
)
def test_a_node_that_cannot_be_configured_says_why_and_waits(
    refused: list[Robot], number: int
) -> None:
    robot, (_, says) = refused[number], WRONG_AT_THE_START[number]
    status = robot.wait_for_diagnostic("node", says, ERROR)
    assert status.message.startswith("configure failed: ")
    assert says in robot.log
    assert "Traceback" not in robot.log
    assert robot.lifecycle_state() == "unconfigured"
    assert robot.end_node() == 0


def _a_text_file(path: Path) -> None:
    path.write_text(
        "this is not a database, and long enough not to be mistaken for an empty one " * 20
    )


def _a_newer_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE record (id INTEGER PRIMARY KEY)")
        db.execute("PRAGMA user_version = 999")
    db.close()


@pytest.mark.parametrize("make", [_a_text_file, _a_newer_version])
def test_a_memory_file_that_cannot_be_used_is_left_as_it_is(
    robot: Robot, make: Callable[[Path], None]
) -> None:
    make(robot.memory)
    before = robot.memory.read_bytes()
    robot.start_node()
    robot.wait_for_diagnostic("node", f"configure failed: {robot.memory}", ERROR)
    assert robot.memory.read_bytes() == before
    robot.memory.unlink()
    assert robot.transition("configure")


def test_a_locked_memory_does_not_silence_the_robot_and_loses_nothing(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(memory__busy_timeout_s=0.1)
    robot.wait(lambda: robot.states, "a state")
    other = sqlite3.connect(robot.memory, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    robot.wait_for_diagnostic("memory", "locked", ERROR)
    camera.brightness = BRIGHT
    said = robot.wait_for_text("it became bright")
    other.execute("ROLLBACK")
    other.close()
    robot.wait_for_diagnostic("memory", "records", DiagnosticStatus.OK)
    recalled = robot.wait(
        lambda: robot.call(Recall, "recall", text="bright", kinds=["utterance"]).records,
        "the utterance in the memory",
    )
    assert recalled[0].end == said.header.stamp


def test_a_full_disk_does_not_silence_the_robot(robot: Robot) -> None:
    """A limit on the size of files stands in for a full disk: writing beyond it fails in the same
    place.
    """
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
