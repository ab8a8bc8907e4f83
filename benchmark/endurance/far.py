"""A camera and a client behind the slow link; a program of its own in the other namespace."""

from __future__ import annotations

import json
import math
import random
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock as ClockMessage

from endurance.cameras import Camera
from endurance.scenario import TICK_S
from endurance.users import FOUND_OVER_LINK_S, Requests

PERIOD_S = 3.0
LAST_ANSWERS_S = 30.0
"""How long answers are waited for at the end, seconds; a lossy link sends them again."""


def read(lines: list[str]) -> dict[str, Any]:
    """What the program printed, from the lines of its output."""
    if not lines:
        return {"failed": "the program in the other namespace printed nothing"}
    outcome: dict[str, Any] = json.loads(lines[-1])
    return outcome


def main(namespace: str, seed: int) -> int:
    """Run until SIGTERM; then print what was published and answered, as JSON."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("far_client", namespace=namespace)
    camera = Camera(node, "far", compressed=True, seed=seed)
    requests = Requests(node, random.Random(f"{seed} far"), PERIOD_S)
    requests.phase = "over the slow link"
    last_s = 0
    heard_at = math.inf

    def on_clock(message: Any) -> None:
        nonlocal last_s, heard_at
        now_s = message.clock.sec
        if now_s != last_s:
            if not last_s:
                heard_at = time.monotonic()
                print("hears the clock", flush=True)
            last_s = now_s
            camera.second(now_s, now_s // TICK_S, surprise=0.0)

    node.create_subscription(ClockMessage, "/clock", on_clock, qos_profile_sensor_data)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(0.2)
        requests.is_open = time.monotonic() > heard_at + FOUND_OVER_LINK_S
    requests.is_open = False
    for _ in range(int(LAST_ANSWERS_S / 0.1)):
        if not requests.waiting:
            break
        executor.spin_once(0.1)
    requests.look_for_unanswered(LAST_ANSWERS_S)
    outcome = {
        "published": camera.published,
        "requests": requests.counts,
        "unanswered": [asdict(each) for each in requests.unanswered],
    }
    print(json.dumps(outcome), flush=True)
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
