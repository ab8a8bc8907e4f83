"""What is said of a camera, and when it is logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from ros_fixtures import DARK, Robot, image

from stream_vlm.config.settings import load_settings
from stream_vlm.types import NANOSECONDS
from stream_vlm_ros.common.health_counters import CameraHealth
from stream_vlm_ros.common.stamps import stamp_message
from stream_vlm_ros.inputs.camera_state import (
    GOOD,
    PAUSED,
    REFUSED,
    CameraLog,
    CameraState,
    camera_state,
)
from stream_vlm_ros.inputs.camera_subscription import CameraSubscription

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
NOW_NS = 1_700_000_000 * NANOSECONDS


class Watched:
    """A camera's counters, with what the ROS graph would say."""

    def __init__(self, **settings: float) -> None:
        self.settings = load_settings(
            {"cameras": ["front"]} | {name.replace("__", "."): v for name, v in settings.items()}
        )
        self.logged: list[str] = []
        self.health = CameraHealth("/front", self.logged.append)
        self.reason = ("no picture", "1 publisher(s) on /front, but no picture arrives")
        self.mismatch = ""

    def arrive(self, age_s: float = 0.0) -> None:
        self.health.count_arrival()
        self.health.newest_stamp_ns = round(NOW_NS - age_s * NANOSECONDS)

    def state(self, paused: bool = False) -> CameraState:
        camera = SimpleNamespace(
            name="front",
            health=self.health,
            explain_silence=lambda: self.reason,
            loss_remedy=lambda: "use a compressed topic",
            qos_mismatch=lambda: self.mismatch,
        )
        return camera_state(cast(CameraSubscription, camera), self.settings, NOW_NS, paused)


def test_a_camera_that_sends_is_good() -> None:
    watched = Watched()
    watched.arrive()
    assert watched.state().kind == GOOD


def test_pictures_that_are_lost_are_called_lost_before_silent() -> None:
    watched = Watched(camera__front__silent_after_s=1e-9)
    assert watched.state().kind == "silent, no picture"
    watched.health.note_lost(13)
    state = watched.state()
    assert state.kind == "lost"
    assert "lost in transport" in state.sentence
    assert "use a compressed topic" in state.sentence
    assert "silent" not in state.sentence


def test_some_lost_pictures_are_told_with_the_rate() -> None:
    watched = Watched()
    watched.arrive()
    watched.health.note_lost(1)
    assert watched.state().kind == "lossy"


def test_losses_of_an_earlier_subscription_stay_counted() -> None:
    health = CameraHealth("/front", print)
    health.note_lost(5)
    health.subscribed_again()
    assert not health.lost_within(60.0)
    health.note_lost(2)
    assert health.lost_in_transport == 7


@pytest.mark.parametrize(
    ("own_s", "shared_s", "kind"),
    [(0.0, 3600.0, GOOD), (0.0, 0.1, "silent"), (3600.0, 0.1, GOOD), (1e-9, 3600.0, "silent")],
)
def test_the_limit_of_a_camera_comes_before_that_of_all(
    own_s: float, shared_s: float, kind: str
) -> None:
    watched = Watched(camera__front__silent_after_s=own_s, diagnostics__silent_after_s=shared_s)
    watched.health.subscribed_at -= 60.0
    assert watched.state().kind.split(",")[0] == kind


def test_a_refused_picture_an_old_stamp_and_other_qos_have_kinds_of_their_own() -> None:
    watched = Watched()
    watched.arrive(age_s=60.0)
    assert watched.state().kind == "old"
    watched.health.incompatible_qos = watched.mismatch = "front: offers another DURABILITY"
    assert watched.state() == CameraState("other QoS", watched.mismatch)
    watched.health.refused.report("front: encoding '8UC9' is refused")
    assert watched.state() == CameraState(REFUSED, "front: encoding '8UC9' is refused")


def test_a_clock_that_stands_still_is_no_fault_of_the_camera() -> None:
    watched = Watched(camera__front__silent_after_s=1e-9)
    watched.arrive()
    assert watched.state(paused=True).kind == PAUSED


def test_a_change_is_logged_once_and_so_is_the_end_of_it() -> None:
    warned: list[str] = []
    told: list[str] = []
    log = CameraLog(warned.append, told.append)
    for kind, sentence in (
        (GOOD, "20 Hz"),
        ("silent, no publisher", "silent for 3 s: nothing publishes on /front"),
        ("silent, no publisher", "silent for 4 s: nothing publishes on /front"),
        (PAUSED, "the clock stands still"),
        ("silent, no picture", "silent for 5 s: 1 publisher(s)"),
        (GOOD, "19 Hz"),
        (GOOD, "20 Hz"),
        (REFUSED, "front: encoding"),
        (GOOD, "20 Hz"),
    ):
        log.note("front", CameraState(kind, sentence))
    assert warned == [
        "front: silent for 3 s: nothing publishes on /front",
        "front: silent for 5 s: 1 publisher(s)",
    ]
    assert told == [
        "front: good again after 'silent, no picture': 19 Hz",
        "front: good again after 'refused': 20 Hz",
    ]


def reliability(robot: Robot) -> str:
    status = robot.wait_for_diagnostic("camera camera", "")
    values = {value.key: str(value.value) for value in status.values}
    return values["reliability"]


def test_the_subscription_follows_the_reliability_of_the_publishers(robot: Robot) -> None:
    robot.start_node()
    robot.wait_for_active()
    assert reliability(robot) == "best_effort"
    reliable = robot.camera(qos=RELIABLE)
    robot.wait(lambda: reliability(robot) == "reliable", "a reliable subscription")
    robot.wait(lambda: robot.states, "a state")
    best_effort = robot.camera()
    robot.wait(lambda: reliability(robot) == "best_effort", "a subscription that gets both")
    best_effort.stop()
    robot.node.destroy_publisher(best_effort.publisher)
    robot.wait(lambda: reliability(robot) == "reliable", "a reliable subscription again")
    reliable.stop()


def test_an_override_of_the_reliability_stays(robot: Robot) -> None:
    robot.camera(qos=RELIABLE)
    override = f"qos_overrides.{robot.namespace}/image_raw.subscription.reliability"
    robot.start_node(**cast(dict[str, Any], {override: "best_effort"}))
    robot.wait(lambda: len(robot.states) > 5, "states")
    assert reliability(robot) == "best_effort"


def test_large_pictures_of_a_reliable_driver_are_processed(robot: Robot) -> None:
    camera = robot.camera(qos=RELIABLE)
    camera.stop()
    large = image(DARK, 0)
    large.width, large.height, large.step = 1920, 1080, 5760
    large.data.frombytes(bytes(1920 * 1080 * 3 - len(large.data)))
    robot.start_node()
    robot.wait_for_active()
    robot.wait(lambda: reliability(robot) == "reliable", "a reliable subscription")

    def seen() -> bool:
        large.header = image(DARK, robot.now_ns()).header
        camera.publish(large)
        return len(robot.states) > 3

    robot.wait(seen, "states of large pictures")


def test_a_silent_camera_is_logged_once_and_when_it_sends_again(robot: Robot) -> None:
    robot.start_node(camera__camera__silent_after_s=0.5)
    robot.wait(lambda: "nothing publishes on" in robot.log, "a warning in the log")
    camera = robot.camera()
    robot.wait(lambda: "good again after 'silent" in robot.log, "the end of it in the log")
    camera.stop()
    robot.wait(lambda: "no picture arrives" in robot.log, "a second warning")
    assert robot.log.count("nothing publishes on") == 1
    assert robot.log.count("good again") == 1


def test_silent_odometry_is_logged_once_and_when_it_comes_again(robot: Robot) -> None:
    robot.camera()
    robot.start_node(pose__odom_topic="odom", diagnostics__silent_after_s=0.5)
    robot.wait(lambda: "no odometry on" in robot.log, "a warning in the log")
    robot.wait_for_diagnostic("odometry", "no odometry on")
    publisher = robot.node.create_publisher(Odometry, "odom", qos_profile_sensor_data)
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id, message.pose.pose.orientation.w = "odom", 1.0

    def is_good() -> bool:
        message.header.stamp = stamp_message(robot.now_ns())
        publisher.publish(message)
        return "odometry: good again after 'silent'" in robot.log

    robot.wait(is_good, "the end of it in the log")
    assert robot.log.count("no odometry on") == 1


def test_each_camera_has_a_limit_of_its_own(robot: Robot) -> None:
    robot.start_node(
        cameras=["front", "rear"],
        camera__front__topic="front",
        camera__rear__topic="rear",
        camera__front__silent_after_s=0.3,
        camera__rear__silent_after_s=3600.0,
    )
    robot.wait_for_diagnostic("camera front", "nothing publishes on")
    status = robot.wait_for_diagnostic("camera rear", "0.0 Hz")
    # With the namespace, the names of two robots differ.
    assert status.name == f"{robot.namespace}/stream_vlm: camera rear"
    change = Parameter("camera.rear.silent_after_s", value=0.3).to_parameter_msg()
    (answer,) = robot.call(SetParameters, "set_parameters", parameters=[change]).results
    assert answer.successful, answer.reason
    robot.wait_for_diagnostic("camera rear", "nothing publishes on")
