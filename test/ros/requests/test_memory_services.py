"""`~/recall` over DDS: search by picture and by object; and two nodes with one memory file."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from memory_fixtures import begin, settings, step
from ros_fixtures import BRIGHT, DARK, Robot, compressed_image, robot_in
from sensor_msgs.msg import CompressedImage
from stream_vlm_ros.srv import Forget, Recall

from stream_vlm.memory.memory import Memory
from stream_vlm.types import Pose


def test_a_picture_finds_records_with_similar_pictures(robot: Robot) -> None:
    camera = robot.camera()
    robot.start_node(memory__thumbnail_period_s=0.1)
    robot.wait(lambda: len(robot.states) > 5, "states while it is dark")
    camera.brightness = BRIGHT
    bright_since = robot.wait_for_text("it became bright").header.stamp
    count = len(robot.states)
    robot.wait(lambda: len(robot.states) > count + 5, "states while it is bright")
    asked = {"like": compressed_image(DARK, 1), "limit": 3}
    like_dark = robot.call(Recall, "recall", **asked)
    assert like_dark.success, like_dark.message
    assert len(like_dark.records) == 3
    assert like_dark.records[0].score > 0.99
    before = (bright_since.sec, bright_since.nanosec)
    assert all((record.start.sec, record.start.nanosec) < before for record in like_dark.records)
    since = robot.call(Recall, "recall", start=bright_since, **asked)
    assert since.success
    assert since.records
    assert all((record.end.sec, record.end.nanosec) >= before for record in since.records), (
        "only records in the time range are searched"
    )
    event = robot.call(Recall, "recall", text="bright", kinds=["event"]).records[0]
    alike = robot.call(Recall, "recall", like_record=event.record_id, limit=2)
    assert alike.success
    assert alike.records
    assert all((record.end.sec, record.end.nanosec) >= before for record in alike.records)
    # An inactive model cannot embed a new picture, but like_record needs no model.
    assert robot.transition("deactivate")
    assert robot.call(Recall, "recall", like_record=event.record_id).success
    refused = robot.call(Recall, "recall", **asked)
    assert (
        refused.success,
        "is not active" in refused.message,
        "like_record needs no model" in refused.message,
    ) == (False, True, True)


def test_a_bad_picture_and_two_search_modes_at_once_are_refused(robot: Robot) -> None:
    robot.start_node()
    robot.wait_for_active()
    broken = CompressedImage(format="jpeg")
    broken.data.frombytes(b"this is no picture")
    answer = robot.call(Recall, "recall", like=broken)
    assert (answer.success, answer.message) == (
        False,
        "like: 18 bytes that are not a picture; give a JPEG or PNG",
    )
    answer = robot.call(Recall, "recall", like=broken, like_record=3)
    assert (answer.success, "like_record and like ask for different things" in answer.message) == (
        False,
        True,
    )
    answer = robot.call(Recall, "recall", like_record=3)
    assert (
        answer.success,
        "record 3: no picture vector is stored" in answer.message,
    ) == (False, True)


def test_all_events_of_one_object_are_recalled(robot: Robot) -> None:
    with Memory.open(settings(robot.memory)) as memory:
        begin(memory)
        for at, said in enumerate(
            ["red ball rolls in", "door opens", "red ball rolls away", "red ball rolls in"], start=1
        ):
            memory.write(step(60 * at, said=said))
    robot.start_node()
    balls = robot.call(Recall, "recall", text="ball", kinds=["event"], order="oldest").records
    assert [record.object_id for record in balls] == [1, 1, 3]
    assert 0.5 < balls[1].object_confidence <= 1.0
    one = robot.call(Recall, "recall", object_id=1, order="oldest")
    assert [record.text for record in one.records] == ["red ball rolls in", "red ball rolls away"]
    still = robot.call(Recall, "recall", text="is the ball still there?", mode="auto", object_id=1)
    assert (still.success, still.known, still.value) == (True, True, 0.0)


def test_near_is_compared_in_one_frame_and_in_odometry_within_one_session(robot: Robot) -> None:
    with Memory.open(settings(robot.memory)) as memory:
        for session, seen in (("one", ("cat", "dog")), ("two", ("cow", "pig"))):
            begin(memory, session)
            for at, (said, frame_id) in enumerate(zip(seen, ("r1/map", "odom"), strict=True)):
                pose = Pose(frame_id, 1.0, 2.0, 0.0)
                memory.write(step(at, said=said, pose=pose, session=session))
    robot.start_node()
    robot.wait_for_active()
    near = {"near": True, "x": 1.0, "y": 2.0, "radius": 0.5}

    def seen_near(**more: str) -> list[str]:
        response = robot.call(Recall, "recall", kinds=["event"], order="oldest", **near, **more)
        assert response.success, response.message
        return [record.text for record in response.records]

    for kind, service in ((Recall, "recall"), (Forget, "forget")):
        refused = robot.call(kind, service, **near)
        assert not refused.success
        assert refused.message.endswith("as frame_id: odom, r1/map")
        refused = robot.call(kind, service, frame_id="base", **near)
        assert (refused.success, "no pose in 'base'" in refused.message) == (False, True)
        refused = robot.call(kind, service, x=1.0, cameras=["front"])
        assert (refused.success, "given without near" in refused.message) == (False, True)
    assert seen_near(frame_id="r1/map") == ["cat", "cow"]
    assert seen_near(frame_id="odom") == ["pig"]
    assert seen_near(frame_id="odom", session_id="one") == ["dog"]
    where = robot.call(Recall, "recall", text="where is the cow?", mode="auto")
    assert (where.success, where.mode) == (True, Recall.Request.MODE_WHERE)
    assert robot.call(Forget, "forget", frame_id="odom", **near).success
    left = robot.call(Recall, "recall", kinds=["event"], order="oldest").records
    assert {record.text for record in left} == {"cat", "dog", "cow"}


def test_a_second_node_with_the_same_memory_is_refused_until_the_first_one_ends(
    robot: Robot, tmp_path: Path
) -> None:
    robot.start_node()
    robot.wait_for_active()
    (tmp_path / "second").mkdir()
    with robot_in(tmp_path / "second") as other:
        other.start_node(memory__path=robot.memory, memory__busy_timeout_s=0.2)
        refused = other.wait_for_diagnostic("node", "configure failed").message
        assert f"process {robot.process.pid} on {socket.gethostname()} writes it already" in refused
        assert other.lifecycle_state() == "unconfigured"
        assert robot.lifecycle_state() == "active"
        assert robot.call(Recall, "recall").success
        robot.end_node(signal.SIGKILL)
        assert other.transition("configure")
        # With autostart it is active after each configure.
        other.wait_for_active()
