"""The bond by which Nav2's lifecycle manager notices that the node's process is gone.

The only file that imports bondpy, which is optional: `apt install ros-$ROS_DISTRO-bondpy`.
"""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

from stream_vlm.config.settings import Settings
from stream_vlm.types import StreamError

TOPIC = "bond"
"""The topic on which Nav2's lifecycle manager listens, relative to the namespace."""
HEARTBEAT_S, TIMEOUT_S = 0.1, 4.0
"""Time between two heartbeats, and after which one that is missing breaks the bond, as in Nav2."""
ABSENT = (
    "bondpy is not installed, so there is no bond with Nav2's lifecycle manager; install"
    " ros-$ROS_DISTRO-bondpy, or set bond_timeout of the manager to 0.0"
)


class Nav2Bond:
    """The bond, from activate to deactivate."""

    def __init__(self, node: Node, settings: Settings) -> None:
        """Start the heartbeat, unless `lifecycle.bond` or a missing library forbids it.

        Raises:
            StreamError: `lifecycle.bond` is always, and bondpy is not installed.
        """
        self._node = node
        self._bond: Any = None
        if settings.lifecycle.bond == "never":
            return
        try:
            from bondpy import bondpy
        except ImportError as error:
            if settings.lifecycle.bond == "always":
                raise StreamError(f"lifecycle.bond is always, but {ABSENT} ({error})") from error
            node.get_logger().info(f"{ABSENT}; lifecycle.bond: never says that none is wanted")
            return
        logger = node.get_logger()
        # The manager names a bond after the node, without its namespace.
        self._bond = bondpy.Bond(
            node,
            TOPIC,
            node.get_name(),
            on_broken=lambda: logger.info("the bond with the lifecycle manager has ended"),
            on_formed=lambda: logger.info("the lifecycle manager has a bond with this node"),
        )
        self._bond.heartbeat_period = HEARTBEAT_S
        self._bond.heartbeat_timeout = TIMEOUT_S
        self._bond.start()

    def destroy(self) -> None:
        """Break the bond; the manager hears of it."""
        if self._bond is None:
            return
        bond, self._bond = self._bond, None
        bond.shutdown()
        # bondpy destroys them, but leaves them in the lists of the node.
        self._node.destroy_subscription(bond.sub)
        self._node.destroy_publisher(bond.pub)
