"""The parts of an active node: subscriptions, sampling timer and model thread."""

from __future__ import annotations

from contextlib import ExitStack

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm_ros.common.health_counters import FaultLog, StepHealth
from stream_vlm_ros.common.process_end import STORE_S
from stream_vlm_ros.inputs.camera_state import CameraWatch
from stream_vlm_ros.inputs.camera_subscription import CameraMessage, CameraSubscription
from stream_vlm_ros.inputs.odometry_subscription import OdometrySubscription
from stream_vlm_ros.inputs.session_tracker import SessionTracker
from stream_vlm_ros.lifecycle.configured import FLUSH_S, ConfiguredParts
from stream_vlm_ros.lifecycle.nav2_bond import Nav2Bond
from stream_vlm_ros.model_thread.worker import Worker


class ActiveParts:
    """The parts that exist from activate to deactivate; `close` ends them."""

    def __init__(self, node: Node, configured: ConfiguredParts) -> None:
        """Warm the model up, subscribe to the topics and start the model thread.

        Raises:
            ProcessEnds: the process ended while the model was warmed up.
            StreamError: the model cannot process a picture, or a bond is wanted without bondpy.
        """
        self._configured = configured
        settings, pipeline = configured.settings, configured.pipeline
        logger = node.get_logger()
        end = configured.end
        end.run("warming up the model", pipeline.warm_up)
        self.sampler: LatestFrames[CameraMessage] = LatestFrames()
        self.poses = PoseBuffer()
        self.sessions = SessionTracker(self.sampler, self.poses, settings.cameras, logger.warning)
        self.odometry_faults = FaultLog(logger.warning)
        self.steps = StepHealth(FaultLog(logger.error))
        self.governor = LoadGovernor(settings, configured.model.takes_any_size)
        with ExitStack() as stack:
            stack.callback(self._drain)
            self.cameras = {}
            for name in settings.cameras:
                camera = CameraSubscription(node, name, settings, self.sampler, self.sessions)
                self.cameras[name] = camera
                stack.callback(camera.destroy)
            odometry = None
            if settings.pose.odom_topic:
                odometry = OdometrySubscription(
                    node, settings, self.poses, self.odometry_faults, self.sessions.begin
                )
                stack.callback(odometry.destroy)
            # Ended before the subscriptions that it watches.
            watch = CameraWatch(
                node, settings, self.cameras, odometry.state if odometry is not None else None
            )
            stack.callback(watch.destroy)
            pipeline.start(self.sessions.session_id)
            worker = Worker(
                pipeline,
                configured.requests,
                sessions=self.sessions,
                poses=self.poses if settings.pose.odom_topic else None,
                cameras={name: camera.health for name, camera in self.cameras.items()},
                steps=self.steps,
                governor=self.governor,
                log_error=logger.error,
                end=end,
            )
            worker.start()
            stack.callback(worker.stop)
            stack.callback(self.sessions.watch_clock(node.get_clock()).unregister)
            self._timer = node.create_timer(
                1.0 / settings.stream.tick_rate_hz,
                worker.tick,
                callback_group=MutuallyExclusiveCallbackGroup(),
                clock=node.get_clock(),
            )
            stack.callback(node.destroy_timer, self._timer)
            stack.callback(Nav2Bond(node, settings).destroy)
            configured.requests.open()
            self._stack = stack.pop_all()

    def apply_settings(self) -> None:
        """Apply a changed parameter. Only the timer has a copy of a setting."""
        self._timer.timer_period_ns = round(1e9 / self._configured.settings.stream.tick_rate_hz)

    def close(self) -> None:
        """Stop everything. Results that wait are stored and published first."""
        self._stack.close()

    def _drain(self) -> None:
        configured = self._configured
        configured.pipeline.finish()
        configured.end.wait(configured.pipeline.flush, FLUSH_S, STORE_S)
        configured.requests.close()
        configured.pipeline.stop()
