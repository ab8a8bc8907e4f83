"""A ROS 2 client that waits for an event, then asks the node what it remembers of it.

    ros2 launch stream_vlm_ros stream_vlm.launch.py            # in another shell
    python examples/wait_for_event.py person                   # a word to wait for, or none

Names are relative: with `--ros-args -r __ns:=/robot1` it listens to the node of that namespace.
"""

import sys

import rclpy
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from stream_vlm_ros.msg import EventGrounding
from stream_vlm_ros.srv import Recall


class EventWaiter(Node):
    """Waits for the first event whose label has a word."""

    def __init__(self, word: str) -> None:
        super().__init__("event_waiter")
        self.word = word
        self.event: EventGrounding | None = None
        self.create_subscription(EventGrounding, "stream_vlm/event", self.on_event, 10)
        self.recall = self.create_client(Recall, "stream_vlm/recall")

    def on_event(self, event: EventGrounding) -> None:
        """Keep the first event that fits."""
        if self.event is None and self.word in event.label:
            self.event = event


rclpy.init()
words = remove_ros_args(sys.argv)[1:]
waiter = EventWaiter(words[0] if words else "")
print(f"waiting for an event{f' with the word {waiter.word}' if waiter.word else ''} ...")
while rclpy.ok() and waiter.event is None:
    rclpy.spin_once(waiter, timeout_sec=1.0)
if waiter.event is not None:
    print(f"event: {waiter.event.label} (confidence {waiter.event.confidence:.2f})")
    if waiter.recall.wait_for_service(timeout_sec=10.0):
        request = Recall.Request(text=waiter.event.label, order="newest", limit=3)
        answer = waiter.recall.call_async(request)
        rclpy.spin_until_future_complete(waiter, answer, timeout_sec=10.0)
        response = answer.result()
        print(f"the memory has {response.total} records of it" if response else "no answer")
waiter.destroy_node()
rclpy.try_shutdown()
