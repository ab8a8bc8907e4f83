"""The memory file is removed or replaced while a real node writes it."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from memory_fixtures import begin, settings, step
from ros_fixtures import Robot

from stream_vlm.memory.maintenance.check_and_backup import verify
from stream_vlm.memory.memory import Memory
from stream_vlm_ros.common.stamps import nanoseconds


def stamps_in(file: Path) -> set[int]:
    """The stamps of all observations of a sound memory file, ns."""
    assert verify(file, 5.0) == []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return {
            stamp for (stamp,) in db.execute("SELECT end_ns FROM record WHERE kind = 'observation'")
        }


def remove_all(file: Path) -> None:
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()


def rename_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("moved"))


def restore(file: Path) -> None:
    """Another robot's memory takes the place of the file."""
    other = file.with_name("restored.db")
    with Memory.open(settings(other)) as memory:
        begin(memory)
        memory.write(step(0, said="the cup is taken"))
    os.replace(other, file)


@pytest.mark.parametrize("happens", [remove_all, rename_folder, restore])
def test_the_node_raises_a_fault_and_no_published_step_is_lost(
    robot: Robot, happens: Callable[[Path], None]
) -> None:
    # In a folder of its own, which can be renamed without the log of the node.
    robot.memory = robot.memory.parent / "store" / "memory.db"
    robot.camera()
    robot.start_node()
    robot.wait(lambda: len(robot.states) > 3, "states")
    file = robot.memory
    happens(file)
    fault = robot.wait_for_diagnostic("memory", "while it was open", DiagnosticStatus.ERROR)
    assert str(file) in fault.message
    assert "Stop the program that writes a memory before" in fault.message
    seen = len(robot.states)
    robot.wait(lambda: len(robot.states) > seen + 3, "states after it")
    assert robot.end_node() == 0
    assert "while it was open" in robot.log
    assert "Traceback" not in robot.log
    published = {nanoseconds(state.header.stamp) for state in robot.states}
    now = stamps_in(file)
    files = [*file.parent.glob("memory.db.removed-*"), *file.parent.parent.glob("moved/memory.db")]
    before = set[int]().union(*(stamps_in(copy) for copy in files))
    assert {nanoseconds(state.header.stamp) for state in robot.states[seen:]} <= now
    assert published <= now | before
