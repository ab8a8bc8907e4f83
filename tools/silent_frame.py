"""Counts the files of ours that one silent frame touches between DDS and SQLite.

    build/jazzy/run python tools/silent_frame.py

It runs the node on the shipped model in this process and publishes a grey picture at 2 Hz over DDS.
After some ticks it records every function of ours that runs on the frame's path, in any thread,
until a few more steps are stored. The path is what the functions in `ENTRIES` call: the camera's
callback, the step of the model's thread, and the transaction of the memory's thread. Diagnostics,
summaries and publishing are not on it. It measures no time.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

SOURCES = Path(__file__).resolve().parent.parent / "src"
WARM_UP, RECORDED = 8, 3
"""Silent steps before the record begins, and steps that it lasts."""


ENTRIES = {
    ("stream_vlm_ros/inputs/camera_subscription.py", "_on_message"),
    ("stream_vlm_ros/model_thread/worker.py", "_step"),
    ("stream_vlm/memory/recording/background_writer.py", "_store"),
}
"""Where the path of a frame begins in each thread: file and function."""


class Record:
    """Which files' functions were called on the path while it was on, and how often."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.on = False
        self._names: dict[str, str | None] = {}
        self._thread = threading.local()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Take in a call or a return; see `sys.setprofile`."""
        if event not in ("call", "return"):
            return
        name = self._name(frame.f_code.co_filename)
        if name is None:
            return
        depth = getattr(self._thread, "depth", 0)
        is_entry = (name, frame.f_code.co_name) in ENTRIES
        if event == "return":
            self._thread.depth = max(0, depth - is_entry)
            return
        self._thread.depth = depth + is_entry
        if self.on and (depth or is_entry):
            self.calls[name] += 1

    def _name(self, file: str) -> str | None:
        if file not in self._names:
            path = Path(file).resolve()
            inside = path.is_relative_to(SOURCES)
            self._names[file] = str(path.relative_to(SOURCES)) if inside else None
        return self._names[file]


def watch(record: Record, folder: Path) -> None:
    """Run node and camera until the record is complete."""
    import rclpy
    from rclpy.executors import MultiThreadedExecutor
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from stream_vlm_ros.msg import StreamState

    from stream_vlm_ros.node import StreamVlmNode, load_model

    parameters = {
        "autostart": "true",
        "cameras": "[front]",
        "memory.path": str(folder / "memory.db"),
    }
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments])
    node = StreamVlmNode(load_model)
    camera = rclpy.create_node("camera")
    publisher = camera.create_publisher(Image, "image_raw", qos_profile_sensor_data)
    picture = Image(height=480, width=640, encoding="rgb8", step=1920, data=bytes([128]) * 921600)
    states: list[StreamState] = []
    finished = threading.Event()

    def publish() -> None:
        picture.header.stamp = camera.get_clock().now().to_msg()
        publisher.publish(picture)

    def hear(state: StreamState) -> None:
        states.append(state)
        record.on = WARM_UP <= len(states) < WARM_UP + RECORDED
        if len(states) > WARM_UP + RECORDED:
            finished.set()

    camera.create_subscription(StreamState, "/stream_vlm/state", hear, 10)
    camera.create_timer(0.5, publish)
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    executor.add_node(camera)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    try:
        if not finished.wait(120.0):
            raise SystemExit("no silent frame came through within 120 s")
        spoken = [state.state for state in states if state.state != StreamState.SILENCE]
        if spoken:
            raise SystemExit(f"the frames were not silent: {spoken}")
    finally:
        record.on = False
        node.shut_down()
        executor.shutdown()
        time.sleep(0)  # lets the executor's threads see it
        spinner.join()
        node.destroy_node()
        camera.destroy_node()
        rclpy.try_shutdown()


def main() -> int:
    """Print the files, most called first, and their number."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, help="fail where more files than this are touched")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 101)))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    record = Record()
    threading.setprofile(record)
    sys.setprofile(record)
    with tempfile.TemporaryDirectory() as folder:
        watch(record, Path(folder))
    unseen = {file for file, _ in ENTRIES} - set(record.calls)
    if unseen:
        raise SystemExit(f"never called, correct ENTRIES: {', '.join(sorted(unseen))}")
    for name, calls in record.calls.most_common():
        print(f"{calls:6}  {name}")
    print(f"{len(record.calls)} files of ours between DDS and SQLite")
    return int(arguments.most is not None and len(record.calls) > arguments.most)


if __name__ == "__main__":
    sys.exit(main())
