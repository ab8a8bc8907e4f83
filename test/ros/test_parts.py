"""The parts of the ROS edge that need no middleware: sessions, poses, questions, faults."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from nav_msgs.msg import Odometry

from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.types import NANOSECONDS, Utterance
from stream_vlm_ros.common.conversions import nanoseconds, stamp_message
from stream_vlm_ros.common.health_counters import CameraHealth, FaultLog, StepHealth, percentile
from stream_vlm_ros.inputs.pose_buffer import OdometryError, PoseBuffer
from stream_vlm_ros.inputs.session_tracker import Sessions
from stream_vlm_ros.requests.question_queue import (
    LONGEST_QUESTION,
    MOST_WAITING,
    AnswerCallbacks,
    QuestionError,
    Questions,
)

SECOND = NANOSECONDS


@dataclass(frozen=True)
class Item:
    camera: str
    stamp_ns: int


class Stream:
    """Cameras that deposit as the node's callbacks do."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.sampler: LatestFrames[Item] = LatestFrames()
        self.sessions = Sessions(self.sampler, ["front", "rear"], self.log.append)

    def show(self, camera: str, stamp_ns: int) -> None:
        self.sessions.observe_stamp(camera, stamp_ns)
        self.sampler.put(Item(camera, stamp_ns))


def test_the_first_pictures_open_the_first_session() -> None:
    stream = Stream()
    assert stream.sessions.take() == ([], None)
    stream.show("front", 5 * SECOND)
    items, session = stream.sessions.take()
    assert items == [Item("front", 5 * SECOND)]
    assert session is not None
    assert session.session_id == stream.sessions.session_id


def test_a_session_goes_on_while_stamps_rise() -> None:
    stream = Stream()
    stream.show("front", 5 * SECOND)
    stream.sessions.take()
    stream.show("front", 6 * SECOND)
    assert stream.sessions.take() == ([Item("front", 6 * SECOND)], None)


def test_stamps_that_fall_back_by_more_than_a_second_open_a_session_with_the_picture_that_fell_back() -> (
    None
):
    stream = Stream()
    stream.show("front", 50 * SECOND)
    first = stream.sessions.take()[1]
    stream.show("front", 51 * SECOND)
    stream.show("front", 2 * SECOND)
    items, session = stream.sessions.take()
    assert items == [Item("front", 2 * SECOND)]
    assert session is not None and first is not None
    assert session.session_id != first.session_id
    assert "front: stamps jumped back by 49.0 s" in stream.log[0]


def test_a_clock_that_falls_back_behind_the_newest_picture_opens_a_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.sessions.take()
    stream.sessions.observe_clock(3 * SECOND)
    stream.show("front", 3 * SECOND)
    assert stream.sessions.take()[1] is not None


def test_one_loop_noticed_by_stamps_and_then_by_the_clock_is_one_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.sessions.take()
    stream.show("front", 2 * SECOND)
    stream.sessions.observe_clock(2 * SECOND)
    assert stream.sessions.opened == 2


def test_a_clock_that_is_set_back_by_less_than_a_second_opens_no_session() -> None:
    stream = Stream()
    stream.show("front", 50 * SECOND)
    stream.sessions.observe_clock(50 * SECOND - SECOND // 2)
    assert stream.sessions.opened == 1


def odometry(stamp_ns: int, x: float = 0.0, yaw: float = 0.0, frame_id: str = "odom") -> Odometry:
    message = Odometry()
    message.header.stamp = stamp_message(stamp_ns)
    message.header.frame_id = frame_id
    message.pose.pose.position.x = x
    message.pose.pose.orientation.z, message.pose.pose.orientation.w = (
        math.sin(yaw / 2),
        math.cos(yaw / 2),
    )
    return message


def test_a_picture_between_two_poses_lies_between_them() -> None:
    poses = PoseBuffer()
    poses.put(odometry(10 * SECOND, x=1.0, yaw=0.0))
    poses.put(odometry(11 * SECOND, x=3.0, yaw=math.pi / 2))
    pose = poses.at(10 * SECOND + SECOND // 4, max_age_s=1.0)
    assert pose is not None
    assert (pose.frame_id, pose.x) == ("odom", pytest.approx(1.5))
    assert 2 * math.atan2(pose.qz, pose.qw) == pytest.approx(math.pi / 8)


def test_a_turn_across_the_seam_takes_the_short_way() -> None:
    poses = PoseBuffer()
    poses.put(odometry(0 * SECOND, yaw=math.radians(170)))
    poses.put(odometry(1 * SECOND, yaw=math.radians(190)))
    turned = odometry(2 * SECOND, yaw=math.radians(190))
    turn = turned.pose.pose.orientation
    turn.z, turn.w = -turn.z, -turn.w  # the same turn, written the other way
    poses.put(turned)
    for share, degrees in ((0.5, 180), (1.5, 190)):
        pose = poses.at(int(share * SECOND), max_age_s=1.0)
        assert pose is not None
        assert math.degrees(2 * math.atan2(pose.qz, pose.qw)) % 360 == pytest.approx(degrees)


def test_a_pose_that_is_too_old_gives_no_place() -> None:
    poses = PoseBuffer()
    poses.put(odometry(10 * SECOND))
    assert poses.at(10 * SECOND + SECOND // 2, max_age_s=0.4) is None
    assert poses.at(10 * SECOND + SECOND // 2, max_age_s=0.6) is not None
    assert PoseBuffer().at(0, max_age_s=60.0) is None


def test_poses_of_two_maps_are_not_mixed() -> None:
    poses = PoseBuffer()
    poses.put(odometry(10 * SECOND, x=1.0, frame_id="odom"))
    poses.put(odometry(11 * SECOND, x=900.0, frame_id="map"))
    pose = poses.at(10 * SECOND + SECOND // 4, max_age_s=1.0)
    assert pose is not None
    assert (pose.frame_id, pose.x) == ("odom", 1.0)


def test_odometry_that_falls_back_begins_anew() -> None:
    poses = PoseBuffer()
    poses.put(odometry(100 * SECOND, x=1.0))
    poses.put(odometry(5 * SECOND, x=2.0))
    assert poses.at(100 * SECOND, max_age_s=1.0) is None
    assert poses.at(5 * SECOND, max_age_s=1.0) is not None


@pytest.mark.parametrize("x", [math.nan, math.inf])
def test_odometry_that_is_not_finite_is_refused(x: float) -> None:
    with pytest.raises(OdometryError, match="is no pose"):
        PoseBuffer().put(odometry(SECOND, x=x))


def test_odometry_with_an_empty_quaternion_is_refused() -> None:
    message = odometry(SECOND)
    message.pose.pose.orientation.w = 0.0
    with pytest.raises(OdometryError, match="quaternion of length 0"):
        PoseBuffer().put(message)


class Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.asker = AnswerCallbacks(self.heard.append, self.heard.append, self.heard.append)


def test_a_question_without_a_camera_goes_to_the_first_one_that_shows_a_picture() -> None:
    questions = Questions(["front", "rear"])
    questions.put("what is there?", "", 7)
    assert questions.take([]) == ()
    (query,) = questions.take(["rear"])
    assert (query.text, query.camera, query.stamp_ns) == ("what is there?", "rear", 7)
    assert questions.take(["front", "rear"]) == ()


def test_a_camera_answers_one_question_a_tick_and_the_oldest_first() -> None:
    questions = Questions(["front"])
    questions.put("first", "", 1)
    questions.put("second", "front", 2)
    assert [query.text for query in questions.take(["front"])] == ["first"]
    assert [query.text for query in questions.take(["front"])] == ["second"]


def test_a_question_for_another_camera_holds_nobody_up() -> None:
    questions = Questions(["front", "rear"])
    questions.put("for the rear", "rear", 1)
    questions.put("for anyone", "", 2)
    assert [(query.text, query.camera) for query in questions.take(["front"])] == [
        ("for anyone", "front")
    ]


def test_whoever_asked_hears_the_words_and_then_the_answer_once() -> None:
    questions, listener = Questions(["front"]), Listener()
    query_id = questions.put("what?", "", 1, listener.asker)
    answer = Utterance("front", "optical", 5, "a cup", 0.9, query_id=query_id)
    questions.partial(query_id, "a")
    questions.answered(answer)
    questions.answered(answer)
    assert listener.heard == ["a", answer]


def test_a_withdrawn_question_is_not_asked_any_more() -> None:
    questions, listener = Questions(["front"]), Listener()
    questions.withdraw(questions.put("what?", "", 1, listener.asker))
    assert questions.take(["front"]) == ()
    assert listener.heard == []


def test_everybody_hears_when_no_answer_will_come() -> None:
    questions, listener = Questions(["front"]), Listener()
    questions.put("first", "", 1, listener.asker)
    questions.put("second", "", 1, listener.asker)
    questions.close("the node stops")
    assert listener.heard == ["the node stops", "the node stops"]
    assert questions.take(["front"]) == ()


@pytest.mark.parametrize(
    ("text", "camera", "says"),
    [
        ("", "", "the question is empty"),
        (" \n\t", "", "the question is empty"),
        ("why " * LONGEST_QUESTION, "", "characters"),
        ("why?", "back", "camera 'back' does not exist; the cameras are front, rear"),
    ],
)
def test_a_question_that_cannot_be_put_is_refused(text: str, camera: str, says: str) -> None:
    with pytest.raises(QuestionError, match=says):
        Questions(["front", "rear"]).put(text, camera, 1)


def test_questions_do_not_pile_up_without_end() -> None:
    questions = Questions(["front"])
    for number in range(MOST_WAITING):
        questions.put(f"question {number}", "", 1)
    with pytest.raises(QuestionError, match="wait for a picture already"):
        questions.put("one more", "", 1)


def test_a_fault_is_logged_once_and_counted_every_time() -> None:
    log: list[str] = []
    faults = FaultLog(log.append)
    for late_s in (0.5, 12, 7):
        faults.report(f"front: {late_s} s late")
    faults.report("front: no picture")
    assert log == ["front: 0.5 s late", "front: no picture"]
    assert (faults.count, faults.recent(60.0)) == (4, "front: no picture")


def test_a_camera_that_was_never_heard_has_no_rate() -> None:
    health = CameraHealth("/front", print)
    assert (health.ever_heard, health.rate_hz()) == (False, 0.0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 6.0), (95, 10.0), (100, 10.0)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], percent) == value


def test_no_values_have_percentile_zero() -> None:
    assert percentile([], 95) == 0.0


def test_percentiles_can_begin_anew_while_steps_are_counted_on() -> None:
    steps = StepHealth(FaultLog(print))
    steps.took(9.0)
    steps.forget_durations()
    assert (steps.steps, steps.percentile_ms(50)) == (1, 0.0)
    steps.took(0.1)
    assert (steps.steps, steps.percentile_ms(95)) == (2, 100.0)


@pytest.mark.parametrize("stamp_ns", [0, 1, 1_700_000_000_123_456_789, -1])
def test_a_stamp_survives_the_message(stamp_ns: int) -> None:
    assert nanoseconds(stamp_message(stamp_ns)) == stamp_ns


def test_a_loss_is_remembered_only_when_it_is_a_new_one() -> None:
    health = CameraHealth("/front", print)
    health.lost(0)
    assert not health.lost_within(60.0)
    health.lost(3)
    assert health.lost_within(60.0)
    assert health.lost_in_transport == 3
