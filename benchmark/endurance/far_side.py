"""The other network namespace: a camera and a client behind a link with delay and loss."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endurance import far
from endurance.isolation import DELAY_MS, JITTER_MS, LOSS
from endurance.robot import DEADLINE_S, NAMESPACE, Robot
from endurance.setup import Setup
from endurance.users import Unanswered

END_S = 50.0
"""How long the program may wait for its last answers, seconds."""


@contextmanager
def far_side(setup: Setup, robot: Robot, wanted: bool, number: int) -> Iterator[dict[str, Any]]:
    """Run the program behind the link, if it is `wanted`, while the block runs.

    Args:
        setup: what the run is made of.
        robot: everything around the node.
        wanted: whether this life has another side.
        number: of the life.

    Yields:
        What the program did; complete after the block.
    """
    outcome: dict[str, Any] = {}
    if not wanted:
        yield outcome
        return
    link = setup.link
    if link is None:
        outcome["left_out"] = "network namespaces are not permitted here"
        yield outcome
        return
    outcome |= {"by": link.by, "delay_ms": DELAY_MS, "jitter_ms": JITTER_MS, "loss": LOSS}
    program = [sys.executable, str(Path(far.__file__).parents[1] / "endure.py")]
    # Shared memory would go around the link.
    process = subprocess.Popen(
        link.command([*program, "--far", NAMESPACE, str(setup.seed + number)]),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"},
    )
    try:
        _await_ready(process, robot)
        yield outcome
    finally:
        process.terminate()
        try:
            said = process.communicate(timeout=END_S)[0].splitlines()
            outcome |= far.read(said)
            unanswered = [Unanswered(**each) for each in outcome.pop("unanswered", ())]
            lost = [each.what for each in unanswered if each.is_lost(robot.gone, over_link=True)]
            outcome |= {"lost": lost, "reached_nobody": len(unanswered) - len(lost)}
        finally:
            process.kill()


def _await_ready(process: subprocess.Popen[str], robot: Robot) -> None:
    """Wait until the program in the other namespace hears the clock."""
    deadline = time.monotonic() + DEADLINE_S
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0.2)[0]:
        robot.publish_clock()
        if time.monotonic() > deadline:
            raise TimeoutError("the program in the other namespace does not hear the clock")
    process.stdout.readline()
