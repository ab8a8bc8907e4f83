"""The bond with a lifecycle manager, by the real bondpy where it is installed."""

from __future__ import annotations

import importlib.util
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ros_fixtures import DEADLINE_S, Robot

NO_BOND = importlib.util.find_spec("bondpy") is None
without_bondpy = pytest.mark.skipif(not NO_BOND, reason="bondpy is installed")
with_bondpy = pytest.mark.skipif(
    NO_BOND, reason="bondpy is not installed: it comes with a ROS distribution, not from PyPI"
)


@without_bondpy
def test_a_missing_library_is_said_and_the_node_is_activated(robot: Robot) -> None:
    robot.start_node()
    robot.wait_for_active()
    assert "bondpy is not installed" in robot.log


@without_bondpy
def test_nothing_is_said_if_no_bond_is_wanted(robot: Robot) -> None:
    robot.start_node(lifecycle__bond="never")
    robot.wait_for_active()
    assert "bondpy" not in robot.log


@without_bondpy
def test_a_node_whose_bond_is_required_is_not_activated_without_the_library(robot: Robot) -> None:
    robot.start_node(autostart=False, lifecycle__bond="always")
    assert robot.transition("configure")
    assert not robot.transition("activate")
    assert "lifecycle.bond is always, but bondpy is not installed" in robot.log
    assert robot.lifecycle_state() == "inactive"


class Manager:
    """The manager's end of the bond."""

    def __init__(self, robot: Robot) -> None:
        from bondpy import bondpy

        self.formed, self.broken = threading.Event(), threading.Event()
        self.bond: Any = bondpy.Bond(
            robot.node, "bond", "stream_vlm", on_broken=self.broken.set, on_formed=self.formed.set
        )
        self.bond.heartbeat_period = 0.1
        self.bond.connect_timeout = DEADLINE_S
        self.bond.start()


@pytest.fixture
def manager(robot: Robot) -> Iterator[Manager]:
    made = Manager(robot)
    yield made
    made.bond.shutdown()


@with_bondpy
def test_an_active_node_sends_heartbeats_under_its_name(robot: Robot) -> None:
    from bond.msg import Status

    beats: list[Status] = []
    robot.node.create_subscription(Status, "bond", beats.append, 100)
    robot.start_node()
    robot.wait(lambda: len(beats) > 20, "heartbeats")
    assert {(beat.id, beat.active) for beat in beats} == {("stream_vlm", True)}
    assert beats[0].heartbeat_period == pytest.approx(0.1)
    assert beats[0].heartbeat_timeout == pytest.approx(4.0)
    robot.end_node(signal.SIGKILL)


@with_bondpy
def test_the_bond_ends_when_the_node_is_deactivated(robot: Robot, manager: Manager) -> None:
    robot.start_node(autostart=False)
    for label in ("configure", "activate"):
        assert robot.transition(label)
    assert manager.formed.wait(DEADLINE_S), robot.log
    assert robot.transition("deactivate")
    assert manager.broken.wait(DEADLINE_S)
    assert robot.transition("activate")
    assert robot.end_node(signal.SIGTERM) == 0
