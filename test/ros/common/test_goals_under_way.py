"""An action server waits for the goals that it has accepted, and for no longer than it may."""

import threading

from rclpy.action import GoalResponse

from stream_vlm_ros.common.goals_under_way import GoalsUnderWay


def test_the_end_waits_until_an_accepted_goal_has_its_result() -> None:
    goals = GoalsUnderWay()
    assert goals.accept(None) is GoalResponse.ACCEPT
    may_end, ended = threading.Event(), threading.Event()

    def run() -> None:
        with goals.goal():
            may_end.wait(10.0)

    def end() -> None:
        goals.end()
        ended.set()

    running, ending = threading.Thread(target=run), threading.Thread(target=end)
    running.start()
    ending.start()
    assert not ended.wait(0.1)
    may_end.set()
    running.join()
    ending.join(10.0)
    assert ended.is_set()


def test_a_goal_that_never_ends_does_not_keep_the_end_waiting_for_ever() -> None:
    goals = GoalsUnderWay()
    goals.accept(None)
    goals.end()


def test_no_goal_is_accepted_once_the_end_has_begun() -> None:
    goals = GoalsUnderWay()
    goals.end()
    assert goals.accept(None) is GoalResponse.REJECT
