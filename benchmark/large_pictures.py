"""Count how many large raw pictures arrive in another process, by QoS and by Fast DDS profile.

python benchmark/large_pictures.py
python benchmark/large_pictures.py --size 3840x2160 --rate 2
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

PROFILE = Path(__file__).parents[1] / "config" / "large_pictures.xml"
DEFAULT: dict[str, str] = {}
CASES = (
    ("best effort", "best effort", "default", DEFAULT),
    ("reliable", "best effort", "default", DEFAULT),
    ("reliable", "reliable", "default", DEFAULT),
    (
        "best effort",
        "best effort",
        "LARGE_DATA at both",
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
    ),
    (
        "best effort",
        "best effort",
        "config/large_pictures.xml at the publisher",
        {
            "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE),
            "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE),
        },
    ),
)
"""QoS of the publisher and of the subscription, the settings of Fast DDS, and their variables."""
QUIET_S = 3.0
"""How long the publisher stays after the last picture, for what is sent again, seconds."""


def qos(reliability: str) -> QoSProfile:
    return QoSProfile(
        depth=1,
        reliability=(
            ReliabilityPolicy.RELIABLE
            if reliability == "reliable"
            else ReliabilityPolicy.BEST_EFFORT
        ),
    )


def publish(reliability: str, width: int, height: int, count: int, rate: float) -> None:
    """Publish `count` pictures once a subscriber is there."""
    rclpy.init()
    node = Node("large_pictures_publisher")
    publisher = node.create_publisher(Image, "large_pictures", qos(reliability))
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data.frombytes(bytes(3 * width * height))
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)  # discovery is complete on the other side too
    due = time.monotonic()
    for _ in range(count):
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        due += 1.0 / rate
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(QUIET_S)
    rclpy.shutdown()


def receive(reliability: str, other: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Return how many pictures arrived, and how many the middleware reports as lost."""
    rclpy.init()
    node = Node("large_pictures_subscriber")
    arrived: list[Image] = []
    lost = [0]

    def note_lost(event: Any) -> None:
        lost[0] = event.total_count

    node.create_subscription(
        Image,
        "large_pictures",
        lambda message: arrived.append(message.header.stamp),
        qos(reliability),
        event_callbacks=SubscriptionEventCallbacks(message_lost=note_lost),
    )
    while other.poll() is None:
        rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.shutdown()
    return len(arrived), lost[0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", default="1920x1080")
    options.add_argument("--count", type=int, default=15)
    options.add_argument("--rate", type=float, default=5.0, help="pictures per second")
    options.add_argument("--publish", default="", help="used by this script itself")
    options.add_argument("--receive", default="", help="used by this script itself")
    given = options.parse_args()
    width, height = (int(part) for part in given.size.split("x"))
    words = [f"--size={given.size}", f"--count={given.count}", f"--rate={given.rate}"]
    if given.publish:
        publish(given.publish, width, height, given.count, given.rate)
        return
    if given.receive:
        offered, wanted, _, variables = CASES[int(given.receive)]
        command = [sys.executable, __file__, f"--publish={offered}", *words]
        arrived, lost = receive(wanted, subprocess.Popen(command, env=os.environ | variables))
        print(f"{arrived} of {given.count} | {lost}", flush=True)
        return
    print("| publisher | subscription | Fast DDS | arrived | reported as lost |")
    print("|---|---|---|---|---|", flush=True)
    for number, (offered, wanted, settings, variables) in enumerate(CASES):
        command = [sys.executable, __file__, f"--receive={number}", *words]
        # The profile is for the publisher only; LARGE_DATA works only if both sides have it.
        mine = {name: value for name, value in variables.items() if "PROFILES" not in name}
        done = subprocess.run(
            command, env=os.environ | mine, check=True, stdout=subprocess.PIPE, text=True
        )
        print(f"| {offered} | {wanted} | {settings} | {done.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    main()
