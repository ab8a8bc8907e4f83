"""Cameras that come and go and change size, rate and encoding, and now and then send rubbish."""

from __future__ import annotations

import array
import random
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm_lab.simulation.world import World
from stream_vlm_ros.common.stamps import stamp_message

SIZES = ((320, 240), (640, 480), (640, 360), (800, 600), (1280, 720))
SIZE_WEIGHTS = {"raw": (6, 3, 4, 0.5, 0.2), "compressed": (4, 6, 4, 2, 1)}
"""Large raw pictures are rare, because a best-effort transport loses parts of them."""
PERIODS_S = (1, 2, 5, 10)
RAW = ("rgb8", "bgr8", "mono8", "rgba8", "bayer_rggb8")
COMPRESSED = ("jpeg", "png")
BAD = ("short", "depth", "no stamp", "future stamp")
SCENE_S = 240
"""Length of the scene in seconds; then it begins again."""
NANOSECONDS = 1_000_000_000


class Scene:
    """Pictures of a simulated room. One second of it passes at each tick of the node.

    The model was made for about one picture a second. With the scene in simulated time it would see
    one picture in ten seconds, and no event.
    """

    def __init__(self, seed: int) -> None:
        self._world = World(seed, float(SCENE_S))
        self._shown: tuple[int, NDArray[np.uint8]] | None = None

    def at(self, tick: int) -> NDArray[np.uint8]:
        """RGB, uint8 (H, W, 3)."""
        index = tick % SCENE_S
        if self._shown is None or self._shown[0] != index:
            self._shown = index, self._world.view(float(index)).image
        return self._shown[1]


@dataclass(frozen=True)
class Look:
    """Size in pixels, encoding, and seconds between two pictures."""

    width: int
    height: int
    encoding: str
    period_s: int


def any_look(rng: random.Random, transport: str) -> Look:
    """Draw a look; `transport` is "raw" or "compressed"."""
    width, height = rng.choices(SIZES, SIZE_WEIGHTS[transport])[0]
    encoding = rng.choice(RAW if transport == "raw" else COMPRESSED)
    return Look(width, height, encoding, rng.choice(PERIODS_S))


def raw_message(picture: NDArray[np.uint8], look: Look) -> Image:
    """The picture as sensor_msgs/Image."""
    if look.encoding == "bgr8":
        pixels = picture[:, :, ::-1]
    elif look.encoding == "mono8":
        pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8)[:, :, None]
    elif look.encoding == "rgba8":
        pixels = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    elif look.encoding == "bayer_rggb8":
        pixels = picture[:, :, 1:2].copy()
        pixels[::2, ::2, 0] = picture[::2, ::2, 0]
        pixels[1::2, 1::2, 0] = picture[1::2, 1::2, 2]
    else:
        pixels = picture
    message = Image(height=look.height, width=look.width, encoding=look.encoding)
    message.step = look.width * pixels.shape[2]
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def compressed_message(picture: NDArray[np.uint8], look: Look) -> CompressedImage:
    """The picture as sensor_msgs/CompressedImage."""
    file = cv2.imencode(f".{look.encoding}", picture[:, :, ::-1])[1]
    return CompressedImage(format=look.encoding, data=array.array("B", file.tobytes()))


class Camera:
    """One camera of the robot.

    Attributes:
        name: as in the parameter `cameras`.
        good: stamps (ns) of the pictures that can be processed and that had a subscriber, since
            `forget`.
        published: number of messages.
        bad: number of messages that are to be refused.
    """

    def __init__(self, node: Node, name: str, compressed: bool, seed: int) -> None:
        self.name = name
        self._node = node
        self._rng = random.Random(f"{seed} {name}")
        self._compressed = compressed
        self._scene = Scene(self._rng.randrange(1_000_000))
        self._publisher: Any = self._new_publisher()
        self.good: list[int] = []
        self.published = self.bad = self.changes = 0
        self._cached: tuple[int, Look, Image | CompressedImage] | None = None
        self.change()

    @property
    def is_on(self) -> bool:
        """Whether its driver runs."""
        return self._publisher is not None

    def change(self) -> None:
        """Take another size, encoding and rate."""
        self._look = any_look(self._rng, "compressed" if self._compressed else "raw")
        self.changes += 1

    def switch(self, on: bool) -> None:
        """Start or stop its driver."""
        if on and self._publisher is None:
            self._publisher = self._new_publisher()
        elif not on and self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def forget(self) -> None:
        """Expect nothing of the pictures so far: a later one of another kind replaced them."""
        self.good.clear()

    def second(self, now_s: int, tick: int, surprise: float) -> None:
        """Publish if a picture is due; with the probability `surprise` something changes."""
        if self._rng.random() < surprise:
            change = self._rng.choice(("look", "look", "off", "on", "bad"))
            if change == "look":
                self.change()
            elif change == "bad" and self._publisher is not None:
                self._publish_bad(now_s, tick)
                return
            else:
                self.switch(change == "on")
        if self._publisher is None or now_s % self._look.period_s:
            return
        message = self._message(tick)
        message.header.stamp = stamp_message(now_s * NANOSECONDS)
        if self._publisher.get_subscription_count() > 0:
            self.good.append(now_s * NANOSECONDS)
        self._publisher.publish(message)
        self.published += 1

    def _publish_bad(self, now_s: int, tick: int) -> None:
        message = self._message(tick)
        self._cached = None
        message.header.stamp = stamp_message(now_s * NANOSECONDS)
        kind = self._rng.choice(BAD)
        if kind == "short":
            message.data = message.data[: len(message.data) // 2]
        elif kind == "no stamp":
            message.header.stamp = stamp_message(0)
        elif kind == "future stamp":
            message.header.stamp = stamp_message((now_s + 3600) * NANOSECONDS)
        elif self._compressed:
            message.format = "16UC1; compressedDepth"
        else:
            message.encoding = "16UC1"
        self._publisher.publish(message)
        self.published += 1
        self.bad += 1
        self.forget()

    def _message(self, tick: int) -> Image | CompressedImage:
        if self._cached is None or self._cached[:2] != (tick, self._look):
            size = (self._look.width, self._look.height)
            picture = cv2.resize(self._scene.at(tick), size).astype(np.uint8)
            make = compressed_message if self._compressed else raw_message
            message = make(picture, self._look)
            message.header.frame_id = f"{self.name}_optical"
            self._cached = tick, self._look, message
        return self._cached[2]

    def _new_publisher(self) -> Any:
        kind = CompressedImage if self._compressed else Image
        return self._node.create_publisher(kind, f"{self.name}/image", qos_profile_sensor_data)
